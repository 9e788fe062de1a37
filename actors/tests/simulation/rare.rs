//! States that seldom come about and that every run of many seeds has to reach: a rule that is
//! never put to the test proves nothing.

use std::collections::BTreeMap;

use parking_lot::Mutex;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rare {
    /// A process died while WhatsApp had not answered what it had handed over.
    InFlightAtDeath,
    /// A message was handed over by two processes, under one name.
    SentAgainByTheNextOwner,
    /// WhatsApp got a message again and did not show it again.
    ShownOnceOfTwo,
    /// A frame arrived after another process had handed something over for the same instance.
    LateFrame,
    /// An accept was written, and its owner did not hear of it in time.
    AcceptAppliedButTimedOut,
    /// A customer was told that nobody knows, and the messages were accepted.
    UnknownAndAccepted,
    /// A customer was told that nobody knows, and nothing was accepted.
    UnknownAndNotAccepted,
    /// An append of a former owner arrived after its epoch was sealed.
    LateAppend,
    /// An owner found out by a flush that it is none any more.
    FoundOutByFlush,
    /// A node that runs was declared dead while it held shards.
    Fenced,
    /// A node slept past the end of its lease with messages whose turn had come.
    SleptPastItsLease,
    /// A node left, and all its shards had been given away.
    Drained,
    /// A node left while WhatsApp had not answered what it had handed over.
    DrainedInFlight,
    /// A process died while it gave shards away.
    DiedInHandOver,
    /// A released shard was taken by another node than the one that was named.
    TakenByAnother,
    /// A question arrived at a node that did not own the shard any more.
    AskedTheWrongOwner,
    /// A question arrived after who asked had died.
    LateQuestion,
    /// A pause was asked for while the shard of its instance had no owner.
    PauseWhileMoving,
    /// An opt-out was asked for while some shard had no owner.
    OptOutWhileMoving,
    /// A barrier was answered with who had not confirmed it.
    BarrierNotConfirmed,
    /// A bulk over several shards while one of them had no owner.
    BulkWhileMoving,
    /// Messages under ids that were reserved earlier were accepted after others.
    AcceptedUnderReservedIds,
    /// Ids had been reserved by a former owner, and were reserved anew.
    SealedIds,
    /// A request with a key had been carried out, and its answer was given again.
    Replayed,
    /// A request with a key was repeated while its first try might still come to something.
    StillInFlight,
    /// A message was cancelled in time.
    Cancelled,
    /// Everything that waited for an instance was cancelled.
    Purged,
    /// A message was handed over to a WhatsApp that forgets ids, and nobody knows what became of it.
    UnknownForGood,
    /// A message waited and was held back by an opt-out.
    Suppressed,
    /// The part of a campaign was filled by two owners of its shard.
    PartFilledByTwoOwners,
    /// Rows of a campaign that had been answered were brought again to another owner.
    RowsRepeatedAfterTakeOver,
    /// Rows whose fate nobody knew were brought again.
    ChunkRepeated,
    /// The shard of a campaign changed hands while rows were brought.
    ParentMovedWhileFilling,
    /// A campaign was cancelled while rows were brought.
    CancelWhileFilling,
    /// Rows of a campaign reached the log after their epoch was sealed.
    LateRows,
    /// An instance did not confirm a change of a campaign.
    PartNotConfirmed,
    /// A campaign was paused, and all confirmed it.
    CampaignPaused,
    /// A campaign was cancelled, with rows sent and rows not.
    CampaignCancelledHalfway,
    /// A campaign ended by itself.
    CampaignFinished,
    /// A reader of the change feed was told something, and shards had changed hands since before.
    FeedAcrossOwners,
    /// The change feed stood still because a shard had no owner that answers.
    FeedWaits,
}

impl Rare {
    pub(crate) const ALL: [Self; 41] = [
        Self::InFlightAtDeath,
        Self::SentAgainByTheNextOwner,
        Self::ShownOnceOfTwo,
        Self::LateFrame,
        Self::AcceptAppliedButTimedOut,
        Self::UnknownAndAccepted,
        Self::UnknownAndNotAccepted,
        Self::LateAppend,
        Self::FoundOutByFlush,
        Self::Fenced,
        Self::SleptPastItsLease,
        Self::Drained,
        Self::DrainedInFlight,
        Self::DiedInHandOver,
        Self::TakenByAnother,
        Self::AskedTheWrongOwner,
        Self::LateQuestion,
        Self::PauseWhileMoving,
        Self::OptOutWhileMoving,
        Self::BarrierNotConfirmed,
        Self::BulkWhileMoving,
        Self::AcceptedUnderReservedIds,
        Self::SealedIds,
        Self::Replayed,
        Self::StillInFlight,
        Self::Cancelled,
        Self::Purged,
        Self::UnknownForGood,
        Self::Suppressed,
        Self::PartFilledByTwoOwners,
        Self::RowsRepeatedAfterTakeOver,
        Self::ChunkRepeated,
        Self::ParentMovedWhileFilling,
        Self::CancelWhileFilling,
        Self::LateRows,
        Self::PartNotConfirmed,
        Self::CampaignPaused,
        Self::CampaignCancelledHalfway,
        Self::CampaignFinished,
        Self::FeedAcrossOwners,
        Self::FeedWaits,
    ];
}

/// How often each was reached.
#[derive(Debug, Default)]
pub(crate) struct Reached(Mutex<BTreeMap<Rare, u64>>);

impl Reached {
    pub(crate) fn note(&self, rare: Rare) {
        *self.0.lock().entry(rare).or_default() += 1;
    }

    pub(crate) fn add(&self, other: &Self) {
        let other = other.0.lock().clone();
        for (rare, times) in other {
            *self.0.lock().entry(rare).or_default() += times;
        }
    }

    pub(crate) fn all(&self) -> BTreeMap<Rare, u64> {
        self.0.lock().clone()
    }

    pub(crate) fn missing(&self) -> Vec<Rare> {
        let reached = self.0.lock();
        Rare::ALL
            .into_iter()
            .filter(|rare| !reached.contains_key(rare))
            .collect()
    }
}
