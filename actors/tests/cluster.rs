//! Several nodes over one store: any of them takes it, one of them owns it.

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use support::site::Site;
use support::{per_second, text};
use zajil_actors::directory::{NewKey, Permission, Suppression};
use zajil_actors::idempotency::{Begin, Scope};
use zajil_actors::send::AcceptError;
use zajil_model::lease::SEND_FOR;
use zajil_model::lifecycle::Status;
use zajil_storage::{ListFilter, ListRequest, TotalsFilter};

const ANNA: &str = "+966501234567";

#[tokio::test(start_paused = true)]
async fn any_node_takes_a_message_and_its_owner_sends_it() {
    let mut site = Site::new(3).await;
    let account = site.account().await;
    let instance = site.instance(account, "shop", per_second(10.0)).await;
    let (owner, other) = (site.owner(&instance), site.other(&instance));

    let sent = site
        .send(other, &instance, vec![text(ANNA, "hello")])
        .await
        .unwrap();

    site.becomes(sent.first, Status::Sent).await;
    let frames = site.whatsapp.frames();
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0].node, owner);
}

#[tokio::test(start_paused = true)]
async fn every_node_tells_the_same_of_all_instances_of_an_account() {
    let mut site = Site::new(3).await;
    let account = site.account().await;
    let instances = site.instances(account, 12, per_second(100.0)).await;
    let owners: BTreeSet<u64> = instances.iter().map(|it| site.owner(it)).collect();
    assert_eq!(owners.len(), 3, "the instances are spread");
    let mut sent = Vec::new();
    for instance in &instances {
        for _ in 0..3 {
            let taken = site.send(1, instance, vec![text(ANNA, "hello")]).await;
            sent.push(taken.unwrap().first);
        }
    }
    for id in &sent {
        site.becomes(*id, Status::Sent).await;
    }

    let all: Vec<_> = instances.iter().map(|instance| instance.id).collect();
    sent.sort_unstable();
    sent.reverse();
    for node in [1, 2, 3] {
        let store = site.engine(node).store();
        let filter = ListFilter {
            instances: all.clone(),
            ..ListFilter::default()
        };
        let request = ListRequest {
            filter,
            before: None,
            skip: 5,
            limit: 20,
        };
        let page = store.list(request).await.unwrap();
        let listed: Vec<_> = page.messages.iter().map(|found| found.id()).collect();
        let totals = store.totals(TotalsFilter {
            instances: all.clone(),
            ..TotalsFilter::default()
        });
        assert_eq!(listed, sent[5..25], "as node {node} tells");
        assert_eq!(page.next, Some(sent[24]));
        assert_eq!(totals.await.unwrap().of(Status::Sent), 36);
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_node_accepted_is_sent_by_the_next_owner() {
    let mut site = Site::new(3).await;
    let account = site.account().await;
    let instance = site.instance(account, "shop", per_second(1.0)).await;
    let (owner, other) = (site.owner(&instance), site.other(&instance));
    let mut sent = Vec::new();
    for n in 0..10 {
        let to = format!("+96650123{n:04}");
        let taken = site.send(other, &instance, vec![text(&to, "hello")]).await;
        sent.push(taken.unwrap().first);
    }
    tokio::time::sleep(Duration::from_millis(3_500)).await;
    let before = site.whatsapp.frames().len();
    assert!((1..10).contains(&before));

    site.kill(owner);
    for id in &sent {
        site.becomes(*id, Status::Sent).await;
    }

    let frames = site.whatsapp.frames();
    let shown: BTreeSet<_> = frames.iter().map(|frame| frame.wa_id).collect();
    assert_eq!(shown.len(), 10, "none is lost, none has two names");
    assert!(frames.len() <= 12, "only what was in flight goes out again");
    assert_ne!(site.owner(&instance), owner);
}

#[tokio::test(start_paused = true)]
async fn ids_that_a_former_owner_gave_are_used_once_or_never() {
    let mut site = Site::new(3).await;
    let account = site.account().await;
    let instance = site.instance(account, "shop", per_second(1.0)).await;
    let (owner, other) = (site.owner(&instance), site.other(&instance));
    let engine = site.engine(other).clone();
    let mut reserved = Vec::new();
    for _ in 0..2 {
        reserved.push(engine.reserve(&instance, 1, false).await.unwrap());
    }
    let message = site.submission(&instance, vec![text(ANNA, "hello")]);
    let accepted = engine.accept(reserved[0], message.clone()).await;
    assert_eq!(accepted, Ok(reserved[0]));

    site.kill(owner);
    site.balanced().await;

    let again = engine.accept(reserved[0], message.clone()).await;
    assert_eq!(again, Ok(reserved[0]), "it is in the log");
    let late = engine.accept(reserved[1], message).await;
    assert_eq!(late, Err(AcceptError::Sealed));
    site.becomes(reserved[0].first, Status::Sent).await;
    assert_eq!(site.whatsapp.texts(), ["hello"]);
}

#[tokio::test(start_paused = true)]
async fn a_request_with_a_key_whose_owner_died_is_done_anew_by_the_next() {
    let mut site = Site::new(3).await;
    let account = site.account().await;
    let instance = site.instance(account, "shop", per_second(1.0)).await;
    let (owner, other) = (site.owner(&instance), site.other(&instance));
    let engine = site.engine(other).clone();
    let scope = Scope {
        account,
        method: "POST",
        path: "/integration/v1/messages/send",
        key: "order-1",
    };
    let first = engine.idempotency().begin(scope, b"{}").await.unwrap();
    let Begin::Fresh(mut ticket) = first else {
        panic!("not the first: {first:?}")
    };
    let reserved = engine.reserve(&instance, 1, false).await.unwrap();
    ticket.promise(&reserved, 201, b"{}").await.unwrap();
    drop(ticket);
    let twin = engine.idempotency().begin(scope, b"{}").await.unwrap();
    assert!(matches!(twin, Begin::InFlight), "it may still come");

    site.kill(owner);

    let again = engine.idempotency().begin(scope, b"{}").await.unwrap();
    assert!(matches!(again, Begin::Fresh(_)), "{again:?}");
}

#[tokio::test(start_paused = true)]
async fn an_owner_whose_lease_ended_gives_no_ids() {
    let site = Site::new(3).await;
    let account = site.account().await;
    let instance = site.instance(account, "shop", per_second(1.0)).await;
    let owner = site.owner(&instance);

    site.renews_no_more(owner);
    tokio::time::sleep(SEND_FOR).await;

    let reserved = site.engine(owner).reserve(&instance, 1, false).await;
    assert_eq!(reserved, Err(AcceptError::Moved));
}

#[tokio::test(start_paused = true)]
async fn what_a_node_was_not_told_while_it_was_away_holds_when_it_is_back() {
    let site = Site::new(2).await;
    let account = site.account().await;
    let [away, other] = [1, 2].map(|node| site.engine(node).directory().clone());
    let before = away.suppressions(account).await.unwrap();
    let opt_out = Suppression {
        phone: support::phone(ANNA),
        reason: None,
        source: "test".to_owned(),
        created_at: site.clock.now(),
    };
    other.suppress(account, opt_out).await.unwrap();
    assert!(!before.contains(support::phone(ANNA)));

    site.engine(1).shards().shared().joined();

    let now = away.suppressions(account).await.unwrap();
    assert!(now.contains(support::phone(ANNA)));
}

#[tokio::test(start_paused = true)]
async fn news_of_an_opt_in_that_come_after_the_next_opt_out_change_nothing() {
    let site = Site::new(2).await;
    let account = site.account().await;
    let [here, other] = [1, 2].map(|node| site.engine(node).directory().clone());
    let opt_out = Suppression {
        phone: support::phone(ANNA),
        reason: None,
        source: "test".to_owned(),
        created_at: site.clock.now(),
    };
    let known = here.suppressions(account).await.unwrap();
    let news = async || here.heard_of_opt_out(account, opt_out.phone).await.unwrap();
    other.suppress(account, opt_out.clone()).await.unwrap();
    news().await;
    other.unsuppress(account, opt_out.phone).await.unwrap();
    other.suppress(account, opt_out.clone()).await.unwrap();

    // Of the opt-in: it was on its way for longer than the next opt-out took.
    news().await;
    assert!(known.contains(opt_out.phone));

    // That of an opt-in that is the last word is believed.
    other.unsuppress(account, opt_out.phone).await.unwrap();
    news().await;
    assert!(!known.contains(opt_out.phone));
}

#[tokio::test(start_paused = true)]
async fn an_opt_out_holds_on_every_node_once_it_is_answered() {
    let mut site = Site::new(3).await;
    let account = site.account().await;
    let instance = site.instance(account, "shop", per_second(1.0)).await;
    let other = site.other(&instance);
    for n in 0..5 {
        let to = format!("+96650123{n:04}");
        site.send(other, &instance, vec![text(&to, "before")])
            .await
            .unwrap();
    }
    let last = site
        .send(other, &instance, vec![text(ANNA, "late")])
        .await
        .unwrap();

    let engine = site.engine(other);
    let out = engine
        .suppress(account, support::phone(ANNA), None, "test".to_owned())
        .await;
    assert!(out.unwrap().is_confirmed());

    site.becomes(last.first, Status::Suppressed).await;
    assert!(!site.whatsapp.texts().contains(&"late".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_was_answered_holds_for_the_next_owner() {
    let mut site = Site::new(3).await;
    let account = site.account().await;
    let instance = site.instance(account, "shop", per_second(1.0)).await;
    let (owner, other) = (site.owner(&instance), site.other(&instance));
    // Every node has read it as it was before.
    for node in site.nodes.values() {
        let known = node.engine.directory().instance_by_id(instance.id).await;
        assert!(!known.unwrap().unwrap().paused);
    }
    let sent = site
        .send(other, &instance, vec![text(ANNA, "held")])
        .await
        .unwrap();
    site.becomes(sent.first, Status::Sent).await;

    let engine = site.engine(other);
    let directory = engine.directory();
    let paused = directory
        .update_instance(account, instance.id, |instance| instance.paused = true)
        .await
        .unwrap();
    assert!(
        engine
            .apply_instance(paused.clone())
            .await
            .unwrap()
            .is_confirmed()
    );
    let held = site
        .send(other, &paused, vec![text(ANNA, "held")])
        .await
        .unwrap();
    site.kill(owner);
    site.balanced().await;
    tokio::time::sleep(Duration::from_secs(30)).await;

    assert_eq!(site.whatsapp.frames().len(), 1);
    site.becomes(held.first, Status::Pending).await;
}

#[tokio::test(start_paused = true)]
async fn a_key_lets_its_limit_through_whichever_nodes_are_asked() {
    let site = Site::new(3).await;
    let account = site.account().await;
    let new = NewKey {
        user: None,
        name: "shop".to_owned(),
        permissions: BTreeSet::from(Permission::ALL),
        rate_limit: 30,
        expires_at: None,
        allowed_ips: Vec::new(),
        allowed_instances: BTreeSet::new(),
    };
    let made = site.engine(1).directory().create_key(account, new).await;
    let (key, _) = made.unwrap();

    let mut left = Vec::new();
    for turn in 0..40_u64 {
        let quota = site
            .engine(1 + turn % 3)
            .buckets()
            .take(&key)
            .await
            .unwrap();
        left.push((quota.allowed, quota.remaining));
    }

    let expected = (0..40).map(|turn: u64| (turn < 30, 29_u64.saturating_sub(turn)));
    assert_eq!(left, expected.collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn the_change_feed_is_whole_from_any_node_and_across_a_take_over() {
    let mut site = Site::new(3).await;
    let account = site.account().await;
    let instances = site.instances(account, 6, per_second(5.0)).await;
    let mut sent = BTreeSet::new();
    for instance in &instances {
        for n in 0..10 {
            let to = format!("+96650{n:07}");
            let taken = site.send(1, instance, vec![text(&to, "hello")]).await;
            sent.insert(taken.unwrap().first);
        }
    }

    let (mut after, mut acked) = (None, BTreeSet::new());
    for turn in 0..400_usize {
        let nodes: Vec<u64> = site.nodes.keys().copied().collect();
        let engine = site.engine(nodes[turn % nodes.len()]);
        let page = engine.store().changes(account, after, 7).await.unwrap();
        let told = page
            .changes
            .iter()
            .filter(|(_, it)| it.status == Status::Sent);
        acked.extend(told.map(|(_, change)| change.id));
        after = page.next;
        if turn == 8 {
            site.kill(site.owner(&instances[0]));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    assert_eq!(acked, sent);
}
