//! The keys of a cluster: an authority, a certificate for each node, and the key of gossip.
//!
//! [`create`] writes a folder once, [`add`] adds a node to it later; neither ever overwrites a
//! file. A node's folder holds all that the node needs, and no more: the key of the authority
//! stays behind. Every file is its owner's alone.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rand::TryRngCore;
use rand::rngs::OsRng;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use zajil_model::lease::NodeId;
use zajil_model::time::Timestamp;

use super::config::ClusterId;
use super::tls::host;

/// Nodes of a cluster, at most: what placement is good for.
pub const MOST_NODES: u64 = 100;

/// Certificates begin this long before they are made: clocks of nodes differ.
const BEGINS_BEFORE: Duration = Duration::from_secs(24 * 3_600);

/// Bytes of the key of gossip.
const GOSSIP_KEY: usize = 32;

/// Readable by its owner alone.
const PRIVATE_FILE: u32 = 0o600;

/// Usable by its owner alone.
const PRIVATE_FOLDER: u32 = 0o700;

const AUTHORITY: &str = "ca.pem";
const AUTHORITY_KEY: &str = "ca-key.pem";
const GOSSIP: &str = "gossip.key";
const NAME: &str = "cluster.id";

/// Why keys cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The folder holds a cluster, or something else.
    #[error("{} is there already, and is never overwritten", .0.display())]
    Exists(PathBuf),
    /// The folder holds no cluster.
    #[error("{} holds no cluster: `zajil cluster init` without --add makes one", .0.display())]
    NoCluster(PathBuf),
    /// A file or folder cannot be read or written.
    #[error("cannot {doing} {}: {source}", file.display())]
    File {
        /// What failed.
        doing: &'static str,
        /// Which one.
        file: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A key or a certificate cannot be made or used.
    #[error("cannot {doing}: {source}")]
    Certificate {
        /// What failed.
        doing: &'static str,
        /// Why.
        source: rcgen::Error,
    },
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Random(#[source] rand::rand_core::OsError),
}

/// What was made for one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeKeys {
    /// The node.
    pub node: NodeId,
    /// The name in its certificate.
    pub name: String,
    /// The folder to bring to its machine.
    pub folder: PathBuf,
}

/// A cluster's id that no other one has.
///
/// # Errors
/// The system gives no random numbers.
pub fn unique_id() -> Result<ClusterId, PkiError> {
    let id = format!("zajil-{}", hex(&random::<8>()?));
    Ok(id.parse().expect("hexadecimal digits are good"))
}

/// Makes a cluster of nodes 1 to `nodes` in an empty or new folder.
///
/// # Errors
/// The folder holds something, or a file cannot be written.
pub fn create(
    folder: &Path,
    cluster: &ClusterId,
    nodes: u64,
    now: Timestamp,
    good_for: Duration,
) -> Result<Vec<NodeKeys>, PkiError> {
    let used = fs::read_dir(folder).is_ok_and(|mut it| it.next().is_some());
    if used {
        return Err(PkiError::Exists(folder.to_owned()));
    }
    make_folder(folder)?;
    let key = new_key()?;
    let made = authority(cluster, now, good_for).self_signed(&key);
    let certificate = made.map_err(failed("make the certificate of the authority"))?;
    write(&folder.join(AUTHORITY_KEY), &key.serialize_pem())?;
    write(&folder.join(AUTHORITY), &certificate.pem())?;
    write(&folder.join(GOSSIP), &gossip_key()?)?;
    write(&folder.join(NAME), &format!("{cluster}\n"))?;
    (1..=nodes)
        .map(|node| add(folder, NodeId(node), now, good_for))
        .collect()
}

/// Adds a node to a folder that [`create`] made.
///
/// # Errors
/// The folder holds no cluster, the node is there already, or a file cannot be written.
pub fn add(
    folder: &Path,
    node: NodeId,
    now: Timestamp,
    good_for: Duration,
) -> Result<NodeKeys, PkiError> {
    let cluster = cluster_in(folder)?;
    let signer = KeyPair::from_pem(&read(&folder.join(AUTHORITY_KEY))?)
        .map_err(failed("read the key of the authority"))?;
    let key = new_key()?;
    let issuer = authority(&cluster, now, good_for);
    let name = host(node, &cluster);
    let certificate = leaf(&name, now, good_for)?
        .signed_by(&key, &Issuer::from_params(&issuer, signer))
        .map_err(failed("sign the certificate of a node"))?;
    let home = folder.join(format!("node-{}", node.0));
    if home.exists() {
        return Err(PkiError::Exists(home));
    }
    make_folder(&home)?;
    write(&home.join("key.pem"), &key.serialize_pem())?;
    write(&home.join("cert.pem"), &certificate.pem())?;
    write(&home.join(AUTHORITY), &read(&folder.join(AUTHORITY))?)?;
    write(&home.join(GOSSIP), &read(&folder.join(GOSSIP))?)?;
    write(&home.join("cluster.toml"), &snippet(&cluster, node))?;
    Ok(NodeKeys {
        node,
        name,
        folder: home,
    })
}

/// The cluster of a folder.
///
/// # Errors
/// The folder holds none.
pub fn cluster_in(folder: &Path) -> Result<ClusterId, PkiError> {
    let none = || PkiError::NoCluster(folder.to_owned());
    let text = fs::read_to_string(folder.join(NAME)).map_err(|_| none())?;
    text.trim().parse().map_err(|_| none())
}

/// The part of a node's settings that names it, with the files beside it.
fn snippet(cluster: &ClusterId, node: NodeId) -> String {
    format!(
        "# Put this into the zajil.toml of node {id}, with the files of this folder where it says.\n\
         [cluster]\n\
         id = \"{cluster}\"\n\
         node = {id}\n\
         keys = \"/etc/zajil/node-{id}\"\n",
        id = node.0
    )
}

fn authority(cluster: &ClusterId, now: Timestamp, good_for: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    // The name is a function of the cluster: `add` signs in it without reading the certificate.
    params
        .distinguished_name
        .push(DnType::CommonName, format!("authority of {cluster}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid(&mut params, now, good_for);
    params
}

fn leaf(name: &str, now: Timestamp, good_for: Duration) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::new([name.to_owned()])
        .map_err(failed("name the certificate of a node"))?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.use_authority_key_identifier_extension = true;
    valid(&mut params, now, good_for);
    Ok(params)
}

fn valid(params: &mut CertificateParams, now: Timestamp, good_for: Duration) {
    // 1970 counted in whole seconds; `rcgen` takes dates of the crate `time`.
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let since_epoch = |it: Timestamp| Duration::from_secs(it.as_seconds().max(0).unsigned_abs());
    params.not_before = epoch + since_epoch(now - BEGINS_BEFORE);
    params.not_after = epoch + since_epoch(now + good_for);
}

fn new_key() -> Result<KeyPair, PkiError> {
    // ECDSA on P-256: what every TLS library takes.
    KeyPair::generate().map_err(failed("make a key"))
}

/// A line `id key`: the id tells keys apart while one replaces another.
fn gossip_key() -> Result<String, PkiError> {
    Ok(format!("1 {}\n", hex(&random::<GOSSIP_KEY>()?)))
}

fn random<const N: usize>() -> Result<[u8; N], PkiError> {
    let mut bytes = [0; N];
    OsRng.try_fill_bytes(&mut bytes).map_err(PkiError::Random)?;
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    })
}

fn make_folder(folder: &Path) -> Result<(), PkiError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(PRIVATE_FOLDER);
    builder.create(folder).map_err(at("make", folder))
}

fn write(file: &Path, text: &str) -> Result<(), PkiError> {
    let mut opened = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(PRIVATE_FILE)
        .open(file)
        .map_err(at("write", file))?;
    let written = opened.write_all(text.as_bytes());
    written
        .and_then(|()| opened.sync_all())
        .map_err(at("write", file))
}

fn read(file: &Path) -> Result<String, PkiError> {
    fs::read_to_string(file).map_err(at("read", file))
}

fn at(doing: &'static str, file: &Path) -> impl FnOnce(io::Error) -> PkiError {
    let file = file.to_owned();
    move |source| match source.kind() {
        io::ErrorKind::AlreadyExists => PkiError::Exists(file),
        _ => PkiError::File {
            doing,
            file,
            source,
        },
    }
}

fn failed(doing: &'static str) -> impl FnOnce(rcgen::Error) -> PkiError {
    move |source| PkiError::Certificate { doing, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::tls::{CertificateFault, CredentialFiles, Credentials, CredentialsError};
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3_600);

    fn now() -> Timestamp {
        Timestamp::from_seconds(1_800_000_000)
    }

    fn three(folder: &Path) -> ClusterId {
        let cluster = unique_id().unwrap();
        create(folder, &cluster, 3, now(), DAY * 30).unwrap();
        cluster
    }

    fn read_at(
        folder: &Path,
        node: u64,
        cluster: &ClusterId,
        time: Timestamp,
    ) -> Result<Credentials, CredentialsError> {
        let files = CredentialFiles::within(&folder.join(format!("node-{node}")));
        Credentials::read(&files, NodeId(node), cluster, time)
    }

    #[test]
    fn a_cluster_has_good_credentials_for_each_node_and_for_one_added_later() {
        let folder = tempfile::tempdir().unwrap();
        let cluster = three(folder.path());

        let added = add(folder.path(), NodeId(4), now() + DAY, DAY * 30).unwrap();

        assert_eq!(added.name, format!("node-4.{cluster}.zajil"));
        for node in 1..=4 {
            read_at(folder.path(), node, &cluster, now() + DAY).unwrap();
        }
    }

    #[test]
    fn every_file_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path().join("keys");
        three(&keys);

        let mut open = vec![keys];
        let mut seen = 0;
        while let Some(path) = open.pop() {
            seen += 1;
            let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            if path.is_dir() {
                assert_eq!(mode, PRIVATE_FOLDER, "{}", path.display());
                open.extend(fs::read_dir(&path).unwrap().map(|it| it.unwrap().path()));
            } else {
                assert_eq!(mode, PRIVATE_FILE, "{}", path.display());
            }
        }
        assert_eq!(seen, 1 + 4 + 3 * 6);
    }

    #[test]
    fn nothing_is_ever_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let cluster = three(folder.path());
        let before = fs::read(folder.path().join("node-2/key.pem")).unwrap();

        let again = create(folder.path(), &cluster, 1, now(), DAY);
        let twice = add(folder.path(), NodeId(2), now(), DAY);

        assert!(matches!(again, Err(PkiError::Exists(_))));
        assert!(matches!(twice, Err(PkiError::Exists(_))));
        let after = fs::read(folder.path().join("node-2/key.pem")).unwrap();
        assert_eq!(before, after);
    }

    #[test]
    fn a_node_cannot_be_added_to_what_is_no_cluster() {
        let folder = tempfile::tempdir().unwrap();

        let refused = add(folder.path(), NodeId(2), now(), DAY);

        assert!(matches!(refused, Err(PkiError::NoCluster(_))));
    }

    #[test]
    fn what_is_wrong_with_a_certificate_is_told_at_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let cluster = three(folder.path());
        let other: ClusterId = "elsewhere".parse().unwrap();
        let fault = |read: Result<Credentials, _>| match read.unwrap_err() {
            CredentialsError::Certificate { fault, .. } => fault,
            other => panic!("{other}"),
        };

        let late = read_at(folder.path(), 1, &cluster, now() + DAY * 31);
        let early = read_at(folder.path(), 1, &cluster, now() - DAY * 2);
        let elsewhere = read_at(folder.path(), 1, &other, now());
        assert_eq!(fault(late), CertificateFault::Expired);
        assert_eq!(fault(early), CertificateFault::NotYet);
        assert_eq!(fault(elsewhere), CertificateFault::OtherName);

        let stranger = tempfile::tempdir().unwrap();
        create(stranger.path(), &cluster, 1, now(), DAY).unwrap();
        let theirs = stranger.path().join("node-1/ca.pem");
        fs::copy(theirs, folder.path().join("node-1/ca.pem")).unwrap();
        let unsigned = read_at(folder.path(), 1, &cluster, now());
        assert_eq!(fault(unsigned), CertificateFault::OtherAuthority);
    }

    #[test]
    fn a_key_of_another_node_or_a_missing_file_is_told_at_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let cluster = three(folder.path());
        let key = |node: u64| folder.path().join(format!("node-{node}/key.pem"));

        fs::copy(key(2), key(1)).unwrap();
        let unfit = read_at(folder.path(), 1, &cluster, now());
        fs::remove_file(key(3)).unwrap();
        let missing = read_at(folder.path(), 3, &cluster, now());

        assert!(matches!(unfit, Err(CredentialsError::Key(_))));
        let text = missing.unwrap_err().to_string();
        assert!(text.contains("node-3/key.pem"), "{text}");
    }
}
