//! The benchmark's kernel side. A frame is written anew each time: the kernel uses its buffers
//! again, and they come back as they left the stack.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
#[expect(clippy::needless_pass_by_value, reason = "aya's macros hand the context over by value")]
mod programs;

/// On the host there is nothing to run: `cargo xtask bench` makes the object for the kernel.
#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses an endless loop, so that a panic that can be reached is found at load.
    loop {}
}
