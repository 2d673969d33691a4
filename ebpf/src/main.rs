//! causeway's kernel side: entry points. What becomes of a packet is decided in
//! `causeway_common::forward`; here it is read, rewritten and redirected.
#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
mod atomic;
#[cfg(target_arch = "bpf")]
mod env;
#[cfg(target_arch = "bpf")]
mod fragments;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod nat64;
#[cfg(target_arch = "bpf")]
#[expect(clippy::needless_pass_by_value, reason = "aya's macros hand the context over by value")]
mod programs;
#[cfg(target_arch = "bpf")]
mod skb;
#[cfg(target_arch = "bpf")]
#[expect(clippy::needless_pass_by_value, reason = "aya's macros hand the context over by value")]
mod socket;
#[cfg(target_arch = "bpf")]
mod subprograms;
#[cfg(target_arch = "bpf")]
#[expect(clippy::needless_pass_by_value, reason = "aya's macros hand the context over by value")]
mod xdp;

/// On the host there is nothing to run: `cargo xtask build` makes the object for the kernel.
#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses an endless loop, so that a panic that can be reached is found at load.
    loop {}
}

/// Redirects and socket lookups are for programs under the GPL only.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
