//! The disk alone: appending and syncing, which bounds everything that is durable.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;

use crate::measure::{Stretch, micros, now};

/// A block as a full group commit has it: a thousand messages of 250 bytes.
pub(crate) const BLOCK: usize = 250_000;

/// A block as a group of single messages has it.
pub(crate) const SMALL_BLOCK: usize = 25_000;

/// The file is written once over, so that no size or block map changes while it is measured.
const FILE: u64 = 256 << 20;

/// What the disk did.
#[derive(Debug)]
pub(crate) struct Synced {
    /// Syncs a second.
    pub(crate) rate: f64,
    /// How long each write and its sync took, in microseconds.
    pub(crate) times: Histogram<u64>,
    /// CPU of it all.
    pub(crate) cpu: Duration,
    /// How many there were.
    pub(crate) count: u64,
}

/// Writes blocks one after the other into a file that is there already, each synced.
pub(crate) fn sync(dir: &Path, block: usize, seconds: f64) -> Result<Synced> {
    let file = prepared(&dir.join("disk.bench"))?;
    let bytes = vec![0x5a; block];
    let mut times = micros();
    let (mut at, mut count) = (0, 0);
    let stretch = Stretch::begin()?;
    while stretch.took().as_secs_f64() < seconds {
        let began = now();
        file.write_all_at(&bytes, at).context("cannot write")?;
        file.sync_data().context("cannot sync")?;
        times.saturating_record((now() - began).as_micros() as u64);
        count += 1;
        at += block as u64;
        if at + block as u64 > FILE {
            at = 0;
        }
    }
    let rate = count as f64 / stretch.took().as_secs_f64();
    Ok(Synced {
        rate,
        times,
        cpu: stretch.cpu()?,
        count,
    })
}

fn prepared(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)?;
    let zeros = vec![0; 1 << 20];
    for at in (0..FILE).step_by(zeros.len()) {
        file.write_all_at(&zeros, at)
            .context("cannot fill the file")?;
    }
    file.sync_all()?;
    Ok(file)
}
