//! Who must not get through, and what must not do harm.

use metrics_util::debugging::DebuggingRecorder;
use rand::rngs::SmallRng;
use rand::{Rng, RngCore, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::super::frame::Frame;
use super::super::hello::{Answer, Hello, Opening, hear, say};
use super::*;

/// Connects by hand, as some node says to be.
async fn connect(to: &Node, hello: Hello) -> (TcpStream, Answer) {
    let mut stream = TcpStream::connect(to.address).await.unwrap();
    let opening = Opening {
        hello,
        to: THERE.0,
        lane: Lane::Control,
    };
    say(&mut stream, &opening).await.unwrap();
    let answer = hear(&mut stream).await.unwrap();
    (stream, answer)
}

/// Waits until the other end closes.
async fn closed(mut stream: TcpStream) {
    let mut rest = Vec::new();
    // A reset is an end as well.
    timeout(LONG, stream.read_to_end(&mut rest))
        .await
        .unwrap()
        .ok();
}

async fn two_that_differ(change: impl FnOnce(&mut Identity)) -> (Node, Node) {
    let book = Arc::new(Book::default());
    let mut me = identity(HERE);
    change(&mut me);
    let here = start(settings(me, &book), &book).await;
    let there = start(settings(identity(THERE), &book), &book).await;
    (here, there)
}

#[tokio::test]
async fn a_node_of_another_cluster_is_told_apart_on_both_sides() {
    let (here, there) = two_that_differ(|it| it.cluster = "bazaar".parse().unwrap()).await;

    let refused = here.asks(ask(ECHO, "")).await.unwrap_err();

    let (theirs, ours) = ("souq".to_owned(), "bazaar".to_owned());
    let refusal = Refusal::OtherCluster { theirs, ours };
    let node = THERE;
    assert_eq!(refused, LinkError::Refused { node, refusal });
    assert_eq!(refused.fate(), Fate::NotSent);
    there.refused("cluster").await;
    let seen = &there.link.status().refused[0];
    assert_eq!(seen.who, "127.0.0.1, as node 1");
    assert_eq!(
        seen.detail,
        "it belongs to cluster bazaar, this node to souq"
    );
}

#[tokio::test]
async fn a_second_node_with_this_nodes_id_is_refused_on_both_sides() {
    let (_, there) = two_nodes().await;
    let book = there.book.clone();
    let copy = TcpLink::new(settings(identity(THERE), &book));
    // The copy looks for node 3 at an address that has passed on to node 2.
    book.write(NodeId(3), there.address);

    let refused = copy.call(NodeId(3), ask(ECHO, "")).await.unwrap_err();

    let node = THERE;
    let refusal = Refusal::SameNode { node };
    let node = NodeId(3);
    assert_eq!(refused, LinkError::Refused { node, refusal });
    assert!(refused.to_string().contains("was a data folder copied?"));
    there.refused("same_node").await;
}

#[tokio::test]
async fn an_address_that_passed_on_to_another_node_is_no_way_to_the_first() {
    let (here, there) = two_nodes().await;
    here.book.write(NodeId(3), there.address);

    let refused = here.link.call(NodeId(3), ask(ECHO, "")).await.unwrap_err();

    assert_eq!(refused.fate(), Fate::NotSent);
    assert_eq!(here.refusals(), ["other_node"]);
    there.refused("other_node").await;
}

#[tokio::test]
async fn a_node_that_speaks_only_newer_protocols_is_told_so() {
    let (_, there) = two_nodes().await;
    let newer = Hello {
        oldest: 7,
        newest: 9,
        ..Hello::of(&identity(NodeId(5)))
    };

    let (stream, answer) = connect(&there, newer).await;

    assert_eq!(answer.refused.as_deref(), Some("version"));
    closed(stream).await;
    there.refused("version").await;
    let seen = &there.link.status().refused[0];
    assert_eq!(seen.detail, "it speaks protocols 7 to 9, this node 1 to 1");
    assert!(seen.lasts);
}

#[tokio::test]
async fn an_older_node_tells_a_newer_one_that_they_cannot_talk() {
    let (here, _) = two_nodes().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    here.book.write(THERE, listener.local_addr().unwrap());
    let newer = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _: Opening = hear(&mut stream).await.unwrap();
        let hello = Hello {
            oldest: 3,
            newest: 3,
            ..Hello::of(&identity(THERE))
        };
        let refused = Some("version".to_owned());
        say(&mut stream, &Answer { hello, refused }).await.unwrap();
    };

    let (refused, ()) = tokio::join!(here.asks(ask(ECHO, "")), newer);

    let (oldest, newest) = (3, 3);
    let refusal = Refusal::Version { oldest, newest };
    let node = THERE;
    assert_eq!(refused, Err(LinkError::Refused { node, refusal }));
}

#[tokio::test]
async fn a_frame_of_an_unknown_kind_is_answered_as_unsupported() {
    let (_, there) = two_nodes().await;
    let (mut stream, _) = connect(&there, Hello::of(&identity(NodeId(5)))).await;

    let mut bytes = Vec::new();
    Frame::Unknown { id: 6 }.encode(&mut bytes);
    stream.write_all(&bytes).await.unwrap();

    let mut buffer = bytes::BytesMut::new();
    let reply = loop {
        stream.read_buf(&mut buffer).await.unwrap();
        let frame = Frame::take(&mut buffer, Lane::Control).unwrap();
        if let Some(Frame::Reply { id, answer }) = frame {
            break (id, answer);
        }
    };
    let unsupported = super::super::frame::Answer::Reply(Reply::Unsupported);
    assert_eq!(reply, (6, unsupported));
}

#[tokio::test]
async fn a_frame_that_is_too_long_ends_its_connection_and_is_counted() {
    let recorder = DebuggingRecorder::new();
    let seen = recorder.snapshotter();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let (here, there) = two_nodes().await;
    let (mut stream, _) = connect(&there, Hello::of(&identity(NodeId(5)))).await;

    stream
        .write_all(&(64_u32 << 20).to_be_bytes())
        .await
        .unwrap();
    closed(stream).await;

    let counted = async {
        while !format!("{:?}", seen.snapshot()).contains("malformed") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, counted).await.unwrap();
    assert!(here.asks(ask(ECHO, "")).await.is_ok());
}

#[tokio::test]
async fn a_reply_that_is_too_long_for_the_wire_ends_the_connection_of_its_caller() {
    let (here, _) = two_nodes().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    here.book.write(THERE, listener.local_addr().unwrap());
    let rogue = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _: Opening = hear(&mut stream).await.unwrap();
        let hello = Hello::of(&identity(THERE));
        let refused = None;
        say(&mut stream, &Answer { hello, refused }).await.unwrap();
        // The first frame is a ping; the request follows it.
        stream.read_exact(&mut [0; 60]).await.unwrap();
        stream.write_all(&[0xff; 64]).await.unwrap();
        closed(stream).await;
    };

    let (answer, ()) = tokio::join!(here.asks(ask(HANG, "").long(100)), rogue);

    let LinkError::Unreachable { reason, fate, .. } = answer.unwrap_err() else {
        panic!("it was answered");
    };
    assert!(reason.starts_with("it broke the protocol"), "{reason}");
    assert_eq!(fate, Fate::Unknown);
}

#[tokio::test]
async fn whoever_does_not_say_hello_is_left() {
    let book = Arc::new(Book::default());
    let mut brief = settings(identity(THERE), &book);
    brief.timing.hello_within = Duration::from_millis(50);
    let there = start(brief, &book).await;

    let silent = TcpStream::connect(there.address).await.unwrap();
    let mut browser = TcpStream::connect(there.address).await.unwrap();
    browser
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();

    closed(browser).await;
    closed(silent).await;
    there.refused("not_a_node").await;
    there.refused("late").await;
}

/// Bytes of every kind before and after a hello: connections end, and the node goes on.
#[tokio::test]
async fn garbage_ends_connections_and_never_the_node() {
    let seed = crate::testing::seed();
    let mut random = SmallRng::seed_from_u64(seed);
    let (here, there) = two_nodes().await;

    for round in 0..200_u64 {
        let mut garbage = vec![0; random.random_range(1..4_096)];
        random.fill_bytes(&mut garbage);
        let mut stream = if random.random_bool(0.8) {
            // A length that fits leads further in.
            garbage.iter_mut().take(3).for_each(|it| *it = 0);
            connect(&there, Hello::of(&identity(NodeId(100 + round))))
                .await
                .0
        } else {
            TcpStream::connect(there.address).await.unwrap()
        };
        // The node may have closed before all was written.
        stream.write_all(&garbage).await.ok();
        stream.shutdown().await.ok();
        closed(stream).await;
    }

    assert!(here.asks(ask(ECHO, "")).await.is_ok());
    assert!(there.link.status().refused.len() <= 256);
}
