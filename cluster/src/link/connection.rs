//! The asking side of a connection: many calls at once, told apart by their ids.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rustc_hash::FxBuildHasher;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::config::Timing;
use super::frame::{Answer, Frame};
use super::hello::{Hello, Refusal};
use super::outbox::{Closed, Outbox};
use super::wire::{Ended, Event, Inbound, Reader, Writer, ticks_in};
use super::{Fate, Incoming, Lane};

/// Calls of one lane to one peer that wait for an answer, at most. A peer that does not answer
/// must not fill this node's memory.
pub(super) const IN_FLIGHT: usize = 4_096;

/// Why a call got no answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// Too many calls wait already.
    Overloaded,
    /// The deadline passed.
    Expired(Fate),
    /// There was no connection, and none could be made.
    Refused(Refusal),
    /// The connection ended.
    Ended { why: Ended, fate: Fate },
}

/// A connection that this node made, to ask over it.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) peer: Hello,
    outbox: Outbox,
    calls: Mutex<Calls>,
    /// The peer wants no new calls here.
    leaving: AtomicBool,
}

#[derive(Debug, Default)]
struct Calls {
    /// The id of the last call or cast, so that use can be seen.
    last: u64,
    waiting: HashMap<u64, oneshot::Sender<NoAnswerOr>, FxBuildHasher>,
    ended: Option<Ended>,
}

type NoAnswerOr = Result<Answer, NoAnswer>;

impl Connection {
    pub(super) fn new(peer: Hello) -> Self {
        Self {
            peer,
            outbox: Outbox::new(),
            calls: Mutex::default(),
            leaving: AtomicBool::new(false),
        }
    }

    /// Whether new calls may go over it.
    pub(super) fn takes_calls(&self) -> bool {
        !self.leaving.load(Ordering::Relaxed) && self.calls.lock().ended.is_none()
    }

    /// Whether the peer said that it stops: then its end is no failure.
    pub(super) fn was_told_to_leave(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    /// How many calls wait for an answer.
    pub(super) fn in_flight(&self) -> usize {
        self.calls.lock().waiting.len()
    }

    /// Asks, and waits for the answer.
    pub(super) async fn call(&self, call: Incoming, deadline: Instant) -> NoAnswerOr {
        let (id, mut answer) = self.begin()?;
        let mut waiting = Waiting {
            connection: self,
            id,
            queued: false,
            answered: false,
        };
        let expired = sleep_until(deadline);
        tokio::pin!(expired);
        tokio::select! {
            biased;
            pushed = self.outbox.push(Frame::Request { id, call }, Some(deadline)) => {
                pushed.map_err(|Closed| self.not_sent())?;
                waiting.queued = true;
            }
            () = &mut expired => return Err(NoAnswer::Expired(Fate::NotSent)),
        }
        tokio::select! {
            biased;
            answer = &mut answer => {
                waiting.answered = true;
                // The sender is dropped without a word only with the whole connection.
                answer.unwrap_or_else(|_| Err(self.ended(Fate::Unknown)))
            }
            () = &mut expired => Err(NoAnswer::Expired(waiting.give_up())),
        }
    }

    /// Tells, and waits for room only.
    pub(super) async fn cast(&self, call: Incoming, deadline: Instant) -> Result<(), NoAnswer> {
        self.calls.lock().last += 1;
        tokio::select! {
            biased;
            pushed = self.outbox.push(Frame::Cast(call), Some(deadline)) => {
                pushed.map_err(|Closed| self.not_sent())
            }
            () = sleep_until(deadline) => Err(NoAnswer::Expired(Fate::NotSent)),
        }
    }

    /// Reads and writes until the connection ends, and tells all who wait.
    pub(super) async fn run(
        &self,
        halves: (Reader, Writer),
        lane: Lane,
        timing: &Timing,
        stop: &CancellationToken,
    ) -> Ended {
        let inbound = Inbound::new(halves.0, lane, timing);
        let ended = tokio::select! {
            ended = self.read(inbound, timing) => ended,
            wrote = self.outbox.drain_into(halves.1) => match wrote {
                Ok(()) => Ended::Closed,
                Err(error) => Ended::from(error),
            },
            () = stop.cancelled() => Ended::Stopping,
        };
        self.end(&ended);
        ended
    }

    async fn read(&self, mut inbound: Inbound, timing: &Timing) -> Ended {
        let most_idle = ticks_in(timing.idle_after, timing);
        let (mut idle, mut last) = (0, 0);
        loop {
            match inbound.next().await {
                Err(ended) => return ended,
                Ok(Event::Frame(frame)) => self.heard(frame),
                Ok(Event::Tick) => {
                    let used = self.used_since(&mut last);
                    idle = if used { 0 } else { idle + 1 };
                    if idle >= most_idle {
                        return Ended::Idle;
                    }
                    if !self.outbox.push_small(Frame::Ping) {
                        return Ended::Deaf;
                    }
                }
            }
            if self.leaving.load(Ordering::Relaxed) && self.in_flight() == 0 {
                return Ended::Closed;
            }
        }
    }

    fn heard(&self, frame: Frame) {
        match frame {
            Frame::Reply { id, answer } => {
                if let Some(waits) = self.calls.lock().waiting.remove(&id) {
                    // The caller may have given up this very moment.
                    drop(waits.send(Ok(answer)));
                }
            }
            Frame::Goaway => self.leaving.store(true, Ordering::Relaxed),
            // A newer node may ask back over such a connection; this one does not know how.
            Frame::Request { id, .. } | Frame::Unknown { id } if id != 0 => {
                self.outbox.push_small(unsupported(id));
            }
            Frame::Request { .. }
            | Frame::Unknown { .. }
            | Frame::Cast(_)
            | Frame::Cancel { .. }
            | Frame::Ping => {}
        }
    }

    fn used_since(&self, last: &mut u64) -> bool {
        let calls = self.calls.lock();
        let used = calls.last != *last || !calls.waiting.is_empty();
        *last = calls.last;
        used
    }

    fn begin(&self) -> Result<(u64, oneshot::Receiver<NoAnswerOr>), NoAnswer> {
        let mut calls = self.calls.lock();
        if let Some(why) = &calls.ended {
            let why = why.clone();
            let fate = Fate::NotSent;
            return Err(NoAnswer::Ended { why, fate });
        }
        if calls.waiting.len() >= IN_FLIGHT {
            return Err(NoAnswer::Overloaded);
        }
        calls.last += 1;
        let id = calls.last;
        let (tell, answer) = oneshot::channel();
        calls.waiting.insert(id, tell);
        Ok((id, answer))
    }

    /// Tells everybody who waits: what the writer never took was certainly not sent.
    fn end(&self, why: &Ended) {
        let waiting = {
            let mut calls = self.calls.lock();
            calls.ended = Some(why.clone());
            std::mem::take(&mut calls.waiting)
        };
        let mut unsent = self.outbox.close();
        unsent.sort_unstable();
        for (id, tell) in waiting {
            let sent = unsent.binary_search(&id).is_err();
            let fate = if sent { Fate::Unknown } else { Fate::NotSent };
            let why = why.clone();
            drop(tell.send(Err(NoAnswer::Ended { why, fate })));
        }
    }

    fn not_sent(&self) -> NoAnswer {
        self.ended(Fate::NotSent)
    }

    fn ended(&self, fate: Fate) -> NoAnswer {
        let why = self.calls.lock().ended.clone().unwrap_or(Ended::Closed);
        NoAnswer::Ended { why, fate }
    }
}

/// The frame that answers what is not known here.
pub(super) fn unsupported(id: u64) -> Frame {
    let answer = Answer::Reply(super::Reply::Unsupported);
    Frame::Reply { id, answer }
}

/// A caller that waits. When it gives up, by its deadline or by being dropped, the other node is
/// told, unless the request did not leave yet.
struct Waiting<'a> {
    connection: &'a Connection,
    id: u64,
    queued: bool,
    answered: bool,
}

impl Waiting<'_> {
    fn give_up(&mut self) -> Fate {
        self.answered = true;
        self.connection.calls.lock().waiting.remove(&self.id);
        let outbox = &self.connection.outbox;
        if !self.queued || outbox.withdraw(self.id) {
            return Fate::NotSent;
        }
        // Without room for it, the deadline that went along ends the work there.
        outbox.push_small(Frame::Cancel { id: self.id });
        Fate::Unknown
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.give_up();
        }
    }
}
