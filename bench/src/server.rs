//! The CQL server that runs over several nodes use.
//!
//! One node that is started for the run and ended with it; or the server that `ZAJIL_TEST_CQL` names.

use anyhow::{Context, Result};
use zajil_tests_cql::{Cql, CqlServer, Plan};

/// A CQL server. One that was started for it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) cql: Cql,
    own: Option<CqlServer>,
}

impl Server {
    /// Starts one, and waits until it answers.
    pub(crate) async fn start() -> Result<Self> {
        if let Some(cql) = Cql::given() {
            return Ok(Self { cql, own: None });
        }
        let own = CqlServer::start("bench", Plan::one_node().fast())
            .await
            .context(
                "there is no CQL server to measure with, for the reason above: it needs a Java 17 \
                 and what `tests/cql/server install` fetches; or ZAJIL_TEST_CQL=HOST:PORT names one",
            )?;
        Ok(Self {
            cql: own.cql().clone(),
            own: Some(own),
        })
    }

    /// The process ids of one that was started; one that was given may be anywhere.
    pub(crate) fn processes(&self) -> Result<Vec<u32>> {
        let own = self.own.as_ref();
        own.map_or_else(|| Ok(Vec::new()), CqlServer::processes)
    }
}
