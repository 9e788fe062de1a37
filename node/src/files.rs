//! The small files that a node keeps beside its store: where it listens, and its secrets.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Readable by its owner alone.
const PRIVATE: u32 = 0o600;

/// A folder that nobody but its owner may enter.
const PRIVATE_FOLDER: u32 = 0o700;

/// Makes a data folder, which holds messages and secrets, for its owner alone. One that is there
/// stays as it is: whoever made it decides who may enter.
///
/// # Errors
/// It cannot be made.
pub fn make_data_dir(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(PRIVATE_FOLDER).create(folder)
}

/// Where a running node listens, as its data folder tells it to commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    /// The process.
    pub pid: u32,
    /// The Integration and the Dashboard API.
    pub api: SocketAddr,
    /// Health, metrics and operator commands.
    pub operations: SocketAddr,
}

impl Presence {
    /// The file in a data folder that holds it.
    pub fn path(data_dir: &Path) -> PathBuf {
        data_dir.join("node.json")
    }

    /// Tells where this process listens.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn tell(self, data_dir: &Path) -> io::Result<()> {
        write_private(&Self::path(data_dir), &serde_json::to_string(&self)?)
    }

    /// Tells no more: the node stopped. A file that stays behind names a node that does not answer.
    pub fn forget(data_dir: &Path) {
        if let Err(error) = fs::remove_file(Self::path(data_dir)) {
            tracing::debug!(%error, "cannot remove node.json");
        }
    }

    /// Where the node of a folder listens; `None` when none runs, as far as the folder knows.
    pub fn read(data_dir: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(Self::path(data_dir)).ok()?).ok()
    }
}

/// The address at which this machine reaches a listener: one that listens everywhere is reached
/// on loopback.
pub fn reachable(listener: SocketAddr) -> SocketAddr {
    let ip = match listener.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listener.port())
}

/// The file in a data folder that holds the operator token.
pub fn token_path(data_dir: &Path) -> PathBuf {
    data_dir.join("operator.token")
}

/// The operator token of a data folder; `None` when it has none yet.
///
/// # Errors
/// The file is there and cannot be read.
pub fn read_token(data_dir: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(token_path(data_dir)) {
        Ok(token) => Ok(Some(token.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Replaces a file as a whole by one that only its owner may read: after a crash it is the old or
/// the new one, never a part.
///
/// # Errors
/// The folder cannot be written.
pub fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("new");
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(PRIVATE)
        .open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    // The name is in the folder, which is a file of its own to a power cut.
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_is_readable_by_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();

        write_private(&token_path(folder.path()), "old").unwrap();
        write_private(&token_path(folder.path()), "hush\n").unwrap();

        let mode = fs::metadata(token_path(folder.path()))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(read_token(folder.path()).unwrap().as_deref(), Some("hush"));
    }

    #[test]
    fn a_data_folder_that_is_made_is_its_owners_alone_and_one_that_is_there_is_left() {
        let home = tempfile::tempdir().unwrap();
        let mode = |folder: &Path| fs::metadata(folder).unwrap().permissions().mode() & 0o777;
        let [made, there] = ["made", "there"].map(|name| home.path().join(name));
        fs::create_dir(&there).unwrap();
        fs::set_permissions(&there, fs::Permissions::from_mode(0o750)).unwrap();

        make_data_dir(&made).unwrap();
        make_data_dir(&there).unwrap();

        assert_eq!([mode(&made), mode(&there)], [0o700, 0o750]);
    }

    #[test]
    fn a_folder_tells_where_its_node_listens() {
        let folder = tempfile::tempdir().unwrap();
        let [api, operations] = ["127.0.0.1:1", "127.0.0.1:2"].map(|it| it.parse().unwrap());
        let here = Presence {
            pid: 7,
            api,
            operations,
        };

        assert_eq!(Presence::read(folder.path()), None);
        here.tell(folder.path()).unwrap();

        assert_eq!(Presence::read(folder.path()), Some(here));
    }

    #[test]
    fn a_listener_on_every_address_is_reached_on_loopback() {
        let everywhere: SocketAddr = "0.0.0.0:8080".parse().unwrap();

        assert_eq!(reachable(everywhere).to_string(), "127.0.0.1:8080");
    }
}
