//! What is read of the system: time, CPU and memory of a process.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;

/// The kernel counts the CPU of a process in hundredths of a second.
const TICK: Duration = Duration::from_millis(10);

/// Where a process's line in `/proc` says what it used, user time and then system time, counted from
/// its state, which follows the name.
const SPENT: usize = 11;

/// Where it says what its children used that ended and were waited for.
const REAPED: usize = 13;

/// The time: benchmarks measure the real one.
#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark measures the real time"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// CPU that this process used since it began, user and system, threads that ended included.
pub(crate) fn cpu() -> Result<Duration> {
    cpu_in("/proc/self/stat")
}

/// The same of another process.
pub(crate) fn cpu_of(pid: u32) -> Result<Duration> {
    cpu_in(&format!("/proc/{pid}/stat"))
}

fn cpu_in(file: &str) -> Result<Duration> {
    let line = fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
    ticks_of(&line).with_context(|| format!("{file} is not what it should be"))
}

/// CPU of all children of this process, of those that ended and were waited for too.
pub(crate) fn cpu_of_children() -> Result<Duration> {
    let own = fs::read_to_string("/proc/self/stat").context("cannot read /proc/self/stat")?;
    let mut all = ticks(&own, REAPED).context("/proc/self/stat is not what it should be")?;
    let this = std::process::id().to_string();
    for process in fs::read_dir("/proc")
        .context("cannot list /proc")?
        .flatten()
    {
        // Whatever is no process has no such file, and a process may end between the two.
        let Ok(line) = fs::read_to_string(process.path().join("stat")) else {
            continue;
        };
        let fields = line
            .rsplit_once(')')
            .map(|(_, rest)| rest.split_whitespace());
        if fields.and_then(|mut fields| fields.nth(1)) == Some(&this) {
            all += ticks_of(&line).unwrap_or_default();
        }
    }
    Ok(all)
}

/// CPU of each kind of thread of this process, by name without its number.
pub(crate) fn cpu_by_thread() -> BTreeMap<String, Duration> {
    let mut by_name = BTreeMap::new();
    let Ok(tasks) = fs::read_dir("/proc/self/task") else {
        return by_name;
    };
    for task in tasks.flatten() {
        // A thread may end between the two.
        let Ok(line) = fs::read_to_string(task.path().join("stat")) else {
            continue;
        };
        let Some(name) = line
            .split_once('(')
            .and_then(|(_, rest)| rest.rsplit_once(')'))
        else {
            continue;
        };
        let name = name
            .0
            .trim_end_matches(|c: char| c.is_ascii_digit() || c == '-');
        *by_name.entry(name.to_owned()).or_default() += ticks_of(&line).unwrap_or_default();
    }
    by_name
}

fn ticks_of(line: &str) -> Option<Duration> {
    ticks(line, SPENT)
}

fn ticks(line: &str, first: usize) -> Option<Duration> {
    let (_, rest) = line.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(first);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some(TICK * (user + system))
}

/// Memory of this process in bytes: its proportional set, of which shared pages count in part.
pub(crate) fn memory() -> Result<u64> {
    let text = fs::read_to_string("/proc/self/smaps_rollup")
        .context("cannot read /proc/self/smaps_rollup")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Pss:"))
        .context("no Pss line")?;
    let kib = line.trim().trim_end_matches("kB").trim();
    Ok(kib.parse::<u64>().context("Pss is no number")? << 10)
}

/// Time that the processors of this machine were busy since it began, and had in all.
fn processors() -> Result<(Duration, Duration)> {
    let text = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    let line = text.lines().next().context("/proc/stat is empty")?;
    let fields: Vec<u64> = line
        .split_whitespace()
        .skip(1)
        .take(8)
        .map_while(|field| field.parse().ok())
        .collect();
    let all: u64 = fields.iter().sum();
    // The fourth field is idle time, the fifth idle time while something is read or written.
    let idle: u64 = fields.iter().skip(3).take(2).sum();
    let time = |ticks: u64| Duration::from_millis(ticks * 10);
    Ok((time(all - idle), time(all)))
}

/// What a stretch of work took.
#[derive(Debug)]
pub(crate) struct Stretch {
    began: Instant,
    cpu: Duration,
    processors: (Duration, Duration),
    threads: BTreeMap<String, Duration>,
}

impl Stretch {
    /// Begins now.
    pub(crate) fn begin() -> Result<Self> {
        Ok(Self {
            began: now(),
            cpu: cpu()?,
            processors: processors()?,
            threads: cpu_by_thread(),
        })
    }

    /// How long it took until now.
    pub(crate) fn took(&self) -> Duration {
        now() - self.began
    }

    /// CPU that this process used for it until now.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        Ok(cpu()?.saturating_sub(self.cpu))
    }

    /// The share of the machine's time that others used: neither this process nor what used
    /// `driver`. Above a tenth, rates say little, and each message costs more than it would.
    pub(crate) fn foreign(&self, driver: Duration) -> Result<f64> {
        let (busy, all) = processors()?;
        let ours = (self.cpu()? + driver).as_secs_f64();
        let busy = busy.saturating_sub(self.processors.0).as_secs_f64();
        let all = all.saturating_sub(self.processors.1).as_secs_f64();
        let share = (busy - ours).max(0.0) / all.max(1e-9);
        Ok((share * 100.0).round() / 100.0)
    }

    /// Microseconds of CPU that each of `messages` took, by kind of thread.
    pub(crate) fn by_thread(&self, messages: u64) -> BTreeMap<String, f64> {
        let each = |spent: Duration| {
            let exact = spent.as_secs_f64() * 1e6 / messages.max(1) as f64;
            (exact * 1_000.0).round() / 1_000.0
        };
        let spent = cpu_by_thread().into_iter().map(|(name, total)| {
            let before = self.threads.get(&name).copied().unwrap_or_default();
            (name, each(total.saturating_sub(before)))
        });
        spent.filter(|(_, spent)| *spent > 0.0).collect()
    }
}

/// Microseconds of CPU a message.
pub(crate) fn each(cpu: Duration, messages: u64) -> f64 {
    cpu.as_secs_f64() * 1e6 / messages.max(1) as f64
}

/// A histogram of microseconds up to ten minutes, exact to three digits.
pub(crate) fn micros() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 600_000_000, 3).expect("the bounds are right")
}

/// The middle of some values; 0 of none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_of_a_line_is_user_and_system_time() {
        let line = "12 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 250 50 4 3 20 0";

        assert_eq!(ticks_of(line), Some(Duration::from_secs(3)));
        assert_eq!(ticks(line, REAPED), Some(Duration::from_millis(70)));
    }

    #[test]
    fn a_process_that_works_uses_cpu() {
        let stretch = Stretch::begin().unwrap();
        while stretch.cpu().unwrap() < TICK {}

        assert!(memory().unwrap() > 100_000);
    }
}
