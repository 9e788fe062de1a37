//! Nodes that a test may kill.

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::Cql;
use crate::script::{script, script_now};

/// What a test's own nodes are to be like.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    nodes: u8,
    commit_log: CommitLog,
    speed: Speed,
}

/// What a node is started for.
#[derive(Clone, Copy, Debug)]
enum Speed {
    /// To be there soon, and small: as tests want it.
    Soon,
    /// To be as fast as it can, once it is warm.
    Fast,
}

/// The Java heap of a fast node, in MiB: an eighth of a large machine, and enough that collecting
/// does not hold it up.
const FAST_HEAP: &str = "2048";

/// When a node writes its log.
#[derive(Clone, Copy, Debug)]
pub enum CommitLog {
    /// Before it answers, into the system's memory: a kill of the node loses nothing, a power cut
    /// would.
    Batch,
    /// As servers are set by default: a kill of the node loses what the last tenth of a second
    /// brought to it.
    Periodic,
    /// Before it answers, and onto the disk.
    Group,
}

impl Plan {
    /// A single node.
    pub const fn one_node() -> Self {
        Self {
            nodes: 1,
            commit_log: CommitLog::Batch,
            speed: Speed::Soon,
        }
    }

    /// Three nodes, each with a copy of everything.
    pub const fn three_nodes() -> Self {
        Self {
            nodes: 3,
            ..Self::one_node()
        }
    }

    /// The nodes are as fast as they can be, and take longer to start: for who measures beside them.
    #[must_use]
    pub const fn fast(mut self) -> Self {
        self.speed = Speed::Fast;
        self
    }

    /// The nodes write their logs like this.
    #[must_use]
    pub const fn commit_log(mut self, commit_log: CommitLog) -> Self {
        self.commit_log = commit_log;
        self
    }
}

/// Nodes of one test's own, counted from 1. They end when this is dropped.
#[derive(Debug)]
pub struct CqlServer {
    cql: Cql,
    folder: TempDir,
}

impl CqlServer {
    /// Starts nodes, and waits until each answers and sees all others; nothing where a test cannot
    /// have them, which is then said.
    ///
    /// # Panics
    /// They do not start, or cannot where they have to.
    pub async fn start(test: &str, plan: Plan) -> Option<Self> {
        let folder = TempDir::with_prefix("zajil-cql-").expect("a folder for the nodes");
        let this = std::process::id().to_string();
        let commit_log = match plan.commit_log {
            CommitLog::Batch => "batch",
            CommitLog::Periodic => "periodic",
            CommitLog::Group => "group",
        };
        let nodes = plan.nodes.to_string();
        let mut words = vec!["start", "--dir", path(&folder), "--for", &this];
        words.extend(["--nodes", &nodes, "--commitlog", commit_log]);
        if let Speed::Fast = plan.speed {
            words.extend(["--jit", "full", "--heap", FAST_HEAP]);
        }
        let said = script(&words).await;
        Some(Self {
            cql: Cql::from_said(test, said, plan.nodes)?,
            folder,
        })
    }

    /// Where its nodes answer.
    pub const fn cql(&self) -> &Cql {
        &self.cql
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// The script fails.
    pub async fn kill(&self, node: u8) -> Result<()> {
        self.tell("kill", node).await
    }

    /// The node stops where it is: connections stay open and nothing is answered.
    ///
    /// # Errors
    /// The script fails.
    pub async fn freeze(&self, node: u8) -> Result<()> {
        self.tell("freeze", node).await
    }

    /// A frozen node goes on.
    ///
    /// # Errors
    /// The script fails.
    pub async fn thaw(&self, node: u8) -> Result<()> {
        self.tell("thaw", node).await
    }

    /// A node that was killed starts with the data it had. Waits until it answers and has the
    /// tables that the others have, and until all see each other, unless another one is away.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start_again(&self, node: u8) -> Result<()> {
        self.tell("start", node).await
    }

    /// The process ids of its nodes.
    ///
    /// # Errors
    /// The script did not note them.
    pub fn processes(&self) -> Result<Vec<u32>> {
        let nodes = 1..=self.cql.contact_points().len();
        let process = |node| {
            let file = self.folder.path().join(format!("node{node}/pid"));
            let text = std::fs::read_to_string(&file);
            let text = text.with_context(|| format!("cannot read {}", file.display()))?;
            text.trim().parse().context("it is no process id")
        };
        nodes.map(process).collect()
    }

    async fn tell(&self, what: &str, node: u8) -> Result<()> {
        let node = node.to_string();
        script(&[what, "--dir", path(&self.folder), "--node", &node])
            .await
            .with_context(|| format!("{what} of CQL node {node}"))?;
        Ok(())
    }
}

impl Drop for CqlServer {
    fn drop(&mut self) {
        // Whatever is left ends with the process.
        if let Err(why) = script_now(&["kill", "--dir", path(&self.folder)]) {
            println!("CQL nodes stay: {why}");
        }
    }
}

fn path(folder: &TempDir) -> &str {
    let path = folder.path().to_str();
    path.expect("temporary folders have names in plain letters")
}
