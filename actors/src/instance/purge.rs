//! Withdrawing everything, of an instance or of one of its parts.
//!
//! A mass cancel leaves alone what is with the transport: who handed it over waits for its outcome. Where
//! nobody does any more, it is not sent again. Of a part that its batch says; that an instance was purged
//! is written with the cancel, for the actors after this one.

use tokio::sync::oneshot;
use zajil_model::id::{InstanceId, MessageId};
use zajil_model::lifecycle::Event;
use zajil_model::message::Queue;
use zajil_storage::{Append, Entry, RowKey, RowWrite, Store, StoreError, Table};

use crate::batch::PartPhase;
use crate::instance::inbox::{Inbox, single};
use crate::instance::requests::answer;
use crate::instance::{InstanceMsg, InstanceState};

fn key(instance: InstanceId) -> RowKey {
    RowKey::new(Table::Checkpoints, instance.get().to_be_bytes(), *b"purged")
}

/// The row that says up to which id an instance was purged.
fn row_of(instance: InstanceId, upto: MessageId) -> RowWrite {
    RowWrite::put(key(instance), upto.get().to_be_bytes().to_vec())
}

/// Up to which id an instance was purged, if it ever was.
pub(super) async fn read(
    store: &dyn Store,
    instance: InstanceId,
) -> Result<Option<MessageId>, StoreError> {
    let Some(row) = store.row(&key(instance)).await? else {
        return Ok(None);
    };
    let upto = row.value.try_into().ok().map(u64::from_be_bytes);
    match upto.and_then(MessageId::new) {
        Some(upto) => Ok(Some(upto)),
        None => Err(StoreError::Corrupt {
            what: "purge of an instance",
            detail: "not an id".to_owned(),
        }),
    }
}

impl Inbox {
    /// Whether a message was withdrawn, with its part or with everything.
    pub(super) fn is_withdrawn(&self, queue: Queue, id: MessageId) -> bool {
        let part = self.readers.get(&queue).and_then(|reader| reader.withdrawn);
        self.withdrawn.max(part).is_some_and(|upto| id <= upto)
    }

    /// Whether nobody waits for the outcome of an attempt that a former actor made: the message was
    /// withdrawn since.
    pub(super) fn is_left(&self, queue: Queue, id: MessageId) -> bool {
        let reader = self.readers.get(&queue);
        self.purged.is_some_and(|upto| id <= upto)
            || reader.is_some_and(|reader| reader.is_in(PartPhase::Cancelled))
    }

    /// That everything up to `upto` was withdrawn is durable. Parts are read only while they run: what
    /// a former actor had in hand of them is looked for.
    pub(super) fn was_purged(&mut self, upto: MessageId) {
        self.purged = Some(upto);
        for (_, reader) in self
            .readers
            .iter_mut()
            .filter(|(queue, _)| single(**queue).is_none())
        {
            reader.look_through(upto);
        }
    }

    /// The same of a part whose batch was read for the first time, if something was withdrawn before.
    pub(super) fn look_for_withdrawn(&mut self, queue: Queue) {
        if let Some(upto) = self.purged
            && let Some(reader) = self.readers.get_mut(&queue)
        {
            reader.look_through(upto);
        }
    }

    /// Everything up to `upto` was cancelled: reading goes on behind it, and what is being read
    /// now is old.
    pub(super) fn purged(&mut self, queue: Option<Queue>, upto: MessageId) {
        if queue.is_none() {
            self.withdrawn = Some(upto);
        }
        for (of, reader) in &mut self.readers {
            if queue.is_none_or(|queue| queue == *of) {
                reader.restart(reader.after.max(Some(upto)));
                reader.withdrawn = queue.and(Some(upto));
            }
        }
    }
}

impl InstanceState {
    /// Withdraws everything that is not being sent.
    ///
    /// It waits until the queues were looked at: of what a former owner had in hand only the log
    /// tells, and once it is passed over nobody would end it.
    pub(super) fn on_purge(&mut self, reply: oneshot::Sender<Result<(), StoreError>>) {
        if self.inbox.was_looked_at() {
            self.cancel_all(None, move |result| answer(reply, result));
        } else {
            self.upkeep.purges.push(reply);
        }
    }

    /// Carries out the purges that waited for a look at the queues.
    pub(super) fn purge_what_was_read(&mut self) {
        if self.inbox.was_looked_at() {
            for reply in std::mem::take(&mut self.upkeep.purges) {
                self.on_purge(reply);
            }
        }
    }

    /// Appends a mass cancel; `confirm` is told when it is durable.
    pub(super) fn cancel_all(
        &mut self,
        queue: Option<Queue>,
        confirm: impl FnOnce(Result<(), StoreError>) + Send + 'static,
    ) {
        let handle = self.me.handle.clone();
        // In order with accepts: each of them is wholly before it or wholly after it.
        handle.in_order(|| self.cancel_in_order(queue, confirm));
    }

    fn cancel_in_order(
        &mut self,
        queue: Option<Queue>,
        confirm: impl FnOnce(Result<(), StoreError>) + Send + 'static,
    ) {
        let shard = self.me.handle.shard();
        let at = self.me.now();
        let Some((tick, epoch)) = self.me.context.clocks.take(shard, 1, at) else {
            confirm(Err(StoreError::Overloaded));
            return;
        };
        let upto = MessageId::give(tick, shard);
        for ready in self
            .window
            .remove_where(|of| queue.is_none_or(|queue| queue == of), upto)
        {
            if ready.item.first_attempt_at.is_none() {
                self.inbox.schedule.finished(ready.id);
                continue;
            }
            // Its last attempt may stand in the log without an answer, and a mass cancel leaves
            // such ones alone.
            self.ended(&ready, Event::Cancelled, at);
        }
        self.withdraw_armed(queue, upto);
        // What was armed has to be written as withdrawn before the answer: the next owner would take
        // it for handed over, and repeat it.
        self.record(Vec::new());
        self.inbox.purged(queue, upto);
        let tell = self.me.teller();
        let confirm = move |result: Result<(), StoreError>| {
            match (&result, queue) {
                (Ok(()), None) => tell(InstanceMsg::Purged(upto)),
                (Ok(()), Some(_)) => {}
                // Nothing was withdrawn: it is taken up again.
                (Err(_), _) => tell(InstanceMsg::ReadAgain),
            }
            confirm(result);
        };
        let cancel = Entry::CancelAll {
            account: self.me.instance.account,
            instance: self.me.id(),
            queue,
            upto,
            at,
        };
        let mut entries = vec![cancel];
        if queue.is_none() {
            entries.push(Entry::Rows(vec![row_of(self.me.id(), upto)]));
        }
        let append = Append {
            shard,
            epoch,
            entries,
        };
        self.me.context.store.append(append, Box::new(confirm));
    }
}
