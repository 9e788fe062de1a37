//! A database whose answers get lost, or never reach it: what was answered is there, once.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use scylla_proxy::{
    Condition as When, Node, Proxy, Reaction, RequestOpcode, RequestReaction, RequestRule,
    ResponseOpcode, ResponseReaction, ResponseRule, RunningProxy, ShardAwareness,
};
use tokio::runtime::Runtime;
use zajil_model::lifecycle::{Event, Outcome};
use zajil_model::message::Queue;
use zajil_storage::cql::Timeouts;
use zajil_storage::{Condition, CqlConfig, RowKey, RowWrite, Table, Written};

use crate::compare::same;
use crate::model::Naive;
use crate::world::{
    Ending, Kind, SMALL, Still, World, database, keyspace, message, open_shared, runtime,
};

/// How many of a hundred requests, and of their answers, get lost.
const LOST: f64 = 0.03;

/// Accepts, outcomes and counts each.
const ROUNDS: u64 = 30;

/// Between a store and its database.
struct Between {
    proxy: RunningProxy,
    runtime: Runtime,
    at: SocketAddr,
}

impl Between {
    fn new() -> Self {
        let runtime = Runtime::new().unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = free.local_addr().unwrap();
        drop(free);
        let database: SocketAddr = database().unwrap().parse().unwrap();
        let node = Node::new(
            database,
            at,
            ShardAwareness::Unaware,
            Some(Vec::new()),
            Some(Vec::new()),
        );
        let proxy = runtime.block_on(Proxy::new([node]).run()).unwrap();
        Self { proxy, runtime, at }
    }

    /// From now on some requests get lost, and some answers.
    fn lose(&mut self) {
        let own = || When::not(When::ConnectionRegisteredAnyEvent);
        let some = || When::RandomWithProbability(LOST);
        let asks = When::any([
            When::RequestOpcode(RequestOpcode::Execute),
            When::RequestOpcode(RequestOpcode::Batch),
        ]);
        let node = &mut self.proxy.running_nodes[0];
        node.change_request_rules(Some(vec![RequestRule(
            When::all([own(), asks, some()]),
            RequestReaction::drop_frame(),
        )]));
        node.change_response_rules(Some(vec![ResponseRule(
            When::all([own(), When::ResponseOpcode(ResponseOpcode::Result), some()]),
            ResponseReaction::drop_frame(),
        )]));
    }

    fn end(self) {
        self.runtime.shutdown_background();
    }
}

#[test]
fn what_was_answered_is_there_once_whatever_got_lost_on_the_way() {
    if database().is_none() {
        return;
    }
    let mut between = Between::new();
    let mut world = World::new(Kind::Cql(SMALL));
    let usual = CqlConfig::new(
        vec![between.at.to_string()],
        keyspace(&world.dir),
        Arc::new(Still),
    );
    let short = |millis| Duration::from_millis(millis);
    world.store = Arc::new(open_shared(CqlConfig {
        replication: 1,
        timeouts: Timeouts {
            append: short(400),
            conditional: short(600),
            read: short(400),
            scan: short(600),
            ..Timeouts::default()
        },
        ..usual
    }));
    between.lose();
    runtime().block_on(async {
        let mut naive = Naive::default();
        let count = RowKey::new(Table::Buckets, "count", "");
        let mut counted = 0_u64;
        for n in 0..ROUNDS {
            let of = n % 3;
            let chunk = world.chunk(of, Queue::Normal, vec![message(n), message(n + 1)]);
            naive.accept(&chunk);
            world.accept(of, &chunk).await;
            let (id, at, event) = (chunk.first, world.now, Event::Attempt(1));
            naive.outcome(Outcome { id, at, event });
            world.claim(of, &[id]).await.unwrap();
            let event = Event::Acked;
            naive.outcome(Outcome { id, at, event });
            world.tell(of, vec![(id, event)]).await;
            counted += counted_up(&world, &count).await;
        }

        // The next owner is near.
        world.reopen(Ending::Dropped).await;

        same(&world, &naive).await;
        let row = world.store.row(&count).await.unwrap().unwrap();
        assert_eq!(row.value, counted.to_be_bytes());
        assert_eq!(counted, ROUNDS);
    });
    drop(world);
    between.end();
}

/// Counts a row up by one, whoever else does; a lost answer is looked into.
async fn counted_up(world: &World, key: &RowKey) -> u64 {
    loop {
        let Ok(row) = world.store.row(key).await else {
            continue;
        };
        let before = row.map(|row| row.value);
        let number = before.as_ref().map_or(0, |bytes| {
            u64::from_be_bytes(bytes.as_slice().try_into().unwrap())
        });
        let condition = before.map_or(Condition::Absent, Condition::Is);
        let next = (number + 1).to_be_bytes().to_vec();
        let write = RowWrite::put(key.clone(), next.clone()).when(condition);
        match world.store.write(vec![write]).await {
            Ok(Written::Applied) => return 1,
            Ok(Written::Conflict { .. }) => {}
            // Nobody else counts here, so that what is there tells.
            Err(_) => {
                if let Ok(Some(row)) = world.store.row(key).await
                    && row.value == next
                {
                    return 1;
                }
            }
        }
    }
}
