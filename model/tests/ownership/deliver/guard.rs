//! The rules of attempts, each of which can be left out.

use zajil_model::id::Epoch;
use zajil_model::lease::Lease;
use zajil_model::lease::leave::may_leave;
use zajil_model::lease::shard::ShardRow;
use zajil_model::lifecycle::{Event, MessageState};
use zajil_model::message::OnAmbiguous;
use zajil_model::retry::{AfterAmbiguous, after_ambiguous, may_go_again};
use zajil_model::time::{Mono, Timestamp};

use super::Channel;

/// What can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guard {
    /// An attempt is durable before its frame leaves.
    AttemptRecorded,
    /// A frame leaves under a good lease only.
    LeaseChecked,
    /// Every attempt carries the same WhatsApp id.
    SameId,
    /// Nothing is sent again when the channel may have forgotten it, however long it waited.
    AgainWithinTenMinutes,
    /// What may have gone is never said to have expired.
    DoubtKept,
    /// Not even when a later attempt was refused.
    DoubtOutlastsRefusal,
    /// A claim is durable before its frame leaves.
    ClaimRecorded,
    /// And the shard was still its owner's after that, by the store's word.
    ClaimConfirmed,
    /// A new owner takes open claims for ambiguous attempts.
    OpenClaimsRead,
    /// An ambiguous attempt is not repeated where the channel cannot tell.
    UnknownNotRepeated,
}

/// Each of them.
pub(crate) const GUARDS: &[Guard] = &[
    Guard::AttemptRecorded,
    Guard::LeaseChecked,
    Guard::SameId,
    Guard::AgainWithinTenMinutes,
    Guard::DoubtKept,
    Guard::DoubtOutlastsRefusal,
    Guard::ClaimRecorded,
    Guard::ClaimConfirmed,
    Guard::OpenClaimsRead,
    Guard::UnknownNotRepeated,
];

impl Guard {
    /// Where it matters.
    pub(crate) const fn channel(self) -> Channel {
        Channel {
            idempotent: matches!(
                self,
                Self::AttemptRecorded
                    | Self::LeaseChecked
                    | Self::SameId
                    | Self::AgainWithinTenMinutes
                    | Self::DoubtKept
                    | Self::DoubtOutlastsRefusal
            ),
            on_ambiguous: OnAmbiguous::Unknown,
        }
    }
}

/// The rules, as this world asks them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) channel: Channel,
    pub(crate) left_out: Option<Guard>,
}

impl Rules {
    pub(crate) fn lack(&self, guard: Guard) -> bool {
        self.left_out == Some(guard)
    }

    /// Whether a frame goes before anything of it is durable.
    pub(crate) fn goes_unrecorded(&self) -> bool {
        self.lack(Guard::AttemptRecorded) || self.lack(Guard::ClaimRecorded)
    }

    pub(crate) fn confirms(&self, shard: &ShardRow, epoch: Epoch) -> bool {
        shard.admits(epoch) || self.lack(Guard::ClaimConfirmed)
    }

    /// Whether a frame passes the check of the lease. By claims it always does: they hold whatever
    /// clocks say.
    pub(crate) fn may_leave(&self, deposed: bool, epoch: Epoch) -> bool {
        let now = Mono::default() + zajil_model::lease::GOOD_FOR;
        let is_checked = self.channel.idempotent && !self.lack(Guard::LeaseChecked);
        let over = deposed && is_checked;
        let lease = Lease::granted(if over { Mono::default() } else { now });
        may_leave(lease.send_until(), now, Some(epoch), Some(epoch)).is_ok()
    }

    /// Whether an attempt that is not the first may still go.
    pub(crate) fn may_go_again(&self, view: &MessageState, now: Timestamp) -> bool {
        let first = view.first_attempt_at.unwrap_or(now);
        let may = !view.doubtful || may_go_again(first, now);
        may || !self.channel.idempotent || self.lack(Guard::AgainWithinTenMinutes)
    }

    pub(crate) fn repeats(&self, view: &MessageState, now: Timestamp) -> bool {
        if self.lack(Guard::UnknownNotRepeated) {
            return true;
        }
        let first = view.first_attempt_at.unwrap_or(now);
        let Channel {
            idempotent,
            on_ambiguous,
        } = self.channel;
        let after = after_ambiguous(idempotent, first, view.attempts, on_ambiguous, now);
        after != AfterAmbiguous::Unknown
    }

    /// Something became known of a message.
    pub(crate) fn note(&self, state: &mut MessageState, event: Event, now: Timestamp) {
        state.apply(event, now);
        if self.lack(Guard::DoubtOutlastsRefusal) {
            state.doubtful = false;
        }
    }

    /// How a message ends whose time ran out.
    pub(crate) fn expired(&self, view: &MessageState) -> Event {
        if view.may_have_gone() && !self.lack(Guard::DoubtKept) {
            Event::Unknown
        } else {
            Event::Expired
        }
    }
}
