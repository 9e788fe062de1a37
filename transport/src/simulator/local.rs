//! An instance of the simulator in this process.

use async_trait::async_trait;

use super::fate::Frame;
use super::hub::Opening;
use super::world::Arrival;
use crate::{Outbound, StopMode, Transport};

/// An instance of the simulator in this process.
#[derive(Debug)]
pub(super) struct LocalTransport {
    /// Its place in the simulated world.
    pub(super) opening: Opening,
    /// For the stamp of the hand-over.
    pub(super) clock: std::sync::Arc<dyn zajil_model::time::Clock>,
}

#[async_trait]
impl Transport for LocalTransport {
    fn submit(&self, mut frames: Vec<Outbound>) -> Vec<Outbound> {
        let now = self.clock.now();
        let seen: Vec<Frame> = frames.iter().map(|frame| Frame::of(frame, now)).collect();
        // Only a ledger can fail, and the world in this process has none.
        let taken = self.opening.submit(&seen, Arrival::Local).unwrap_or(0);
        frames.split_off(taken)
    }

    async fn stop(&self, mode: StopMode) {
        match mode {
            StopMode::Drain => self.opening.drain(),
            StopMode::Abort => self.opening.close(),
        }
    }
}
