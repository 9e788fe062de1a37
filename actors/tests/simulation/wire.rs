//! What is on its way between the machines of a simulated world.
//!
//! Nothing crosses from one machine to another but by the wire: a request to the store, its answer,
//! a question between nodes, a frame to WhatsApp. Each parcel has a time at which it arrives, in
//! true time, whatever became of its sender meanwhile. So a request arrives that nobody waits for
//! any more, and a frame of a node that is dead.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use zajil_model::lease::NodeId;

/// How long what got lost is kept, so that who waits for it waits as long as they like.
const NEVER: Duration = Duration::from_secs(120);

/// A machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum End {
    Node(NodeId),
    Store,
    WhatsApp,
}

/// How many of a thousand parcels of a kind wait somewhere for seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lateness {
    Never = 0,
    Seldom = 4,
    /// Plain writes, which servers of a database hand on to each other.
    Often = 25,
}

type Parcel = Box<dyn FnOnce() + Send>;

struct Inside {
    now: Duration,
    sent: u64,
    parcels: BTreeMap<(Duration, u64), Option<Parcel>>,
    lost: BTreeMap<(Duration, u64), Parcel>,
    random: SmallRng,
    cut: BTreeSet<(End, End)>,
    slow: BTreeSet<(End, End)>,
    calm: bool,
}

/// All that is on its way; clones are the same.
#[derive(Clone)]
pub(crate) struct Wire(Arc<Mutex<Inside>>);

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire")
            .field("on_their_way", &self.0.lock().parcels.len())
            .finish()
    }
}

impl Wire {
    /// A wire on which nothing goes wrong yet.
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Inside {
            now: Duration::ZERO,
            sent: 0,
            parcels: BTreeMap::new(),
            lost: BTreeMap::new(),
            random: SmallRng::seed_from_u64(seed),
            cut: BTreeSet::new(),
            slow: BTreeSet::new(),
            calm: true,
        })))
    }

    /// True time since the world began.
    pub(crate) fn now(&self) -> Duration {
        self.0.lock().now
    }

    /// Time goes on: what is due arrives, in order.
    pub(crate) fn pass(&self, now: Duration) {
        loop {
            let parcel = {
                let mut inside = self.0.lock();
                match inside.parcels.first_key_value() {
                    Some(((at, _), _)) if *at <= now => {
                        inside.now = inside.now.max(*at);
                        inside.parcels.pop_first().and_then(|(_, parcel)| parcel)
                    }
                    _ => break,
                }
            };
            if let Some(parcel) = parcel {
                parcel();
            }
        }
        let over = {
            let mut inside = self.0.lock();
            inside.now = now;
            let kept = inside.lost.split_off(&(now, 0));
            std::mem::replace(&mut inside.lost, kept)
        };
        drop(over);
    }

    /// Sends a parcel from one machine to another; it may get lost. Answers when it arrives.
    pub(crate) fn send(
        &self,
        (from, to): (End, End),
        late: Lateness,
        parcel: impl FnOnce() + Send + 'static,
    ) -> Option<Duration> {
        let way = self.way((from, to), late);
        match way {
            Some(takes) => Some(self.deliver(self.now() + takes, parcel)),
            None => {
                self.lose(parcel);
                None
            }
        }
    }

    /// How long the way takes now; `None` when what sets out gets lost.
    pub(crate) fn way(&self, way: (End, End), late: Lateness) -> Option<Duration> {
        let mut inside = self.0.lock();
        let quick = Duration::from_millis(inside.random.random_range(3..10));
        let slow = Duration::from_millis(inside.random.random_range(300..2_500));
        let long = Duration::from_millis(inside.random.random_range(1_000..14_000));
        let dice = inside.random.random_range(0..1_000);
        if inside.cut.contains(&way) {
            return None;
        }
        if inside.slow.contains(&way) {
            return Some(slow);
        }
        if inside.calm {
            return Some(quick);
        }
        match dice {
            ..4 => None,
            dice if dice < 4 + late as u32 => Some(long),
            _ => Some(quick),
        }
    }

    /// A parcel arrives at that time, certainly.
    pub(crate) fn deliver(&self, at: Duration, parcel: impl FnOnce() + Send + 'static) -> Duration {
        let mut inside = self.0.lock();
        inside.sent += 1;
        let key = (at.max(inside.now), inside.sent);
        inside.parcels.insert(key, Some(Box::new(parcel)));
        key.0
    }

    /// A parcel gets lost: nobody is told.
    pub(crate) fn lose(&self, parcel: impl FnOnce() + Send + 'static) {
        let mut inside = self.0.lock();
        inside.sent += 1;
        let key = (inside.now + NEVER, inside.sent);
        inside.lost.insert(key, Box::new(parcel));
    }

    /// A number by the dice.
    pub(crate) fn dice(&self, range: std::ops::Range<u64>) -> u64 {
        self.0.lock().random.random_range(range)
    }

    /// What sets out on this way gets lost from now on.
    pub(crate) fn cut(&self, from: End, to: End) {
        self.0.lock().cut.insert((from, to));
    }

    /// What sets out on this way takes seconds from now on.
    pub(crate) fn slow(&self, from: End, to: End) {
        self.0.lock().slow.insert((from, to));
    }

    /// Whether what sets out on this way gets lost.
    pub(crate) fn is_cut(&self, from: End, to: End) -> bool {
        self.0.lock().cut.contains(&(from, to))
    }

    /// Nothing is wrong with the ways of a node any more.
    pub(crate) fn mend(&self, node: NodeId) {
        let end = End::Node(node);
        let mut inside = self.0.lock();
        inside.cut.retain(|(from, to)| *from != end && *to != end);
        inside.slow.retain(|(from, to)| *from != end && *to != end);
    }

    /// From now on parcels get lost or late by chance, or no longer do; what was cut is mended.
    pub(crate) fn set_calm(&self, calm: bool) {
        let mut inside = self.0.lock();
        inside.calm = calm;
        if calm {
            inside.cut.clear();
            inside.slow.clear();
        }
    }
}
