//! What has to hold in every state, and what has to happen in some.

use stateright::Property;
use zajil_model::lease::Standing;

use super::state::{Chunk, Held, Life, State};
use super::{Scene, World};

pub(crate) fn all(scene: Scene) -> Vec<Property<World>> {
    let mut all = promises();
    all.extend(sights(scene));
    all
}

fn promises() -> Vec<Property<World>> {
    vec![
        Property::always("one node at most may send", one_leader),
        Property::always(
            "what was accepted counts for every later owner",
            |world, state: &State| {
                state
                    .accepted
                    .iter()
                    .all(|chunk| is_kept(world, state, chunk))
            },
        ),
        Property::always(
            "of the epochs before counts what the owner read, no more and no less",
            nothing_revives,
        ),
        Property::always("epochs strictly grow", |_, state: &State| {
            state.owners.windows(2).all(|pair| pair[0].0 < pair[1].0)
        }),
        Property::always("no id is given twice", |_, state: &State| {
            !state.given_twice
        }),
    ]
}

/// What has to happen in some state, or the walk looks at too little.
fn sights(scene: Scene) -> Vec<Property<World>> {
    match scene {
        Scene::Leases => vec![
            Property::sometimes(
                "a deposed owner believes that it serves",
                |world, state: &State| {
                    let stale = |epoch| !state.store.shard.admits(epoch);
                    holders(state)
                        .any(|(_, held)| world.rules.serves(&held.steps).is_some_and(stale))
                },
            ),
            Property::sometimes("who was declared dead hears of it", |_, state: &State| {
                let fenced = |life: &Life| life.lease().standing(state.now) == Standing::Fenced;
                lives(state).any(fenced)
            }),
        ],
        Scene::Log => vec![
            Property::sometimes(
                "a node that came back owns the shard",
                |_, state: &State| {
                    holders(state).any(|(life, held)| {
                        life.me.incarnation.0 > 1 && state.store.shard.admits(held.steps.epoch())
                    })
                },
            ),
            Property::sometimes("a third owner accepts", |_, state: &State| {
                let third = state.owners.get(2).map(|(epoch, _)| *epoch);
                state
                    .accepted
                    .iter()
                    .any(|chunk| Some(chunk.epoch) == third)
            }),
            Property::sometimes("an append lands too late", |_, state: &State| {
                state.store.log.iter().any(|chunk| !counts(state, chunk))
            }),
        ],
    }
}

fn lives(state: &State) -> impl Iterator<Item = &Life> {
    state.nodes.iter()
}

fn holders(state: &State) -> impl Iterator<Item = (&Life, &Held)> {
    lives(state).filter_map(|life| Some((life, life.held.as_ref()?)))
}

fn one_leader(world: &World, state: &State) -> bool {
    lives(state)
        .filter(|life| world.rules.leads(life, state.now))
        .count()
        <= 1
}

fn counts(state: &State, chunk: &Chunk) -> bool {
    !state.store.seals.is_void(chunk.epoch, chunk.id)
}

/// It is in the log, no seal voids it, and whoever serves in a later epoch read it.
fn is_kept(world: &World, state: &State, chunk: &Chunk) -> bool {
    let read = holders(state).all(|(_, held)| {
        let later = world
            .rules
            .serves(&held.steps)
            .is_some_and(|epoch| epoch > chunk.epoch);
        !later || held.counted.contains(chunk)
    });
    read && state.store.log.contains(chunk) && counts(state, chunk)
}

/// The owner before may know less: it sends nothing any more.
fn nothing_revives(world: &World, state: &State) -> bool {
    holders(state).all(|(_, held)| {
        let served = world.rules.serves(&held.steps);
        let Some(epoch) = served.filter(|epoch| state.store.shard.admits(*epoch)) else {
            return true;
        };
        let before = state.store.log.iter().filter(|chunk| chunk.epoch < epoch);
        before
            .filter(|chunk| counts(state, chunk))
            .eq(&held.counted)
    })
}
