//! Closed load: all connections on one thread.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet};

use super::requests::answer;
use super::{Counts, Outcome, Plan, Requests, Until};
use crate::measure;

/// Bytes of an answer that are read at once: the answer to a whole bulk is about 12 KiB.
const READ: usize = 32 << 10;

/// The rest after a connection broke, before it is opened again.
const REOPEN: Duration = Duration::from_millis(100);

/// What the connections share.
struct Shared {
    plan: Plan,
    requests: Requests,
    began: Instant,
    next: Cell<u64>,
    accepted: Cell<u64>,
    counts: RefCell<Counts>,
}

impl Shared {
    fn is_over(&self, now: Instant) -> bool {
        match self.plan.until {
            Until::Seconds(seconds) => now >= self.began + Duration::from_secs_f64(seconds),
            Until::Accepted(wanted) => self.accepted.get() >= wanted,
        }
    }

    /// The next request; none while those under way may be the last ones that are wanted.
    fn take(&self) -> u64 {
        let n = self.next.get();
        self.next.set(n + 1);
        n
    }

    fn note(&self, outcome: Outcome, sent: Instant, at: Instant) {
        if matches!(outcome, Outcome::Answered(200 | 201)) {
            self.accepted.set(self.accepted.get() + 1);
        }
        if at >= self.began {
            self.counts.borrow_mut().note(outcome, at - sent, at);
        }
    }
}

pub(super) async fn run(plan: &Plan, requests: Requests, began: Instant) -> Counts {
    let shared = Rc::new(Shared {
        plan: plan.clone(),
        requests,
        began,
        next: Cell::new(0),
        accepted: Cell::new(0),
        counts: RefCell::new(Counts::new(began)),
    });
    let all = shared.clone();
    LocalSet::new()
        .run_until(async move {
            let mut connections = JoinSet::new();
            for _ in 0..all.plan.connections {
                connections.spawn_local(keep_open(all.clone()));
            }
            while connections.join_next().await.is_some() {}
        })
        .await;
    shared.counts.replace(Counts::new(began))
}

/// One connection, opened again when it breaks.
async fn keep_open(shared: Rc<Shared>) {
    while !shared.is_over(measure::now()) {
        let sent = measure::now();
        if converse(&shared).await.is_err() {
            shared.note(Outcome::Broke, sent, measure::now());
            tokio::time::sleep(REOPEN).await;
        }
    }
}

async fn converse(shared: &Shared) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(shared.plan.address).await?;
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(READ);
    let mut sent = measure::now();
    while !shared.is_over(sent) {
        stream.write_all(shared.requests.get(shared.take())).await?;
        let status = loop {
            if let Some((status, length)) = answer(&buffer) {
                buffer.drain(..length);
                break status;
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        };
        let at = measure::now();
        shared.note(Outcome::Answered(status), sent, at);
        sent = at;
    }
    Ok(())
}
