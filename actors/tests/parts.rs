//! The parts of campaigns: their rows and their state, whoever owns the shards they are on. How they
//! are filled is in `filling`.
#![expect(clippy::unwrap_used, reason = "a failure is a panic")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use support::campaign::{asked, campaign, campaign_on, rows};
use support::site::Site;
use support::trouble::{TroubledStore, troubled};
use support::{Answer, World, per_second, text};
use zajil_actors::batch::{BatchError, BatchRecord, PartPhase, PartState, part_state};
use zajil_actors::owners::questions::{AppendPart, ChangeBatch, SetPart};
use zajil_model::batch::{BatchState, Command};
use zajil_model::id::{BatchId, Epoch};
use zajil_model::lease::{NodeId, SEND_FOR};
use zajil_model::lifecycle::{Event, Status};
use zajil_storage::{Condition, RowKey, RowWrite, Table, Written};
use zajil_transport::TransportEvent;

/// A campaign of the instance of a world.
async fn campaign_of(world: &World) -> BatchId {
    let batches = world.engine.batches();
    let new = campaign(std::slice::from_ref(&world.instance));
    batches.create(world.account, new).await.unwrap().record.id
}

async fn upload(world: &World, id: BatchId, from: u64, to: u64) {
    let batches = world.engine.batches();
    let mut upload = batches.upload(world.account, id, from).await.unwrap();
    upload.append_rows(rows(from, to)).await.unwrap();
}

/// Tells a campaign what to do; answers who did not confirm it.
async fn steer(world: &World, id: BatchId, command: Command) -> Vec<String> {
    let batches = world.engine.batches();
    let changed = batches.change(world.account, id, command).await.unwrap();
    changed.barrier.missing
}

/// How many messages of a campaign have a status.
async fn count(world: &World, id: BatchId, status: Status) -> u64 {
    let batches = world.engine.batches();
    let view = batches.view(world.account, id).await.unwrap();
    view.counts[status as usize]
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_cannot_be_read_did_not_confirm_and_is_told_again() {
    let (trouble, store) = troubled();
    let world = World::on(store, per_second(100.0)).await;
    let id = campaign_of(&world).await;
    trouble.take_away(Some(world.instance.id));
    world.engine.directory().forget_all();
    upload(&world, id, 0, 10).await;

    let missing = steer(&world, id, Command::Start).await;

    assert_eq!(missing, ["shop"]);
    trouble.take_away(None);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(count(&world, id, Status::Sent).await, 10);
}

#[tokio::test(start_paused = true)]
async fn new_rows_are_told_of_once_their_instance_can_be_read() {
    let (trouble, store) = troubled();
    let world = World::on(store, per_second(100.0)).await;
    let id = campaign_of(&world).await;
    assert!(steer(&world, id, Command::Start).await.is_empty());
    // Long enough for its actor to leave.
    tokio::time::sleep(Duration::from_secs(400)).await;
    trouble.take_away(Some(world.instance.id));
    world.engine.directory().forget_all();

    upload(&world, id, 0, 10).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(count(&world, id, Status::Sent).await, 0);
    trouble.take_away(None);

    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(count(&world, id, Status::Sent).await, 10);
}

#[tokio::test(start_paused = true)]
async fn rows_for_an_instance_that_was_deleted_are_settled() {
    let world = World::new(per_second(100.0)).await;
    let id = campaign_of(&world).await;
    let directory = world.engine.directory();
    let deleted = directory.delete_instance(world.account, world.instance.id);
    deleted.await.unwrap();

    upload(&world, id, 0, 10).await;
    tokio::time::sleep(Duration::from_secs(10)).await;

    assert_eq!(count(&world, id, Status::Cancelled).await, 10);
}

#[tokio::test(start_paused = true)]
async fn rows_for_an_instance_that_was_deleted_while_it_ran_are_settled_as_soon() {
    let world = World::new(per_second(100.0)).await;
    let id = campaign_of(&world).await;
    upload(&world, id, 0, 5).await;
    assert!(steer(&world, id, Command::Start).await.is_empty());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let directory = world.engine.directory();
    let deleted = directory.delete_instance(world.account, world.instance.id);
    deleted.await.unwrap();
    let removed = world.engine.remove_instance(&world.instance).await;
    assert!(removed.unwrap().is_confirmed());

    upload(&world, id, 5, 10).await;
    tokio::time::sleep(Duration::from_secs(1)).await;

    assert_eq!(count(&world, id, Status::Sent).await, 5);
    assert_eq!(count(&world, id, Status::Cancelled).await, 5);
}

#[tokio::test(start_paused = true)]
async fn rows_that_come_to_an_actor_that_is_about_to_leave_are_sent() {
    let (trouble, store) = troubled();
    let world = World::on(store, per_second(100.0)).await;
    let id = campaign_of(&world).await;
    assert!(steer(&world, id, Command::Start).await.is_empty());
    // Long enough for its actor to leave; the next one knows nothing of the campaign.
    tokio::time::sleep(Duration::from_secs(400)).await;
    world.send(vec![text("+966501234567", "x")]).await;
    tokio::time::sleep(Duration::from_secs(298)).await;

    // The actor would leave while it reads whether the campaign runs.
    trouble.batches_take(Duration::from_secs(5));
    upload(&world, id, 0, 10).await;
    tokio::time::sleep(Duration::from_secs(30)).await;

    assert_eq!(count(&world, id, Status::Sent).await, 10);
}

/// Changes what is stored of a campaign, as another node does.
async fn rewrite(world: &World, id: BatchId, change: impl FnOnce(&mut BatchRecord)) {
    let write = rewritten(world, id, change).await;
    let written = world.store.write(vec![write]).await.unwrap();
    assert!(matches!(written, Written::Applied));
}

/// The write by which another node changes what is stored of a campaign.
async fn rewritten(world: &World, id: BatchId, change: impl FnOnce(&mut BatchRecord)) -> RowWrite {
    let [account, batch] = [world.account.get(), id.get()].map(u64::to_be_bytes);
    let key = RowKey::new(Table::Batches, account, batch);
    let row = world.store.row(&key).await.unwrap().unwrap();
    let mut record = rmp_serde::from_slice(&row.value).unwrap();
    change(&mut record);
    let bytes = rmp_serde::to_vec_named(&record).unwrap();
    RowWrite::put(key, bytes).when(Condition::Is(row.value))
}

async fn first_frame(world: &World) {
    while world.whatsapp.frames().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A campaign that was started and then paused after its first row.
async fn paused(world: &World) -> BatchId {
    let id = campaign_of(world).await;
    upload(world, id, 0, 10).await;
    assert!(steer(world, id, Command::Start).await.is_empty());
    first_frame(world).await;
    assert!(steer(world, id, Command::Pause).await.is_empty());
    assert_eq!(world.whatsapp.frames().len(), 1);
    id
}

/// The start of a campaign, which was told and comes only now.
async fn late_start(world: &World, id: BatchId) -> SetPart {
    let now = part_state(world.store.as_ref(), id).await.unwrap().unwrap();
    SetPart {
        account: world.account,
        instance: world.instance.id,
        batch: id,
        state: PartState {
            phase: PartPhase::Running,
            revision: now.revision - 1,
            ..now
        },
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_that_comes_after_the_pause_that_followed_it_starts_nothing() {
    let world = World::new(per_second(1.0)).await;
    let id = paused(&world).await;

    let late = late_start(&world, id).await;
    assert!(asked(&world.engine, world.instance.id.shard(), late).await);

    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(world.whatsapp.frames().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_comes_late_to_an_actor_that_knows_nothing_starts_nothing() {
    let mut world = World::new(per_second(1.0)).await;
    let id = paused(&world).await;
    world.dies_and_starts_again().await;
    // Long enough for the actor to leave: nothing of the campaign may go.
    tokio::time::sleep(Duration::from_secs(400)).await;

    let late = late_start(&world, id).await;
    assert!(asked(&world.engine, world.instance.id.shard(), late).await);

    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(world.whatsapp.frames().len(), 1);
    assert!(steer(&world, id, Command::Resume).await.is_empty());
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(count(&world, id, Status::Sent).await, 10);
}

#[tokio::test(start_paused = true)]
async fn a_pause_of_what_was_resumed_behind_its_parent_is_stored() {
    let world = World::new(per_second(1.0)).await;
    let id = paused(&world).await;
    let now = world.clock.now();
    let resume = |record: &mut BatchRecord| assert!(record.life.resume(now).is_ok());
    rewrite(&world, id, resume).await;

    assert!(steer(&world, id, Command::Pause).await.is_empty());

    let stored = part_state(world.store.as_ref(), id).await.unwrap().unwrap();
    assert_eq!(stored.phase, PartPhase::Paused);
}

#[tokio::test(start_paused = true)]
async fn a_pause_by_a_former_owner_that_is_stored_late_does_not_undo_what_was_confirmed_since() {
    let world = World::new(per_second(1.0)).await;
    let id = campaign_of(&world).await;
    upload(&world, id, 0, 10).await;
    assert!(steer(&world, id, Command::Start).await.is_empty());
    let now = world.clock.now();
    let pause = |record: &mut BatchRecord| assert!(record.life.pause(now).is_ok());
    let late = rewritten(&world, id, pause).await;

    // It runs, as far as its owner knows.
    assert!(steer(&world, id, Command::Resume).await.is_empty());
    let written = world.store.write(vec![late]).await.unwrap();

    assert!(matches!(written, Written::Conflict { .. }), "{written:?}");
}

#[tokio::test(start_paused = true)]
async fn rows_are_sent_when_a_message_woke_their_instance_before_it_was_known_what_has_work() {
    let trouble = Arc::new(TroubledStore::default());
    let mut site = Site::on(trouble.clone(), 2).await;
    let account = site.account().await;
    let instance = site.instance(account, "shop", per_second(1.0)).await;
    let (owner, other) = (site.owner(&instance), site.other(&instance));
    let id = campaign_on(&site, account, &instance, other).await;
    let batches = site.engine(other).batches().clone();
    let mut upload = batches.upload(account, id, 0).await.unwrap();
    upload.append_rows(rows(0, 5)).await.unwrap();
    batches.change(account, id, Command::Start).await.unwrap();
    trouble.work_takes(Duration::from_secs(5));

    site.kill(owner);
    let woke = loop {
        let sent = site.send(other, &instance, vec![text("+966501230000", "hello")]);
        if let Ok(woke) = sent.await {
            break woke.first;
        }
    };
    site.becomes(woke, Status::Sent).await;

    tokio::time::sleep(Duration::from_secs(15)).await;
    let view = batches.view(account, id).await.unwrap();
    assert_eq!(view.counts[Status::Sent as usize], 5);
}

#[tokio::test(start_paused = true)]
async fn a_command_that_waits_while_its_campaign_moves_is_done_by_the_next_owner() {
    let site = Site::new(3).await;
    let account = site.account().await;
    let instance = site.instance(account, "shop", per_second(1.0)).await;
    let (owner, other) = (site.owner(&instance), site.other(&instance));
    let id = campaign_on(&site, account, &instance, other).await;
    let batches = site.engine(other).batches();
    // The part does not confirm for three seconds, and the parent is busy as long.
    site.network.cut(NodeId(owner), NodeId(other));
    let starting = batches.change(account, id, Command::Start);
    let leaving = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let cluster = &site.nodes[&other].cluster;
        cluster.drain(Duration::from_secs(20)).await;
        site.network.heal(NodeId(owner), NodeId(other));
    };
    let (started, ()) = tokio::join!(starting, leaving);

    let state = started.map(|changed| changed.view.record.life.state);
    assert_eq!(state, Ok(BatchState::Running));
    let open = format!("{batches:?}");
    assert!(open.contains("open: 0"), "{open}");
}

#[tokio::test(start_paused = true)]
async fn a_command_that_is_done_when_the_lease_is_over_is_not_answered_as_done() {
    let site = Site::new(3).await;
    let account = site.account().await;
    let instance = site.instance(account, "shop", per_second(1.0)).await;
    let other = site.other(&instance);
    let id = campaign_on(&site, account, &instance, other).await;
    site.renews_no_more(other);
    tokio::time::sleep(SEND_FOR).await;

    let start = ChangeBatch {
        account,
        id,
        command: Command::Start,
        after: 0,
    };
    let started = asked(site.engine(other), id.shard(), start).await;

    assert_eq!(started.map(|_| ()), Err(BatchError::Moved));
}

#[tokio::test(start_paused = true)]
async fn a_resume_that_comes_again_late_does_not_undo_a_pause_that_was_confirmed() {
    let site = Site::new(3).await;
    let account = site.account().await;
    let instance = site.instance(account, "shop", per_second(1.0)).await;
    let owner = site.other(&instance);
    let id = campaign_on(&site, account, &instance, owner).await;
    let batches = site.engine(1).batches();
    for command in [Command::Start, Command::Pause] {
        batches.change(account, id, command).await.unwrap();
    }
    let seen = batches.view(account, id).await.unwrap().record;
    let resume = ChangeBatch {
        account,
        id,
        command: Command::Resume,
        after: seen.life.commands,
    };
    let first = asked(site.engine(owner), id.shard(), resume).await;
    assert_eq!(first.unwrap().view.record.life.state, BatchState::Running);
    batches.change(account, id, Command::Pause).await.unwrap();

    let late = asked(site.engine(owner), id.shard(), resume).await;

    assert_eq!(late.map(|_| ()), Err(BatchError::Outdated));
    let now = batches.view(account, id).await.unwrap().record;
    assert_eq!(now.life.state, BatchState::Paused);
}

#[tokio::test(start_paused = true)]
async fn what_was_in_flight_of_a_cancelled_campaign_is_settled_by_the_next_owner() {
    let mut world = World::new(per_second(1.0)).await;
    let id = campaign_of(&world).await;
    upload(&world, id, 0, 10).await;
    let batches = world.engine.batches();
    let page = batches.messages(world.account, id, None, None, 1).await;
    let in_flight = page.unwrap().messages[0].id();
    world.write(Epoch(1), in_flight, Event::Attempt(1)).await;
    let now = world.clock.now();
    let cancel = |record: &mut BatchRecord| assert!(record.life.cancel(now).is_ok());
    rewrite(&world, id, cancel).await;

    world.dies_and_starts_again().await;

    world.becomes(in_flight, Status::Unknown).await;
    assert_eq!(count(&world, id, Status::Cancelled).await, 9);
}

#[tokio::test(start_paused = true)]
async fn what_is_in_flight_while_its_campaign_is_cancelled_is_waited_for() {
    let world = World::new(per_second(1.0)).await;
    let id = campaign_of(&world).await;
    world.whatsapp.answers("+966500000000", Answer::Silent);
    upload(&world, id, 0, 1).await;
    assert!(steer(&world, id, Command::Start).await.is_empty());
    first_frame(&world).await;

    assert!(steer(&world, id, Command::Cancel).await.is_empty());

    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(count(&world, id, Status::Processing).await, 1);
    let (frame, at) = (world.whatsapp.frames()[0].clone(), world.clock.now());
    let wa_id = frame.wa_id;
    world
        .whatsapp
        .says(TransportEvent::Acked { wa_id, at })
        .await;
    world.becomes(frame.id, Status::Sent).await;
}

#[tokio::test(start_paused = true)]
async fn rows_that_come_after_the_cancel_of_their_campaign_are_cancelled() {
    let world = World::new(per_second(1.0)).await;
    let id = campaign_of(&world).await;
    upload(&world, id, 0, 5).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(steer(&world, id, Command::Cancel).await.is_empty());
    tokio::time::sleep(Duration::from_secs(1)).await;

    let late = AppendPart {
        account: world.account,
        batch: id,
        instance: world.instance.id,
        upto: 10,
        from: 5,
        rows: (5..10)
            .map(|n| (n, text(&format!("+96650{n:07}"), "late")))
            .collect(),
    };
    let put_in = asked(&world.engine, world.instance.id.shard(), late).await;

    assert_eq!(put_in, Ok(()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(count(&world, id, Status::Cancelled).await, 10);
}
