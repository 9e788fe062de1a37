//! The server for tests does what tests of faults rely on.

use zajil_tests_cql::{Cql, CqlServer, Plan};

#[tokio::test]
async fn every_test_has_a_keyspace_of_its_own_on_one_server() {
    let Some(first) = Cql::shared("one server for all").await else {
        return;
    };

    let second = Cql::shared("one server for all").await;
    let (mine, theirs) = (first.keyspace("Mine, really!"), first.keyspace("theirs"));
    make(&first, mine.name()).await;

    assert_eq!(second.unwrap().contact_points(), first.contact_points());
    first.run(1, &insert(mine.name())).await.unwrap();
    first.run(1, &insert(theirs.name())).await.unwrap_err();
}

#[tokio::test]
async fn a_keyspace_goes_with_its_test() {
    let Some(server) = Cql::shared("a keyspace goes").await else {
        return;
    };
    let keyspace = server.keyspace("goes");
    make(&server, keyspace.name()).await;
    let name = keyspace.name().to_owned();

    drop(keyspace);

    server.run(1, &insert(&name)).await.unwrap_err();
}

#[tokio::test]
async fn what_a_node_answered_survives_its_kill() {
    let Some(server) = CqlServer::start("a kill", Plan::one_node()).await else {
        return;
    };
    let cql = server.cql();
    let keyspace = cql.keyspace("a kill");

    make(cql, keyspace.name()).await;
    server.kill(1).await.unwrap();
    server.start_again(1).await.unwrap();

    cql.run(1, &insert(keyspace.name())).await.unwrap();
}

#[tokio::test]
async fn a_killed_node_catches_up_and_a_frozen_one_goes_on() {
    let Some(server) = CqlServer::start("nodes that fail", Plan::three_nodes()).await else {
        return;
    };
    let cql = server.cql();
    let keyspace = cql.keyspace("nodes that fail");
    make(cql, keyspace.name()).await;

    server.kill(3).await.unwrap();
    server.freeze(2).await.unwrap();
    let killed = cql.run(3, &insert(keyspace.name())).await;
    let frozen = cql.run(2, &insert(keyspace.name())).await;
    server.thaw(2).await.unwrap();
    server.start_again(3).await.unwrap();

    assert!(killed.is_err() && frozen.is_err());
    for node in 1..=3 {
        cql.run(node, &insert(keyspace.name())).await.unwrap();
    }
}

async fn make(cql: &Cql, keyspace: &str) {
    let copies = cql.replicas();
    let keyspace_made = format!(
        "CREATE KEYSPACE {keyspace} WITH replication = \
         {{'class': 'SimpleStrategy', 'replication_factor': {copies}}}"
    );
    cql.run(1, &keyspace_made).await.expect("a fresh keyspace");
    let table = format!("CREATE TABLE {keyspace}.doves (name text PRIMARY KEY)");
    cql.run(1, &table).await.expect("a fresh table");
}

fn insert(keyspace: &str) -> String {
    format!("INSERT INTO {keyspace}.doves (name) VALUES ('zajil')")
}
