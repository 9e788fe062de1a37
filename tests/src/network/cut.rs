//! What of a network is cut, and the rules of `nft` that do it.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};

use crate::nodes::{GOSSIP, LINK};

/// Something that is cut; nodes are named by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// A node and the database do not hear each other.
    Database(u8),
    /// A node and all others do not hear each other's gossip.
    Gossip(u8),
    /// Nothing of the first node reaches the second one.
    Way(u8, u8),
    /// Of a hundred packets of others that reach a node, so many are lost: of gossip, and of the
    /// link.
    Loss {
        /// The node.
        node: u8,
        /// Of its gossip.
        gossip: u8,
        /// Of its link.
        link: u8,
    },
}

/// What rules are written for.
pub(super) struct Place<'p> {
    /// The address of a node.
    pub(super) address: &'p dyn Fn(u8) -> Ipv4Addr,
    /// How nodes reach the database.
    pub(super) ends: Ends,
}

/// How nodes reach the database: under the address that it has for everybody, from where their
/// machine leads them to a door.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    /// The door.
    pub(super) door: SocketAddr,
    /// The database.
    pub(super) database: SocketAddr,
}

impl Ends {
    /// The rules that lead a node there. Drivers insist on the address that a server names.
    pub(super) fn rules(self) -> String {
        let Self { door, database } = self;
        let (host, port) = (database.ip(), database.port());
        format!(
            "table ip database {{
            chain output {{
            type nat hook output priority -100;
            ip daddr {host} tcp dport {port} dnat to {door};
            }}
            chain postrouting {{
            type nat hook postrouting priority 100;
            oifname \"eth0\" ip saddr 127.0.0.0/8 masquerade;
            }}
            }}"
        )
    }
}

impl Cut {
    /// One of each kind.
    pub(super) const EACH: [Self; 4] = [
        Self::Database(1),
        Self::Gossip(1),
        Self::Way(2, 1),
        Self::Loss {
            node: 1,
            gossip: 30,
            link: 3,
        },
    ];

    /// What a node drops of what comes in. Packets between nodes are dropped by who gets them, so
    /// that who sends them does not notice.
    fn coming_in(self, node: u8, place: &Place<'_>) -> Vec<String> {
        let (host, port) = (place.ends.database.ip(), place.ends.database.port());
        match self {
            Self::Database(of) if of == node => {
                vec![format!("ip saddr {host} tcp sport {port} counter drop")]
            }
            Self::Gossip(of) if of == node => vec![format!("udp dport {GOSSIP} counter drop")],
            Self::Gossip(of) => {
                let from = (place.address)(of);
                vec![format!("ip saddr {from} udp dport {GOSSIP} counter drop")]
            }
            Self::Way(from, to) if to == node => {
                vec![format!("ip saddr {} counter drop", (place.address)(from))]
            }
            Self::Loss {
                node: at,
                gossip,
                link,
            } if at == node => vec![
                format!("udp dport {GOSSIP} {} counter drop", chance(gossip)),
                format!("tcp dport {LINK} {} counter drop", chance(link)),
                format!("tcp sport {LINK} {} counter drop", chance(link)),
            ],
            Self::Database(_) | Self::Way(..) | Self::Loss { .. } => Vec::new(),
        }
    }

    /// What a node drops of what goes out: the database is on no machine that could drop it.
    fn going_out(self, node: u8, place: &Place<'_>) -> Vec<String> {
        let (host, port) = (place.ends.door.ip(), place.ends.door.port());
        match self {
            Self::Database(of) if of == node => {
                vec![format!("ip daddr {host} tcp dport {port} counter drop")]
            }
            Self::Database(_) | Self::Gossip(_) | Self::Way(..) | Self::Loss { .. } => Vec::new(),
        }
    }
}

fn chance(percent: u8) -> String {
    format!("numgen random mod 100 < {percent}")
}

/// The rules of one node, which take the place of those it had.
pub(super) fn rules(node: u8, cuts: &[Cut], place: &Place<'_>) -> String {
    let coming_in = cuts.iter().flat_map(|cut| cut.coming_in(node, place));
    let going_out = cuts.iter().flat_map(|cut| cut.going_out(node, place));
    let hooks: [(_, Vec<_>); 2] = [
        ("input", coming_in.collect()),
        ("output", going_out.collect()),
    ];
    let mut text = "table inet cuts\ndelete table inet cuts\ntable inet cuts {\n".to_owned();
    for (hook, rules) in hooks {
        let lines = rules.join("\n");
        write!(
            text,
            "chain {hook} {{\ntype filter hook {hook} priority 0; policy accept;\n{lines}\n}}\n"
        )
        .expect("a text takes all");
    }
    text.push_str("}\n");
    text
}

/// How many packets rules dropped, as `nft` lists them.
pub(super) fn dropped(listed: &str) -> u64 {
    let counts = listed.split("counter packets ").skip(1);
    let count = |rest: &str| rest.split(' ').next()?.parse::<u64>().ok();
    counts.filter_map(count).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place<'static> {
        Place {
            address: &|number| Ipv4Addr::new(198, 18, 0, number),
            ends: Ends {
                door: SocketAddr::from(([198, 18, 0, 254], 4_000)),
                database: SocketAddr::from(([127, 0, 0, 1], 9_042)),
            },
        }
    }

    #[test]
    fn what_the_rules_dropped_is_added_up() {
        let place = place();

        let listed = rules(1, &Cut::EACH, &place);
        let counted = listed.replace("counter drop", "counter packets 2 bytes 180 drop");

        assert_eq!(listed.matches("counter drop").count(), 7);
        assert_eq!(dropped(&counted), 14);
        assert_eq!(dropped(&rules(1, &[], &place)), 0);
    }

    #[test]
    fn gossip_is_cut_at_both_ends_and_a_way_at_its_end() {
        let place = place();

        let [own, of_another] = [1, 2].map(|node| rules(node, &[Cut::Gossip(1)], &place));
        let [from, to] = [1, 2].map(|node| rules(node, &[Cut::Way(1, 2)], &place));

        assert!(own.contains("\nudp dport 7946 counter drop"), "{own}");
        assert!(of_another.contains("\nip saddr 198.18.0.1 udp dport 7946 counter drop"));
        assert!(!from.contains("drop"), "{from}");
        assert!(to.contains("\nip saddr 198.18.0.1 counter drop"), "{to}");
    }
}
