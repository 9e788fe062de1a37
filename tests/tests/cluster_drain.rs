//! SIGTERM under load, one node after the other: each ends in time with exit code 0, nothing is
//! repeated, and nobody who tries again as told ever fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use zajil_tests::Nodes;
use zajil_tests::clock::Stopwatch;
use zajil_tests::customer::{Customer, Letter};
use zajil_tests::form::short_or_long;
use zajil_tests::load::number;
use zajil_tests::nodes::Plan;
use zajil_tests::wait::{millis, seconds};

/// How long anybody may be sent away before it counts as a failure: an accept waits for a shard
/// that moves, and is sent away only when that takes long.
const SENT_AWAY_FOR: Duration = seconds(5);

/// Somebody who does as `Retry-After` says; answers how long they were sent away.
async fn send_as_told(customer: &Customer, instance: u64, letter: &Letter) -> Duration {
    let took = Stopwatch::start();
    loop {
        let wait = match customer.send(instance, letter).await {
            Ok(answer) if answer.is_good() => return took.elapsed(),
            Ok(answer) => {
                assert_eq!(answer.status, 503, "{}", answer.text());
                let told = answer.number("retry-after");
                seconds(
                    told.and_then(|wait| u64::try_from(wait).ok())
                        .expect("it says when"),
                )
            }
            // Its listener is closed: the next node takes it.
            Err(failure) => {
                println!("{failure}");
                millis(20)
            }
        };
        tokio::time::sleep(wait).await;
    }
}

struct Senders {
    stop: CancellationToken,
    at_work: JoinSet<Duration>,
    answered: Arc<AtomicU64>,
}

impl Senders {
    fn start(nodes: &Nodes) -> Self {
        let (stop, answered) = (CancellationToken::new(), Arc::new(AtomicU64::new(0)));
        let mut at_work = JoinSet::new();
        for sender in 0..4_u32 {
            let (customer, instances) = (nodes.customer.clone(), nodes.instances.clone());
            let (stop, answered) = (stop.clone(), Arc::clone(&answered));
            at_work.spawn(async move {
                let mut longest = Duration::ZERO;
                for n in 0_u32.. {
                    if stop.is_cancelled() {
                        break;
                    }
                    let letter = Letter::to(&number(sender * 10 + n % 10), format!("{sender}-{n}"));
                    let instance = instances[n as usize % instances.len()];
                    longest = longest.max(send_as_told(&customer, instance, &letter).await);
                    answered.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(millis(40)).await;
                }
                longest
            });
        }
        Self {
            stop,
            at_work,
            answered,
        }
    }

    async fn await_answers(&self, count: u64) {
        let goal = self.answered.load(Ordering::Relaxed) + count;
        let reached = async || (self.answered.load(Ordering::Relaxed) >= goal).then_some(());
        zajil_tests::until("the senders are answered", seconds(60), reached).await;
    }

    /// Stops them; answers how long one of them was sent away at most.
    async fn stop(self) -> Duration {
        self.stop.cancel();
        let longest = self.at_work.join_all().await;
        longest.into_iter().max().unwrap_or_default()
    }
}

/// Prints for how long nobody served the shards that the nodes gave to each other since they
/// started, as they measured it.
async fn print_hand_overs(nodes: &Nodes) {
    for number in nodes.running() {
        let metrics = nodes.node(number).ask("/metrics").await.text();
        let hand_overs = |line: &&str| line.starts_with("zajil_handover") && !line.contains("le=");
        for line in metrics.lines().filter(hand_overs) {
            println!("node {number}: {line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_under_load_fails_nobody_and_repeats_nothing() -> Result<()> {
    let Some(mut nodes) = Plan::new().start("cluster drain").await? else {
        return Ok(());
    };
    let senders = Senders::start(&nodes);

    for _ in 0..short_or_long(1, 7) {
        // Each restart takes as long as the node is kept waiting for its share.
        for number in 1..=short_or_long(1, 3) {
            senders.await_answers(30).await;
            let took = Stopwatch::start();
            let ended = nodes.stop(number).await?;
            println!("node {number} stopped within {:?}", took.elapsed());
            assert_eq!(ended.code(), Some(0), "{}", nodes.node(number).log());
            nodes.await_owned(seconds(20)).await;
            nodes.start(number).await?;
            nodes.await_balanced(seconds(60)).await;
        }
    }
    senders.await_answers(30).await;
    let sent_away = senders.stop().await;
    print_hand_overs(&nodes).await;

    println!("sent away for {sent_away:?} at most");
    assert!(sent_away < SENT_AWAY_FOR, "sent away for {sent_away:?}");
    // No kill is written down: a stop in good order repeats no frame at all.
    let report = nodes.verdict().await;
    println!("{report:?}");
    report.assert_clean();
    assert_eq!(report.indeterminate, 0, "answers were lost");
    Ok(())
}
