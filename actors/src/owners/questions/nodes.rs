//! What is asked of a node, whatever it owns.

use serde::{Deserialize, Serialize};
use zajil_cluster::HandOver;
use zajil_cluster::link::Method;
use zajil_model::id::{AccountId, Epoch};
use zajil_model::lease::NodeId;
use zajil_model::phone::Phone;

use crate::owners::{Question, Repeat};

/// A recipient opted out, or in again; the row is durable.
#[derive(Debug, Serialize, Deserialize)]
pub struct OptedOut {
    /// For whom.
    pub account: AccountId,
    /// Who.
    pub phone: Phone,
}

impl Question for OptedOut {
    const METHOD: Method = Method(110);
    const REPEAT: Repeat = Repeat::Freely;
    /// Who has not confirmed that nothing cleared before is outstanding: instances by id.
    type Answer = Vec<String>;
}

/// A shard was given up for the asked node: it should take it now.
#[derive(Debug, Serialize, Deserialize)]
pub struct TakeShard {
    /// The shard.
    pub shard: u16,
    /// What its former owner hands over.
    pub hand_over: Handed,
}

/// [`HandOver`] as it crosses the link.
#[derive(Debug, Serialize, Deserialize)]
pub struct Handed {
    /// Who gave it up.
    pub from: NodeId,
    /// The epoch of the row that it left.
    pub released: Epoch,
    /// What its next owner should know.
    #[serde(default)]
    pub state: Vec<u8>,
}

impl From<HandOver> for Handed {
    fn from(hand_over: HandOver) -> Self {
        Self {
            from: hand_over.from,
            released: hand_over.released,
            state: hand_over.state.to_vec(),
        }
    }
}

impl From<Handed> for HandOver {
    fn from(handed: Handed) -> Self {
        Self {
            from: handed.from,
            released: handed.released,
            state: handed.state.into(),
        }
    }
}

impl Question for TakeShard {
    const METHOD: Method = Method(111);
    const REPEAT: Repeat = Repeat::Freely;
    /// The epoch under which it was opened; none when it was not.
    type Answer = Option<Epoch>;
}
