//! Waiting for what is to come: by looking again, never by sleeping and hoping.

use std::{
    thread,
    time::{Duration, Instant},
};

/// How long anything may take before the test fails. Far beyond what it takes, since neither a busy
/// machine nor an emulated one is a failure.
pub const DEADLINE: Duration = Duration::from_mins(2);

/// How long silence is waited for where an answer must not come.
pub const SILENCE: Duration = Duration::from_millis(400);

/// Looks again and again until there is an answer, or fails with `what` was waited for.
pub fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = probe() {
            return answer;
        }
        assert!(Instant::now() < end, "waited {DEADLINE:?} in vain: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}
