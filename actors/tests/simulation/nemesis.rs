//! What goes wrong, by the dice: and then nothing any more, and everything has to be well.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use zajil_cluster::membership::Peer;
use zajil_model::lease::NodeId;

use crate::customers::Customers;
use crate::customers::campaign::Campaign;
use crate::rare::Rare;
use crate::readers::Readers;
use crate::variant::Variant;
use crate::verdict::{self, Verdict};
use crate::wire::End;
use crate::world::World;

mod harm;

/// How long things go wrong.
const TROUBLE_FOR: Duration = Duration::from_secs(40);

/// Within what time everything is settled when nothing is wrong any more: a lease that runs out, the
/// calm before balancing, a node to which nothing is given for 30 s, what was due later, a backlog at
/// its pace; and a retry whose time was named by a clock that was wrong.
const SETTLED_WITHIN: Duration = Duration::from_secs(480);

/// Longer than anything is on its way.
const LATE_FOR: Duration = Duration::from_secs(16);

/// How often gossip goes round.
const ROUND: Duration = Duration::from_millis(300);

/// How long a stopped process is still heard of.
const HEARD_FOR: Duration = Duration::from_millis(1_500);

/// Longer than a lease: who sleeps so long finds that it owns nothing.
const PAST_THE_LEASE: Duration = Duration::from_secs(5);

/// How often instances are resumed in peace until everything is settled: a resumption may be lost.
const RESUME_EVERY: Duration = Duration::from_secs(8);

/// How often somebody does something for a campaign in peace.
const CAMPAIGN_EVERY: Duration = Duration::from_millis(250);

/// How often somebody reads changes, at most, in milliseconds.
const READ_EVERY: std::ops::Range<u64> = 50..900;

/// Something to end.
#[derive(Clone, Copy, Debug)]
enum Until {
    Resumed(NodeId, Duration),
    Mended(NodeId),
    Started(NodeId),
    Clock(NodeId),
    Gossip(NodeId),
}

struct Nemesis {
    world: World,
    customers: Customers,
    pending: Vec<(Duration, Until)>,
    /// Nodes that hear and are heard of nobody, or believe nonsense.
    deaf: BTreeMap<NodeId, bool>,
    silent_since: BTreeMap<NodeId, Duration>,
    told: BTreeMap<NodeId, Vec<Peer>>,
    next_harm: Duration,
    next_ask: Duration,
    next_campaign: Duration,
    next_read: Duration,
    readers: Readers,
    next_round: Duration,
}

/// One run: a cluster of a few nodes, trouble, and the peace after it.
pub(crate) fn run(seed: u64, variant: Variant, tells: bool) -> Verdict {
    let mut world = World::new(seed, variant, tells);
    let nodes = world.random.random_range(2..=3);
    for node in 1..=nodes {
        world.start(NodeId(node));
    }
    world.settle_in();
    let customers = world.furnish();
    let mut nemesis = Nemesis::new(world, customers);
    nemesis.trouble();
    nemesis.peace();
    let Nemesis {
        mut world,
        customers,
        readers,
        ..
    } = nemesis;
    verdict::judge(&mut world, &customers, &readers)
}

impl World {
    /// Until every shard has an owner, and gossip has gone round.
    fn settle_in(&mut self) {
        let mut rounds = 0;
        while self.ready().len() < self.nodes.len() || !self.is_balanced() {
            self.gossip.spread();
            for _ in 0..100 {
                self.tick();
            }
            rounds += 1;
            assert!(rounds < 400, "a quiet world comes to rest");
        }
    }
}

impl Nemesis {
    fn new(world: World, customers: Customers) -> Self {
        let now = world.now();
        let readers = Readers::new(customers.account, Arc::clone(&world.oracle));
        Self {
            world,
            customers,
            pending: Vec::new(),
            deaf: BTreeMap::new(),
            silent_since: BTreeMap::new(),
            told: BTreeMap::new(),
            next_harm: now + Duration::from_secs(1),
            next_ask: now,
            next_campaign: now,
            next_read: now,
            readers,
            next_round: now,
        }
    }

    fn now(&self) -> Duration {
        self.world.now()
    }

    fn trouble(&mut self) {
        self.world.wire.set_calm(false);
        let end = self.now() + TROUBLE_FOR;
        while self.now() < end && self.world.oracle.what_is_wrong().is_none() {
            let now = self.now();
            if now >= self.next_harm {
                self.harm();
                let pause = self.world.random.random_range(300..5_000);
                self.next_harm = now + Duration::from_millis(pause);
            }
            if now >= self.next_ask {
                self.ask();
                let pause = self.world.random.random_range(20..500);
                self.next_ask = now + Duration::from_millis(pause);
            }
            if now >= self.next_campaign {
                self.campaign(false);
                let pause = self.world.random.random_range(20..600);
                self.next_campaign = now + Duration::from_millis(pause);
            }
            self.end_what_is_due(now);
            self.pass();
        }
    }

    /// Nothing is wrong any more.
    fn peace(&mut self) {
        self.world.oracle.trace(|| "peace".to_owned());
        self.world.wire.set_calm(true);
        let nodes: Vec<NodeId> = self.world.nodes.keys().copied().collect();
        for (_, until) in std::mem::take(&mut self.pending) {
            self.end(until);
        }
        let now = self.now();
        for node in nodes {
            if let Some(process) = self.world.nodes.get_mut(&node) {
                process.resume(now);
            }
        }
        let end = now + SETTLED_WITHIN;
        let mut resume_at = now + Duration::from_secs(1);
        let mut quiet_since = None;
        while self.now() < end && self.world.oracle.what_is_wrong().is_none() {
            if self.now() >= resume_at {
                resume_at = self.now() + RESUME_EVERY;
                self.resume_all();
            }
            if self.now() >= self.next_campaign {
                self.next_campaign = self.now() + CAMPAIGN_EVERY;
                self.campaign(true);
            }
            // Who was leaving when peace came starts again.
            self.end_what_is_due(self.now());
            self.pass();
            let rests = self.world.unsettled() == 0
                && self.world.is_balanced()
                && self.customers.all_answered()
                && self.customers.campaigns.iter().all(Campaign::is_over);
            let since = *quiet_since.get_or_insert(self.now());
            if !rests {
                quiet_since = None;
            } else if self.now() - since > LATE_FOR {
                return;
            }
        }
        if self.world.oracle.what_is_wrong().is_none() {
            let (left, balanced) = (self.world.unsettled(), self.world.is_balanced());
            let waits = self.world.what_waits(&self.customers.instances());
            let campaigns = &self.customers.campaigns;
            let going: Vec<&Campaign> = campaigns.iter().filter(|it| !it.is_over()).collect();
            self.world.oracle.wrong(&format!(
                "it does not come to rest: {left} unsettled, balanced: {balanced}{waits}\n  {going:?}"
            ));
        }
    }

    fn resume_all(&mut self) {
        let ready = self.world.ready();
        if ready.is_empty() {
            return;
        }
        let node = ready[self.world.random.random_range(0..ready.len())];
        self.customers.resume_all(&self.world.nodes[&node]);
        self.customers.repeat_all(&self.world.nodes[&node]);
    }

    fn ask(&mut self) {
        let Some(node) = self.some_node() else {
            return;
        };
        let mut random = self.world.random.clone();
        let world = &self.world;
        let moving = |shard| world.is_moving(shard);
        self.customers
            .ask(&mut random, &world.nodes[&node], &moving);
        self.world.random = random;
    }

    fn campaign(&mut self, peace: bool) {
        let Some(node) = self.some_node() else {
            return;
        };
        let mut random = self.world.random.clone();
        let (world, database) = (&self.world, &self.world.database);
        let epochs = |shard| database.epoch(shard).0;
        self.customers
            .campaign(&mut random, &world.nodes[&node], peace, &epochs);
        self.world.random = random;
    }

    /// A node at which somebody can ask.
    fn some_node(&mut self) -> Option<NodeId> {
        let mut ready = self.world.ready();
        ready.retain(|node| !self.world.nodes[node].is_paused());
        if ready.is_empty() {
            return None;
        }
        Some(ready[self.world.random.random_range(0..ready.len())])
    }

    fn read(&mut self) {
        let Some(node) = self.some_node() else {
            return;
        };
        let world = &mut self.world;
        let (now, takes) = (world.now(), world.database.takes());
        self.readers
            .read(&mut world.random, &world.nodes[&node], (now, takes));
    }

    fn pass(&mut self) {
        if self.now() >= self.next_read {
            self.read();
            let pause = self.world.random.random_range(READ_EVERY);
            self.next_read = self.now() + Duration::from_millis(pause);
        }
        if self.now() >= self.next_round {
            self.next_round = self.now() + ROUND;
            self.spread();
        }
        self.world.tick();
        self.bury();
    }

    /// Processes that ended by themselves are gone; their nodes start again later.
    fn bury(&mut self) {
        let over = self
            .world
            .nodes
            .values()
            .filter(|process| process.is_over());
        let over: Vec<(NodeId, bool)> = over.map(|it| (it.node, it.leaving)).collect();
        for (node, leaving) in over {
            if leaving {
                self.world.reached.note(Rare::Drained);
            }
            self.world.end(node);
            let due =
                self.now() + Duration::from_millis(self.world.random.random_range(200..4_000));
            self.pending.push((due, Until::Started(node)));
        }
    }

    fn end_what_is_due(&mut self, now: Duration) {
        let (due, rest) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition(|(at, _)| *at <= now);
        self.pending = rest;
        let due: Vec<(Duration, Until)> = due;
        for (_, until) in due {
            self.end(until);
        }
    }

    fn end(&mut self, until: Until) {
        let now = self.now();
        match until {
            Until::Resumed(node, since) => {
                let Some(process) = self.world.nodes.get_mut(&node) else {
                    return;
                };
                if now - since > PAST_THE_LEASE && process.store.unsettled() > 0 {
                    self.world.reached.note(Rare::SleptPastItsLease);
                }
                process.resume(now);
            }
            Until::Mended(node) => self.world.wire.mend(node),
            Until::Clock(node) => {
                if let Some(process) = self.world.nodes.get(&node) {
                    process.clock.wall_off(0);
                }
            }
            Until::Gossip(node) => drop(self.deaf.remove(&node)),
            Until::Started(node) => {
                if !self.world.nodes.contains_key(&node) {
                    self.world.start(node);
                }
            }
        }
    }

    /// Gossip goes round: each node hears of those that run and are heard, or something else.
    fn spread(&mut self) {
        let now = self.now();
        let nodes: Vec<NodeId> = self.world.folders.keys().copied().collect();
        for node in &nodes {
            let runs = self.world.nodes.get(node).is_some_and(|it| !it.is_paused());
            if runs {
                self.silent_since.remove(node);
            } else {
                self.silent_since.entry(*node).or_insert(now);
            }
        }
        for node in &nodes {
            let heard = |other: &&NodeId| {
                let lately = self
                    .silent_since
                    .get(other)
                    .is_none_or(|at| now - *at < HEARD_FOR);
                let reaches = !self.world.wire.is_cut(End::Node(**other), End::Node(*node));
                *other != node && lately && reaches && !self.deaf.contains_key(other)
            };
            let mut hears: Vec<NodeId> = nodes.iter().filter(heard).copied().collect();
            match self.deaf.get(node) {
                Some(true) => {
                    // It believes in whoever is dead, and in nobody who lives.
                    let all = nodes.iter().copied();
                    hears = all.filter(|other| !hears.contains(other)).collect();
                }
                Some(false) => hears.clear(),
                None => {}
            }
            self.tell(*node, &hears);
        }
    }

    fn tell(&mut self, node: NodeId, hears: &[NodeId]) {
        let gossip = &self.world.gossip;
        let said: Vec<Peer> = hears.iter().filter_map(|peer| gossip.said(*peer)).collect();
        if self.told.get(&node) != Some(&said) {
            gossip.lie(node, said.iter().cloned());
            self.told.insert(node, said);
        }
    }
}

impl World {
    /// What is not settled, as the owners say.
    pub(crate) fn unsettled(&self) -> u64 {
        let each = self.nodes.values().map(|process| process.store.unsettled());
        each.sum()
    }
}
