//! A process that can be stopped as by `SIGSTOP`: nothing of it runs, and time goes on.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

#[derive(Debug, Default)]
pub(crate) struct Switch(Mutex<(bool, Option<Waker>)>);

impl Switch {
    pub(crate) fn pause(&self) {
        self.0.lock().0 = true;
    }

    pub(crate) fn resume(&self) {
        let waker = {
            let mut inside = self.0.lock();
            inside.0 = false;
            inside.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.0.lock().0
    }
}

/// A future that is not polled while its switch is off.
pub(crate) struct Pausable<F> {
    pub(crate) process: Pin<Box<F>>,
    pub(crate) switch: Arc<Switch>,
}

impl<F: Future> Future for Pausable<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        {
            let mut inside = self.switch.0.lock();
            if inside.0 {
                inside.1 = Some(context.waker().clone());
                return Poll::Pending;
            }
        }
        self.process.as_mut().poll(context)
    }
}
