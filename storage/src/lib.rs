//! Where state is kept: the port [`Store`] and its kinds.
//!
//! The truth is append-only: what was accepted, what became known of it, and rows. Everything else
//! is a projection of that and can be rebuilt. A [`Store`] appends, and answers questions from the
//! projections, which reflect every append whose `done` was called.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use zajil_model::id::{AccountId, BatchId, Epoch, InstanceId, MessageId, Shard, Tick};
use zajil_model::lifecycle::{MessageState, Outcome, Status};
use zajil_model::message::limits::is_scheduled;
use zajil_model::message::{Chunk, Queue};
use zajil_model::phone::Phone;
use zajil_model::time::{Day, Timestamp};

mod codec;
pub mod cql;
pub mod embedded;
pub mod error;
mod kv;
pub mod memory;
pub mod metrics;
mod projection;
pub mod query;
pub mod row;
mod staged;
pub mod transfer;

pub use cql::{CqlConfig, CqlOpenError, CqlStore};
pub use embedded::{EmbeddedConfig, EmbeddedStore, OpenError, RestoreError, restore};
pub use error::StoreError;
pub use memory::MemoryStore;
pub use projection::Budgets;
pub use query::{
    ChangePage, Cursor, ListFilter, ListPage, ListRequest, MessageRecord, StatusChange, Totals,
    TotalsFilter,
};
pub use row::{Condition, Row, RowKey, RowWrite, Table, Written};
pub use staged::{StageError, StagedFolder};

/// Called once, when an append is durable or has failed. It runs on the store's own thread and
/// must be quick and never block: send a message, wake a task.
pub type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send + 'static>;

/// What becomes durable together, or not at all.
#[derive(Debug)]
pub struct Append {
    /// The shard whose log it goes to.
    pub shard: Shard,
    /// Under which ownership.
    pub epoch: Epoch,
    /// One or more entries, applied in order.
    pub entries: Vec<Entry>,
}

/// One entry of a log.
#[derive(Debug, Clone)]
pub enum Entry {
    /// Messages that were accepted.
    Accept(Arc<Chunk>),
    /// What became known of messages.
    Outcomes(Vec<Outcome>),
    /// Everything of an instance (and of one queue of it, if named) that is
    /// scheduled or pending, and has an id up to `upto`, ends as `cancelled`. Messages in
    /// `processing` are left to their attempt.
    CancelAll {
        /// Whose instance it is.
        account: AccountId,
        /// The instance.
        instance: InstanceId,
        /// Only this queue; `None` is all of them.
        queue: Option<Queue>,
        /// Ids above it are not touched.
        upto: MessageId,
        /// When it was asked.
        at: Timestamp,
    },
    /// Rows written without a condition, together with the rest of the append.
    Rows(Vec<RowWrite>),
    /// What another store knew of messages, for those that nothing happened to here. Totals and
    /// schedule follow; the change feed, which comes along as [`Entry::Told`], says nothing of it.
    Known(Vec<(MessageId, MessageState)>),
    /// Changes that another store told an account, in the order of their places. They keep these,
    /// so that cursors stay good, unless this append lies before them.
    Told {
        /// The account.
        account: AccountId,
        /// The changes, each with its place.
        changes: Vec<(Cursor, StatusChange)>,
    },
}

/// A chunk of a queue with what is known of its messages.
#[derive(Clone, Debug)]
pub struct QueuedChunk {
    /// The messages.
    pub chunk: Arc<Chunk>,
    /// Their states, by index; a mass cancel is already seen in them.
    pub states: Vec<MessageState>,
}

/// Some messages in a row of one queue, and when the first of them expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiring {
    /// The id of the first one.
    pub first: MessageId,
    /// The id of the last one.
    pub last: MessageId,
    /// None of those that are not settled expires before, as
    /// [`Message::expires_at`](zajil_model::message::Message::expires_at) says.
    pub at: Timestamp,
}

/// An instance that has unsettled messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// The instance.
    pub instance: InstanceId,
    /// Its queue.
    pub queue: Queue,
    /// Messages that are pending, processing or scheduled there.
    pub unsettled: u64,
    /// The same, by each of these: scheduled, pending, processing.
    pub counts: [u64; 3],
    /// No unsettled message there was accepted before this time.
    pub since: Timestamp,
}

/// What a shard begins with under a new owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardOpened {
    /// The epoch of this ownership: higher than every earlier one.
    pub epoch: Epoch,
    /// No id above this tick was ever given by this shard.
    pub last: Tick,
    /// Ids up to this tick may be given before the ceiling is raised.
    pub ceiling: Tick,
}

/// How the store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It takes appends.
    Ready,
    /// It takes outcomes but no accepts: the disk is nearly full. It recovers by itself.
    ReadOnly(String),
    /// It failed and takes nothing any more.
    Failed(String),
}

/// Keeps logs, rows and projections.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug {
    /// Serves a shard from now on, with everything that its former owners left: their appends
    /// count as far as they are there now, and never any more after that. `epoch` is that of an
    /// ownership that the caller won elsewhere, higher than every one before; without it the
    /// epoch rises by one (once per opened store on an embedded one).
    ///
    /// Fails with [`StoreError::Fenced`] when the shard is open under that epoch or a higher one.
    async fn open_shard(
        &self,
        shard: Shard,
        epoch: Option<Epoch>,
    ) -> Result<ShardOpened, StoreError>;

    /// Ends what [`open_shard`](Self::open_shard) began: appends that wait are finished, what is
    /// in memory is written, and the next owner has next to nothing to read. Closing a shard that
    /// is not open does nothing.
    async fn close_shard(&self, shard: Shard, epoch: Epoch) -> Result<(), StoreError>;

    /// Lets go of a shard that is lost, without waiting for anything: also while it is being opened or
    /// closed. Whoever owns it next reads and seals what was written, so nothing that is written
    /// later counts. An append that waits fails as one that was not written, one that is on its way
    /// as one of which nobody knows.
    fn drop_shard(&self, shard: Shard, epoch: Epoch);

    /// Makes it durable that a shard may give ids up to `ceiling`; answers the ceiling in force.
    async fn raise_ceiling(
        &self,
        shard: Shard,
        epoch: Epoch,
        ceiling: Tick,
    ) -> Result<Tick, StoreError>;

    /// Queues an append; `done` is called when it is durable *and* seen by every read below.
    /// Appends are applied in the order of the calls. Refused at once (by `done`) with
    /// [`StoreError::Full`] when the disk is (nearly) full and it holds accepts, with
    /// [`StoreError::Overloaded`] when too much waits.
    fn append(&self, append: Append, done: Done);

    /// As [`append`](Self::append), for attempts on a channel that cannot tell a repetition: `done`
    /// says `Ok` only once it is known that they count, whoever owns the shard later. Where the log
    /// takes nothing but from the owner, that is an append; a store that cannot refuse what comes
    /// late looks, when it is durable, whether the shard is still its caller's.
    fn claim(&self, append: Append, done: Done) {
        self.append(append, done);
    }

    /// How much longer a claim may take than an append, without there being any trouble.
    fn claim_lag(&self) -> Duration {
        Duration::ZERO
    }

    /// Writes rows if every condition holds; nothing is written otherwise.
    async fn write(&self, rows: Vec<RowWrite>) -> Result<Written, StoreError>;

    /// Reads one row.
    async fn row(&self, key: &RowKey) -> Result<Option<Row>, StoreError>;

    /// Reads rows of one partition in order of their sort key, from after `after` (exclusive),
    /// at most `limit`. `reverse` reads from the end.
    async fn rows(
        &self,
        table: Table,
        partition: &[u8],
        after: Option<&[u8]>,
        limit: usize,
        reverse: bool,
    ) -> Result<Vec<Row>, StoreError>;

    /// A message with its state.
    async fn message(&self, id: MessageId) -> Result<Option<MessageRecord>, StoreError>;

    /// Chunks of a queue in the order of acceptance, from after the id `after`, as many as fit
    /// in `max_messages` and `max_bytes` (at least one, if there is one). Chunks whose messages
    /// are all settled or scheduled may be left out; `None` in the second place means that the
    /// queue holds nothing more, else it is the id to go on after.
    async fn queued(
        &self,
        instance: InstanceId,
        queue: Queue,
        after: Option<MessageId>,
        max_messages: usize,
        max_bytes: usize,
    ) -> Result<(Vec<QueuedChunk>, Option<MessageId>), StoreError>;

    /// How many messages of a queue have an attempt that is recorded and has no answer: those that
    /// whoever has the queue in hand, or had it last, may have handed over.
    async fn processing(&self, instance: InstanceId, queue: Queue) -> Result<u64, StoreError>;

    /// Where unsettled messages of a queue expire, in the order of acceptance, from after the id
    /// `after`: each is in one of the stretches. At most `limit` steps are made, and none reads a message: how a
    /// backlog of any length is looked through. `None` in the second place means that the queue
    /// holds nothing more, else it is the id to go on after.
    async fn expiries(
        &self,
        instance: InstanceId,
        queue: Queue,
        after: Option<MessageId>,
        limit: usize,
    ) -> Result<(Vec<Expiring>, Option<MessageId>), StoreError>;

    /// Messages of an instance in its schedule that are due at `until` or before, earliest
    /// first, and the earliest due time of those that remain.
    async fn scheduled(
        &self,
        instance: InstanceId,
        until: Timestamp,
        limit: usize,
    ) -> Result<(Vec<MessageRecord>, Option<Timestamp>), StoreError>;

    /// Every instance and queue with unsettled messages: what to wake after a start.
    async fn work(&self) -> Result<Vec<Work>, StoreError>;

    /// A page of messages, newest first.
    async fn list(&self, request: ListRequest) -> Result<ListPage, StoreError>;

    /// Exact counts by status.
    async fn totals(&self, filter: TotalsFilter) -> Result<Totals, StoreError>;

    /// Status changes of an account after a cursor, in order per message. A cursor older than
    /// what is kept ([`FEED_KEPT`]) goes on with the oldest that is.
    async fn changes(
        &self,
        account: AccountId,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<ChangePage, StoreError>;

    /// The recipients of a part, in order of acceptance, from after `after`: how an upload that
    /// is taken up again finds out what it has seen.
    async fn recipients(
        &self,
        instance: InstanceId,
        batch: BatchId,
        after: Option<MessageId>,
        limit: usize,
    ) -> Result<Vec<(MessageId, Phone)>, StoreError>;

    /// Lets go of what is past its time: whole periods that ended `retention` before `now` and
    /// hold nothing unsettled, the log that nothing needs any more, and changes that were written
    /// [`FEED_KEPT`] before an earlier call and longer ago. Answers how many periods went.
    async fn retire(&self, now: Timestamp, retention: Duration) -> Result<u32, StoreError>;

    /// Writes a consistent copy of everything to a new file, while the store works.
    async fn backup(&self, file: &Path) -> Result<(), StoreError>;

    /// The wall clock of the store; `None` when it is in this process and has none of its own.
    async fn clock(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(None)
    }

    /// How it is.
    fn health(&self) -> Health;

    /// Flushes, if there is room, and closes; later calls fail with [`StoreError::Closed`].
    async fn close(&self) -> Result<(), StoreError>;
}

/// Counts of messages by status, of one day of one queue of an instance.
pub type StatusCounts = [u64; Status::COUNT];

/// The whole UTC days that a filter spans: from the first, to before the second.
pub type DaySpan = (Option<Day>, Option<Day>);

/// How long the change feed keeps a change at least, from when it was written: a client that is
/// away for longer asks for its messages instead. Up to two hours more, for the steps in which it
/// is let go.
pub const FEED_KEPT: Duration = Duration::from_secs(7 * 86_400);

/// The state that a message of a chunk begins in.
pub fn initial_state(chunk: &Chunk, index: usize) -> MessageState {
    let due = chunk
        .messages
        .get(index)
        .and_then(|message| message.send_at);
    match due.filter(|due| is_scheduled(Some(*due), chunk.created_at)) {
        Some(due) => MessageState::scheduled(due),
        None => MessageState::default(),
    }
}
