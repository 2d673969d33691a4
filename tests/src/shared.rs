//! Labs shared by the tests of a process, one after the other. Most of a lab's time is spent in the
//! verifier, and most tests leave no trace.
//!
//! Whatever a test has made by the agent's verbs is removed at its end. A test that changes the
//! host or the world, stops the agent, or counts from zero needs a lab of its own: [`Lab::of`].

use std::{
    any::Any,
    ops::Deref,
    panic::{self, AssertUnwindSafe},
    sync::{Mutex, MutexGuard, Once, PoisonError, mpsc},
    thread,
};

use nix::libc;
use serde_json::Value;

use crate::{
    family::{Family, V4, V6},
    lab::Lab,
    place,
    snapshot::Snapshot,
    wide::Wide,
};

/// A lab for the duration of a test.
#[derive(Debug)]
pub struct Shared {
    /// `Some` until dropped.
    lab: Option<Lab>,
    wide: Option<Wide>,
    agent: u32,
    before: [Snapshot; 2],
}

/// Idle labs.
static IDLE: Mutex<Vec<(Lab, Option<Wide>)>> = Mutex::new(Vec::new());

impl Lab {
    /// A lab that other tests of this process use before and after.
    pub fn shared(family: Family) -> Shared {
        Shared::take(family, false)
    }

    /// A shared lab with the hosts behind the world ([`Shared::wide`]).
    pub fn shared_wide(family: Family) -> Shared {
        Shared::take(family, true)
    }
}

impl Shared {
    fn take(family: Family, wide: bool) -> Self {
        let found = {
            let mut idle = idle();
            let place = idle.iter().position(|(_, has)| has.is_some() == wide);
            place.map(|place| idle.swap_remove(place))
        };
        let (mut lab, wide) = found.unwrap_or_else(|| {
            let lab = make();
            let behind = wide.then(|| lab.widen());
            (lab, behind)
        });
        lab.family = family;
        lab.make_network().unwrap_or_else(|error| panic!("{error:#}"));
        Self { agent: lab.agent_pid(), before: look(&lab), lab: Some(lab), wide }
    }

    /// The hosts behind the world.
    pub fn wide(&self) -> &Wide {
        self.wide.as_ref().expect("Lab::shared_wide made it")
    }
}

impl Deref for Shared {
    type Target = Lab;

    fn deref(&self) -> &Lab {
        self.lab.as_ref().expect("it is there until it is dropped")
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let Some(lab) = self.lab.take() else { return };
        if thread::panicking() {
            // A failed test may have left it in any state.
            return;
        }
        assert_eq!(
            lab.agent_pid(),
            self.agent,
            "a test that restarts the agent needs a lab of its own"
        );
        clear(&lab);
        for (before, after) in self.before.iter().zip(&look(&lab)) {
            let differences = before.differences(after);
            assert!(
                differences.is_empty(),
                "a test that does this needs a lab of its own: {}",
                differences.join("\n")
            );
        }
        let wide = self.wide.take();
        for netns in wide.iter().flat_map(|wide| [&lab.world, &lab.host, &wide.beyond]) {
            // Forget learned path MTUs.
            place::ip(netns, "route flush cache");
            place::ip(netns, "-6 route flush cache");
        }
        idle().push((lab, wide));
    }
}

fn idle() -> MutexGuard<'static, Vec<(Lab, Option<Wide>)>> {
    IDLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes a lab on a thread that never ends: the agent is killed with the thread that started it.
fn make() -> Lab {
    static AT_EXIT: Once = Once::new();
    AT_EXIT.call_once(|| {
        // SAFETY: a plain call; `remove_idle` is static and does not unwind.
        assert_eq!(unsafe { libc::atexit(remove_idle) }, 0, "atexit accepts one more function");
    });
    let (sender, receiver) = mpsc::channel::<Result<Lab, Box<dyn Any + Send>>>();
    thread::spawn(move || {
        let made = panic::catch_unwind(Lab::new);
        // The test waits for the result.
        let _ = sender.send(made);
        loop {
            thread::park();
        }
    });
    receiver
        .recv()
        .expect("the thread reports the result")
        .unwrap_or_else(|panic| panic::resume_unwind(panic))
}

/// Snapshots of links, addresses and routes of host and world.
fn look(lab: &Lab) -> [Snapshot; 2] {
    [&lab.host, &lab.world].map(Snapshot::of_links)
}

/// Removes containers, networks and flows.
fn clear(lab: &Lab) {
    let names = |noun: &str| -> Vec<String> {
        let list = lab.json(&[noun, "ls"]);
        let name = |one: &Value| one["name"].as_str().expect("it has a name").to_owned();
        list.as_array().expect("a list").iter().map(name).collect()
    };
    for container in names("container") {
        lab.json(&["container", "rm", &container]);
    }
    lab.undo().containers.clear();
    for network in names("network") {
        if ![V4, V6].map(Family::network).contains(&network.as_str()) {
            lab.json(&["network", "rm", &network]);
        }
    }
    lab.json(&["flows", "flush"]);
}

/// Runs at exit, after all tests.
extern "C" fn remove_idle() {
    let removed = panic::catch_unwind(AssertUnwindSafe(|| {
        // On a new thread: the main thread's thread-locals are already destroyed.
        thread::spawn(|| idle().clear()).join()
    }));
    if !matches!(removed, Ok(Ok(()))) {
        // SAFETY: ends the process with the harness's status for failure; everything has been
        // printed.
        unsafe { libc::_exit(101) }
    }
}
