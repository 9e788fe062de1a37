//! What deletes leave behind: the tombstones that reads have to step over.

use std::collections::BTreeMap;

use anyhow::Result;
use scylla::client::session_builder::SessionBuilder;

use crate::cluster::Cluster;

/// The tables that nodes write to.
const TABLES: [&str; 6] = ["log", "shards", "redo", "kv", "rows", "intents"];

/// The most tombstones that any read of a table met.
pub(super) type Met = BTreeMap<String, f64>;

/// Reads everything that the nodes keep, and asks the server how many tombstones any read met so far.
/// Nothing where the server does not tell, as ScyllaDB.
pub(super) async fn met(cluster: &Cluster) -> Result<Option<Met>> {
    let place = cluster.nodes.place();
    let session = SessionBuilder::new()
        .known_nodes(place.cql().contact_points())
        .build()
        .await?;
    for table in TABLES {
        let all = format!("SELECT count(*) FROM {}.{table}", place.keyspace());
        session.query_unpaged(all, ()).await?;
    }
    let text = "SELECT keyspace_name, table_name, max FROM system_views.tombstones_per_read";
    let Ok(told) = session.query_unpaged(text, ()).await else {
        return Ok(None);
    };
    let mut met = Met::new();
    for row in told.into_rows_result()?.rows::<(String, String, f64)>()? {
        let (keyspace, table, most) = row?;
        if keyspace == place.keyspace() {
            met.insert(table, most);
        }
    }
    Ok(Some(met))
}

/// How many more a read of some table met in the end.
pub(super) fn more(before: Option<&Met>, after: Option<&Met>) -> Option<f64> {
    let (before, after) = (before?, after?);
    let more = |(table, most): (&String, &f64)| most - before.get(table).copied().unwrap_or(0.0);
    Some(after.iter().map(more).fold(0.0, f64::max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_that_gained_most_counts() {
        let of = |kv: f64, rows: f64| Met::from([("kv".to_owned(), kv), ("rows".to_owned(), rows)]);

        assert_eq!(more(Some(&of(0.0, 50.0)), Some(&of(7.0, 50.0))), Some(7.0));
        assert_eq!(more(None, Some(&of(7.0, 50.0))), None);
    }
}
