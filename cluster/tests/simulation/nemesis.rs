//! What goes wrong, by the dice: and then nothing any more, and everything has to be well.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::Rng;
use tokio::time::{Instant, sleep};
use zajil_cluster::membership::Peer;
use zajil_model::lease::NodeId;

use crate::oracle::Verdict;
use crate::rare::Rare;
use crate::store::Way;
use crate::world::{Process, Variant, World};

/// How long things go wrong.
const TROUBLE_FOR: Duration = Duration::from_secs(45);

/// Within what time everything is owned and even when nothing is wrong any more: a lease that runs
/// out, the calm before balancing, and a node to which nothing is given for 30 s.
const SETTLED_WITHIN: Duration = Duration::from_secs(75);

/// How often the world is looked at, and gossip goes round.
const STEP: Duration = Duration::from_millis(500);

/// How long a stopped process is still heard of.
const HEARD_FOR: Duration = Duration::from_millis(1_500);

/// Something to end.
enum Until {
    Resumed(NodeId),
    Way(NodeId),
    Started(NodeId),
    Clock(NodeId),
    Gossip(NodeId),
    Link,
    Twin(Process),
}

pub(crate) struct Nemesis {
    pub(crate) world: World,
    pending: Vec<(Instant, Until)>,
    /// Nodes that hear and are heard of nobody, or believe nonsense.
    deaf: BTreeMap<NodeId, bool>,
    silent_since: BTreeMap<NodeId, Instant>,
    told: BTreeMap<NodeId, Vec<Peer>>,
    next: Instant,
}

/// One run: a cluster of a few nodes, trouble, and the peace after it.
pub(crate) async fn run(seed: u64, variant: Variant) -> Verdict {
    let mut nemesis = Nemesis::new(seed, variant);
    for node in 1..=nemesis.world.random.random_range(2..=4) {
        nemesis.start(NodeId(node));
    }
    nemesis.trouble().await;
    if !nemesis.world.oracle.is_wrong() {
        nemesis.peace().await;
    }
    nemesis.world.oracle.verdict()
}

impl Nemesis {
    fn new(seed: u64, variant: Variant) -> Self {
        let world = World::new(seed, variant);
        Self {
            world,
            pending: Vec::new(),
            deaf: BTreeMap::new(),
            silent_since: BTreeMap::new(),
            told: BTreeMap::new(),
            next: Instant::now() + Duration::from_secs(2),
        }
    }

    /// A cluster in which nothing goes wrong by itself, once it has settled.
    pub(crate) async fn quiet(nodes: u64) -> Self {
        let mut nemesis = Self::new(nodes, Variant::Whole);
        nemesis.world.store.calm();
        for node in 1..=nodes {
            nemesis.start(NodeId(node));
        }
        for process in nemesis.world.nodes.values() {
            process.worker.trouble.store(false, Ordering::Relaxed);
        }
        nemesis
            .until(Duration::from_secs(60), |world| world.unsettled().is_none())
            .await;
        nemesis
    }

    /// Lets time pass until something holds; answers how long it took.
    pub(crate) async fn until(
        &mut self,
        within: Duration,
        holds: impl Fn(&World) -> bool,
    ) -> Duration {
        let began = Instant::now();
        while !holds(&self.world) {
            assert!(
                began.elapsed() < within,
                "it does not hold after {within:?}"
            );
            self.round().await;
        }
        assert_eq!(self.world.oracle.verdict().wrong, None);
        began.elapsed()
    }

    /// Gossip neither hears a node nor tells it of others.
    pub(crate) fn unheard(&mut self, node: NodeId) {
        self.deaf.insert(node, false);
    }

    /// Lets time pass.
    pub(crate) async fn pass(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.round().await;
        }
    }

    async fn trouble(&mut self) {
        let end = Instant::now() + TROUBLE_FOR;
        while Instant::now() < end && !self.world.oracle.is_wrong() {
            let now = Instant::now();
            if now >= self.next {
                self.harm();
                let pause = self.world.random.random_range(500..5_000);
                self.next = now + Duration::from_millis(pause);
            }
            self.end_what_is_due(now);
            self.round().await;
        }
    }

    /// Nothing is wrong any more.
    async fn peace(&mut self) {
        for (_, until) in std::mem::take(&mut self.pending) {
            self.end(until);
        }
        self.world.store.calm();
        let nodes: Vec<NodeId> = self.world.nodes.keys().copied().collect();
        for node in nodes {
            self.world.nodes[&node].switch.resume();
        }
        let end = Instant::now() + SETTLED_WITHIN;
        let mut why = None;
        while Instant::now() < end && !self.world.oracle.is_wrong() {
            self.restart_what_ended();
            self.round().await;
            why = self.world.unsettled();
            if why.is_none() {
                break;
            }
        }
        for why in [why, self.world.leftovers()].into_iter().flatten() {
            self.world
                .oracle
                .wrong(&format!("although nothing is wrong: {why}"));
        }
        self.world.store.compare();
    }

    async fn round(&mut self) {
        self.spread();
        self.world.sample();
        sleep(STEP).await;
    }

    fn restart_what_ended(&mut self) {
        let over = |process: &&Process| !process.runs();
        let ended: Vec<NodeId> = self
            .world
            .nodes
            .values()
            .filter(over)
            .map(|process| process.node)
            .collect();
        for node in ended {
            self.start(node);
        }
        for process in self.world.nodes.values() {
            process.worker.trouble.store(false, Ordering::Relaxed);
        }
    }

    pub(crate) fn start(&mut self, node: NodeId) {
        self.world.start(node);
        self.told.remove(&node);
    }

    fn harm(&mut self) {
        let count = self.world.nodes.len() as u64;
        let node = NodeId(self.world.random.random_range(1..=count));
        let long = Duration::from_millis(self.world.random.random_range(300..14_000));
        let until = Instant::now() + long;
        match self.world.random.random_range(0..100) {
            0..18 => self.pause(node, until),
            18..34 => self.crash(node, until),
            34..58 => self.lose_the_store(node, until),
            58..66 => {
                let way = self.some_way();
                for node in 1..=count {
                    self.world.store.way(NodeId(node), way);
                    self.pending.push((until, Until::Way(NodeId(node))));
                }
            }
            66..78 => {
                let lies = self.world.random.random_bool(0.5);
                self.deaf.insert(node, lies);
                self.pending.push((until, Until::Gossip(node)));
            }
            78..83 => self.jump(node, until),
            83..88 => {
                self.world.network.cut.store(true, Ordering::Relaxed);
                self.pending.push((until, Until::Link));
            }
            88..95 => self.drain(node),
            _ => self.twin(node, until),
        }
    }

    /// A second process of one name; sometimes while the first one sleeps long enough to be
    /// declared dead.
    fn twin(&mut self, node: NodeId, until: Instant) {
        let mut until = until + Duration::from_secs(8);
        if self.world.random.random_bool(0.5) {
            self.pause(node, Instant::now() + Duration::from_secs(12));
            until += Duration::from_secs(12);
        }
        let twin = self.world.start_twin(node);
        self.pending.push((until, Until::Twin(twin)));
    }

    fn pause(&mut self, node: NodeId, until: Instant) {
        self.world.nodes[&node].switch.pause();
        self.pending.push((until, Until::Resumed(node)));
    }

    fn crash(&mut self, node: NodeId, until: Instant) {
        self.world.nodes[&node].kill.cancel();
        self.pending.push((until, Until::Started(node)));
    }

    fn lose_the_store(&mut self, node: NodeId, until: Instant) {
        let way = self.some_way();
        self.world.store.way(node, way);
        self.pending.push((until, Until::Way(node)));
    }

    fn some_way(&mut self) -> Way {
        [Way::Cut, Way::Deaf, Way::Slow][self.world.random.random_range(0..3)]
    }

    fn jump(&mut self, node: NodeId, until: Instant) {
        let off = if self.world.random.random_bool(0.5) {
            3_600
        } else {
            -3_600
        };
        self.world.nodes[&node].clock.wall_off(off);
        self.pending
            .push((until + Duration::from_secs(6), Until::Clock(node)));
    }

    fn drain(&mut self, node: NodeId) {
        let process = self.world.nodes[&node].clone();
        let deadline = Duration::from_millis(self.world.random.random_range(2_500..20_000));
        let oracle = self.world.oracle.clone();
        let after = Instant::now() + deadline + Duration::from_secs(2);
        self.pending.push((after, Until::Started(node)));
        self.world.tasks.spawn(async move {
            let report = process.cluster.drain(deadline).await;
            if report.cut > 0 {
                oracle.reached(Rare::DrainCut);
            } else if report.given > 0 {
                oracle.reached(Rare::Drained);
            }
        });
    }

    fn end_what_is_due(&mut self, now: Instant) {
        let (due, rest) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition(|(at, _)| *at <= now);
        self.pending = rest;
        let due: Vec<(Instant, Until)> = due;
        for (_, until) in due {
            self.end(until);
        }
    }

    fn end(&mut self, until: Until) {
        match until {
            Until::Resumed(node) => self.world.nodes[&node].switch.resume(),
            Until::Way(node) => self.world.store.way(node, Way::Open),
            Until::Clock(node) => self.world.nodes[&node].clock.wall_off(0),
            Until::Gossip(node) => drop(self.deaf.remove(&node)),
            Until::Link => self.world.network.cut.store(false, Ordering::Relaxed),
            Until::Twin(twin) => twin.kill.cancel(),
            Until::Started(node) => {
                // What was killed is over a moment later; what drains may go on for another one.
                let process = &self.world.nodes[&node];
                process.switch.resume();
                if !process.runs() {
                    self.start(node);
                }
            }
        }
    }

    /// Gossip goes round: each node hears of those that run and are heard, or something else.
    fn spread(&mut self) {
        let now = Instant::now();
        for process in self.world.nodes.values() {
            let silent = !process.runs() || process.switch.is_paused();
            if silent {
                self.silent_since.entry(process.node).or_insert(now);
            } else {
                self.silent_since.remove(&process.node);
            }
        }
        let nodes: Vec<NodeId> = self.world.nodes.keys().copied().collect();
        for node in &nodes {
            let heard = |other: &&NodeId| {
                let lately = self
                    .silent_since
                    .get(other)
                    .is_none_or(|at| now - *at < HEARD_FOR);
                *other != node && lately && !self.deaf.contains_key(other)
            };
            let mut hears: Vec<NodeId> = nodes.iter().filter(heard).copied().collect();
            match self.deaf.get(node) {
                Some(true) => {
                    // It believes in whoever is dead, and in nobody who lives.
                    hears = nodes
                        .iter()
                        .filter(|other| !hears.contains(other))
                        .copied()
                        .collect();
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
