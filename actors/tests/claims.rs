//! A channel that cannot tell a repetition: no frame leaves before its claim counts, and what has no
//! outcome is not repeated unless its sender wants it.

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use support::site::Site;
use support::trouble::troubled;
use support::{Answer, World, per_second, text};
use zajil_model::id::MessageId;
use zajil_model::lease::shard::MAX_CLAIMS;
use zajil_model::lifecycle::Status;
use zajil_model::message::{Message, OnAmbiguous};
use zajil_model::refusal::Refusal;

const ANNA: &str = "+966501234567";
const BADR: &str = "+966509876543";

async fn millis(n: u64) {
    tokio::time::sleep(Duration::from_millis(n)).await;
}

async fn seconds(n: u64) {
    millis(n * 1_000).await;
}

fn repeated(recipient: &str) -> Message {
    Message {
        on_ambiguous: OnAmbiguous::Resend,
        ..text(recipient, "again")
    }
}

/// Messages to as many people.
fn to_many(count: usize) -> Vec<Message> {
    let to = |n: usize| text(&format!("+9665{n:08}"), "hello");
    (0..count).map(to).collect()
}

/// Frames of each message.
fn shown(frames: &[support::Frame]) -> BTreeMap<MessageId, usize> {
    frames.iter().fold(BTreeMap::new(), |mut shown, frame| {
        *shown.entry(frame.id).or_default() += 1;
        shown
    })
}

async fn forgetful(pace: f64) -> World {
    let world = World::new(per_second(pace)).await;
    world.whatsapp.forgets_ids();
    world
}

/// The numbers of the attempts that WhatsApp got, in order.
fn attempts(world: &World) -> Vec<u8> {
    let frames = world.whatsapp.frames();
    frames.iter().map(|frame| frame.attempt).collect()
}

#[tokio::test(start_paused = true)]
async fn what_was_claimed_before_a_crash_settles_as_unknown_and_no_second_frame_leaves() {
    let mut world = forgetful(10.0).await;
    world.whatsapp.answers(ANNA, Answer::Silent);
    let claimed = world.send(vec![text(ANNA, "once")]).await.first;
    world.becomes(claimed, Status::Processing).await;
    seconds(1).await;

    world.dies_and_starts_again().await;
    world.becomes(claimed, Status::Unknown).await;
    seconds(700).await;

    assert_eq!(shown(&world.whatsapp.frames())[&claimed], 1);
    assert_eq!(world.state(claimed).await.status, Status::Unknown);
    let after = world.send(vec![text(ANNA, "after")]).await.first;
    world.whatsapp.answers(ANNA, Answer::Ack);
    world.becomes(after, Status::Sent).await;
}

#[tokio::test(start_paused = true)]
async fn what_its_sender_wants_repeated_is_sent_again_after_a_crash() {
    let mut world = forgetful(10.0).await;
    world.whatsapp.answers(ANNA, Answer::SilentOnce);
    let claimed = world.send(vec![repeated(ANNA)]).await.first;
    world.becomes(claimed, Status::Processing).await;
    seconds(1).await;

    world.dies_and_starts_again().await;
    world.becomes(claimed, Status::Sent).await;

    assert_eq!(attempts(&world), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_crash_leaves_no_more_unknown_than_was_claimed_and_repeats_nothing() {
    let mut world = forgetful(50.0).await;
    let taken = world.send(to_many(100)).await;
    seconds(1).await;

    world.dies_and_starts_again().await;
    let mut ends: BTreeMap<Status, usize> = BTreeMap::new();
    seconds(60).await;
    for n in 0..100 {
        let state = world.state(taken.first.plus(n)).await;
        *ends.entry(state.status).or_default() += 1;
    }

    let unknown = ends.get(&Status::Unknown).copied().unwrap_or_default();
    assert_eq!(ends[&Status::Sent] + unknown, 100);
    // Those that are armed 100 ms ahead, and those that wait 10 ms for their answer.
    assert!((1..=7).contains(&unknown), "{unknown} are unknown");
    assert!(shown(&world.whatsapp.frames()).values().all(|n| *n == 1));
}

#[tokio::test(start_paused = true)]
async fn what_a_channel_can_tell_is_asked_before_a_found_attempt_is_decided_on() {
    for (forgets, end) in [(true, Status::Unknown), (false, Status::Sent)] {
        let mut world = World::new(per_second(10.0)).await;
        world.whatsapp.tells_only_who_is_online();
        if forgets {
            world.whatsapp.forgets_ids();
        }
        world.whatsapp.answers(ANNA, Answer::SilentOnce);
        let claimed = world.send(vec![text(ANNA, "once")]).await.first;
        world.becomes(claimed, Status::Processing).await;
        seconds(1).await;

        world.whatsapp.starts_offline();
        world.dies_and_starts_again().await;
        seconds(10).await;
        assert_eq!(world.state(claimed).await.status, Status::Processing);
        world.whatsapp.comes_online();
        let online = zajil_transport::SessionEvent::Online { phone: None };
        world.whatsapp.session(online).await;

        world.becomes(claimed, end).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_next_owner_of_a_shard_repeats_nothing_that_was_claimed() {
    let mut site = Site::new(3).await;
    site.whatsapp.forgets_ids();
    let account = site.account().await;
    let instance = site.instance(account, "shop", per_second(20.0)).await;
    let (owner, other) = (site.owner(&instance), site.other(&instance));
    let mut sent = Vec::new();
    for message in to_many(60) {
        let taken = site.send(other, &instance, vec![message]).await;
        sent.push(taken.unwrap().first);
    }
    millis(1_500).await;
    let before = site.whatsapp.frames().len();
    assert!((1..60).contains(&before), "{before} frames");

    site.kill(owner);
    site.balanced().await;
    seconds(60).await;

    let mut unknown = 0;
    for id in sent {
        let other = site.nodes.values().next().unwrap();
        let found = other.engine.store().message(id).await.unwrap().unwrap();
        unknown += usize::from(found.state.status == Status::Unknown);
        assert!(found.state.status.is_settled(), "{:?}", found.state);
    }
    // What it claims until its lease is over, and reaches nobody: two seconds of its pace, and what is
    // armed besides.
    assert!((1..=42).contains(&unknown), "{unknown} are unknown");
    let shown = shown(&site.whatsapp.frames());
    assert!(shown.values().all(|frames| *frames == 1));
    assert_eq!(shown.len() + unknown, 60);
    assert_ne!(site.owner(&instance), owner);
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_leaves_in_good_order_leaves_nothing_unknown() {
    let mut site = Site::new(3).await;
    site.whatsapp.forgets_ids();
    let account = site.account().await;
    let instance = site.instance(account, "shop", per_second(20.0)).await;
    let (owner, other) = (site.owner(&instance), site.other(&instance));
    let mut sent = Vec::new();
    for message in to_many(60) {
        let taken = site.send(other, &instance, vec![message]).await;
        sent.push(taken.unwrap().first);
    }
    millis(1_500).await;

    site.drain(owner).await;

    for id in sent {
        site.becomes(id, Status::Sent).await;
    }
    assert_eq!(site.whatsapp.frames().len(), 60);
}

#[tokio::test(start_paused = true)]
async fn with_200_claims_open_an_instance_holds_and_goes_on_when_they_have_outcomes() {
    let world = forgetful(1_000.0).await;
    let messages = to_many(400);
    for message in &messages[..200] {
        let to = message.recipient.to_string();
        world.whatsapp.answers(&to, Answer::Silent);
    }
    let mut sent = Vec::new();
    for part in messages.chunks(100) {
        let taken = world.send(part.to_vec()).await;
        sent.extend((0..part.len() as u64).map(|n| taken.first.plus(n)));
    }

    seconds(5).await;
    assert_eq!(world.whatsapp.frames().len(), MAX_CLAIMS);
    for id in &sent[200..] {
        world.becomes(*id, Status::Sent).await;
    }

    for id in &sent[..200] {
        world.becomes(*id, Status::Unknown).await;
    }
    assert_eq!(world.whatsapp.frames().len(), 400);
}

#[tokio::test(start_paused = true)]
async fn no_frame_leaves_on_a_claim_of_which_it_is_not_known_that_it_counts() {
    let (trouble, store) = troubled();
    let world = World::on(store, per_second(10.0)).await;
    world.whatsapp.forgets_ids();
    trouble.doubt_claims(5);

    let sent = world.send(vec![text(ANNA, "once")]).await.first;
    millis(1_100).await;
    assert!(trouble.claims() >= 3, "{} claims", trouble.claims());
    assert!(world.whatsapp.frames().is_empty());
    world.becomes(sent, Status::Sent).await;

    let frames = world.whatsapp.frames();
    assert_eq!((frames.len(), frames[0].attempt), (1, 1));
    assert_eq!(trouble.claims(), 6);
}

#[tokio::test(start_paused = true)]
async fn no_frame_leaves_before_its_claim_is_answered_and_the_pace_does_not_suffer() {
    let (trouble, store) = troubled();
    let world = World::on(store, per_second(20.0)).await;
    world.whatsapp.forgets_ids();
    trouble.claims_take(Duration::from_millis(200));
    let began = world.clock.mono();

    world.send(to_many(100)).await;
    seconds(10).await;

    let frames = world.whatsapp.frames();
    assert_eq!(frames.len(), 100);
    assert!(frames[0].at.since(began) >= Duration::from_millis(200));
    let took = frames[99].at.since(frames[0].at);
    assert!(took <= Duration::from_millis(99 * 50), "{took:?}");
    assert!(trouble.claims() <= 30, "{} appends", trouble.claims());
}

#[tokio::test(start_paused = true)]
async fn the_next_attempt_is_claimed_when_the_refusal_before_is_durable() {
    let (trouble, store) = troubled();
    let world = World::on(store, per_second(100.0)).await;
    world.whatsapp.forgets_ids();
    let busy = Answer::RefuseOnce(Refusal::Throttled { wait_ms: 100 });
    world.whatsapp.answers(ANNA, busy);

    let sent = world.send(vec![text(ANNA, "twice")]).await.first;
    while world.whatsapp.frames().is_empty() {
        millis(1).await;
    }
    trouble.refuse_outcomes(20);
    while trouble.refused() < 20 {
        assert_eq!(trouble.attempts(), [1], "the refusal is not durable");
        millis(1).await;
    }
    world.becomes(sent, Status::Sent).await;

    assert_eq!(trouble.attempts(), [1, 2]);
    assert_eq!(attempts(&world), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_held_instance_uses_no_attempt_twice_and_counts_none_against_the_message() {
    let mut world = forgetful(10.0).await;
    let held = Answer::RefuseFirst(7, Refusal::HoldInstance);
    world.whatsapp.answers(ANNA, held);

    let sent = world.send(vec![text(ANNA, "held")]).await.first;
    seconds(100).await;
    world.dies_and_starts_again().await;
    world.becomes(sent, Status::Sent).await;

    let attempts: Vec<u8> = world
        .whatsapp
        .frames()
        .iter()
        .map(|it| it.attempt)
        .collect();
    assert_eq!(attempts, [1, 2, 3, 4, 5, 6, 7, 8]);
    let state = world.state(sent).await;
    assert_eq!((state.attempts, state.counted()), (8, 1));
}

#[tokio::test(start_paused = true)]
async fn what_may_have_been_shown_is_never_said_to_have_failed() {
    let world = World::new(per_second(10.0)).await;
    let refused = Answer::SilentThenRefuse(Refusal::Temporary);
    world.whatsapp.answers(ANNA, refused);
    world
        .whatsapp
        .answers(BADR, Answer::Refuse(Refusal::Temporary));

    let doubtful = world.send(vec![text(ANNA, "perhaps")]).await.first;
    let certain = world.send(vec![text(BADR, "never")]).await.first;

    world.becomes(doubtful, Status::Unknown).await;
    world.becomes(certain, Status::Failed).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_armed_and_never_left_is_no_attempt_in_doubt_for_the_next_owner() {
    let mut world = forgetful(10.0).await;
    let sent = world.send(to_many(20)).await;
    world.becomes(sent.first, Status::Sent).await;

    world.engine.drain(Duration::from_secs(5)).await;
    let left = world.whatsapp.frames().len() as u64;
    let next = world.state(sent.first.plus(left)).await;
    assert_eq!((next.status, next.counted()), (Status::Pending, 0));
    world.dies_and_starts_again().await;

    for n in 0..20 {
        world.becomes(sent.first.plus(n), Status::Sent).await;
    }
    assert_eq!(world.whatsapp.frames().len(), 20);
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_stands_still_has_nothing_in_doubt() {
    let mut world = forgetful(10.0).await;
    let sent = world.send(to_many(20)).await;
    world.becomes(sent.first, Status::Sent).await;

    world.change(|instance| instance.paused = true).await;
    seconds(1).await;
    world.dies_and_starts_again().await;
    seconds(1).await;
    let mut waiting = 0;
    for n in 0..20 {
        let status = world.state(sent.first.plus(n)).await.status;
        waiting += usize::from(status == Status::Pending);
    }
    assert_eq!(waiting + world.whatsapp.frames().len(), 20);
    world.change(|instance| instance.paused = false).await;

    for n in 0..20 {
        world.becomes(sent.first.plus(n), Status::Sent).await;
    }
    assert_eq!(world.whatsapp.frames().len(), 20);
}
