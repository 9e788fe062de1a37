//! Who owns the shard, and what of its log counts: two nodes with leases, a store with
//! compare-and-set whose answers may get lost, and appends that may land as late as they like.

use stateright::{Model, Property};

mod guard;
mod process;
mod promise;
mod state;
mod step;

pub(crate) use guard::{GUARDS, Guard};
pub(crate) use state::State;
pub(crate) use step::Step;

use guard::Rules;

/// What a walk looks at closely; to look at everything at once would never end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scene {
    /// One owner and one challenger: each message of the owner to the store and back by itself, and
    /// nothing to be accepted.
    Leases,
    /// Appends, seals and ids of owners that follow one another. That a lease is over before its
    /// node is declared dead is what [`Self::Leases`] shows: here both happen at once.
    Log,
}

/// Each of them.
pub(crate) const SCENES: [(&str, Scene); 2] = [("leases", Scene::Leases), ("log", Scene::Log)];

/// The rules, with or without one of them.
#[derive(Clone, Debug)]
pub(crate) struct World {
    rules: Rules,
    scene: Scene,
}

impl World {
    /// With all rules.
    pub(crate) fn sound(scene: Scene) -> Self {
        Self {
            rules: Rules::sound(),
            scene,
        }
    }

    /// With one left out, where it matters.
    pub(crate) fn without(guard: Guard) -> Self {
        Self {
            rules: Rules::without(guard),
            scene: guard.scene(),
        }
    }
}

impl Model for World {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State::begin(self.scene)]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        step::possible(state, self.scene, steps);
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let mut next = state.clone();
        next.take(step, &self.rules)?;
        next.answer_at_once(step, self.scene, &self.rules);
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        promise::all(self.scene)
    }
}
