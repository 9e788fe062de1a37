//! An actor that cannot work is kept still by itself: its neighbours go on, nothing of it is lost,
//! and whoever has to act hears of it.

mod support;

use std::sync::Arc;
use std::time::Duration;

use support::trouble::troubled;
use support::{World, per_second, text};
use zajil_model::instance::{CloseReason, Instance, Session};
use zajil_model::lifecycle::Status;

const ANNA: &str = "+966501234567";

/// Five failures within a minute, with growing pauses between them, are over by then.
const QUARANTINED_WITHIN: Duration = Duration::from_secs(60);

/// An instance with the same supervisor as the first one of a world.
async fn neighbour(world: &World) -> Arc<Instance> {
    for number in 0.. {
        let made = world.another(&format!("number {number}")).await;
        if made.id.shard() == world.instance.id.shard() {
            return made;
        }
    }
    unreachable!("some instance is in every shard")
}

#[tokio::test(start_paused = true)]
async fn an_actor_that_panics_again_and_again_is_quarantined_and_its_neighbours_go_on() {
    let (trouble, store) = troubled();
    let mut world = World::on(store, per_second(100.0)).await;
    let ill = world.instance.clone();
    let well = neighbour(&world).await;
    trouble.kill_actors_of(Some(ill.id));

    let held = world.send(vec![text(ANNA, "held")]).await.first;
    tokio::time::sleep(QUARANTINED_WITHIN).await;

    let closed = world.engine.shown(&ill).await.session;
    let reason = CloseReason::Quarantined;
    assert_eq!(closed, Session::Closed { reason });
    world.instance = well;
    let sent = world.send(vec![text(ANNA, "sent")]).await.first;
    world.becomes(sent, Status::Sent).await;
    assert_eq!(world.state(held).await.status, Status::Pending);

    // The cause is mended, and a person says so.
    trouble.kill_actors_of(None);
    world.engine.connect(&ill).await.unwrap();
    world.becomes(held, Status::Sent).await;
}

#[tokio::test(start_paused = true)]
async fn an_actor_that_waits_for_the_store_is_never_quarantined_and_goes_on_by_itself() {
    let (trouble, store) = troubled();
    let world = World::on(store, per_second(100.0)).await;
    trouble.take_checkpoints_away(true);
    let waiting = world.send(vec![text(ANNA, "waiting")]).await.first;
    tokio::time::sleep(QUARANTINED_WITHIN).await;
    assert_eq!(world.state(waiting).await.status, Status::Pending);

    trouble.take_checkpoints_away(false);

    world.becomes(waiting, Status::Sent).await;
}

#[tokio::test(start_paused = true)]
async fn a_barrier_of_an_instance_without_an_actor_names_it_unless_nothing_can_leave_anyway() {
    let (trouble, store) = troubled();
    let mut world = World::on(store, per_second(100.0)).await;
    trouble.kill_actors_of(Some(world.instance.id));
    world.send(vec![text(ANNA, "held")]).await;
    tokio::time::sleep(QUARANTINED_WITHIN).await;

    world.change(|instance| instance.paused = true).await;
    let paused = world.engine.apply_instance(world.instance.clone()).await;
    let purged = world.engine.purge(&world.instance).await;

    assert!(paused.unwrap().is_confirmed());
    assert_eq!(purged.unwrap().missing, ["shop"]);
}

#[tokio::test(start_paused = true)]
async fn messages_that_cannot_be_read_are_told_of_until_they_can() {
    let (trouble, store) = troubled();
    let mut world = World::on(store, per_second(100.0)).await;
    world.change(|instance| instance.paused = true).await;
    let waiting = world.send(vec![text(ANNA, "waiting")]).await.first;
    world.change(|instance| instance.paused = false).await;

    trouble.damage_queues(true);
    world.dies_and_starts_again().await;
    tokio::time::sleep(Duration::from_secs(5)).await;

    assert_eq!(world.engine.damaged(), 1);
    assert_eq!(world.state(waiting).await.status, Status::Pending);

    trouble.damage_queues(false);
    world.becomes(waiting, Status::Sent).await;
    assert_eq!(world.engine.damaged(), 0);
}
