//! States that seldom come about and that every run has to reach: a rule that is never put to the
//! test proves nothing.

use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rare {
    /// A node that runs was declared dead while it served shards.
    FencedWhileServing,
    /// A node could not renew in time and went on in the same life.
    SuspendedAndBack,
    /// A renewal without an answer had applied.
    LostAnswerToRenewal,
    /// A change of a shard row without an answer had applied.
    LostAnswerToShard,
    /// An append of a former owner arrived after its epoch was sealed.
    LateAppend,
    /// Most peers looked dead, and were given one more lease.
    MassGuard,
    /// A challenge failed because the peer had renewed.
    ChallengeRefused,
    /// A second process of one name was refused.
    TwinRefused,
    /// A process found that another one had taken its name while it slept.
    TwinTookOver,
    /// A released shard was taken by another node than the one that was named.
    TakenByAnother,
    /// A node that was told to leave gave everything away.
    Drained,
    /// A node that was told to leave ran out of time.
    DrainCut,
    /// A node that crashed was back before its lease ran out, and knew that it was its own.
    QuickRestart,
    /// A node gave its shards away because its clock is wrong.
    ClockOff,
    /// A shard was lost while it opened.
    LostWhileOpening,
    /// A shard was opened with what its former owner handed over.
    HandedOver,
    /// A shard did not open, and was tried again.
    OpenFailed,
}

impl Rare {
    pub(crate) const ALL: [Self; 17] = [
        Self::FencedWhileServing,
        Self::SuspendedAndBack,
        Self::LostAnswerToRenewal,
        Self::LostAnswerToShard,
        Self::LateAppend,
        Self::MassGuard,
        Self::ChallengeRefused,
        Self::TwinRefused,
        Self::TwinTookOver,
        Self::TakenByAnother,
        Self::Drained,
        Self::DrainCut,
        Self::QuickRestart,
        Self::ClockOff,
        Self::LostWhileOpening,
        Self::HandedOver,
        Self::OpenFailed,
    ];
}

/// How often each was reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reached(pub(crate) BTreeMap<Rare, u64>);

impl Reached {
    pub(crate) fn note(&mut self, rare: Rare) {
        *self.0.entry(rare).or_default() += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (rare, times) in &other.0 {
            *self.0.entry(*rare).or_default() += times;
        }
    }

    pub(crate) fn missing(&self) -> Vec<Rare> {
        Rare::ALL
            .into_iter()
            .filter(|rare| !self.0.contains_key(rare))
            .collect()
    }
}
