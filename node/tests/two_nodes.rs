//! Two nodes in one process: nothing of a node is shared but what it is handed.

use zajil_node::{Config, Node};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_run_side_by_side_in_one_process() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [first, second] = &folders;

    let mut one = Node::start(Config::in_folder(first.path())).await.unwrap();
    let mut two = Node::start(Config::in_folder(second.path())).await.unwrap();

    assert_ne!(one.api(), two.api());
    let keys = [&mut one, &mut two].map(|node| node.take_welcome().unwrap().key().to_owned());
    assert_ne!(keys[0], keys[1]);
    one.stop().await.unwrap();
    two.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_first_start_makes_something_to_begin_with() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = Node::start(Config::in_folder(folder.path())).await.unwrap();
    assert!(node.take_welcome().is_some());
    node.stop().await.unwrap();

    let mut again = Node::start(Config::in_folder(folder.path())).await.unwrap();

    assert!(again.take_welcome().is_none());
    again.stop().await.unwrap();
}
