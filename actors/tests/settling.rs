//! Every message settles: whatever comes between, none is forgotten, and none waits much longer
//! than its time to live.

mod support;

use std::time::Duration;

use support::trouble::troubled;
use support::{Answer, World, per_second, text};
use zajil_actors::send::CancelError;
use zajil_model::lifecycle::{Event, Status};
use zajil_model::message::Message;
use zajil_model::refusal::Refusal;

const ANNA: &str = "+966501234567";
const BADR: &str = "+966509876543";

async fn seconds(n: u64) {
    tokio::time::sleep(Duration::from_secs(n)).await;
}

fn lasting(ttl_seconds: u32) -> Message {
    Message {
        ttl_seconds,
        ..text(ANNA, "x")
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
