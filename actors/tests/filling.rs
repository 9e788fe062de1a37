//! How the parts of campaigns are filled where each part has an owner of its own: no row is lost, and
//! none is put in twice, however often a block comes and whoever put it in before.
#![expect(clippy::unwrap_used, reason = "a failure is a panic")]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use support::campaign::{asked, campaign, campaign_on, rows};
use support::site::Site;
use support::trouble::troubled;
use support::{per_second, text};
use zajil_actors::batch::{BatchError, Progress, Upload};
use zajil_actors::engine::Engine;
use zajil_actors::owners::questions::AppendPart;
use zajil_model::batch::{BatchState, Command};
use zajil_model::id::{AccountId, BatchId};
use zajil_model::instance::Instance;
use zajil_model::lease::{NodeId, SEND_FOR};
use zajil_model::lifecycle::Status;
use zajil_storage::{RowKey, RowWrite, Table};

#[tokio::test(start_paused = true)]
async fn rows_that_a_part_gets_when_its_lease_is_over_are_not_answered_as_taken() {
    let site = Site::new(3).await;
    let account = site.account().await;
    let instance = site.instance(account, "shop", per_second(1.0)).await;
    let owner = site.owner(&instance);
    let (_, mut upload) = hundred_rows(&site, account, &instance, owner).await;

    site.renews_no_more(owner);
    tokio::time::sleep(SEND_FOR).await;

    upload.append_rows(rows(100, 200)).await.unwrap_err();
    assert_eq!(upload.progress().progress.rows_received, 100);
}

#[tokio::test(start_paused = true)]
async fn rows_are_not_answered_by_an_owner_of_their_campaign_whose_lease_is_over() {
    let site = Site::new(2).await;
    let account = site.account().await;
    let instance = site.instance(account, "shop", per_second(1.0)).await;
    // Its part is filled by another node, whose lease is good.
    let owner = site.other(&instance);
    let (_, mut upload) = hundred_rows(&site, account, &instance, owner).await;

    site.renews_no_more(owner);
    tokio::time::sleep(SEND_FOR).await;

    let late = upload.append_rows(rows(100, 200)).await;
    assert_eq!(late.map(drop), Err(BatchError::Moved));
}

/// A block of rows for the part of an instance.
fn block(
    account: AccountId,
    batch: BatchId,
    instance: &Arc<Instance>,
    rows: std::ops::Range<u64>,
) -> AppendPart {
    let row = |n| (n, text(&format!("+96650{n:07}"), "hello"));
    AppendPart {
        account,
        batch,
        instance: instance.id,
        upto: rows.end,
        from: rows.start,
        rows: rows.map(row).collect(),
    }
}

/// A campaign at a node, and an upload that brought it a hundred rows.
async fn hundred_rows(
    site: &Site,
    account: AccountId,
    instance: &Arc<Instance>,
    owner: u64,
) -> (BatchId, Upload) {
    let id = campaign_on(site, account, instance, owner).await;
    let batches = site.engine(owner).batches();
    let mut upload = batches.upload(account, id, 0).await.unwrap();
    upload.append_rows(rows(0, 100)).await.unwrap();
    (id, upload)
}

/// How many messages a campaign has.
async fn has(engine: &Engine, account: AccountId, batch: BatchId) -> u64 {
    let view = engine.batches().view(account, batch).await.unwrap();
    view.counts.iter().sum()
}

/// What is stored of a block that was put in.
#[derive(serde::Serialize)]
struct Said {
    upto: u64,
    rows: Vec<(u64, u64)>,
}

#[tokio::test(start_paused = true)]
async fn rows_that_only_a_former_owner_says_it_has_are_put_in_again_and_once() {
    let site = Site::new(2).await;
    let account = site.account().await;
    let instance = site.instance(account, "shop", per_second(1.0)).await;
    let engine = site.engine(site.owner(&instance));
    let new = campaign(std::slice::from_ref(&instance));
    let made = engine.batches().create(account, new).await.unwrap();
    let batch = made.record.id;

    // An append that is void, with the row that came with it.
    let void = engine.reserve(&instance, 100, false).await.unwrap();
    let first = (0, void.first.tick().0);
    let said = Said {
        upto: 100,
        rows: std::iter::once(first)
            .chain((1..100).map(|_| (1, 1)))
            .collect(),
    };
    let partition = [
        b"filled".as_slice(),
        &batch.get().to_be_bytes(),
        &instance.id.get().to_be_bytes(),
    ];
    let key = RowKey::new(
        Table::Batches,
        partition.concat(),
        void.first.plus(99).get().to_be_bytes(),
    );
    let filled = RowWrite::put(key, rmp_serde::to_vec_named(&said).unwrap());
    site.store.write(vec![filled]).await.unwrap();
    for _ in 0..2 {
        let put_in = asked(
            engine,
            instance.id.shard(),
            block(account, batch, &instance, 0..100),
        )
        .await;
        assert_eq!(put_in, Ok(()));
    }

    assert_eq!(has(engine, account, batch).await, 100);
}

#[tokio::test(start_paused = true)]
async fn a_block_that_an_owner_puts_in_too_late_does_not_hide_the_one_before() {
    let (trouble, store) = troubled();
    let site = Site::on(store, 2).await;
    let account = site.account().await;
    let instance = site.instance(account, "shop", per_second(1.0)).await;
    let engine = site.engine(site.owner(&instance));
    let new = campaign(std::slice::from_ref(&instance));
    let made = engine.batches().create(account, new).await.unwrap();
    let batch = made.record.id;
    let put_in = async |rows| {
        let block = block(account, batch, &instance, rows);
        let put_in = asked(engine, instance.id.shard(), block).await;
        assert_eq!(put_in, Ok(()));
    };
    put_in(0..100).await;

    trouble.accepts_are_void(true);
    put_in(100..150).await;
    put_in(100..200).await;
    trouble.accepts_are_void(false);
    // Nobody was told of the void ones, so all of it comes again.
    put_in(0..200).await;

    assert_eq!(has(engine, account, batch).await, 200);
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_another_owner_went_on_with_takes_nothing_back() {
    let site = Site::new(2).await;
    let account = site.account().await;
    let instance = site.instance(account, "shop", per_second(1.0)).await;
    let owner = site.owner(&instance);
    let (id, mut upload) = hundred_rows(&site, account, &instance, owner).await;
    let far = [b"progress".as_slice(), &id.get().to_be_bytes()].concat();
    let far = RowKey::new(Table::Batches, far, []);
    let said = async || site.store.row(&far).await.unwrap().unwrap().value;
    let mut progress: Progress = rmp_serde::from_slice(&said().await).unwrap();
    progress.rows_received = 300;
    let newer = rmp_serde::to_vec_named(&progress).unwrap();
    let write = RowWrite::put(far.clone(), newer.clone());
    site.store.write(vec![write]).await.unwrap();

    let late = upload.append_rows(rows(100, 200)).await;

    assert_eq!(late.map(drop), Err(BatchError::Moved));
    assert_eq!(said().await, newer);
    // Who begins again is told where to go on.
    drop(upload);
    let batches = site.engine(owner).batches();
    let upload = batches.upload(account, id, 200).await.unwrap();
    assert_eq!(upload.progress().progress.rows_received, 300);
}

#[tokio::test(start_paused = true)]
async fn rows_that_come_in_while_an_owner_looks_who_has_some_are_no_duplicates() {
    for begun in [0, 100] {
        let (trouble, store) = troubled();
        let site = Site::on(store, 2).await;
        let account = site.account().await;
        let instance = site.instance(account, "shop", per_second(1.0)).await;
        let owner = site.owner(&instance);
        let id = campaign_on(&site, account, &instance, owner).await;
        let batches = site.engine(owner).batches();
        if begun > 0 {
            let mut upload = batches.upload(account, id, 0).await.unwrap();
            upload.append_rows(rows(0, 100)).await.unwrap();
        } else {
            // All of them went to another instance.
            let taken = Progress {
                rows_received: 100,
                taken: 100,
                ..Progress::default()
            };
            let far = [b"progress".as_slice(), &id.get().to_be_bytes()].concat();
            let value = rmp_serde::to_vec_named(&taken).unwrap();
            let write = RowWrite::put(RowKey::new(Table::Batches, far, []), value);
            site.store.write(vec![write]).await.unwrap();
        }
        // Long enough to forget who has a row.
        tokio::time::sleep(Duration::from_secs(200)).await;
        trouble.reads_wait(Duration::from_millis(500));

        let late = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let block = block(account, id, &instance, 100..200);
            asked(site.engine(owner), instance.id.shard(), block).await
        };
        let (upload, put_in) = tokio::join!(batches.upload(account, id, 100), late);

        assert_eq!(put_in, Ok(()));
        let added = upload.unwrap().append_rows(rows(100, 200)).await.unwrap();
        let progress = added.progress;
        assert_eq!((progress.rows_received, progress.duplicates), (200, 0));
        assert_eq!(has(site.engine(owner), account, id).await, begun + 100);
    }
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_is_seen_after_a_block_came_again_that_ends_elsewhere() {
    let site = Site::new(2).await;
    let account = site.account().await;
    let instance = site.instance(account, "shop", per_second(1.0)).await;
    let owner = site.other(&instance);
    let (id, mut upload) = hundred_rows(&site, account, &instance, owner).await;
    // A block that was put in, by an owner of the campaign that did not live to count it.
    let engine = site.engine(site.owner(&instance));
    let put_in = block(account, id, &instance, 100..200);
    assert_eq!(asked(engine, instance.id.shard(), put_in).await, Ok(()));
    upload.append_rows(rows(100, 150)).await.unwrap();
    drop(upload);
    // Long enough to forget who has a row.
    tokio::time::sleep(Duration::from_secs(200)).await;

    let batches = site.engine(owner).batches();
    let mut upload = batches.upload(account, id, 150).await.unwrap();
    upload.append_rows(rows(150, 180)).await.unwrap();
    upload.append_rows(rows(180, 250)).await.unwrap();
    let again = upload.append_rows(rows(90, 200)).await.unwrap();

    let progress = again.progress;
    assert_eq!((progress.rows_received, progress.duplicates), (360, 110));
    assert_eq!(has(engine, account, id).await, 250);
}

/// A cut upload is repeated from a row before its end, with other borders.
async fn upload_the_rest(
    site: &Site,
    node: u64,
    account: AccountId,
    id: BatchId,
) -> Result<Progress, BatchError> {
    let batches = site.engine(node).batches();
    let mut upload = batches.upload(account, id, 300).await?;
    upload.append_rows(rows(300, 900)).await?;
    Ok(upload.append_rows(rows(900, 1_000)).await?.progress)
}

#[tokio::test(start_paused = true)]
async fn a_campaign_is_uploaded_at_one_node_steered_at_another_and_told_of_by_all() {
    let mut site = Site::new(3).await;
    let account = site.account().await;
    let instances = site.instances(account, 6, per_second(100.0)).await;
    let new = campaign(&instances);
    let made = site.engine(1).batches().create(account, new).await.unwrap();
    let id = made.record.id;

    let batches = site.engine(2).batches();
    let mut upload = batches.upload(account, id, 0).await.unwrap();
    upload.append_rows(rows(0, 500)).await.unwrap();
    drop(upload);
    let batches = site.engine(3).batches();
    let started = batches.change(account, id, Command::Start).await;
    assert!(started.unwrap().barrier.is_confirmed());
    site.kill(site.owner(&instances[0]));
    let any = *site.nodes.keys().next().unwrap();
    let mut progress = upload_the_rest(&site, any, account, id).await;
    if matches!(progress, Err(BatchError::Moved)) {
        // It came to this very node meanwhile, and is asked for again.
        progress = upload_the_rest(&site, any, account, id).await;
    }
    let progress = progress.unwrap();
    let batches = site.engine(any).batches();
    let sealed = batches.change(account, id, Command::Seal).await;
    assert!(sealed.unwrap().barrier.is_confirmed());

    assert_eq!((progress.rows_received, progress.taken), (1_000, 1_000));
    for _ in 0..600 {
        let view = batches.view(account, id).await.unwrap();
        if view.record.life.state == BatchState::Finished {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let shown: BTreeSet<_> = site
        .whatsapp
        .frames()
        .iter()
        .map(|frame| frame.wa_id)
        .collect();
    assert_eq!(shown.len(), 1_000);
    for node in site.nodes.values() {
        let view = node.engine.batches().view(account, id).await.unwrap();
        assert_eq!(view.record.life.state, BatchState::Finished);
        assert_eq!(view.counts[Status::Sent as usize], 1_000);
    }
}

#[tokio::test(start_paused = true)]
async fn a_block_that_reached_some_parts_only_is_counted_once_when_it_comes_again() {
    let site = Site::new(3).await;
    let account = site.account().await;
    let instances = site.instances(account, 6, per_second(100.0)).await;
    let new = campaign(&instances);
    let made = site.engine(1).batches().create(account, new).await.unwrap();
    let id = made.record.id;
    let parent = site.owner_of(id.shard());
    let cut = site.nodes.keys().find(|node| **node != parent).unwrap();
    let batches = site.engine(parent).batches();
    let mut upload = batches.upload(account, id, 0).await.unwrap();
    upload.append_rows(rows(0, 100)).await.unwrap();

    site.network.cut(NodeId(parent), NodeId(*cut));
    upload.append_rows(rows(100, 400)).await.unwrap_err();
    drop(upload);
    site.network.heal(NodeId(parent), NodeId(*cut));
    let mut upload = batches.upload(account, id, 100).await.unwrap();
    let progress = upload.append_rows(rows(100, 400)).await.unwrap().progress;

    assert_eq!((progress.taken, progress.duplicates), (400, 0));
    let view = batches.view(account, id).await.unwrap();
    assert_eq!(view.counts.iter().sum::<u64>(), 400);
}
