//! A connection that does not wait for ever: for a request, for the rest of its head, or for a
//! peer that takes its answer.
//!
//! Three waits, three bounds. Clients keep connections in pools and use them again after a pause,
//! so an idle one is kept for long; a head that began and does not end is an attack or a fault, so
//! it is not. Bodies are bounded by who reads them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use crate::config::ServerLimits;

/// Beginnings and ends of the requests of one connection: odd while one is under way.
#[derive(Debug, Default, Clone)]
pub(super) struct Turns(Arc<AtomicUsize>);

/// A request that is under way until this is dropped.
#[derive(Debug)]
pub(super) struct UnderWay(Turns);

impl Turns {
    /// A request began.
    pub(super) fn begin(&self) -> UnderWay {
        self.0.fetch_add(1, Ordering::Relaxed);
        UnderWay(self.clone())
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The body of an answer; its request is under way until the last of it is taken.
#[derive(Debug)]
pub(super) struct Answer {
    body: Body,
    _under_way: UnderWay,
}

impl Answer {
    /// The body of the answer to a request.
    pub(super) const fn new(body: Body, under_way: UnderWay) -> Self {
        Self {
            body,
            _under_way: under_way,
        }
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream that ends when its peer takes too long.
#[derive(Debug)]
pub(super) struct Impatient {
    stream: TcpStream,
    turns: Turns,
    /// The turns that `head_ends` is of.
    seen: usize,
    /// When the head that began has to be complete.
    head_ends: Option<Instant>,
    head: Duration,
    /// When the peer last took something.
    active: Instant,
    idle: Duration,
    /// Wakes the connection when a wait is over, or before.
    reading: Alarm,
    write: Duration,
    /// Runs while a write waits for the peer.
    writing: Option<Pin<Box<Sleep>>>,
}

impl Impatient {
    /// A connection that was just opened: its first request has to come as if it had begun.
    pub(super) fn new(stream: TcpStream, limits: &ServerLimits, turns: Turns) -> Self {
        let now = Instant::now();
        Self {
            stream,
            seen: turns.count(),
            turns,
            head_ends: Some(now + limits.header_timeout),
            head: limits.header_timeout,
            active: now,
            idle: limits.idle_timeout,
            reading: Alarm::default(),
            write: limits.write_timeout,
            writing: None,
        }
    }

    /// Judges a wait for bytes.
    fn judge_read(&mut self, cx: &mut Context<'_>, under_way: bool) -> Poll<io::Result<()>> {
        if under_way {
            // It may wait as long as it likes. But nobody reads again just because it ends, so the
            // alarm has to be there for the pause that follows.
            let until = Instant::now() + self.idle;
            return self.reading.poll(cx, until).map(Ok);
        }
        ready!(
            self.reading
                .poll(cx, self.head_ends.unwrap_or(self.active + self.idle))
        );
        match self.head_ends {
            Some(_) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            // As if the peer had closed it: nothing is lost.
            None => Poll::Ready(Ok(())),
        }
    }

    /// Passes a write's progress on; without any, fails once the patience is used up.
    fn judge_write<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.writing = None;
            self.active = Instant::now();
            return polled;
        }
        let patience = self.write;
        let sleep = self
            .writing
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + patience)));
        ready!(sleep.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Impatient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let turns = self.turns.count();
        if turns != self.seen {
            self.seen = turns;
            self.head_ends = None;
        }
        let under_way = turns % 2 == 1;
        if polled.is_pending() {
            return self.judge_read(cx, under_way);
        }
        if !under_way && self.head_ends.is_none() && buffer.filled().len() > before {
            self.head_ends = Some(Instant::now() + self.head);
        }
        polled
    }
}

impl AsyncWrite for Impatient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.judge_write(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.judge_write(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The stream keeps nothing back.
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.judge_write(cx, polled)
    }
}

/// A timer that is set once and not with each request: it may go off early, and is then set again.
#[derive(Debug, Default)]
struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Ready once `until` is over.
    fn poll(&mut self, cx: &mut Context<'_>, until: Instant) -> Poll<()> {
        let sleep = self
            .0
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if sleep.deadline() > until {
            sleep.as_mut().reset(until);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= until {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(until);
        }
    }
}
