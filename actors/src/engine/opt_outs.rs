//! Opt-outs: durable first, then in force on every node that may send.

use std::collections::BTreeMap;

use zajil_model::barrier::{Answer, Confirmations};
use zajil_model::id::AccountId;
use zajil_model::lease::{NodeId, NodeRow};
use zajil_model::phone::Phone;

use crate::directory::{DirectoryError, Suppression};
use crate::engine::Engine;
use crate::engine::instances::{CONFIRM_WITHIN, ask};
use crate::instance::InstanceMsg;
use crate::owners::questions::OptedOut;
use crate::send::{Barrier, EngineError};

impl Engine {
    /// Opts a recipient out; once confirmed, nothing new is handed over to them.
    ///
    /// # Errors
    /// When the entry could not be made durable.
    pub async fn suppress(
        &self,
        account: AccountId,
        phone: Phone,
        reason: Option<String>,
        source: String,
    ) -> Result<Barrier, EngineError> {
        let created_at = self.clock().now();
        let entry = Suppression {
            phone,
            reason,
            source,
            created_at,
        };
        self.directory()
            .suppress(account, entry)
            .await
            .map_err(|error| match error {
                DirectoryError::Store(error) => EngineError::Store(error),
                _ => EngineError::Unavailable("the opt-out was not taken"),
            })?;
        self.opted_out(account, phone).await
    }

    /// Opts a recipient in again; answers whether they were out.
    ///
    /// # Errors
    /// When it could not be made durable.
    pub async fn unsuppress(
        &self,
        account: AccountId,
        phone: Phone,
    ) -> Result<bool, DirectoryError> {
        let were_out = self.directory().unsuppress(account, phone).await?;
        if were_out {
            // Who did not hear of it goes on holding back, until it reads the list again.
            drop(self.opted_out(account, phone).await);
        }
        Ok(were_out)
    }

    /// An opt-out is durable, or is taken back: every node that may send hears of it, and confirms
    /// that nothing is outstanding that was cleared before.
    async fn opted_out(&self, account: AccountId, phone: Phone) -> Result<Barrier, EngineError> {
        let question = OptedOut { account, phone };
        let me = self.ownership().me();
        let mut asked = Confirmations::wanted(&self.lease_rows().await?);
        let wanted: Vec<_> = asked.missing().collect();
        let question = &question;
        let others = wanted.into_iter().map(|(node, life)| async move {
            if node == me {
                // What is missing here is told by name below.
                return (node, life, Some(Vec::new()));
            }
            let told = self.0.owners.ask_node(node, question, CONFIRM_WITHIN).await;
            (node, life, told.ok())
        });
        let others = futures_util::future::join_all(others);
        let (mut missing, told) = tokio::join!(self.opted_out_here(account, phone), others);
        for (node, life, told) in told {
            if let Some(instances) = told {
                asked.confirmed(node, life);
                missing.extend(instances);
            }
        }
        if asked.answer() != Answer::Done {
            // Nobody waits for a life that is over by now.
            let rows = self.lease_rows().await.unwrap_or_default();
            rows.iter().for_each(|(node, row)| asked.saw(*node, row));
        }
        let silent = asked.missing().map(|(node, _)| format!("node {}", node.0));
        missing.extend(silent);
        Ok(Barrier { missing })
    }

    /// The lease rows of all nodes, read now: one that joined just before is among them. None on a
    /// node alone.
    async fn lease_rows(&self) -> Result<BTreeMap<NodeId, NodeRow>, EngineError> {
        let Some(cluster) = self.cluster() else {
            return Ok(BTreeMap::new());
        };
        let unread = |_| EngineError::Unavailable("the nodes cannot be read");
        cluster.lease_rows().await.map_err(unread)
    }

    /// Puts an opt-out in force on this node; answers which instances did not confirm.
    pub(super) async fn opted_out_here(&self, account: AccountId, phone: Phone) -> Vec<String> {
        if let Err(error) = self.directory().heard_of_opt_out(account, phone).await {
            tracing::error!(%account, %error, "an opt-out is not in force here");
            return vec![format!("node {}", self.ownership().me().0)];
        }
        let running = self.0.router.all();
        let of_account = running
            .into_iter()
            .filter(|handle| handle.account() == account);
        let asked = of_account.map(|handle| async move {
            // An actor that is not there hands nothing over, and reads the list when it starts.
            let confirmed =
                handle.actor().is_none() || ask(&handle, InstanceMsg::Barrier).await.is_some();
            (handle, confirmed)
        });
        let answers = futures_util::future::join_all(asked).await;
        let mut missing = Vec::new();
        for (handle, _) in answers.into_iter().filter(|(_, confirmed)| !confirmed) {
            let id = handle.instance();
            let known = self.instance(id).await.ok().flatten();
            missing.push(known.map_or_else(|| id.to_string(), |known| known.name.clone()));
        }
        missing
    }
}
