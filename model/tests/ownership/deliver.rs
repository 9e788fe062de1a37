//! One message on its way while owners change: attempts, claims, frames, answers and outcomes.
//!
//! That one node at most passes the lease check is what [`super::lead`] shows; here a take-over ends
//! the lease of the owner before, who may have a frame past the check, and does not know.

use stateright::{Model, Property};
use zajil_model::lifecycle::Status;
use zajil_model::message::OnAmbiguous;

mod calm;
mod guard;
mod sender;
mod state;
mod step;

pub(crate) use guard::{GUARDS, Guard};
pub(crate) use state::State;
pub(crate) use step::Step;

use guard::Rules;

/// What a channel can tell, and what the sender asked for where it cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Channel {
    /// It shows an id once, as long as it remembers it.
    pub(crate) idempotent: bool,
    pub(crate) on_ambiguous: OnAmbiguous,
}

/// Each kind.
pub(crate) fn channels() -> [(&'static str, Channel); 3] {
    let channel = |idempotent, on_ambiguous| Channel {
        idempotent,
        on_ambiguous,
    };
    [
        ("deliver by id", channel(true, OnAmbiguous::Unknown)),
        ("deliver by claims", channel(false, OnAmbiguous::Unknown)),
        (
            "deliver by claims, resend",
            channel(false, OnAmbiguous::Resend),
        ),
    ]
}

/// A channel and the rules, with or without one of them.
#[derive(Clone, Debug)]
pub(crate) struct World {
    rules: Rules,
}

impl World {
    /// With all rules.
    pub(crate) fn sound(channel: Channel) -> Self {
        Self {
            rules: Rules {
                channel,
                left_out: None,
            },
        }
    }

    /// With one left out, on the channel where it matters.
    pub(crate) fn without(guard: Guard) -> Self {
        Self {
            rules: Rules {
                channel: guard.channel(),
                left_out: Some(guard),
            },
        }
    }
}

impl Model for World {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State::begin(self.rules.channel)]
    }

    fn actions(&self, _state: &State, steps: &mut Vec<Step>) {
        step::possible(steps);
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let mut next = state.clone();
        next.take(step, &self.rules)?;
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "it is shown once, unless its sender asked for more",
                |world, state: &State| {
                    let channel = world.rules.channel;
                    let asked = !channel.idempotent && channel.on_ambiguous == OnAmbiguous::Resend;
                    asked || state.shown <= 1
                },
            ),
            Property::always(
                "no attempt is sent twice by claims",
                |world, state: &State| world.rules.channel.idempotent || !state.attempt_twice,
            ),
            Property::always("what the engine ended did not go", |_, state: &State| {
                state.stored.status != Status::Expired || state.shown == 0
            }),
            Property::always(
                "it settles once nothing goes wrong any more",
                |world, state: &State| state.settles(&world.rules),
            ),
            Property::sometimes("a frame of a deposed owner arrives", |_, state: &State| {
                state.late_frame
            }),
            Property::sometimes("it is unknown", |_, state: &State| {
                state.stored.status == Status::Unknown
            }),
            Property::sometimes("it is sent after a refusal", |_, state: &State| {
                state.stored.status == Status::Sent && state.stored.attempts > 1
            }),
        ]
    }
}
