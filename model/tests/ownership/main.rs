//! Walks through every state that the rules of ownership let happen, within bounds, and looks in
//! each whether a promise is broken. The rules are those that run in production.
//!
//! Three small worlds instead of one that never ends: [`lead`] (leases, challenges, shard rows,
//! appends, seals, ids: who is the owner, and what of the log counts), [`deliver`] (attempts, claims,
//! frames, outcomes: what a channel sees while owners change) and [`hold`] (barriers). What one world
//! shows, the next takes for granted: in [`deliver`] a take-over ends the lease of the owner before.
//!
//! That a check can fail is shown by leaving out one rule at a time: each must give a counterexample.
//! Clocks of different speed are the matter of the duel in `lease/duel.rs`; here all run alike, and
//! what is looked at is the order of things.

mod deliver;
mod hold;
mod lead;
mod takeover;
mod walk;

/// All worlds together, as `DESIGN.md` has it for the rules as a whole.
const LEAST_STATES: usize = 1_000_000;

#[test]
fn no_reachable_state_breaks_ownership() {
    let lead =
        lead::SCENES.map(|(name, scene)| walk::every_state(name, || lead::World::sound(scene)));
    let deliver = deliver::channels()
        .map(|(name, channel)| walk::every_state(name, || deliver::World::sound(channel)));
    let hold = walk::every_state("hold", hold::World::sound);

    let states = lead.iter().chain(&deliver).sum::<usize>() + hold;
    println!("{states} states in all, and none breaks a promise");
    assert!(states >= LEAST_STATES, "only {states} states");
}

#[test]
fn each_guard_is_needed() {
    for guard in lead::GUARDS {
        walk::counterexample(guard, || lead::World::without(*guard));
    }
    for guard in deliver::GUARDS {
        walk::counterexample(guard, || deliver::World::without(*guard));
    }
    for guard in hold::GUARDS {
        walk::counterexample(guard, || hold::World::without(*guard));
    }
}
