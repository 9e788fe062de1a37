//! The harm itself: one thing at a time, by the dice, and when it is to end.

use std::time::Duration;

use rand::Rng;
use zajil_model::lease::NodeId;

use super::{Nemesis, Until};
use crate::rare::Rare;
use crate::wire::End;

/// How far a clock jumps: more than a node may be off that takes shards.
const CLOCK_OFF: i64 = 320;

/// Nodes of a world at most.
const MOST_NODES: u64 = 4;

impl Nemesis {
    /// Something goes wrong.
    pub(super) fn harm(&mut self) {
        let nodes: Vec<NodeId> = self.world.nodes.keys().copied().collect();
        let dice = self.world.random.random_range(0..100);
        if dice >= 96 && (nodes.len() as u64) < MOST_NODES {
            return self.join();
        }
        if nodes.is_empty() {
            return;
        }
        let node = nodes[self.world.random.random_range(0..nodes.len())];
        let lasts = Duration::from_millis(self.world.random.random_range(500..13_000));
        let until = self.now() + lasts;
        self.world
            .oracle
            .trace(|| format!("node {}: harm {dice} for {lasts:?}", node.0));
        match dice {
            ..20 => self.crash(node, until),
            20..36 => self.sleep(node, until),
            36..54 => self.cut_off(node, until),
            54..68 => self.part(node, until),
            68..76 => {
                let nonsense = self.world.random.random_bool(0.5);
                self.deaf.insert(node, nonsense);
                self.pending.push((until, Until::Gossip(node)));
            }
            76..80 => {
                let off = [CLOCK_OFF, -CLOCK_OFF][self.world.random.random_range(0..2)];
                self.world.nodes[&node].clock.wall_off(off);
                self.pending.push((until, Until::Clock(node)));
            }
            _ => self.leave(node),
        }
    }

    /// A node that was not there before.
    fn join(&mut self) {
        let new = self
            .world
            .folders
            .keys()
            .map(|node| node.0)
            .max()
            .unwrap_or(0)
            + 1;
        if new <= MOST_NODES {
            self.world.start(NodeId(new));
        }
    }

    fn crash(&mut self, node: NodeId, until: Duration) {
        if let Some(process) = self.world.nodes.get(&node) {
            if self.world.whatsapp.in_flight(process.number) > 0 {
                self.world.reached.note(Rare::InFlightAtDeath);
            }
            if process.leaving {
                self.world.reached.note(Rare::DiedInHandOver);
            }
        }
        self.world.end(node);
        self.pending.push((until, Until::Started(node)));
    }

    fn sleep(&mut self, node: NodeId, until: Duration) {
        let now = self.now();
        if let Some(process) = self.world.nodes.get_mut(&node)
            && !process.is_paused()
        {
            process.pause();
            self.pending.push((until, Until::Resumed(node, now)));
        }
    }

    /// The database is far away: nothing arrives, or no answers, or all of it late.
    fn cut_off(&mut self, node: NodeId, until: Duration) {
        let (here, wire) = (End::Node(node), &self.world.wire);
        match self.world.random.random_range(0..4) {
            0 => wire.cut(here, End::Store),
            1 => wire.cut(End::Store, here),
            2 => {
                wire.cut(here, End::Store);
                wire.cut(End::Store, here);
            }
            _ => {
                wire.slow(here, End::Store);
                wire.slow(End::Store, here);
            }
        }
        self.pending.push((until, Until::Mended(node)));
    }

    /// A node and another, or WhatsApp, do not reach each other, in one direction or both.
    fn part(&mut self, node: NodeId, until: Duration) {
        let others: Vec<NodeId> = self
            .world
            .nodes
            .keys()
            .copied()
            .filter(|it| *it != node)
            .collect();
        let mut ends: Vec<End> = others.into_iter().map(End::Node).collect();
        ends.push(End::WhatsApp);
        let other = ends[self.world.random.random_range(0..ends.len())];
        let (here, wire) = (End::Node(node), &self.world.wire);
        match self.world.random.random_range(0..3) {
            0 => wire.cut(here, other),
            1 => wire.cut(other, here),
            _ => {
                wire.cut(here, other);
                wire.cut(other, here);
            }
        }
        self.pending.push((until, Until::Mended(node)));
    }

    fn leave(&mut self, node: NodeId) {
        let Some(process) = self.world.nodes.get_mut(&node) else {
            return;
        };
        if process.leaving || process.engine().is_none() {
            return;
        }
        if self.world.whatsapp.in_flight(process.number) > 0 {
            self.world.reached.note(Rare::DrainedInFlight);
        }
        process.leave();
    }
}
