//! What a node tells of itself, as the few short texts that gossip carries.
//!
//! They come from another program of maybe another version, so they are parsed strictly: a peer
//! that lacks one, or says something that cannot be, does not count as alive.

use std::fmt::Display;
use std::net::SocketAddr;
use std::str::FromStr;

use zajil_model::lease::{Incarnation, NodeId};

use super::{Peer, Protocols};

/// More than any version of ours has; what is longer is none.
const LONGEST_VERSION: usize = 32;

const LINK: &str = "link";
const API: &str = "api";
const LEASE: &str = "lease";
const DRAINING: &str = "draining";
const SHARDS: &str = "shards";
const PROTOCOLS: &str = "protocols";
const VERSION: &str = "version";

/// Why a peer is not counted as alive although it is heard.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAPeer {
    /// Not all of what it says has arrived.
    #[error("it has not said its `{0}` yet")]
    Silent(&'static str),
    /// It says something that cannot be.
    #[error("its `{0}` cannot be read")]
    Unreadable(&'static str),
}

/// The texts of a node, by their keys.
pub fn written(peer: &Peer) -> Vec<(String, String)> {
    let Protocols { oldest, newest } = peer.protocols;
    let texts = [
        (LINK, Some(peer.link.to_string())),
        (API, peer.api.map(|address| address.to_string())),
        (LEASE, Some(peer.lease_sequence.to_string())),
        (DRAINING, Some(u8::from(peer.draining).to_string())),
        (SHARDS, Some(peer.shards_version.to_string())),
        (PROTOCOLS, Some(format!("{oldest}-{newest}"))),
        (VERSION, Some(peer.version.clone())),
    ];
    let said = texts
        .into_iter()
        .filter_map(|(key, text)| Some((key.to_owned(), text?)));
    said.collect()
}

/// The name of a node as gossip carries it.
pub fn written_name(node: NodeId) -> String {
    node.0.to_string()
}

/// A peer from its name, its incarnation and its texts.
///
/// # Errors
/// What is missing or wrong.
pub fn read<'a>(
    name: &str,
    incarnation: Incarnation,
    text: impl Fn(&str) -> Option<&'a str>,
) -> Result<Peer, NotAPeer> {
    let said = |key| text(key).ok_or(NotAPeer::Silent(key));
    let (oldest, newest) = said(PROTOCOLS)?
        .split_once('-')
        .ok_or(NotAPeer::Unreadable(PROTOCOLS))?;
    let peer = Peer {
        node: NodeId(exact("name", name)?),
        incarnation,
        link: reachable(LINK, said(LINK)?)?,
        api: text(API)
            .map(|address| reachable(API, address))
            .transpose()?,
        lease_sequence: exact(LEASE, said(LEASE)?)?,
        draining: flag(DRAINING, said(DRAINING)?)?,
        shards_version: exact(SHARDS, said(SHARDS)?)?,
        protocols: Protocols {
            oldest: exact(PROTOCOLS, oldest)?,
            newest: exact(PROTOCOLS, newest)?,
        },
        version: said(VERSION)?.to_owned(),
    };
    checked(peer)
}

fn checked(peer: Peer) -> Result<Peer, NotAPeer> {
    let printable = peer.version.bytes().all(|byte| byte.is_ascii_graphic());
    let length = 1..=LONGEST_VERSION;
    if !printable || !length.contains(&peer.version.len()) {
        return Err(NotAPeer::Unreadable(VERSION));
    }
    if peer.protocols.oldest > peer.protocols.newest {
        return Err(NotAPeer::Unreadable(PROTOCOLS));
    }
    Ok(peer)
}

fn flag(key: &'static str, text: &str) -> Result<bool, NotAPeer> {
    match text {
        "0" => Ok(false),
        "1" => Ok(true),
        _ => Err(NotAPeer::Unreadable(key)),
    }
}

/// A value that reads back as the very text: no sign, no leading zero, no space.
fn exact<T: FromStr + Display>(key: &'static str, text: &str) -> Result<T, NotAPeer> {
    let value = text.parse::<T>().ok();
    value
        .filter(|value| value.to_string() == text)
        .ok_or(NotAPeer::Unreadable(key))
}

/// An address that somebody else can dial.
fn reachable(key: &'static str, text: &str) -> Result<SocketAddr, NotAPeer> {
    let address = exact::<SocketAddr>(key, text)?;
    let named = !address.ip().is_unspecified() && address.port() != 0;
    named.then_some(address).ok_or(NotAPeer::Unreadable(key))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::tests::peer;
    use super::*;

    fn read_texts(texts: &BTreeMap<String, String>) -> Result<Peer, NotAPeer> {
        read("7", Incarnation(3), |key| {
            texts.get(key).map(String::as_str)
        })
    }

    fn texts() -> BTreeMap<String, String> {
        written(&peer(7, 3)).into_iter().collect()
    }

    #[test]
    fn a_peer_is_read_as_it_was_written() {
        let mut said = peer(7, 3);
        said.api = Some(SocketAddr::from(([10, 0, 0, 1], 8080)));
        (said.lease_sequence, said.shards_version, said.draining) = (u64::MAX, 12, true);

        let texts = written(&said).into_iter().collect();

        assert_eq!(read_texts(&texts), Ok(said));
    }

    #[test]
    fn a_peer_of_which_not_all_has_arrived_is_not_one_yet() {
        for key in [LINK, LEASE, DRAINING, SHARDS, PROTOCOLS, VERSION] {
            let mut texts = texts();
            texts.remove(key);

            assert_eq!(read_texts(&texts), Err(NotAPeer::Silent(key)));
        }
    }

    #[test]
    fn what_cannot_be_is_not_read() {
        let wrong: [(&'static str, &[&str]); 7] = [
            (
                LINK,
                &[
                    "",
                    "node-3:7000",
                    "0.0.0.0:7000",
                    "10.0.0.1:0",
                    " 10.0.0.1:1",
                ],
            ),
            (API, &["", "here", "[::]:80"]),
            (LEASE, &["", "-1", "+1", "01", "1 ", "18446744073709551616"]),
            (DRAINING, &["", "2", "true", "01"]),
            (SHARDS, &["", "x", "1.0"]),
            (PROTOCOLS, &["", "1", "2-1", "1-", "-1", "1-65536", "1-2-3"]),
            (
                VERSION,
                &[
                    "",
                    "a b",
                    "\u{1b}[31m",
                    "0123456789012345678901234567890123",
                ],
            ),
        ];
        for (key, values) in wrong {
            for value in values {
                let mut texts = texts();
                texts.insert(key.to_owned(), (*value).to_owned());

                assert_eq!(
                    read_texts(&texts),
                    Err(NotAPeer::Unreadable(key)),
                    "{value:?}"
                );
            }
        }
    }

    #[test]
    fn a_name_that_is_no_number_is_not_read() {
        let texts = texts();
        let read = read("node-7", Incarnation(3), |key| {
            texts.get(key).map(String::as_str)
        });

        assert_eq!(read, Err(NotAPeer::Unreadable("name")));
    }
}
