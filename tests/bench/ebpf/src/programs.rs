//! The generator and the counter.

use core::ptr;

use aya_ebpf::{
    bindings::{TC_ACT_SHOT, tcx_action_base::TCX_NEXT, xdp_action},
    helpers::{bpf_redirect, bpf_redirect_peer},
    macros::{classifier, map, xdp},
    maps::{Array, PerCpuArray},
    programs::{TcContext, XdpContext},
};
use causeway_bench_ebpf::{ETHER_TYPE_AT, Exit, Expected, Layout, MARK, Traffic, V4, V6, count};

#[map]
static TRAFFIC: Array<Traffic> = Array::with_max_entries(1, 0);
#[map]
static EXPECTED: Array<Expected> = Array::with_max_entries(1, 0);
#[map]
static EXIT: Array<Exit> = Array::with_max_entries(1, 0);
#[map]
static COUNTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(count::ALL, 0);

/// Writes the next frame, which then enters the host as if received (IPv4).
#[xdp]
pub(crate) fn generate4(ctx: XdpContext) -> u32 {
    generate::<{ V4.frame / 4 }>(&ctx, &V4)
}

/// Writes the next frame (IPv6).
#[xdp]
pub(crate) fn generate6(ctx: XdpContext) -> u32 {
    generate::<{ V6.frame / 4 }>(&ctx, &V6)
}

#[inline(always)]
fn generate<const WORDS: usize>(ctx: &XdpContext, layout: &Layout) -> u32 {
    let at = ctx.data();
    if at + layout.frame > ctx.data_end() {
        return xdp_action::XDP_ABORTED;
    }
    let Some(traffic) = TRAFFIC.get_ptr_mut(0) else { return xdp_action::XDP_ABORTED };
    // SAFETY: the only element of the map, used by one run of this program at a time.
    let traffic = unsafe { &mut *traffic };
    let Some(frame) = traffic.frame.first_chunk::<WORDS>() else { return xdp_action::XDP_ABORTED };
    let header = traffic.header(layout);
    // Word by word: otherwise the compiler emits a call to memcpy.
    for (place, word) in frame.iter().enumerate() {
        // SAFETY: the `WORDS` words of the frame end before `data_end`, as checked above.
        unsafe { ptr::with_exposed_provenance_mut::<u32>(at + place * 4).write_volatile(*word) }
    }
    write(at, header.address_at, header.address);
    write(at, layout.ports_at, header.ports);
    if let Some(checksum_at) = layout.ip_checksum_at {
        write(at, checksum_at, header.ip_checksum);
    }
    write(at, layout.udp_checksum_at, header.udp_checksum);
    traffic.advance();
    traffic.action
}

/// Passes everything.
#[xdp]
pub(crate) fn pass(_: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// Counts and drops generated frames, and passes all others.
#[classifier]
pub(crate) fn count(ctx: TcContext) -> i32 {
    let as_expected = if is_generated(&ctx, &V4) {
        is_expected::<{ V4.address / 4 }>(&ctx, &V4)
    } else if is_generated(&ctx, &V6) {
        is_expected::<{ V6.address / 4 }>(&ctx, &V6)
    } else {
        return TCX_NEXT;
    };
    if let Some(count) = COUNTS.get_ptr_mut(if as_expected { count::ARRIVED } else { count::WRONG })
    {
        // SAFETY: the element belongs to this CPU, and a running program is not migrated.
        unsafe { *count += 1 }
    }
    TC_ACT_SHOT
}

/// Whether the addresses of a generated frame, in 8-byte words, are as expected.
#[inline(always)]
fn is_expected<const WORDS: usize>(ctx: &TcContext, layout: &Layout) -> bool {
    let at = ctx.data();
    if at + layout.frame > ctx.data_end() {
        return false;
    }
    EXPECTED.get(0).is_some_and(|expected| expected.are::<WORDS>(read(at, layout.source_at)))
}

/// Redirects generated frames, and passes all others.
#[classifier]
pub(crate) fn redirect(ctx: TcContext) -> i32 {
    if !is_generated(&ctx, &V4) && !is_generated(&ctx, &V6) {
        return TCX_NEXT;
    }
    let Some(exit) = EXIT.get(0) else { return TCX_NEXT };
    // SAFETY: takes an interface index, which the kernel checks.
    let action = unsafe {
        if exit.peer == 0 { bpf_redirect(exit.index, 0) } else { bpf_redirect_peer(exit.index, 0) }
    };
    action as i32
}

/// Whether it is a generated frame of the family.
#[inline(always)]
fn is_generated(ctx: &TcContext, layout: &Layout) -> bool {
    let at = ctx.data();
    at + layout.frame <= ctx.data_end()
        && read::<u16>(at, ETHER_TYPE_AT) == layout.ether_type
        && read::<u64>(at, layout.mark_at) == u64::from_ne_bytes(MARK)
}

/// Does nothing.
#[classifier]
pub(crate) fn nothing(_: TcContext) -> i32 {
    TCX_NEXT
}

/// Writes a value at an offset of the frame, within the bytes that the caller has checked.
#[inline(always)]
fn write<T>(frame: usize, offset: usize, value: T) {
    // SAFETY: the caller has checked that these bytes are within the frame. The alignment may
    // be less than `T`'s, which the machines that BPF runs on allow.
    unsafe { *ptr::with_exposed_provenance_mut(frame + offset) = value }
}

/// Reads a value at an offset of the frame, within the bytes that the caller has checked.
#[inline(always)]
fn read<T: Copy>(frame: usize, offset: usize) -> T {
    // SAFETY: the caller has checked that these bytes are within the frame. The alignment may
    // be less than `T`'s, which the machines that BPF runs on allow.
    unsafe { *ptr::with_exposed_provenance(frame + offset) }
}

/// The redirect helpers require a GPL-compatible licence.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
