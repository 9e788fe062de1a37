//! Mutual TLS: who may talk to whom off one machine.
//!
//! Each cluster has a certificate authority of its own, and each node a certificate whose name is
//! `node-<id>.<cluster>.zajil`. Both sides show theirs; only TLS 1.3 is spoken. The ring provider is
//! handed over and not made the process's default. Without credentials the link is plain TCP, and
//! keeps to this machine: [`check_security`].

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::rustls::client::danger::ServerCertVerifier;
use tokio_rustls::rustls::client::{Resumption, WebPkiServerVerifier, verify_server_name};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{
    AlertDescription, CertificateError, ClientConfig, Error, RootCertStore, ServerConfig,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};
use zajil_model::lease::NodeId;
use zajil_model::time::Timestamp;

use super::config::ClusterId;
use super::hello::Refusal;

/// What is wrong with a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    /// It was not signed by the cluster's authority.
    #[error("its certificate is not of this cluster's authority")]
    OtherAuthority,
    /// It is another node's, or of another cluster.
    #[error("its certificate is for another node or another cluster")]
    OtherName,
    /// Its time is over, or a clock is wrong.
    #[error("its certificate has expired, or a clock is wrong")]
    Expired,
    /// Its time has not come, or a clock is wrong.
    #[error("its certificate is not valid yet, or a clock is wrong")]
    NotYet,
    /// It showed none.
    #[error("it showed no certificate")]
    Missing,
    /// It is broken in another way.
    #[error("its certificate is not good")]
    Bad,
    /// The peer does not take the certificate of this node.
    #[error("it does not take this node's certificate: other authority, other node, or expired")]
    Ours,
}

/// Where the files of a node's credentials are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialFiles {
    /// The certificate of the cluster's authority.
    pub authority: PathBuf,
    /// The certificate of this node.
    pub certificate: PathBuf,
    /// The key of this node.
    pub key: PathBuf,
}

impl CredentialFiles {
    /// The files in a node's folder, as `zajil cluster init` makes it.
    pub fn within(folder: &Path) -> Self {
        Self {
            authority: folder.join("ca.pem"),
            certificate: folder.join("cert.pem"),
            key: folder.join("key.pem"),
        }
    }
}

/// Why the credentials of this node cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A file is missing or not PEM.
    #[error("cannot read {} of this node from {}: {why}", what, file.display())]
    Read {
        /// What it should hold.
        what: &'static str,
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The key belongs to another certificate, or is of a kind that is not known.
    #[error("the key and the certificate of this node do not fit: {0}")]
    Key(String),
    /// The certificate is not good for this node now.
    #[error("the certificate of node {} of cluster {cluster} is not good: {fault}", node.0)]
    Certificate {
        /// This node.
        node: NodeId,
        /// Its cluster.
        cluster: ClusterId,
        /// What is wrong with it.
        fault: CertificateFault,
    },
}

/// An address that the network can reach, without the keys that this needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "cannot listen on {0} for other nodes: without keys, nodes talk on loopback only (make keys \
     with `zajil cluster init`)"
)]
pub struct Unprotected(pub SocketAddr);

/// Refuses to gossip or link off this machine without credentials.
///
/// # Errors
/// The first address that is not on loopback.
pub fn check_security(
    listen: &[SocketAddr],
    credentials: Option<&Credentials>,
) -> Result<(), Unprotected> {
    let outside = listen.iter().find(|it| !it.ip().is_loopback());
    match (outside, credentials) {
        (Some(address), None) => Err(Unprotected(*address)),
        (None, _) | (_, Some(_)) => Ok(()),
    }
}

/// The key and certificates of a node, checked against its id and its cluster.
#[derive(Clone)]
pub struct Credentials {
    cluster: ClusterId,
    authority: String,
    connector: TlsConnector,
    acceptor: TlsAcceptor,
    verifier: Arc<WebPkiServerVerifier>,
    certificate: CertificateDer<'static>,
    name: ServerName<'static>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({:?})", self.name)
    }
}

impl Credentials {
    /// Reads the credentials of a node.
    ///
    /// # Errors
    /// A file cannot be used, or the certificate is not good for this node at `now`.
    pub fn read(
        files: &CredentialFiles,
        node: NodeId,
        cluster: &ClusterId,
        now: Timestamp,
    ) -> Result<Self, CredentialsError> {
        let read = Self::load(files, node, cluster)?;
        read.good_at(now)
            .map_err(|fault| CredentialsError::Certificate {
                node,
                cluster: cluster.clone(),
                fault,
            })?;
        Ok(read)
    }

    /// Reads the credentials of a node and trusts them to be good: peers will find out.
    pub(super) fn load(
        files: &CredentialFiles,
        node: NodeId,
        cluster: &ClusterId,
    ) -> Result<Self, CredentialsError> {
        let authority = certificate("the authority", &files.authority)?;
        let own = certificate("the certificate", &files.certificate)?;
        let key = || {
            PrivateKeyDer::from_pem_file(&files.key)
                .map_err(|error| read_error("the key", &files.key, &error))
        };
        let unfit = |error: Error| CredentialsError::Key(error.to_string());
        let known_by = fingerprint(&authority);
        let mut roots = RootCertStore::empty();
        roots
            .add(authority)
            .map_err(|error| read_error("the authority", &files.authority, &error))?;
        let roots = Arc::new(roots);
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|error| CredentialsError::Key(error.to_string()))?;
        let client = client_config(&roots, &provider, &own, key()?).map_err(unfit)?;
        let server = server_config(roots, provider, &own, key()?).map_err(unfit)?;
        Ok(Self {
            cluster: cluster.clone(),
            authority: known_by,
            connector: TlsConnector::from(Arc::new(client)),
            acceptor: TlsAcceptor::from(Arc::new(server)),
            verifier,
            certificate: own,
            name: name(node, cluster),
        })
    }

    /// Tells the authority of the cluster from others: a hash of its certificate.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Whether the certificate is good at a time: now at the start, and some weeks ahead to warn
    /// while there is time.
    ///
    /// # Errors
    /// What will be wrong with it then.
    pub fn good_at(&self, time: Timestamp) -> Result<(), CertificateFault> {
        let seconds = u64::try_from(time.as_seconds()).unwrap_or(0);
        let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        self.verifier
            .verify_server_cert(&self.certificate, &[], &self.name, &[], time)
            .map(drop)
            .map_err(|error| fault(&error))
    }

    /// Begins TLS with a node, which has to prove that it is that node.
    pub(super) async fn connect(
        &self,
        node: NodeId,
        stream: TcpStream,
    ) -> Result<client::TlsStream<TcpStream>, Refusal> {
        let name = name(node, &self.cluster);
        let connected = self.connector.connect(name, stream).await;
        connected.map_err(|error| refusal(&error))
    }

    /// Answers TLS of a node of this cluster; which one, [`proves`] tells. The stream of one that
    /// fails is given back, so that its end can be waited for.
    pub(super) async fn accept(
        &self,
        stream: TcpStream,
    ) -> Result<server::TlsStream<TcpStream>, (Refusal, TcpStream)> {
        let accepted = self.acceptor.accept(stream).into_fallible().await;
        accepted.map_err(|(error, stream)| (refusal(&error), stream))
    }

    /// Whether the certificate that a peer showed is that node's.
    pub(super) fn proves(
        &self,
        stream: &server::TlsStream<TcpStream>,
        node: NodeId,
    ) -> Result<(), Refusal> {
        let shown = stream.get_ref().1.peer_certificates();
        let proved = shown
            .and_then(|it| it.first())
            .ok_or(CertificateFault::Missing)
            .and_then(|it| {
                let parsed = ParsedCertificate::try_from(it).map_err(|it| fault(&it))?;
                verify_server_name(&parsed, &name(node, &self.cluster)).map_err(|it| fault(&it))
            });
        proved.map_err(Refusal::Certificate)
    }
}

/// Letters of a fingerprint: enough that no two authorities have the same.
const FINGERPRINT: usize = 32;

fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let hash = Sha256::digest(certificate.as_ref());
    let letters = hash.iter().map(|byte| format!("{byte:02x}"));
    letters.collect::<String>()[..FINGERPRINT].to_owned()
}

/// The name in a node's certificate.
pub(super) fn host(node: NodeId, cluster: &ClusterId) -> String {
    format!("node-{}.{cluster}.zajil", node.0)
}

fn name(node: NodeId, cluster: &ClusterId) -> ServerName<'static> {
    ServerName::try_from(host(node, cluster)).expect("a cluster id is made of letters of a host")
}

fn certificate(
    what: &'static str,
    file: &Path,
) -> Result<CertificateDer<'static>, CredentialsError> {
    CertificateDer::from_pem_file(file).map_err(|error| read_error(what, file, &error))
}

fn read_error(what: &'static str, file: &Path, error: &impl fmt::Display) -> CredentialsError {
    CredentialsError::Read {
        what,
        file: file.to_owned(),
        why: error.to_string(),
    }
}

fn client_config(
    roots: &Arc<RootCertStore>,
    provider: &Arc<CryptoProvider>,
    own: &CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
) -> Result<ClientConfig, Error> {
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots.clone())
        .with_client_auth_cert(vec![own.clone()], key)?;
    // Each connection checks the certificates anew; they are few and live long.
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn server_config(
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    own: &CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, Error> {
    let clients = WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
        .build()
        .map_err(|error| Error::General(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![own.clone()], key)?;
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Why a connection failed: a fault of a certificate, or of the network.
pub(super) fn refusal(error: &io::Error) -> Refusal {
    let tls = error.get_ref().and_then(|it| it.downcast_ref::<Error>());
    match tls {
        Some(Error::AlertReceived(alert)) if about_certificates(*alert) => {
            Refusal::Certificate(CertificateFault::Ours)
        }
        Some(error @ (Error::InvalidCertificate(_) | Error::NoCertificatesPresented)) => {
            Refusal::Certificate(fault(error))
        }
        Some(Error::InvalidMessage(_)) => Refusal::NotANode,
        Some(_) | None if error.kind() == io::ErrorKind::UnexpectedEof => {
            Refusal::Failed("it closed the connection".to_owned())
        }
        Some(_) | None => Refusal::Failed(error.to_string()),
    }
}

const fn about_certificates(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRequired
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError
    )
}

fn fault(error: &Error) -> CertificateFault {
    match error {
        Error::NoCertificatesPresented => CertificateFault::Missing,
        Error::InvalidCertificate(error) => match error {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                CertificateFault::OtherAuthority
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                CertificateFault::Expired
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                CertificateFault::NotYet
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                CertificateFault::OtherName
            }
            _ => CertificateFault::Bad,
        },
        _ => CertificateFault::Bad,
    }
}
