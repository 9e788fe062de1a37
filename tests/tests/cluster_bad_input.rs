//! What is wrong with a node of a cluster is said plainly, and such a node sends nothing.

use std::fs;
use std::path::Path;
use std::process::ExitStatus;

use anyhow::Result;
use zajil_tests::Engine;
use zajil_tests::cluster::Setup;
use zajil_tests::cql::Cql;
use zajil_tests::form::{dice, folder};
use zajil_tests::load::Load;
use zajil_tests::nodes::{Place, Plan};
use zajil_tests::program;
use zajil_tests::wait::seconds;

/// How a node ends that cannot start, and what it says of it.
async fn refused(folder: &Path, setup: Setup) -> String {
    match Engine::start(folder, setup).await {
        Ok(engine) => panic!("it started: {}", engine.log()),
        Err(why) => why.to_string(),
    }
}

fn names(said: &str, wanted: &[&str]) {
    for word in wanted {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
}

async fn make_keys(home: &Path, name: &str, cluster: &str) -> Result<String> {
    let keys = home.join(name).to_string_lossy().into_owned();
    let arguments = [
        "cluster", "init", "--dir", &keys, "--nodes", "3", "--name", cluster,
    ];
    program::run(&arguments, home).await?;
    Ok(keys)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_cannot_start_with_is_named() -> Result<()> {
    let Some(cql) = Cql::shared("cluster bad input").await else {
        return Ok(());
    };
    let home = folder()?;
    let data = |name: &str| home.path().join(name);
    let place = Place::on(cql, "cluster bad input");

    let nowhere = place.setup(1).with("storage.contact_points", "127.0.0.1:1");
    names(
        &refused(&data("a"), nowhere).await,
        &["database cannot be reached", "127.0.0.1:1"],
    );
    let open = place.setup(1).with("cluster.gossip", "0.0.0.0:0");
    names(
        &refused(&data("b"), open).await,
        &["0.0.0.0", "zajil cluster init"],
    );
    let open = place.setup(1).with("cluster.link", "0.0.0.0:0");
    names(
        &refused(&data("c"), open).await,
        &["0.0.0.0", "zajil cluster init"],
    );
    let unnamed = place.setup(1).with("cluster.node", "");
    names(&refused(&data("d"), unnamed).await, &["cluster.node"]);
    let keys = make_keys(home.path(), "keys", "zajil").await?;
    let foreign = place
        .setup(2)
        .with("cluster.keys", format!("{keys}/node-1"));
    names(
        &refused(&data("e"), foreign).await,
        &["certificate of node 2"],
    );
    let other = place
        .setup(1)
        .with("cluster.id", "other")
        .with("cluster.keys", format!("{keys}/node-1"));
    names(&refused(&data("f"), other).await, &["cluster other"]);

    // A seed that cannot be reached keeps nobody from starting.
    let alone = place.setup(1).with("cluster.seeds", "127.0.0.1:1");
    let first = Engine::start(&data("g"), alone).await?;
    let few = place.setup(2).with("storage.replication", "3");
    names(
        &refused(&data("h"), few).await,
        &["keeps 1 copies", "3 are asked for"],
    );
    let same_folder = refused(&data("g"), place.setup(2)).await;
    names(&same_folder, &["already used by another process"]);
    drop(first);
    Ok(())
}

/// Copies the files of a data folder.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()))?;
        } else {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or(-1)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copied_data_folder_and_foreign_nodes_get_nothing() -> Result<()> {
    let mut dice = dice("cluster_bad_input");
    let Some(mut nodes) = Plan::new().nodes(2).start("cluster twins").await? else {
        return Ok(());
    };
    let load = Load::on(&nodes.instances).start(&nodes.customer, &mut dice);
    load.await_answers(20, seconds(60)).await;

    // On another machine it would have other addresses.
    let twin_folder = nodes.folder.path().join("twin");
    copy(nodes.node(1).folder(), &twin_folder)?;
    let place = nodes.place();
    let elsewhere = place
        .setup(1)
        .with("cluster.gossip", "127.0.0.1:0")
        .with("cluster.link", "127.0.0.1:0");
    let twin = refused(&twin_folder, elsewhere).await;
    names(&twin, &["node 1", "copied data folder"]);
    let other = place.setup(3).with("cluster.id", "other");
    let other = refused(&nodes.folder.path().join("other"), other).await;
    names(
        &other,
        &["is of cluster zajil", "this node is of cluster other"],
    );

    // One with keys where the others have none would own shards that nobody can ask for.
    let keys = make_keys(nodes.folder.path(), "keys", "zajil").await?;
    let own = format!("{keys}/node-3");
    let stranger = nodes.place().setup(3).with("cluster.keys", own);
    let stranger = refused(&nodes.folder.path().join("stranger"), stranger).await;
    names(
        &stranger,
        &["have no keys", "this node has keys of authority"],
    );

    load.await_answers(20, seconds(60)).await;
    load.stop().await;
    nodes.await_balanced(seconds(60)).await;
    let report = nodes.verdict().await;
    println!("{report:?}");
    report.assert_clean();
    let ended = nodes.stop(1).await?;
    assert_eq!(code(ended), 0, "{}", nodes.node(1).log());
    Ok(())
}
