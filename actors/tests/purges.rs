//! A purge withdraws everything that is not with the transport, and what is there is never sent again:
//! not by the actor that handed it over, and not by the one after it.

mod support;

use std::sync::Arc;
use std::time::Duration;

use support::campaign::{campaign, rows};
use support::trouble::{TroubledStore, troubled};
use support::{Answer, World, per_second, text};
use tokio::task::JoinSet;
use zajil_model::batch::Command;
use zajil_model::id::MessageId;
use zajil_model::lifecycle::Status;
use zajil_model::refusal::Refusal;

const ANNA: &str = "+966501234567";

async fn seconds(n: u64) {
    tokio::time::sleep(Duration::from_secs(n)).await;
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

/// Those of some messages that are with the transport.
async fn in_hand(world: &World, all: impl Iterator<Item = MessageId>) -> Vec<MessageId> {
    let mut found = Vec::new();
    for id in all {
        if world.state(id).await.status == Status::Processing {
            found.push(id);
        }
    }
    found
}

#[tokio::test(start_paused = true)]
async fn what_was_with_the_transport_at_a_purge_is_not_sent_again_after_a_crash() {
    let mut world = World::new(per_second(10.0)).await;
    world.whatsapp.answers(ANNA, Answer::Silent);
    let sent = world.send(vec![text(ANNA, "x")]).await.first;
    seconds(1).await;
    world.engine.purge(&world.instance).await.unwrap();
    assert_eq!(world.state(sent).await.status, Status::Processing);

    world.dies_and_starts_again().await;
    seconds(60).await;

    assert_eq!(world.whatsapp.frames().len(), 1);
    assert_eq!(world.state(sent).await.status, Status::Unknown);
    let new = world.send(vec![text("+966509876543", "new")]).await;
    world.becomes(new.first, Status::Sent).await;
}

#[tokio::test(start_paused = true)]
async fn a_purge_right_after_a_crash_reads_on_until_it_has_seen_all_that_was_in_flight() {
    let mut world = World::new(per_second(100.0)).await;
    let many: Vec<_> = (0..40).map(|n| format!("+96650123{n:04}")).collect();
    let mut sent = Vec::new();
    // One by one: what was accepted together is read together.
    for recipient in &many {
        world.whatsapp.answers(recipient, Answer::Silent);
        sent.push(world.send(vec![text(recipient, "x")]).await.first);
    }
    seconds(5).await;
    // The next actor is slow, and has room for a few.
    world
        .change(|instance| instance.pace = per_second(0.5))
        .await;
    let in_hand = in_hand(&world, sent.iter().copied()).await;
    assert!(in_hand.len() > 8, "{} are in flight", in_hand.len());
    let before = world.whatsapp.frames().len();
    world.whatsapp.starts_offline();
    world.dies_and_starts_again().await;

    let purged = world.engine.purge(&world.instance).await.unwrap();
    seconds(60).await;

    assert!(purged.is_confirmed());
    for id in sent {
        let ended = if in_hand.contains(&id) {
            Status::Unknown
        } else {
            Status::Cancelled
        };
        assert_eq!(world.state(id).await.status, ended);
    }
    assert_eq!(world.whatsapp.frames().len(), before);
}

#[tokio::test(start_paused = true)]
async fn a_purge_right_after_a_crash_ends_what_was_in_flight_of_a_paused_campaign() {
    let mut world = World::new(per_second(1.0)).await;
    let new = campaign(std::slice::from_ref(&world.instance));
    let batches = world.engine.batches();
    let made = batches.create(world.account, new).await.unwrap();
    let id = made.record.id;
    world.whatsapp.answers("+966500000000", Answer::Silent);
    let mut upload = batches.upload(world.account, id, 0).await.unwrap();
    upload.append_rows(rows(0, 10)).await.unwrap();
    for command in [Command::Start, Command::Pause] {
        batches.change(world.account, id, command).await.unwrap();
        seconds(1).await;
    }
    let frames = world.whatsapp.frames();
    world.dies_and_starts_again().await;

    world.engine.purge(&world.instance).await.unwrap();
    seconds(60).await;

    assert_eq!(world.whatsapp.frames().len(), frames.len());
    world.becomes(frames[0].id, Status::Unknown).await;
    let batches = world.engine.batches();
    let view = batches.view(world.account, id).await.unwrap();
    assert_eq!(
        view.counts[Status::Cancelled as usize],
        10 - frames.len() as u64
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rows_that_are_held_up_between_their_ids_and_the_log_are_not_passed_over_for_a_purge() {
    let (trouble, store) = troubled();
    let world = Arc::new(World::on(store, per_second(100.0)).await);
    let new = campaign(std::slice::from_ref(&world.instance));
    let batches = world.engine.batches().clone();
    let id = batches.create(world.account, new).await.unwrap().record.id;
    let mut upload = batches.upload(world.account, id, 0).await.unwrap();
    upload.append_rows(rows(0, 5)).await.unwrap();
    let started = batches.change(world.account, id, Command::Start);
    started.await.unwrap();
    while world.whatsapp.frames().len() < 5 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    trouble.hold_up_an_accept();
    let mut held_up = JoinSet::new();
    held_up.spawn(async move { upload.append_rows(rows(5, 10)).await });
    while !trouble.holds_up_an_accept() {
        tokio::task::yield_now().await;
    }
    world.engine.purge(&world.instance).await.unwrap();
    held_up.join_next().await.unwrap().unwrap().unwrap();
    seconds(2).await;

    let counts = batches.view(world.account, id).await.unwrap().counts;
    let (sent, cancelled) = (Status::Sent as usize, Status::Cancelled as usize);
    assert_eq!((counts[sent], counts[cancelled]), (5, 5), "{counts:?}");
}

async fn appends_wait(trouble: &TroubledStore, count: usize) {
    while trouble.appends_waiting() < count {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn rows_that_become_durable_right_before_a_purge_are_not_sent() {
    let (trouble, store) = troubled();
    let world = Arc::new(World::on(store, per_second(100.0)).await);
    let new = campaign(std::slice::from_ref(&world.instance));
    let batches = world.engine.batches().clone();
    let id = batches.create(world.account, new).await.unwrap().record.id;
    let mut upload = batches.upload(world.account, id, 0).await.unwrap();
    upload.append_rows(rows(0, 5)).await.unwrap();
    let started = batches.change(world.account, id, Command::Start);
    started.await.unwrap();
    // The actor leaves, and the next one has not heard of the campaign.
    seconds(3_600).await;
    let hello = world.send(vec![text(ANNA, "x")]).await.first;
    world.becomes(hello, Status::Sent).await;

    trouble.appends_wait();
    let mut under_way = JoinSet::new();
    under_way.spawn(async move { upload.append_rows(rows(5, 10)).await.map(drop).unwrap() });
    appends_wait(&trouble, 1).await;
    let purged = world.clone();
    under_way.spawn(async move {
        purged.engine.purge(&purged.instance).await.unwrap();
    });
    appends_wait(&trouble, 2).await;
    trouble.one_append_goes_on();
    seconds(5).await;
    trouble.appends_go_on();
    under_way.join_all().await;
    seconds(5).await;

    let counts = batches.view(world.account, id).await.unwrap().counts;
    let (sent, cancelled) = (Status::Sent as usize, Status::Cancelled as usize);
    assert_eq!((counts[sent], counts[cancelled]), (5, 5), "{counts:?}");
    assert_eq!(world.whatsapp.frames().len(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_purge_cancels_what_is_not_being_sent() {
    let world = World::new(per_second(1.0)).await;
    let many = (0..2_000)
        .map(|n| text(&format!("+96650{:07}", n), "x"))
        .collect::<Vec<_>>();
    let mut firsts = Vec::new();
    for chunk in many.chunks(100) {
        firsts.push(world.send(chunk.to_vec()).await.first);
    }
    seconds(3).await;

    world.engine.purge(&world.instance).await.unwrap();
    let before = world.whatsapp.frames().len();
    seconds(30).await;

    assert_eq!(world.whatsapp.frames().len(), before);
    assert_eq!(
        world.state(firsts[19].plus(99)).await.status,
        Status::Cancelled
    );
    let after = world.send(vec![text(ANNA, "after")]).await;
    world.becomes(after.first, Status::Sent).await;
}

#[tokio::test(start_paused = true)]
async fn a_purge_that_was_answered_holds_after_a_crash() {
    let mut world = World::new(per_second(10.0)).await;
    let many = (0..100).map(|n| text(&format!("+96650{n:07}"), "x"));
    world.send(many.collect()).await;
    tokio::time::sleep(Duration::from_millis(2_050)).await;

    world.engine.purge(&world.instance).await.unwrap();
    let before = world.whatsapp.frames().len();
    world.dies_and_starts_again().await;
    seconds(30).await;

    assert!(before > 0);
    assert_eq!(world.whatsapp.frames().len(), before);
}

#[tokio::test(start_paused = true)]
async fn a_purge_leaves_nothing_that_is_handed_over_later() {
    let world = World::new(per_second(5.0)).await;
    let accepted = world
        .send(
            (0..50)
                .map(|n| text(&format!("+96650{n:07}"), "x"))
                .collect(),
        )
        .await;
    // Half-way between two turns of 200 ms: the attempt of the next one is recorded.
    tokio::time::sleep(Duration::from_millis(2_150)).await;

    world.engine.purge(&world.instance).await.unwrap();
    let before = world.whatsapp.frames().len();
    seconds(60).await;

    assert_eq!(world.whatsapp.frames().len(), before);
    for n in 0..50 {
        let status = world.state(accepted.first.plus(n)).await.status;
        assert!(
            matches!(status, Status::Sent | Status::Cancelled),
            "number {n} is {status:?}"
        );
    }
}
