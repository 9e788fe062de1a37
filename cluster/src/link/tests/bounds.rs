//! What is too much is refused, on both sides, and nothing breaks.

use super::super::connection::IN_FLIGHT;
use super::*;

#[tokio::test]
async fn a_request_that_is_too_long_is_not_sent() {
    let (here, _there) = two_nodes().await;

    let refused = here.asks(ask(ECHO, "").long(CONTROL_LIMIT + 1)).await;

    let refused = refused.unwrap_err();
    assert!(matches!(
        refused,
        LinkError::TooLarge {
            part: Part::Request,
            ..
        }
    ));
    assert_eq!(refused.fate(), Fate::NotSent);
    assert!(here.asks(ask(ECHO, "").long(CONTROL_LIMIT)).await.is_ok());
}

#[tokio::test]
async fn a_reply_that_is_too_long_is_an_error_of_that_call_alone() {
    let (here, _there) = two_nodes().await;

    let refused = here.asks(ask(BYTES, "1048577")).await.unwrap_err();
    let by_bulk = here.asks(ask(BYTES, "1048577").by(Lane::Bulk)).await;

    let (part, bytes, limit) = (Part::Reply, CONTROL_LIMIT + 1, CONTROL_LIMIT);
    assert_eq!(refused, LinkError::TooLarge { part, bytes, limit });
    assert_eq!(refused.fate(), Fate::Unknown);
    assert_eq!(by_bulk.unwrap().len(), bytes);
    assert_eq!(here.asks(ask(BYTES, "1048576")).await.unwrap().len(), limit);
}

#[tokio::test]
async fn one_call_more_than_may_wait_is_refused_at_the_caller() {
    let (here, there) = two_nodes().await;
    let here = Arc::new(here);
    here.asks(ask(ECHO, "")).await.unwrap();

    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let here = here.clone();
        waiting.spawn(async move { here.asks(ask(WAIT, "")).await });
    }
    there.desk.began(IN_FLIGHT as u32).await;
    let refused = here.asks(ask(ECHO, "")).await;
    let by_bulk = here.asks(ask(ECHO, "").by(Lane::Bulk)).await;
    there.desk.open();

    assert_eq!(refused, Err(LinkError::Overloaded));
    assert!(by_bulk.is_ok());
    while let Some(answer) = waiting.join_next().await {
        answer.unwrap().unwrap();
    }
    assert!(here.asks(ask(ECHO, "")).await.is_ok());
}

#[tokio::test]
async fn requests_that_fill_the_memory_of_the_peer_are_refused_there() {
    let (here, there) = two_nodes().await;
    let long = || here.asks(ask(WAIT, "").by(Lane::Bulk).long(BULK_LIMIT));

    let third = async {
        there.desk.began(2).await;
        let refused = long().await;
        there.desk.open();
        refused
    };
    let (first, second, third) = tokio::join!(long(), long(), third);

    assert_eq!(third, Err(LinkError::Overloaded));
    assert_eq!(first.unwrap().len(), BULK_LIMIT);
    assert_eq!(second.unwrap().len(), BULK_LIMIT);
}
