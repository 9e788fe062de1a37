//! A request that is repeated is answered again, not done again.

use std::sync::Arc;

use tokio::sync::oneshot;
use zajil_actors::idempotency::{Begin, Idempotency, Scope, Ticket};
use zajil_actors::owners::{Owners, Sharing};
use zajil_actors::send::Reserved;
use zajil_model::id::{AccountId, BatchId, InstanceId, MessageId, RequestId};
use zajil_model::message::{Chunk, DEFAULT_TTL_SECONDS, Message, OnAmbiguous, Payload, Queue};
use zajil_model::time::Clock;
use zajil_storage::{Append, Entry};

use crate::support::{Node, phone, seconds};

const BODY: &[u8] = b"{\"recipient\": \"+966500000001\"}";

fn keys(node: &Node) -> Idempotency {
    Idempotency::new(
        Arc::clone(&node.store),
        node.as_clock(),
        node.tracker.clone(),
        Arc::clone(&node.clocks),
        Owners::new(Sharing::alone()),
    )
}

fn account() -> AccountId {
    AccountId::new(77).unwrap()
}

fn scope(key: &str) -> Scope<'_> {
    Scope {
        account: account(),
        method: "POST",
        path: "/integration/v1/messages/send",
        key,
    }
}

async fn fresh(keys: &Idempotency, key: &str) -> Ticket {
    match keys.begin(scope(key), BODY).await.unwrap() {
        Begin::Fresh(ticket) => ticket,
        other => panic!("not the first: {other:?}"),
    }
}

async fn replay(keys: &Idempotency, key: &str) -> (u16, Vec<u8>) {
    match keys.begin(scope(key), BODY).await.unwrap() {
        Begin::Replay { status, body } => (status, body),
        other => panic!("not a repetition: {other:?}"),
    }
}

/// Ids that were given to a message before it is accepted.
async fn reserve(node: &Node) -> (InstanceId, Reserved) {
    let instance = InstanceId::new(4_242).unwrap();
    let (tick, epoch) = node.clocks.give(instance.shard(), 1).await.unwrap();
    let reserved = Reserved {
        first: MessageId::give(tick, instance.shard()),
        count: 1,
        batch: None,
        created_at: node.clock.now(),
        epoch,
        given_at: node.clock.mono(),
    };
    (instance, reserved)
}

async fn accept(node: &Node, instance: InstanceId, ids: Reserved) {
    let message = Message {
        recipient: phone(1),
        payload: Payload::Text("hello".into()),
        send_at: None,
        ttl_seconds: DEFAULT_TTL_SECONDS,
        client_ref: None,
        on_ambiguous: OnAmbiguous::default(),
    };
    let chunk = Chunk {
        account: account(),
        instance,
        queue: Queue::Normal,
        first: ids.first,
        created_at: node.clock.now(),
        bulk: None::<BatchId>,
        request: RequestId(1),
        messages: vec![message],
    };
    let shard = instance.shard();
    let epoch = ids.epoch;
    let entries = vec![Entry::Accept(Arc::new(chunk))];
    let (done, durable) = oneshot::channel();
    let told = move |result| drop(done.send(result));
    node.store.append(
        Append {
            shard,
            epoch,
            entries,
        },
        Box::new(told),
    );
    durable.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_repetition_gets_the_first_answer_for_seven_days() {
    let node = Node::new();
    let first = keys(&node);
    fresh(&first, "order-1")
        .await
        .finish(201, b"{\"id\":1}")
        .await
        .unwrap();

    for keys in [first, keys(&node.restarted())] {
        assert_eq!(
            replay(&keys, "order-1").await,
            (201, b"{\"id\":1}".to_vec())
        );
    }
    node.clock.pass(seconds(7 * 86_400 - 1));
    assert_eq!(replay(&keys(&node), "order-1").await.0, 201);
    node.clock.pass(seconds(1));
    drop(fresh(&keys(&node), "order-1").await);
}

#[tokio::test]
async fn a_key_is_its_own_in_every_account_method_and_path() {
    let node = Node::new();
    let keys = keys(&node);
    fresh(&keys, "order-1")
        .await
        .finish(201, b"{}")
        .await
        .unwrap();
    let others = [
        Scope {
            account: AccountId::new(78).unwrap(),
            ..scope("order-1")
        },
        Scope {
            method: "PUT",
            ..scope("order-1")
        },
        Scope {
            path: "/integration/v1/contacts",
            ..scope("order-1")
        },
        scope("order-2"),
    ];

    for other in others {
        assert!(
            matches!(keys.begin(other, BODY).await.unwrap(), Begin::Fresh(_)),
            "{other:?}"
        );
    }
}

#[tokio::test]
async fn another_body_under_the_same_key_is_refused() {
    let node = Node::new();
    let keys = keys(&node);
    let ticket = fresh(&keys, "order-1").await;
    assert!(matches!(
        keys.begin(scope("order-1"), b"{}").await.unwrap(),
        Begin::Mismatch
    ));

    ticket.finish(201, b"{}").await.unwrap();

    assert!(matches!(
        keys.begin(scope("order-1"), b"{}").await.unwrap(),
        Begin::Mismatch
    ));
}

#[tokio::test]
async fn a_twin_waits_for_the_first_and_gets_its_answer() {
    let node = Node::new();
    let keys = keys(&node);
    let ticket = fresh(&keys, "order-1").await;
    let twin = {
        let keys = keys.clone();
        node.tracker
            .spawn(async move { replay(&keys, "order-1").await })
    };
    tokio::task::yield_now().await;

    ticket.finish(201, b"{\"id\":1}").await.unwrap();

    assert_eq!(twin.await.unwrap(), (201, b"{\"id\":1}".to_vec()));
}

#[tokio::test(start_paused = true)]
async fn a_twin_of_a_slow_request_is_told_so_after_two_seconds() {
    let node = Node::new();
    let keys = keys(&node);
    let _slow = fresh(&keys, "order-1").await;

    let twin = keys.begin(scope("order-1"), BODY).await.unwrap();

    assert!(matches!(twin, Begin::InFlight));
}

#[tokio::test]
async fn a_request_that_failed_leaves_its_key_free() {
    let node = Node::new();
    let keys = keys(&node);

    drop(fresh(&keys, "order-1").await);
    fresh(&keys, "order-1").await.abandon().await.unwrap();
    let (_, ids) = reserve(&node).await;
    let mut refused = fresh(&keys, "order-1").await;
    refused.promise(&ids, 201, b"{}").await.unwrap();
    refused.abandon().await.unwrap();

    drop(fresh(&keys, "order-1").await);
}

#[tokio::test]
async fn a_crash_after_the_append_and_before_the_answer_does_not_send_twice() {
    let node = Node::new();
    let (instance, ids) = reserve(&node).await;
    let mut ticket = fresh(&keys(&node), "order-1").await;
    ticket.promise(&ids, 201, b"{\"id\":1}").await.unwrap();
    accept(&node, instance, ids).await;
    drop(ticket);

    let node = node.restarted();

    assert_eq!(
        replay(&keys(&node), "order-1").await,
        (201, b"{\"id\":1}".to_vec())
    );
}

#[tokio::test]
async fn a_crash_before_the_append_lets_a_repetition_send() {
    let node = Node::new();
    let (_, ids) = reserve(&node).await;
    let mut ticket = fresh(&keys(&node), "order-1").await;
    ticket.promise(&ids, 201, b"{\"id\":1}").await.unwrap();
    drop(ticket);

    let node = node.restarted();
    let keys = keys(&node);
    let (instance, ids) = reserve(&node).await;
    let mut again = fresh(&keys, "order-1").await;
    again.promise(&ids, 201, b"{\"id\":2}").await.unwrap();
    accept(&node, instance, ids).await;
    again.finish(201, b"{\"id\":2}").await.unwrap();

    assert_eq!(
        replay(&keys, "order-1").await,
        (201, b"{\"id\":2}".to_vec())
    );
}

#[tokio::test]
async fn an_append_that_may_still_come_keeps_its_key_for_half_a_minute() {
    let node = Node::new();
    let keys = keys(&node);
    let (_, ids) = reserve(&node).await;
    let mut ticket = fresh(&keys, "order-1").await;
    ticket.promise(&ids, 201, b"{}").await.unwrap();
    drop(ticket);

    assert!(matches!(
        keys.begin(scope("order-1"), BODY).await.unwrap(),
        Begin::InFlight
    ));
    node.clock.pass(seconds(30));
    drop(fresh(&keys, "order-1").await);
}

#[tokio::test]
async fn old_answers_are_deleted() {
    let node = Node::new();
    let keys = keys(&node);
    fresh(&keys, "order-1")
        .await
        .finish(201, b"{}")
        .await
        .unwrap();
    let day = node.clock.now().day();
    let listed = [b"day".as_slice(), &day.0.to_be_bytes()].concat();
    let table = zajil_storage::Table::Idempotency;
    let row = &node
        .store
        .rows(table, &listed, None, 10, false)
        .await
        .unwrap()[0];
    let answer = zajil_storage::RowKey::new(table, row.key.sort.clone(), []);
    assert!(node.store.row(&answer).await.unwrap().is_some());

    node.clock.pass(seconds(9 * 86_400));
    drop(fresh(&keys, "order-2").await);
    while !node.tracker.is_empty() {
        tokio::task::yield_now().await;
    }

    assert!(node.store.row(&answer).await.unwrap().is_none());
    assert!(
        node.store
            .rows(table, &listed, None, 10, false)
            .await
            .unwrap()
            .is_empty()
    );
}
