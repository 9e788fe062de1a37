//! `zajil cluster init`: what several nodes need to trust each other.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use zajil_cluster::link::ClusterId;
use zajil_cluster::link::pki::{self, MOST_NODES, NodeKeys};
use zajil_model::lease::NodeId;
use zajil_model::time::{Clock, Timestamp};

use crate::clock::SystemClock;
use crate::show;

/// Certificates end with the cluster and not before: ten years. Whoever wants less says so.
const DAYS: u32 = 3_650;

/// The longest that a certificate may be good, in days.
const MOST_DAYS: i64 = 36_500;

/// What to make.
#[derive(Args, Debug)]
pub struct InitArgs {
    /// Folder to write; with --add, the one that was written before.
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// How many nodes, numbered from 1.
    #[arg(long, value_name = "N", required_unless_present = "add",
          value_parser = clap::value_parser!(u64).range(1..=MOST_NODES))]
    pub nodes: Option<u64>,
    /// Add the node of this number to a cluster that was made before.
    #[arg(long, value_name = "N", conflicts_with_all = ["nodes", "name"],
          value_parser = clap::value_parser!(u64).range(1..))]
    pub add: Option<u64>,
    /// What the cluster is called: a-z, 0-9 and - [default: zajil- and a random number].
    #[arg(long, value_name = "NAME")]
    pub name: Option<ClusterId>,
    /// How many days the certificates are good.
    #[arg(long, value_name = "D", default_value_t = DAYS,
          value_parser = clap::value_parser!(u32).range(1..=MOST_DAYS))]
    pub days: u32,
}

/// Does it.
pub(super) fn run(args: InitArgs) -> Result<ExitCode> {
    let made = init(args, SystemClock::new().now())?;
    show::print(&made)?;
    Ok(ExitCode::SUCCESS)
}

/// Makes it, and answers what to tell.
fn init(args: InitArgs, now: Timestamp) -> Result<String> {
    let dir = &args.dir;
    let good_for = Duration::from_secs(u64::from(args.days) * 24 * 3_600);
    if let Some(node) = args.add {
        let made = pki::add(dir, NodeId(node), now, good_for)?;
        let cluster = pki::cluster_in(dir)?;
        return Ok(format!(
            "node {node} of cluster {cluster}:\n{}\n{}",
            lines(&[made]),
            bring_it()
        ));
    }
    let cluster = match args.name {
        Some(name) => name,
        None => pki::unique_id()?,
    };
    let nodes = pki::create(dir, &cluster, args.nodes.unwrap_or(1), now, good_for)?;
    Ok(format!(
        "cluster {cluster}, good for {} days:\n{}\n{}{}",
        args.days,
        lines(&nodes),
        bring_it(),
        keep_it(dir, nodes.len() + 1)
    ))
}

fn lines(nodes: &[NodeKeys]) -> String {
    nodes.iter().fold(String::new(), |mut text, made| {
        let (folder, name) = (made.folder.display(), &made.name);
        writeln!(text, "  {folder}  all that {name} needs").expect("a string takes everything");
        text
    })
}

fn bring_it() -> &'static str {
    "Next, for each node:\n  \
     1. Bring its folder to its machine, readable by the user that runs zajil alone.\n  \
     2. Make its cluster.toml the zajil.toml there (or a part of it), and set in it where the \
     folder, the database and the other nodes are.\n  \
     3. See with `zajil check` that nothing is missing, and start it: `zajil serve`.\n"
}

fn keep_it(dir: &Path, next: usize) -> String {
    format!(
        "Keep {dir}/ca-key.pem away from the nodes: whoever has it can make more of them. To add one \
         later:\n  zajil cluster init --dir {dir} --add {next}\n",
        dir = dir.display()
    )
}
