//! A message, the store's word of it, two senders and a channel.

use std::collections::BTreeSet;
use std::time::Duration;

use zajil_model::id::{Epoch, MessageId, Shard, Tick};
use zajil_model::lease::shard::{Claims, Owner, ShardRow};
use zajil_model::lease::{Incarnation, NodeId};
use zajil_model::lifecycle::{Event, MessageState};
use zajil_model::message::OnAmbiguous;
use zajil_model::time::Timestamp;

use super::Channel;

/// When everything begins.
pub(crate) const START: Timestamp = Timestamp::from_seconds(1_800_000_000);

/// How far time goes at once: two of these, and a channel may have forgotten an id.
pub(crate) const WAIT: Duration = Duration::from_secs(400);

/// When the message expires, from the beginning.
pub(crate) const TTL: Duration = Duration::from_secs(1_200);

/// Where a sender is with its attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    /// It makes none.
    Idle,
    /// An attempt is on its way to the store.
    Recording,
    /// A claim is in the log, and its owner asks whether that counts.
    Claiming,
    /// It is durable, as far as the sender knows.
    Recorded,
    /// Its frame is past the lease check.
    Passed,
    /// Its frame left; what the channel answers, if it does.
    Flying(Option<Event>),
    /// An outcome is on its way to the store.
    Noting(Event),
}

/// An owner, as it sees itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Sender {
    pub(crate) epoch: Epoch,
    pub(crate) view: MessageState,
    pub(crate) claims: Claims,
    pub(crate) phase: Phase,
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) now: Timestamp,
    pub(crate) shard: ShardRow,
    pub(crate) stored: MessageState,
    pub(crate) nodes: [Option<Sender>; 2],
    /// What the channel remembers: when the message arrived first, and how often it was shown.
    pub(crate) arrived_at: Option<Timestamp>,
    pub(crate) arrived: BTreeSet<u8>,
    pub(crate) shown: u8,
    pub(crate) attempt_twice: bool,
    pub(crate) late_frame: bool,
    pub(crate) waits: u8,
    pub(crate) take_overs: u8,
    pub(crate) lost: u8,
    pub(crate) refusals: u8,
}

pub(crate) fn message() -> MessageId {
    MessageId::give(Tick(1), Shard::of(0))
}

impl State {
    /// The first node owns the shard, and the message waits.
    pub(crate) fn begin(channel: Channel) -> Self {
        // Where everything may be repeated, one change of owners already makes many ways.
        let repeated = !channel.idempotent && channel.on_ambiguous == OnAmbiguous::Resend;
        let shard = ShardRow {
            owner: Some(owner(0)),
            epoch: Epoch(1),
            next: None,
        };
        let first = Sender {
            epoch: shard.epoch,
            view: MessageState::default(),
            claims: Claims::default(),
            phase: Phase::Idle,
        };
        Self {
            now: START,
            shard,
            stored: MessageState::default(),
            nodes: [Some(first), None],
            arrived_at: None,
            arrived: BTreeSet::new(),
            shown: 0,
            attempt_twice: false,
            late_frame: false,
            waits: 3,
            take_overs: if repeated { 1 } else { 2 },
            lost: 2,
            refusals: 1,
        }
    }
}

pub(crate) fn owner(n: usize) -> Owner {
    Owner {
        node: NodeId(n as u64 + 1),
        incarnation: Incarnation(1),
    }
}
