//! Instances at a simulator process: one connection an address carries all of them.
//!
//! Handing over never waits: frames go into a bounded queue that the task of the connection
//! writes. When the connection drops, all that is unanswered is ambiguous, every instance is told
//! that it is offline, and the task tries again until no instance is open any more.

use std::mem;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use rustc_hash::{FxHashMap, FxHashSet};
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;
use zajil_model::id::InstanceId;
use zajil_model::phone::Phone;
use zajil_model::time::Clock;
use zajil_model::wa_id::WaId;

use super::fate::Frame;
use super::outlet::Outlet;
use super::wire::{FRAMES_A_MESSAGE, FromEngine, WireEvent, WireFrame};
use crate::metrics::Meters;
use crate::{EventSink, Outbound, SessionEvent, StopMode, Transport, TransportEvent};

mod link;

/// Frames that wait to be written to one simulator process; none are taken above. At 100,000 a
/// second it is more than half a second, in 4 MB.
const QUEUE_FRAMES: usize = 65_536;

/// Unanswered frames of one instance that are remembered for sure: far more than a window of the
/// engine. Older ones were never answered, and the engine gave up waiting for them long ago.
const UNANSWERED_KEPT: usize = 4_096;

/// The simulator processes that instances were opened at, by address.
#[derive(Debug)]
pub(super) struct Remotes {
    clock: Arc<dyn Clock>,
    tasks: TaskTracker,
    meters: Meters,
    by_address: Mutex<FxHashMap<String, Arc<Remote>>>,
}

impl Remotes {
    /// None yet.
    pub(super) fn new(clock: Arc<dyn Clock>, tasks: TaskTracker) -> Self {
        let meters = Meters::new("simulator");
        Self {
            clock,
            tasks,
            meters,
            by_address: Mutex::default(),
        }
    }

    /// Whether the simulator there shows a repeated id once; `None` before it said so.
    pub(super) fn is_idempotent(&self, address: &str) -> Option<bool> {
        let remotes = self.by_address.lock();
        remotes.get(address)?.state.lock().idempotent
    }

    /// Opens an instance at an address; it comes online when the connection is there.
    pub(super) fn open(
        &self,
        address: &str,
        instance: InstanceId,
        phone: Phone,
        sink: EventSink,
    ) -> RemoteTransport {
        let outlet = Arc::new(Outlet::new(sink, self.tasks.clone(), self.meters.clone()));
        let remote = {
            let mut remotes = self.by_address.lock();
            remotes
                .entry(address.to_owned())
                .or_insert_with(|| self.remote(address))
                .clone()
        };
        let line = remote.open(instance, phone, outlet);
        RemoteTransport { remote, line }
    }

    fn remote(&self, address: &str) -> Arc<Remote> {
        Arc::new(Remote {
            address: address.to_owned(),
            clock: self.clock.clone(),
            tasks: self.tasks.clone(),
            meters: self.meters.clone(),
            news: Notify::new(),
            state: Mutex::new(State {
                lines: FxHashMap::default(),
                last_line: 0,
                queue: Vec::new(),
                queued_frames: 0,
                idempotent: None,
                connected: false,
                linked: false,
            }),
        })
    }
}

/// One simulator process.
#[derive(Debug)]
struct Remote {
    address: String,
    clock: Arc<dyn Clock>,
    tasks: TaskTracker,
    meters: Meters,
    /// Something is to be written, or the last instance was closed.
    news: Notify,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    lines: FxHashMap<u32, Line>,
    last_line: u32,
    queue: Vec<FromEngine>,
    queued_frames: usize,
    /// What it said when it was last connected.
    idempotent: Option<bool>,
    connected: bool,
    /// Whether the task of the connection runs.
    linked: bool,
}

#[derive(Debug)]
struct Line {
    instance: InstanceId,
    phone: Phone,
    outlet: Arc<Outlet>,
    takes: bool,
    draining: bool,
    told_offline: bool,
    unanswered: Unanswered,
}

/// The frames that wait for an answer: the last [`UNANSWERED_KEPT`], at most twice as many.
#[derive(Debug, Default)]
struct Unanswered {
    young: FxHashSet<WaId>,
    old: FxHashSet<WaId>,
}

impl Unanswered {
    fn insert(&mut self, id: WaId) {
        if self.young.len() >= UNANSWERED_KEPT {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(id);
    }

    fn remove(&mut self, id: WaId) {
        self.young.remove(&id);
        self.old.remove(&id);
    }

    /// All of them, in the order of their ids.
    fn take(&mut self) -> Vec<WaId> {
        let mut ids: Vec<_> = mem::take(&mut self.young).into_iter().collect();
        ids.extend(mem::take(&mut self.old));
        ids.sort_unstable();
        ids.dedup();
        ids
    }
}

impl Line {
    /// What is unanswered stays so.
    fn ambiguous(&mut self, at: zajil_model::time::Timestamp) -> Vec<TransportEvent> {
        let ambiguous = |wa_id| TransportEvent::Ambiguous { wa_id, at };
        self.unanswered.take().into_iter().map(ambiguous).collect()
    }

    /// Follows what the simulator told.
    fn follow(&mut self, event: &WireEvent) {
        match event {
            WireEvent::Acked(id) | WireEvent::Refused { id, .. } | WireEvent::Ambiguous(id) => {
                self.unanswered.remove(*id);
            }
            WireEvent::Online { .. } => (self.takes, self.told_offline) = (true, false),
            WireEvent::Offline { .. }
            | WireEvent::Replaced
            | WireEvent::LoggedOut
            | WireEvent::Banned => self.takes = false,
            WireEvent::Received(_) | WireEvent::Read(_) | WireEvent::Restricted { .. } => {}
        }
    }
}

impl Remote {
    fn open(self: &Arc<Self>, instance: InstanceId, phone: Phone, outlet: Arc<Outlet>) -> u32 {
        let mut state = self.state.lock();
        state.last_line = state.last_line.wrapping_add(1);
        let line = state.last_line;
        let unanswered = Unanswered::default();
        let opened = Line {
            instance,
            phone,
            outlet,
            takes: false,
            draining: false,
            told_offline: false,
            unanswered,
        };
        state.lines.insert(line, opened);
        if state.connected {
            state.queue.push(FromEngine::Open {
                line,
                instance,
                phone,
            });
            self.news.notify_one();
        }
        if !state.linked {
            state.linked = true;
            self.tasks.spawn(link::keep(self.clone()));
        }
        line
    }

    /// Puts frames into the queue; answers how many.
    fn submit(&self, line: u32, frames: &[Frame]) -> usize {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let room = QUEUE_FRAMES.saturating_sub(state.queued_frames);
        let Some(open) = state.lines.get_mut(&line) else {
            return 0;
        };
        if !open.takes || open.draining || open.outlet.is_full() {
            return 0;
        }
        let taken = &frames[..frames.len().min(room)];
        for frame in taken {
            open.unanswered.insert(frame.wa_id);
        }
        for part in taken.chunks(FRAMES_A_MESSAGE) {
            let frames = part.iter().copied().map(WireFrame::from).collect();
            state.queue.push(FromEngine::Submit { line, frames });
        }
        state.queued_frames += taken.len();
        self.news.notify_one();
        taken.len()
    }

    /// Closes an instance; answers what is unanswered.
    fn close(&self, line: u32) {
        let outlet = {
            let mut state = self.state.lock();
            let Some(mut closed) = state.lines.remove(&line) else {
                return;
            };
            let events = closed.ambiguous(self.clock.now());
            closed.outlet.add(events);
            if state.connected {
                state.queue.push(FromEngine::Close { line });
            }
            closed.outlet
        };
        outlet.flush();
        self.news.notify_one();
    }

    /// Hands on what the simulator told; answers the ways out that are behind.
    fn hear(&self, told: Vec<(u32, Vec<WireEvent>)>) -> Vec<Arc<Outlet>> {
        let mut outlets = Vec::with_capacity(told.len());
        {
            let mut state = self.state.lock();
            let now = self.clock.now();
            for (line, events) in told {
                let Some(line) = state.lines.get_mut(&line) else {
                    continue;
                };
                events.iter().for_each(|event| line.follow(event));
                line.outlet
                    .add(events.into_iter().map(|event| event.heard(now)).collect());
                outlets.push(line.outlet.clone());
            }
        }
        outlets.iter().for_each(Outlet::flush);
        outlets.retain(|outlet| outlet.is_full());
        outlets
    }

    /// The connection is there: every instance is to be opened on it.
    fn connected(&self, idempotent: bool) {
        let mut state = self.state.lock();
        (state.connected, state.idempotent) = (true, Some(idempotent));
        let open = |(&line, open): (&u32, &Line)| FromEngine::Open {
            line,
            instance: open.instance,
            phone: open.phone,
        };
        state.queue = state.lines.iter().map(open).collect();
        self.news.notify_one();
    }

    /// The connection is not there: tells everyone, those that know it already excepted.
    fn dropped(&self, reason: &str) {
        let mut outlets = Vec::new();
        {
            let mut state = self.state.lock();
            state.connected = false;
            state.queue.clear();
            state.queued_frames = 0;
            for line in state.lines.values_mut() {
                line.takes = false;
                let mut events = line.ambiguous(self.clock.now());
                if !line.told_offline {
                    line.told_offline = true;
                    let reason = reason.to_owned();
                    events.push(TransportEvent::Session(SessionEvent::Offline { reason }));
                }
                line.outlet.add(events);
                outlets.push(line.outlet.clone());
            }
        }
        outlets.iter().for_each(Outlet::flush);
    }
}

/// An instance at a simulator process; dropping it closes it.
#[derive(Debug)]
pub(super) struct RemoteTransport {
    remote: Arc<Remote>,
    line: u32,
}

#[async_trait]
impl Transport for RemoteTransport {
    fn submit(&self, mut frames: Vec<Outbound>) -> Vec<Outbound> {
        let now = self.remote.clock.now();
        let sent: Vec<Frame> = frames.iter().map(|frame| Frame::of(frame, now)).collect();
        let taken = self.remote.submit(self.line, &sent);
        self.remote.meters.taken(taken);
        frames.split_off(taken)
    }

    async fn stop(&self, mode: StopMode) {
        match mode {
            StopMode::Drain => {
                if let Some(line) = self.remote.state.lock().lines.get_mut(&self.line) {
                    line.draining = true;
                }
            }
            StopMode::Abort => self.remote.close(self.line),
        }
    }
}

impl Drop for RemoteTransport {
    fn drop(&mut self) {
        self.remote.close(self.line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_that_are_never_answered_are_forgotten_and_young_ones_kept() {
        let id = |number: u64| format!("3EB0{number:018X}").parse::<WaId>().unwrap();
        let mut unanswered = Unanswered::default();

        (0..20_000).for_each(|number| unanswered.insert(id(number)));
        unanswered.remove(id(19_999));

        let ids = unanswered.take();
        assert!(ids.len() <= 2 * UNANSWERED_KEPT);
        assert!((16_000..19_999).all(|number| ids.contains(&id(number))));
        assert!(!ids.contains(&id(19_999)));
    }
}
