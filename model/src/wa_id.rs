//! WhatsApp ids: fixed by the message id, and decodable back to it.
//!
//! A receipt carries WhatsApp's id and nothing else, so that id must lead back to the message
//! without a table. It is a keyed permutation of the message id (53 bits) and a tag (19 bits):
//! without the key an id tells neither how many messages were sent nor when. That is all the
//! secrecy it has; it authenticates nothing and is no cipher to keep other data in.
//!
//! The mapping is stored data (receipts of old messages must decode for ever): it may never change.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::MessageId;

/// How each of our ids begins, as those of WhatsApp's own clients do.
const PREFIX: &str = "3EB0";

/// Hex digits after the prefix: 72 bits.
const HEX_DIGITS: usize = 18;

/// Bits of the tag, below the 53 of the message id.
const TAG_BITS: u32 = 19;

/// The bits of a tag.
const TAG_MASK: u64 = (1 << TAG_BITS) - 1;

/// Bits of each half of the permutation.
const HALF_BITS: u32 = 36;

/// The bits of a half.
const HALF_MASK: u64 = (1 << HALF_BITS) - 1;

/// Rounds of the permutation: 4 make it look random to who sees ids alone, 8 leave room.
const ROUNDS: u64 = 8;

/// WhatsApp's id of a message of ours: `3EB0` and 18 upper-case hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct WaId(u128);

impl fmt::Display for WaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{:018X}", self.0)
    }
}

impl From<WaId> for String {
    fn from(id: WaId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for WaId {
    type Error = InvalidWaId;

    fn try_from(text: String) -> Result<Self, InvalidWaId> {
        text.parse()
    }
}

impl FromStr for WaId {
    type Err = InvalidWaId;

    fn from_str(text: &str) -> Result<Self, InvalidWaId> {
        let hex = text.strip_prefix(PREFIX).ok_or(InvalidWaId)?;
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte);
        if hex.len() != HEX_DIGITS || !hex.bytes().all(is_hex) {
            return Err(InvalidWaId);
        }
        u128::from_str_radix(hex, 16)
            .map(Self)
            .map_err(|_| InvalidWaId)
    }
}

/// A text that is no WhatsApp id of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id of ours is 3EB0 and 18 upper-case hex digits")]
pub struct InvalidWaId;

/// The secret that ties WhatsApp ids to message ids. It belongs to the cluster and travels with
/// exports: who loses it can decode no receipt.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WaIdKey([u8; 32]);

impl fmt::Debug for WaIdKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WaIdKey(…)")
    }
}

impl WaIdKey {
    /// The key of these bytes, which must come from a random source.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, to be kept where no log sees them.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The WhatsApp id of a message.
    pub fn of(&self, id: MessageId) -> WaId {
        self.seal(id, self.tag(id))
    }

    /// The message of a WhatsApp id; `None` for an id that is not ours (one in 2^19 of those
    /// passes for a message id, which then is one that was most likely never given).
    pub fn message(&self, id: WaId) -> Option<MessageId> {
        let (message, tag) = self.open(id)?;
        (tag == self.tag(message)).then_some(message)
    }

    /// The permutation itself: message id and tag (its low 19 bits count) to WhatsApp id.
    pub fn seal(&self, id: MessageId, tag: u32) -> WaId {
        let plain = u128::from(id.get()) << TAG_BITS | u128::from(u64::from(tag) & TAG_MASK);
        let (mut left, mut right) = halves(plain);
        for round in 0..ROUNDS {
            (left, right) = (right, left ^ self.mix(round, right));
        }
        WaId(joined(left, right))
    }

    /// The permutation backwards. Every id opens to something: `None` is for values past 72 bits,
    /// which no [`WaId`] holds.
    pub fn open(&self, id: WaId) -> Option<(MessageId, u32)> {
        let (mut left, mut right) = halves(id.0);
        for round in (0..ROUNDS).rev() {
            (left, right) = (right ^ self.mix(round, left), left);
        }
        let plain = joined(left, right);
        let tag = u32::try_from(plain & u128::from(TAG_MASK)).ok()?;
        let message = MessageId::new(u64::try_from(plain >> TAG_BITS).ok()?)?;
        Some((message, tag))
    }

    /// The tag of a production message: 19 bits that only the key can tell.
    fn tag(&self, id: MessageId) -> u32 {
        let [k0, k1] = [self.word(2), self.word(3)];
        (siphash_2_4(k0, k1, id.get()) & TAG_MASK) as u32
    }

    /// What one half adds to the other in a round.
    fn mix(&self, round: u64, half: u64) -> u64 {
        let [k0, k1] = [self.word(0), self.word(1)];
        siphash_2_4(k0, k1, round << 56 | half) & HALF_MASK
    }

    /// The 8 bytes of the key at an index from 0 to 3, as a little-endian number.
    fn word(&self, index: usize) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.0[index * 8..][..8]);
        u64::from_le_bytes(bytes)
    }
}

const fn halves(value: u128) -> (u64, u64) {
    (
        (value >> HALF_BITS) as u64 & HALF_MASK,
        value as u64 & HALF_MASK,
    )
}

const fn joined(left: u64, right: u64) -> u128 {
    (left as u128) << HALF_BITS | right as u128
}

/// SipHash-2-4 of one 8-byte word. Written out here because the standard library does not promise
/// that its hashers stay what they are.
const fn siphash_2_4(k0: u64, k1: u64, word: u64) -> u64 {
    /// The last block of an 8-byte input: its length in the top byte.
    const LENGTH_BLOCK: u64 = 8 << 56;
    let mut v = [
        k0 ^ 0x736F_6D65_7073_6575,
        k1 ^ 0x646F_7261_6E64_6F6D,
        k0 ^ 0x6C79_6765_6E65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    v[3] ^= word;
    v = sip_round(sip_round(v));
    v[0] ^= word;
    v[3] ^= LENGTH_BLOCK;
    v = sip_round(sip_round(v));
    v[0] ^= LENGTH_BLOCK;
    v[2] ^= 0xFF;
    v = sip_round(sip_round(sip_round(sip_round(v))));
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

const fn sip_round([mut a, mut b, mut c, mut d]: [u64; 4]) -> [u64; 4] {
    a = a.wrapping_add(b);
    b = b.rotate_left(13) ^ a;
    a = a.rotate_left(32);
    c = c.wrapping_add(d);
    d = d.rotate_left(16) ^ c;
    a = a.wrapping_add(d);
    d = d.rotate_left(21) ^ a;
    c = c.wrapping_add(b);
    b = b.rotate_left(17) ^ c;
    c = c.rotate_left(32);
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::id::{ID_LIMIT, Shard, Tick};

    fn key() -> WaIdKey {
        WaIdKey::new(std::array::from_fn(|index| index as u8))
    }

    fn message(number: u64) -> MessageId {
        MessageId::new(number).unwrap()
    }

    #[test]
    fn the_round_function_is_siphash_as_published() {
        let key = key();

        let hash = siphash_2_4(
            key.word(0),
            key.word(1),
            u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7]),
        );

        assert_eq!(hash, 0x93F5_F579_9A93_2462);
    }

    #[test]
    fn ids_in_a_row_look_unrelated() {
        let first = message(9_000_000_000_000);

        let ids: BTreeSet<u128> = (0..1_000).map(|n| key().of(first.plus(n)).0).collect();
        let in_upper_half = ids.iter().filter(|id| **id >> 71 == 1).count();

        assert_eq!(ids.len(), 1_000);
        assert!((400..600).contains(&in_upper_half), "{in_upper_half}");
    }

    #[test]
    fn another_clusters_ids_are_not_taken_for_ours() {
        let other = WaIdKey::new([7; 32]);

        let taken = (0..10_000)
            .filter(|n| key().message(other.of(message(*n))).is_some())
            .count();

        assert!(taken <= 3, "{taken} of 10,000 passed; 0.02 are expected");
    }

    #[test]
    fn what_is_not_an_id_of_ours_is_refused() {
        let good = key().of(message(5)).to_string();
        let bad = [
            String::new(),
            good.to_lowercase(),
            good[1..].to_owned(),
            format!("{good}0"),
            good.replace("3EB0", "3EB1"),
            format!("3EB0+{}", &good[5..]),
            format!("{}G", &good[..21]),
        ];

        assert!(good.parse::<WaId>().is_ok());
        for text in bad {
            assert_eq!(text.parse::<WaId>(), Err(InvalidWaId), "{text}");
        }
    }

    #[test]
    fn a_key_never_shows_itself() {
        assert_eq!(format!("{:?}", key()), "WaIdKey(…)");
    }

    proptest! {
        #[test]
        fn every_id_leads_back_to_its_message(number in 0..ID_LIMIT, bytes: [u8; 32]) {
            let (key, id) = (WaIdKey::new(bytes), message(number));

            let text = key.of(id).to_string();

            prop_assert_eq!(text.len(), 22);
            prop_assert_eq!(key.message(text.parse().unwrap()), Some(id));
        }

        #[test]
        fn it_is_a_permutation_of_72_bits(id in 0..ID_LIMIT, tag in 0..1_u32 << 19, any: u128) {
            let any = WaId(any >> 56);
            let (message, opened) = key().open(any).unwrap();

            prop_assert_eq!(key().open(key().seal(MessageId::new(id).unwrap(), tag)),
                Some((MessageId::new(id).unwrap(), tag)));
            prop_assert_eq!(key().seal(message, opened), any);
        }
    }

    #[test]
    fn the_mapping_never_changes() {
        // Computed by a second implementation, written from the description above alone.
        let golden = [
            (message(0), "3EB03173ADF63CCAA51F9C"),
            (message(1), "3EB0CBBF67050CBD3E91A6"),
            (
                MessageId::give(Tick(114_048_000_000), Shard::new(37).unwrap()),
                "3EB0BC11B483A901EB4BDA",
            ),
            (message(ID_LIMIT - 1), "3EB0A7ABC6EE66A93F5C6D"),
        ];

        for (id, text) in golden {
            assert_eq!(key().of(id).to_string(), text, "{id}");
        }
    }
}
