//! What an instance is, does and waits for, and changes of it.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zajil_cluster::link::{Lane, Method};
use zajil_model::instance::Instance;
use zajil_storage::MessageRecord;

use super::READ_WITHIN;
use crate::instance::handle::Shown;
use crate::owners::{Question, Repeat};
use crate::send::{Barrier, EngineError, InstanceView, Waiting};

/// Tell what everybody may see of an instance.
#[derive(Debug, Serialize, Deserialize)]
pub struct ShowInstance(pub Arc<Instance>);

impl Question for ShowInstance {
    const METHOD: Method = Method(5);
    const REPEAT: Repeat = Repeat::Freely;
    const WITHIN: Duration = READ_WITHIN;
    type Answer = Shown;
}

/// Tell what an instance is doing now.
#[derive(Debug, Serialize, Deserialize)]
pub struct ObserveInstance(pub Arc<Instance>);

impl Question for ObserveInstance {
    const METHOD: Method = Method(6);
    const REPEAT: Repeat = Repeat::Freely;
    const WITHIN: Duration = READ_WITHIN;
    type Answer = InstanceView;
}

/// Put a changed instance in force.
#[derive(Debug, Serialize, Deserialize)]
pub struct ApplyInstance(pub Arc<Instance>);

impl Question for ApplyInstance {
    const METHOD: Method = Method(7);
    const REPEAT: Repeat = Repeat::Freely;
    type Answer = Result<Barrier, EngineError>;
}

/// Open the session of an instance again.
#[derive(Debug, Serialize, Deserialize)]
pub struct ConnectInstance(pub Arc<Instance>);

impl Question for ConnectInstance {
    const METHOD: Method = Method(8);
    const REPEAT: Repeat = Repeat::Freely;
    type Answer = ();
}

/// Cancel everything of an instance that is not being sent.
#[derive(Debug, Serialize, Deserialize)]
pub struct PurgeInstance(pub Arc<Instance>);

impl Question for PurgeInstance {
    const METHOD: Method = Method(9);
    const REPEAT: Repeat = Repeat::Freely;
    type Answer = Result<Barrier, EngineError>;
}

/// Stop an instance that was deleted.
#[derive(Debug, Serialize, Deserialize)]
pub struct RemoveInstance(pub Arc<Instance>);

impl Question for RemoveInstance {
    const METHOD: Method = Method(10);
    const REPEAT: Repeat = Repeat::Freely;
    type Answer = Result<Barrier, EngineError>;
}

/// Tell what an unsettled message waits for.
#[derive(Debug, Serialize, Deserialize)]
pub struct WaitingFor(pub MessageRecord);

impl Question for WaitingFor {
    const METHOD: Method = Method(11);
    const REPEAT: Repeat = Repeat::Freely;
    const WITHIN: Duration = READ_WITHIN;
    type Answer = Option<Waiting>;

    fn lane(&self) -> Lane {
        Lane::Bulk
    }
}
