//! A shard goes from one living node to another: nobody is sent away, no pace is broken or lost, and
//! nothing goes out twice.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use support::site::Site;
use support::trouble::TroubledStore;
use support::{Answer, per_second, text};
use tokio::task::JoinSet;
use tokio::time::Instant;
use zajil_actors::engine::Engine;
use zajil_actors::send::Submission;
use zajil_model::id::RequestId;
use zajil_model::instance::Instance;
use zajil_model::lease::NodeId;
use zajil_model::lifecycle::Status;
use zajil_model::message::Lane;

/// What a recipient may have to wait longer because its shard moves.
const PAUSE: Duration = Duration::from_millis(300);

/// Gaps between the frames of all instances together.
fn gaps(site: &Site) -> Vec<Duration> {
    let frames = site.whatsapp.frames();
    let gaps = frames.windows(2).map(|pair| pair[1].at.since(pair[0].at));
    gaps.collect()
}

#[tokio::test(start_paused = true)]
async fn a_node_that_leaves_in_good_order_repeats_nothing_and_nobody_waits_for_its_lease() {
    let mut site = Site::new(3).await;
    let account = site.account().await;
    let instance = site.instance(account, "shop", per_second(10.0)).await;
    let (owner, other) = (site.owner(&instance), site.other(&instance));
    let mut sent = Vec::new();
    for n in 0..60 {
        let to = format!("+96650123{n:04}");
        let taken = site.send(other, &instance, vec![text(&to, "hello")]).await;
        sent.push(taken.unwrap().first);
    }

    let report = site.drain(owner).await;
    for id in &sent {
        site.becomes(*id, Status::Sent).await;
    }

    assert_eq!(report.cut, 0);
    assert_eq!(site.whatsapp.frames().len(), 60);
    let longest = gaps(&site).into_iter().max().unwrap();
    assert!(longest < PAUSE, "a pause of {longest:?}");
}

#[tokio::test(start_paused = true)]
async fn the_next_owner_goes_on_where_the_pace_stood() {
    let mut site = Site::new(3).await;
    let account = site.account().await;
    let instance = site.instance(account, "shop", per_second(0.5)).await;
    let (owner, other) = (site.owner(&instance), site.other(&instance));
    let mut last = None;
    for n in 0..5 {
        let to = format!("+96650123{n:04}");
        let taken = site.send(other, &instance, vec![text(&to, "hello")]).await;
        last = Some(taken.unwrap().first);
    }
    // Most of an interval has passed when the shard moves.
    tokio::time::sleep(Duration::from_millis(3_400)).await;

    site.drain(owner).await;
    site.becomes(last.unwrap(), Status::Sent).await;

    let interval = Duration::from_secs(2);
    for gap in gaps(&site) {
        assert!(
            gap + Duration::from_millis(1) >= interval,
            "{gap:?} is too fast"
        );
        assert!(gap < interval + PAUSE, "{gap:?} is a pause");
    }
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_nobody_answers_keeps_no_shard_for_longer_and_costs_no_pace() {
    let mut site = Site::new(3).await;
    let account = site.account().await;
    let instance = site.instance(account, "shop", per_second(0.1)).await;
    let (owner, other) = (site.owner(&instance), site.other(&instance));
    site.whatsapp.answers("+966501230000", Answer::SilentOnce);
    let mut last = None;
    for n in 0..2 {
        let to = format!("+96650123{n:04}");
        let taken = site.send(other, &instance, vec![text(&to, "hello")]).await;
        last = Some(taken.unwrap().first);
    }
    while site.whatsapp.frames().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    let asked = Instant::now();
    site.drain(owner).await;
    let took = asked.elapsed();
    site.becomes(last.unwrap(), Status::Sent).await;

    // Five seconds for the answer, and then nothing waits for it any more.
    let patience = Duration::from_secs(5);
    assert!(took < patience + PAUSE, "the drain took {took:?}");
    let interval = Duration::from_secs(10);
    for gap in gaps(&site) {
        assert!(gap + Duration::from_millis(1) >= interval, "{gap:?}");
        assert!(gap < interval + PAUSE, "{gap:?} is a pause");
    }
}

#[tokio::test(start_paused = true)]
async fn a_shard_whose_last_attempts_are_durable_leaves_at_once() {
    let trouble = Arc::new(TroubledStore::default());
    let mut site = Site::on(trouble.clone(), 2).await;
    // Attempts are recorded long before their turn, and faster than they used to be.
    site.whatsapp.forgets_ids();
    trouble.claims_take(Duration::from_secs(2));
    let account = site.account().await;
    let instance = site.instance(account, "shop", per_second(0.2)).await;
    let owner = site.owner(&instance);
    let taken = site.send(owner, &instance, vec![text("+966501230000", "hello")]);
    let sent = taken.await.unwrap().first;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let recording = Duration::from_millis(400);
    trouble.claims_take(recording);
    while trouble.claims() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    let asked = Instant::now();
    site.drain(owner).await;
    let took = asked.elapsed();

    assert!(took > recording / 2, "the attempt is waited for");
    assert!(took < recording + PAUSE, "the drain took {took:?}");
    site.becomes(sent, Status::Sent).await;
}

/// Somebody who sends through one node until told to stop; answers how long they waited at most.
async fn keep_sending(
    engine: Engine,
    instance: Arc<Instance>,
    sender: u128,
    stop: Arc<AtomicBool>,
) -> Duration {
    let mut longest = Duration::ZERO;
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let submission = Submission {
            instance: instance.clone(),
            lane: Lane::Normal,
            bytes: 100,
            messages: vec![text(&format!("+9665012{sender:01}{n:04}"), "hello")],
            request: RequestId((sender + 1) << 64 | n),
        };
        let asked = Instant::now();
        let taken = engine.send(submission, false).await;
        taken.unwrap_or_else(|error| panic!("sender {sender} is sent away: {error}"));
        longest = longest.max(asked.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    longest
}

#[tokio::test(start_paused = true)]
async fn nobody_is_sent_away_while_a_node_leaves_and_comes_back() {
    let mut site = Site::new(3).await;
    let account = site.account().await;
    let mut senders = JoinSet::new();
    let stop = Arc::new(AtomicBool::new(false));
    let leaves = 1;
    for number in 0..6 {
        let name = format!("shop-{number}");
        let instance = site.instance(account, &name, per_second(100.0)).await;
        // Two of three go in where they are not sent away from: the third node leaves.
        let engine = site.engine(2 + number % 2).clone();
        senders.spawn(keep_sending(
            engine,
            instance,
            u128::from(number),
            stop.clone(),
        ));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;

    let report = site.drain(leaves).await;
    site.start(leaves).await;
    site.balanced().await;
    stop.store(true, Ordering::Relaxed);

    assert_eq!(report.cut, 0);
    for longest in senders.join_all().await {
        assert!(longest < PAUSE, "an accept took {longest:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_left_and_starts_again_has_its_share_within_seconds() {
    let mut site = Site::new(3).await;
    site.drain(2).await;

    let started = Instant::now();
    site.start(2).await;
    site.balanced().await;

    // Ten seconds of calm, and then a twentieth of all shards a second.
    let took = started.elapsed();
    assert!(took < Duration::from_secs(25), "balanced after {took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_next_owner_that_hears_of_nothing_keeps_no_shard_from_the_others() {
    let mut site = Site::new(3).await;
    let account = site.account().await;
    let instances = site.instances(account, 12, per_second(10.0)).await;
    let (leaves, deaf) = (1, 3);
    let theirs = |instance: &&Arc<Instance>| site.owner(instance) == leaves;
    let theirs: Vec<_> = instances.iter().filter(theirs).cloned().collect();
    assert!(!theirs.is_empty(), "the instances are spread");
    let mut sent = Vec::new();
    for instance in &theirs {
        let many = (0..200).map(|n| text(&format!("+96650123{n:04}"), "hello"));
        let taken = site.send(leaves, instance, many.collect()).await;
        sent.push(taken.unwrap().first.plus(199));
    }

    site.network.cut(NodeId(leaves), NodeId(deaf));
    let report = site.drain(leaves).await;
    for last in sent {
        site.becomes(last, Status::Sent).await;
    }

    assert_eq!(report.cut, 0);
    assert_eq!(site.whatsapp.frames().len(), theirs.len() * 200);
}
