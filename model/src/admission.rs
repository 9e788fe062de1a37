//! How much may be accepted at once, and how those are told who are turned away.
//!
//! What is let in beyond what becomes durable at once only waits, and so does all that comes after
//! it. [`Admission`] therefore bounds what is in flight by what it is *for*: that the wait stays
//! short. It follows the wait that it sees, so it fits a slow disk and a fast one.
//!
//! A refusal costs work, too. Who asks again as soon as they are refused would take all of it:
//! [`Refusals`] answers few at once and the others later, when they may ask again.

use std::time::Duration;

use crate::time::Mono;

/// Accepts that may always be in flight: a group commit of fewer wastes the disk, and a client
/// with a usual pool of connections is never refused.
pub const LEAST_LIMIT: usize = 128;

/// Accepts in flight at most, however short the wait is.
pub const LARGEST_LIMIT: usize = 4_096;

/// The wait that is always allowed, in the mean: some commits of a fast disk.
pub const LEAST_WAIT: Duration = Duration::from_millis(2);

/// The wait that is allowed on a slow disk, in waits of an accept that meets few others: its own
/// commit, the one that runs when it comes, and as much again.
pub const QUIET_WAITS: u32 = 4;

/// An accept met few others when at most so many were in flight.
const QUIET: usize = 16;

/// The share by which one quiet wait moves what is known of them.
const QUIET_SHARE: f64 = 1.0 / 16.0;

/// How long waits are looked at before the limit is moved: dozens of commits of a fast disk.
pub const LOOK: Duration = Duration::from_millis(50);

/// By which factor the limit moves at most.
const DOWN: f64 = 0.5;
const UP: f64 = 1.25;

/// Bounds what is being accepted by how long it waits.
#[derive(Clone, Debug)]
pub struct Admission {
    limit: f64,
    /// The mean wait of accepts that met few others, in seconds; `None` before the first.
    quiet: Option<f64>,
    look: Looked,
}

/// What was seen since the limit was last moved.
#[derive(Clone, Copy, Debug)]
struct Looked {
    since: Mono,
    waits: f64,
    count: u32,
    /// Somebody was refused: the limit is what holds the load back.
    refused: bool,
}

impl Looked {
    const fn since(now: Mono) -> Self {
        Self {
            since: now,
            waits: 0.0,
            count: 0,
            refused: false,
        }
    }
}

impl Admission {
    /// A bound that knows nothing yet.
    pub const fn new(now: Mono) -> Self {
        Self {
            limit: LEAST_LIMIT as f64,
            quiet: None,
            look: Looked::since(now),
        }
    }

    /// How many accepts may be in flight.
    pub const fn limit(&self) -> usize {
        self.limit as usize
    }

    /// The wait that is allowed, in the mean.
    pub fn allowed_wait(&self) -> Duration {
        let by_disk = self.quiet.unwrap_or(0.0) * f64::from(QUIET_WAITS);
        LEAST_WAIT.max(Duration::from_secs_f64(by_disk))
    }

    /// Somebody was refused because of the limit.
    pub const fn refused(&mut self) {
        self.look.refused = true;
    }

    /// An accept is over that waited for so long, with `beside` others in flight when it began.
    pub fn accepted(&mut self, waited: Duration, beside: usize, now: Mono) {
        let waited = waited.as_secs_f64();
        if beside <= QUIET {
            let quiet = self.quiet.get_or_insert(waited);
            *quiet += (waited - *quiet) * QUIET_SHARE;
        }
        self.look.waits += waited;
        self.look.count += 1;
        if now.since(self.look.since) >= LOOK {
            self.adjust(now);
        }
    }

    /// By Little's law, so many are in flight for a mean wait as the limit times its ratio to the
    /// allowed one.
    fn adjust(&mut self, now: Mono) {
        let looked = std::mem::replace(&mut self.look, Looked::since(now));
        let mean = looked.waits / f64::from(looked.count.max(1));
        let ratio = self.allowed_wait().as_secs_f64() / mean.max(1e-9);
        // Where nobody was refused a larger limit would be a guess.
        let most = if looked.refused { UP } else { 1.0 };
        let limit = self.limit * ratio.clamp(DOWN, most);
        self.limit = limit.clamp(LEAST_LIMIT as f64, LARGEST_LIMIT as f64);
    }
}

/// Refusals that are answered at once, in a row: a burst of a client is told so without delay.
pub const REFUSED_AT_ONCE: u32 = 100;

/// Refusals a second that are answered without delay: a few hundredths of a processor.
pub const REFUSALS_PER_SECOND: u32 = 1_000;

/// How long a refusal is kept back at most: as long as whoever is refused is asked to wait.
pub const REFUSED_FOR: Duration = Duration::from_secs(1);

/// Refusals that are kept back, from which on more clients want something than a node has to do
/// with when it is not overloaded.
pub const CROWD: usize = 256;

/// The wait for a processor above which a crowd is not let in. What is behind it in the queue has
/// waited for longer than what is accepted may.
pub const LATE: Duration = Duration::from_millis(3);

/// One of a crowd is let in this often whatever the wait: it may be others on the machine who
/// make it long, and then refusing does not shorten it.
pub const LET_IN_EVERY: Duration = Duration::from_millis(1);

/// The golden ratio's fraction: multiples of it are spread over 0..1 as evenly as can be, however
/// many there are.
const GOLDEN: f64 = 0.618_033_988_749_895;

/// When refusals are told.
#[derive(Clone, Debug, Default)]
pub struct Refusals {
    /// When all that are owed are told, at that many a second.
    told: Mono,
    /// How many were kept back for long.
    late: u32,
    /// How many are kept back now.
    waiting: usize,
    /// How much longer than it should the last one was kept back: the wait for a processor.
    lag: Duration,
    /// When one of a crowd was let in although that was long.
    let_in_at: Mono,
}

impl Refusals {
    /// A refusal is kept back; it has to come to its [`end`](Self::end).
    pub const fn begin(&mut self) {
        self.waiting += 1;
    }

    /// A refusal is not kept back any more; it was by `lag` longer than it should have been.
    pub const fn end(&mut self, lag: Option<Duration>) {
        self.waiting = self.waiting.saturating_sub(1);
        if let Some(lag) = lag {
            self.lag = lag;
        }
    }

    /// Whether a new request may come in. What waits for a processor before it is read is seen by
    /// nobody: but those who were refused tell by how late they wake how long that is.
    pub fn lets_in(&mut self, now: Mono) -> bool {
        let late = self.waiting > CROWD && self.lag > LATE;
        if late && now.since(self.let_in_at) < LET_IN_EVERY {
            return false;
        }
        self.let_in_at = now;
        true
    }

    /// How long to keep back a refusal that is due now.
    pub fn wait(&mut self, now: Mono) -> Duration {
        let each = Duration::from_secs(1) / REFUSALS_PER_SECOND;
        let told = self.told.max(now) + each;
        let at_once = now + each * REFUSED_AT_ONCE;
        if told <= at_once + REFUSED_FOR {
            self.told = told;
            return told.since(at_once);
        }
        // More than that are not queued. They were refused together, and must not come again
        // together: they wait for half of the longest time, and a part of the other half.
        self.late = self.late.wrapping_add(1);
        let part = (f64::from(self.late) * GOLDEN).fract();
        REFUSED_FOR.mul_f64(0.5 + 0.5 * part)
    }
}
