//! The keys of the gossip of a cluster.
//!
//! The first key seals, all of them open. So keys are changed without a gap, in three steps, each on
//! every node before the next: add the new one behind the old one; put it first; remove the old
//! one.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use sha2::{Digest, Sha256};

/// The one that seals, the one before it, the one after it, and one to spare.
pub const MOST_KEYS: usize = 4;

const KEY_LENGTH: usize = 32;

/// Names a key in a datagram, without telling anything of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyId(pub(super) [u8; 4]);

/// The keys, at least one.
#[derive(Clone)]
pub struct KeyRing {
    keys: Vec<Key>,
}

#[derive(Clone)]
pub(super) struct Key {
    pub(super) id: KeyId,
    pub(super) cipher: XChaCha20Poly1305,
}

/// What is wrong with keys. Never says what they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadKeys {
    /// None at all.
    #[error("there has to be a key to seal gossip with")]
    None,
    /// Too many.
    #[error("gossip can have at most {MOST_KEYS} keys at once")]
    TooMany,
    /// Not 32 bytes in base64.
    #[error("gossip key {0} is not {KEY_LENGTH} bytes in base64")]
    Unreadable(usize),
    /// The same key again, as after a change of keys that was not one.
    #[error("gossip key {0} is there twice")]
    Twice(usize),
}

impl KeyRing {
    /// Reads keys, the one that seals first.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, BadKeys> {
        let mut keys = Vec::<Key>::new();
        for (place, text) in (1..).zip(texts) {
            if keys.len() == MOST_KEYS {
                return Err(BadKeys::TooMany);
            }
            let key = Key::parse(text).ok_or(BadKeys::Unreadable(place))?;
            if keys.iter().any(|known| known.id == key.id) {
                return Err(BadKeys::Twice(place));
            }
            keys.push(key);
        }
        if keys.is_empty() {
            return Err(BadKeys::None);
        }
        Ok(Self { keys })
    }

    pub(super) fn sealing(&self) -> &Key {
        self.keys.first().expect("a ring has at least one key")
    }

    pub(super) fn opening(&self, id: KeyId) -> Option<&Key> {
        self.keys.iter().find(|key| key.id == id)
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = self.keys.iter().map(|key| key.id);
        f.debug_list().entries(ids).finish()
    }
}

impl Key {
    fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; KEY_LENGTH] = STANDARD.decode(text.trim()).ok()?.try_into().ok()?;
        // The id is made from the key, so that nobody has to give out numbers, and two keys
        // cannot go by one number.
        let digest = Sha256::new()
            .chain_update(b"zajil gossip key id")
            .chain_update(bytes)
            .finalize();
        let id = digest.first_chunk().expect("a digest has 32 bytes");
        Some(Self {
            id: KeyId(*id),
            cipher: XChaCha20Poly1305::new(&bytes.into()),
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn key(fill: u8) -> String {
        STANDARD.encode([fill; KEY_LENGTH])
    }

    pub(crate) fn ring(fills: &[u8]) -> KeyRing {
        let keys: Vec<String> = fills.iter().copied().map(key).collect();
        KeyRing::parse(keys.iter().map(String::as_str)).unwrap()
    }

    #[test]
    fn the_first_key_seals_and_all_open() {
        let ring = ring(&[1, 2]);
        let [first, second] = [&ring.keys[0], &ring.keys[1]];

        assert_eq!(ring.sealing().id, first.id);
        assert!(ring.opening(second.id).is_some());
        assert!(ring.opening(KeyId([0; 4])).is_none());
    }

    #[test]
    fn keys_that_cannot_be_are_refused() {
        let parse = |keys: &[&str]| KeyRing::parse(keys.iter().copied()).map(|_| ());
        let [one, two, three, four, five] = [1, 2, 3, 4, 5].map(key);
        let short = STANDARD.encode([1; 31]);

        assert_eq!(parse(&[]), Err(BadKeys::None));
        assert_eq!(parse(&[&one, "not base64!"]), Err(BadKeys::Unreadable(2)));
        assert_eq!(parse(&[&short]), Err(BadKeys::Unreadable(1)));
        assert_eq!(parse(&[&one, &two, &one]), Err(BadKeys::Twice(3)));
        assert_eq!(
            parse(&[&one, &two, &three, &four, &five]),
            Err(BadKeys::TooMany)
        );
    }

    #[test]
    fn a_ring_does_not_show_its_keys() {
        let shown = format!("{:?}", ring(&[65]));

        assert!(
            !shown.contains(&key(65)) && !shown.contains("65, 65"),
            "{shown}"
        );
    }
}
