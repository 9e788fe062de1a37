//! The change feed of several nodes.

mod support;

use std::time::Duration;

use support::campaign::asked;
use support::site::Site;
use support::{per_second, text};
use zajil_actors::owners::questions::ReadChanges;
use zajil_model::id::Shard;
use zajil_model::lease::SEND_FOR;

#[tokio::test(start_paused = true)]
async fn a_node_whose_lease_is_over_tells_no_changes() {
    let mut site = Site::new(2).await;
    let account = site.account().await;
    let instance = site.instance(account, "shop", per_second(5.0)).await;
    let owner = site.owner(&instance);
    let hello = text("+966500000001", "hello");
    site.send(owner, &instance, vec![hello]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let told = async || {
        let page = site.engine(owner).store().changes(account, None, 10).await;
        page.unwrap().changes.len()
    };
    assert!(told().await > 0);

    site.renews_no_more(owner);
    tokio::time::sleep(SEND_FOR).await;

    // It cannot know whether what it read counts.
    assert!(site.engine(owner).ownership().owns(instance.id.shard()));
    assert_eq!(told().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_node_tells_no_changes_of_shards_that_another_owns() {
    let mut site = Site::new(2).await;
    let account = site.account().await;
    let instance = site.instance(account, "shop", per_second(5.0)).await;
    let hello = text("+966500000001", "hello");
    let owner = site.owner(&instance);
    site.send(owner, &instance, vec![hello]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;

    let told = async |node| {
        let question = ReadChanges {
            account,
            after: None,
            limit: 10,
        };
        let owns = |shard: &Shard| site.engine(node).ownership().owns(*shard);
        let shard = Shard::all().find(owns).unwrap();
        let answer = asked(site.engine(node), shard, question).await;
        answer.unwrap().0.changes.len()
    };

    // In its store are those that it read while it was the owner.
    assert_eq!(told(site.other(&instance)).await, 0);
    assert!(told(owner).await > 0);
}
