//! Files and folders that get their names when all of them is durable: after a crash there is the
//! whole or nothing.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What is kept in them is nobody's but their owner's.
const PRIVATE_FILE: u32 = 0o600;

/// See [`PRIVATE_FILE`].
const PRIVATE_FOLDER: u32 = 0o700;

/// Why something did not get its name. Whatever was under it is as it was before.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// There is something under the name already.
    #[error("{} is there already", .0.display())]
    Exists(PathBuf),
    /// There is something in the folder.
    #[error("{} is not empty", .0.display())]
    NotEmpty(PathBuf),
    /// The system refused something.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn failed<'a>(
    operation: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> StageError + use<'a> {
    move |source| StageError::Io {
        operation,
        path: path.to_owned(),
        source,
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Makes the names in the folder of this path durable.
fn sync_names(path: &Path) -> Result<(), StageError> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    let synced = File::open(parent).and_then(|folder| folder.sync_all());
    synced.map_err(failed("sync the names in", parent))
}

/// A file that is being written. Dropped before it has its name, it is removed.
#[derive(Debug)]
pub(crate) struct StagedFile {
    path: PathBuf,
    part: PathBuf,
    named: bool,
}

impl StagedFile {
    /// Begins a file that will have this name, which must be free.
    pub(crate) fn begin(path: &Path) -> Result<(Self, File), StageError> {
        if path.exists() {
            return Err(StageError::Exists(path.to_owned()));
        }
        let part = beside(path, ".part");
        let opened = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(PRIVATE_FILE)
            .open(&part);
        let file = opened.map_err(failed("make", &part))?;
        let path = path.to_owned();
        let staged = Self {
            path,
            part,
            named: false,
        };
        Ok((staged, file))
    }

    /// All that was written gets its name.
    pub(crate) fn name(mut self, file: &File) -> Result<(), StageError> {
        file.sync_all().map_err(failed("sync", &self.part))?;
        fs::rename(&self.part, &self.path).map_err(failed("name", &self.path))?;
        self.named = true;
        sync_names(&self.path)
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if !self.named
            && let Err(error) = fs::remove_file(&self.part)
        {
            tracing::warn!(%error, file = %self.part.display(), "an unfinished file stays behind");
        }
    }
}

/// A folder that is being filled. Dropped before it has its name, it is removed.
#[derive(Debug)]
pub struct StagedFolder {
    dir: PathBuf,
    part: PathBuf,
    named: bool,
}

impl StagedFolder {
    /// Begins a folder that will have this name, under which there may be an empty one. What an
    /// earlier attempt left is removed.
    ///
    /// # Errors
    /// There is something in it, or the system refuses something.
    pub fn begin(dir: &Path, suffix: &str) -> Result<Self, StageError> {
        if dir.exists() {
            let mut entries = fs::read_dir(dir).map_err(failed("list", dir))?;
            if entries.next().is_some() {
                return Err(StageError::NotEmpty(dir.to_owned()));
            }
        }
        let part = beside(dir, suffix);
        if part.exists() {
            let removed = fs::remove_dir_all(&part);
            removed.map_err(failed("remove what an earlier attempt left in", &part))?;
        }
        let mut builder = DirBuilder::new();
        let made = builder.recursive(true).mode(PRIVATE_FOLDER).create(&part);
        made.map_err(failed("make", &part))?;
        Ok(Self {
            dir: dir.to_owned(),
            part,
            named: false,
        })
    }

    /// Where it is while it is filled.
    pub fn path(&self) -> &Path {
        &self.part
    }

    /// All that is in it gets its name.
    ///
    /// # Errors
    /// The system refuses something.
    pub fn name(mut self) -> Result<(), StageError> {
        if self.dir.exists() {
            fs::remove_dir(&self.dir).map_err(failed("replace", &self.dir))?;
        }
        fs::rename(&self.part, &self.dir).map_err(failed("name", &self.dir))?;
        self.named = true;
        sync_names(&self.dir)
    }
}

impl Drop for StagedFolder {
    fn drop(&mut self) {
        if !self.named
            && let Err(error) = fs::remove_dir_all(&self.part)
        {
            tracing::warn!(%error, dir = %self.part.display(), "an unfinished folder stays behind");
        }
    }
}
