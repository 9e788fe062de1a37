//! Accepting: ids, one append, and only then the answer.
//!
//! It needs no turn in the mailbox of the instance: the edge goes in by the handle, gives ids and
//! appends, and the actor is told when the append is durable.

use std::sync::Arc;

use tokio::sync::oneshot;
use zajil_model::id::{BatchId, Epoch, MessageId, RequestId, Shard, Tick};
use zajil_model::instance::Instance;
use zajil_model::message::limits::is_scheduled;
use zajil_model::message::{Chunk, Lane, Message, Queue};
use zajil_model::time::Timestamp;
use zajil_storage::{Append, Entry as Record, StoreError};

use crate::engine::Engine;
use crate::gate::Permit;
use crate::idempotency::Fate;
use crate::instance::InstanceMsg;
use crate::instance::handle::Entered;
use crate::owners::Asked;
use crate::owners::questions::{AcceptReserved, AskPromise, ReserveIds, SendMessages};
use crate::send::{ACCEPT_DEADLINE, AcceptError, Reserved, Submission};

/// Bytes of messages in one chunk, before it is encoded: with the overhead of their fields a
/// chunk stays below the 64 KiB of `DESIGN.md`, section 6. A larger message is a chunk alone.
const CHUNK_BYTES: usize = 48 << 10;

/// How often ids are asked for again when others used up the ceiling that was raised.
const TRIES: usize = 8;

/// How often an accept begins anew because its shard left this node or came to it meanwhile.
const ROUNDS: usize = 4;

/// The shard left again and again.
const MOVING: AcceptError = AcceptError::Unavailable("the instance is moving to another node");

/// Where a submission is accepted.
enum Entry {
    /// Here: the shard does not leave before it is.
    Here(Box<Admitted>),
    /// On another node; here it is again.
    Elsewhere(Submission),
}

/// A submission that was let in.
struct Admitted {
    submission: Submission,
    entered: Entered,
    permit: Permit,
}

/// How the actor is told of what became durable.
#[derive(Clone, Copy)]
enum Told {
    /// As far as it granted credit: the ids are in the order of the log.
    InCredit,
    /// In any case: the ids are older than others of the log.
    Late,
}

/// The room that an accept takes is held until whoever waits for it goes on, or is gone: so the
/// wait for that counts. Who waits is inside as long: the shard does not leave before the answer.
type Answer = oneshot::Receiver<(Result<(), StoreError>, Permit, Entered)>;

impl Engine {
    /// Accepts messages: once this answers, they are on stable storage. `bulk` gives them a
    /// `batch_id` too.
    ///
    /// # Errors
    /// [`AcceptError`]; only [`AcceptError::OutcomeUnknown`] leaves open whether they were.
    pub async fn send(&self, submission: Submission, bulk: bool) -> Result<Reserved, AcceptError> {
        let shard = submission.instance.id.shard();
        let mut submission = submission;
        for _ in 0..ROUNDS {
            if self.ownership().owns(shard) {
                match self.admit(submission)? {
                    Entry::Here(admitted) => return self.send_admitted(admitted, bulk).await,
                    Entry::Elsewhere(again) => submission = again,
                }
            }
            let question = SendMessages { submission, bulk };
            match self.0.owners.ask(shard, question).await? {
                Asked::There(answer) => return answer,
                Asked::Here(question) => submission = question.submission,
            }
        }
        Err(MOVING)
    }

    /// The same, on the node that owns the instance.
    pub(super) async fn send_here(
        &self,
        submission: Submission,
        bulk: bool,
    ) -> Result<Reserved, AcceptError> {
        match self.admit(submission)? {
            Entry::Here(admitted) => self.send_admitted(admitted, bulk).await,
            Entry::Elsewhere(_) => Err(AcceptError::Moved),
        }
    }

    async fn send_admitted(
        &self,
        mut admitted: Box<Admitted>,
        bulk: bool,
    ) -> Result<Reserved, AcceptError> {
        let shard = admitted.entered.shard();
        let ticks = admitted.submission.messages.len() as u64 + u64::from(bulk);
        for _ in 0..TRIES {
            match self.try_send(admitted, ticks, bulk) {
                Ok((reserved, answer)) => return self.durable(answer, reserved).await,
                Err(again) => admitted = again,
            }
            self.0.context.clocks.ensure(shard, ticks).await?;
        }
        Err(AcceptError::Unavailable("ids are being given too fast"))
    }

    /// Gives ids to messages that are about to be accepted, for who has to write the ids down
    /// first. What is not accepted within 30 s of it never is.
    ///
    /// # Errors
    /// [`AcceptError`].
    pub async fn reserve(
        &self,
        instance: &Instance,
        count: u32,
        bulk: bool,
    ) -> Result<Reserved, AcceptError> {
        let question = ReserveIds {
            instance: instance.id,
            count,
            bulk,
        };
        self.at_owner(instance.id.shard(), question).await?
    }

    /// The same, on the node that owns the instance.
    pub(super) async fn reserve_here(&self, wanted: &ReserveIds) -> Result<Reserved, AcceptError> {
        let (shard, count, bulk) = (wanted.instance.shard(), wanted.count, wanted.bulk);
        let ticks = u64::from(count) + u64::from(bulk);
        let (tick, epoch) = self.0.context.clocks.give(shard, ticks).await?;
        // Under a lease that ended, the next owner may have given higher ids before these.
        if !self.answers_for(shard, epoch) {
            return Err(AcceptError::Moved);
        }
        Ok(self.reserved((tick, epoch), shard, count, bulk))
    }

    /// Accepts messages under reserved ids: once this answers, they are on stable storage.
    ///
    /// # Errors
    /// [`AcceptError`]; [`AcceptError::Sealed`] when the shard has another owner by now, or the ids
    /// are too old, and others are to be reserved.
    pub async fn accept(
        &self,
        reserved: Reserved,
        submission: Submission,
    ) -> Result<Reserved, AcceptError> {
        let shard = submission.instance.id.shard();
        let mut submission = submission;
        for _ in 0..ROUNDS {
            if self.ownership().owns(shard) {
                match self.admit(submission)? {
                    Entry::Here(admitted) => {
                        return self.accept_admitted(reserved, *admitted).await;
                    }
                    Entry::Elsewhere(again) => submission = again,
                }
            }
            let question = AcceptReserved {
                reserved,
                submission,
            };
            match self.0.owners.ask(shard, question).await? {
                Asked::There(answer) => return answer,
                Asked::Here(question) => submission = question.submission,
            }
        }
        Err(MOVING)
    }

    /// The same, on the node that owns the instance.
    pub(super) async fn accept_here(
        &self,
        reserved: Reserved,
        submission: Submission,
    ) -> Result<Reserved, AcceptError> {
        match self.admit(submission)? {
            Entry::Here(admitted) => self.accept_admitted(reserved, *admitted).await,
            Entry::Elsewhere(_) => Err(AcceptError::Moved),
        }
    }

    async fn accept_admitted(
        &self,
        reserved: Reserved,
        admitted: Admitted,
    ) -> Result<Reserved, AcceptError> {
        let (clocks, handle) = (&self.0.context.clocks, Arc::clone(&admitted.entered));
        let promise = AskPromise::of(&reserved);
        // Whoever took a lower id than these appends before: the actor passes over lower ids once
        // it was told of these.
        let begun = handle.in_order(|| {
            clocks.begin_under(promise, || self.append(reserved, admitted, Told::Late))
        });
        match begun {
            Ok(answer) => self.durable(answer, reserved).await,
            Err(_) => self.accepted_before(reserved).await,
        }
    }

    /// What became of reserved ids that may not be used any more.
    async fn accepted_before(&self, reserved: Reserved) -> Result<Reserved, AcceptError> {
        let promise = AskPromise::of(&reserved);
        match self.0.idempotency.fate_here(promise).await? {
            Fate::Kept => Ok(reserved),
            Fate::Void => Err(AcceptError::Sealed),
            Fate::Open => Err(AcceptError::OutcomeUnknown),
        }
    }

    fn admit(&self, submission: Submission) -> Result<Entry, AcceptError> {
        let instance = &submission.instance;
        let permit = self.0.gate.enter(instance.account, submission.bytes)?;
        let entered = self.0.router.enter(instance);
        // Looked at from inside: a shard that begins to leave now waits for who is.
        if !self.ownership().owns(instance.id.shard()) {
            return Ok(Entry::Elsewhere(submission));
        }
        match entered.unavailable() {
            Some(reason) if !instance.queue_while_disconnected => {
                Err(AcceptError::InstanceUnavailable(reason))
            }
            _ => Ok(Entry::Here(Box::new(Admitted {
                submission,
                entered,
                permit,
            }))),
        }
    }

    /// Gives ids and appends, in one step of its instance. Gives the submission back when the
    /// ceiling of ids is in the way.
    fn try_send(
        &self,
        admitted: Box<Admitted>,
        ticks: u64,
        bulk: bool,
    ) -> Result<(Reserved, Answer), Box<Admitted>> {
        let handle = Arc::clone(&admitted.entered);
        let (shard, now) = (handle.shard(), self.clock().now());
        handle.in_order(|| {
            let Some(given) = self.0.context.clocks.take(shard, ticks, now) else {
                return Err(admitted);
            };
            let count = admitted.submission.messages.len() as u32;
            let reserved = self.reserved(given, shard, count, bulk);
            Ok((reserved, self.append(reserved, *admitted, Told::InCredit)))
        })
    }

    /// The ids that begin at a tick: that of the bulk first, if it has one.
    fn reserved(
        &self,
        (tick, epoch): (Tick, Epoch),
        shard: Shard,
        count: u32,
        bulk: bool,
    ) -> Reserved {
        let first = MessageId::give(tick, shard);
        Reserved {
            first: if bulk { first.plus(1) } else { first },
            count,
            batch: bulk.then(|| BatchId::give(tick, shard)),
            created_at: self.clock().now(),
            epoch,
            given_at: self.clock().mono(),
        }
    }

    /// Waits until an append is durable, and answers only while the lease is still good: under one
    /// that ended, the next owner may have read the log before this append was in it.
    async fn durable(&self, answer: Answer, reserved: Reserved) -> Result<Reserved, AcceptError> {
        let answered = tokio::time::timeout(ACCEPT_DEADLINE, answer).await;
        let Ok(Ok((result, permit, inside))) = answered else {
            return Err(AcceptError::OutcomeUnknown);
        };
        result?;
        if !self.answers_for(reserved.first.giver(), reserved.epoch) {
            return Err(AcceptError::OutcomeUnknown);
        }
        drop(inside);
        permit.accepted();
        Ok(reserved)
    }

    /// Whether what was done under an epoch may be answered now.
    fn answers_for(&self, shard: Shard, epoch: Epoch) -> bool {
        let now = self.clock().mono();
        self.ownership().may_answer_for(shard, epoch, now)
    }

    fn append(&self, reserved: Reserved, admitted: Admitted, told: Told) -> Answer {
        let Admitted {
            submission,
            entered,
            permit,
        } = admitted;
        let shard = entered.shard();
        let due = earliest_due(&submission.messages, reserved.created_at);
        let chunks = chunks(reserved, submission);
        let entries = chunks.iter().cloned().map(Record::Accept).collect();
        let (reply, answer) = oneshot::channel();
        let context = self.0.context.clone();
        let done = move |result: Result<(), StoreError>| {
            if result.is_ok() {
                for chunk in chunks {
                    context.metrics.accepted(&chunk);
                    match told {
                        Told::InCredit => entered.stored(&chunk),
                        Told::Late => entered.stored_late(&chunk),
                    }
                }
                if let Some(due) = due {
                    entered.tell(InstanceMsg::DueAt(due));
                }
            }
            // Who asked may have gone; the messages are accepted all the same.
            drop(reply.send((result, permit, entered)));
        };
        self.store().append(
            Append {
                shard,
                epoch: reserved.epoch,
                entries,
            },
            Box::new(done),
        );
        answer
    }
}

/// When the first of the messages that wait in the schedule is due.
fn earliest_due(messages: &[Message], created_at: Timestamp) -> Option<Timestamp> {
    let due = messages.iter().filter_map(|message| message.send_at);
    due.filter(|due| is_scheduled(Some(*due), created_at)).min()
}

/// The messages in chunks of at most [`CHUNK_BYTES`].
fn chunks(reserved: Reserved, submission: Submission) -> Vec<Arc<Chunk>> {
    let Submission {
        instance,
        lane,
        messages,
        request,
        ..
    } = submission;
    let queue = match lane {
        Lane::High => Queue::High,
        Lane::Normal | Lane::Bulk => Queue::Normal,
    };
    let new = |first: MessageId, messages: Vec<Message>, request: RequestId| {
        Arc::new(Chunk {
            account: instance.account,
            instance: instance.id,
            queue,
            first,
            created_at: reserved.created_at,
            bulk: reserved.batch,
            request,
            messages,
        })
    };
    let all: usize = messages.iter().map(Message::weight).sum();
    if all <= CHUNK_BYTES {
        return vec![new(reserved.first, messages, request)];
    }
    let (mut done, mut part, mut bytes) = (Vec::new(), Vec::new(), 0);
    let mut first = reserved.first;
    for message in messages {
        let weight = message.weight();
        if !part.is_empty() && bytes + weight > CHUNK_BYTES {
            let full = std::mem::take(&mut part);
            let next = first.plus(full.len() as u64);
            done.push(new(first, full, request));
            (first, bytes) = (next, 0);
        }
        bytes += weight;
        part.push(message);
    }
    done.push(new(first, part, request));
    done
}
