//! One line for each packet, with the steps that it took, in the agent's log: `cargo xtask build
//! --trace`. Without that feature every function here is empty, and the object has no trace of it.
//!
//! Steps are noted in a record of this CPU's. The line is made when the program ends: it takes more
//! of BPF's stack than any step has left.

#[cfg(feature = "trace")]
use causeway_common::abi::drop_reason;
use causeway_common::{
    abi::drop_reason::DropReason,
    verdict::Verdict,
    wire::{address::Address, tuple::Tuple},
};

macro_rules! steps {
    ($($name:ident = $word:literal,)+) => {
        /// What a packet went through, and what became of it.
        #[repr(u8)]
        #[derive(Clone, Copy)]
        #[cfg_attr(not(feature = "trace"), expect(dead_code, reason = "no step is noted"))]
        pub(crate) enum Step {
            $($name,)+
        }

        /// The words of the steps, in their order.
        #[cfg(feature = "trace")]
        const STEPS: &[&str] = &[$($word),+];
    };
}

steps! {
    SlowPath = "slow-path",
    HostSlowPath = "host-slow-path",
    Lookup = "lookup",
    Nat64 = "nat64",
    Link = "link",
    Fragment = "fragment",
    IcmpError = "icmp-error",
    Plan = "plan",
    Create = "create",
    Evict = "evict",
    Queue = "queue",
    Reinject = "reinject",
    Forward = "forward",
    IcmpReply = "icmp-reply",
    Pass = "pass",
    Drop = "drop",
    Redirect = "redirect",
}

/// The index of the first step's word; below it are drop reasons.
#[cfg(feature = "trace")]
const FIRST_STEP: usize = drop_reason::CAPACITY as usize;

#[cfg(not(feature = "trace"))]
mod empty {
    use super::{Address, DropReason, Step, Tuple, Verdict};

    /// Forgets the packet before.
    #[inline(always)]
    pub(crate) fn begin() {}

    /// Notes what packet it is.
    #[inline(always)]
    pub(crate) fn packet<A: Address>(_: &Tuple<A>) {}

    /// Notes a step.
    #[inline(always)]
    pub(crate) fn step(_: Step) {}

    /// Notes why the packet leaves the fast path.
    #[inline(always)]
    pub(crate) fn reason(_: DropReason) {}

    /// Writes the line.
    #[inline(always)]
    pub(crate) fn end(_: &'static str, _: Verdict) {}

    /// Writes the line of an XDP program.
    #[inline(always)]
    pub(crate) fn end_xdp(_: &'static str, _: u32) {}
}

#[cfg(not(feature = "trace"))]
pub(crate) use empty::*;

#[cfg(feature = "trace")]
mod lines {
    use core::{hint::black_box, str};

    use aya_ebpf::{bindings::xdp_action, macros::map, maps::PerCpuArray};
    use aya_log_ebpf::info;

    use super::{Address, DropReason, FIRST_STEP, STEPS, Step, Tuple, Verdict};

    /// A word of a line, filled up with blanks: words of one length need no bounds to be proven.
    type Word = [u64; 3];

    /// How many words a line has room for, a power of two. Later ones replace the first.
    const WORDS_PER_LINE: usize = 8;

    struct Record {
        /// The first four or all sixteen bytes of each count.
        addresses: [[u8; 16]; 2],
        ports: [u16; 2],
        protocol: u8,
        /// `AF_INET` or `AF_INET6`; zero before a packet is known.
        family: u8,
        count: u32,
        words: [Word; WORDS_PER_LINE],
    }

    #[map]
    static TRACE: PerCpuArray<Record> = PerCpuArray::with_max_entries(1, 0);

    const BLANK: Word = word("");

    /// By number of a drop reason or step; a power of two.
    static WORDS: [Word; 128] = {
        let mut words = [BLANK; 128];
        let mut i = 0;
        while i < DropReason::ALL.len() {
            words[DropReason::ALL[i] as usize] = word(DropReason::ALL[i].name());
            i += 1;
        }
        let mut i = 0;
        while i < STEPS.len() {
            words[FIRST_STEP + i] = word(STEPS[i]);
            i += 1;
        }
        words
    };

    const fn word(text: &str) -> Word {
        let mut bytes = [b' '; size_of::<Word>()];
        let text = text.as_bytes();
        let mut i = 0;
        while i < text.len() {
            bytes[i] = text[i];
            i += 1;
        }
        bytemuck::must_cast(bytes)
    }

    #[inline(always)]
    fn record() -> Option<&'static mut Record> {
        // SAFETY: the entry is this CPU's own, nothing else uses it while the program runs, and all
        // of it is valid as zeroes.
        TRACE.get_ptr_mut(0).map(|record| unsafe { &mut *record })
    }

    #[inline(always)]
    pub(crate) fn begin() {
        let Some(record) = record() else { return };
        record.family = 0;
        record.count = 0;
        record.words = [BLANK; WORDS_PER_LINE];
    }

    #[inline(always)]
    pub(crate) fn packet<A: Address>(tuple: &Tuple<A>) {
        let Some(record) = record() else { return };
        record.family = A::FAMILY;
        record.protocol = tuple.protocol;
        record.ports = [tuple.source_port.get(), tuple.destination_port.get()];
        for (place, address) in record.addresses.iter_mut().zip([&tuple.source, &tuple.destination])
        {
            let bytes = bytemuck::bytes_of(address);
            place[..bytes.len()].copy_from_slice(bytes);
        }
    }

    #[inline(always)]
    pub(crate) fn step(step: Step) {
        note(FIRST_STEP + step as usize);
    }

    #[inline(always)]
    pub(crate) fn reason(reason: DropReason) {
        note(reason as usize);
    }

    #[inline(always)]
    fn note(number: usize) {
        let Some(record) = record() else { return };
        // The compiler knows that no number is as high and leaves the mask out; the verifier does
        // not know.
        let word = WORDS[black_box(number) % WORDS.len()];
        record.words[record.count as usize % WORDS_PER_LINE] = word;
        record.count = record.count.wrapping_add(1);
    }

    #[inline(always)]
    pub(crate) fn end(program: &'static str, verdict: Verdict) {
        step(match verdict {
            Verdict::REDIRECT => Step::Redirect,
            Verdict::PASS => Step::Pass,
            _ => Step::Drop,
        });
        write(program);
    }

    #[inline(always)]
    pub(crate) fn end_xdp(program: &'static str, action: u32) {
        step(match action {
            xdp_action::XDP_REDIRECT => Step::Redirect,
            xdp_action::XDP_PASS => Step::Pass,
            _ => Step::Drop,
        });
        write(program);
    }

    #[inline(never)]
    fn write(program: &'static str) {
        let Some(record) = record() else { return };
        // SAFETY: the words are ASCII.
        let words = unsafe { str::from_utf8_unchecked(bytemuck::cast_slice(&record.words)) };
        let (protocol, ports) = (record.protocol, record.ports);
        match record.family {
            2 => {
                let [[s0, s1, s2, s3, ..], [d0, d1, d2, d3, ..]] = record.addresses;
                info!(
                    &(),
                    "{} {:i}:{} > {:i}:{} protocol {}: {}",
                    program,
                    [s0, s1, s2, s3],
                    ports[0],
                    [d0, d1, d2, d3],
                    ports[1],
                    protocol,
                    words
                );
            }
            10 => info!(
                &(),
                "{} [{:i}]:{} > [{:i}]:{} protocol {}: {}",
                program,
                record.addresses[0],
                ports[0],
                record.addresses[1],
                ports[1],
                protocol,
                words
            ),
            _ => info!(&(), "{}: {}", program, words),
        }
    }
}

#[cfg(feature = "trace")]
pub(crate) use lines::*;
