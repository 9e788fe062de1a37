//! How the projection names things in its key-value store.
//!
//! Numbers are big-endian so that keys sort as what they name; a tag byte tells the kinds apart.

use zajil_model::id::{AccountId, BatchId, InstanceId, MessageId, Shard, Tick};
use zajil_model::message::Queue;
use zajil_model::time::{Day, Timestamp};

use crate::kv::{Space, Span, after_prefix};
use crate::row::{RowKey, Table};

/// Seconds of a period: a week. Retention drops whole ones.
pub(crate) const PERIOD_SECONDS: i64 = 7 * 86_400;

/// Days of a period.
pub(crate) const PERIOD_DAYS: i32 = 7;

/// Where the log was projected to.
pub(crate) const PROJECTED: &[u8] = b"Mprojected";

/// A queue of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct QueueKey {
    pub(crate) instance: InstanceId,
    pub(crate) queue: Queue,
}

/// A block: some chunks in a row of one queue. It is named by the id it began with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct BlockKey {
    pub(crate) queue: QueueKey,
    pub(crate) first: MessageId,
}

/// The period in which an id was given.
pub(crate) fn period_of(id: MessageId) -> u32 {
    period_at(id.tick().time())
}

/// The period that holds a time.
pub(crate) fn period_at(time: Timestamp) -> u32 {
    u32::try_from(time.as_seconds().div_euclid(PERIOD_SECONDS)).unwrap_or(0)
}

/// The space of a block.
pub(crate) fn space_of(first: MessageId) -> Space {
    Space::Period(period_of(first))
}

/// The lowest id above every id of a period.
pub(crate) fn period_end(period: u32) -> MessageId {
    let end = Timestamp::from_seconds((i64::from(period) + 1) * PERIOD_SECONDS);
    MessageId::new(Tick::at(end).0 << zajil_model::id::SHARD_BITS).unwrap_or_else(highest)
}

/// Above every message's id.
pub(crate) fn highest() -> MessageId {
    MessageId::new(zajil_model::id::ID_LIMIT - 1).expect("below the limit")
}

/// Below every message's id.
pub(crate) fn lowest() -> MessageId {
    MessageId::new(0).expect("below the limit")
}

fn put_queue(out: &mut Vec<u8>, key: QueueKey) {
    out.extend(key.instance.get().to_be_bytes());
    match key.queue {
        Queue::High => out.push(0),
        Queue::Normal => out.push(1),
        Queue::Part(batch) => {
            out.push(2);
            out.extend(batch.get().to_be_bytes());
        }
    }
}

fn queued(tag: u8, key: QueueKey) -> Vec<u8> {
    let mut out = Vec::with_capacity(32);
    out.push(tag);
    put_queue(&mut out, key);
    out
}

fn read_u64(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(..8)?.try_into().ok()?))
}

/// What a queue's key says, behind its tag; and what is left.
fn read_queue(bytes: &[u8]) -> Option<(QueueKey, &[u8])> {
    let instance = InstanceId::new(read_u64(bytes)?)?;
    let (queue, rest) = match bytes.get(8)? {
        0 => (Queue::High, &bytes[9..]),
        1 => (Queue::Normal, &bytes[9..]),
        2 => (
            Queue::Part(BatchId::new(read_u64(bytes.get(9..)?)?)?),
            &bytes[17..],
        ),
        _ => return None,
    };
    Some((QueueKey { instance, queue }, rest))
}

/// The head of a queue.
pub(crate) fn head(key: QueueKey) -> Vec<u8> {
    queued(b'Q', key)
}

/// The heads of an instance.
pub(crate) fn heads(instance: InstanceId) -> Span {
    tagged(b'Q', instance.get())
}

/// The queue that a head's key names.
pub(crate) fn read_head(key: &[u8]) -> Option<QueueKey> {
    read_queue(key.get(1..)?).map(|(queue, _)| queue)
}

/// That a queue has unsettled messages.
pub(crate) fn live(key: QueueKey) -> Vec<u8> {
    queued(b'L', key)
}

/// Every queue with unsettled messages.
pub(crate) fn lives() -> Span {
    Span::prefix(b"L")
}

/// The counts of one day of a queue.
pub(crate) fn totals(key: QueueKey, day: Day) -> Vec<u8> {
    let mut out = queued(b'T', key);
    out.extend(((day.0 as u32) ^ (1 << 31)).to_be_bytes());
    out
}

/// The counts of an instance, all queues and days.
pub(crate) fn totals_of_instance(instance: InstanceId) -> Span {
    tagged(b'T', instance.get())
}

/// The counts of a queue, all days.
pub(crate) fn totals_of_queue(key: QueueKey) -> Span {
    Span {
        from: totals(key, Day(i32::MIN)),
        to: after_prefix(&totals(key, Day(i32::MAX))),
    }
}

/// What a key of counts names.
pub(crate) fn read_totals(key: &[u8]) -> Option<(QueueKey, Day)> {
    let (queue, rest) = read_queue(key.get(1..)?)?;
    let day = u32::from_be_bytes(rest.try_into().ok()?) ^ (1 << 31);
    Some((queue, Day(day as i32)))
}

/// A block's chunks.
pub(crate) fn block_index(key: BlockKey) -> Vec<u8> {
    let mut out = queued(b'B', key.queue);
    out.extend(key.first.get().to_be_bytes());
    out
}

/// The blocks of a queue that begin at `upto` or before.
pub(crate) fn blocks_upto(queue: QueueKey, upto: MessageId) -> Span {
    let from = block_index(BlockKey {
        queue,
        first: lowest(),
    });
    let to = after_prefix(&block_index(BlockKey { queue, first: upto }));
    Span { from, to }
}

/// What the key of a block's chunks names.
pub(crate) fn read_block(key: &[u8]) -> Option<BlockKey> {
    let (queue, rest) = read_queue(key.get(1..)?)?;
    Some(BlockKey {
        queue,
        first: MessageId::new(read_u64(rest)?)?,
    })
}

/// A block's states.
pub(crate) fn block_states(key: BlockKey) -> Vec<u8> {
    let mut out = block_index(key);
    out[0] = b'S';
    out
}

/// Chunks of a shard, from this id on.
pub(crate) fn shard(shard: Shard, first: MessageId) -> Vec<u8> {
    let mut out = Vec::with_capacity(11);
    out.push(b'I');
    out.extend(shard.number().to_be_bytes());
    out.extend(first.get().to_be_bytes());
    out
}

/// Chunks of a shard in rows that begin at `upto` or before.
pub(crate) fn shard_upto(of: Shard, upto: MessageId) -> Span {
    Span {
        from: shard(of, lowest()),
        to: after_prefix(&shard(of, upto)),
    }
}

/// Messages of a chunk that are due at a time.
pub(crate) fn due(instance: InstanceId, at: Timestamp, chunk: MessageId) -> Vec<u8> {
    let mut out = Vec::with_capacity(25);
    out.push(b'D');
    out.extend(instance.get().to_be_bytes());
    out.extend(((at.as_micros() as u64) ^ (1 << 63)).to_be_bytes());
    out.extend(chunk.get().to_be_bytes());
    out
}

/// The schedule of an instance.
pub(crate) fn dues(instance: InstanceId) -> Span {
    tagged(b'D', instance.get())
}

/// What a key of the schedule names: when, and the first id of the chunk.
pub(crate) fn read_due(key: &[u8]) -> Option<(Timestamp, MessageId)> {
    let at = read_u64(key.get(9..)?)? ^ (1 << 63);
    let chunk = MessageId::new(read_u64(key.get(17..)?)?)?;
    Some((Timestamp::from_micros(at as i64), chunk))
}

/// A mass cancel that is not in every state yet.
pub(crate) fn mark(instance: InstanceId, lsn: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(17);
    out.push(b'K');
    out.extend(instance.get().to_be_bytes());
    out.extend(lsn.to_be_bytes());
    out
}

/// Every mass cancel that is not in every state yet.
pub(crate) fn marks() -> Span {
    Span::prefix(b"K")
}

/// What the key of a mass cancel names: the instance, and the record of the log.
pub(crate) fn read_mark(key: &[u8]) -> Option<(InstanceId, u64)> {
    Some((
        InstanceId::new(read_u64(key.get(1..)?)?)?,
        read_u64(key.get(9..)?)?,
    ))
}

/// Changes of an account, from this place on.
pub(crate) fn feed(account: AccountId, record: u64, within: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(21);
    out.push(b'F');
    out.extend(account.get().to_be_bytes());
    out.extend(record.to_be_bytes());
    out.extend(within.to_be_bytes());
    out
}

/// All changes of an account.
pub(crate) fn feeds(account: AccountId) -> Span {
    tagged(b'F', account.get())
}

/// Whose changes a row of the feed holds, and the record of the first.
pub(crate) fn read_feed(key: &[u8]) -> Option<(AccountId, u64)> {
    let account = AccountId::new(read_u64(key.get(1..)?)?)?;
    Some((account, read_u64(key.get(9..)?)?))
}

/// Every row of the feed.
pub(crate) fn all_feeds() -> Span {
    Span::prefix(b"F")
}

/// Where the feed of an account begins.
pub(crate) fn teller(account: AccountId) -> Vec<u8> {
    let mut out = vec![b'G'];
    out.extend(account.get().to_be_bytes());
    out
}

/// Where every feed begins.
pub(crate) fn tellers() -> Span {
    Span::prefix(b"G")
}

/// Whose feed such a key names.
pub(crate) fn read_teller(key: &[u8]) -> Option<AccountId> {
    AccountId::new(read_u64(key.get(1..)?)?)
}

/// Where the schedule of an instance begins.
pub(crate) fn due_from(instance: InstanceId) -> Vec<u8> {
    let mut out = vec![b'E'];
    out.extend(instance.get().to_be_bytes());
    out
}

/// Where every schedule begins.
pub(crate) fn all_due_from() -> Span {
    Span::prefix(b"E")
}

/// Whose schedule such a key names.
pub(crate) fn read_due_from(key: &[u8]) -> Option<InstanceId> {
    InstanceId::new(read_u64(key.get(1..)?)?)
}

/// How far the log was written at a time.
pub(crate) fn written(at: Timestamp) -> Vec<u8> {
    let mut out = vec![b'W'];
    out.extend(((at.as_micros() as u64) ^ (1 << 63)).to_be_bytes());
    out
}

/// How far it was written at every time that is known.
pub(crate) fn all_written() -> Span {
    Span::prefix(b"W")
}

/// Which time such a key names.
pub(crate) fn read_written(key: &[u8]) -> Option<Timestamp> {
    let at = read_u64(key.get(1..)?)? ^ (1 << 63);
    Some(Timestamp::from_micros(at as i64))
}

/// Where the accepts of a period begin in the log.
pub(crate) fn period_start(period: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(5);
    out.push(b'P');
    out.extend(period.to_be_bytes());
    out
}

/// The beginnings of every period.
pub(crate) fn period_starts() -> Span {
    Span::prefix(b"P")
}

/// Which period such a key names.
pub(crate) fn read_period_start(key: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(key.get(1..5)?.try_into().ok()?))
}

/// A row of a table.
pub(crate) fn row(key: &RowKey) -> Vec<u8> {
    let mut out = partition(key.table, &key.partition);
    out.extend_from_slice(&key.sort);
    out
}

/// What every row of a partition begins with.
pub(crate) fn partition(table: Table, partition: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + partition.len() + 16);
    out.extend([b'R', table as u8]);
    out.extend((partition.len() as u16).to_be_bytes());
    out.extend_from_slice(partition);
    out
}

fn tagged(tag: u8, number: u64) -> Span {
    let mut prefix = vec![tag];
    prefix.extend(number.to_be_bytes());
    Span::prefix(&prefix)
}
