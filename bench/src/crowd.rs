//! Many small jobs at once, a few at a time.

use std::future::Future;
use std::sync::Arc;

use anyhow::Result;
use parking_lot::Mutex;
use tokio::task::JoinSet;

/// Jobs at once: enough to fill a group commit.
const AT_ONCE: usize = 64;

/// Does a job for every item, [`AT_ONCE`] at a time, in any order; fails with the first failure.
pub(crate) async fn each<T, F, Fut>(items: impl IntoIterator<Item = T>, job: F) -> Result<()>
where
    T: Send + 'static,
    F: Fn(T) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    let items: Vec<T> = items.into_iter().collect();
    let items = Arc::new(Mutex::new(items.into_iter()));
    let mut working = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (items, job) = (items.clone(), job.clone());
        working.spawn(async move {
            loop {
                let next = items.lock().next();
                let Some(item) = next else {
                    return anyhow::Ok(());
                };
                job(item).await?;
            }
        });
    }
    while let Some(ended) = working.join_next().await {
        ended??;
    }
    Ok(())
}
