//! What the programs hold on the stack, as Linux 6.1 counts it: each function of a chain takes a
//! multiple of 32 bytes (of 16 where later kernels compile them), and a chain has 512. A later
//! kernel takes what 6.1 does not, so this is looked at without one.

use std::collections::{BTreeMap, BTreeSet};

use aya_obj::{
    Object,
    generated::{BPF_PSEUDO_CALL, BPF_PSEUDO_FUNC, bpf_insn},
};

use super::object::OBJECT;

const MOST: usize = 512;
const STEP: usize = 32;

/// The register that points to the end of the function's place on the stack.
const FRAME: u8 = 10;

/// Kinds of instructions (`linux/bpf.h`).
mod code {
    pub(super) const CLASS: u8 = 0x07;
    pub(super) const LDX: u8 = 0x01;
    pub(super) const ST: u8 = 0x02;
    pub(super) const STX: u8 = 0x03;
    pub(super) const LOAD_WIDE: u8 = 0x18;
    pub(super) const CALL: u8 = 0x85;
    pub(super) const MOVE: u8 = 0xbf;
    pub(super) const ADD: u8 = 0x07;
}

#[test]
fn call_chains_fit_stack_of_linux_6_1() {
    let mut object = Object::parse(OBJECT).unwrap();
    let sections = object.functions.keys().map(|(section, _)| *section).collect();
    object.relocate_calls(&sections).unwrap();
    assert!(object.programs.len() > 10);
    for (name, program) in &object.programs {
        let functions = functions(&object.functions[&program.function_key()].instructions);
        let (bytes, chain) = deepest(0, &functions);
        assert!(
            bytes <= MOST,
            "{name} takes {bytes} bytes, with functions of {chain:?} bytes each"
        );
    }
}

/// What a function holds, and which ones it calls or hands over, by where they begin.
#[derive(Debug, Default, PartialEq, Eq)]
struct Function {
    bytes: usize,
    calls: BTreeSet<usize>,
}

/// The functions of a program by where they begin.
fn functions(instructions: &[bpf_insn]) -> BTreeMap<usize, Function> {
    let called = |(at, instruction): (usize, &bpf_insn)| {
        let source = u32::from(instruction.src_reg());
        let calls = instruction.code == code::CALL && source == BPF_PSEUDO_CALL;
        let names = instruction.code == code::LOAD_WIDE && source == BPF_PSEUDO_FUNC;
        (calls || names).then(|| at.wrapping_add_signed(instruction.imm as isize + 1))
    };
    let mut all: BTreeMap<usize, Function> = instructions
        .iter()
        .enumerate()
        .filter_map(called)
        .chain([0])
        .map(|at| (at, Function::default()))
        .collect();
    // Registers that point to the stack where they are changed next.
    let mut copies = BTreeSet::new();
    for (at, instruction) in instructions.iter().enumerate() {
        let function =
            all.range_mut(..=at).next_back().expect("the first function begins at zero").1;
        function.calls.extend(called((at, instruction)));
        let base = match instruction.code & code::CLASS {
            code::LDX => Some(instruction.src_reg()),
            code::ST | code::STX => Some(instruction.dst_reg()),
            _ => None,
        };
        let mut holds =
            |offset: i32| function.bytes = function.bytes.max(offset.unsigned_abs() as usize);
        if base == Some(FRAME) && instruction.off < 0 {
            holds(instruction.off.into());
        }
        if instruction.code == code::MOVE && instruction.src_reg() == FRAME {
            copies.insert(instruction.dst_reg());
        } else if instruction.code == code::ADD
            && copies.remove(&instruction.dst_reg())
            && instruction.imm < 0
        {
            holds(instruction.imm);
        }
    }
    all
}

/// What the deepest chain of calls from a function takes, and what its functions hold.
fn deepest(at: usize, functions: &BTreeMap<usize, Function>) -> (usize, Vec<usize>) {
    let Function { bytes, calls } = &functions[&at];
    let below = calls.iter().map(|called| deepest(*called, functions)).max().unwrap_or_default();
    (bytes.max(&1).next_multiple_of(STEP) + below.0, [vec![*bytes], below.1].concat())
}
