//! What a data folder remembers of the former life of its node.
//!
//! A process that finds its own lease row alive cannot tell a life of its own that crashed from
//! a twin: a node that runs elsewhere from a copy of the folder. The folder's lock says that no other
//! process runs *here*. So a life is written down together with which folder it is in, and a
//! copy, which is another folder, proves nothing.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use zajil_model::lease::Incarnation;

/// Remembers the last life of this node in this very place.
pub trait Past: Send + Sync + fmt::Debug {
    /// A life that was lived here and is certainly over; `None` when that cannot be said.
    fn previous(&self) -> Option<Incarnation>;

    /// This life has begun.
    ///
    /// # Errors
    /// It is not written down: the next start waits until the lease of this life ran out.
    fn remember(&self, incarnation: Incarnation) -> io::Result<()>;
}

/// Remembers nothing: every start waits for the lease of the life before.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPast;

impl Past for NoPast {
    fn previous(&self) -> Option<Incarnation> {
        None
    }

    fn remember(&self, _incarnation: Incarnation) -> io::Result<()> {
        Ok(())
    }
}

/// Remembers in a file of the data folder, whose lock the process holds.
#[derive(Clone, Debug)]
pub struct FolderPast {
    folder: PathBuf,
}

const FILE: &str = "incarnation";

impl FolderPast {
    /// The past that a folder holds. The caller has locked it.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        let folder = folder.into();
        Self { folder }
    }

    fn file(&self) -> PathBuf {
        self.folder.join(FILE)
    }
}

impl Past for FolderPast {
    fn previous(&self) -> Option<Incarnation> {
        let text = std::fs::read_to_string(self.file()).ok()?;
        let (incarnation, place) = text.trim_end().split_once(' ')?;
        let here = place_of(&self.folder).ok().flatten()?;
        let number = incarnation.parse().ok()?;
        (place == here).then_some(Incarnation(number))
    }

    fn remember(&self, incarnation: Incarnation) -> io::Result<()> {
        let place = place_of(&self.folder)?.unwrap_or_default();
        let fresh = self.folder.join(format!("{FILE}.new"));
        std::fs::write(&fresh, format!("{} {place}\n", incarnation.0))?;
        std::fs::rename(&fresh, self.file())
    }
}

/// Tells one folder from its copies, on whichever machine, where the system has a way. A machine
/// may be copied as a whole, with its disks: the boot is what two machines never share.
#[cfg(unix)]
fn place_of(folder: &Path) -> io::Result<Option<String>> {
    use std::os::unix::fs::MetadataExt as _;
    let about = std::fs::metadata(folder)?;
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
    Ok(boot.map(|boot| format!("{}:{}:{}", boot.trim_end(), about.dev(), about.ino())))
}

/// Tells one folder from its copies, on whichever machine, where the system has a way.
#[cfg(not(unix))]
fn place_of(_folder: &Path) -> io::Result<Option<String>> {
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_remembers_its_last_life() {
        let folder = tempfile::tempdir().unwrap();
        let past = FolderPast::new(folder.path());
        assert_eq!(past.previous(), None);

        past.remember(Incarnation(4)).unwrap();
        past.remember(Incarnation(5)).unwrap();

        assert_eq!(
            FolderPast::new(folder.path()).previous(),
            Some(Incarnation(5))
        );
    }

    #[test]
    fn a_copy_of_a_folder_proves_nothing() {
        let (folder, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        FolderPast::new(folder.path())
            .remember(Incarnation(4))
            .unwrap();

        std::fs::copy(folder.path().join(FILE), copy.path().join(FILE)).unwrap();

        assert_eq!(FolderPast::new(copy.path()).previous(), None);
    }

    #[test]
    fn a_folder_that_was_moved_is_still_the_same() {
        let outer = tempfile::tempdir().unwrap();
        let (before, after) = (outer.path().join("before"), outer.path().join("after"));
        std::fs::create_dir(&before).unwrap();
        FolderPast::new(&before).remember(Incarnation(4)).unwrap();

        std::fs::rename(&before, &after).unwrap();

        assert_eq!(FolderPast::new(&after).previous(), Some(Incarnation(4)));
    }

    #[test]
    fn a_file_that_cannot_be_read_proves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "7", "x 1:2", "7 "] {
            std::fs::write(folder.path().join(FILE), text).unwrap();

            assert_eq!(FolderPast::new(folder.path()).previous(), None, "{text:?}");
        }
    }
}
