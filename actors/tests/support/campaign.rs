//! Campaigns of tests.

use std::sync::Arc;
use std::time::Duration;

use zajil_actors::batch::{BatchText, Duplicates, NewBatch, NewRow, RowErrors};
use zajil_actors::engine::Engine;
use zajil_actors::owners::{Answers, Question};
use zajil_cluster::link::{Incoming, Reply, Serve as _};
use zajil_model::id::{AccountId, BatchId, Shard};
use zajil_model::instance::Instance;
use zajil_model::lease::NodeId;
use zajil_model::message::OnAmbiguous;

use super::site::Site;

/// A campaign of some instances.
pub fn campaign(instances: &[Arc<Instance>]) -> NewBatch {
    NewBatch {
        name: "autumn".to_owned(),
        instances: instances.to_vec(),
        text: BatchText {
            content: "Hello".to_owned(),
            template: None,
            variables: Vec::new(),
        },
        ttl_seconds: None,
        start_at: None,
        deadline: None,
        duplicates: Duplicates::Skip,
        on_ambiguous: OnAmbiguous::default(),
    }
}

/// Rows, each to somebody else.
pub fn rows(from: u64, to: u64) -> Vec<Result<NewRow, RowErrors>> {
    let row = |n| NewRow {
        recipient: super::phone(&format!("+96650{n:07}")),
        variables: Vec::new(),
        content: None,
        client_ref: None,
    };
    (from..to).map(|n| Ok(row(n))).collect()
}

/// A campaign of an instance, on this node.
pub async fn campaign_on(
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

/// Asks a node as another node does.
pub async fn asked<Q: Question>(engine: &Engine, shard: Shard, question: Q) -> Q::Answer {
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
