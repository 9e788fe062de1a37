//! Ids that were reserved, with a key or not, are used late: what is accepted under them keeps its
//! place, and costs no memory.

mod support;

use std::sync::Arc;
use std::time::Duration;

use support::trouble::troubled;
use support::{World, per_second, text};
use tokio::task::JoinSet;
use zajil_actors::idempotency::{Begin, Scope};
use zajil_actors::send::{AcceptError, Submission};
use zajil_model::id::RequestId;
use zajil_model::lifecycle::Status;
use zajil_model::message::{Lane, Message};

const ANNA: &str = "+966501234567";
const BADR: &str = "+966509876543";
const CARA: &str = "+966505555555";

async fn seconds(n: u64) {
    tokio::time::sleep(Duration::from_secs(n)).await;
}

fn submission(world: &World, messages: Vec<Message>) -> Submission {
    Submission {
        instance: world.instance.clone(),
        lane: Lane::Normal,
        bytes: messages.len() * 100,
        messages,
        request: RequestId(1),
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_that_comes_back_late_brings_no_message_back_to_be_sent_again() {
    let (trouble, store) = troubled();
    let world = World::on(store, per_second(2.0)).await;
    let first = world.send(vec![text(ANNA, "first")]).await;
    world.becomes(first.first, Status::Sent).await;
    let late = world
        .engine
        .reserve(&world.instance, 1, false)
        .await
        .unwrap();
    let mut all = Vec::new();
    for n in 0..8 {
        all.push(
            world
                .send(vec![text(&format!("+96650{n:07}"), "in order")])
                .await
                .first,
        );
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    trouble.reads_take(Duration::from_millis(900));
    world
        .engine
        .accept(late, submission(&world, vec![text(BADR, "late")]))
        .await
        .unwrap();
    all.push(late.first);

    for id in all {
        world.becomes(id, Status::Sent).await;
    }

    assert_eq!(world.whatsapp.frames().len(), 10);
}

/// Two messages to one recipient, the first under a reserved id, are accepted while a read of what
/// came after that id waits for its turn. Before them, a crowd takes the room that there is.
async fn keeps_order_during_a_read(crowd: u32) {
    let (trouble, store) = troubled();
    let world = World::on(store, per_second(10.0)).await;
    let mut reserved = Vec::new();
    for count in [crowd.max(1), 1] {
        let ids = world.engine.reserve(&world.instance, count, false).await;
        reserved.push(ids.expect("ids can be given"));
    }
    let accept = async |ids, messages| {
        let accepted = world.engine.accept(ids, submission(&world, messages)).await;
        accepted.expect("it is accepted");
    };
    let read = text(CARA, "an actor that has read all");
    world.send(vec![read]).await;
    seconds(1).await;
    trouble.reads_wait(Duration::from_secs(5));
    let begun = trouble.reads_begun();
    // More than was granted, so that what comes right after it is missed; and all for one, so that
    // there is room to read more.
    let many = (0..30).map(|_| text(CARA, "many")).collect();
    tokio::join!(world.send(many), world.send(vec![text(CARA, "missed")]));
    while trouble.reads_begun() == begun {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    if crowd > 0 {
        let all = (0..crowd).map(|_| text(CARA, "crowd")).collect();
        accept(reserved[0], all).await;
    }
    accept(reserved[1], vec![text(BADR, "first")]).await;
    let second = world.send(vec![text(BADR, "second")]).await;
    world.becomes(second.first, Status::Sent).await;

    let texts = world.whatsapp.texts();
    let place = |text: &str| texts.iter().position(|other| other == text);
    let places = [place("first"), place("second")];
    assert!(places[0].is_some() && places[0] < places[1], "{texts:?}");
}

#[tokio::test(start_paused = true)]
async fn what_came_under_a_reserved_id_during_a_read_goes_before_what_the_read_brings() {
    keeps_order_during_a_read(0).await;
}

#[tokio::test(start_paused = true)]
async fn what_came_under_a_reserved_id_and_had_no_room_goes_before_what_a_read_brings() {
    keeps_order_during_a_read(30).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_held_up_between_its_ids_and_the_log_is_not_passed_over_for_higher_reserved_ids() {
    let (trouble, store) = troubled();
    let world = Arc::new(World::on(store, per_second(10.0)).await);
    let first = world.send(vec![text(ANNA, "1")]).await;
    world.becomes(first.first, Status::Sent).await;

    trouble.hold_up_an_accept();
    let mut held_up = JoinSet::new();
    held_up.spawn({
        let world = world.clone();
        async move { world.send(vec![text(ANNA, "2")]).await }
    });
    while !trouble.holds_up_an_accept() {
        tokio::task::yield_now().await;
    }
    let reserved = world.engine.reserve(&world.instance, 1, false).await;
    let overtakes = submission(&world, vec![text(BADR, "3")]);
    let reserved = reserved.unwrap();
    let late = world.engine.accept(reserved, overtakes).await.unwrap();

    let held_up = held_up.join_next().await.unwrap().unwrap();
    assert!(held_up.first < late.first);
    seconds(2).await;
    for id in [held_up.first, late.first] {
        assert_eq!(world.state(id).await.status, Status::Sent);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_with_a_key_whose_messages_wait_to_be_written_is_not_done_anew() {
    let (trouble, store) = troubled();
    let world = World::on(store, per_second(10.0)).await;
    let keys = world.engine.idempotency();
    let scope = Scope {
        account: world.account,
        method: "POST",
        path: "/messages",
        key: "order-1",
    };
    let Begin::Fresh(mut ticket) = keys.begin(scope, b"{}").await.unwrap() else {
        panic!("it is the first");
    };
    let reserved = world.engine.reserve(&world.instance, 1, false).await;
    let reserved = reserved.unwrap();
    ticket.promise(&reserved, 201, b"{}").await.unwrap();
    trouble.appends_wait();
    let message = submission(&world, vec![text(ANNA, "hello")]);
    let unknown = world.engine.accept(reserved, message).await;
    assert_eq!(unknown, Err(AcceptError::OutcomeUnknown));
    drop(ticket);

    seconds(120).await;
    let meanwhile = keys.begin(scope, b"{}").await.unwrap();
    assert!(matches!(meanwhile, Begin::InFlight), "{meanwhile:?}");
    trouble.appends_go_on();

    let then = keys.begin(scope, b"{}").await.unwrap();
    assert!(matches!(then, Begin::Replay { .. }), "{then:?}");
}

#[tokio::test(start_paused = true)]
async fn a_backlog_under_reserved_ids_costs_no_memory() {
    let mut world = World::new(per_second(10.0)).await;
    world.change(|instance| instance.paused = true).await;
    for n in 0..2_000 {
        let reserved = world
            .engine
            .reserve(&world.instance, 1, false)
            .await
            .unwrap();
        let message = submission(
            &world,
            vec![text(&format!("+96650{n:07}"), &"x".repeat(1_000))],
        );
        world.engine.accept(reserved, message).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    seconds(1).await;

    let held = world.engine.window_bytes();
    assert!(held < 200_000, "{held} bytes in memory");
    world.change(|instance| instance.paused = false).await;
    seconds(250).await;
    assert_eq!(world.whatsapp.frames().len(), 2_000);
}
