//! What share of the machine others used while several processes of ours worked.

use std::time::Duration;

use anyhow::Result;

use crate::measure::{Stretch, cpu_of, cpu_of_children};

/// A stretch in which everything works that belongs to a cluster.
#[derive(Debug)]
pub(crate) struct Together {
    stretch: Stretch,
    before: Duration,
    /// The processes of the database.
    database: Vec<u32>,
}

impl Together {
    /// Begins now.
    pub(super) fn begin(database: Vec<u32>) -> Result<Self> {
        Ok(Self {
            stretch: Stretch::begin()?,
            before: cpu_of_all(&database)?,
            database,
        })
    }

    /// How long it took until now.
    pub(crate) fn took(&self) -> Duration {
        self.stretch.took()
    }

    /// The share of the machine's time that others used: neither this process nor the nodes,
    /// the made-up WhatsApp, the load or the database, where that was started for the run.
    pub(crate) fn others(&self) -> Result<f64> {
        let ours = cpu_of_all(&self.database)?;
        self.stretch.foreign(ours.saturating_sub(self.before))
    }
}

/// CPU of everything that belongs to a cluster, but for this process.
fn cpu_of_all(database: &[u32]) -> Result<Duration> {
    let mut all = cpu_of_children()?;
    for process in database {
        all += cpu_of(*process)?;
    }
    Ok(all)
}
