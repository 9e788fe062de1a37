//! What an export reads: everything that is kept, in the order of acceptance.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use zajil_model::id::{AccountId, MessageId};

use super::Projection;
use super::bodies::ChunkSource;
use super::disk::corrupt;
use super::head::Head;
use super::key::{self, BlockKey, QueueKey};
use super::read::{SCAN_STEP, after};
use crate::StoreError;
use crate::kv::{Direction, Kv, Space, Span};
use crate::row::{Row, RowKey, Table};

impl<K: Kv, C: ChunkSource> Projection<K, C> {
    /// Every queue that holds something, or did.
    pub(crate) fn queues(&self) -> Result<BTreeSet<QueueKey>, StoreError> {
        let mut found = BTreeSet::new();
        let mut fault = None;
        let span = Span::prefix(b"Q");
        self.kv
            .scan(Space::Main, &span, Direction::Up, &mut |name, _| {
                match key::read_head(name) {
                    Some(queue) => found.insert(queue),
                    None => return break_with(&mut fault, corrupt("head of a queue")),
                };
                ControlFlow::Continue(())
            })?;
        if let Some(fault) = fault {
            return Err(fault);
        }
        let state = self.state.read();
        found.retain(|queue| state.overlay.get(&key::head(*queue)) != Some(None));
        found.extend(state.heads.keys().copied());
        Ok(found)
    }

    /// The oldest block of a queue that is kept: of its beginning retention may have let go.
    pub(super) fn oldest(
        &self,
        queue: QueueKey,
        head: &Head,
    ) -> Result<Option<MessageId>, StoreError> {
        let from = BlockKey {
            queue,
            first: key::lowest(),
        };
        let to = BlockKey {
            queue,
            first: key::highest(),
        };
        let (kept, hot) = {
            let state = self.state.read();
            let kept = state.retired;
            if key::period_of(head.first) >= kept {
                return Ok(Some(head.first));
            }
            let mut hot = state.blocks.range(from..=to).map(|(key, _)| key.first);
            (kept, hot.find(|first| key::period_of(*first) >= kept))
        };
        let span = Span {
            from: key::block_index(from),
            to: key::block_index(to),
        };
        let mut cold = None;
        for period in self.kv.periods().into_iter().filter(|one| *one >= kept) {
            let visit = &mut |name: &[u8], _: &[u8]| {
                cold = key::read_block(name).map(|block| block.first);
                ControlFlow::Break(())
            };
            self.kv
                .scan(Space::Period(period), &span, Direction::Up, visit)?;
            if cold.is_some() {
                break;
            }
        }
        Ok(cold.into_iter().chain(hot).min())
    }

    /// Accounts that were told something.
    pub(crate) fn accounts(&self) -> Vec<AccountId> {
        self.state.read().tellers.keys().copied().collect()
    }

    /// Every row, in the order of tables and partitions.
    pub(crate) fn all_rows(
        &self,
        visit: &mut dyn FnMut(Row) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut span = Span::prefix(b"R");
        loop {
            let pairs = self.scan(&span, Direction::Up, SCAN_STEP)?;
            let Some((last, _)) = pairs.last() else {
                return Ok(());
            };
            span.from = after(last);
            for (name, value) in pairs {
                let key = read_row(&name).ok_or_else(|| corrupt("row"))?;
                visit(Row { key, value })?;
            }
        }
    }
}

fn break_with(fault: &mut Option<StoreError>, error: StoreError) -> ControlFlow<()> {
    *fault = Some(error);
    ControlFlow::Break(())
}

/// Which row such a key names.
fn read_row(name: &[u8]) -> Option<RowKey> {
    let table = Table::from_number(*name.get(1)?)?;
    let length = usize::from(u16::from_be_bytes(name.get(2..4)?.try_into().ok()?));
    let (partition, sort) = name.get(4..)?.split_at_checked(length)?;
    Some(RowKey::new(table, partition, sort))
}
