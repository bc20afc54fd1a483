//! Waiting for something with a bound, instead of sleeping and hoping.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(25);

/// Asks `probe` until it gives something; panics, naming `what`, when that takes longer than `bound`.
#[track_caller]
pub fn wait_for<T>(what: &str, bound: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(start.elapsed() < bound, "{what}: not within {bound:?}");
        std::thread::sleep(PAUSE);
    }
}

/// The same for what takes an async call to find out.
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    bound: Duration,
    mut probe: impl FnMut() -> F,
) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(start.elapsed() < bound, "{what}: not within {bound:?}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Lets a future run as far as it gets at once; gives its output if that was to the end.
pub async fn poll_once<F: Future>(future: &mut Pin<Box<F>>) -> Option<F::Output> {
    // Without Tokio's budget for a task, which would have it stop sooner now and then.
    tokio::task::unconstrained(poll_fn(|context| {
        Poll::Ready(match future.as_mut().poll(context) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
    }))
    .await
}
