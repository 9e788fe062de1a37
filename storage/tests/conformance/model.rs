//! What a store should answer, kept in the plainest way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use zajil_model::id::{InstanceId, MessageId};
use zajil_model::lifecycle::{Event, MessageState, Outcome, Status};
use zajil_model::message::{Chunk, Queue};
use zajil_model::time::Timestamp;
use zajil_storage::{ListFilter, StatusChange, Totals, TotalsFilter, Work, initial_state};

/// A message as the model knows it.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) chunk: Arc<Chunk>,
    pub(crate) index: usize,
    pub(crate) state: MessageState,
}

/// Every message, and every change in order.
#[derive(Debug, Default)]
pub(crate) struct Naive {
    pub(crate) messages: BTreeMap<MessageId, Known>,
    pub(crate) changes: Vec<StatusChange>,
}

impl Naive {
    pub(crate) fn accept(&mut self, chunk: &Arc<Chunk>) {
        for index in 0..chunk.messages.len() {
            let state = initial_state(chunk, index);
            let known = Known {
                chunk: Arc::clone(chunk),
                index,
                state,
            };
            self.messages.insert(chunk.id(index), known);
        }
    }

    pub(crate) fn outcome(&mut self, outcome: Outcome) {
        let Some(known) = self.messages.get_mut(&outcome.id) else {
            return;
        };
        if let Some(status) = known.state.apply(outcome.event, outcome.at) {
            self.changes.push(StatusChange {
                id: outcome.id,
                status,
                at: outcome.at,
            });
        }
    }

    pub(crate) fn cancel_all(
        &mut self,
        instance: InstanceId,
        queue: Option<Queue>,
        upto: MessageId,
        at: Timestamp,
    ) {
        let hit: Vec<MessageId> = self
            .messages
            .range(..=upto)
            .filter(|(_, known)| known.chunk.instance == instance)
            .filter(|(_, known)| queue.is_none_or(|queue| known.chunk.queue == queue))
            .filter(|(_, known)| matches!(known.state.status, Status::Scheduled | Status::Pending))
            .map(|(id, _)| *id)
            .collect();
        for id in hit {
            self.outcome(Outcome {
                id,
                at,
                event: Event::Cancelled,
            });
        }
    }

    /// The changes of each message, in order.
    pub(crate) fn by_message(
        changes: &[StatusChange],
    ) -> BTreeMap<MessageId, Vec<(Status, Timestamp)>> {
        let mut by_message: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for change in changes {
            by_message
                .entry(change.id)
                .or_default()
                .push((change.status, change.at));
        }
        by_message
    }

    pub(crate) fn totals(&self, filter: &TotalsFilter) -> Totals {
        let mut totals = Totals::default();
        for instance in &filter.instances {
            let mut counts = [0; Status::COUNT];
            for known in self.messages.values() {
                let (chunk, day) = (&known.chunk, known.chunk.created_at.day());
                let counted = chunk.instance == *instance
                    && filter
                        .batch
                        .is_none_or(|batch| chunk.queue == Queue::Part(batch))
                    && filter.from.is_none_or(|from| day >= from)
                    && filter.to.is_none_or(|to| day < to);
                if counted {
                    counts[known.state.status as usize] += 1;
                    totals.all[known.state.status as usize] += 1;
                }
            }
            if counts != [0; Status::COUNT] {
                totals.by_instance.push((*instance, counts));
            }
        }
        totals
    }

    pub(crate) fn work(&self) -> BTreeSet<(InstanceId, Queue, u64)> {
        let mut unsettled: BTreeMap<(InstanceId, Queue), u64> = BTreeMap::new();
        for known in self
            .messages
            .values()
            .filter(|known| !known.state.status.is_settled())
        {
            *unsettled
                .entry((known.chunk.instance, known.chunk.queue))
                .or_default() += 1;
        }
        unsettled
            .into_iter()
            .map(|((instance, queue), n)| (instance, queue, n))
            .collect()
    }

    /// The ids that a list should show, newest first.
    pub(crate) fn list(&self, filter: &ListFilter) -> Vec<MessageId> {
        let mut ids: Vec<MessageId> = self
            .messages
            .iter()
            .filter(|(_, known)| matches(filter, known))
            .map(|(id, _)| *id)
            .collect();
        ids.reverse();
        ids
    }

    /// Messages of a queue, in order.
    pub(crate) fn of_queue(
        &self,
        instance: InstanceId,
        queue: Queue,
    ) -> impl Iterator<Item = (MessageId, &Known)> {
        self.messages
            .iter()
            .filter(move |(_, known)| {
                (known.chunk.instance, known.chunk.queue) == (instance, queue)
            })
            .map(|(id, known)| (*id, known))
    }

    /// Messages of a queue that are ready, in order.
    pub(crate) fn ready(
        &self,
        instance: InstanceId,
        queue: Queue,
    ) -> Vec<(MessageId, MessageState)> {
        self.of_queue(instance, queue)
            .filter(|(_, known)| matches!(known.state.status, Status::Pending | Status::Processing))
            .map(|(id, known)| (id, known.state))
            .collect()
    }

    /// Messages of the schedule, earliest first.
    pub(crate) fn scheduled(&self, instance: InstanceId) -> Vec<(Timestamp, MessageId)> {
        let mut waiting: Vec<_> = self
            .messages
            .iter()
            .filter(|(_, known)| known.chunk.instance == instance)
            .filter(|(_, known)| known.state.status == Status::Scheduled)
            .filter_map(|(id, known)| Some((known.state.next_at?, *id)))
            .collect();
        waiting.sort_unstable();
        waiting
    }
}

/// What `work` answers, comparable.
pub(crate) fn work_set(work: &[Work]) -> BTreeSet<(InstanceId, Queue, u64)> {
    work.iter()
        .map(|work| (work.instance, work.queue, work.unsettled))
        .collect()
}

fn matches(filter: &ListFilter, known: &Known) -> bool {
    let (chunk, message) = (&known.chunk, &known.chunk.messages[known.index]);
    filter.instances.contains(&chunk.instance)
        && filter
            .status
            .is_none_or(|status| known.state.status == status)
        && filter
            .batch
            .is_none_or(|batch| chunk.batch() == Some(batch))
        && filter.from.is_none_or(|from| chunk.created_at >= from)
        && filter.to.is_none_or(|to| chunk.created_at < to)
        && filter
            .recipient
            .is_none_or(|recipient| message.recipient == recipient)
        && filter
            .client_ref
            .as_deref()
            .is_none_or(|name| message.client_ref.as_deref() == Some(name))
}
