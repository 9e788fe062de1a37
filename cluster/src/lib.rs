//! Who owns what. On one node that is simple: the operating system's lock on the data folder is
//! the lease, and this node owns every shard. The rules are those of `zajil-model`, so that more
//! owners are a matter of another kind of lease, not of another engine.

pub mod config;
pub mod link;
pub mod membership;
pub mod metrics;

use zajil_model::id::{SHARDS, Shard};
use zajil_model::lease::Lease;
use zajil_model::time::Mono;

/// What this node may do by its lease.
#[derive(Clone, Debug)]
pub struct Ownership {
    lease: Lease,
}

impl Ownership {
    /// A node by itself: it holds the lock on its data folder, or it would not run.
    pub fn alone() -> Self {
        Self {
            lease: Lease::local(),
        }
    }

    /// Whether frames may leave now.
    pub fn may_send(&self, now: Mono) -> bool {
        self.lease.may_send(now)
    }

    /// Whether this node owns a shard.
    pub const fn owns(&self, _shard: Shard) -> bool {
        true
    }

    /// How many shards this node owns.
    pub const fn owned(&self) -> u16 {
        SHARDS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_by_itself_may_always_send() {
        let ownership = Ownership::alone();

        assert!(ownership.may_send(Mono::from_nanos(0)));
        assert!(ownership.may_send(Mono::from_nanos(u64::MAX)));
        assert!(Shard::all().all(|shard| ownership.owns(shard)));
    }
}
