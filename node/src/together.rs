//! A node among others: the link, gossip and the lease, over a store that all share.

use std::collections::HashMap;
use std::fs::{self, File, TryLockError};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use parking_lot::RwLock;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zajil_actors::engine::Engine;
use zajil_actors::owners::{Answers, Sharing, StoreRows};
use zajil_cluster::config::gossip::GossipConfig;
use zajil_cluster::link::{
    Addresses, CredentialFiles, Credentials, Identity, LinkSettings, TcpLink, Timing,
    check_security,
};
use zajil_cluster::membership::Membership;
use zajil_cluster::membership::keys::KeyRing;
use zajil_cluster::{Cluster, Config as ClusterConfig, FolderPast, Ownership, Ports, Rows};
use zajil_model::lease::{Incarnation, NodeId};
use zajil_model::time::Clock;
use zajil_storage::Store;

use crate::config::SharedConfig;
use crate::gossip::{Itself, LivesOfGossip};
use crate::node::Process;

/// How often the members of the cluster are read again: where a node is that gossip does not name.
const MEMBERS_EVERY: Duration = Duration::from_secs(5);

/// How long what other nodes asked may take when this one stops.
const LINK_GRACE: Duration = Duration::from_secs(2);

/// Stands for the authority of nodes without keys.
const NO_KEYS: &str = "none";

/// What is ready before the engine starts.
#[derive(Debug)]
pub struct Before {
    settings: SharedConfig,
    listener: TcpListener,
    keys: Option<KeyRing>,
    /// The fingerprint of the authority of its keys.
    authority: String,
    gossip: Arc<LivesOfGossip>,
    places: Arc<Places>,
    link: TcpLink,
    answers: Answers,
    ownership: Ownership,
    folder: PathBuf,
    /// Held as long as the node runs: one process per folder.
    lock: File,
}

/// A node's part in the cluster, at work.
#[derive(Debug)]
pub struct Together {
    cluster: Cluster,
    link: TcpLink,
    _lock: File,
}

/// Where other nodes are: as gossip says, or else as they once wrote down.
#[derive(Debug)]
struct Places {
    gossip: Arc<LivesOfGossip>,
    members: RwLock<HashMap<NodeId, SocketAddr>>,
}

impl Addresses for Places {
    fn address(&self, node: NodeId) -> Option<SocketAddr> {
        let heard = self.gossip.peers().get(node).map(|peer| peer.link);
        heard.or_else(|| self.members.read().get(&node).copied())
    }
}

impl Before {
    /// Checks the settings, takes the folder and the address of the link.
    ///
    /// # Errors
    /// Keys are missing or wrong, or something is in use.
    pub async fn prepare(
        settings: &SharedConfig,
        data_dir: &Path,
        clock: &dyn Clock,
    ) -> Result<Self> {
        let node = NodeId(settings.node);
        let cluster = settings.cluster.parse().context("cluster.id is wrong")?;
        let credentials = match &settings.keys {
            Some(folder) => {
                let files = CredentialFiles::within(folder);
                Some(Credentials::read(&files, node, &cluster, clock.now())?)
            }
            None => None,
        };
        check_security(&[settings.gossip, settings.link], credentials.as_ref())?;
        let authority = credentials.as_ref().map_or(NO_KEYS, Credentials::authority);
        let authority = authority.to_owned();
        let keys = settings.keys.as_deref().map(gossip_keys).transpose()?;
        let lock = lock(data_dir)?;
        let listener = TcpListener::bind(settings.link)
            .await
            .with_context(|| format!("cannot listen on {} (cluster.link)", settings.link))?;
        let gossip = LivesOfGossip::new();
        let places = Arc::new(Places {
            gossip: gossip.clone(),
            members: RwLock::default(),
        });
        zajil_cluster::metrics::link::describe();
        let link = TcpLink::new(LinkSettings {
            me: Identity {
                cluster,
                node,
                incarnation: this_life(clock),
                software: env!("CARGO_PKG_VERSION").to_owned(),
            },
            addresses: places.clone(),
            credentials,
            timing: Timing::default(),
            seed: rand::random(),
        });
        Ok(Self {
            settings: settings.clone(),
            listener,
            keys,
            authority,
            gossip,
            places,
            link,
            answers: Answers::default(),
            ownership: Ownership::shared(node),
            folder: data_dir.to_owned(),
            lock,
        })
    }

    /// What the engine shares the work by.
    pub fn sharing(&self) -> Sharing {
        Sharing {
            ownership: self.ownership.clone(),
            link: Some(Arc::new(self.link.clone())),
        }
    }

    /// Answers other nodes, joins, and gossips. Answers when the node joined.
    ///
    /// # Errors
    /// Another process runs as this node, or an address cannot be used.
    pub async fn join(
        self,
        engine: &Engine,
        store: &Arc<dyn Store>,
        clock: &Arc<dyn Clock>,
        api: SocketAddr,
        (process, tasks, stopping): (&Process, &TaskTracker, &CancellationToken),
    ) -> Result<Together> {
        let settings = &self.settings;
        let link = self.reached_at(self.listener.local_addr()?);
        let gossip = GossipConfig {
            listen: settings.gossip,
            advertise: self.reached_at(settings.gossip),
            seeds: settings.seeds.clone(),
            cluster: settings.cluster.clone(),
            keys: self.keys.clone(),
        };
        gossip.check()?;
        self.answers.speak_for(engine.clone());
        self.link.listen(self.listener, Arc::new(self.answers))?;
        let rows = StoreRows::new(store.clone(), clock.clone());
        let of = rows.cluster(&settings.cluster).await?;
        ensure!(
            of == settings.cluster,
            "keyspace {} is of cluster {of}, and this node is of cluster {}: set cluster.id or storage.keyspace",
            settings.keyspace,
            settings.cluster
        );
        let node = NodeId(settings.node);
        let of = rows.authority(node, &self.authority).await?;
        ensure!(
            of == self.authority,
            "the nodes of keyspace {} have {}, and this node has {}: set cluster.keys, or stop all \
             nodes in good order before they get new keys",
            settings.keyspace,
            keys_of(&of),
            keys_of(&self.authority)
        );
        let rows: Arc<dyn Rows> = Arc::new(rows);
        self.places.refresh(&rows).await?;
        let api = SocketAddr::new(link.ip(), api.port());
        let ports = Ports {
            rows: rows.clone(),
            shards: engine.shards().shared(),
            membership: self.gossip.clone(),
            clock: clock.clone(),
            past: Arc::new(FolderPast::new(self.folder)),
            ownership: self.ownership,
        };
        let config = ClusterConfig::new(node, link, Some(api));
        let cluster = Cluster::start(ports, config, tasks).await?;
        engine.joined(cluster.clone());
        let itself = Itself { node, link, api };
        let (lives, stop) = (self.gossip.clone(), stopping.clone());
        tasks.spawn(lives.run(itself, gossip, cluster.clone(), clock.clone(), stop));
        tasks.spawn(self.places.keep_up(rows, stopping.clone()));
        let (ended, failed) = (cluster.clone(), Arc::clone(&process.on_store_failed));
        tasks.spawn(stopping.clone().run_until_cancelled_owned(async move {
            if let Err(error) = ended.ended().await {
                failed(&format!("this node's part in the cluster ended: {error}"));
            }
        }));
        Ok(Together {
            cluster,
            link: self.link,
            _lock: self.lock,
        })
    }

    /// Where others reach a listener of this node.
    fn reached_at(&self, listener: SocketAddr) -> SocketAddr {
        let ip = self.settings.advertise.unwrap_or(listener.ip());
        SocketAddr::new(ip, listener.port())
    }
}

impl Places {
    async fn refresh(&self, rows: &Arc<dyn Rows>) -> Result<()> {
        let members = rows.members().await?;
        let places = members.into_iter().map(|member| (member.node, member.link));
        *self.members.write() = places.collect();
        Ok(())
    }

    async fn keep_up(self: Arc<Self>, rows: Arc<dyn Rows>, stopping: CancellationToken) {
        let mut ticks = tokio::time::interval(MEMBERS_EVERY);
        while stopping.run_until_cancelled(ticks.tick()).await.is_some() {
            if let Err(error) = self.refresh(&rows).await {
                tracing::debug!(%error, "cannot read the members of the cluster");
            }
        }
    }
}

impl Together {
    /// Gives everything away and then the lease; answers how many shards could not be given away.
    pub async fn leave(&self, deadline: Duration) -> usize {
        let report = self.cluster.drain(deadline).await;
        let (given, cut) = (report.given, report.cut);
        if cut == 0 {
            tracing::info!(given, "gave the shards away");
        } else {
            tracing::warn!(
                given,
                cut,
                "not all shards were given away, the database does not answer or no node takes them: \
                 others take them once they see this node gone"
            );
        }
        cut
    }

    /// Ends the link; nobody asks this node any more.
    pub async fn end(&self) {
        self.link.stop(LINK_GRACE).await;
    }
}

/// Keys, for people, by the fingerprint of their authority.
fn keys_of(authority: &str) -> String {
    match authority {
        NO_KEYS => "no keys".to_owned(),
        fingerprint => format!("keys of authority {fingerprint}"),
    }
}

/// Tells this life of the process from others, for people.
fn this_life(clock: &dyn Clock) -> Incarnation {
    Incarnation(clock.now().as_seconds().unsigned_abs())
}

fn gossip_keys(folder: &Path) -> Result<KeyRing> {
    let file = folder.join("gossip.key");
    let text = fs::read_to_string(&file)
        .with_context(|| format!("cannot read the keys of gossip from {}", file.display()))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    KeyRing::parse(lines).with_context(|| format!("{} is not good", file.display()))
}

/// Takes the data folder for this process.
fn lock(folder: &Path) -> Result<File> {
    fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the data folder {}", folder.display()))?;
    let path = folder.join("lock");
    let opened = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path);
    let file = opened.with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!(
            "the data folder {} is already used by another process",
            folder.display()
        ),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}
