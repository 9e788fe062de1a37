//! A simulated world at work: its lock, its clock, and the one task that lets things happen.
//!
//! Both simulators are this: the one in the engine's process, and the process of its own, which
//! adds a ledger and sockets.

use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;
use zajil_model::id::InstanceId;
use zajil_model::phone::Phone;
use zajil_model::time::{Clock, Mono};

use super::fate::Frame;
use super::ledger::Ledger;
use super::line::Moment;
use super::outlet::Outlet;
use super::script::Script;
use super::world::{Arrival, LineKey, World};
use crate::EventSink;
use crate::metrics::Meters;

/// A simulated world at work.
#[derive(Debug)]
pub(crate) struct Hub {
    clock: Arc<dyn Clock>,
    tasks: TaskTracker,
    meters: Meters,
    wake: Arc<Notify>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    world: World,
    outlets: FxHashMap<InstanceId, (u32, Arc<Outlet>)>,
    ledger: Option<Ledger>,
    /// Until when the driver sleeps; `None` when it does not run.
    driver: Option<Mono>,
}

impl Hub {
    /// A world that remembers `shown` ids and writes what it gets to `ledger`.
    pub(crate) fn new(
        clock: Arc<dyn Clock>,
        tasks: TaskTracker,
        seed: u64,
        shown: usize,
        ledger: Option<Ledger>,
    ) -> Arc<Self> {
        let world = World::new(seed, shown);
        let state = State {
            world,
            outlets: FxHashMap::default(),
            ledger,
            driver: None,
        };
        let meters = Meters::new("simulator");
        let wake = Arc::new(Notify::new());
        Arc::new(Self {
            clock,
            tasks,
            meters,
            wake,
            state: Mutex::new(state),
        })
    }

    /// Opens an instance.
    pub(crate) fn open(
        self: &Arc<Self>,
        instance: InstanceId,
        phone: Phone,
        script: Arc<Script>,
        sink: EventSink,
    ) -> Opening {
        let outlet = Arc::new(Outlet::new(sink, self.tasks.clone(), self.meters.clone()));
        let (key, before) = {
            let mut state = self.state.lock();
            let opened = state.world.open(instance, phone, script, self.now());
            let entry = (opened.key.generation, outlet.clone());
            let before = state
                .outlets
                .insert(instance, entry)
                .map(|(_, before)| before);
            if let Some(before) = &before {
                before.add(opened.before);
            }
            outlet.add(opened.events);
            self.see_to_driver(&mut state);
            (opened.key, before)
        };
        if let Some(before) = before {
            before.flush();
        }
        outlet.flush();
        Opening {
            hub: self.clone(),
            key,
            outlet,
        }
    }

    fn now(&self) -> Moment {
        Moment {
            mono: self.clock.mono(),
            wall: self.clock.now(),
        }
    }

    /// Starts the driver, or wakes it when something is due before it would wake.
    fn see_to_driver(self: &Arc<Self>, state: &mut State) {
        let Some(next) = state.world.next_due() else {
            return;
        };
        match state.driver {
            Some(until) if until <= next => {}
            Some(_) => {
                state.driver = Some(next);
                self.wake.notify_one();
            }
            None => {
                state.driver = Some(next);
                self.tasks
                    .spawn(drive(Arc::downgrade(self), self.wake.clone()));
            }
        }
    }

    /// Lets happen what is due; how long until the next time, `None` when there is none.
    fn turn(&self) -> Option<Duration> {
        let mut flush = Vec::new();
        let wait = {
            let mut state = self.state.lock();
            let now = self.now();
            for (key, events) in state.world.due(now) {
                if let Some((generation, outlet)) = state.outlets.get(&key.instance)
                    && *generation == key.generation
                {
                    outlet.add(events);
                    flush.push(outlet.clone());
                }
            }
            state.driver = state.world.next_due();
            state.driver.map(|next| next.since(now.mono))
        };
        flush.iter().for_each(Outlet::flush);
        wait
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.wake.notify_one();
    }
}

/// Lets things happen in time, while anything is to happen and anybody is there to be told.
async fn drive(hub: Weak<Hub>, wake: Arc<Notify>) {
    loop {
        let Some(wait) = hub.upgrade().and_then(|hub| hub.turn()) else {
            return;
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = wake.notified() => {}
        }
    }
}

/// An open instance; dropping it closes it.
#[derive(Debug)]
pub(crate) struct Opening {
    hub: Arc<Hub>,
    key: LineKey,
    outlet: Arc<Outlet>,
}

impl Opening {
    /// Hands frames over; answers how many were taken.
    ///
    /// # Errors
    /// When the ledger cannot be written: the frames count as never received.
    pub(crate) fn submit(&self, frames: &[Frame], arrival: Arrival) -> io::Result<usize> {
        if arrival == Arrival::Local && self.outlet.is_full() {
            return Ok(0);
        }
        let count = {
            let mut state = self.hub.state.lock();
            let now = self.hub.now();
            let taken = state.world.submit(self.key, frames, arrival, now);
            // Nothing of these frames was told yet: the lock is held until they are in the ledger.
            if let Some(ledger) = &mut state.ledger {
                ledger.append(self.key.instance, frames, &taken.shown, now.wall)?;
            }
            self.outlet.add(taken.events);
            self.hub.see_to_driver(&mut state);
            taken.count
        };
        self.hub.meters.taken(count);
        self.outlet.flush();
        Ok(count)
    }

    /// Whether more events wait for the sink than should.
    pub(crate) fn is_behind(&self) -> bool {
        self.outlet.is_full()
    }

    /// Takes no more frames; answers still come.
    pub(crate) fn drain(&self) {
        self.hub.state.lock().world.drain(self.key);
    }

    /// Closes it; answers what is unanswered.
    pub(crate) fn close(&self) {
        {
            let mut state = self.hub.state.lock();
            let events = state.world.close(self.key, self.hub.now());
            self.outlet.add(events);
            if let Some((generation, _)) = state.outlets.get(&self.key.instance)
                && *generation == self.key.generation
            {
                state.outlets.remove(&self.key.instance);
            }
        }
        self.outlet.flush();
        self.hub.wake.notify_one();
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.close();
    }
}
