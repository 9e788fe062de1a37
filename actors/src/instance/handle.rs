//! What the rest of the node holds of an instance: the way in, and what it shows.
//!
//! A handle outlives the actor behind it: the actor may fail and be started again, and who holds
//! the handle notices nothing. Accepting needs no turn in the mailbox: the edge appends to the
//! log and then tells the actor, as far as the actor has granted credit. What it was not told of
//! it reads from the log.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use ractor::ActorRef;
use zajil_model::id::{AccountId, InstanceId, MessageId, Shard};
use zajil_model::instance::{CloseReason, Session};
use zajil_model::message::{Chunk, Lane};
use zajil_model::phone::Phone;
use zajil_model::time::Timestamp;

use crate::instance::InstanceMsg;
use crate::instance::expiries::Expiries;
use crate::timer::Wake;

/// The bit of the gate that says: closed for ever, ask for a new handle.
const CLOSED: u32 = 1 << 31;

/// What everybody may see of an instance without asking its actor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// Its session.
    pub session: Session,
    /// Since when.
    pub since: Timestamp,
    /// Until when WhatsApp restricts it.
    pub restricted_until: Option<Timestamp>,
    /// Its number, once known.
    pub phone: Option<Phone>,
}

/// How much the actor wants to be told of, for one lane of single messages.
#[derive(Debug)]
struct Credit {
    /// Messages that the actor has room for; their chunks are sent to it.
    messages: AtomicI64,
    /// Something was accepted that the actor was not told of: it has to read the log.
    missed: AtomicBool,
    /// The lowest id of what it was not told of and may have read past; [`NONE_LATE`] is none.
    late: AtomicU64,
    /// What it was not told of, by expiry.
    unread: Mutex<Expiries>,
}

/// Above every id.
const NONE_LATE: u64 = u64::MAX;

impl Default for Credit {
    fn default() -> Self {
        Self {
            messages: AtomicI64::new(0),
            missed: AtomicBool::new(false),
            late: AtomicU64::new(NONE_LATE),
            unread: Mutex::default(),
        }
    }
}

/// A handle on one instance of this node.
pub struct Handle {
    instance: InstanceId,
    account: AccountId,
    shard: Shard,
    /// Held while ids are given and appended, so that the log is in the order of the ids.
    order: Mutex<()>,
    entrants: AtomicU32,
    credits: [Credit; 2],
    shown: Mutex<Shown>,
    damaged: AtomicBool,
    actor: RwLock<Option<ActorRef<InstanceMsg>>>,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("instance", &self.instance)
            .finish_non_exhaustive()
    }
}

/// Somebody is inside: the actor does not leave meanwhile.
#[derive(Debug)]
pub struct Entered(Arc<Handle>);

impl std::ops::Deref for Entered {
    type Target = Arc<Handle>;

    fn deref(&self) -> &Arc<Handle> {
        &self.0
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.entrants.fetch_sub(1, Ordering::AcqRel);
    }
}

const fn slot(lane: Lane) -> usize {
    match lane {
        Lane::High => 0,
        Lane::Normal | Lane::Bulk => 1,
    }
}

impl Handle {
    /// A handle on an instance whose actor is about to start.
    pub fn new(instance: InstanceId, account: AccountId, now: Timestamp) -> Self {
        Self {
            instance,
            account,
            shard: instance.shard(),
            order: Mutex::new(()),
            entrants: AtomicU32::new(0),
            credits: [Credit::default(), Credit::default()],
            shown: Mutex::new(Shown {
                session: Session::Connecting,
                since: now,
                restricted_until: None,
                phone: None,
            }),
            damaged: AtomicBool::new(false),
            actor: RwLock::new(None),
        }
    }

    /// The instance.
    pub const fn instance(&self) -> InstanceId {
        self.instance
    }

    /// Whose it is.
    pub const fn account(&self) -> AccountId {
        self.account
    }

    /// One at a time: gives ids and appends under them, or appends under ids that were given before.
    pub fn in_order<T>(&self, append: impl FnOnce() -> T) -> T {
        let _order = self.order.lock();
        append()
    }

    /// Its shard.
    pub const fn shard(&self) -> Shard {
        self.shard
    }

    /// Goes in; `None` when the actor left for good and a new handle has to be asked for.
    pub fn enter(self: &Arc<Self>) -> Option<Entered> {
        if self.entrants.fetch_add(1, Ordering::AcqRel) & CLOSED != 0 {
            self.entrants.fetch_sub(1, Ordering::AcqRel);
            return None;
        }
        Some(Entered(self.clone()))
    }

    /// Whether somebody is inside.
    pub fn is_entered(&self) -> bool {
        self.entrants.load(Ordering::Acquire) & !CLOSED != 0
    }

    /// Closes the handle if nobody is inside: the last thing an idle actor does.
    pub fn try_close(&self) -> bool {
        self.entrants
            .compare_exchange(0, CLOSED, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// The actor behind it changed.
    pub fn set_actor(&self, actor: Option<ActorRef<InstanceMsg>>) {
        *self.actor.write() = actor;
    }

    /// The actor behind it, if one runs now.
    pub fn actor(&self) -> Option<ActorRef<InstanceMsg>> {
        self.actor.read().clone()
    }

    /// Tells the actor something; answers whether one was there to be told.
    pub fn tell(&self, msg: InstanceMsg) -> bool {
        self.actor
            .read()
            .as_ref()
            .is_some_and(|actor| actor.cast(msg).is_ok())
    }

    /// Messages became durable: tells the actor, as far as it has room.
    pub fn stored(&self, chunk: &Arc<Chunk>) {
        let credit = &self.credits[slot(chunk.queue.lane())];
        let wanted = i64::from(chunk.len());
        let told = credit.messages.fetch_sub(wanted, Ordering::AcqRel) > 0
            && !credit.missed.load(Ordering::Acquire)
            && self.tell(InstanceMsg::Stored(chunk.clone()));
        if !told {
            self.not_told(credit, chunk);
        }
    }

    /// Messages became durable whose ids are older than others that the actor may have read
    /// past: where it has no room, it goes back to them later.
    pub fn stored_late(&self, chunk: &Arc<Chunk>) {
        let credit = &self.credits[slot(chunk.queue.lane())];
        let wanted = i64::from(chunk.len());
        let told = credit.messages.fetch_sub(wanted, Ordering::AcqRel) > 0
            && self.tell(InstanceMsg::StoredLate(chunk.clone()));
        if !told {
            credit.late.fetch_min(chunk.first.get(), Ordering::AcqRel);
            self.not_told(credit, chunk);
        }
    }

    fn not_told(&self, credit: &Credit, chunk: &Chunk) {
        credit.unread.lock().note_chunk(chunk);
        if !credit.missed.swap(true, Ordering::AcqRel) {
            self.tell(InstanceMsg::Grew);
        }
    }

    /// The lowest id of what the actor was not told of and may have read past, once.
    pub fn take_late(&self, lane: Lane) -> Option<MessageId> {
        MessageId::new(
            self.credits[slot(lane)]
                .late
                .swap(NONE_LATE, Ordering::AcqRel),
        )
    }

    /// When what the actor was not told of expires, once.
    pub fn take_unread(&self, lane: Lane) -> Expiries {
        std::mem::take(&mut *self.credits[slot(lane)].unread.lock())
    }

    /// The actor has room for so many messages of a lane, and is about to read what it missed.
    pub fn grant(&self, lane: Lane, messages: usize) {
        let credit = &self.credits[slot(lane)];
        credit.messages.store(
            i64::try_from(messages).unwrap_or(i64::MAX),
            Ordering::Release,
        );
        credit.missed.store(false, Ordering::Release);
    }

    /// The actor has room for so many messages; what it missed stays missed.
    pub fn refill(&self, lane: Lane, messages: usize) {
        let credit = &self.credits[slot(lane)];
        credit.messages.store(
            i64::try_from(messages).unwrap_or(i64::MAX),
            Ordering::Release,
        );
    }

    /// The actor takes no more chunks of a lane from the edge.
    pub fn withdraw(&self, lane: Lane) {
        self.credits[slot(lane)]
            .messages
            .store(0, Ordering::Release);
        self.credits[slot(lane)]
            .missed
            .store(true, Ordering::Release);
    }

    /// Whether something was accepted that the actor was not told of.
    pub fn missed(&self, lane: Lane) -> bool {
        self.credits[slot(lane)].missed.load(Ordering::Acquire)
    }

    /// What it shows.
    pub fn shown(&self) -> Shown {
        self.shown.lock().clone()
    }

    /// Changes what it shows.
    pub fn show(&self, change: impl FnOnce(&mut Shown)) {
        change(&mut self.shown.lock());
    }

    /// Whether messages of it cannot be read, because what is stored is damaged.
    pub fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    /// Whether messages can be read was found out.
    pub(super) fn set_damaged(&self, damaged: bool) {
        self.damaged.store(damaged, Ordering::Relaxed);
    }

    /// Why messages are not taken unless the instance queues meanwhile; `None` when they are.
    pub fn unavailable(&self) -> Option<CloseReason> {
        match self.shown.lock().session {
            Session::Closed { reason } if reason.is_terminal() => Some(reason),
            Session::Closed { .. } | Session::Open | Session::Connecting => None,
        }
    }
}

impl Wake for Handle {
    fn wake(&self) {
        self.tell(InstanceMsg::Due);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handle() -> Arc<Handle> {
        Arc::new(Handle::new(
            InstanceId::new(7).unwrap(),
            AccountId::new(1).unwrap(),
            Timestamp::from_seconds(0),
        ))
    }

    #[test]
    fn an_actor_does_not_leave_while_somebody_is_inside() {
        let handle = handle();
        let entered = handle.enter().unwrap();

        assert!(!handle.try_close());

        drop(entered);
        assert!(handle.try_close());
        assert!(handle.enter().is_none());
        assert!(handle.enter().is_none(), "a refused entry leaves no trace");
    }

    #[test]
    fn what_is_beyond_the_credit_is_missed_until_it_is_granted_again() {
        let handle = handle();
        handle.grant(Lane::Normal, 10);
        assert!(!handle.missed(Lane::Normal));

        handle.withdraw(Lane::Normal);

        assert!(handle.missed(Lane::Normal));
        assert!(!handle.missed(Lane::High));
    }
}
