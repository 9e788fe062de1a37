//! Every message settles: whatever comes between, none is forgotten, and none waits much longer
//! than its time to live.

mod support;

use std::sync::Arc;
use std::time::Duration;

use support::trouble::troubled;
use support::{Answer, World, per_second, text};
use tokio::task::JoinSet;
use zajil_actors::idempotency::{Begin, Scope};
use zajil_actors::send::{AcceptError, CancelError, Submission};
use zajil_model::id::RequestId;
use zajil_model::lifecycle::{Event, Status};
use zajil_model::message::{Lane, Message};
use zajil_model::refusal::Refusal;

const ANNA: &str = "+966501234567";
const BADR: &str = "+966509876543";
const CARA: &str = "+966505555555";

async fn seconds(n: u64) {
    tokio::time::sleep(Duration::from_secs(n)).await;
}

fn lasting(ttl_seconds: u32) -> Message {
    Message {
        ttl_seconds,
        ..text(ANNA, "x")
    }
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
async fn a_message_that_is_scheduled_while_the_schedule_is_read_is_not_forgotten() {
    let (trouble, store) = troubled();
    let world = World::on(store, per_second(10.0)).await;
    let at = |seconds| Some(world.clock.now() + Duration::from_secs(seconds));
    let mut first = text(ANNA, "first");
    first.send_at = at(60);
    world.send(vec![first]).await;
    trouble.reads_take(Duration::from_secs(5));
    seconds(62).await;

    let mut second = text(BADR, "second");
    second.send_at = at(40);
    let second = world.send(vec![second]).await;

    world.becomes(second.first, Status::Sent).await;
}

#[tokio::test(start_paused = true)]
async fn a_message_expires_in_time_however_slow_its_instance_is() {
    let world = World::new(per_second(0.001)).await;

    let accepted = world.send(vec![lasting(60); 3]).await;
    seconds(120).await;

    for n in 0..3 {
        assert_eq!(
            world.state(accepted.first.plus(n)).await.status,
            Status::Expired
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_lived_message_expires_in_time_deep_in_a_backlog_of_long_lived_ones() {
    let (trouble, store) = troubled();
    let mut world = World::on(store, per_second(10.0)).await;
    world.whatsapp.starts_offline();
    for _ in 0..100 {
        world.send(vec![lasting(86_400); 100]).await;
    }
    let short = world.send(vec![lasting(60); 50]).await;
    world.send(vec![lasting(86_400); 100]).await;
    seconds(119).await;
    assert_eq!(world.state(short.first).await.status, Status::Expired);
    assert_eq!(
        world.state(short.first.plus(49)).await.status,
        Status::Expired
    );

    let again = world.send(vec![lasting(300); 50]).await;
    world.dies_and_starts_again().await;
    seconds(359).await;
    assert_eq!(
        world.state(again.first.plus(49)).await.status,
        Status::Expired
    );
    assert!(world.whatsapp.frames().is_empty());

    let before = trouble.messages_read();
    seconds(3_600).await;
    assert_eq!(
        trouble.messages_read(),
        before,
        "what cannot have expired is not looked at"
    );
}

#[tokio::test(start_paused = true)]
async fn after_a_start_a_short_lived_message_expires_in_time_and_the_backlog_around_it_is_not_read()
{
    let (trouble, store) = troubled();
    let mut world = World::on(store, per_second(10.0)).await;
    world.whatsapp.starts_offline();
    for _ in 0..300 {
        world.send(vec![lasting(86_400); 100]).await;
    }
    let short = world.send(vec![lasting(60); 50]).await;
    for _ in 0..300 {
        world.send(vec![lasting(86_400); 100]).await;
    }

    world.dies_and_starts_again().await;
    let before = trouble.messages_read();
    seconds(119).await;

    assert_eq!(world.state(short.first).await.status, Status::Expired);
    let last = short.first.plus(49);
    assert_eq!(world.state(last).await.status, Status::Expired);
    let read = trouble.messages_read() - before;
    assert!(read < 10_000, "{read} messages were read, of 60,050");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_was_armed_before_a_pause_expires_in_time() {
    let mut world = World::new(per_second(10.0)).await;
    let accepted = world.send(vec![lasting(60); 20]).await;
    world.becomes(accepted.first, Status::Sent).await;

    world.change(|instance| instance.paused = true).await;
    seconds(120).await;

    for n in 0..20 {
        let status = world.state(accepted.first.plus(n)).await.status;
        assert!(status.is_settled(), "message {n} is {status:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_may_have_been_sent_before_a_crash_ends_as_unknown_and_not_as_expired() {
    let mut world = World::new(per_second(10.0)).await;
    world.whatsapp.answers(ANNA, Answer::Silent);
    let accepted = world.send(vec![lasting(60)]).await;
    seconds(5).await;

    world.whatsapp.starts_offline();
    world.dies_and_starts_again().await;
    seconds(120).await;

    assert_eq!(world.state(accepted.first).await.status, Status::Unknown);
}

#[tokio::test(start_paused = true)]
async fn a_cancel_that_the_store_refused_leaves_no_message_behind() {
    let (trouble, store) = troubled();
    let world = World::on(store, per_second(1.0)).await;
    let accepted = world.send((0..20).map(|_| text(ANNA, "x")).collect()).await;
    world.becomes(accepted.first, Status::Sent).await;

    trouble.refuse_cancels(1);
    assert!(
        world
            .engine
            .cancel(world.account, accepted.first.plus(15))
            .await
            .is_err()
    );
    seconds(60).await;

    for n in 0..20 {
        let status = world.state(accepted.first.plus(n)).await.status;
        assert!(status.is_settled(), "message {n} is {status:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancel_of_what_may_have_gone_and_is_behind_the_window_says_that_nobody_knows() {
    let mut world = World::new(per_second(10.0)).await;
    world.change(|instance| instance.paused = true).await;
    let many = (0..2_000).map(|_| text(ANNA, "x")).collect();
    let accepted = world.send(many).await;
    let last = accepted.first.plus(1_999);
    for event in [Event::Attempt(1), Event::Attempt(2), Event::Due] {
        world.write(accepted.epoch, last, event).await;
    }

    let cancelled = world.engine.cancel(world.account, last).await;

    let too_late = CancelError::TooLate(Status::Unknown);
    assert_eq!(cancelled.unwrap_err(), too_late);
}

#[tokio::test(start_paused = true)]
async fn a_purge_that_the_store_refused_withdraws_nothing_and_forgets_nothing() {
    let (trouble, store) = troubled();
    let world = World::on(store, per_second(1.0)).await;
    let accepted = world.send((0..20).map(|_| text(ANNA, "x")).collect()).await;
    world.becomes(accepted.first, Status::Sent).await;

    trouble.refuse_cancels(1);
    assert!(world.engine.purge(&world.instance).await.is_err());
    seconds(60).await;

    for n in 0..20 {
        let status = world.state(accepted.first.plus(n)).await.status;
        assert!(status.is_settled(), "message {n} is {status:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_purge_right_after_a_crash_ends_what_was_in_flight_then() {
    let (trouble, store) = troubled();
    let mut world = World::on(store, per_second(2.0)).await;
    let many: Vec<_> = (0..12).map(|n| format!("+96650123{n:04}")).collect();
    for recipient in &many {
        world.whatsapp.answers(recipient, Answer::Silent);
    }
    let sent = many.iter().map(|recipient| text(recipient, "x"));
    let sent = world.send(sent.collect()).await;
    seconds(8).await;
    let mut in_hand = Vec::new();
    for id in sent.ids() {
        if world.state(id).await.status == Status::Processing {
            in_hand.push(id);
        }
    }
    assert!(in_hand.len() > 1);
    let before = world.whatsapp.frames().len();
    trouble.reads_take(Duration::from_secs(1));
    world.dies_and_starts_again().await;

    world.engine.purge(&world.instance).await.unwrap();
    seconds(60).await;

    for id in in_hand {
        assert_eq!(world.state(id).await.status, Status::Unknown);
    }
    assert_eq!(world.whatsapp.frames().len(), before);
}

#[tokio::test(start_paused = true)]
async fn a_purge_works_long_after_the_last_message_was_accepted() {
    let mut world = World::new(per_second(10.0)).await;
    world.change(|instance| instance.paused = true).await;
    let accepted = world.send(vec![text(ANNA, "x")]).await;
    seconds(600).await;

    world.engine.purge(&world.instance).await.unwrap();

    assert_eq!(world.state(accepted.first).await.status, Status::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn what_was_with_the_transport_at_a_purge_is_not_sent_a_second_time() {
    let world = World::new(per_second(10.0)).await;
    world
        .whatsapp
        .answers(ANNA, Answer::Refuse(Refusal::Temporary));
    let accepted = world.send(vec![text(ANNA, "x")]).await;
    seconds(2).await;
    world.whatsapp.answers(ANNA, Answer::Silent);
    seconds(10).await;
    let before = world.whatsapp.frames().len();
    world.engine.purge(&world.instance).await.unwrap();

    seconds(60).await;

    assert_eq!(world.whatsapp.frames().len(), before);
    assert!(world.state(accepted.first).await.status.is_settled());
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

#[tokio::test(start_paused = true)]
async fn a_throttled_message_still_goes_before_the_next_one_to_its_recipient() {
    let world = World::new(per_second(10.0)).await;
    let throttled = Refusal::Throttled { wait_ms: 90_000 };
    world.whatsapp.answers(ANNA, Answer::RefuseOnce(throttled));

    let first = world.send(vec![text(ANNA, "1")]).await;
    seconds(1).await;
    let second = world.send(vec![text(ANNA, "2")]).await;
    world.becomes(second.first, Status::Sent).await;

    assert_eq!(world.state(first.first).await.status, Status::Sent);
    let texts = world.whatsapp.texts();
    assert_eq!(
        texts.iter().rposition(|text| text == "1"),
        Some(1),
        "{texts:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_was_paused_when_it_was_started_from_an_old_view_sends_nothing() {
    let mut world = World::new(per_second(10.0)).await;
    let before = world.instance.clone();
    world.change(|instance| instance.paused = true).await;
    world.instance = before;

    world.send(vec![text(ANNA, "x")]).await;
    seconds(10).await;

    assert!(world.whatsapp.frames().is_empty());
}

#[tokio::test(start_paused = true)]
async fn outcomes_that_the_store_refuses_are_tried_again_with_patience() {
    let (trouble, store) = troubled();
    let world = World::on(store, per_second(10.0)).await;
    world.whatsapp.starts_offline();
    let accepted = world.send(vec![lasting(60); 1_000]).await;
    seconds(55).await;

    trouble.refuse_outcomes(1_000);
    seconds(30).await;
    assert!(trouble.refused() < 300, "tried {} times", trouble.refused());

    trouble.refuse_outcomes(0);
    seconds(10).await;
    assert_eq!(
        world.state(accepted.first.plus(999)).await.status,
        Status::Expired
    );
}

#[tokio::test(start_paused = true)]
async fn wake_ups_do_not_pile_up() {
    let world = World::new(per_second(10.0)).await;
    let many = (0..1_000)
        .map(|n| text(&format!("+96650{n:07}"), "x"))
        .collect();
    let accepted = world.send(many).await;
    world.becomes(accepted.first.plus(999), Status::Sent).await;

    let waiting = world.engine.wake_ups();
    assert!(waiting < 20, "{waiting} wake-ups wait for one instance");
}

#[tokio::test(start_paused = true)]
async fn a_purge_settles_what_waits_for_another_attempt_after_a_silence() {
    let world = World::new(per_second(10.0)).await;
    world.whatsapp.answers(ANNA, Answer::Silent);
    let accepted = world.send(vec![text(ANNA, "x")]).await;
    while world.whatsapp.frames().len() < 2 {
        seconds(1).await;
    }
    seconds(10).await;
    assert_eq!(world.state(accepted.first).await.status, Status::Processing);

    world.engine.purge(&world.instance).await.unwrap();
    seconds(60).await;

    assert_eq!(world.state(accepted.first).await.status, Status::Unknown);
    assert_eq!(world.whatsapp.frames().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_drain_does_not_wait_for_an_instance_without_an_actor() {
    let world = World::new(per_second(100.0)).await;
    world.whatsapp.answers(ANNA, Answer::Panic);
    world.whatsapp.answers(BADR, Answer::Panic);
    world
        .send(vec![
            text(ANNA, "1"),
            text(BADR, "2"),
            text(ANNA, "3"),
            text(BADR, "4"),
        ])
        .await;
    seconds(30).await;

    let began = world.clock.mono();
    world.engine.drain(Duration::from_secs(20)).await;

    assert!(world.clock.mono().since(began) < Duration::from_secs(3));
}
