//! What a store says of the cluster whose nodes share it.

use std::net::SocketAddr;

use zajil_actors::owners::StoreRows;
use zajil_cluster::{Member, Rows};
use zajil_model::lease::{NodeId, NodeRow};

use crate::support::Node;

fn rows() -> StoreRows {
    let node = Node::new();
    StoreRows::new(node.store, node.clock)
}

#[tokio::test]
async fn a_store_is_of_the_cluster_whose_node_came_first() {
    let rows = rows();

    let named = rows.cluster("first").await.unwrap();

    assert_eq!(named, "first");
    assert_eq!(rows.cluster("second").await.unwrap(), "first");
    assert_eq!(rows.cluster("first").await.unwrap(), "first");
    assert_eq!(rows.members().await.unwrap(), []);
}

#[tokio::test]
async fn nodes_get_other_keys_only_while_none_of_the_others_has_a_lease() {
    let rows = rows();
    let (me, other) = (NodeId(1), NodeId(2));
    let member = Member {
        node: other,
        link: SocketAddr::from(([127, 0, 0, 1], 7_947)),
        api: None,
    };
    rows.add_member(member).await.unwrap();
    let alive = NodeRow::joined(None);
    let dead = alive.declared_dead(&alive).unwrap();
    assert_eq!(rows.authority(me, "first").await.unwrap(), "first");

    rows.cas_lease(other, None, alive).await;
    let while_it_lives = rows.authority(me, "second").await.unwrap();
    rows.cas_lease(other, Some(alive), dead).await;
    let when_it_left = rows.authority(me, "second").await.unwrap();

    assert_eq!(
        (while_it_lives.as_str(), when_it_left.as_str()),
        ("first", "second")
    );
}
