//! What callers see of a made-up network, on paused time.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::time::Instant;

use super::super::{Header, Incoming, Lane, Method};
use super::*;

const HERE: NodeId = NodeId(1);
const THERE: NodeId = NodeId(2);

/// Answers what it was asked after a second, and counts what it began and ended.
#[derive(Debug, Default)]
struct Echo {
    began: AtomicU32,
    ended: AtomicU32,
}

#[async_trait]
impl Serve for Echo {
    async fn serve(&self, _: NodeId, call: Incoming) -> Reply {
        self.began.fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_secs(1)).await;
        self.ended.fetch_add(1, Ordering::Relaxed);
        Reply::Ok(call.body)
    }
}

fn two_nodes() -> (FakeNetwork, FakeLink, Arc<Echo>) {
    let network = FakeNetwork::new(7);
    let echo = Arc::new(Echo::default());
    let link = network.join(HERE, Arc::new(Echo::default()));
    network.join(THERE, echo.clone());
    (network, link, echo)
}

fn within(seconds: u64) -> Call {
    Call {
        header: Header::default(),
        method: Method(1),
        body: Bytes::from_static(b"salam"),
        deadline: Duration::from_secs(seconds),
        lane: Lane::Control,
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_is_answered_after_both_ways_and_the_work() {
    let (_network, link, _) = two_nodes();
    let start = Instant::now();

    let answer = link.call(THERE, within(5)).await;

    assert_eq!(answer, Ok(Bytes::from_static(b"salam")));
    assert_eq!(start.elapsed().as_millis(), 1_002);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_never_joined_was_sent_nothing() {
    let (_network, link, _) = two_nodes();

    let refused = link.call(NodeId(3), within(5)).await.unwrap_err();

    assert_eq!(refused.fate(), Fate::NotSent);
}

#[tokio::test(start_paused = true)]
async fn a_lost_request_and_a_lost_reply_look_the_same() {
    let (network, link, echo) = two_nodes();

    network.weather(Weather {
        request_loss: 1.0,
        ..Weather::default()
    });
    let request = link.call(THERE, within(10)).await.unwrap_err();
    assert_eq!(echo.ended.load(Ordering::Relaxed), 0);
    network.weather(Weather {
        reply_loss: 1.0,
        ..Weather::default()
    });
    let reply = link.call(THERE, within(10)).await.unwrap_err();

    assert_eq!(echo.ended.load(Ordering::Relaxed), 1);
    assert_eq!(request, reply);
    assert_eq!(reply.fate(), Fate::Unknown);
}

#[tokio::test(start_paused = true)]
async fn a_cut_goes_one_way() {
    let (network, link, echo) = two_nodes();
    let back = network.join(THERE, echo);

    network.cut(HERE, THERE);
    let there = link.cast(THERE, within(5)).await;
    let here = back.call(HERE, within(5)).await.unwrap_err();

    assert_eq!(there, Ok(()));
    // The question arrived, and the answer to it is what the cut lost.
    assert_eq!(here.fate(), Fate::Unknown);
    network.heal(HERE, THERE);
    assert!(back.call(HERE, within(5)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_gives_up_stops_the_work_and_a_cut_link_keeps_it_going() {
    let (network, link, echo) = two_nodes();

    let expired = timeout(Duration::from_millis(500), link.call(THERE, within(5)));
    expired.await.unwrap_err();
    sleep(Duration::from_secs(2)).await;
    assert_eq!(echo.began.load(Ordering::Relaxed), 1);
    assert_eq!(echo.ended.load(Ordering::Relaxed), 0);

    let cut = async {
        sleep(Duration::from_millis(400)).await;
        network.cut(HERE, THERE);
        std::future::pending::<()>().await;
    };
    let call = timeout(Duration::from_millis(500), link.call(THERE, within(5)));
    tokio::select! {
        () = cut => {}
        end = call => { end.unwrap_err(); }
    }
    sleep(Duration::from_secs(2)).await;
    assert_eq!(echo.ended.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_paused_node_goes_on_where_it_stood() {
    let (network, link, echo) = two_nodes();
    let start = Instant::now();

    let meanwhile = async {
        sleep(Duration::from_millis(500)).await;
        network.pause(THERE);
        sleep(Duration::from_secs(3)).await;
        assert_eq!(echo.ended.load(Ordering::Relaxed), 0);
        network.resume(THERE);
    };
    let (answer, ()) = tokio::join!(link.call(THERE, within(9)), meanwhile);

    assert!(answer.is_ok());
    assert!(start.elapsed() >= Duration::from_millis(3_500));
}

#[tokio::test(start_paused = true)]
async fn a_crash_in_the_middle_leaves_the_outcome_unknown() {
    let (network, link, echo) = two_nodes();

    let crash = async {
        sleep(Duration::from_millis(500)).await;
        network.crash(THERE);
    };
    let (answer, ()) = tokio::join!(link.call(THERE, within(9)), crash);

    assert_eq!(answer.unwrap_err().fate(), Fate::Unknown);
    let next = link.call(THERE, within(9)).await.unwrap_err();
    assert_eq!(next.fate(), Fate::NotSent);
    assert_eq!(echo.ended.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn the_seed_decides_what_is_lost() {
    async fn losses(seed: u64) -> Vec<bool> {
        let network = FakeNetwork::new(seed);
        let link = network.join(HERE, Arc::new(Echo::default()));
        network.join(THERE, Arc::new(Echo::default()));
        network.weather(Weather {
            request_loss: 0.5,
            ..Weather::default()
        });
        let mut lost = Vec::new();
        for _ in 0..32 {
            lost.push(link.call(THERE, within(9)).await.is_err());
        }
        lost
    }

    assert_eq!(losses(1).await, losses(1).await);
    assert_ne!(losses(1).await, losses(2).await);
}
