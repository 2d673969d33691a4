//! causeway's kernel side: entry points. What becomes of a packet is decided in
//! `causeway_common::pipeline`; here it is read, rewritten and redirected.
#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]
//!
//! # Safety arguments
//!
//! `SAFETY` comments cite these by number and add what is particular to the place.
//!
//! - **S1, context field.** The kernel passes a valid context for the whole run of the program, and
//!   the verifier checks every field that is read or written.
//! - **S2, map value.** A value that a lookup returns stays readable until the program ends.
//!   Another CPU may write it, or free and reuse it, at the same time. Every field is an integer,
//!   which is valid whatever it holds; each place says what the worst result is.
//! - **S3, per-CPU map value.** A program is not migrated while it runs, and nothing else uses this
//!   CPU's value meanwhile. Its type is valid as zeroes, which is what the kernel fills it with.
//! - **S4, helper that may move the frame.** Pointers into the frame are invalid after the call,
//!   and none is held across it.
//! - **S5, bytes of the frame.** The range is compared with `data_end` before. Any bytes are a
//!   valid `T` (`AnyBitPattern`, `NoUninit`). They may be unaligned for a `T`; the machines that
//!   BPF runs on allow that, and the kernel reads its own structs in frames in the same way.

#[cfg(target_arch = "bpf")]
mod atomic;
#[cfg(target_arch = "bpf")]
mod ctx;
#[cfg(target_arch = "bpf")]
mod env;
#[cfg(target_arch = "bpf")]
mod family;
#[cfg(target_arch = "bpf")]
mod globals;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod programs;
#[cfg(target_arch = "bpf")]
mod steps;
#[cfg(target_arch = "bpf")]
mod subprograms;
#[cfg(target_arch = "bpf")]
mod trace;

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
