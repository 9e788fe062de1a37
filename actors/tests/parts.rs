//! The parts of campaigns: their rows and their state, whoever owns the shards they are on.

mod support;

use std::sync::Arc;
use std::time::Duration;

use support::campaign::{campaign, rows};
use support::site::Site;
use support::{per_second, text};
use zajil_actors::engine::Engine;
use zajil_actors::owners::questions::AppendPart;
use zajil_actors::owners::{Answers, Question};
use zajil_cluster::link::{Incoming, Reply, Serve as _};
use zajil_model::id::{AccountId, BatchId, Shard};
use zajil_model::instance::Instance;
use zajil_model::lease::{NodeId, SEND_FOR};
use zajil_storage::{RowKey, RowWrite, Table};

/// A campaign of an instance, on this node.
async fn campaign_on(
    site: &Site,
    account: AccountId,
    instance: &Arc<Instance>,
    node: u64,
) -> BatchId {
    loop {
        let new = campaign(std::slice::from_ref(instance));
        let made = site.engine(node).batches().create(account, new).await;
        let id = made.unwrap().record.id;
        if site.engine(node).ownership().owns(id.shard()) {
            return id;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn rows_that_a_part_gets_when_its_lease_is_over_are_not_answered_as_taken() {
    let site = Site::new(3).await;
    let account = site.account().await;
    let instance = site.instance(account, "shop", per_second(1.0)).await;
    let owner = site.owner(&instance);
    let id = campaign_on(&site, account, &instance, owner).await;
    let batches = site.engine(owner).batches();
    let mut upload = batches.upload(account, id, 0).await.unwrap();
    upload.append_rows(rows(0, 100)).await.unwrap();

    site.renews_no_more(owner);
    tokio::time::sleep(SEND_FOR).await;

    upload.append_rows(rows(100, 200)).await.unwrap_err();
    assert_eq!(upload.progress().progress.rows_received, 100);
}

/// Asks a node as another node does.
async fn asked<Q: Question>(engine: &Engine, shard: Shard, question: Q) -> Q::Answer {
    let answers = Answers::default();
    answers.speak_for(engine.clone());
    let call = Incoming {
        shard: Some(shard),
        epoch: engine.ownership().epoch(shard).unwrap_or_default(),
        method: Q::METHOD,
        body: rmp_serde::to_vec_named(&question).unwrap().into(),
        deadline: Duration::from_secs(10),
    };
    match answers.serve(NodeId(9), call).await {
        Reply::Ok(answer) => rmp_serde::from_slice(&answer).unwrap(),
        other => panic!("{other:?}"),
    }
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
    let row = |n| (n, text(&format!("+96650{n:07}"), "hello"));
    let block = || AppendPart {
        account,
        batch,
        instance: instance.id,
        upto: 100,
        rows: (0..100).map(row).collect(),
    };

    // An append that is void, with the row that came with it.
    let void = engine.reserve(&instance, 100, false).await.unwrap();
    let said = [100, void.first.get(), void.first.plus(99).get()];
    let partition = [
        b"filled".as_slice(),
        &batch.get().to_be_bytes(),
        &instance.id.get().to_be_bytes(),
    ];
    let key = RowKey::new(Table::Batches, partition.concat(), 0_u64.to_be_bytes());
    let filled = RowWrite::put(key, said.map(u64::to_be_bytes).concat());
    site.store.write(vec![filled]).await.unwrap();
    for _ in 0..2 {
        let put_in = asked(engine, instance.id.shard(), block()).await;
        assert_eq!(put_in, Ok(()));
    }

    let view = engine.batches().view(account, batch).await.unwrap();
    assert_eq!(view.counts.iter().sum::<u64>(), 100);
}
