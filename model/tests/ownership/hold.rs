//! A barrier while the shard changes its owner: two nodes, a coordinator that asks them, and a
//! client that is told when it holds.

use stateright::{Model, Property};

mod guard;
mod known;
mod state;
mod step;

pub(crate) use guard::{GUARDS, Guard};
pub(crate) use state::State;
pub(crate) use step::Step;

use guard::Rules;

/// The rules, with or without one of them.
#[derive(Clone, Debug)]
pub(crate) struct World {
    rules: Rules,
}

impl World {
    /// With all rules.
    pub(crate) fn sound() -> Self {
        Self {
            rules: Rules::sound(),
        }
    }

    /// With one left out.
    pub(crate) fn without(guard: Guard) -> Self {
        Self {
            rules: Rules::without(guard),
        }
    }
}

impl Model for World {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State::begin()]
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
                "once it is answered as done nothing goes",
                |_, state: &State| !state.broken,
            ),
            Property::always(
                "it can always be answered as done",
                |world, state: &State| state.can_be_done(&world.rules),
            ),
            Property::sometimes(
                "it is done though a node was silent until its end",
                |_, state: &State| {
                    state.done && state.nodes[0].deposed && state.nodes[0].is_past_the_check()
                },
            ),
            Property::sometimes(
                "it is done, and the owner is a new one",
                |_, state: &State| {
                    state.done
                        && state.shard.epoch.0 > 1
                        && state.nodes.iter().any(state::Node::serves)
                },
            ),
        ]
    }
}
