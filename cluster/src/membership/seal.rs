//! A sealed datagram: who wrote it, when, and that nobody else did.
//!
//! ```text
//!  0  version      1 byte, now 1
//!  1  key          4 bytes, which key of the ring
//!  5  cluster      8 bytes, made from the cluster's id
//! 13  node         8 bytes
//! 21  incarnation  8 bytes
//! 29  sequence     8 bytes, counts up with each datagram of the node
//! 37  sent at      8 bytes, microseconds since 1970 by the sender's clock
//! 45  nonce        24 bytes, random
//! 69  what is sealed, and 16 bytes that prove it
//! ```
//!
//! Numbers are big-endian. Everything before the sealed part is proven with it. The nonce is random,
//! since a sender that was set back to an earlier state (a restored machine) would count the same
//! numbers again; 192 bits are enough for chance.
//!
//! Sealing and opening are functions: time, number and nonce are handed in. What is cheap to see
//! is looked at first, so that a flood of foreign datagrams costs little. Whether a datagram
//! was seen before is for [`zajil_model::replay`] to say, after this.

use chacha20poly1305::{AeadInOut, Tag, XNonce};
use sha2::{Digest, Sha256};
use zajil_model::lease::{Incarnation, NodeId};
use zajil_model::replay::{Sender, Stamp};
use zajil_model::time::Timestamp;

use super::keys::{KeyId, KeyRing};

const FORMAT: u8 = 1;
const HEADER: usize = 69;
const TAG: usize = 16;

/// By how many bytes a sealed datagram is longer than what it holds.
pub const OVERHEAD: usize = HEADER + TAG;

/// The most that one UDP datagram can carry.
pub const LONGEST_DATAGRAM: usize = 65_507;

/// A number that is used once with a key.
pub type Nonce = [u8; 24];

/// Tells the datagrams of one cluster from those of another that has the same keys by mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterTag([u8; 8]);

/// Why a datagram cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotOpened {
    /// Too short or too long to be one.
    Length,
    /// Of a format that this program does not know.
    Format,
    /// Of another cluster.
    Cluster,
    /// Sealed with a key that is not in the ring.
    Key,
    /// Sent too long ago or in the future.
    Untimely,
    /// Not sealed by who holds the key, or changed since.
    Forged,
}

impl ClusterTag {
    /// The tag of the cluster with this id.
    pub fn of(cluster: &str) -> Self {
        let digest = Sha256::new()
            .chain_update(b"zajil gossip cluster")
            .chain_update(cluster)
            .finalize();
        Self(*digest.first_chunk().expect("a digest has 32 bytes"))
    }
}

/// Seals `plain` into `datagram`.
pub fn seal(
    ring: &KeyRing,
    cluster: ClusterTag,
    stamp: &Stamp,
    nonce: Nonce,
    plain: &[u8],
    datagram: &mut Vec<u8>,
) {
    let key = ring.sealing();
    datagram.clear();
    datagram.push(FORMAT);
    datagram.extend(key.id.0);
    datagram.extend(cluster.0);
    datagram.extend(stamp.sender.node.0.to_be_bytes());
    datagram.extend(stamp.sender.incarnation.0.to_be_bytes());
    datagram.extend(stamp.sequence.to_be_bytes());
    datagram.extend(stamp.sent_at.as_micros().to_be_bytes());
    datagram.extend(nonce);
    datagram.extend(plain);
    let (header, body) = datagram.split_at_mut(HEADER);
    let tag = key
        .cipher
        .encrypt_inout_detached(&XNonce::from(nonce), header, body.into())
        .expect("a datagram is shorter than what the cipher can seal");
    datagram.extend(tag);
}

/// Opens a datagram in place: its stamp, and what it held.
///
/// # Errors
/// Why it cannot be opened.
pub fn open<'a>(
    ring: &KeyRing,
    cluster: ClusterTag,
    now: Timestamp,
    datagram: &'a mut [u8],
) -> Result<(Stamp, &'a [u8]), NotOpened> {
    if !(OVERHEAD..=LONGEST_DATAGRAM).contains(&datagram.len()) {
        return Err(NotOpened::Length);
    }
    let (header, rest) = datagram.split_at_mut(HEADER);
    let (body, tag) = rest.split_at_mut(rest.len() - TAG);
    let header = Header::read(header)?;
    if header.cluster != cluster {
        return Err(NotOpened::Cluster);
    }
    let key = ring.opening(header.key).ok_or(NotOpened::Key)?;
    if !header.stamp.is_timely(now) {
        return Err(NotOpened::Untimely);
    }
    let tag = Tag::try_from(&*tag).expect("the tag was split off by its length");
    key.cipher
        .decrypt_inout_detached(
            &header.nonce.into(),
            header.bytes,
            (&mut *body).into(),
            &tag,
        )
        .map_err(|_| NotOpened::Forged)?;
    Ok((header.stamp, body))
}

struct Header<'a> {
    bytes: &'a [u8],
    key: KeyId,
    cluster: ClusterTag,
    stamp: Stamp,
    nonce: Nonce,
}

impl<'a> Header<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, NotOpened> {
        if bytes[0] != FORMAT {
            return Err(NotOpened::Format);
        }
        Ok(Self {
            bytes,
            key: KeyId(field(bytes, 1)),
            cluster: ClusterTag(field(bytes, 5)),
            stamp: Stamp {
                sender: Sender {
                    node: NodeId(u64::from_be_bytes(field(bytes, 13))),
                    incarnation: Incarnation(u64::from_be_bytes(field(bytes, 21))),
                },
                sequence: u64::from_be_bytes(field(bytes, 29)),
                sent_at: Timestamp::from_micros(i64::from_be_bytes(field(bytes, 37))),
            },
            nonce: field(bytes, 45),
        })
    }
}

fn field<const LENGTH: usize>(header: &[u8], at: usize) -> [u8; LENGTH] {
    let field = header[at..].first_chunk();
    *field.expect("the header has its full length")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::keys::tests::ring;
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);

    fn stamp() -> Stamp {
        Stamp {
            sender: Sender {
                node: NodeId(7),
                incarnation: Incarnation(3),
            },
            sequence: 12,
            sent_at: NOW,
        }
    }

    fn sealed(plain: &[u8]) -> Vec<u8> {
        let mut datagram = Vec::new();
        let home = ClusterTag::of("home");
        seal(&ring(&[1]), home, &stamp(), [9; 24], plain, &mut datagram);
        datagram
    }

    fn opened(
        ring: &KeyRing,
        cluster: &str,
        now: Timestamp,
        sealed: &[u8],
    ) -> Result<(Stamp, Vec<u8>), NotOpened> {
        let mut datagram = sealed.to_vec();
        let opened = open(ring, ClusterTag::of(cluster), now, &mut datagram);
        opened.map(|(stamp, plain)| (stamp, plain.to_vec()))
    }

    #[test]
    fn what_was_sealed_is_opened_by_whoever_has_the_key() {
        let datagram = sealed(b"hello");

        let opened = opened(&ring(&[2, 1]), "home", NOW, &datagram);

        assert_eq!(opened, Ok((stamp(), b"hello".to_vec())));
        assert_eq!(datagram.len(), 5 + OVERHEAD);
        assert!(!datagram.windows(5).any(|part| part == b"hello"));
    }

    #[test]
    fn another_cluster_key_time_or_format_is_told_apart() {
        let datagram = sealed(b"hello");
        let later = NOW + std::time::Duration::from_secs(31);
        let mut newer = datagram.clone();
        newer[0] = 2;
        let why = |ring: &[u8], cluster, now, datagram: &[u8]| {
            opened(
                &super::super::keys::tests::ring(ring),
                cluster,
                now,
                datagram,
            )
            .unwrap_err()
        };

        assert_eq!(why(&[1], "away", NOW, &datagram), NotOpened::Cluster);
        assert_eq!(why(&[2], "home", NOW, &datagram), NotOpened::Key);
        assert_eq!(why(&[1], "home", later, &datagram), NotOpened::Untimely);
        assert_eq!(why(&[1], "home", NOW, &newer), NotOpened::Format);
    }

    #[test]
    fn what_is_too_short_or_too_long_is_not_looked_at() {
        let ring = ring(&[1]);
        for length in [0, 1, HEADER, OVERHEAD - 1, LONGEST_DATAGRAM + 1] {
            let why = opened(&ring, "home", NOW, &vec![1; length]);

            assert_eq!(why, Err(NotOpened::Length), "{length}");
        }
    }

    proptest! {
        #[test]
        fn a_datagram_with_any_byte_changed_is_not_opened(
            plain in proptest::collection::vec(any::<u8>(), 0..200),
            place in any::<prop::sample::Index>(),
            change in 1..=255_u8,
        ) {
            let mut datagram = sealed(&plain);
            *place.get_mut(&mut datagram) ^= change;

            prop_assert!(opened(&ring(&[1]), "home", NOW, &datagram).is_err());
        }

        #[test]
        fn a_datagram_cut_or_made_of_anything_is_not_opened(
            bytes in proptest::collection::vec(any::<u8>(), 0..400),
            kept in 0..90_usize,
        ) {
            let whole = sealed(b"hello");
            let mut with_good_header = whole[..HEADER].to_vec();
            with_good_header.extend(&bytes);

            prop_assert!(opened(&ring(&[1]), "home", NOW, &bytes).is_err());
            prop_assert!(opened(&ring(&[1]), "home", NOW, &with_good_header).is_err());
            prop_assert!(opened(&ring(&[1]), "home", NOW, &whole[..kept.min(whole.len() - 1)]).is_err());
        }
    }
}
