//! Between messages of the gossip library and their bytes.
//!
//! The library keeps its codec to itself, and shows its own UDP socket. So one of its sockets and
//! one of ours face each other on loopback: what its socket sends, ours receives as bytes, and the
//! other way round. Nothing else gets in: ours is connected to its socket, so the kernel drops
//! what others send, and of what its socket receives only that from ours is taken.
//!
//! What it costs is in `docs/decisions/0006-gossip-is-sealed-through-a-pair-of-sockets.md`.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use chitchat::ChitchatEnvelope;
use chitchat::transport::{RecvOutcome, Socket, UdpSocket as LibrarySocket};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout, timeout_at};

use super::seal::LONGEST_DATAGRAM;

/// Loopback hands over within microseconds. What takes this long was not understood by the library,
/// which then waits for the next.
const HANDED_OVER_WITHIN: Duration = Duration::from_millis(50);

/// More leftovers than two lost turns can have left; the rest is dropped by their length.
const MOST_LEFTOVERS: usize = 4;

/// The pair of sockets.
pub(super) struct Codec {
    library: LibrarySocket,
    library_address: SocketAddr,
    ours: UdpSocket,
    our_address: SocketAddr,
    bytes: Vec<u8>,
    handed_in: Option<HandedIn>,
}

/// Bytes on their way to the library.
struct HandedIn {
    from: SocketAddr,
    until: Instant,
}

/// What came out of the library's socket.
pub(super) enum Decoded {
    /// A message, and whom its datagram came from.
    Message(RecvOutcome),
    /// The bytes that came from here were none.
    NotUnderstood(SocketAddr),
    /// Another process of this machine sent to the library's socket.
    Stranger(SocketAddr),
}

impl Codec {
    pub(super) async fn open() -> anyhow::Result<Self> {
        let library = LibrarySocket::open(free()).await?;
        let library_address = library.local_addr()?;
        let (ours, our_address) = facing(library_address).await?;
        Ok(Self {
            library,
            library_address,
            ours,
            our_address,
            bytes: vec![0; LONGEST_DATAGRAM],
            handed_in: None,
        })
    }

    /// The bytes of a message; nothing when they cannot be had, such as when they are too many.
    pub(super) async fn encode(&mut self, message: ChitchatEnvelope) -> Option<&[u8]> {
        for _ in 0..MOST_LEFTOVERS {
            if self.ours.try_recv(&mut self.bytes).is_err() {
                break;
            }
        }
        let sent = self.library.send(self.our_address, message).await.ok()?;
        let received = self.ours.recv(&mut self.bytes);
        let length = timeout(HANDED_OVER_WITHIN, received).await.ok()?.ok()?;
        (length == sent.num_bytes_sent).then_some(&self.bytes[..length])
    }

    /// Begins to decode bytes that came from `from`; the rest is for [`Codec::decoded`].
    pub(super) async fn hand_in(&mut self, bytes: &[u8], from: SocketAddr) -> io::Result<()> {
        self.ours.send(bytes).await?;
        self.handed_in = Some(HandedIn {
            from,
            until: Instant::now() + HANDED_OVER_WITHIN,
        });
        Ok(())
    }

    /// What was handed in and has not come out yet, decoded. May be dropped at any point and asked
    /// for again.
    pub(super) async fn decoded(&mut self) -> anyhow::Result<Option<Decoded>> {
        let Some(HandedIn { from, until }) = self.handed_in else {
            return Ok(None);
        };
        let Ok(received) = timeout_at(until, self.library.recv()).await else {
            // Should it come out after all, it must not be taken for the next one: from here on
            // the library hears of another address of ours.
            (self.ours, self.our_address) = facing(self.library_address).await?;
            self.handed_in = None;
            return Ok(Some(Decoded::NotUnderstood(from)));
        };
        let received = received?;
        if received.from_addr != self.our_address {
            return Ok(Some(Decoded::Stranger(received.from_addr)));
        }
        self.handed_in = None;
        Ok(Some(Decoded::Message(RecvOutcome {
            from_addr: from,
            ..received
        })))
    }
}

fn free() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

/// A socket of ours that hears the library's socket only.
async fn facing(library: SocketAddr) -> io::Result<(UdpSocket, SocketAddr)> {
    let ours = UdpSocket::bind(free()).await?;
    ours.connect(library).await?;
    let address = ours.local_addr()?;
    Ok((ours, address))
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use chitchat::{ChitchatMessage, ProtocolVersion};

    use super::*;

    const PEER: ([u8; 4], u16) = ([10, 0, 0, 9], 7_946);

    fn message() -> ChitchatEnvelope {
        ChitchatEnvelope {
            version: ProtocolVersion::V0,
            message: ChitchatMessage::BadCluster,
        }
    }

    #[tokio::test]
    async fn a_message_comes_back_from_its_bytes_with_the_address_of_its_sender() {
        let mut codec = Codec::open().await.unwrap();
        let bytes = codec.encode(message()).await.unwrap().to_vec();

        codec.hand_in(&bytes, PEER.into()).await.unwrap();
        let Some(Decoded::Message(decoded)) = codec.decoded().await.unwrap() else {
            panic!("the bytes are those of a message");
        };

        assert_eq!(decoded.envelope, message());
        assert_eq!(decoded.from_addr, PEER.into());
        assert!(codec.decoded().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn bytes_that_are_no_message_do_not_disturb_the_next() {
        let mut codec = Codec::open().await.unwrap();
        let bytes = codec.encode(message()).await.unwrap().to_vec();

        codec.hand_in(b"junk", PEER.into()).await.unwrap();
        assert!(matches!(
            codec.decoded().await.unwrap(),
            Some(Decoded::NotUnderstood(_))
        ));
        codec.hand_in(&bytes, PEER.into()).await.unwrap();

        assert!(matches!(
            codec.decoded().await.unwrap(),
            Some(Decoded::Message(_))
        ));
    }

    #[tokio::test]
    async fn decoding_may_be_given_up_and_taken_up_again() {
        let mut codec = Codec::open().await.unwrap();
        let bytes = codec.encode(message()).await.unwrap().to_vec();
        codec.hand_in(&bytes, PEER.into()).await.unwrap();

        let mut given_up = Box::pin(codec.decoded());
        let mut nobody = Context::from_waker(Waker::noop());
        assert!(given_up.as_mut().poll(&mut nobody).is_pending());
        drop(given_up);

        assert!(matches!(
            codec.decoded().await.unwrap(),
            Some(Decoded::Message(_))
        ));
    }

    #[tokio::test]
    async fn what_others_on_the_machine_send_to_the_pair_is_not_taken() {
        let mut codec = Codec::open().await.unwrap();
        let bytes = codec.encode(message()).await.unwrap().to_vec();
        let stranger = UdpSocket::bind(free()).await.unwrap();

        stranger
            .send_to(&bytes, codec.library_address)
            .await
            .unwrap();
        stranger.send_to(&bytes, codec.our_address).await.unwrap();
        codec.hand_in(&bytes, PEER.into()).await.unwrap();

        assert!(matches!(
            codec.decoded().await.unwrap(),
            Some(Decoded::Stranger(_))
        ));
        assert!(matches!(
            codec.decoded().await.unwrap(),
            Some(Decoded::Message(_))
        ));
        assert!(codec.encode(message()).await.is_some());
    }
}
