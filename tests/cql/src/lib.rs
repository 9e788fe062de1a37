//! A real CQL server for tests: where one answers, and nodes of a test's own that it may kill.
//!
//! The script `server` beside this does the work; here it gets a place in the test language. A
//! package of its own, without anything of the engine in it, so that the crates below the engine
//! can test with it too.
//!
//! **One server for all.** [`Cql::shared`] is the same single node for every test of every test
//! binary that runs in the same target folder. The script starts it for whoever asks first, notes
//! the process that asked, and ends it half a minute after the last such process is gone, however
//! that ended. So nobody has to count, nothing is kept in a static, and one test binary after the
//! other finds it warm. Each test has a keyspace of its own on it ([`Cql::keyspace`]).
//!
//! **Nodes of one's own.** [`CqlServer`] is one node or three that a test may kill, freeze and
//! start again. They end when it is dropped, or when the process is gone.
//!
//! `ZAJIL_TEST_CQL=HOST:PORT[,HOST:PORT ...]` puts another server in the place of the shared one,
//! such as a ScyllaDB. Where no server can run (no Java 17, no Maven), a test says so and does
//! nothing, unless `CI=true` or `ZAJIL_TEST_REQUIRE_CQL=1` is set: then it fails.

mod keyspace;
mod own;
mod script;

pub use keyspace::Keyspace;
pub use own::{CommitLog, CqlServer, Plan};

use script::{Refusal, script, setting};

/// A CQL server's nodes, as a client sees them.
#[derive(Clone, Debug)]
pub struct Cql {
    contact_points: Vec<String>,
    replicas: u8,
}

impl Cql {
    /// One node that all tests share; nothing where a test cannot have one, which is then said.
    ///
    /// # Panics
    /// It does not start, or cannot where it has to.
    pub async fn shared(test: &str) -> Option<Self> {
        if let Some(given) = Self::given() {
            return Some(given);
        }
        let this = std::process::id().to_string();
        let said = script(&["share", "--for", &this]).await;
        Self::from_said(test, said, 1)
    }

    /// The server that `ZAJIL_TEST_CQL` names, if it names one.
    pub fn given() -> Option<Self> {
        setting("ZAJIL_TEST_CQL").map(|given| Self {
            contact_points: given.split(',').map(|at| at.trim().to_owned()).collect(),
            // A foreign server may have a single node.
            replicas: 1,
        })
    }

    /// Each node as `HOST:PORT`, the first one first.
    pub fn contact_points(&self) -> &[String] {
        &self.contact_points
    }

    /// How many copies a keyspace here can have, one on each node.
    pub const fn replicas(&self) -> u8 {
        self.replicas
    }

    /// A name for a keyspace that nobody else uses. Whoever wants the keyspace makes it; it is
    /// dropped with this value.
    pub fn keyspace(&self, about: &str) -> Keyspace {
        Keyspace::fresh(about, &self.contact_points[0])
    }

    /// Has a node run a statement, without a driver; the node counts from 1. The answer's rows are
    /// not read.
    ///
    /// # Errors
    /// The node refuses it, or does not answer in 10 s.
    ///
    /// # Panics
    /// There is no such node.
    pub async fn run(&self, node: usize, statement: &str) -> anyhow::Result<()> {
        let at = &self.contact_points[node - 1];
        script(&["query", "--at", at, "--text", statement]).await?;
        Ok(())
    }

    /// What the script said after a start: contact points, or why not.
    fn from_said(test: &str, said: Result<String, Refusal>, replicas: u8) -> Option<Self> {
        match said {
            Ok(lines) => Some(Self {
                contact_points: lines.lines().map(str::to_owned).collect(),
                replicas,
            }),
            Err(Refusal::Missing(why)) if !is_required() => {
                println!("SKIPPED: {test}: {why}");
                None
            }
            Err(why) => panic!("{test}: {why}"),
        }
    }
}

/// Whether a machine that cannot run the server fails the tests that need one.
fn is_required() -> bool {
    let is_set = |name| setting(name).is_some_and(|value| !["", "0", "false"].contains(&&*value));
    is_set("CI") || is_set("ZAJIL_TEST_REQUIRE_CQL")
}
