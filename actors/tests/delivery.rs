//! What the engine does with messages, on a store in memory and on time that stands still while
//! anybody works.

mod support;

use std::collections::HashSet;
use std::time::Duration;

use support::trouble::troubled;
use support::{Answer, World, per_second, phone, text};
use zajil_model::lifecycle::Status;
use zajil_model::message::Lane;
use zajil_model::refusal::{Reason, Refusal};
use zajil_transport::SessionEvent;

const ANNA: &str = "+966501234567";
const BADR: &str = "+966509876543";

async fn seconds(n: u64) {
    tokio::time::sleep(Duration::from_secs(n)).await;
}

#[tokio::test(start_paused = true)]
async fn a_message_is_accepted_sent_and_read() {
    let world = World::new(per_second(10.0)).await;
    world.whatsapp.answers(ANNA, Answer::Read);

    let accepted = world.send(vec![text(ANNA, "hello")]).await;

    assert_eq!(world.state(accepted.first).await.status, Status::Pending);
    world.becomes(accepted.first, Status::Read).await;
    assert_eq!(world.whatsapp.texts(), ["hello"]);
}

#[tokio::test(start_paused = true)]
async fn messages_leave_at_the_pace_of_their_instance() {
    let world = World::new(per_second(10.0)).await;
    let many: Vec<_> = (0..100)
        .map(|n| text(&format!("+96650{:07}", n), "x"))
        .collect();

    let accepted = world.send(many).await;
    world.becomes(accepted.first.plus(99), Status::Sent).await;

    let frames = world.whatsapp.frames();
    assert_eq!(frames.len(), 100);
    for pair in frames.windows(2) {
        let gap = pair[1].at.since(pair[0].at);
        assert!(gap >= Duration::from_millis(95), "two frames {gap:?} apart");
    }
    let whole = frames[99].at.since(frames[0].at);
    assert!(
        whole <= Duration::from_millis(10_200),
        "100 frames took {whole:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_recipient_gets_messages_in_order_even_when_the_first_is_retried() {
    let world = World::new(per_second(1_000.0)).await;
    world
        .whatsapp
        .answers(ANNA, Answer::RefuseOnce(Refusal::Temporary));

    let accepted = world
        .send(vec![text(ANNA, "1"), text(ANNA, "2"), text(BADR, "other")])
        .await;
    world.becomes(accepted.first.plus(1), Status::Sent).await;

    let to_anna: Vec<_> = world
        .whatsapp
        .frames()
        .into_iter()
        .filter(|frame| frame.recipient == phone(ANNA))
        .map(|frame| frame.text)
        .collect();
    assert_eq!(
        to_anna,
        ["1", "1", "2", "2"],
        "each is refused once, and then acked"
    );
    assert_eq!(
        world.state(accepted.first.plus(2)).await.status,
        Status::Sent
    );
}

#[tokio::test(start_paused = true)]
async fn a_backlog_larger_than_the_window_is_sent_whole_and_once() {
    let world = World::new(per_second(5_000.0)).await;

    let mut last = None;
    for chunk in 0..50 {
        let many = (0..100)
            .map(|n| text(&format!("+9665{:08}", chunk * 100 + n), "x"))
            .collect();
        last = Some(world.send(many).await);
    }
    world
        .becomes(last.unwrap().first.plus(99), Status::Sent)
        .await;
    seconds(2).await;

    let frames = world.whatsapp.frames();
    let ids: HashSet<_> = frames.iter().map(|frame| frame.id).collect();
    assert_eq!((frames.len(), ids.len()), (5_000, 5_000));
}

#[tokio::test(start_paused = true)]
async fn high_overtakes_normal() {
    let world = World::new(per_second(10.0)).await;
    let many = (0..50)
        .map(|n| text(&format!("+96650{:07}", n), "normal"))
        .collect();
    world.send(many).await;
    seconds(1).await;

    let code = world
        .try_send(Lane::High, vec![text(ANNA, "code")])
        .await
        .unwrap();
    world.becomes(code.first, Status::Sent).await;

    let place = world
        .whatsapp
        .texts()
        .iter()
        .position(|text| text == "code")
        .unwrap();
    assert!(place < 20, "the code was number {place}");
}

#[tokio::test(start_paused = true)]
async fn a_paused_instance_hands_nothing_over_until_it_is_resumed() {
    let mut world = World::new(per_second(10.0)).await;
    let many = (0..50)
        .map(|n| text(&format!("+96650{:07}", n), "x"))
        .collect();
    let accepted = world.send(many).await;
    seconds(1).await;

    world.change(|instance| instance.paused = true).await;
    let before = world.whatsapp.frames().len();
    seconds(60).await;
    assert_eq!(world.whatsapp.frames().len(), before);

    world.change(|instance| instance.paused = false).await;
    world.becomes(accepted.first.plus(49), Status::Sent).await;
}

#[tokio::test(start_paused = true)]
async fn nobody_who_opted_out_gets_what_was_accepted_before() {
    let world = World::new(per_second(1.0)).await;
    let many = (0..20).map(|_| text(ANNA, "x")).collect();
    let accepted = world.send(many).await;
    seconds(3).await;

    let barrier = world
        .engine
        .suppress(world.account, phone(ANNA), None, "test".into())
        .await
        .unwrap();
    let before = world.whatsapp.frames().len();

    assert!(barrier.is_confirmed());
    world
        .becomes(accepted.first.plus(19), Status::Suppressed)
        .await;
    assert_eq!(world.whatsapp.frames().len(), before);
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_cannot_be_read_after_a_start_keeps_no_other_asleep_and_is_tried_again() {
    // Whichever of both is tried first.
    for swapped in [false, true] {
        let (trouble, store) = troubled();
        let mut world = World::on(store, per_second(0.1)).await;
        let (mut away, mut well) = (world.instance.clone(), world.another("other").await);
        if swapped {
            std::mem::swap(&mut away, &mut well);
        }
        world.send_by(&away, vec![text(ANNA, "late")]).await;
        world.send_by(&well, vec![text(BADR, "soon")]).await;

        // The sessions are open by now.
        seconds(1).await;
        trouble.take_away(Some(away.id));
        world.dies_and_starts_again().await;
        seconds(15).await;

        assert_eq!(world.whatsapp.texts(), ["soon"]);
        trouble.take_away(None);
        seconds(15).await;
        assert_eq!(world.whatsapp.texts(), ["soon", "late"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_waits_is_cancelled_and_one_that_is_sent_is_not() {
    let world = World::new(per_second(1.0)).await;
    let accepted = world.send((0..20).map(|_| text(ANNA, "x")).collect()).await;
    world.becomes(accepted.first, Status::Sent).await;

    let late = accepted.first.plus(19);
    let cancelled = world.engine.cancel(world.account, late).await.unwrap();

    assert_eq!(cancelled.state.status, Status::Cancelled);
    assert!(
        world
            .engine
            .cancel(world.account, accepted.first)
            .await
            .is_err()
    );
    seconds(30).await;
    assert_eq!(world.whatsapp.frames().len(), 19);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_without_an_answer_is_repeated_under_the_same_whatsapp_id() {
    let world = World::new(per_second(10.0)).await;
    world.whatsapp.answers(ANNA, Answer::SilentOnce);

    let accepted = world.send(vec![text(ANNA, "x")]).await;
    world.becomes(accepted.first, Status::Sent).await;

    let frames = world.whatsapp.frames();
    assert_eq!(frames.len(), 2);
    assert_eq!(frames[0].wa_id, frames[1].wa_id);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_never_answered_ends_as_unknown() {
    let world = World::new(per_second(10.0)).await;
    world.whatsapp.answers(ANNA, Answer::Silent);

    let accepted = world.send(vec![text(ANNA, "x"), text(BADR, "y")]).await;
    world.becomes(accepted.first, Status::Unknown).await;

    assert_eq!(
        world.state(accepted.first.plus(1)).await.status,
        Status::Sent
    );
}

#[tokio::test(start_paused = true)]
async fn what_the_channel_refuses_for_good_fails_with_its_reason() {
    let world = World::new(per_second(10.0)).await;
    world.whatsapp.answers(
        ANNA,
        Answer::Refuse(Refusal::Permanent(Reason::NoSuchRecipient)),
    );

    let accepted = world.send(vec![text(ANNA, "x")]).await;
    world.becomes(accepted.first, Status::Failed).await;

    let failure = world.state(accepted.first).await.failure.unwrap();
    assert_eq!((failure.reason, failure.code), (Reason::NoSuchRecipient, 7));
    assert_eq!(world.whatsapp.frames().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_died_goes_on_with_what_was_accepted() {
    let mut world = World::new(per_second(10.0)).await;
    let many = (0..300)
        .map(|n| text(&format!("+96650{:07}", n), "x"))
        .collect();
    let accepted = world.send(many).await;
    seconds(5).await;

    world.dies_and_starts_again().await;
    world.becomes(accepted.first.plus(299), Status::Sent).await;

    let ids: HashSet<_> = world
        .whatsapp
        .frames()
        .iter()
        .map(|frame| frame.id)
        .collect();
    assert_eq!(ids.len(), 300);
}

#[tokio::test(start_paused = true)]
async fn a_message_with_a_time_waits_for_it() {
    let world = World::new(per_second(10.0)).await;
    let mut later = text(ANNA, "later");
    later.send_at = Some(world.clock.now() + Duration::from_secs(3_600));

    let accepted = world.send(vec![later, text(BADR, "now")]).await;
    world.becomes(accepted.first.plus(1), Status::Sent).await;
    assert_eq!(world.state(accepted.first).await.status, Status::Scheduled);

    seconds(3_500).await;
    assert_eq!(world.whatsapp.texts(), ["now"]);
    world.becomes(accepted.first, Status::Sent).await;
    assert_eq!(world.whatsapp.texts(), ["now", "later"]);
}

#[tokio::test(start_paused = true)]
async fn a_message_with_a_time_survives_the_engine_dying_when_it_comes() {
    let mut world = World::new(per_second(10.0)).await;
    let mut later = text(ANNA, "later");
    later.send_at = Some(world.clock.now() + Duration::from_secs(100));
    let accepted = world.send(vec![later]).await;
    world.whatsapp.answers(ANNA, Answer::Silent);
    seconds(101).await;
    assert_eq!(world.state(accepted.first).await.status, Status::Processing);

    world.whatsapp.answers(ANNA, Answer::Ack);
    world.dies_and_starts_again().await;

    world.becomes(accepted.first, Status::Sent).await;
}

#[tokio::test(start_paused = true)]
async fn what_waits_too_long_expires_while_its_instance_is_offline() {
    let world = World::new(per_second(10.0)).await;
    world.whatsapp.starts_offline();
    let mut message = text(ANNA, "x");
    message.ttl_seconds = 60;

    let accepted = world.send(vec![message; 700]).await;
    seconds(75).await;

    assert_eq!(world.state(accepted.first).await.status, Status::Expired);
    assert_eq!(
        world.state(accepted.first.plus(699)).await.status,
        Status::Expired
    );
    assert!(world.whatsapp.frames().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_is_logged_out_takes_no_messages() {
    let world = World::new(per_second(10.0)).await;
    let accepted = world.send(vec![text(ANNA, "x")]).await;
    world.becomes(accepted.first, Status::Sent).await;

    world.whatsapp.session(SessionEvent::LoggedOut).await;
    seconds(1).await;
    assert!(
        world
            .try_send(Lane::Normal, vec![text(ANNA, "y")])
            .await
            .is_err()
    );

    world.engine.connect(&world.instance).await.unwrap();
    seconds(1).await;
    assert!(
        world
            .try_send(Lane::Normal, vec![text(ANNA, "y")])
            .await
            .is_ok()
    );
}

#[tokio::test(start_paused = true)]
async fn a_message_that_kills_its_actor_is_put_aside_and_its_neighbours_go_on() {
    let world = World::new(per_second(10.0)).await;
    world.whatsapp.answers(ANNA, Answer::Panic);

    let accepted = world
        .send(vec![text(ANNA, "poison"), text(BADR, "fine")])
        .await;
    world.becomes(accepted.first, Status::Failed).await;

    let failure = world.state(accepted.first).await.failure.unwrap();
    assert_eq!(failure.reason, Reason::Poison);
    world.becomes(accepted.first.plus(1), Status::Sent).await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_finishes_what_is_in_flight_and_keeps_the_rest() {
    let mut world = World::new(per_second(10.0)).await;
    let many = (0..100)
        .map(|n| text(&format!("+96650{:07}", n), "x"))
        .collect();
    let accepted = world.send(many).await;
    seconds(2).await;

    let report = world.engine.drain(Duration::from_secs(20)).await;
    let sent = world.whatsapp.frames().len();

    assert_eq!((report.stopped, report.cut), (1, 0));
    assert!(
        world
            .try_send(Lane::Normal, vec![text(ANNA, "y")])
            .await
            .is_err()
    );
    seconds(5).await;
    assert_eq!(world.whatsapp.frames().len(), sent);
    world.dies_and_starts_again().await;
    world.becomes(accepted.first.plus(99), Status::Sent).await;
    let ids: HashSet<_> = world
        .whatsapp
        .frames()
        .iter()
        .map(|frame| frame.id)
        .collect();
    assert_eq!(ids.len(), 100);
}

#[tokio::test(start_paused = true)]
async fn several_messages_that_kill_their_actor_are_put_aside_one_after_the_other() {
    let world = World::new(per_second(10.0)).await;
    let poison: Vec<_> = (0..4).map(|n| format!("+96650123450{n}")).collect();
    for recipient in &poison {
        world.whatsapp.answers(recipient, Answer::Panic);
    }

    let mut messages: Vec<_> = poison
        .iter()
        .map(|recipient| text(recipient, "poison"))
        .collect();
    messages.push(text(BADR, "fine"));
    let accepted = world.send(messages).await;
    world.becomes(accepted.first.plus(4), Status::Sent).await;

    for n in 0..4 {
        world.becomes(accepted.first.plus(n), Status::Failed).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_deleted_instance_had_in_flight_at_a_crash_settles_as_unknown() {
    let mut world = World::new(per_second(10.0)).await;
    world.whatsapp.answers(ANNA, Answer::Silent);
    let accepted = world.send(vec![text(ANNA, "x")]).await;
    world.becomes(accepted.first, Status::Processing).await;

    let directory = world.engine.directory();
    directory
        .delete_instance(world.account, world.instance.id)
        .await
        .unwrap();
    world.dies_and_starts_again().await;

    world.becomes(accepted.first, Status::Unknown).await;
}
