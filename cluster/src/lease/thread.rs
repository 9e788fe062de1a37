//! A thread with a small runtime of its own, for what must go on however busy the node is.

use std::io;

use tokio::sync::oneshot;

/// Runs a future on a thread of its own. Dropping this ends it.
///
/// # Errors
/// The system gives no thread, or the thread ended without an answer.
pub(crate) async fn on_its_own_thread<F>(future: F) -> io::Result<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (mut answer, answered) = oneshot::channel();
    let work = async move {
        tokio::select! {
            biased;
            output = future => {
                // Nobody waits when the node was dropped meanwhile.
                drop(answer.send(output));
            }
            () = answer.closed() => {}
        }
    };
    std::thread::Builder::new()
        .name("zajil-lease".to_owned())
        .spawn(move || runtime.block_on(work))?;
    answered.await.map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_on_its_own_thread_goes_on_while_the_runtime_is_busy() {
        let (tell, told) = std::sync::mpsc::channel();

        let work =
            on_its_own_thread(async move { tell.send(std::thread::current().id()).unwrap() });
        let blocked = async { told.recv().unwrap() };
        let (done, thread) = tokio::join!(work, blocked);

        done.unwrap();
        assert_ne!(thread, std::thread::current().id());
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_ends() {
        let (held, gone) = oneshot::channel::<()>();

        let work = on_its_own_thread(async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        let waited = tokio::time::timeout(std::time::Duration::from_millis(20), work).await;

        assert!(waited.is_err());
        assert!(gone.await.is_err(), "what the work held is dropped");
    }
}
