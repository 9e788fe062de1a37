//! Campaigns of tests.

use std::sync::Arc;

use zajil_actors::batch::{BatchText, Duplicates, NewBatch, NewRow, RowErrors};
use zajil_model::instance::Instance;
use zajil_model::message::OnAmbiguous;

/// A campaign of some instances.
pub fn campaign(instances: &[Arc<Instance>]) -> NewBatch {
    NewBatch {
        name: "autumn".to_owned(),
        instances: instances.to_vec(),
        text: BatchText {
            content: "Hello".to_owned(),
            template: None,
            variables: Vec::new(),
        },
        ttl_seconds: None,
        start_at: None,
        deadline: None,
        duplicates: Duplicates::Skip,
        on_ambiguous: OnAmbiguous::default(),
    }
}

/// Rows, each to somebody else.
pub fn rows(from: u64, to: u64) -> Vec<Result<NewRow, RowErrors>> {
    let row = |n| NewRow {
        recipient: super::phone(&format!("+96650{n:07}")),
        variables: Vec::new(),
        content: None,
        client_ref: None,
    };
    (from..to).map(|n| Ok(row(n))).collect()
}
