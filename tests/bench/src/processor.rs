//! Which CPU a thread runs on. What else the machine does is not to be measured, nor how its
//! scheduler moves threads about: both ends of a connection are on one CPU, because waking another
//! one takes a virtual machine several times as long as all the rest.

use std::thread;

use nix::{
    libc,
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

/// Keeps the calling thread on the last CPU, and before all that is not urgent.
pub fn stay() {
    let count = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut cpus = CpuSet::new();
    let first = libc::sched_param { sched_priority: 1 };
    // Without the right to either, the figures are only noisier.
    let _ = cpus.set(count - 1).and_then(|()| sched_setaffinity(Pid::from_raw(0), &cpus));
    // SAFETY: a plain system call; zero is the calling thread, and the kernel reads `first` before
    // it returns.
    let _ = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const first) };
}
