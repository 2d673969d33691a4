//! CPU affinity and priority. Both ends of a connection run on one CPU: waking another CPU takes a
//! virtual machine several times as long as all the rest, and neither other work nor the scheduler
//! is to be measured.

use std::thread;

use nix::{
    libc,
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

/// Pins the calling thread to the last CPU, with real-time priority.
pub fn stay() {
    let count = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut cpus = CpuSet::new();
    let first = libc::sched_param { sched_priority: 1 };
    // Without permission the figures are only noisier.
    let _ = cpus.set(count - 1).and_then(|()| sched_setaffinity(Pid::from_raw(0), &cpus));
    // SAFETY: a plain system call for the calling thread (zero); the kernel only reads `first`.
    let _ = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const first) };
}
