//! A network for the nodes of a scenario: each is a machine of its own, in a network namespace, with
//! one cable to a switch. Cables can be [cut](Cut) in part.
//!
//! The scenario itself stands at the switch, under an address of its own: there it reaches every
//! node, the made-up WhatsApp listens, and a [door](Door) leads to the database. It needs root, `ip` and
//! `nft`; where it cannot be made, [`Network::start`] says so and there is none.
//!
//! There is one at a time on a machine: its processes want all the cores. It goes with its value,
//! also when a test fails; what a killed test left is swept away by the next one.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::cql::Cql;
use crate::form::skipped;

mod cut;
mod door;
mod muddle;
mod tools;

pub use cut::Cut;
pub use muddle::{Done, Muddle};

use cut::{Ends, Place};
use door::Door;
use tools::{ip, ip_now, nft, nft_list};

/// Whoever holds a lock on it may have a network.
const TURN: &str = "/run/zajil-test-network.lock";

/// Before the number of the process that made it: what namespaces and cables are called by. The
/// name of a cable has 15 letters at most.
const PREFIX: &str = "zj";

/// The machines that a network has cables for.
const HOSTS: u8 = 3;

/// The last part of the address of the scenario itself.
const SWITCH: u8 = 254;

/// A machine on a network.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its network namespace.
    pub namespace: String,
    /// Its address.
    pub address: Ipv4Addr,
}

/// A network of [`HOSTS`] machines, counted from 1.
#[derive(Debug)]
pub struct Network {
    name: String,
    /// The first three parts of its addresses.
    subnet: [u8; 3],
    door: Door,
    cuts: Mutex<Vec<Cut>>,
    _remains: Remains,
    _turn: File,
}

impl Network {
    /// Makes one from which the database can be reached; nothing where the machine refuses, which
    /// is then said.
    ///
    /// # Errors
    /// It began and did not come to its end.
    pub async fn start(test: &str, cql: &Cql) -> Result<Option<Self>> {
        let turn = match turn().await {
            Ok(turn) => turn,
            Err(why) => return Ok(refused(test, &why)),
        };
        sweep();
        let name = format!("{PREFIX}{}", std::process::id());
        let remains = Remains(name.clone());
        let database = database(cql).await?;
        if let Err(why) = probe(&name, database).await {
            return Ok(refused(test, &why));
        }
        let mut dice = StdRng::from_os_rng();
        // Of the addresses that are set aside for tests of networks.
        let subnet = [198, dice.random_range(18..=19), dice.random()];
        lay(&name, subnet).await?;
        let switch = SocketAddr::new(address(subnet, SWITCH).into(), 0);
        let door = Door::open(switch, database).await?;
        for number in 1..=HOSTS {
            nft(&namespace(&name, number), &door.ends().rules()).await?;
        }
        Ok(Some(Self {
            name,
            subnet,
            door,
            cuts: Mutex::default(),
            _remains: remains,
            _turn: turn,
        }))
    }

    /// The machine of this number.
    pub fn host(&self, number: u8) -> Host {
        Host {
            namespace: namespace(&self.name, number),
            address: address(self.subnet, number),
        }
    }

    /// Where the scenario is.
    pub fn switch(&self) -> IpAddr {
        address(self.subnet, SWITCH).into()
    }

    /// Cuts something, beside what is cut already.
    ///
    /// # Errors
    /// The rules are refused.
    pub async fn cut(&self, cut: Cut) -> Result<()> {
        println!("cut: {cut:?}");
        self.cuts.lock().push(cut);
        self.rule().await
    }

    /// Mends what was cut so.
    ///
    /// # Errors
    /// The rules are refused.
    pub async fn heal(&self, cut: Cut) -> Result<()> {
        println!("healed: {cut:?}");
        self.cuts.lock().retain(|other| *other != cut);
        self.rule().await
    }

    /// How many packets were lost by what is cut, since something was cut or mended.
    ///
    /// # Errors
    /// The rules cannot be listed.
    pub async fn dropped(&self) -> Result<u64> {
        let mut dropped = 0;
        for number in 1..=HOSTS {
            let host = namespace(&self.name, number);
            dropped += cut::dropped(&nft_list(&host, "inet", "cuts").await?);
        }
        Ok(dropped)
    }

    /// Muddles all gossip up: some datagrams arrive after later ones, some come again, within
    /// `latest`.
    ///
    /// # Errors
    /// The rules are refused.
    pub async fn muddle(&self, latest: Duration, dice: &mut StdRng) -> Result<Muddle> {
        let nodes: Vec<_> = (1..=HOSTS)
            .map(|number| address(self.subnet, number))
            .collect();
        let switch = address(self.subnet, SWITCH);
        let muddle = Muddle::open(switch, &nodes, latest, dice).await?;
        for number in 1..=HOSTS {
            let rules = muddle.rules(address(self.subnet, number));
            nft(&namespace(&self.name, number), &rules).await?;
        }
        Ok(muddle)
    }

    /// Gossip goes straight again; waits until everything that is to come again came. Answers what
    /// was done to it.
    ///
    /// # Errors
    /// The rules are refused.
    pub async fn straighten(&self, muddle: Muddle) -> Result<Done> {
        for number in 1..=HOSTS {
            nft(&namespace(&self.name, number), muddle::STRAIGHT).await?;
        }
        Ok(muddle.end().await)
    }

    /// Puts the rules of each machine in force.
    async fn rule(&self) -> Result<()> {
        let cuts = self.cuts.lock().clone();
        let place = Place {
            address: &|number| address(self.subnet, number),
            ends: self.door.ends(),
        };
        for number in 1..=HOSTS {
            let rules = cut::rules(number, &cuts, &place);
            nft(&namespace(&self.name, number), &rules).await?;
        }
        Ok(())
    }
}

fn refused<T>(test: &str, why: &anyhow::Error) -> Option<T> {
    skipped(
        test,
        &format!("this machine gives no network namespaces: {why:#}"),
    );
    None
}

fn namespace(name: &str, number: u8) -> String {
    format!("{name}-{number}")
}

fn cable(name: &str, number: u8) -> String {
    format!("{name}c{number}")
}

fn switch(name: &str) -> String {
    format!("{name}s")
}

const fn address([a, b, c]: [u8; 3], number: u8) -> Ipv4Addr {
    Ipv4Addr::new(a, b, c, number)
}

/// Waits for the turn of this process; it lasts as long as the file.
async fn turn() -> Result<File> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(TURN)
        .with_context(|| format!("cannot open {TURN}"))?;
    let waiting = tokio::task::spawn_blocking(move || file.lock().map(|()| file));
    waiting
        .await?
        .with_context(|| format!("cannot lock {TURN}"))
}

/// The address of a server of the database, as it names it itself.
async fn database(cql: &Cql) -> Result<SocketAddr> {
    let named = &cql.contact_points()[0];
    let mut found = tokio::net::lookup_host(named).await?;
    let v4 = found.find(SocketAddr::is_ipv4);
    v4.with_context(|| format!("{named} has no address of version 4"))
}

/// Finds out, with the first namespace, whether this machine lets networks be made and cut.
async fn probe(name: &str, database: SocketAddr) -> Result<()> {
    let first = namespace(name, 1);
    ip(&["link", "add", &switch(name), "type", "bridge"]).await?;
    ip(&["netns", "add", &first]).await?;
    let place = Place {
        address: &|number| Ipv4Addr::new(198, 18, 0, number),
        ends: Ends {
            door: SocketAddr::from(([198, 18, 0, SWITCH], 1)),
            database,
        },
    };
    nft(&first, &place.ends.rules()).await?;
    nft(&first, "delete table ip database").await?;
    nft(&first, &cut::rules(1, &Cut::EACH, &place)).await?;
    nft(&first, &cut::rules(1, &[], &place)).await
}

/// Lays the cables of all machines.
async fn lay(name: &str, subnet: [u8; 3]) -> Result<()> {
    let switch = switch(name);
    let own = format!("{}/24", address(subnet, SWITCH));
    ip(&["address", "add", &own, "dev", &switch]).await?;
    ip(&["link", "set", &switch, "up"]).await?;
    for number in 1..=HOSTS {
        let (host, cable) = (namespace(name, number), cable(name, number));
        if number > 1 {
            ip(&["netns", "add", &host]).await?;
        }
        let own = format!("{}/24", address(subnet, number));
        ip(&[
            "link", "add", &cable, "type", "veth", "peer", "name", "eth0", "netns", &host,
        ])
        .await?;
        ip(&["link", "set", &cable, "master", &switch, "up"]).await?;
        ip(&["-n", &host, "address", "add", &own, "dev", "eth0"]).await?;
        ip(&["-n", &host, "link", "set", "eth0", "up"]).await?;
        let switch = address(subnet, SWITCH).to_string();
        ip(&["-n", &host, "route", "add", "default", "via", &switch]).await?;
        // What comes from the database comes from there, under an address of loopback.
        let admit = "echo 1 >/proc/sys/net/ipv4/conf/eth0/route_localnet";
        ip(&["netns", "exec", &host, "sh", "-c", admit]).await?;
        // The sealed gossip opens its datagrams by a pair of sockets there.
        ip(&["-n", &host, "link", "set", "lo", "up"]).await?;
    }
    Ok(())
}

/// Takes away what processes left that are gone.
fn sweep() {
    let left = fs::read_dir("/run/netns").into_iter().flatten();
    let names: BTreeSet<_> = left
        .filter_map(|entry| {
            let file = entry.ok()?.file_name();
            let (name, _) = file.to_str()?.split_once('-')?;
            let process: u32 = name.strip_prefix(PREFIX)?.parse().ok()?;
            let gone = !Path::new("/proc").join(process.to_string()).exists();
            gone.then(|| name.to_owned())
        })
        .collect();
    for name in names {
        println!("a network was left behind: {name}");
        drop(Remains(name));
    }
}

/// What has to be taken away of the network of this name.
#[derive(Debug)]
struct Remains(String);

impl Drop for Remains {
    fn drop(&mut self) {
        let Self(name) = self;
        // Without its cable a namespace holds nothing that takes its time to go.
        for number in 1..=HOSTS {
            let (cable, namespace) = (cable(name, number), namespace(name, number));
            if is_there(&cable) {
                told(ip_now(&["link", "delete", &cable]));
            }
            if Path::new("/run/netns").join(&namespace).exists() {
                told(ip_now(&["netns", "delete", &namespace]));
            }
        }
        let switch = switch(name);
        if is_there(&switch) {
            told(ip_now(&["link", "delete", &switch]));
        }
    }
}

fn is_there(link: &str) -> bool {
    Path::new("/sys/class/net").join(link).exists()
}

fn told(done: Result<()>) {
    if let Err(why) = done {
        println!("something of a network stays: {why:#}");
    }
}
