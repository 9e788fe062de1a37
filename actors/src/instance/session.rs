//! The session of an instance: opening its transport, and what becomes of it.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use zajil_model::instance::{CloseReason, Session, Wanted};
use zajil_model::retry::restart_wait;
use zajil_model::time::Timestamp;
use zajil_transport::{EventSink, OpenError, SessionEvent, StopMode, Transport, TransportSpec};

use crate::instance::{InstanceMsg, InstanceState, Me};

/// How long nothing is sent after the channel said that the instance cannot send, unless it says
/// that it can again.
const HOLD: Duration = Duration::from_secs(30);

/// The way out, and whether it can be used.
#[derive(Debug)]
pub(crate) struct SessionState {
    line: Line,
    /// Whether the channel shows a repeated id once, where that is known.
    idempotent: Option<bool>,
    failures: u32,
    open_at: Option<Timestamp>,
    held_until: Option<Timestamp>,
    /// Why it stays closed until a person acts.
    ended: Option<CloseReason>,
}

/// The transport of this generation.
#[derive(Debug, Default)]
struct Line {
    transport: Option<Arc<dyn Transport>>,
    sink: Option<EventSink>,
    generation: u32,
    online: bool,
}

impl SessionState {
    /// A session that is not open yet; `ended` is why the last actor's one had ended for good.
    pub(super) fn new(me: &Me, ended: Option<CloseReason>) -> Self {
        me.handle
            .show(|shown| shown.phone = shown.phone.or(me.instance.phone));
        Self {
            line: Line::default(),
            idempotent: told_by_channel(me),
            failures: 0,
            open_at: None,
            held_until: None,
            ended: match me.instance.wanted {
                Wanted::Connected => ended,
                Wanted::Disconnected => Some(CloseReason::Disconnected),
                Wanted::LoggedOut => Some(CloseReason::LoggedOut),
            },
        }
    }

    pub(super) fn transport(&self) -> Option<Arc<dyn Transport>> {
        self.line.transport.clone()
    }

    /// Whether the channel shows a repeated id once; `None` before that is known.
    pub(super) const fn is_idempotent(&self) -> Option<bool> {
        self.idempotent
    }

    /// Asks what the channel can tell, which is known once the session is online.
    pub(super) fn learn_channel(&mut self, me: &Me) {
        self.idempotent = told_by_channel(me);
    }

    pub(super) const fn is_current(&self, generation: u32) -> bool {
        self.line.generation == generation
    }

    pub(super) fn can_send(&self, now: Timestamp) -> bool {
        self.line.online
            && self.line.transport.is_some()
            && self.held_until.is_none_or(|until| until <= now)
    }

    /// When something changes by itself: a hold ends, or the transport is opened again.
    pub(super) fn wakes_at(&self, now: Timestamp) -> Option<Timestamp> {
        [self.held_until.filter(|until| *until > now), self.open_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// Nothing is sent for a while.
    pub(super) fn hold(&mut self, now: Timestamp) {
        self.held_until = Some(now + HOLD);
    }

    /// Why the session stays closed until a person acts; kept across actors.
    pub(super) const fn kept_closed(&self) -> Option<CloseReason> {
        self.ended
    }

    /// What people asked for changed.
    pub(super) fn want(&mut self, me: &Me, settings_changed: bool) {
        let ended = match me.instance.wanted {
            Wanted::Connected => {
                let asked = [CloseReason::Disconnected, CloseReason::LoggedOut].map(Some);
                self.ended.filter(|_| !asked.contains(&self.ended))
            }
            Wanted::Disconnected => Some(CloseReason::Disconnected),
            Wanted::LoggedOut => Some(CloseReason::LoggedOut),
        };
        let changed = ended != self.ended;
        self.ended = ended;
        if changed || settings_changed {
            self.close(me);
            self.open(me);
        }
    }

    /// A person asked for it to be opened again, whatever had ended it.
    pub(super) fn reopen(&mut self, me: &Me) {
        if me.instance.wanted == Wanted::Connected && !self.line.online {
            self.ended = None;
            self.close(me);
            self.open(me);
        }
    }

    /// Opens the transport, unless somebody has to act first, or the shard is about to leave: its
    /// next owner opens one then.
    pub(super) fn open(&mut self, me: &Me) {
        self.open_at = None;
        if me.context.ownership.is_leaving(me.handle.shard()) {
            return;
        }
        if let Some(reason) = self.ended {
            self.show(me, Session::Closed { reason });
            return;
        }
        self.show(me, Session::Connecting);
        self.line.generation += 1;
        let generation = self.line.generation;
        let tell = me.teller();
        let Some(factory) = me.context.transports.get(&me.instance.transport).cloned() else {
            let error = OpenError::Unsupported(me.instance.transport);
            tell(InstanceMsg::Opened(generation, Err(error)));
            return;
        };
        let told = me.teller();
        let sink =
            EventSink::new(move |delivered| told(InstanceMsg::Happened(generation, delivered)));
        self.line.sink = Some(sink.clone());
        let spec = TransportSpec {
            instance: me.id(),
            epoch: me
                .context
                .clocks
                .epoch(me.handle.shard())
                .unwrap_or_default(),
            kind: me.instance.transport,
            settings: me.instance.settings.clone(),
            phone: me.instance.phone,
        };
        me.context.tasks.spawn(async move {
            let result = factory.open(spec, sink).await;
            tell(InstanceMsg::Opened(generation, result));
        });
    }

    /// Closes the transport. What it still tells of its messages is heard, as evidence, until
    /// the actor leaves.
    pub(super) fn close(&mut self, me: &Me) {
        self.line.online = false;
        self.line.generation += 1;
        if let Some(transport) = self.line.transport.take() {
            me.context
                .tasks
                .spawn(async move { transport.stop(StopMode::Drain).await });
        }
    }

    /// The actor leaves: nobody hears what the transport tells.
    pub(super) fn leave(&mut self, me: &Me) {
        self.close(me);
        if let Some(sink) = self.line.sink.take() {
            sink.close();
        }
    }

    fn show(&self, me: &Me, session: Session) {
        let now = me.now();
        me.handle.show(|shown| {
            if shown.session != session {
                me.context.metrics.session_changed(&session);
                shown.session = session;
                shown.since = now;
            }
        });
    }

    /// It ended, and stays closed until a person acts.
    fn end(&mut self, me: &Me, reason: CloseReason) {
        tracing::warn!(instance = %me.id(), reason = reason.label(), "the session ended");
        self.ended = Some(reason);
        self.close(me);
        self.show(me, Session::Closed { reason });
    }
}

/// Whether the channel of an instance shows a repeated id once, where that is known.
fn told_by_channel(me: &Me) -> Option<bool> {
    let factory = me.context.transports.get(&me.instance.transport)?;
    factory.capabilities(&me.instance.settings).idempotent_by_id
}

impl InstanceState {
    /// The transport was opened, or could not be.
    pub(super) fn on_opened(
        &mut self,
        generation: u32,
        result: Result<Arc<dyn Transport>, OpenError>,
    ) {
        let now = self.me.now();
        match result {
            Ok(transport) if self.session.is_current(generation) => {
                self.session.line.transport = Some(transport);
            }
            Ok(transport) => {
                self.me
                    .context
                    .tasks
                    .spawn(async move { transport.stop(StopMode::Abort).await });
            }
            Err(error) if self.session.is_current(generation) => {
                tracing::warn!(instance = %self.me.id(), %error, "cannot open the transport");
                self.session.failures += 1;
                let wait = restart_wait(self.session.failures, self.me.random.random());
                self.session.open_at = Some(now + wait);
                let reason = CloseReason::Offline;
                self.session.show(&self.me, Session::Closed { reason });
            }
            Err(_) => {}
        }
    }

    /// Opens the transport again when its time came.
    pub(super) fn open_when_due(&mut self, now: Timestamp) {
        if self.session.open_at.is_some_and(|at| at <= now) {
            self.session.open(&self.me);
        }
    }

    /// The session changed.
    pub(super) fn on_session(&mut self, event: SessionEvent, now: Timestamp) {
        match event {
            SessionEvent::Online { phone } => {
                self.session.failures = 0;
                self.session.held_until = None;
                self.session.line.online = true;
                self.learn_channel();
                self.me
                    .handle
                    .show(|shown| shown.phone = phone.or(shown.phone));
                self.session.show(&self.me, Session::Open);
            }
            SessionEvent::Offline { reason } => {
                tracing::info!(instance = %self.me.id(), reason, "the session is offline");
                self.session.line.online = false;
                let reason = CloseReason::Offline;
                self.session.show(&self.me, Session::Closed { reason });
            }
            SessionEvent::Replaced => self.session.end(&self.me, CloseReason::Replaced),
            SessionEvent::LoggedOut => self.session.end(&self.me, CloseReason::LoggedOut),
            SessionEvent::Banned => self.session.end(&self.me, CloseReason::Banned),
            SessionEvent::Restricted { until } => {
                self.session.held_until = Some(until.max(now));
                self.me
                    .handle
                    .show(|shown| shown.restricted_until = Some(until));
            }
        }
    }
}
