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

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
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
    let found = std::path::absolute(&home).map_err(at("find", &home))?;
    write(&home.join("cluster.toml"), &snippet(&cluster, node, &found))?;
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
///
/// It is good as it is, but for what only people know: where the database and the nodes are.
fn snippet(cluster: &ClusterId, node: NodeId, folder: &Path) -> String {
    format!(
        "# The zajil.toml of node {id}, or a part of it. `zajil check` tells what it still lacks.\n\
         \n\
         [cluster]\n\
         id = \"{cluster}\"\n\
         node = {id}\n\
         # This folder, wherever it is on the machine of the node.\n\
         keys = {folder:?}\n\
         # Where other nodes reach this one, and where it finds some of them; else on this machine.\n\
         # gossip = \"10.0.0.1:7946\"\n\
         # link = \"10.0.0.1:7947\"\n\
         # seeds = \"10.0.0.1:7946, 10.0.0.2:7946, 10.0.0.3:7946\"\n\
         \n\
         [storage]\n\
         kind = \"cql\"\n\
         # Some servers of the database that all nodes share: needed.\n\
         # contact_points = \"10.0.0.11:9042, 10.0.0.12:9042\"\n",
        id = node.0,
        folder = folder.to_string_lossy(),
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

/// A line in base64. A second key, in a line below it, takes over from it by and by.
fn gossip_key() -> Result<String, PkiError> {
    Ok(format!("{}\n", STANDARD.encode(random::<GOSSIP_KEY>()?)))
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
mod tests;
