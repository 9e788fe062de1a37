//! Calls between two nodes that are well.

use super::*;

#[tokio::test]
async fn a_call_carries_its_shard_epoch_and_what_is_left_of_its_time() {
    let (here, _there) = two_nodes().await;

    let said = here
        .asks(ask(DETAILS, "").about(1_000, 7).within(4_900))
        .await;

    assert_eq!(said.unwrap(), "NodeId(1) Some(Shard(1000)) Epoch(7) 5");
}

#[tokio::test]
async fn each_reply_comes_back_as_what_it_was() {
    let (here, _there) = two_nodes().await;

    let method = Method(99);
    assert_eq!(here.asks(ask(ECHO, "salam")).await.unwrap(), "salam");
    let (owner, epoch) = (Some(NodeId(3)), Epoch(8));
    let moved = here.asks(ask(NOT_OWNER, "")).await;
    assert_eq!(moved, Err(LinkError::NotOwner { owner, epoch }));
    let retry_after = Duration::from_millis(70);
    let moving = here.asks(ask(MOVING, "")).await;
    assert_eq!(moving, Err(LinkError::Moving { retry_after }));
    assert_eq!(here.asks(ask(BUSY, "")).await, Err(LinkError::Overloaded));
    let unknown = here.asks(ask(method, "")).await;
    assert_eq!(unknown, Err(LinkError::Unsupported { method }));
    let failed = here.asks(ask(FAIL, "")).await;
    assert_eq!(failed, Err(LinkError::Failed("as asked".to_owned())));
}

#[tokio::test]
async fn a_call_that_panics_fails_and_the_next_one_is_served() {
    let (here, _there) = two_nodes().await;

    let failed = here.asks(ask(PANIC, "")).await;

    assert_eq!(failed, Err(LinkError::Failed("it panicked".to_owned())));
    assert!(here.asks(ask(ECHO, "on")).await.is_ok());
}

#[tokio::test]
async fn a_slow_call_holds_up_no_other() {
    let (here, there) = two_nodes().await;

    let slow = here.asks(ask(WAIT, "slow"));
    let others = async {
        there.desk.began(1).await;
        for _ in 0..100 {
            here.asks(ask(ECHO, "quick")).await.unwrap();
        }
        there.desk.open();
    };
    let (slow, ()) = tokio::join!(slow, others);

    assert_eq!(slow.unwrap(), "slow");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_at_once_each_get_their_own_answer() {
    let (here, _there) = two_nodes().await;
    let here = Arc::new(here);

    let mut calls = tokio::task::JoinSet::new();
    for number in 0..2_000_u32 {
        let here = here.clone();
        calls.spawn(async move {
            let said = format!("{number}");
            let mut call = ask(ECHO, "").by(Lane::ALL[number as usize % 2]);
            call.body = Bytes::from(said.clone());
            assert_eq!(here.asks(call).await.unwrap(), said);
        });
    }

    while let Some(done) = calls.join_next().await {
        done.unwrap();
    }
    let ups = here.link.status().peers;
    assert!(
        ups.iter()
            .all(|it| it.state == PeerState::Up && it.in_flight == 0)
    );
}

#[tokio::test]
async fn a_deadline_ends_the_wait_here_and_the_work_there() {
    let (here, there) = two_nodes().await;

    let expired = here.asks(ask(HANG, "").within(100)).await.unwrap_err();

    let fate = Fate::Unknown;
    assert_eq!(expired, LinkError::Expired { fate });
    there.desk.dropped(1).await;
}

#[tokio::test]
async fn a_caller_that_is_gone_ends_the_work_there() {
    let (here, there) = two_nodes().await;

    tokio::select! {
        _ = here.asks(ask(HANG, "")) => panic!("it hangs"),
        () = there.desk.began(1) => {}
    }

    there.desk.dropped(1).await;
    assert!(here.asks(ask(ECHO, "")).await.is_ok());
}

#[tokio::test]
async fn a_cast_arrives_and_nobody_waits_for_it() {
    let (here, there) = two_nodes().await;

    here.link.cast(THERE, ask(WAIT, "")).await.unwrap();

    there.desk.began(1).await;
    assert_eq!(here.link.status().peers[0].in_flight, 0);
}

#[tokio::test]
async fn a_node_without_an_address_and_the_node_itself_are_asked_nothing() {
    let (here, _there) = two_nodes().await;

    let nowhere = here.link.call(NodeId(9), ask(ECHO, "")).await.unwrap_err();
    let itself = here.link.call(HERE, ask(ECHO, "")).await.unwrap_err();

    assert_eq!(nowhere.fate(), Fate::NotSent);
    assert_eq!(itself.fate(), Fate::NotSent);
    assert_eq!(here.link.status().peers, []);
}

#[tokio::test]
async fn a_connection_without_calls_is_closed_and_made_again() {
    let book = Arc::new(Book::default());
    let mut brief = settings(identity(HERE), &book);
    brief.timing.idle_after = Duration::from_millis(100);
    let here = start(brief, &book).await;
    let _there = start(settings(identity(THERE), &book), &book).await;

    here.asks(ask(ECHO, "")).await.unwrap();
    let closed = async {
        while here.state(Lane::Control) != Some(PeerState::Idle) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, closed).await.unwrap();

    assert!(here.asks(ask(ECHO, "")).await.is_ok());
}
