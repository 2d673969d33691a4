//! The BPF programs of the benchmark. Every frame is written anew: the kernel reuses its buffers
//! with the changes that the stack has made.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
#[expect(clippy::needless_pass_by_value, reason = "aya's macros hand the context over by value")]
mod programs;

/// Empty on the host: `cargo xtask bench` builds the object for the kernel.
#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier rejects an endless loop, so that a reachable panic is found at load time.
    loop {}
}
