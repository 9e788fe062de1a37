//! A key-value store in memory.

use std::collections::BTreeMap;
use std::ops::Bound;

use parking_lot::RwLock;

use super::{Direction, Kv, KvWrite, Space, Span, Visit};
use crate::StoreError;

/// Keys and values, in order.
type Pairs = BTreeMap<Vec<u8>, Vec<u8>>;

/// Ordered maps, one for each space.
#[derive(Debug, Default)]
pub(crate) struct MapKv {
    spaces: RwLock<BTreeMap<Space, Pairs>>,
}

impl Kv for MapKv {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let spaces = self.spaces.read();
        Ok(spaces.get(&space).and_then(|map| map.get(key)).cloned())
    }

    fn scan(
        &self,
        space: Space,
        span: &Span,
        direction: Direction,
        visit: Visit<'_>,
    ) -> Result<(), StoreError> {
        if span.from >= span.to {
            return Ok(());
        }
        let spaces = self.spaces.read();
        let Some(map) = spaces.get(&space) else {
            return Ok(());
        };
        let bounds = (Bound::Included(&span.from), Bound::Excluded(&span.to));
        let range = map.range::<Vec<u8>, _>(bounds);
        let mut each = |(key, value): (&Vec<u8>, &Vec<u8>)| visit(key, value).is_break();
        match direction {
            Direction::Up => range.into_iter().any(&mut each),
            Direction::Down => range.rev().any(&mut each),
        };
        Ok(())
    }

    fn commit(&self, writes: Vec<KvWrite>) -> Result<(), StoreError> {
        let mut spaces = self.spaces.write();
        for write in writes {
            let map = spaces.entry(write.space).or_default();
            match write.value {
                Some(value) => map.insert(write.key, value),
                None => map.remove(&write.key),
            };
        }
        Ok(())
    }

    fn periods(&self) -> Vec<u32> {
        let spaces = self.spaces.read();
        let numbers = spaces.keys().filter_map(|space| match space {
            Space::Period(period) => Some(*period),
            Space::Main => None,
        });
        numbers.collect()
    }

    fn drop_period(&self, period: u32) -> Result<(), StoreError> {
        self.spaces.write().remove(&Space::Period(period));
        Ok(())
    }
}
