//! Secrets that people are shown once: API keys, session tokens, passwords of a first start.
//!
//! A key is `sk_live_`, 32 random base62 characters (190 bits) and 6 more that hold the CRC32 of all
//! before them: a typo is refused without a look-up. Only SHA-256 of it is stored; a slow hash would
//! be pointless for so much chance.

use rand::TryRngCore;
use rand::rngs::OsRng;
use sha2::{Digest, Sha256};
use zajil_storage::StoreError;

/// What every key begins with.
pub(crate) const KEY_PREFIX: &str = "sk_live_";

/// Random characters of a key.
const KEY_RANDOM: usize = 32;

/// Characters of a key that hold its checksum: 62^6 is more than 2^32.
const KEY_CHECK: usize = 6;

/// How much of a key is stored for people to recognise it by.
const KEY_SHOWN: usize = KEY_PREFIX.len() + 4;

/// Characters of a session token: more than 256 bits of chance.
const TOKEN_LENGTH: usize = 43;

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Bytes at or above this are thrown away, so that each character is equally likely.
const FAIR_BELOW: u8 = 248;

/// Random base62 characters from the operating system.
///
/// # Errors
/// When the system has no randomness to give.
pub(crate) fn random_text(length: usize) -> Result<String, StoreError> {
    let mut text = String::with_capacity(length);
    let mut bytes = [0_u8; 64];
    while text.len() < length {
        OsRng
            .try_fill_bytes(&mut bytes)
            .map_err(|error| StoreError::Io {
                operation: "read random bytes",
                reason: error.to_string(),
            })?;
        for byte in bytes {
            if byte < FAIR_BELOW && text.len() < length {
                text.push(char::from(BASE62[usize::from(byte % 62)]));
            }
        }
    }
    Ok(text)
}

/// A new session token.
pub(crate) fn new_token() -> Result<String, StoreError> {
    random_text(TOKEN_LENGTH)
}

/// The text of a new key.
pub(crate) fn new_key() -> Result<String, StoreError> {
    let body = format!("{KEY_PREFIX}{}", random_text(KEY_RANDOM)?);
    let check = checksum(body.as_bytes());
    Ok(body + &check)
}

/// Whether a text has the form of a key and its checksum is right.
pub(crate) fn is_well_formed(text: &str) -> bool {
    let bytes = text.as_bytes();
    if bytes.len() != KEY_PREFIX.len() + KEY_RANDOM + KEY_CHECK || !text.starts_with(KEY_PREFIX) {
        return false;
    }
    let (body, check) = bytes.split_at(bytes.len() - KEY_CHECK);
    checksum(body).as_bytes() == check
}

/// What of a key is stored for people to recognise it by: its beginning and its last four.
pub(crate) fn recognisable(text: &str) -> (String, String) {
    (
        text[..KEY_SHOWN].to_owned(),
        text[text.len() - 4..].to_owned(),
    )
}

/// SHA-256 of a secret.
pub(crate) fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// The CRC32 (IEEE) of some bytes in six base62 characters.
fn checksum(bytes: &[u8]) -> String {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ 0xEDB8_8320
            } else {
                crc >> 1
            };
        }
    }
    let mut rest = !crc;
    let mut text = [0_u8; KEY_CHECK];
    for place in text.iter_mut().rev() {
        *place = BASE62[(rest % 62) as usize];
        rest /= 62;
    }
    text.iter().map(|byte| char::from(*byte)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_key_is_recognised_without_a_look_up() {
        let key = new_key().unwrap();
        assert!(is_well_formed(&key), "{key}");

        for place in KEY_PREFIX.len()..key.len() {
            let mut typo = key.clone().into_bytes();
            typo[place] = if typo[place] == b'a' { b'b' } else { b'a' };
            assert!(
                !is_well_formed(std::str::from_utf8(&typo).unwrap()),
                "place {place}"
            );
        }
        assert!(!is_well_formed(&key[..key.len() - 1]));
        assert!(!is_well_formed("sk_live_"));
    }

    #[test]
    fn the_checksum_is_the_crc32_that_others_know() {
        // CRC-32/ISO-HDLC of "123456789" is 0xCBF43926.
        let expected = {
            let mut rest = 0xCBF4_3926_u32;
            let mut text = Vec::new();
            for _ in 0..KEY_CHECK {
                text.insert(0, char::from(BASE62[(rest % 62) as usize]));
                rest /= 62;
            }
            text.into_iter().collect::<String>()
        };

        assert_eq!(checksum(b"123456789"), expected);
    }

    #[test]
    fn two_secrets_are_never_alike() {
        assert_ne!(new_token().unwrap(), new_token().unwrap());
        assert_ne!(new_key().unwrap(), new_key().unwrap());
    }
}
