//! The daily cap of an instance holds, whoever owns it and however its owners end.

mod support;

use std::sync::Arc;
use std::time::Duration;

use support::trouble::TroubledStore;
use support::{World, per_second, text};
use zajil_model::id::Epoch;
use zajil_model::pace::PaceSpec;

fn capped(cap: u64) -> PaceSpec {
    PaceSpec {
        daily_cap: Some(cap),
        ..per_second(100.0)
    }
}

async fn seconds(count: u64) {
    tokio::time::sleep(Duration::from_secs(count)).await;
}

/// Sends more than any cap of these tests allows, each to somebody else.
async fn floods(world: &World) {
    for hundred in 0..5 {
        let to = |n: u32| text(&format!("+9665{:08}", hundred * 100 + n), "hello");
        world.send((0..100).map(to).collect()).await;
    }
}

/// The engine dies: its actors with it, but not what they sent to the store. Another one starts.
async fn dies(world: &mut World) {
    let (shards, shard) = (world.engine.shards().shared(), world.instance.id.shard());
    shards.lost(shard, Epoch(1)).await;
    world.dies_and_starts_again().await;
}

async fn handed_over(world: &World, count: usize) {
    for _ in 0..10_000 {
        if world.whatsapp.frames().len() >= count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("{} were handed over", world.whatsapp.frames().len());
}

#[tokio::test(start_paused = true)]
async fn a_day_is_used_up_to_its_cap() {
    let world = World::new(capped(130)).await;

    floods(&world).await;
    seconds(60).await;

    assert_eq!(world.whatsapp.frames().len(), 130);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_cannot_be_recorded_costs_nothing_of_the_day() {
    let trouble = Arc::new(TroubledStore::default());
    let world = World::on(trouble.clone(), capped(20)).await;
    trouble.refuse_outcomes(60);

    floods(&world).await;
    seconds(300).await;

    assert!(
        trouble.refused() >= 60,
        "{} were refused",
        trouble.refused()
    );
    assert_eq!(world.whatsapp.frames().len(), 20);
}

#[tokio::test(start_paused = true)]
async fn owners_that_die_in_the_middle_of_a_day_pass_no_cap() {
    let mut world = World::new(capped(200)).await;
    floods(&world).await;

    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        dies(&mut world).await;
    }
    seconds(60).await;

    let count = world.whatsapp.frames().len();
    assert!((50..=200).contains(&count), "{count} of 200");
}

#[tokio::test(start_paused = true)]
async fn a_late_reservation_of_a_former_owner_takes_none_back() {
    let trouble = Arc::new(TroubledStore::default());
    let mut world = World::on(trouble.clone(), capped(200)).await;
    floods(&world).await;
    handed_over(&world, 5).await;
    trouble.hold_a_reservation();
    handed_over(&world, 50).await;
    assert!(
        trouble.holds_a_reservation(),
        "the second one is on its way"
    );

    dies(&mut world).await;
    handed_over(&world, 160).await;
    trouble.reservation_comes();
    tokio::time::sleep(Duration::from_millis(50)).await;
    dies(&mut world).await;
    seconds(60).await;

    let count = world.whatsapp.frames().len();
    assert!((160..=200).contains(&count), "{count} of 200");
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_rests_loses_nothing_of_its_day() {
    let world = World::new(capped(100)).await;

    for n in 0..10 {
        world
            .send(vec![text(&format!("+9665{n:08}"), "hello")])
            .await;
        seconds(600).await;
        assert_eq!(world.engine.running(), 0, "it rests");
    }
    floods(&world).await;
    seconds(60).await;

    assert_eq!(world.whatsapp.frames().len(), 100);
}
