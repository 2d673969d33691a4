//! causeway's kernel side: the programs, and all of its unsafe code. What becomes of a packet is
//! decided in `causeway_common`; here the packet is read, rewritten and redirected.
//!
//! # Layers
//!
//! A module uses those below it, and none above.
//!
//! | module | what is in it |
//! |---|---|
//! | `programs` | one file for each hook; each calls a function of `causeway_common::pipeline` |
//! | `steps`, `subprograms`, `globals` | the pipeline's steps, as functions to the verifier |
//! | `env` | what the decisions ask for, from maps and helpers |
//! | `ctx` | the contexts, and the only pointers into frames |
//! | `trace` | the steps of a packet in the log (`cargo xtask build --trace`) |
//! | `family`, `maps`, `atomic` | what the families differ in, the maps, counters |
//!
//! The three modules of steps need each other: the pipeline calls a step, the step is a function to
//! the verifier, and that function runs a part of the pipeline.
//!
//! # The stack
//!
//! A chain of calls has 512 bytes of stack. Before Linux 6.6 each function in it takes a multiple
//! of
//! 32. So the steps call each other as little as they can, and what they share is in a map
//! (`causeway_common::scratch`). `agent/src/datapath/stack.rs` checks every chain.
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

#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]

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
