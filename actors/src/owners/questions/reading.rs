//! Reads of what an owner knows best.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use zajil_cluster::link::{Lane, Method};
use zajil_model::id::{AccountId, BatchId, InstanceId, MessageId};
use zajil_model::phone::Phone;
use zajil_storage::{
    ChangePage, Cursor, ListPage, ListRequest, MessageRecord, StoreError, Totals, TotalsFilter,
};

use super::READ_WITHIN;
use crate::owners::{Question, Repeat};

/// Read a message.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReadMessage(pub MessageId);

impl Question for ReadMessage {
    const METHOD: Method = Method(40);
    const REPEAT: Repeat = Repeat::Freely;
    const WITHIN: Duration = READ_WITHIN;
    type Answer = Result<Option<MessageRecord>, StoreError>;

    fn lane(&self) -> Lane {
        Lane::Bulk
    }

    fn has_moved(answer: &Self::Answer) -> bool {
        matches!(answer, Err(StoreError::NotOpen(_)))
    }
}

/// Read the recipients of a part.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReadRecipients {
    /// The instance that sends the part.
    pub instance: InstanceId,
    /// The batch.
    pub batch: BatchId,
    /// Only what comes after this message.
    pub after: Option<MessageId>,
    /// At most so many.
    pub limit: usize,
}

impl Question for ReadRecipients {
    const METHOD: Method = Method(41);
    const REPEAT: Repeat = Repeat::Freely;
    type Answer = Result<Vec<(MessageId, Phone)>, StoreError>;

    fn lane(&self) -> Lane {
        Lane::Bulk
    }

    fn has_moved(answer: &Self::Answer) -> bool {
        matches!(answer, Err(StoreError::NotOpen(_)))
    }
}

/// Read a page of messages of instances that the asked node owns.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReadList(pub ListRequest);

impl Question for ReadList {
    const METHOD: Method = Method(100);
    const REPEAT: Repeat = Repeat::Freely;
    type Answer = Result<ListPage, StoreError>;

    fn lane(&self) -> Lane {
        Lane::Bulk
    }
}

/// Count messages of instances that the asked node owns.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReadTotals(pub TotalsFilter);

impl Question for ReadTotals {
    const METHOD: Method = Method(101);
    const REPEAT: Repeat = Repeat::Freely;
    type Answer = Result<Totals, StoreError>;

    fn lane(&self) -> Lane {
        Lane::Bulk
    }
}

/// Read status changes of an account, as far as the asked node owns what changed.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReadChanges {
    /// Whose.
    pub account: AccountId,
    /// From here on.
    pub after: Option<Cursor>,
    /// At most so many.
    pub limit: usize,
}

impl Question for ReadChanges {
    const METHOD: Method = Method(102);
    const REPEAT: Repeat = Repeat::Freely;
    /// The changes, and the shards that they are of: those that the node owned all the while.
    type Answer = Result<(ChangePage, Vec<u16>), StoreError>;

    fn lane(&self) -> Lane {
        Lane::Bulk
    }
}
