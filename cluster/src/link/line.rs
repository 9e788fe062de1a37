//! The way to one node in one lane: a connection while somebody needs it.
//!
//! Whoever asks while there is none waits for the next attempt, whatever comes of it: a node that
//! is gone costs its callers one wait and not their whole deadline. Attempts follow each other
//! with growing pauses, and only while somebody asks.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};
use zajil_model::lease::NodeId;

use super::config::Timing;
use super::connection::{Connection, NoAnswer};
use super::dial::{Dialed, Dialer};
use super::hello::Refusal;
use super::status::{PeerState, PeerStatus};
use super::wire::Ended;
use super::{Fate, Lane};

/// The way to one node in one lane.
#[derive(Debug)]
pub(super) struct Line {
    node: NodeId,
    lane: Lane,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    now: Now,
    /// Connections and attempts that failed one after the other.
    failures: u32,
    /// Until when the next attempt waits.
    wait_until: Option<Instant>,
    problem: Option<String>,
}

#[derive(Debug, Default)]
enum Now {
    #[default]
    Nothing,
    Dialing(watch::Receiver<Option<Outcome>>),
    Up(Arc<Connection>),
}

type Outcome = Result<Arc<Connection>, Refusal>;

impl Line {
    pub(super) fn new(node: NodeId, lane: Lane) -> Self {
        Self {
            node,
            lane,
            state: Mutex::default(),
        }
    }

    /// The connection, made if need be.
    pub(super) async fn connection(
        self: &Arc<Self>,
        dialer: &Arc<Dialer>,
        deadline: Instant,
    ) -> Result<Arc<Connection>, NoAnswer> {
        let mut dialed = match self.now(dialer) {
            Ok(connection) => return Ok(connection),
            Err(dialed) => dialed,
        };
        let outcome = timeout_at(deadline, dialed.wait_for(Option::is_some)).await;
        let Ok(outcome) = outcome else {
            return Err(NoAnswer::Expired(Fate::NotSent));
        };
        let gone = || Err(Refusal::Failed("this node is stopping".to_owned()));
        let outcome = outcome.map_or_else(|_| gone(), |it| it.clone().unwrap_or_else(gone));
        outcome.map_err(NoAnswer::Refused)
    }

    fn now(
        self: &Arc<Self>,
        dialer: &Arc<Dialer>,
    ) -> Result<Arc<Connection>, watch::Receiver<Option<Outcome>>> {
        let mut state = self.state.lock();
        match &state.now {
            Now::Up(connection) if connection.takes_calls() => return Ok(connection.clone()),
            Now::Dialing(outcome) => return Err(outcome.clone()),
            Now::Up(_) | Now::Nothing => {}
        }
        let (tell, outcome) = watch::channel(None);
        state.now = Now::Dialing(outcome.clone());
        let wait_until = state.wait_until.take();
        drop(state);
        let (line, dialer) = (self.clone(), dialer.clone());
        dialer.tasks.clone().spawn(async move {
            let stop = dialer.stop.clone();
            tokio::select! {
                () = stop.cancelled() => {}
                () = line.dial(dialer, wait_until, tell) => {}
            }
        });
        Err(outcome)
    }

    async fn dial(
        self: Arc<Self>,
        dialer: Arc<Dialer>,
        wait_until: Option<Instant>,
        tell: watch::Sender<Option<Outcome>>,
    ) {
        if let Some(until) = wait_until {
            sleep_until(until).await;
        }
        match dialer.dial(self.node, self.lane).await {
            Ok(dialed) => {
                let connection = self.up(&dialer, dialed);
                tell.send_replace(Some(Ok(connection)));
            }
            Err(refusal) => {
                self.failed(&dialer, refusal.to_string());
                tell.send_replace(Some(Err(refusal)));
            }
        }
    }

    fn up(self: &Arc<Self>, dialer: &Arc<Dialer>, dialed: Dialed) -> Arc<Connection> {
        let connection = Arc::new(Connection::new(dialed.peer));
        {
            let mut state = self.state.lock();
            state.now = Now::Up(connection.clone());
            state.problem = None;
        }
        let (line, dialer) = (self.clone(), dialer.clone());
        let running = connection.clone();
        dialer.tasks.clone().spawn(async move {
            let since = Instant::now();
            let timing = &dialer.timing;
            let ended = running
                .run(dialed.halves, line.lane, timing, &dialer.stop)
                .await;
            line.ended(&dialer, &running, &ended, since.elapsed());
        });
        connection
    }

    fn ended(&self, dialer: &Dialer, connection: &Arc<Connection>, ended: &Ended, lived: Duration) {
        let (node, lane) = (self.node.0, self.lane.label());
        tracing::debug!(node, lane, %ended, "a connection ended");
        let mut state = self.state.lock();
        // One that lived for a while was a good one; one that did not is no reason to hurry.
        if lived >= dialer.timing.backoff_to {
            state.failures = 0;
        }
        let current = matches!(&state.now, Now::Up(it) if Arc::ptr_eq(it, connection));
        if current {
            state.now = Now::Nothing;
        }
        drop(state);
        let expected = connection.was_told_to_leave() || matches!(ended, Ended::Idle);
        if current && !expected && *ended != Ended::Stopping {
            crate::metrics::link::lost(ended.label());
            self.failed(dialer, ended.to_string());
        }
    }

    fn failed(&self, dialer: &Dialer, problem: String) {
        let mut state = self.state.lock();
        let wait = backoff(state.failures, &dialer.timing).mul_f64(dialer.jitter());
        state.failures = state.failures.saturating_add(1);
        state.wait_until = Some(Instant::now() + wait);
        state.problem = Some(problem);
        state.now = Now::Nothing;
    }

    pub(super) const fn key(&self) -> (NodeId, Lane) {
        (self.node, self.lane)
    }

    pub(super) fn status(&self) -> PeerStatus {
        let state = self.state.lock();
        let up = match &state.now {
            Now::Up(connection) => Some(connection),
            Now::Dialing(_) | Now::Nothing => None,
        };
        PeerStatus {
            node: self.node,
            lane: self.lane,
            state: match (&state.now, &state.problem) {
                (Now::Up(_), _) => PeerState::Up,
                (Now::Dialing(_), _) => PeerState::Dialing,
                (Now::Nothing, Some(_)) => PeerState::Down,
                (Now::Nothing, None) => PeerState::Idle,
            },
            incarnation: up.map(|it| it.peer.incarnation),
            software: up.map(|it| super::hello::shown(&it.peer.software)),
            in_flight: up.map_or(0, |it| it.in_flight()),
            problem: state.problem.clone(),
        }
    }
}

/// How long to wait after so many failures.
fn backoff(failures: u32, timing: &Timing) -> Duration {
    let doubled = 1_u32.checked_shl(failures).unwrap_or(u32::MAX);
    timing
        .backoff_from
        .saturating_mul(doubled)
        .min(timing.backoff_to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_follow_each_other_with_growing_pauses() {
        let millis = |failures| backoff(failures, &Timing::default()).as_millis();

        let waits = [0, 1, 2, 5, 6, 40].map(millis);

        assert_eq!(waits, [50, 100, 200, 1_600, 2_000, 2_000]);
    }
}
