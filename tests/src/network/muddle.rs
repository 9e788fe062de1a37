//! Gossip that comes late, out of order and again.
//!
//! Between each two nodes every datagram goes by a socket at the switch, which keeps some back while
//! others pass, and sends some once more, some of them much later. Rules of `nft` lead datagrams there,
//! and take what comes from there for the other node's, so that nodes know nothing of it. The
//! kernel's own way to do this, `netem`, is a module that many kernels come without.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use parking_lot::Mutex;
use rand::Rng;
use rand::rngs::StdRng;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::nodes::GOSSIP;

/// Of a hundred datagrams so many are kept back, ...
const KEPT_BACK: u8 = 40;

/// ... and so many come once more.
const AGAIN: u8 = 40;

/// How long one is kept back at most: that of a few rounds of gossip, and far less than the silence
/// after which a node is taken for dead.
const KEPT_FOR: Duration = Duration::from_secs(1);

/// The most that one datagram can carry.
const LONGEST_DATAGRAM: usize = 65_507;

/// Nodes whose gossip goes this way, until it is [straightened](super::Network::straighten).
#[derive(Debug)]
pub struct Muddle {
    ways: Vec<Way>,
    /// No datagram is taken in any more; what is kept back goes out.
    end: CancellationToken,
    carrying: JoinSet<()>,
    done: Arc<Mutex<Done>>,
}

/// What was done to datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Datagrams that came.
    pub passed: u64,
    /// Of these, those that arrived after a later one of their node.
    pub overtaken: u64,
    /// Datagrams that were sent once more.
    pub again: u64,
}

/// Between two nodes.
#[derive(Clone, Copy, Debug)]
struct Way {
    ends: [SocketAddrV4; 2],
    /// The socket at the switch.
    by: SocketAddrV4,
}

impl Muddle {
    /// Opens a socket for each two of the nodes that have these addresses. What comes again comes
    /// within `latest`.
    pub(super) async fn open(
        switch: Ipv4Addr,
        nodes: &[Ipv4Addr],
        latest: Duration,
        dice: &mut StdRng,
    ) -> Result<Self> {
        let end = CancellationToken::new();
        let (mut ways, mut carrying) = (Vec::new(), JoinSet::new());
        let done = Arc::new(Mutex::new(Done::default()));
        for (n, one) in nodes.iter().enumerate() {
            for other in &nodes[n + 1..] {
                let socket = UdpSocket::bind((switch, 0)).await;
                let socket = Arc::new(socket.context("cannot open a socket for gossip")?);
                let ends = [*one, *other].map(|node| SocketAddrV4::new(node, GOSSIP));
                let by = SocketAddrV4::new(switch, socket.local_addr()?.port());
                ways.push(Way { ends, by });
                let carrier = Carrier {
                    socket,
                    ends,
                    latest,
                    done: done.clone(),
                    arrived: BTreeMap::new(),
                };
                let dice = rand::SeedableRng::from_rng(dice);
                carrying.spawn(carrier.carry(dice, end.clone()));
            }
        }
        Ok(Self {
            ways,
            end,
            carrying,
            done,
        })
    }

    /// The rules of the machine with this address.
    pub(super) fn rules(&self, node: Ipv4Addr) -> String {
        rules(node, &self.ways)
    }

    /// Takes nothing more in, and waits until everything that is kept back went out.
    pub(super) async fn end(self) -> Done {
        self.end.cancel();
        self.carrying.join_all().await;
        *self.done.lock()
    }
}

/// Rules that are in force no more.
pub(super) const STRAIGHT: &str = "table ip muddle\ndelete table ip muddle";

/// Rules that lead what goes out to the sockets, and give what comes from there the address of the
/// other node. Without tracking, which would keep the ways of before for as long as they are in use.
fn rules(node: Ipv4Addr, ways: &[Way]) -> String {
    let (mut out, mut back) = (String::new(), String::new());
    for Way { ends, by } in ways {
        let [one, other] = ends.map(|end| *end.ip());
        let far = match node {
            node if node == one => other,
            node if node == other => one,
            _ => continue,
        };
        let (at, port) = (by.ip(), by.port());
        writeln!(
            out,
            "ip daddr {far} udp dport {GOSSIP} ip daddr set {at} udp dport set {port} notrack"
        )
        .expect("a text takes all");
        writeln!(
            back,
            "ip saddr {at} udp sport {port} ip saddr set {far} udp sport set {GOSSIP} notrack"
        )
        .expect("a text takes all");
    }
    format!(
        "{STRAIGHT}\ntable ip muddle {{\n\
         chain out {{\ntype route hook output priority -300;\n{out}}}\n\
         chain back {{\ntype filter hook prerouting priority -300;\n{back}}}\n}}\n"
    )
}

/// Carries the datagrams of two nodes to each other.
struct Carrier {
    socket: Arc<UdpSocket>,
    ends: [SocketAddrV4; 2],
    latest: Duration,
    done: Arc<Mutex<Done>>,
    /// How many came from each end.
    arrived: BTreeMap<SocketAddr, u64>,
}

/// One datagram on its way.
struct Datagram {
    socket: Arc<UdpSocket>,
    bytes: Vec<u8>,
    to: SocketAddr,
    /// The how manyth of its end.
    number: u64,
    /// The highest number of its end that went on.
    went_on: Arc<Mutex<u64>>,
    done: Arc<Mutex<Done>>,
}

impl Carrier {
    async fn carry(mut self, mut dice: StdRng, end: CancellationToken) {
        let mut bytes = vec![0; LONGEST_DATAGRAM];
        let went_on: [Arc<Mutex<u64>>; 2] = Default::default();
        // There are as many as the nodes gossip in `latest`, which is a thousand or two.
        let mut under_way = JoinSet::new();
        while let Some(came) = end
            .run_until_cancelled(self.socket.recv_from(&mut bytes))
            .await
        {
            let Ok((length, from)) = came else { continue };
            let ends = self.ends.map(SocketAddr::from);
            let Some(at) = ends.iter().position(|end| *end == from) else {
                continue;
            };
            let number = self.arrived.entry(from).or_default();
            *number += 1;
            let datagram = Datagram {
                socket: self.socket.clone(),
                bytes: bytes[..length].to_vec(),
                to: ends[1 - at],
                number: *number,
                went_on: went_on[at].clone(),
                done: self.done.clone(),
            };
            let kept = chance(&mut dice, KEPT_BACK).then(|| within(&mut dice, KEPT_FOR));
            let again = chance(&mut dice, AGAIN).then(|| within(&mut dice, self.latest));
            under_way.spawn(datagram.travel(kept.unwrap_or_default(), again));
            while under_way.try_join_next().is_some() {}
        }
        under_way.join_all().await;
    }
}

impl Datagram {
    /// Arrives, and arrives again.
    async fn travel(self, kept: Duration, again: Option<Duration>) {
        tokio::time::sleep(kept).await;
        if self.arrive().await {
            let mut done = self.done.lock();
            let mut went_on = self.went_on.lock();
            done.passed += 1;
            done.overtaken += u64::from(*went_on > self.number);
            *went_on = self.number.max(*went_on);
        }
        let Some(again) = again else { return };
        tokio::time::sleep(again).await;
        if self.arrive().await {
            self.done.lock().again += 1;
        }
    }

    async fn arrive(&self) -> bool {
        self.socket.send_to(&self.bytes, self.to).await.is_ok()
    }
}

fn chance(dice: &mut StdRng, percent: u8) -> bool {
    dice.random_range(0..100) < percent
}

fn within(dice: &mut StdRng, most: Duration) -> Duration {
    most.mul_f64(dice.random())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_gossip_of_a_node_s_own_ways_is_led_elsewhere() {
        let [one, two, three] = [1, 2, 3].map(|n| Ipv4Addr::new(198, 18, 0, n));
        let way = |ends: [Ipv4Addr; 2], port| Way {
            ends: ends.map(|end| SocketAddrV4::new(end, GOSSIP)),
            by: SocketAddrV4::new(Ipv4Addr::new(198, 18, 0, 254), port),
        };
        let ways = [way([one, two], 4_000), way([two, three], 4_001)];

        let [first, second] = [one, two].map(|node| rules(node, &ways));

        assert_eq!(first.matches("ip daddr set").count(), 1, "{first}");
        assert!(first.contains(
            "ip daddr 198.18.0.2 udp dport 7946 ip daddr set 198.18.0.254 udp dport set 4000 notrack"
        ));
        assert!(second.contains(
            "ip saddr 198.18.0.254 udp sport 4001 ip saddr set 198.18.0.3 udp sport set 7946 notrack"
        ));
    }

    #[tokio::test]
    async fn a_datagram_arrives_at_the_other_end_and_some_come_again() {
        let ends = [
            UdpSocket::bind("127.0.0.1:0").await,
            UdpSocket::bind("127.0.0.1:0").await,
        ];
        let [one, other] = ends.map(|end| end.expect("a socket"));
        let v4 = |socket: &UdpSocket| match socket.local_addr() {
            Ok(SocketAddr::V4(at)) => at,
            odd => panic!("{odd:?}"),
        };
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.expect("a socket"));
        let by = socket.local_addr().expect("an address");
        let done = Arc::default();
        let carrier = Carrier {
            socket,
            ends: [v4(&one), v4(&other)],
            latest: Duration::from_millis(1),
            done: Arc::clone(&done),
            arrived: BTreeMap::new(),
        };
        let end = CancellationToken::new();
        let mut carrying = JoinSet::new();
        carrying.spawn(carrier.carry(rand::SeedableRng::seed_from_u64(1), end.clone()));

        for n in 0..20 {
            one.send_to(&[n], by).await.expect("it is sent");
        }
        let mut first = Vec::new();
        while first
            .iter()
            .collect::<std::collections::BTreeSet<_>>()
            .len()
            < 20
        {
            let mut byte = [0];
            let (_, from) = other.recv_from(&mut byte).await.expect("it arrives");
            assert_eq!(from, by);
            first.push(byte[0]);
        }
        end.cancel();
        carrying.join_all().await;

        let done = *done.lock();
        assert_eq!(done.passed, 20);
        assert!(done.overtaken > 0 && done.again > 0, "{done:?}");
    }
}
