//! What waits to be written to one connection: bounded, in order, and open to second thoughts.
//!
//! A frame stays in the queue until the writer takes it, and can be withdrawn until then: that is
//! how a caller that gives up knows for certain that nothing was sent.

use std::collections::VecDeque;
use std::io;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use super::frame::Frame;

/// Frames that wait, at most: enough for a burst of small ones while one write is under way.
pub(super) const FRAMES: usize = 1_024;

/// Bytes that wait, at most. A frame longer than that waits alone.
pub(super) const BYTES: usize = 4 << 20;

/// Small frames that go in beside the bounds: pings, cancels, refusals. A peer that does not even
/// take these does not read.
const SMALL_FRAMES: usize = 1_024;

/// How much is written at once: small frames share a system call and a packet.
const COALESCED: usize = 64 << 10;

/// The queue of a connection.
#[derive(Debug)]
pub(super) struct Outbox {
    queue: Mutex<Queue>,
    /// Something waits, or the queue is closed.
    stirred: Notify,
    frames: Semaphore,
    bytes: Semaphore,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// How many of them are beside the bounds.
    small: usize,
    closed: bool,
}

#[derive(Debug)]
struct Waiting {
    frame: Frame,
    /// When the caller stops to wait for it.
    deadline: Option<Instant>,
    /// Permits that it holds; none for a small frame.
    bytes: u32,
}

/// The connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Closed;

impl Outbox {
    pub(super) fn new() -> Self {
        Self {
            queue: Mutex::default(),
            stirred: Notify::new(),
            frames: Semaphore::new(FRAMES),
            bytes: Semaphore::new(BYTES),
        }
    }

    /// Puts a frame at the end, once there is room. What is left of its deadline is told to the
    /// peer as of when it is written.
    pub(super) async fn push(&self, frame: Frame, deadline: Option<Instant>) -> Result<(), Closed> {
        let bytes = u32::try_from(frame.weight().min(BYTES)).expect("the bound fits");
        let frames = self.frames.acquire().await.map_err(|_| Closed)?;
        let room = self.bytes.acquire_many(bytes).await.map_err(|_| Closed)?;
        let mut queue = self.queue.lock();
        if queue.closed {
            return Err(Closed);
        }
        frames.forget();
        room.forget();
        queue.waiting.push_back(Waiting {
            frame,
            deadline,
            bytes,
        });
        drop(queue);
        self.stirred.notify_one();
        Ok(())
    }

    /// Puts a small frame at the end without waiting; `false` when the peer does not read, or is
    /// gone.
    pub(super) fn push_small(&self, frame: Frame) -> bool {
        let mut queue = self.queue.lock();
        if queue.closed || queue.small == SMALL_FRAMES {
            return false;
        }
        queue.small += 1;
        queue.waiting.push_back(Waiting {
            frame,
            deadline: None,
            bytes: 0,
        });
        drop(queue);
        self.stirred.notify_one();
        true
    }

    /// Takes a request back; `false` when the writer has it already.
    pub(super) fn withdraw(&self, id: u64) -> bool {
        let mut queue = self.queue.lock();
        let asks = |it: &Waiting| matches!(it.frame, Frame::Request { id: it, .. } if it == id);
        let Some(at) = queue.waiting.iter().position(asks) else {
            return false;
        };
        if let Some(gone) = queue.waiting.remove(at) {
            self.release(&gone);
        }
        true
    }

    /// Takes no more; answers the requests that were not written.
    pub(super) fn close(&self) -> Vec<u64> {
        let mut queue = self.queue.lock();
        queue.closed = true;
        let left = std::mem::take(&mut queue.waiting);
        drop(queue);
        self.frames.close();
        self.bytes.close();
        self.stirred.notify_one();
        let asked = |it: Waiting| match it.frame {
            Frame::Request { id, .. } => Some(id),
            Frame::Cast(_)
            | Frame::Reply { .. }
            | Frame::Cancel { .. }
            | Frame::Ping
            | Frame::Goaway
            | Frame::Unknown { .. } => None,
        };
        left.into_iter().filter_map(asked).collect()
    }

    /// Writes what comes until the queue is closed.
    pub(super) async fn drain_into(&self, mut out: impl AsyncWrite + Unpin) -> io::Result<()> {
        let mut buffer = Vec::with_capacity(COALESCED);
        loop {
            let Some(long) = self.gather(&mut buffer) else {
                // Whoever closed the queue ends the connection; it does not matter how.
                return out.shutdown().await;
            };
            if buffer.is_empty() {
                self.stirred.notified().await;
                // Whoever is ready now gets to say so first: then one write takes them all.
                tokio::task::yield_now().await;
                continue;
            }
            crate::metrics::link::sent(buffer.len() + long.len());
            out.write_all(&buffer).await?;
            out.write_all(&long).await?;
            out.flush().await?;
            buffer.clear();
        }
    }

    /// Moves what waits into the buffer, as much as one write takes. The body of a long frame is
    /// not copied: it is answered, to be written after the buffer. `None` once closed.
    fn gather(&self, buffer: &mut Vec<u8>) -> Option<Bytes> {
        let mut queue = self.queue.lock();
        if queue.closed {
            return None;
        }
        while buffer.len() < COALESCED {
            let Some(next) = queue.waiting.pop_front() else {
                break;
            };
            if next.bytes == 0 {
                queue.small -= 1;
            }
            self.release(&next);
            let body = next.frame_now().encode(buffer);
            if buffer.len() + body.len() > COALESCED {
                return Some(body);
            }
            buffer.extend_from_slice(&body);
        }
        Some(Bytes::new())
    }

    fn release(&self, gone: &Waiting) {
        if gone.bytes > 0 {
            self.frames.add_permits(1);
            self.bytes.add_permits(gone.bytes as usize);
        }
    }
}

impl Waiting {
    /// The frame, with what is left of its deadline.
    fn frame_now(self) -> Frame {
        let left = |it: Instant| it.saturating_duration_since(Instant::now());
        let mut frame = self.frame;
        if let (Some(deadline), Frame::Request { call, .. } | Frame::Cast(call)) =
            (self.deadline, &mut frame)
        {
            call.deadline = left(deadline);
        }
        frame
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::BytesMut;
    use tokio::io::AsyncReadExt;
    use tokio::time::timeout;
    use zajil_model::id::Epoch;

    use super::super::{Incoming, Lane, Method};
    use super::*;

    const MOMENT: Duration = Duration::from_millis(10);

    fn request(id: u64, bytes: usize) -> Frame {
        let call = Incoming {
            shard: None,
            epoch: Epoch(1),
            method: Method(1),
            body: Bytes::from(vec![1; bytes]),
            deadline: Duration::from_secs(9),
        };
        Frame::Request { id, call }
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_makes_the_next_one_wait_until_something_leaves() {
        let outbox = Outbox::new();
        for id in 1..=FRAMES as u64 {
            outbox.push(request(id, 0), None).await.unwrap();
        }

        let full = timeout(MOMENT, outbox.push(request(5_000, 0), None)).await;
        assert!(outbox.withdraw(7));
        let room = timeout(MOMENT, outbox.push(request(5_001, 0), None)).await;

        assert!(full.is_err());
        assert_eq!(room, Ok(Ok(())));
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_are_bounded_too_and_one_long_frame_still_passes() {
        let outbox = Outbox::new();

        outbox.push(request(1, BYTES * 2), None).await.unwrap();
        let second = timeout(MOMENT, outbox.push(request(2, 1), None)).await;
        assert!(second.is_err());

        assert!(outbox.withdraw(1));
        let alone = timeout(MOMENT, outbox.push(request(3, BYTES), None)).await;
        assert_eq!(alone, Ok(Ok(())));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_small_passes_a_full_queue_and_is_bounded_itself() {
        let outbox = Outbox::new();
        outbox.push(request(1, BYTES), None).await.unwrap();

        let taken = (0..SMALL_FRAMES * 2).filter(|_| outbox.push_small(Frame::Ping));

        assert_eq!(taken.count(), SMALL_FRAMES);
    }

    #[tokio::test]
    async fn what_was_written_cannot_be_withdrawn_and_what_waits_is_told_at_the_end() {
        let outbox = Arc::new(Outbox::new());
        let (out, mut peer) = tokio::io::duplex(64);
        let writer = outbox.clone();
        let written = async move { writer.drain_into(out).await };
        let read = async {
            outbox.push(request(1, 200), None).await.unwrap();
            peer.read_u8().await.unwrap();
            outbox.push(request(2, 0), None).await.unwrap();
            assert!(!outbox.withdraw(1));
            assert_eq!(outbox.close(), [2]);
            assert_eq!(outbox.push(request(3, 0), None).await, Err(Closed));
            drop(peer);
        };

        let (written, ()) = tokio::join!(written, read);

        // The peer went away while the first frame was on its way.
        written.unwrap_err();
    }

    #[tokio::test(start_paused = true)]
    async fn frames_are_written_in_order_with_what_is_left_of_their_deadlines() {
        let outbox = Outbox::new();
        let lengths = [10, COALESCED * 2, 0, COALESCED];
        for (id, bytes) in (1..).zip(lengths) {
            let deadline = Instant::now() + Duration::from_secs(5);
            outbox
                .push(request(id, bytes), Some(deadline))
                .await
                .unwrap();
        }
        tokio::time::advance(Duration::from_secs(2)).await;

        let mut wire = Vec::new();
        let mut buffer = Vec::new();
        while let Some(long) = outbox.gather(&mut buffer) {
            if buffer.is_empty() {
                break;
            }
            wire.append(&mut buffer);
            wire.extend(long);
        }

        let mut wire = BytesMut::from(&wire[..]);
        for (id, bytes) in (1..).zip(lengths) {
            let Frame::Request { id: read, call } =
                Frame::take(&mut wire, Lane::Bulk).unwrap().unwrap()
            else {
                panic!("it was a request");
            };
            assert_eq!((read, call.body.len()), (id, bytes));
            assert_eq!(call.deadline, Duration::from_secs(3));
        }
    }
}
