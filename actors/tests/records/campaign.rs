//! The words of tests of batches: an account with instances that note what they are told.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use zajil_actors::batch::{
    BatchPorts, BatchText, Batches, Duplicates, InstancePort, NewBatch, NewRow, PartPhase,
    PartState, RowErrors,
};
use zajil_actors::directory::Account;
use zajil_actors::owners::{Owners, Sharing};
use zajil_model::batch::{BatchState, Command};
use zajil_model::id::{AccountId, BatchId, InstanceId};
use zajil_model::instance::Instance;
use zajil_model::lifecycle::{Event, Outcome};
use zajil_model::message::{OnAmbiguous, Queue};
use zajil_model::time::Clock;
use zajil_storage::{Append, Entry};

use crate::support::{Node, phone};

/// Instances that note what they are told.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    pub(crate) phases: Mutex<BTreeMap<InstanceId, Vec<PartPhase>>>,
    pub(crate) grew: Mutex<usize>,
    pub(crate) deaf: Mutex<Option<InstanceId>>,
}

#[async_trait]
impl InstancePort for Listeners {
    fn part_grew(&self, _instance: InstanceId, _batch: BatchId) {
        *self.grew.lock() += 1;
    }

    async fn part_state(
        &self,
        _account: AccountId,
        instance: InstanceId,
        _batch: BatchId,
        state: PartState,
    ) -> bool {
        if *self.deaf.lock() == Some(instance) {
            return false;
        }
        self.phases
            .lock()
            .entry(instance)
            .or_default()
            .push(state.phase);
        true
    }
}

/// The batches of an account with three instances.
pub(crate) struct Campaign {
    pub(crate) node: Node,
    pub(crate) account: Account,
    pub(crate) instances: Vec<Arc<Instance>>,
    pub(crate) listeners: Arc<Listeners>,
    pub(crate) batches: Batches,
}

impl Campaign {
    pub(crate) async fn new() -> Self {
        let node = Node::new();
        let account = node.account("acme").await;
        let mut instances = Vec::new();
        for name in ["one", "two", "three"] {
            instances.push(node.instance(&account, name).await);
        }
        Self::on(node, account, instances).await
    }

    async fn on(node: Node, account: Account, instances: Vec<Arc<Instance>>) -> Self {
        let listeners = Arc::new(Listeners::default());
        let port: Arc<Listeners> = Arc::clone(&listeners);
        let ports = BatchPorts {
            store: Arc::clone(&node.store),
            clock: node.as_clock(),
            clocks: Arc::clone(&node.clocks),
            ids: node.ids.clone(),
            directory: node.directory.clone(),
            instances: port,
            owners: Owners::new(Sharing::alone()),
            tracker: node.tracker.clone(),
        };
        let batches = Batches::start(ports).await.unwrap();
        Self {
            node,
            account,
            instances,
            listeners,
            batches,
        }
    }

    pub(crate) async fn restarted(self) -> Self {
        let node = self.node.restarted();
        Self::on(node, self.account, self.instances).await
    }

    pub(crate) fn new_batch(&self) -> NewBatch {
        NewBatch {
            name: "autumn".to_owned(),
            instances: self.instances.clone(),
            text: BatchText {
                content: "Hello {{name}}".to_owned(),
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

    pub(crate) async fn draft(&self) -> BatchId {
        self.batches
            .create(self.account.id, self.new_batch())
            .await
            .unwrap()
            .record
            .id
    }

    pub(crate) async fn command(&self, id: BatchId, command: Command) -> Vec<String> {
        let changed = self
            .batches
            .change(self.account.id, id, command)
            .await
            .unwrap();
        changed.barrier.missing
    }

    pub(crate) async fn state(&self, id: BatchId) -> BatchState {
        self.batches
            .view(self.account.id, id)
            .await
            .unwrap()
            .record
            .life
            .state
    }

    pub(crate) async fn upload(
        &self,
        id: BatchId,
        from: u64,
        rows: Vec<Result<NewRow, RowErrors>>,
    ) {
        let mut upload = self
            .batches
            .upload(self.account.id, id, from)
            .await
            .unwrap();
        upload.append_rows(rows).await.unwrap();
    }

    /// Settles every message of the batch as sent.
    pub(crate) async fn send_all(&self, id: BatchId) {
        for instance in &self.instances {
            let queue = Queue::Part(id);
            let (queued, _) = self
                .node
                .store
                .queued(instance.id, queue, None, 10_000, 1 << 24)
                .await
                .unwrap();
            let at = self.node.clock.now();
            let outcomes = queued.iter().flat_map(|queued| {
                let ids = (0..queued.chunk.messages.len()).map(|index| queued.chunk.id(index));
                ids.map(|id| Outcome {
                    id,
                    at,
                    event: Event::Acked,
                })
                .collect::<Vec<_>>()
            });
            let shard = instance.id.shard();
            let epoch = self.node.clocks.ensure(shard, 1).await.unwrap();
            let entries = vec![Entry::Outcomes(outcomes.collect())];
            self.node.store.append(
                Append {
                    shard,
                    epoch,
                    entries,
                },
                Box::new(Result::unwrap),
            );
        }
    }
}

/// A row to somebody of that number.
pub(crate) fn row(n: u64) -> Result<NewRow, RowErrors> {
    Ok(NewRow {
        recipient: phone(n),
        variables: vec![("name".to_owned(), format!("person {n}"))],
        content: None,
        client_ref: Some(format!("ref-{n}")),
    })
}

/// Rows, each to somebody else.
pub(crate) fn rows(numbers: std::ops::Range<u64>) -> Vec<Result<NewRow, RowErrors>> {
    numbers.map(row).collect()
}
