//! Accepting over HTTP, beside the same without storage.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use crate::disk::{BLOCK, sync};
use crate::driver::{Driven, Driving, Pace, Plan, Until};
use crate::figure::{Figure, Reach};
use crate::measure::{Stretch, each};
use crate::runs::{Run, WARM_UP, tell};
use crate::site::{Keeping, Site, Speed, Way};
use crate::workload::BULK;

/// Connections of the load.
pub(super) const CONNECTIONS: usize = 64;

/// Instances that take turns.
pub(super) const INSTANCES: usize = 1_000;

/// What a server did under load.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) driven: Driven,
    /// Microseconds of the server's CPU a message.
    pub(super) cpu_each: f64,
    /// The same by kind of thread.
    pub(super) threads: BTreeMap<String, f64>,
    /// The share of the machine's time that others used.
    pub(super) foreign: f64,
}

impl Loaded {
    pub(super) fn how(&self, connections: usize, instances: usize) -> Value {
        json!({
            "seconds": self.driven.seconds, "connections": connections, "instances": instances,
            "p50_us": self.driven.p50_us, "p99_us": self.driven.p99_us,
            "max_us": self.driven.max_us, "driver_cpu_us_per_message": self.driven.cpu_each(),
            "server_cpu_us_by_thread": self.threads, "foreign_cpu": self.foreign,
        })
    }
}

/// The plan of a closed load.
pub(super) fn closed(site: &Site, messages: usize, seconds: f64) -> Result<Plan> {
    let names = site.instances.iter().map(|instance| instance.name.clone());
    Ok(Plan {
        address: site.address()?,
        key: site.key()?,
        connections: CONNECTIONS,
        messages,
        instances: names.collect(),
        pace: Pace::Closed,
        until: Until::Seconds(seconds),
        warm_up: WARM_UP,
    })
}

/// Puts a site under load.
pub(super) async fn load(plan: Plan) -> Result<Loaded> {
    let driving = Driving::start(plan).await?;
    let stretch = Stretch::begin()?;
    let driven = driving.end().await?.all_accepted()?;
    let cpu_each = each(stretch.cpu()?, driven.messages);
    let threads = stretch.by_thread(driven.messages);
    let foreign = stretch.foreign(Duration::from_micros(driven.cpu_us))?;
    Ok(Loaded {
        driven,
        cpu_each,
        threads,
        foreign,
    })
}

/// A new site under closed load; its instances stand still, so that accepting is all it does.
async fn accepting(keeping: &Keeping, messages: usize, seconds: f64) -> Result<Loaded> {
    let site = Site::listening(keeping, Way::Simulator, INSTANCES, Speed::Still).await?;
    let loaded = load(closed(&site, messages, seconds)?).await?;
    site.close().await?;
    Ok(loaded)
}

async fn front(run: &Run, bench: &'static str, messages: usize) -> Result<()> {
    let loaded = accepting(&Keeping::Nothing, messages, run.seconds(10.0, 2.0)).await?;
    let how = loaded.how(CONNECTIONS, INSTANCES);
    let figure = Figure::new(bench, "messages", loaded.driven.rate(), "messages/s", how);
    tell(&figure.costing(loaded.cpu_each));
    Ok(())
}

pub(super) async fn front_bulk(run: Run) -> Result<()> {
    front(&run, "front_bulk", BULK).await
}

pub(super) async fn front_single(run: Run) -> Result<()> {
    front(&run, "front_single", 1).await
}

/// Ours between two runs of the front: a machine that changed its speed meanwhile shows.
struct Between {
    fronts: [Loaded; 2],
    ours: Loaded,
}

async fn between(run: &Run, messages: usize) -> Result<Between> {
    let seconds = run.seconds(10.0, 2.0);
    let before = accepting(&Keeping::Nothing, messages, seconds).await?;
    let folder = run.folder()?;
    let data = Keeping::Folder(PathBuf::from(folder.path()).join("data"));
    let ours = accepting(&data, messages, seconds).await?;
    let after = accepting(&Keeping::Nothing, messages, seconds).await?;
    Ok(Between {
        fronts: [before, after],
        ours,
    })
}

impl Between {
    fn front_rate(&self) -> f64 {
        self.fronts
            .iter()
            .map(|front| front.driven.rate())
            .sum::<f64>()
            / 2.0
    }

    fn front_cpu(&self) -> f64 {
        self.fronts.iter().map(|front| front.cpu_each).sum::<f64>() / 2.0
    }

    fn how(&self) -> Value {
        let mut how = self.ours.how(CONNECTIONS, INSTANCES);
        how["front"] = json!({
            "messages_per_second": self.fronts.each_ref().map(|front| front.driven.rate().round()),
            "cpu_us_per_message": self.fronts.each_ref().map(|front| front.cpu_each),
        });
        how
    }

    fn rate(&self, bench: &'static str) -> Figure {
        Figure::new(
            bench,
            "messages",
            self.ours.driven.rate(),
            "messages/s",
            self.how(),
        )
        .beside("front", self.front_rate())
        .costing(self.ours.cpu_each)
    }
}

pub(super) async fn bulk(run: Run) -> Result<()> {
    const BENCH: &str = "accept_bulk";
    let measured = between(&run, BULK).await?;
    tell(&measured.rate(BENCH).reaching(Reach::AtLeast(0.4)));
    let cpu = measured.ours.cpu_each;
    tell(
        &Figure::new(BENCH, "cpu", cpu, "us/message", measured.how()).reaching(Reach::AtMost(3.0)),
    );
    let folder = run.folder()?;
    let disk = sync(folder.path(), BLOCK, run.seconds(3.0, 1.0).min(3.0))?;
    let limit = disk.rate * (BLOCK / 250) as f64;
    let rate = measured.ours.driven.rate();
    tell(
        &Figure::new(BENCH, "beside_disk", rate, "messages/s", measured.how())
            .beside("disk", limit),
    );
    Ok(())
}

pub(super) async fn single(run: Run) -> Result<()> {
    const BENCH: &str = "accept_single";
    let measured = between(&run, 1).await?;
    tell(&measured.rate(BENCH).reaching(Reach::AtLeast(0.6)));
    let above = measured.ours.cpu_each - measured.front_cpu();
    tell(
        &Figure::new(
            BENCH,
            "cpu_above_front",
            above,
            "us/message",
            measured.how(),
        )
        .reaching(Reach::AtMost(10.0)),
    );
    Ok(())
}

/// The highest rate of single messages, to be halved by others.
pub(super) async fn highest_single(site: &Site, seconds: f64) -> Result<f64> {
    Ok(load(closed(site, 1, seconds)?).await?.driven.rate())
}
