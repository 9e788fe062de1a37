//! Windows of API keys: never more than the limit, whatever happens to the node.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use zajil_actors::directory::{ApiKey, NewKey};
use zajil_actors::key_bucket::{KeyBuckets, Quota, Unavailable};
use zajil_actors::owners::{Owners, Sharing};
use zajil_model::time::{Clock, Mono, Timestamp};

use crate::support::{Node, TestClock, new_key, seconds};

async fn buckets(node: &Node) -> KeyBuckets {
    KeyBuckets::start(
        Arc::clone(&node.store),
        node.as_clock(),
        node.tracker.clone(),
        Owners::new(Sharing::alone()),
    )
    .await
    .unwrap()
}

async fn key(node: &Node, rate_limit: u64) -> Arc<ApiKey> {
    let account = node.account("acme").await;
    let new = NewKey {
        rate_limit,
        ..new_key("shop")
    };
    node.directory.create_key(account.id, new).await.unwrap().0
}

/// How many of `n` requests pass.
async fn passing(buckets: &KeyBuckets, key: &ApiKey, n: usize) -> usize {
    let mut passed = 0;
    for _ in 0..n {
        passed += usize::from(buckets.take(key).await.unwrap().allowed);
    }
    passed
}

#[tokio::test]
async fn a_window_lets_its_limit_through_and_says_exactly_what_is_left() {
    let node = Node::new();
    let key = key(&node, 120).await;
    let buckets = buckets(&node).await;
    let begin = node.clock.now();

    for left in (0..120).rev() {
        let quota = buckets.take(&key).await.unwrap();
        assert_eq!(
            (quota.allowed, quota.limit, quota.remaining),
            (true, 120, left)
        );
    }
    let refused = buckets.take(&key).await.unwrap();

    let reset = begin + seconds(3_600);
    assert_eq!(
        refused,
        Quota {
            allowed: false,
            limit: 120,
            remaining: 0,
            reset
        }
    );
    assert_eq!(buckets.take(&key).await.unwrap(), refused);
    node.clock.pass(seconds(3_600));
    assert!(buckets.take(&key).await.unwrap().allowed);
}

#[tokio::test]
async fn a_look_at_a_window_counts_nothing() {
    let node = Node::new();
    let key = key(&node, 3).await;
    let buckets = buckets(&node).await;

    let before = buckets.peek(&key).await.unwrap();
    buckets.take(&key).await.unwrap();
    let after = buckets.peek(&key).await.unwrap();

    assert_eq!((before.remaining, after.remaining), (3, 2));
    assert_eq!(passing(&buckets, &key, 5).await, 2);
    assert!(!buckets.peek(&key).await.unwrap().allowed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn requests_on_many_threads_are_each_counted_once_while_the_bucket_comes_and_goes() {
    let node = Node::new();
    let key = key(&node, 4_000).await;
    let mut left = Vec::new();

    for _ in 0..3 {
        let buckets = buckets(&node).await;
        let asked: Vec<_> = (0..8)
            .map(|_| {
                let (buckets, key) = (buckets.clone(), Arc::clone(&key));
                node.tracker.spawn(async move {
                    let mut left = Vec::new();
                    for _ in 0..200 {
                        let quota = buckets.take(&key).await.unwrap();
                        left.extend(quota.allowed.then_some(quota.remaining));
                    }
                    left
                })
            })
            .collect();
        for answer in asked {
            left.extend(answer.await.unwrap());
        }
        buckets.stop().await;
    }

    left.sort_unstable();
    assert_eq!(left, (0..4_000).collect::<Vec<_>>());
}

#[tokio::test]
async fn requests_at_once_are_each_counted_once() {
    let node = Node::new();
    let key = key(&node, 300).await;
    let buckets = buckets(&node).await;

    let asked: Vec<_> = (0..500)
        .map(|_| {
            let (buckets, key) = (buckets.clone(), Arc::clone(&key));
            node.tracker
                .spawn(async move { buckets.take(&key).await.unwrap() })
        })
        .collect();
    let mut left = Vec::new();
    for answer in asked {
        let quota = answer.await.unwrap();
        left.extend(quota.allowed.then_some(quota.remaining));
    }

    left.sort_unstable();
    assert_eq!(left, (0..300).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_crash_never_lets_more_than_the_limit_through() {
    let node = Node::new();
    let key = key(&node, 1_000).await;
    let mut passed = 0;

    for _ in 0..8 {
        let node = node.restarted();
        passed += passing(&buckets(&node).await, &key, 200).await;
    }

    assert!(passed <= 1_000, "{passed} passed");
    assert!(
        passed >= 600,
        "a crash costs at most a reservation or two: {passed}"
    );
}

#[tokio::test]
async fn a_node_that_stops_in_order_loses_nothing_of_the_window() {
    let node = Node::new();
    let key = key(&node, 100).await;
    let mut passed = 0;

    for _ in 0..30 {
        let buckets = buckets(&node).await;
        passed += passing(&buckets, &key, 4).await;
        buckets.stop().await;
    }

    assert_eq!(passed, 100);
}

#[tokio::test(start_paused = true)]
async fn a_bucket_that_rests_between_requests_loses_nothing_of_the_window() {
    let node = Node::new();
    let key = key(&node, 20).await;
    let buckets = buckets(&node).await;
    let mut passed = 0;

    for _ in 0..22 {
        passed += passing(&buckets, &key, 1).await;
        // Long enough to be put to rest.
        node.clock.pass(seconds(121));
        tokio::time::sleep(seconds(16)).await;
        assert!(format!("{buckets:?}").contains("buckets: 0"), "{buckets:?}");
    }

    assert_eq!(passed, 20);
}

#[tokio::test]
async fn a_new_limit_is_in_force_at_once() {
    let node = Node::new();
    let key = key(&node, 10).await;
    let buckets = buckets(&node).await;
    assert_eq!(passing(&buckets, &key, 15).await, 10);

    let raised = ApiKey {
        rate_limit: 25,
        ..ApiKey::clone(&key)
    };

    assert_eq!(passing(&buckets, &raised, 30).await, 15);
    assert!(!buckets.take(&key).await.unwrap().allowed);
}

/// A clock that fails once, at the n-th look from now.
#[derive(Debug)]
struct FailingClock {
    clock: Arc<TestClock>,
    looks: AtomicI64,
}

impl Clock for FailingClock {
    fn now(&self) -> Timestamp {
        assert_ne!(
            self.looks.fetch_sub(1, Ordering::SeqCst),
            1,
            "as this test wants it"
        );
        self.clock.now()
    }

    fn mono(&self) -> Mono {
        self.clock.mono()
    }
}

#[tokio::test]
async fn a_bucket_that_fails_takes_no_other_with_it_and_is_opened_again() {
    let node = Node::new();
    let (broken, other) = {
        let account = node.account("acme").await;
        let make = async |name| {
            node.directory
                .create_key(account.id, new_key(name))
                .await
                .unwrap()
                .0
        };
        (make("one").await, make("two").await)
    };
    let clock = Arc::new(FailingClock {
        clock: Arc::clone(&node.clock),
        looks: AtomicI64::new(0),
    });
    let port: Arc<FailingClock> = Arc::clone(&clock);
    let owners = Owners::new(Sharing::alone());
    let tracker = node.tracker.clone();
    let buckets = KeyBuckets::start(Arc::clone(&node.store), port, tracker, owners)
        .await
        .unwrap();
    // Half a chunk is left after the next one, so the bucket is told.
    assert_eq!(passing(&buckets, &broken, 24).await, 24);

    // The first look is the caller's, the second the bucket's.
    clock.looks.store(2, Ordering::SeqCst);
    let mut failed = buckets.take(&broken).await;
    while failed.is_ok() {
        // What was reserved may still be used for a moment.
        tokio::task::yield_now().await;
        failed = buckets.take(&broken).await;
    }
    let failed = failed.unwrap_err();

    assert_eq!(failed, Unavailable::Overloaded, "not opened again at once");
    assert!(buckets.take(&other).await.unwrap().allowed);
    node.clock.pass(Duration::from_millis(100));
    assert!(buckets.take(&broken).await.unwrap().allowed);
}
