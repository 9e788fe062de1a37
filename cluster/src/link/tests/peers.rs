//! Peers that die, freeze, stop and come back: what their callers learn.

use super::proxy::{Cable, Proxy};
use super::*;

async fn two_nodes_and_a_cable() -> (Node, Node, Proxy) {
    let (here, there) = two_nodes().await;
    let proxy = Proxy::to(&there).await;
    here.book.write(THERE, proxy.address);
    (here, there, proxy)
}

#[tokio::test]
async fn a_peer_that_was_never_there_was_sent_nothing() {
    let (here, there) = two_nodes().await;
    there.link.stop(Duration::ZERO).await;

    let refused = here.asks(ask(ECHO, "")).await.unwrap_err();

    assert!(matches!(
        refused,
        LinkError::Unreachable {
            fate: Fate::NotSent,
            ..
        }
    ));
    assert_eq!(here.state(Lane::Control), Some(PeerState::Down));
    assert_eq!(here.refusals(), ["connection"]);
}

#[tokio::test]
async fn a_peer_killed_in_the_middle_of_a_call_leaves_its_outcome_unknown() {
    let (here, there, proxy) = two_nodes_and_a_cable().await;

    let kill = async {
        there.desk.began(1).await;
        proxy.becomes(Cable::Cut);
    };
    let (answer, ()) = tokio::join!(here.asks(ask(HANG, "")), kill);

    assert!(matches!(
        answer,
        Err(LinkError::Unreachable {
            fate: Fate::Unknown,
            ..
        })
    ));
    // Whoever served it stops, too.
    there.desk.dropped(1).await;
}

#[tokio::test]
async fn a_peer_that_is_silent_is_dead() {
    let (here, there, proxy) = two_nodes_and_a_cable().await;

    let freeze = async {
        there.desk.began(1).await;
        proxy.becomes(Cable::Stuck);
    };
    let (answer, ()) = tokio::join!(here.asks(ask(HANG, "")), freeze);

    let LinkError::Unreachable { reason, fate, .. } = answer.unwrap_err() else {
        panic!("it was heard of");
    };
    assert_eq!(reason, "nothing was heard from it");
    assert_eq!(fate, Fate::Unknown);
    there.desk.dropped(1).await;
}

#[tokio::test]
async fn what_the_writer_never_took_was_certainly_not_sent() {
    let (here, there, proxy) = two_nodes_and_a_cable().await;
    here.asks(ask(ECHO, "").by(Lane::Bulk)).await.unwrap();
    proxy.becomes(Cable::Stuck);

    // More than the sockets of both ends hold stands before the last call.
    let stuck = || here.asks(ask(HANG, "").by(Lane::Bulk).long(16 << 20).within(700));
    let last = async {
        tokio::task::yield_now().await;
        here.asks(ask(ECHO, "last").by(Lane::Bulk).within(300))
            .await
    };
    let (first, second, last) = tokio::join!(stuck(), stuck(), last);

    assert_eq!(first.unwrap_err().fate(), Fate::Unknown);
    assert_eq!(second.unwrap_err().fate(), Fate::NotSent);
    let fate = Fate::NotSent;
    assert_eq!(last, Err(LinkError::Expired { fate }));
    assert_eq!(there.desk.began.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_lane_that_is_stuck_does_not_hold_up_the_other() {
    let (here, _there, proxy) = two_nodes_and_a_cable().await;
    here.asks(ask(ECHO, "").by(Lane::Bulk)).await.unwrap();
    proxy.becomes(Cable::Stuck);

    let bulk = here.asks(ask(BYTES, "16000000").by(Lane::Bulk).within(500));
    let control = async {
        here.book.write(THERE, _there.address);
        here.asks(ask(ECHO, "steer").within(400)).await
    };
    let (bulk, control) = tokio::join!(bulk, control);

    bulk.unwrap_err();
    assert_eq!(control.unwrap(), "steer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn big_replies_do_not_delay_small_ones() {
    let (here, _there) = two_nodes().await;
    here.asks(ask(ECHO, "")).await.unwrap();

    let bulk = async {
        for _ in 0..4 {
            let reply = here.asks(ask(BYTES, "16000000").by(Lane::Bulk)).await;
            assert_eq!(reply.unwrap().len(), 16_000_000);
        }
    };
    let mut steered = 0;
    let control = async {
        loop {
            here.asks(ask(ECHO, "steer").within(1_000)).await.unwrap();
            steered += 1;
        }
    };
    tokio::select! {
        () = bulk => {}
        () = control => {}
    }

    assert!(steered > 10, "{steered} calls passed beside the big ones");
}

#[tokio::test]
async fn a_peer_that_stops_answers_what_it_was_asked_and_takes_nothing_new() {
    let (here, there) = two_nodes().await;

    let slow = here.asks(ask(WAIT, "kept"));
    let stop = async {
        there.desk.began(1).await;
        let stopping = async {
            there.link.stop(LONG).await;
        };
        let meanwhile = async {
            let refused = loop {
                match here.asks(ask(ECHO, "")).await {
                    // It was asked before it had told that it stops.
                    Ok(_) => tokio::time::sleep(Duration::from_millis(1)).await,
                    Err(refused) => break refused,
                }
            };
            assert_eq!(refused.fate(), Fate::NotSent);
            there.desk.open();
        };
        tokio::join!(stopping, meanwhile)
    };
    let (slow, _) = timeout(LONG, async { tokio::join!(slow, stop) })
        .await
        .unwrap();

    assert_eq!(slow.unwrap(), "kept");
}

#[tokio::test]
async fn a_stop_without_grace_leaves_outcomes_unknown_and_ends() {
    let (here, there) = two_nodes().await;

    let stop = async {
        there.desk.began(1).await;
        timeout(LONG, there.link.stop(Duration::ZERO))
            .await
            .unwrap();
    };
    let (answer, ()) = tokio::join!(here.asks(ask(HANG, "")), stop);

    assert_eq!(answer.unwrap_err().fate(), Fate::Unknown);
    assert_eq!(there.desk.dropped.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_peer_that_comes_back_is_reached_again() {
    let (here, there) = two_nodes().await;
    here.asks(ask(ECHO, "")).await.unwrap();
    there.link.stop(Duration::ZERO).await;
    here.asks(ask(ECHO, "")).await.unwrap_err();

    let mut back = settings(identity(THERE), &here.book);
    back.me.incarnation = Incarnation(2);
    let _there = start(back, &here.book).await;
    let answered = async { while here.asks(ask(ECHO, "")).await.is_err() {} };
    timeout(LONG, answered).await.unwrap();

    let status = here.link.status();
    assert_eq!(status.peers[0].incarnation, Some(2));
    assert_eq!(status.refused, []);
}
