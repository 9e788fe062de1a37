//! Batches: uploads that are cut and taken up again, and states that every instance confirms.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use zajil_actors::batch::{
    BatchError, BatchPorts, BatchText, Batches, Duplicates, InstancePort, NewBatch, NewRow,
    PartPhase, PartState, RowErrors, part_state,
};
use zajil_actors::directory::{Account, Suppression};
use zajil_actors::owners::{Owners, Sharing};
use zajil_model::batch::{BatchState, Command};
use zajil_model::id::{AccountId, BatchId, InstanceId};
use zajil_model::instance::Instance;
use zajil_model::lifecycle::{Event, Outcome, Status};
use zajil_model::message::{OnAmbiguous, Queue};
use zajil_model::time::Clock;
use zajil_storage::{Append, Entry};

use crate::support::{Node, phone, seconds};

/// Instances that note what they are told.
#[derive(Debug, Default)]
struct Listeners {
    phases: Mutex<BTreeMap<InstanceId, Vec<PartPhase>>>,
    grew: Mutex<usize>,
    deaf: Mutex<Option<InstanceId>>,
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

struct Campaign {
    node: Node,
    account: Account,
    instances: Vec<Arc<Instance>>,
    listeners: Arc<Listeners>,
    batches: Batches,
}

impl Campaign {
    async fn new() -> Self {
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

    async fn restarted(self) -> Self {
        let node = self.node.restarted();
        Self::on(node, self.account, self.instances).await
    }

    fn new_batch(&self) -> NewBatch {
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

    async fn draft(&self) -> BatchId {
        self.batches
            .create(self.account.id, self.new_batch())
            .await
            .unwrap()
            .record
            .id
    }

    async fn command(&self, id: BatchId, command: Command) -> Vec<String> {
        let changed = self
            .batches
            .change(self.account.id, id, command)
            .await
            .unwrap();
        changed.barrier.missing
    }

    async fn state(&self, id: BatchId) -> BatchState {
        self.batches
            .view(self.account.id, id)
            .await
            .unwrap()
            .record
            .life
            .state
    }

    async fn upload(&self, id: BatchId, from: u64, rows: Vec<Result<NewRow, RowErrors>>) {
        let mut upload = self
            .batches
            .upload(self.account.id, id, from)
            .await
            .unwrap();
        upload.append_rows(rows).await.unwrap();
    }

    /// Settles every message of the batch as sent.
    async fn send_all(&self, id: BatchId) {
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

fn row(n: u64) -> Result<NewRow, RowErrors> {
    Ok(NewRow {
        recipient: phone(n),
        variables: vec![("name".to_owned(), format!("person {n}"))],
        content: None,
        client_ref: Some(format!("ref-{n}")),
    })
}

fn rows(numbers: std::ops::Range<u64>) -> Vec<Result<NewRow, RowErrors>> {
    numbers.map(row).collect()
}

#[tokio::test]
async fn rows_become_messages_of_the_instances_by_recipient() {
    let campaign = Campaign::new().await;
    let id = campaign.draft().await;

    campaign.upload(id, 0, rows(0..300)).await;

    let view = campaign
        .batches
        .view(campaign.account.id, id)
        .await
        .unwrap();
    assert_eq!(
        (view.progress.taken, view.counts[Status::Pending as usize]),
        (300, 300)
    );
    assert_eq!(view.by_instance.len(), 3, "{:?}", view.by_instance);
    assert!(
        view.by_instance.iter().all(|(_, counts)| counts[1] > 50),
        "{:?}",
        view.by_instance
    );
    assert_eq!(*campaign.listeners.grew.lock(), 3);
    let page = campaign
        .batches
        .messages(campaign.account.id, id, None, None, 500)
        .await
        .unwrap();
    let mut texts: Vec<_> = page
        .messages
        .iter()
        .map(|record| record.message().payload.headline())
        .collect();
    texts.sort_unstable();
    texts.dedup();
    assert_eq!(texts.len(), 300);
    assert!(texts.contains(&"Hello person 42"));
}

#[tokio::test]
async fn a_cut_upload_goes_on_and_repeating_all_of_it_takes_nothing_twice() {
    let campaign = Campaign::new().await;
    let id = campaign.draft().await;
    campaign.upload(id, 0, rows(0..1_000)).await;

    let campaign = campaign.restarted().await;
    let account = campaign.account.id;
    let gap = campaign
        .batches
        .upload(account, id, 1_001)
        .await
        .unwrap_err();
    assert_eq!(gap, BatchError::RowGap { expected: 1_000 });
    let mut upload = campaign.batches.upload(account, id, 0).await.unwrap();
    let twin = campaign.batches.upload(account, id, 0).await.unwrap_err();
    assert_eq!(twin, BatchError::RowGap { expected: 1_000 });
    upload.append_rows(rows(0..1_000)).await.unwrap();
    let progress = upload
        .append_rows(rows(1_000..1_500))
        .await
        .unwrap()
        .progress;
    drop(upload);

    assert_eq!(
        (progress.rows_received, progress.taken, progress.duplicates),
        (1_500, 1_500, 0)
    );
    let view = campaign.batches.view(account, id).await.unwrap();
    assert_eq!(view.counts.iter().sum::<u64>(), 1_500);
}

#[tokio::test]
async fn what_is_no_message_is_counted_and_said() {
    let campaign = Campaign::new().await;
    let account = campaign.account.id;
    let entry = Suppression {
        phone: phone(3),
        reason: None,
        source: "api".to_owned(),
        created_at: campaign.node.clock.now(),
    };
    campaign
        .node
        .directory
        .suppress(account, entry)
        .await
        .unwrap();
    let id = campaign.draft().await;
    let nameless = NewRow {
        variables: Vec::new(),
        ..row(4).unwrap()
    };
    let unreadable = vec![("recipient".to_owned(), vec!["is no phone".to_owned()])];
    let block = vec![
        row(1),
        row(2),
        row(1),
        row(3),
        Ok(nameless),
        Err(unreadable.clone()),
    ];

    let mut upload = campaign.batches.upload(account, id, 0).await.unwrap();
    let told = upload.append_rows(block).await.unwrap();
    drop(upload);
    let campaign = campaign.restarted().await;
    campaign.upload(id, 6, vec![row(2), row(5)]).await;

    let progress = campaign.batches.view(account, id).await.unwrap().progress;
    assert_eq!(
        (
            progress.taken,
            progress.duplicates,
            progress.suppressed,
            progress.refused
        ),
        (3, 2, 1, 2)
    );
    let refused = campaign
        .batches
        .refused(account, id, None, 10)
        .await
        .unwrap();
    assert_eq!(refused, told.first_refusals);
    assert_eq!(
        (refused[0].row, refused[0].errors[0].0.as_str()),
        (4, "variables.name")
    );
    assert_eq!((refused[1].row, &refused[1].errors), (5, &unreadable));
}

#[tokio::test]
async fn a_recipient_may_come_twice_when_the_batch_says_so() {
    let campaign = Campaign::new().await;
    let new = NewBatch {
        duplicates: Duplicates::Keep,
        on_ambiguous: OnAmbiguous::default(),
        ..campaign.new_batch()
    };
    let id = campaign
        .batches
        .create(campaign.account.id, new)
        .await
        .unwrap()
        .record
        .id;

    campaign.upload(id, 0, vec![row(1), row(1)]).await;

    let progress = campaign
        .batches
        .view(campaign.account.id, id)
        .await
        .unwrap()
        .progress;
    assert_eq!((progress.taken, progress.duplicates), (2, 0));
}

#[tokio::test]
async fn every_instance_is_told_of_every_change_in_order() {
    let campaign = Campaign::new().await;
    let id = campaign.draft().await;
    let store = Arc::clone(&campaign.node.store);
    let phase = async || part_state(&*store, id).await.unwrap().unwrap().phase;
    assert_eq!(phase().await, PartPhase::Held);

    for (command, expected) in [
        (Command::Start, PartPhase::Running),
        (Command::Pause, PartPhase::Paused),
        (Command::Resume, PartPhase::Running),
        (Command::Cancel, PartPhase::Cancelled),
    ] {
        assert_eq!(campaign.command(id, command).await, Vec::<String>::new());
        assert_eq!(phase().await, expected);
    }

    for instance in &campaign.instances {
        let told = campaign.listeners.phases.lock()[&instance.id].clone();
        let all = [
            PartPhase::Running,
            PartPhase::Paused,
            PartPhase::Running,
            PartPhase::Cancelled,
        ];
        assert_eq!(told, all);
    }
    let refused = campaign
        .batches
        .change(campaign.account.id, id, Command::Start)
        .await;
    assert!(
        matches!(refused, Err(BatchError::WrongState(_))),
        "{refused:?}"
    );
}

#[tokio::test]
async fn time_paused_does_not_count_for_the_time_to_live() {
    let campaign = Campaign::new().await;
    let id = campaign.draft().await;
    campaign.command(id, Command::Start).await;
    let started = campaign.node.clock.now();
    let part = async || {
        part_state(&*campaign.node.store, id)
            .await
            .unwrap()
            .unwrap()
    };
    assert_eq!(part().await.expires_at(100), Some(started + seconds(100)));

    campaign.node.clock.pass(seconds(10));
    campaign.command(id, Command::Pause).await;
    assert_eq!(part().await.expires_at(100), None);
    campaign.node.clock.pass(seconds(1_000));
    campaign.command(id, Command::Resume).await;

    assert_eq!(part().await.expires_at(100), Some(started + seconds(1_100)));
}

#[tokio::test]
async fn an_instance_that_did_not_confirm_is_named_and_told_again_after_a_restart() {
    let campaign = Campaign::new().await;
    let id = campaign.draft().await;
    campaign.command(id, Command::Start).await;
    let deaf = campaign.instances[1].id;
    *campaign.listeners.deaf.lock() = Some(deaf);

    let missing = campaign.command(id, Command::Cancel).await;
    assert_eq!(missing, ["two"]);
    assert_eq!(campaign.state(id).await, BatchState::Cancelled);

    let campaign = campaign.restarted().await;
    let told = || campaign.listeners.phases.lock().get(&deaf).cloned();
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        if told().is_some() {
            break;
        }
    }
    assert_eq!(told().unwrap().last(), Some(&PartPhase::Cancelled));
}

#[tokio::test]
async fn a_sealed_or_cancelled_batch_takes_no_more_rows() {
    let campaign = Campaign::new().await;
    let account = campaign.account.id;
    let (sealed, cancelled) = (campaign.draft().await, campaign.draft().await);

    for (id, command) in [(sealed, Command::Seal), (cancelled, Command::Cancel)] {
        let mut upload = campaign.batches.upload(account, id, 0).await.unwrap();
        upload.append_rows(rows(0..10)).await.unwrap();
        campaign.command(id, command).await;

        let late = upload.append_rows(rows(10..20)).await.unwrap_err();
        drop(upload);

        assert_eq!(late, BatchError::TakesNoRows);
        let again = campaign.batches.upload(account, id, 10).await.unwrap_err();
        assert_eq!(again, BatchError::TakesNoRows);
        assert_eq!(
            campaign
                .batches
                .view(account, id)
                .await
                .unwrap()
                .progress
                .taken,
            10
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_finishes_once_it_is_sealed_and_everything_is_settled() {
    let campaign = Campaign::new().await;
    let id = campaign.draft().await;
    campaign.upload(id, 0, rows(0..50)).await;
    campaign.command(id, Command::Start).await;
    campaign.send_all(id).await;
    tokio::time::sleep(seconds(5)).await;
    assert_eq!(
        campaign.state(id).await,
        BatchState::Running,
        "more rows may come"
    );

    campaign.command(id, Command::Seal).await;
    tokio::time::sleep(seconds(5)).await;

    assert_eq!(campaign.state(id).await, BatchState::Finished);
    let view = campaign
        .batches
        .view(campaign.account.id, id)
        .await
        .unwrap();
    assert_eq!(view.counts[Status::Sent as usize], 50);
}

#[tokio::test(start_paused = true)]
async fn a_batch_starts_by_itself_at_its_time_even_after_a_restart() {
    let campaign = Campaign::new().await;
    let at = campaign.node.clock.now() + seconds(3_600);
    let new = NewBatch {
        start_at: Some(at),
        ..campaign.new_batch()
    };
    let id = campaign
        .batches
        .create(campaign.account.id, new)
        .await
        .unwrap()
        .record
        .id;

    let campaign = campaign.restarted().await;
    campaign.node.clock.pass(seconds(3_599));
    tokio::time::sleep(seconds(3)).await;
    assert_eq!(campaign.state(id).await, BatchState::Draft);
    campaign.node.clock.pass(seconds(1));
    tokio::time::sleep(seconds(3)).await;

    assert_eq!(campaign.state(id).await, BatchState::Running);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_forgotten_is_cancelled_after_37_days() {
    let campaign = Campaign::new().await;
    let id = campaign.draft().await;
    let campaign = campaign.restarted().await;

    campaign.node.clock.pass(seconds(37 * 86_400));
    tokio::time::sleep(seconds(40)).await;

    assert_eq!(campaign.state(id).await, BatchState::Cancelled);
}

#[tokio::test]
async fn a_batch_is_nobody_elses() {
    let campaign = Campaign::new().await;
    let id = campaign.draft().await;
    let other = campaign.node.account("other").await;

    assert_eq!(
        campaign.batches.view(other.id, id).await.unwrap_err(),
        BatchError::NotFound
    );
    let command = campaign.batches.change(other.id, id, Command::Start).await;
    assert_eq!(command.unwrap_err(), BatchError::NotFound);
    assert!(campaign.batches.upload(other.id, id, 0).await.is_err());
}

#[tokio::test]
async fn what_a_batch_cannot_be_is_refused_by_field() {
    let campaign = Campaign::new().await;
    let valid = || campaign.new_batch();
    let now = campaign.node.clock.now();
    let text = |content: &str| BatchText {
        content: content.to_owned(),
        ..valid().text
    };
    let twice = vec![
        Arc::clone(&campaign.instances[0]),
        Arc::clone(&campaign.instances[0]),
    ];

    for (field, new) in [
        (
            "name",
            NewBatch {
                name: String::new(),
                ..valid()
            },
        ),
        (
            "instances",
            NewBatch {
                instances: Vec::new(),
                ..valid()
            },
        ),
        (
            "instances",
            NewBatch {
                instances: twice,
                ..valid()
            },
        ),
        (
            "content",
            NewBatch {
                text: text(""),
                ..valid()
            },
        ),
        (
            "ttl",
            NewBatch {
                ttl_seconds: Some(59),
                ..valid()
            },
        ),
        (
            "start_at",
            NewBatch {
                start_at: Some(now + seconds(31 * 86_400)),
                ..valid()
            },
        ),
    ] {
        let refused = campaign
            .batches
            .create(campaign.account.id, new)
            .await
            .unwrap_err();
        let BatchError::Field { field: named, .. } = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(named, field);
    }
}
