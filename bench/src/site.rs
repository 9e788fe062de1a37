//! A node in this process: store, engine and HTTP edge, put together as `zajil serve` does.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zajil_actors::directory::{NewInstance, NewKey, Permission};
use zajil_actors::engine::{Engine, Ports};
use zajil_actors::owners::Sharing;
use zajil_actors::send::{AcceptError, Submission};
use zajil_api::{ApiConfig, ApiState, ServerLimits, ServerReport};
use zajil_model::id::{AccountId, RequestId};
use zajil_model::instance::{Instance, TransportKind, TransportSettings};
use zajil_model::lifecycle::Status;
use zajil_model::message::{Lane, Message};
use zajil_model::pace::{MAX_BURST, MAX_RATE, PaceSpec, Per};
use zajil_model::time::Clock;
use zajil_node::clock::SystemClock;
use zajil_node::telemetry;
use zajil_storage::embedded::{EmbeddedConfig, EmbeddedStore};
use zajil_storage::{Store, StoreError, Totals, TotalsFilter};
use zajil_transport::simulator::script::AT_ONCE;
use zajil_transport::{SimulatorFactory, TransportFactory};

use crate::courier::{Book, Courier};
use crate::crowd;
use crate::null_store::NullStore;
use crate::workload::{BULK, Words, instance_name};

/// Requests an hour that the key may make: no run comes near it.
const REQUESTS: u64 = 1_000_000_000;

/// Bulks that are made ahead and submitted in turn when a queue is filled.
const PREPARED: usize = 64;

/// The wait before a submission is tried again that was refused because too much was on its way.
const TRY_AGAIN: Duration = Duration::from_millis(5);

/// How long what is in flight may take when a site is closed.
const CLOSING: Duration = Duration::from_secs(10);

/// Where a site keeps its state.
#[derive(Debug)]
pub(crate) enum Keeping {
    /// Nowhere: see [`NullStore`].
    Nothing,
    /// In the embedded store of this folder.
    Folder(PathBuf),
}

/// Which WhatsApp a site has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The simulator in this process, which answers at once.
    Simulator,
    /// A transport that writes hand-overs down, and answers at once.
    Courier,
}

/// How fast instances may send.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Speed {
    /// Hardly: one message an hour.
    Still,
    /// So many a second, one at a time.
    PerSecond(f64),
    /// As fast as they can.
    Unlimited,
}

impl Speed {
    pub(crate) fn pace(self) -> PaceSpec {
        let (count, per, burst) = match self {
            Self::Still => (1.0, Per::Hour, 1),
            Self::PerSecond(count) => (count, Per::Second, 1),
            Self::Unlimited => (MAX_RATE, Per::Second, MAX_BURST),
        };
        let default = PaceSpec::default_for(TransportKind::Simulator);
        PaceSpec {
            count,
            per,
            burst: Some(burst),
            ..default
        }
    }
}

/// A node in this process.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) engine: Engine,
    pub(crate) account: AccountId,
    pub(crate) instances: Vec<Arc<Instance>>,
    pub(crate) book: Arc<Book>,
    tasks: TaskTracker,
    served: Option<Served>,
}

/// Its HTTP edge.
#[derive(Debug)]
struct Served {
    address: SocketAddr,
    key: String,
    stop: CancellationToken,
    server: JoinHandle<ServerReport>,
}

/// The runtime and the metrics of a process that runs nodes, as `zajil serve` has them.
pub(crate) fn runtime() -> Result<Runtime> {
    let metrics = telemetry::start_metrics(SystemClock::new().now())?;
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(telemetry::UPKEEP);
            metrics.run_upkeep();
        }
    });
    zajil_node::command::workers()
}

/// Opens the embedded store of a folder.
fn embedded(dir: &Path, clock: &Arc<dyn Clock>) -> Result<EmbeddedStore> {
    let on_fatal = Arc::new(|reason: &str| {
        eprintln!("the store failed: {reason}");
        std::process::exit(zajil_node::node::EXIT_STORE_FAILED)
    });
    EmbeddedStore::open(EmbeddedConfig::new(dir, clock.clone(), on_fatal)).context("open the store")
}

impl Site {
    /// Opens a site, with its first account if it has none; nothing listens yet.
    pub(crate) async fn open(keeping: &Keeping, way: Way) -> Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let store: Arc<dyn Store> = match keeping {
            Keeping::Nothing => Arc::new(NullStore::default()),
            Keeping::Folder(dir) => Arc::new(embedded(dir, &clock)?),
        };
        let tasks = TaskTracker::new();
        let courier = Courier::new(clock.clone(), tasks.clone());
        let book = courier.book();
        let transport: Arc<dyn TransportFactory> = match way {
            Way::Courier => Arc::new(courier),
            Way::Simulator => Arc::new(SimulatorFactory::new(
                clock.clone(),
                tasks.clone(),
                crate::SEED,
            )),
        };
        let ports = Ports {
            store,
            clock,
            transports: vec![transport],
            sharing: Sharing::alone(),
            seed: crate::SEED,
        };
        let engine = Engine::start(ports).await.context("start the engine")?;
        let known = engine.directory().accounts().await?;
        let account = match known.first() {
            Some(account) => account.id,
            None => engine.directory().create_account("bench").await?.id,
        };
        Ok(Self {
            engine,
            account,
            instances: Vec::new(),
            book,
            tasks,
            served: None,
        })
    }

    /// A site with `instances` instances that is listening.
    pub(crate) async fn listening(
        keeping: &Keeping,
        way: Way,
        instances: usize,
        speed: Speed,
    ) -> Result<Self> {
        let mut site = Self::open(keeping, way).await?;
        site.populate(instances, speed, false).await?;
        let key = site.new_key().await?;
        site.listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), key)
            .await?;
        Ok(site)
    }

    /// Makes instances.
    pub(crate) async fn populate(
        &mut self,
        count: usize,
        speed: Speed,
        paused: bool,
    ) -> Result<()> {
        let made = Arc::new(Mutex::new(vec![None; count]));
        let (engine, account) = (self.engine.clone(), self.account);
        let first = self.instances.len();
        let all = made.clone();
        crowd::each(0..count, move |n| {
            let (engine, made) = (engine.clone(), made.clone());
            async move {
                let new = NewInstance {
                    name: instance_name(first + n),
                    transport: TransportKind::Simulator,
                    settings: TransportSettings {
                        address: None,
                        script: Some(AT_ONCE.to_owned()),
                    },
                    pace: speed.pace(),
                    queue_while_disconnected: true,
                };
                let mut instance = engine.directory().create_instance(account, new).await?;
                if paused {
                    let pause = |instance: &mut Instance| instance.paused = true;
                    let id = instance.id;
                    instance = engine
                        .directory()
                        .update_instance(account, id, pause)
                        .await?;
                }
                made.lock()[n] = Some(instance);
                Ok(())
            }
        })
        .await?;
        self.instances.extend(all.lock().iter().flatten().cloned());
        Ok(())
    }

    /// Reads the instances that are there already, in the order of their names.
    pub(crate) async fn remember(&mut self) -> Result<()> {
        const PAGE: usize = 1_000;
        let mut after = None;
        loop {
            let page = self
                .engine
                .directory()
                .instances(self.account, after, PAGE)
                .await?;
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            self.instances.extend(page);
        }
        self.instances.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(())
    }

    /// A key that may do everything.
    pub(crate) async fn new_key(&self) -> Result<String> {
        let new = NewKey {
            user: None,
            name: "bench".to_owned(),
            permissions: Permission::ALL.into(),
            rate_limit: REQUESTS,
            expires_at: None,
            allowed_ips: Vec::new(),
            allowed_instances: [].into(),
        };
        let (_, text) = self
            .engine
            .directory()
            .create_key(self.account, new)
            .await?;
        Ok(text.reveal().to_owned())
    }

    /// Listens.
    pub(crate) async fn listen(&mut self, address: SocketAddr, key: String) -> Result<()> {
        let listener = TcpListener::bind(address).await.context("listen")?;
        let address = listener.local_addr()?;
        let state = ApiState::new(self.engine.clone(), ApiConfig::default());
        let stop = CancellationToken::new();
        let serving = zajil_api::serve(
            listener,
            zajil_api::integration_router(state),
            ServerLimits::default(),
            stop.clone().cancelled_owned(),
        );
        let server = self.tasks.spawn(serving);
        self.served = Some(Served {
            address,
            key,
            stop,
            server,
        });
        Ok(())
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> Result<SocketAddr> {
        Ok(self.served.as_ref().context("nothing listens")?.address)
    }

    /// The key of its account.
    pub(crate) fn key(&self) -> Result<String> {
        Ok(self.served.as_ref().context("nothing listens")?.key.clone())
    }

    /// Changes an instance, and waits until that is in force.
    pub(crate) async fn change(
        &self,
        instance: &Instance,
        change: impl Fn(&mut Instance) + Send + Sync,
    ) -> Result<()> {
        let directory = self.engine.directory();
        let changed = directory
            .update_instance(self.account, instance.id, change)
            .await?;
        let barrier = self.engine.apply_instance(changed).await?;
        if !barrier.is_confirmed() {
            bail!("{} did not confirm the change", instance.name);
        }
        Ok(())
    }

    /// Pauses some instances, or lets them go on.
    pub(crate) async fn set_paused(
        self: &Arc<Self>,
        instances: &[Arc<Instance>],
        paused: bool,
    ) -> Result<()> {
        let site = self.clone();
        crowd::each(instances.to_vec(), move |instance| {
            let site = site.clone();
            async move {
                site.change(&instance, |instance| instance.paused = paused)
                    .await
            }
        })
        .await
    }

    /// Accepts `messages` messages for each of some instances, in bulks, without HTTP.
    pub(crate) async fn fill(&self, instances: &[Arc<Instance>], messages: usize) -> Result<()> {
        let mut words = Words::new(0);
        let made = (0..PREPARED).map(|_| (0..BULK).map(|_| words.message()).collect());
        let prepared: Arc<Vec<Vec<Message>>> = Arc::new(made.collect());
        // Instances take turns, as they do when many campaigns are posted.
        let jobs = (0..messages.div_ceil(BULK)).flat_map(|round| {
            let count = BULK.min(messages - round * BULK);
            instances
                .iter()
                .map(move |instance| (instance.clone(), round, count))
        });
        let engine = self.engine.clone();
        crowd::each(jobs.collect::<Vec<_>>(), move |(instance, round, count)| {
            let (engine, prepared) = (engine.clone(), prepared.clone());
            let chosen = (round + instance.id.tick().0 as usize) % PREPARED;
            async move { submit(&engine, &instance, &prepared[chosen][..count]).await }
        })
        .await
    }

    /// Exact counts of the messages of all instances.
    pub(crate) async fn totals(&self) -> Result<Totals, StoreError> {
        let instances = self.instances.iter().map(|instance| instance.id).collect();
        self.engine
            .store()
            .totals(TotalsFilter {
                instances,
                ..TotalsFilter::default()
            })
            .await
    }

    /// Waits until `messages` messages were sent, looking every `look`.
    pub(crate) async fn wait_for_sent(&self, messages: u64, look: Duration) -> Result<()> {
        while self.totals().await?.of(Status::Sent) < messages {
            tokio::time::sleep(look).await;
        }
        Ok(())
    }

    /// Stops in good order.
    pub(crate) async fn close(mut self) -> Result<()> {
        if let Some(Served { stop, server, .. }) = self.served.take() {
            stop.cancel();
            server.await?;
        }
        self.engine.drain(CLOSING).await;
        self.tasks.close();
        self.engine.store().close().await?;
        Ok(())
    }
}

/// Accepts some messages; waits while too much is on its way.
async fn submit(engine: &Engine, instance: &Arc<Instance>, messages: &[Message]) -> Result<()> {
    loop {
        let submission = Submission {
            instance: instance.clone(),
            lane: Lane::Normal,
            messages: messages.to_vec(),
            request: RequestId(0),
            bytes: messages.iter().map(Message::weight).sum(),
        };
        match engine.send(submission, messages.len() > 1).await {
            Ok(_) => return Ok(()),
            Err(AcceptError::Unavailable(_) | AcceptError::AccountOverloaded) => {
                tokio::time::sleep(TRY_AGAIN).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}
