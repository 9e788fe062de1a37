//! The link over real sockets on loopback: what its tests share.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::time::timeout;
use zajil_model::id::{Epoch, Shard};
use zajil_model::lease::{Incarnation, NodeId};

use super::*;

mod bounds;
mod calls;
mod peers;
mod proxy;
mod secured;
mod strangers;

/// The node that asks.
const HERE: NodeId = NodeId(1);
/// The node that is asked.
const THERE: NodeId = NodeId(2);

const ECHO: Method = Method(1);
/// Never answers.
const HANG: Method = Method(2);
/// Answers with so many bytes as the body says.
const BYTES: Method = Method(3);
/// Answers once [`Desk::open`] is called.
const WAIT: Method = Method(4);
const PANIC: Method = Method(5);
const NOT_OWNER: Method = Method(6);
const MOVING: Method = Method(7);
const BUSY: Method = Method(8);
const FAIL: Method = Method(9);
/// Answers with who asked and what was said of the shard and the time that is left.
const DETAILS: Method = Method(10);

/// Longer than anything here takes, shorter than a test run that hangs.
const LONG: Duration = Duration::from_secs(20);

/// A node's answers.
#[derive(Debug, Default)]
struct Desk {
    began: AtomicU32,
    dropped: AtomicU32,
    stirred: Notify,
    opened: tokio::sync::watch::Sender<bool>,
}

/// A call that is served; tells when it is dropped before its end.
struct Served<'a>(&'a Desk);

impl Drop for Served<'_> {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::SeqCst);
        self.0.stirred.notify_waiters();
    }
}

impl Desk {
    fn open(&self) {
        self.opened.send_replace(true);
    }

    /// Waits until so many calls to [`HANG`] and [`WAIT`] began.
    async fn began(&self, count: u32) {
        self.until(|it| it.began.load(Ordering::SeqCst) >= count)
            .await;
    }

    /// Waits until so many of those are over.
    async fn dropped(&self, count: u32) {
        self.until(|it| it.dropped.load(Ordering::SeqCst) >= count)
            .await;
    }

    async fn until(&self, reached: impl Fn(&Self) -> bool) {
        let reached = async {
            loop {
                let stirred = self.stirred.notified();
                if reached(self) {
                    return;
                }
                stirred.await;
            }
        };
        timeout(LONG, reached).await.expect("it came about");
    }
}

#[async_trait]
impl Serve for Desk {
    async fn serve(&self, from: NodeId, call: Incoming) -> Reply {
        match call.method {
            ECHO => Reply::Ok(call.body),
            HANG | WAIT => {
                let served = Served(self);
                self.began.fetch_add(1, Ordering::SeqCst);
                self.stirred.notify_waiters();
                if call.method == HANG {
                    std::future::pending::<()>().await;
                }
                let mut opened = self.opened.subscribe();
                opened.wait_for(|it| *it).await.unwrap();
                drop(served);
                Reply::Ok(call.body)
            }
            BYTES => {
                let bytes: usize = std::str::from_utf8(&call.body).unwrap().parse().unwrap();
                Reply::Ok(Bytes::from(vec![7; bytes]))
            }
            PANIC => panic!("as asked"),
            NOT_OWNER => Reply::NotOwner {
                owner: Some(NodeId(3)),
                epoch: Epoch(8),
            },
            MOVING => Reply::Moving {
                retry_after: Duration::from_millis(70),
            },
            BUSY => Reply::Overloaded,
            FAIL => Reply::Failed("as asked".to_owned()),
            DETAILS => {
                let left = call.deadline.as_secs_f64().ceil();
                let said = format!("{from:?} {:?} {:?} {left}", call.shard, call.epoch);
                Reply::Ok(Bytes::from(said))
            }
            _ => Reply::Unsupported,
        }
    }
}

/// Where the nodes of a test are.
#[derive(Debug, Default)]
struct Book(Mutex<HashMap<NodeId, SocketAddr>>);

impl Book {
    fn write(&self, node: NodeId, address: SocketAddr) {
        self.0.lock().insert(node, address);
    }
}

impl Addresses for Book {
    fn address(&self, node: NodeId) -> Option<SocketAddr> {
        self.0.lock().get(&node).copied()
    }
}

/// A node: its link, its answers, and where it listens.
struct Node {
    link: TcpLink,
    desk: Arc<Desk>,
    address: SocketAddr,
    book: Arc<Book>,
}

fn identity(node: NodeId) -> Identity {
    Identity {
        cluster: "souq".parse().unwrap(),
        node,
        incarnation: Incarnation(1),
        software: "test".to_owned(),
    }
}

/// Short waits, so that tests are.
fn quick() -> Timing {
    Timing {
        ping_every: Duration::from_millis(50),
        dead_after: Duration::from_secs(1),
        backoff_from: Duration::from_millis(5),
        backoff_to: Duration::from_millis(50),
        ..Timing::default()
    }
}

fn settings(me: Identity, book: &Arc<Book>) -> LinkSettings {
    LinkSettings {
        me,
        addresses: book.clone(),
        credentials: None,
        timing: quick(),
        seed: 1,
    }
}

async fn start(settings: LinkSettings, book: &Arc<Book>) -> Node {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    book.write(settings.me.node, address);
    let desk = Arc::new(Desk::default());
    let link = TcpLink::new(settings);
    link.listen(listener, desk.clone()).unwrap();
    Node {
        link,
        desk,
        address,
        book: book.clone(),
    }
}

/// Two nodes that know each other.
async fn two_nodes() -> (Node, Node) {
    let book = Arc::new(Book::default());
    let here = start(settings(identity(HERE), &book), &book).await;
    let there = start(settings(identity(THERE), &book), &book).await;
    (here, there)
}

fn ask(method: Method, body: &'static str) -> Call {
    Call {
        header: Header::default(),
        method,
        body: Bytes::from(body),
        deadline: LONG,
        lane: Lane::Control,
    }
}

impl Call {
    fn within(self, millis: u64) -> Self {
        let deadline = Duration::from_millis(millis);
        Self { deadline, ..self }
    }

    fn by(self, lane: Lane) -> Self {
        Self { lane, ..self }
    }

    fn long(self, bytes: usize) -> Self {
        let body = Bytes::from(vec![b'x'; bytes]);
        Self { body, ..self }
    }

    fn about(self, shard: u16, epoch: u64) -> Self {
        let header = Header {
            shard: Shard::new(shard),
            epoch: Epoch(epoch),
        };
        Self { header, ..self }
    }
}

impl Node {
    async fn asks(&self, call: Call) -> Result<Bytes, LinkError> {
        self.link.call(THERE, call).await
    }

    /// The reasons for which peers were refused.
    fn refusals(&self) -> Vec<&'static str> {
        let refused = self.link.status().refused;
        refused.into_iter().map(|it| it.reason).collect()
    }

    /// Waits until somebody was refused for a reason.
    async fn refused(&self, reason: &str) {
        let refused = async {
            while !self.refusals().contains(&reason) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let refused = timeout(LONG, refused).await;
        assert!(refused.is_ok(), "{reason}: {:?}", self.link.status());
    }

    fn state(&self, lane: Lane) -> Option<PeerState> {
        let peers = self.link.status().peers;
        peers.iter().find(|it| it.lane == lane).map(|it| it.state)
    }
}
