//! The metrics of a live node: complete from the start, well formed, and few whatever the number
//! of instances.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use http::Method;
use serde_json::json;
use tokio::task::JoinSet;
use zajil_tests::cluster::{Engine, Setup};
use zajil_tests::customer::{Customer, Letter};
use zajil_tests::form::short_or_long;
use zajil_tests::load::number;
use zajil_tests::nodes::Plan;
use zajil_tests::operator::{Account, Operator, Pace};
use zajil_tests::wait::seconds;

/// Samples that `/metrics` may show, whatever runs.
const MOST_SAMPLES: usize = 2_000;

/// Requests that are made at once while instances are made.
const AT_ONCE: usize = 16;

/// What operators build upon: each of them is there before anything happened.
const FAMILIES: [&str; 53] = [
    "process_cpu_seconds_total counter",
    "process_open_fds gauge",
    "process_resident_memory_bytes gauge",
    "zajil_acks_total counter",
    "zajil_actor_restarts_total counter",
    "zajil_actors_quarantined_total counter",
    "zajil_ambiguous_total counter",
    "zajil_claim_write_duration_seconds histogram",
    "zajil_claim_writes_total counter",
    "zajil_claims_found_total counter",
    "zajil_claims_full_total counter",
    "zajil_claims_open gauge",
    "zajil_claims_taken_total counter",
    "zajil_build_info gauge",
    "zajil_excess_wait_seconds histogram",
    "zajil_http_connections gauge",
    "zajil_http_in_flight gauge",
    "zajil_http_rejected_total counter",
    "zajil_http_request_duration_seconds histogram",
    "zajil_http_requests_total counter",
    "zajil_http_upload_rows_total counter",
    "zajil_instance_transitions_total counter",
    "zajil_instances gauge",
    "zajil_instances_damaged gauge",
    "zajil_instances_running gauge",
    "zajil_messages_accepted_total counter",
    "zajil_messages_finished_total counter",
    "zajil_pacing_tokens_granted_total counter",
    "zajil_queue_messages gauge",
    "zajil_queue_oldest_age_seconds gauge",
    "zajil_retries_total counter",
    "zajil_shards_owned gauge",
    "zajil_stage_duration_seconds histogram",
    "zajil_start_time_seconds gauge",
    "zajil_store_append_duration_seconds histogram",
    "zajil_store_errors_total counter",
    "zajil_store_flush_duration_seconds histogram",
    "zajil_store_group_bytes histogram",
    "zajil_store_groups_total counter",
    "zajil_store_log_bytes gauge",
    "zajil_store_projection_lag_bytes gauge",
    "zajil_store_sync_duration_seconds histogram",
    "zajil_transport_events_total counter",
    "zajil_transport_frames_total counter",
    "zajil_unknown_ids_total counter",
    "zajil_wake_ups_waiting gauge",
    "zajil_window_bytes gauge",
    // More of the process.
    "process_max_fds gauge",
    "process_start_time_seconds gauge",
    "process_threads gauge",
    "process_virtual_memory_bytes gauge",
    "process_virtual_memory_max_bytes gauge",
    "zajil_store_free_bytes gauge",
];

/// The same, of nodes that share a database.
const FAMILIES_OF_SEVERAL: [&str; 33] = [
    "zajil_cluster_view_hash",
    "zajil_cql_open_shards",
    "zajil_cql_repeated_total",
    "zajil_cql_replayed_appends_total",
    "zajil_cql_request_duration_seconds",
    "zajil_cql_requests_in_flight",
    "zajil_cql_requests_total",
    "zajil_cql_unknown_outcomes_total",
    "zajil_gossip_detection_timeout_seconds",
    "zajil_gossip_members",
    "zajil_gossip_packets_dropped_total",
    "zajil_gossip_packets_total",
    "zajil_gossip_state_changes_total",
    "zajil_handover_duration_seconds",
    "zajil_lease_challenges_held_back",
    "zajil_lease_challenges_total",
    "zajil_lease_joins_total",
    "zajil_lease_lost_total",
    "zajil_lease_renew_duration_seconds",
    "zajil_lease_renewals_total",
    "zajil_link_bytes_total",
    "zajil_link_call_duration_seconds",
    "zajil_link_calls_in_flight",
    "zajil_link_calls_total",
    "zajil_link_connections_total",
    "zajil_link_served_total",
    "zajil_ownership_scan_duration_seconds",
    "zajil_shard_releases_total",
    "zajil_shard_takes_total",
    "zajil_shards_expected",
    "zajil_shards_in_motion",
    "zajil_shards_lost_total",
    "zajil_shards_unowned",
];

/// A scrape, taken apart.
struct Page {
    types: BTreeMap<String, String>,
    helped: BTreeSet<String>,
    samples: Vec<(String, f64)>,
}

impl Page {
    async fn of(engine: &Engine) -> Self {
        let text = engine.ask("/metrics").await.expect_status(200).text();
        let of_kind = |kind: &str| -> Vec<(String, String)> {
            let rests = text.lines().filter_map(|line| line.strip_prefix(kind));
            let parts = rests.filter_map(|rest| rest.split_once(' '));
            parts
                .map(|(name, rest)| (name.to_owned(), rest.to_owned()))
                .collect()
        };
        let samples = text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty());
        let sample = |line: &str| {
            let (series, value) = line.rsplit_once(' ').expect("a sample has a value");
            (
                series.to_owned(),
                value.parse().expect("the value is a number"),
            )
        };
        Self {
            types: of_kind("# TYPE ").into_iter().collect(),
            helped: of_kind("# HELP ")
                .into_iter()
                .map(|(name, _)| name)
                .collect(),
            samples: samples.map(sample).collect(),
        }
    }

    fn value(&self, series: &str) -> f64 {
        let found = self.samples.iter().find(|(name, _)| name == series);
        found.unwrap_or_else(|| panic!("no {series}")).1
    }

    fn assert_well_formed(&self) {
        for (name, kind) in &self.types {
            assert_ne!(kind, "summary", "{name} cannot be added up over nodes");
            assert!(self.helped.contains(name), "{name} has no help");
            let known = ["zajil_", "process_", "tokio_"];
            assert!(
                known.iter().any(|prefix| name.starts_with(prefix)),
                "{name}"
            );
        }
        let count = self.samples.len();
        println!("{} families, {count} samples", self.types.len());
        assert!(count <= MOST_SAMPLES, "{count} samples");
    }
}

async fn engine() -> Result<(tempfile::TempDir, Engine)> {
    let folder = tempfile::tempdir()?;
    let setup = Setup::new().with("node.first_run", "never");
    let engine = Engine::start(&folder.path().join("data"), setup).await?;
    Ok((folder, engine))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_family_is_there_from_the_start() -> Result<()> {
    let (_folder, engine) = engine().await?;

    let page = Page::of(&engine).await;

    page.assert_well_formed();
    for family in FAMILIES {
        let (name, kind) = family.split_once(' ').expect("a name and a type");
        assert_eq!(
            page.types.get(name).map(String::as_str),
            Some(kind),
            "{name}"
        );
    }
    assert_eq!(page.value("zajil_shards_owned"), 1_024.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_family_of_a_node_of_several_is_there_from_the_start() -> Result<()> {
    let Some(nodes) = Plan::new().nodes(1).start("cluster metrics").await? else {
        return Ok(());
    };

    let page = Page::of(nodes.node(1)).await;

    page.assert_well_formed();
    let missing = FAMILIES_OF_SEVERAL
        .iter()
        .filter(|name| !page.types.contains_key(**name));
    assert_eq!(missing.collect::<Vec<_>>(), Vec::<&&str>::new());
    Ok(())
}

/// Makes instances, each with a message that it was asked to send.
async fn populate(operator: &Operator, account: &Account, customer: &Customer, count: usize) {
    let mut makers = JoinSet::new();
    for maker in 0..AT_ONCE {
        let (operator, account, customer) = (operator.clone(), account.clone(), customer.clone());
        makers.spawn(async move {
            for place in (maker..count).step_by(AT_ONCE) {
                let name = format!("number-{place}");
                let pace = Pace {
                    rate: 10.0,
                    burst: 2,
                };
                let id = operator
                    .make_instance(account.id, &name, pace, json!({}))
                    .await;
                let letter = Letter::to(&number(u32::try_from(place).expect("few")), &*name);
                customer
                    .send(id, &letter)
                    .await
                    .expect("it answers")
                    .expect_status(201);
            }
        });
    }
    while let Some(made) = makers.join_next().await {
        made.expect("instances are made");
    }
}

async fn figures(engine: &Engine, query: &str) -> Vec<String> {
    let path = format!("/metrics/instances?{query}");
    let text = engine.ask(&path).await.expect_status(200).text();
    let rates = text
        .lines()
        .filter(|line| line.starts_with("zajil_instance_rate{"));
    rates.map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_instances_make_no_more_series() -> Result<()> {
    let count = short_or_long(1_000, 10_000);
    let (_folder, engine) = engine().await?;
    let operator = engine.operator();
    let account = operator.make_account("metrics").await;
    let customer = operator.customer(&account.key);

    populate(&operator, &account, &customer, count).await;
    customer.await_settled(seconds(120)).await;

    let page = Page::of(&engine).await;
    page.assert_well_formed();
    let whole = count as f64;
    assert_eq!(
        page.value("zajil_messages_accepted_total{kind=\"text\"}"),
        whole
    );
    assert_eq!(page.value("zajil_acks_total{level=\"sent\"}"), whole);
    assert_eq!(page.value("zajil_excess_wait_seconds_count"), whole);
    for stage in ["queue_wait", "server_ack"] {
        let series = format!("zajil_stage_duration_seconds_count{{stage=\"{stage}\"}}");
        assert_eq!(page.value(&series), whole, "{stage}");
    }
    assert_eq!(page.value("zajil_instances{state=\"open\"}"), whole);
    assert_eq!(page.value("zajil_queue_messages{state=\"pending\"}"), 0.0);
    assert_eq!(page.value("zajil_queue_oldest_age_seconds"), 0.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_that_exist_are_counted_whether_they_run_or_not() -> Result<()> {
    let (_folder, mut engine) = engine().await?;
    let operator = engine.operator();
    let account = operator.make_account("metrics").await;
    let customer = operator.customer(&account.key);
    populate(&operator, &account, &customer, 5).await;
    customer.await_settled(seconds(60)).await;
    let gone = "/instances/number-0";
    let deleted = operator
        .dashboard(account.id, Method::DELETE, gone, None)
        .await;
    deleted.expect_status(200);

    // After a start only what has work runs.
    engine.kill().await;
    engine.start_again().await?;

    let counted = async || {
        let page = Page::of(&engine).await;
        ["open", "asleep"].map(|state| page.value(&format!("zajil_instances{{state=\"{state}\"}}")))
    };
    zajil_tests::eventually(seconds(20), [0.0, 4.0], counted).await;
    let woken = operator.customer(&account.key);
    let letter = Letter::to(&number(1), "wakes it");
    let named = woken.get("/instances/number-1").await.data();
    let id = named["id"].as_u64().expect("an instance has an id");
    woken.send(id, &letter).await?.expect_status(201);
    zajil_tests::eventually(seconds(20), [1.0, 3.0], counted).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_counted_and_its_age_told() -> Result<()> {
    let (_folder, engine) = engine().await?;
    let operator = engine.operator();
    let account = operator.make_account("metrics").await;
    let customer = operator.customer(&account.key);
    let slow = Pace {
        rate: 0.01,
        burst: 1,
    };
    let id = operator
        .make_instance(account.id, "slow", slow, json!({}))
        .await;
    let letters: Vec<_> = (0..5)
        .map(|n| Letter::to(&number(n), format!("letter-{n}")))
        .collect();

    // A number that is new has saved up nothing: the first of them goes after an interval, too.
    customer.send_bulk(id, &letters).await?.expect_status(200);

    let page = Page::of(&engine).await;
    let states = ["pending", "processing"];
    let waiting =
        states.map(|state| page.value(&format!("zajil_queue_messages{{state=\"{state}\"}}")));
    assert_eq!(waiting.iter().sum::<f64>(), 5.0);
    let age = page.value("zajil_queue_oldest_age_seconds");
    assert!(age > 0.0 && age < 60.0, "{age}");
    let text = engine.ask("/metrics/instances").await.text();
    let depth = text
        .lines()
        .find(|line| line.starts_with("zajil_instance_depth{"));
    assert!(depth.is_some_and(|line| line.ends_with(" 5")), "{depth:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_of_single_instances_are_filtered_and_bounded() -> Result<()> {
    let (_folder, engine) = engine().await?;
    let operator = engine.operator();
    let account = operator.make_account("metrics").await;
    let customer = operator.customer(&account.key);
    populate(&operator, &account, &customer, 12).await;
    customer.await_settled(seconds(60)).await;
    let slow = Pace {
        rate: 1.0,
        burst: 1,
    };
    let own = operator
        .make_instance(account.id, "quoted \"name\"", slow, json!({}))
        .await;
    let sent = customer
        .send(own, &Letter::to("+966500000099", "own"))
        .await?;
    sent.expect_status(201);
    customer.await_settled(seconds(60)).await;

    assert_eq!(figures(&engine, "").await.len(), 13);
    assert_eq!(figures(&engine, "limit=5").await.len(), 5);
    assert_eq!(figures(&engine, "state=open&limit=13").await.len(), 13);
    assert_eq!(figures(&engine, "state=close").await, Vec::<String>::new());
    let only = figures(&engine, &format!("instance={own}")).await;
    assert_eq!(only.len(), 1);
    assert!(
        only[0].contains("instance=\"quoted \\\"name\\\"\""),
        "{only:?}"
    );
    let refused = engine.ask("/metrics/instances?limit=1001").await;
    assert_eq!(refused.status, 422);
    Ok(())
}
