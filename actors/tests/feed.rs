//! The change feed of several nodes.

mod support;

use std::time::Duration;

use support::site::Site;
use support::{per_second, text};
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
