//! The socket that a network sees: each datagram sealed, each one that comes in opened and new.

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use chitchat::ChitchatEnvelope;
use chitchat::transport::{RecvOutcome, SendOutcome, Socket};
use rand::RngCore;
use rand::rngs::StdRng;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::time::sleep;
use zajil_model::replay::{Stamp, Windows};
use zajil_model::time::Timestamp;

use super::{Common, Drops};
use crate::membership::codec::{Codec, Decoded};
use crate::membership::keys::KeyRing;
use crate::membership::seal::{self, ClusterTag, LONGEST_DATAGRAM, Nonce, OVERHEAD};
use crate::metrics::gossip::Dropped;

/// How long a socket that reports an error is left alone: one that stays broken must not take a
/// whole core.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);

/// What sealing needs.
#[derive(Debug)]
pub(in crate::membership) struct Sealing {
    /// The keys; they may change while the socket is open.
    pub(in crate::membership) keys: watch::Receiver<KeyRing>,
    /// Makes nonces.
    pub(in crate::membership) random: StdRng,
}

/// A sealed socket.
pub(in crate::membership) struct SealedSocket {
    network: UdpSocket,
    codec: Codec,
    datagram: Vec<u8>,
    seal: Seal,
}

/// What is known of datagrams, apart from how they travel.
struct Seal {
    common: Common,
    sealing: Sealing,
    cluster: ClusterTag,
    sequence: u64,
    windows: Windows,
    drops: Drops,
    sealed: Vec<u8>,
}

impl SealedSocket {
    pub(in crate::membership) async fn open(
        common: Common,
        sealing: Sealing,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            network: UdpSocket::bind(common.listen).await?,
            codec: Codec::open().await?,
            // One byte more than can be right, so that what is too long shows.
            datagram: vec![0; LONGEST_DATAGRAM + 1],
            seal: Seal::new(common, sealing),
        })
    }

    /// Receives one datagram and hands it in for decoding, if it is good.
    async fn receive(&mut self) {
        let (length, from) = match self.network.recv_from(&mut self.datagram).await {
            Ok(received) => received,
            Err(_) => return sleep(PAUSE_AFTER_ERROR).await,
        };
        match self.seal.open(&mut self.datagram[..length]) {
            Ok(plain) => {
                if self.codec.hand_in(plain, from).await.is_err() {
                    self.seal.drops.note(Dropped::NotUnderstood, from);
                }
            }
            Err(why) => self.seal.drops.note(why, from),
        }
    }
}

#[async_trait]
impl Socket for SealedSocket {
    fn local_addr(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.network.local_addr()?)
    }

    async fn send(
        &mut self,
        to: SocketAddr,
        message: ChitchatEnvelope,
    ) -> anyhow::Result<SendOutcome> {
        let sealed = match self.codec.encode(message).await {
            Some(plain) if plain.len() + OVERHEAD <= LONGEST_DATAGRAM => self.seal.seal(plain),
            Some(_) | None => {
                self.seal.drops.note(Dropped::Unsent, to);
                return Ok(SendOutcome { num_bytes_sent: 0 });
            }
        };
        let sent = self.network.send_to(sealed, to).await;
        match sent {
            Ok(_) => self.seal.common.metrics.sent(),
            Err(_) => self.seal.drops.note(Dropped::Unsent, to),
        }
        Ok(SendOutcome {
            num_bytes_sent: sent.unwrap_or(0),
        })
    }

    /// Is dropped at each tick of the gossip and asked again: what was handed in stays there.
    async fn recv(&mut self) -> anyhow::Result<RecvOutcome> {
        loop {
            match self.codec.decoded().await? {
                None => self.receive().await,
                Some(Decoded::Message(received)) => {
                    self.seal.common.metrics.received();
                    return Ok(received);
                }
                Some(Decoded::NotUnderstood(from)) => {
                    self.seal.drops.note(Dropped::NotUnderstood, from);
                }
                Some(Decoded::Stranger(from)) => self.seal.drops.note(Dropped::Stranger, from),
            }
        }
    }
}

impl Seal {
    fn new(common: Common, sealing: Sealing) -> Self {
        Self {
            cluster: ClusterTag::of(&common.cluster),
            sequence: first_sequence(common.clock.now()),
            windows: Windows::default(),
            drops: Drops::new(common.metrics.clone(), common.clock.clone()),
            sealed: Vec::with_capacity(LONGEST_DATAGRAM),
            common,
            sealing,
        }
    }

    fn seal(&mut self, plain: &[u8]) -> &[u8] {
        self.sequence += 1;
        let stamp = Stamp {
            sender: self.common.sender,
            sequence: self.sequence,
            sent_at: self.common.clock.now(),
        };
        let mut nonce = Nonce::default();
        self.sealing.random.fill_bytes(&mut nonce);
        let keys = self.sealing.keys.borrow();
        seal::seal(&keys, self.cluster, &stamp, nonce, plain, &mut self.sealed);
        &self.sealed
    }

    fn open<'a>(&mut self, datagram: &'a mut [u8]) -> Result<&'a [u8], Dropped> {
        let now = self.common.clock.now();
        let keys = self.sealing.keys.borrow();
        let (stamp, plain) = seal::open(&keys, self.cluster, now, datagram)?;
        if stamp.sender == self.common.sender {
            return Err(Dropped::Own);
        }
        self.windows.admit(&stamp, now)?;
        Ok(plain)
    }
}

/// Counting begins at the time in microseconds: a process that is started again within one life of
/// its node goes on above what it had, since it never sends a million datagrams a second.
fn first_sequence(now: Timestamp) -> u64 {
    u64::try_from(now.as_micros()).unwrap_or(0)
}
