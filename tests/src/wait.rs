//! Waiting for conditions by polling, never by sleeping for a fixed time.

use std::{
    thread,
    time::{Duration, Instant},
};

/// How long anything may take before a test fails. Generous, since a busy or emulated machine is no
/// failure.
pub const DEADLINE: Duration = Duration::from_mins(2);

/// How long to wait where no answer must come.
pub const SILENCE: Duration = Duration::from_millis(400);

/// Polls until `probe` returns `Some`. After [`DEADLINE`] it fails the test and names `what` it
/// waited for.
pub fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = probe() {
            return answer;
        }
        assert!(Instant::now() < end, "waited {DEADLINE:?} in vain for: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}
