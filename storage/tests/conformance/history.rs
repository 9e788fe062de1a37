//! Random histories: whatever happens in whatever order, a store answers as the model does.

use std::time::Duration;

use proptest::prelude::*;
use zajil_model::id::MessageId;
use zajil_model::lifecycle::{Event, Outcome};
use zajil_model::refusal::{Failure, Reason};
use zajil_model::time::Timestamp;
use zajil_storage::cql::SHARD_BUDGETS;
use zajil_storage::{Budgets, Entry};

use crate::compare::{INSTANCES, queues, same};
use crate::model::Naive;
use crate::world::{Ending, Kind, SMALL, World, account, database, instance, message, runtime};

/// One thing that happens.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Accept {
        of: u64,
        queue: usize,
        count: u64,
        due: Vec<u16>,
        bulk: bool,
    },
    Tell {
        picks: Vec<(prop::sample::Index, u8)>,
    },
    CancelAll {
        of: u64,
        queue: Option<usize>,
        upto: prop::sample::Index,
    },
    Later(u32),
    Reopen(bool),
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    let queue = 0..4_usize;
    let due = prop::collection::vec(0..400_u16, 0..4);
    prop_oneof![
        5 => (0..INSTANCES, queue.clone(), 1..60_u64, due, any::<bool>()).prop_map(
            |(of, queue, count, due, bulk)| Step::Accept { of, queue, count, due, bulk }
        ),
        6 => prop::collection::vec((any::<prop::sample::Index>(), 0..13_u8), 1..60)
            .prop_map(|picks| Step::Tell { picks }),
        1 => (0..INSTANCES, prop::option::of(queue), any::<prop::sample::Index>())
            .prop_map(|(of, queue, upto)| Step::CancelAll { of, queue, upto }),
        2 => (1..300_000_u32).prop_map(Step::Later),
        1 => any::<bool>().prop_map(Step::Reopen),
    ]
}

fn event(kind: u8, at: Timestamp) -> Event {
    let failure = Failure {
        reason: Reason::Temporary,
        code: 503,
    };
    match kind {
        0 => Event::Attempt(2),
        1 => Event::Refused {
            failure,
            retry_at: at + Duration::from_secs(5),
        },
        2 => Event::Scheduled(at + Duration::from_secs(3_600)),
        3 => Event::Due,
        4 => Event::Acked,
        5 => Event::Delivered,
        6 => Event::Read,
        7 => Event::Rejected(failure),
        8 => Event::Failed(failure),
        9 => Event::Expired,
        10 => Event::Cancelled,
        11 => Event::Suppressed,
        _ => Event::Unknown,
    }
}

/// The world and the model, side by side.
pub(crate) struct Both {
    pub(crate) world: World,
    pub(crate) naive: Naive,
}

impl Both {
    pub(crate) async fn run(&mut self, step: &Step) {
        match step {
            Step::Accept {
                of,
                queue,
                count,
                due,
                bulk,
            } => {
                self.accept(*of, *queue, *count, due, *bulk).await;
            }
            Step::Tell { picks } => self.tell(picks).await,
            Step::CancelAll { of, queue, upto } => self.cancel_all(*of, *queue, upto).await,
            Step::Later(seconds) => self.world.later(Duration::from_secs((*seconds).into())),
            Step::Reopen(true) => self.world.reopen(Ending::Closed).await,
            Step::Reopen(false) => self.world.reopen(Ending::Dropped).await,
        }
    }

    async fn accept(&mut self, of: u64, queue: usize, count: u64, due: &[u16], bulk: bool) {
        let seed = self.naive.messages.len() as u64;
        let mut messages: Vec<_> = (0..count).map(|n| message(seed + n)).collect();
        for (message, due) in messages.iter_mut().zip(due) {
            message.send_at = Some(self.world.now + Duration::from_secs((*due).into()));
        }
        let chunk = self
            .world
            .chunk_of(of, queues()[queue], messages, bulk && queue < 2);
        self.naive.accept(&chunk);
        self.world.accept(of, &chunk).await;
    }

    async fn tell(&mut self, picks: &[(prop::sample::Index, u8)]) {
        let known: Vec<MessageId> = self.naive.messages.keys().copied().collect();
        if known.is_empty() {
            return;
        }
        let at = self.world.now;
        for (pick, kind) in picks {
            let id = *pick.get(&known);
            let of = self.naive.messages[&id].chunk.instance.get() - instance(0).get();
            let event = event(*kind, at);
            self.naive.outcome(Outcome { id, at, event });
            self.world.tell(of, vec![(id, event)]).await;
        }
    }

    async fn cancel_all(&mut self, of: u64, queue: Option<usize>, upto: &prop::sample::Index) {
        let known: Vec<MessageId> = self.naive.messages.keys().copied().collect();
        if known.is_empty() {
            return;
        }
        let (queue, upto, at) = (
            queue.map(|n| queues()[n]),
            *upto.get(&known),
            self.world.now,
        );
        self.naive.cancel_all(instance(of), queue, upto, at);
        let (account, instance) = (account(), instance(of));
        let entry = Entry::CancelAll {
            account,
            instance,
            queue,
            upto,
            at,
        };
        self.world.append(of, vec![entry]).await.unwrap();
    }
}

fn run(kind: Kind, steps: &[Step]) {
    runtime().block_on(async {
        let mut both = Both {
            world: World::new(kind),
            naive: Naive::default(),
        };
        for step in steps {
            both.run(step).await;
        }
        same(&both.world, &both.naive).await;
        both.world.reopen(Ending::Dropped).await;
        same(&both.world, &both.naive).await;
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_store_in_memory_answers_as_the_model_does(
        steps in prop::collection::vec(step(), 1..60)
    ) {
        run(Kind::Memory(Budgets::default()), &steps);
    }

    #[test]
    fn a_store_that_must_forget_and_read_back_answers_as_the_model_does(
        steps in prop::collection::vec(step(), 1..60)
    ) {
        run(Kind::Memory(SMALL), &steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn an_embedded_store_answers_as_the_model_does_across_restarts(
        steps in prop::collection::vec(step(), 1..50)
    ) {
        run(Kind::Embedded(Budgets::default()), &steps);
    }

    #[test]
    fn an_embedded_store_that_flushes_all_the_time_answers_as_the_model_does(
        steps in prop::collection::vec(step(), 1..50)
    ) {
        run(Kind::Embedded(SMALL), &steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3, ..ProptestConfig::default() })]

    #[test]
    fn a_store_in_a_database_answers_as_the_model_does_across_owners(
        steps in prop::collection::vec(step(), 1..30)
    ) {
        if database().is_some() {
            run(Kind::Cql(SHARD_BUDGETS), &steps);
        }
    }

    #[test]
    fn a_store_in_a_database_that_flushes_all_the_time_answers_as_the_model_does(
        steps in prop::collection::vec(step(), 1..30)
    ) {
        if database().is_some() {
            run(Kind::Cql(SMALL), &steps);
        }
    }
}
