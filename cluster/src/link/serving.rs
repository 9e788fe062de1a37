//! The answering side of a connection.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use rustc_hash::FxBuildHasher;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zajil_model::lease::NodeId;

use super::config::Timing;
use super::connection::unsupported;
use super::frame::{Answer, Frame};
use super::outbox::Outbox;
use super::wire::{Ended, Event, Inbound, Reader, Writer};
use super::{Incoming, Lane, Part, Reply, Serve, too_large};
use crate::metrics::link::{self as metrics, Service};

/// Calls of one connection that are served at once, at most: as many as a peer asks at once, with
/// room for those that it gave up and that have not ended yet.
const SERVED: usize = 2 * super::connection::IN_FLIGHT;

/// Bytes of requests of one connection that are served at once, at most: two of the longest.
const SERVED_BYTES: usize = 2 * super::BULK_LIMIT;

/// A connection that another node made, to ask over it.
#[derive(Debug)]
pub(super) struct Serving {
    pub(super) from: NodeId,
    pub(super) lane: Lane,
    serve: Arc<dyn Serve>,
    outbox: Outbox,
    load: Mutex<Load>,
    tasks: TaskTracker,
}

#[derive(Debug, Default)]
struct Load {
    calls: usize,
    bytes: usize,
    /// The tasks that serve requests; none yet for one that is just beginning.
    requests: HashMap<u64, Option<AbortHandle>, FxBuildHasher>,
}

impl Serving {
    pub(super) fn new(
        from: NodeId,
        lane: Lane,
        serve: Arc<dyn Serve>,
        tasks: TaskTracker,
    ) -> Arc<Self> {
        Arc::new(Self {
            from,
            lane,
            serve,
            outbox: Outbox::new(),
            load: Mutex::default(),
            tasks,
        })
    }

    /// Serves until the connection ends. When the node stops, the peer is told, and served until
    /// it has gone or until `kill`.
    pub(super) async fn run(
        self: Arc<Self>,
        halves: (Reader, Writer),
        timing: &Timing,
        stop: &CancellationToken,
        kill: &CancellationToken,
    ) -> Ended {
        let inbound = Inbound::new(halves.0, self.lane, timing);
        let ended = tokio::select! {
            ended = self.read(inbound) => ended,
            wrote = self.outbox.drain_into(halves.1) => match wrote {
                Ok(()) => Ended::Closed,
                Err(error) => Ended::from(error),
            },
            ended = self.say_goodbye(stop) => ended,
            () = kill.cancelled() => Ended::Stopping,
        };
        self.outbox.close();
        let requests = std::mem::take(&mut self.load.lock().requests);
        requests.into_values().flatten().for_each(|it| it.abort());
        ended
    }

    async fn say_goodbye(&self, stop: &CancellationToken) -> Ended {
        stop.cancelled().await;
        if self.outbox.push_small(Frame::Goaway) {
            std::future::pending().await
        } else {
            Ended::Deaf
        }
    }

    async fn read(self: &Arc<Self>, mut inbound: Inbound) -> Ended {
        loop {
            let heard = match inbound.next().await {
                Err(ended) => return ended,
                Ok(Event::Tick) => self.outbox.push_small(Frame::Ping),
                Ok(Event::Frame(frame)) => self.heard(frame),
            };
            if !heard {
                return Ended::Deaf;
            }
        }
    }

    /// Takes a frame; `false` when the peer does not read the answers.
    fn heard(self: &Arc<Self>, frame: Frame) -> bool {
        match frame {
            Frame::Request { id, call } => self.begin(Some(id), call),
            Frame::Cast(call) => self.begin(None, call),
            Frame::Cancel { id } => {
                let task = self.load.lock().requests.remove(&id).flatten();
                if let Some(task) = task {
                    task.abort();
                }
                true
            }
            Frame::Unknown { id } if id != 0 => self.outbox.push_small(unsupported(id)),
            Frame::Unknown { .. } | Frame::Ping | Frame::Goaway | Frame::Reply { .. } => true,
        }
    }

    fn begin(self: &Arc<Self>, id: Option<u64>, call: Incoming) -> bool {
        let Some(service) = self.admit(id, call.body.len()) else {
            metrics::served(Service::Overloaded);
            let answer = Answer::Reply(Reply::Overloaded);
            return id.is_none_or(|id| self.outbox.push_small(Frame::Reply { id, answer }));
        };
        let task = self.tasks.spawn(service.run(call)).abort_handle();
        let id = id.unwrap_or_default();
        if let Some(begun) = self.load.lock().requests.get_mut(&id) {
            *begun = Some(task);
        }
        true
    }

    fn admit(self: &Arc<Self>, id: Option<u64>, bytes: usize) -> Option<InService> {
        let mut load = self.load.lock();
        if load.calls >= SERVED || load.bytes + bytes > SERVED_BYTES {
            return None;
        }
        load.calls += 1;
        load.bytes += bytes;
        if let Some(id) = id {
            load.requests.insert(id, None);
        }
        drop(load);
        let serving = self.clone();
        Some(InService { serving, id, bytes })
    }
}

/// A call that is served.
struct InService {
    serving: Arc<Serving>,
    /// The id of the request; none for a cast.
    id: Option<u64>,
    bytes: usize,
}

impl InService {
    async fn run(self, call: Incoming) {
        let deadline = Instant::now() + call.deadline;
        let serving = &self.serving;
        let reply = serving.serve.serve(serving.from, call);
        let Ok(reply) = timeout_at(deadline, reply).await else {
            return metrics::served(Service::Expired);
        };
        metrics::served(Service::Answered);
        if let Some(id) = self.id {
            let answer = answer(reply, serving.lane);
            // A connection that ended has told its caller so.
            serving
                .outbox
                .push(Frame::Reply { id, answer }, None)
                .await
                .ok();
        }
    }
}

impl Drop for InService {
    fn drop(&mut self) {
        let mut load = self.serving.load.lock();
        load.calls -= 1;
        load.bytes -= self.bytes;
        let waits = self.id.filter(|id| load.requests.remove(id).is_some());
        drop(load);
        if std::thread::panicking() {
            metrics::served(Service::Panicked);
            let answer = Answer::Reply(Reply::Failed("it panicked".to_owned()));
            if let Some(id) = waits {
                self.serving.outbox.push_small(Frame::Reply { id, answer });
            }
        }
    }
}

fn answer(reply: Reply, lane: Lane) -> Answer {
    match &reply {
        Reply::Ok(body) if too_large(Part::Reply, body.len(), lane).is_err() => {
            Answer::TooLarge { bytes: body.len() }
        }
        _ => Answer::Reply(reply),
    }
}
