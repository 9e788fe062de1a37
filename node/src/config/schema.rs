//! Every setting: its key, what it may be, its default and what it is for.
//!
//! The list is the single place: checks, `zajil check` and `docs/CONFIGURATION.md` read it.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use zajil_actors::directory::AddressRange;

use super::units;

/// What a value may be.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Any text.
    Text,
    /// A folder or file; relative ones count from the working directory.
    Path,
    /// `host:port`; port 0 takes a free one.
    Address,
    /// A length of time within bounds.
    Duration(Duration, Duration),
    /// A size in bytes within bounds.
    Size(u64, u64),
    /// A whole number within bounds.
    Count(u64, u64),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// What the log shows: a level, or a list of `target=level`.
    Filter,
    /// IP addresses and networks with commas between; none is right, too.
    Networks,
    /// `host:port` with commas between; names are looked up when they are needed.
    Places,
}

impl Kind {
    /// Whether the text can be read as this kind and lies within its bounds.
    pub fn admits(self, text: &str) -> bool {
        match self {
            Self::Text => true,
            Self::Path => !text.is_empty(),
            Self::Address => address(text).is_some(),
            Self::Duration(least, most) => {
                units::parse_duration(text).is_some_and(|time| (least..=most).contains(&time))
            }
            Self::Size(least, most) => {
                units::parse_size(text).is_some_and(|size| (least..=most).contains(&size))
            }
            Self::Count(least, most) => text
                .parse()
                .is_ok_and(|count: u64| (least..=most).contains(&count)),
            Self::Choice(words) => words.contains(&text),
            Self::Filter => tracing_subscriber::EnvFilter::try_new(text).is_ok(),
            Self::Networks => networks(text).is_some(),
            Self::Places => places(text).is_some(),
        }
    }

    /// What a right value looks like.
    pub fn wanted(self) -> String {
        match self {
            Self::Text => "a text".to_owned(),
            Self::Path => "the path of a file or folder".to_owned(),
            Self::Address => "an address such as \"127.0.0.1:8080\"".to_owned(),
            Self::Duration(least, most) => format!(
                "a time from \"{}\" to \"{}\" (units ms, s, m, h, d)",
                units::show_duration(least),
                units::show_duration(most)
            ),
            Self::Size(least, most) => format!(
                "a size from \"{}\" to \"{}\" (units B, KiB, MiB, GiB)",
                units::show_size(least),
                units::show_size(most)
            ),
            Self::Count(least, most) => format!("a whole number from {least} to {most}"),
            Self::Choice(words) => format!("one of {}", words.join(", ")),
            Self::Filter => {
                "error, warn, info, debug or trace, or a list such as \"info,zajil_api=debug\""
                    .to_owned()
            }
            Self::Places => "addresses such as \"10.0.0.1:9042, db-2.example.com:9042\"".to_owned(),
            Self::Networks => {
                "addresses or networks such as \"10.0.0.0/8, 192.168.1.7\"".to_owned()
            }
        }
    }
}

/// Reads addresses and networks with commas between.
pub fn networks(text: &str) -> Option<Vec<AddressRange>> {
    let each = text.split(',').map(str::trim).filter(|it| !it.is_empty());
    each.map(|it| it.parse().ok()).collect()
}

/// Reads `host:port` with commas between, without looking names up.
pub fn places(text: &str) -> Option<Vec<String>> {
    let each = text.split(',').map(str::trim).filter(|it| !it.is_empty());
    let is_place = |place: &str| {
        let (host, port) = place.rsplit_once(':')?;
        let port: u16 = port.parse().ok()?;
        (!host.is_empty() && port > 0).then(|| place.to_owned())
    };
    each.map(is_place).collect()
}

/// Reads `host:port`, looking the name up where it is no IP address.
pub fn address(text: &str) -> Option<SocketAddr> {
    text.parse()
        .ok()
        .or_else(|| text.to_socket_addrs().ok()?.next())
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// `section.key`.
    pub key: &'static str,
    /// What its value may be.
    pub kind: Kind,
    /// Its value when nobody says otherwise; an empty one means "none".
    pub default: &'static str,
    /// Whether its value must never be shown.
    pub secret: bool,
    /// What it is for.
    pub about: &'static str,
}

const fn setting(
    key: &'static str,
    kind: Kind,
    default: &'static str,
    about: &'static str,
) -> Setting {
    Setting {
        key,
        kind,
        default,
        secret: false,
        about,
    }
}

const fn secret(key: &'static str, about: &'static str) -> Setting {
    Setting {
        key,
        kind: Kind::Text,
        default: "",
        secret: true,
        about,
    }
}

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

const fn days(n: u64) -> Duration {
    Duration::from_secs(n * 86_400)
}

/// Every setting, in the order in which they are shown.
pub const SETTINGS: &[Setting] = &[
    setting(
        "node.data_dir",
        Kind::Path,
        "zajil-data",
        "Where everything is kept. One running node per folder.",
    ),
    setting(
        "node.first_run",
        Kind::Choice(&["auto", "never"]),
        "auto",
        "On an empty store, with the API bound to loopback: make an account, a user, an API key \
         and a simulated instance, and tell how to use them.",
    ),
    setting(
        "node.drain_timeout",
        Kind::Duration(seconds(0), seconds(600)),
        "20s",
        "How long a stop waits for messages in flight.",
    ),
    setting(
        "api.listen",
        Kind::Address,
        "127.0.0.1:8080",
        "Where the Integration and the Dashboard API listen.",
    ),
    setting(
        "api.public_url",
        Kind::Text,
        "",
        "The address that clients know, such as https://api.example.com, for the links of pages; \
         without one it is the `Host` of the request.",
    ),
    setting(
        "api.trusted_proxies",
        Kind::Networks,
        "",
        "Proxies whose `X-Forwarded-For` is believed, such as \"10.0.0.0/8, 192.168.1.7\".",
    ),
    setting(
        "api.max_connections",
        Kind::Count(1, 1_000_000),
        "10000",
        "Connections at once; one more is answered 503 and closed.",
    ),
    setting(
        "api.max_in_flight",
        Kind::Count(1, 1_000_000),
        "4096",
        "Requests that are carried out at once; one more is answered 503.",
    ),
    setting(
        "api.max_body_bytes",
        Kind::Size(16 << 20, 64 << 30),
        "256MiB",
        "Bytes of large bodies held at once; one more is answered 503.",
    ),
    setting(
        "api.request_timeout",
        Kind::Duration(seconds(15), seconds(600)),
        "60s",
        "A request that is not answered after this is given up.",
    ),
    setting(
        "operations.listen",
        Kind::Address,
        "127.0.0.1:8081",
        "Where health, metrics and operator commands listen. Keep it private.",
    ),
    secret(
        "operations.token",
        "The operator token; without one it is made at the first start and kept in \
         `operator.token` in the data folder.",
    ),
    setting(
        "storage.retention",
        Kind::Duration(days(45), days(3_650)),
        "90d",
        "How long messages and their outcomes are kept; whole periods are dropped later.",
    ),
    setting(
        "storage.min_free",
        Kind::Size(16 << 20, 1 << 40),
        "",
        "With less than this free where the data is, messages are refused with 503 until there is \
         a quarter more; what happens to accepted ones is still written. Without it, 512MiB or a \
         twentieth of the disk, whichever is less.",
    ),
    setting(
        "storage.kind",
        Kind::Choice(&["embedded", "cql"]),
        "embedded",
        "Where state is kept: in the data folder of this one node, or in ScyllaDB (or another server \
         of its protocol), which several nodes share.",
    ),
    setting(
        "storage.contact_points",
        Kind::Places,
        "",
        "Some servers of the database; the others are found by themselves. For `cql`.",
    ),
    setting(
        "storage.keyspace",
        Kind::Text,
        "zajil",
        "The keyspace, made by the first node if there is none. For `cql`.",
    ),
    setting(
        "storage.replication",
        Kind::Count(1, 9),
        "3",
        "Copies of everything that the database keeps; a keyspace with fewer is refused. For `cql`.",
    ),
    setting(
        "storage.datacenter",
        Kind::Text,
        "",
        "The datacenter that is used, the same for all nodes; where there are several it has to be named. For `cql`.",
    ),
    setting(
        "storage.user",
        Kind::Text,
        "",
        "Who this node is to the database, where it asks. For `cql`.",
    ),
    secret("storage.password", "The password of that user. For `cql`."),
    setting(
        "cluster.id",
        Kind::Text,
        "zajil",
        "The name of the cluster, of a-z, 0-9 and -: nodes of another one are refused.",
    ),
    setting(
        "cluster.node",
        Kind::Count(1, 65_535),
        "",
        "The number of this node, its own for ever. Needed with `storage.kind = \"cql\"`.",
    ),
    setting(
        "cluster.gossip",
        Kind::Address,
        "127.0.0.1:7946",
        "Where this node hears of others (UDP).",
    ),
    setting(
        "cluster.link",
        Kind::Address,
        "127.0.0.1:7947",
        "Where other nodes ask this one (TCP).",
    ),
    setting(
        "cluster.advertise",
        Kind::Text,
        "",
        "The IP address under which other nodes reach this one, when it is not the one that it \
         listens on.",
    ),
    setting(
        "cluster.seeds",
        Kind::Places,
        "",
        "Where other nodes gossip: one that is up is enough.",
    ),
    setting(
        "cluster.keys",
        Kind::Path,
        "",
        "The folder of this node that `zajil cluster init` made. Needed unless both addresses are \
         loopback.",
    ),
    setting(
        "log.level",
        Kind::Filter,
        "info",
        "What the log shows. It never holds message texts; phone numbers are masked.",
    ),
    setting(
        "log.format",
        Kind::Choice(&["auto", "text", "json"]),
        "auto",
        "How log lines look; `auto` is text on a terminal and JSON elsewhere.",
    ),
];

/// The table of all settings, as Markdown.
pub fn table() -> String {
    let mut table =
        "| setting | default | what it may be | what it is for |\n|---|---|---|---|\n".to_owned();
    for it in SETTINGS {
        let default = if it.default.is_empty() {
            "none".to_owned()
        } else {
            format!("`{}`", it.default)
        };
        let row = format!(
            "| `{}` | {default} | {} | {} |\n",
            it.key,
            it.kind.wanted(),
            it.about
        );
        table.push_str(&row);
    }
    table
}

/// The setting of a key.
pub fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

/// The known key that a mistyped one most likely means.
pub fn nearest(key: &str) -> Option<&'static str> {
    let last = |key: &str| key.rsplit('.').next().map(str::to_owned);
    let far = |setting: &&Setting| {
        if last(setting.key) == last(key) {
            0
        } else {
            distance(setting.key, key)
        }
    };
    SETTINGS
        .iter()
        .min_by_key(far)
        .filter(|it| far(it) <= MOST_TYPOS)
        .map(|it| it.key)
}

/// A suggestion further away than this many edits would confuse more than it helps.
const MOST_TYPOS: usize = 3;

/// How many letters have to be put in, taken out or changed to get from one text to the other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut corner = i;
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let changed = corner + usize::from(a != *b);
            corner = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(corner + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_a_right_value() {
        for setting in SETTINGS.iter().filter(|it| !it.secret) {
            let fits = setting.default.is_empty() || setting.kind.admits(setting.default);
            assert!(fits, "{} = {}", setting.key, setting.default);
        }
    }

    #[test]
    fn a_mistyped_key_gets_the_one_that_was_meant() {
        assert_eq!(nearest("storage.retenton"), Some("storage.retention"));
        assert_eq!(nearest("retention"), Some("storage.retention"));
        assert_eq!(nearest("colour.of.the.pigeon"), None);
    }
}
