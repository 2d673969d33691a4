//! The functions of an eBPF object, identified independently of names and places.
//!
//! The body of a function is its instructions. An operand that the loader fills in counts by what
//! it refers to: a function by its own body, data by its bytes, a map or a global variable by its
//! name.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use anyhow::{Context, Result};

use super::elf::{self, Elf, Symbol};

/// `BPF_JMP | BPF_CALL` (linux/bpf.h), and the source register of a call of a BPF function.
const CALL: u8 = 0x85;
const TO_FUNCTION: u8 = 1;
/// `BPF_LD | BPF_IMM | BPF_DW`: loads 64 bits, and takes the place of two instructions.
const LOAD_64: u8 = 0x18;
const INSTRUCTION: usize = 8;

/// The depth to which calls are followed. The kernel allows 8 frames.
const DEPTH: usize = 12;

/// The number of bytes that identify a place in a section without symbols.
const SOME: usize = 64;

/// The number of a section, and an offset into it in bytes.
type Place = (usize, usize);

/// The functions of an object.
pub(crate) struct Functions {
    functions: BTreeMap<Place, Function>,
    /// Definitions of maps, by name.
    maps: BTreeMap<String, Vec<u8>>,
}

/// A function.
pub(crate) struct Function {
    pub(crate) name: String,
    is_global: bool,
    body: Vec<Instruction>,
    /// A hash of the body and of the functions that it refers to.
    identity: u64,
    /// A hash of the body alone.
    own: u64,
}

impl Function {
    /// The number of instructions; a load of 64 bits is one.
    pub(crate) const fn len(&self) -> usize {
        self.body.len()
    }
}

#[derive(Hash)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    /// The immediate operand; both halves for a load of 64 bits. 0 if `refers` replaces it.
    operand: [i32; 2],
    refers: Option<Refers>,
}

/// The target of an operand that the loader fills in.
#[derive(Hash)]
enum Refers {
    Function(Place),
    Data(Vec<u8>, i32),
    /// A map or a global variable.
    Name(String, i32),
    Other(String, u32),
}

impl Functions {
    /// Reads an object. Names of functions and maps are replaced as `renames` says.
    pub(crate) fn read(file: &[u8], renames: &BTreeMap<String, String>) -> Result<Self> {
        let elf = Elf::parse(file)?;
        let named = |name: &str| renames.get(name).map_or(name, String::as_str).to_owned();
        let is_function = |symbol: &&Symbol| symbol.kind == elf::FUNCTION;
        let places: BTreeSet<Place> =
            elf.symbols.iter().filter(is_function).map(|s| (s.section, s.value)).collect();
        let mut functions = BTreeMap::new();
        for symbol in elf.symbols.iter().filter(is_function) {
            let body = body(&elf, symbol, &places, &named)
                .with_context(|| format!("cannot read the function {}", symbol.name))?;
            let own = hash(&body, |_| 0);
            let (name, is_global) = (named(&symbol.name), symbol.is_global);
            let function = Function { name, is_global, body, identity: own, own };
            functions.insert((symbol.section, symbol.value), function);
        }
        let is_map = |symbol: &&Symbol| {
            let section = elf.sections.get(symbol.section).map(|section| section.name.as_str());
            symbol.kind == elf::OBJECT && matches!(section, Some("maps" | ".maps"))
        };
        let maps = elf.symbols.iter().filter(is_map);
        let maps = maps.map(|s| (named(&s.name), elf.bytes_of(s).to_vec())).collect();
        let mut all = Self { functions, maps };
        all.follow_calls();
        Ok(all)
    }

    fn follow_calls(&mut self) {
        for _ in 0..DEPTH {
            let known: BTreeMap<Place, u64> =
                self.functions.iter().map(|(place, of)| (*place, of.identity)).collect();
            for function in self.functions.values_mut() {
                function.identity =
                    hash(&function.body, |place| known.get(place).copied().unwrap_or_default());
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Function> {
        self.functions.values()
    }

    /// The functions whose bodies are not in `other`, sorted by name. Callees are not compared.
    pub(crate) fn without(&self, other: &Self) -> Vec<&Function> {
        let mut bodies: BTreeMap<u64, usize> = BTreeMap::new();
        for function in other.iter() {
            *bodies.entry(function.own).or_default() += 1;
        }
        let mut rest: Vec<_> = self
            .iter()
            .filter(|function| match bodies.get_mut(&function.own) {
                Some(count @ 1..) => {
                    *count -= 1;
                    false
                }
                Some(_) | None => true,
            })
            .collect();
        rest.sort_by(|one, other| one.name.cmp(&other.name));
        rest
    }

    /// The definitions of maps, by name.
    pub(crate) fn maps(&self) -> BTreeMap<&str, &[u8]> {
        self.maps.iter().map(|(name, definition)| (name.as_str(), definition.as_slice())).collect()
    }

    /// The identities of programs and other global functions, by name.
    pub(crate) fn globals(&self) -> BTreeMap<&str, u64> {
        let globals = self.iter().filter(|function| function.is_global);
        globals.map(|function| (function.name.as_str(), function.identity)).collect()
    }
}

fn hash(body: &[Instruction], identity: impl Fn(&Place) -> u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    for instruction in body {
        (instruction.code, instruction.registers, instruction.offset).hash(&mut hasher);
        instruction.operand.hash(&mut hasher);
        match &instruction.refers {
            Some(Refers::Function(place)) => identity(place).hash(&mut hasher),
            other => other.hash(&mut hasher),
        }
    }
    hasher.finish()
}

fn body(
    elf: &Elf,
    function: &Symbol,
    functions: &BTreeSet<Place>,
    named: &impl Fn(&str) -> String,
) -> Result<Vec<Instruction>> {
    let section = elf.sections.get(function.section).context("it is in no section")?;
    let mut body = Vec::new();
    let mut at = function.value;
    while at < function.value + function.size {
        let raw = |at: usize| -> Result<[u8; INSTRUCTION]> {
            let bytes = section.data.get(at..at + INSTRUCTION);
            Ok(bytes.context("it ends behind its section")?.try_into()?)
        };
        let [code, registers, o0, o1, i0, i1, i2, i3] = raw(at)?;
        let immediate = i32::from_le_bytes([i0, i1, i2, i3]);
        let is_wide = code == LOAD_64;
        let high =
            if is_wide { i32::from_le_bytes(raw(at + INSTRUCTION)?[4..].try_into()?) } else { 0 };
        let relocation = section.relocations.get(&at);
        let relocation =
            relocation.and_then(|(symbol, kind)| Some((elf.symbols.get(*symbol)?, *kind)));

        let refers = match relocation {
            Some((symbol, _)) if is_wide => Some(loaded(elf, symbol, immediate, functions, named)),
            Some((symbol, _)) if code == CALL && registers >> 4 == TO_FUNCTION => {
                let offset = if symbol.kind == elf::FUNCTION {
                    symbol.value
                } else {
                    bytes(i64::from(immediate) + 1)?
                };
                Some(Refers::Function((symbol.section, offset)))
            }
            Some((symbol, kind)) => Some(Refers::Other(named(&symbol.name), kind)),
            None if code == CALL && registers >> 4 == TO_FUNCTION => {
                let next = i64::try_from(at / INSTRUCTION)? + 1;
                Some(Refers::Function((function.section, bytes(next + i64::from(immediate))?)))
            }
            None => None,
        };
        let is_filled_in =
            matches!(refers, Some(Refers::Function(_))) || (is_wide && refers.is_some());
        let operand = if is_filled_in { [0, 0] } else { [immediate, high] };
        let offset = i16::from_le_bytes([o0, o1]);
        body.push(Instruction { code, registers, offset, operand, refers });
        at += if is_wide { 2 * INSTRUCTION } else { INSTRUCTION };
    }
    Ok(body)
}

/// The offset of an instruction in bytes.
fn bytes(instructions: i64) -> Result<usize> {
    Ok(usize::try_from(instructions)? * INSTRUCTION)
}

/// The target of a load of 64 bits.
fn loaded(
    elf: &Elf,
    symbol: &Symbol,
    addend: i32,
    functions: &BTreeSet<Place>,
    named: &impl Fn(&str) -> String,
) -> Refers {
    let offset = usize::try_from(addend).unwrap_or_default();
    let within = (symbol.section, symbol.value + offset);
    match symbol.kind {
        elf::FUNCTION => Refers::Function(within),
        elf::SECTION if functions.contains(&within) => Refers::Function(within),
        elf::SECTION => {
            let section = elf.sections.get(symbol.section);
            let data = section.map_or(&[][..], |section| &section.data);
            let data = data.get(offset..).unwrap_or_default();
            Refers::Data(data[..data.len().min(SOME)].to_vec(), 0)
        }
        // Statics have the names of the source, constants have generated ones.
        _ if symbol.name.starts_with(|first: char| first.is_ascii_uppercase()) => {
            Refers::Name(named(&symbol.name), addend)
        }
        _ => Refers::Data(elf.bytes_of(symbol).to_vec(), addend),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(to: Place) -> Instruction {
        let refers = Some(Refers::Function(to));
        Instruction { code: CALL, registers: 0x10, offset: 0, operand: [0, 0], refers }
    }

    fn exit(operand: i32) -> Instruction {
        Instruction { code: 0x95, registers: 0, offset: 0, operand: [operand, 0], refers: None }
    }

    fn object(functions: Vec<(usize, &str, Vec<Instruction>)>) -> Functions {
        let functions = functions.into_iter().map(|(at, name, body)| {
            let own = hash(&body, |_| 0);
            let name = name.to_owned();
            ((1, at), Function { name, is_global: true, body, identity: own, own })
        });
        let mut all = Functions { functions: functions.collect(), maps: BTreeMap::new() };
        all.follow_calls();
        all
    }

    #[test]
    fn order_and_names_do_not_count() {
        let one = object(vec![(0, "a", vec![call((1, 8))]), (8, "b", vec![exit(1)])]);
        let other = object(vec![(0, "x", vec![exit(1)]), (8, "y", vec![call((1, 0))])]);
        assert!(one.without(&other).is_empty());
        assert_eq!(one.globals()["a"], other.globals()["y"]);
    }

    #[test]
    fn callers_change_with_what_they_call() {
        let one = object(vec![(0, "a", vec![call((1, 8))]), (8, "b", vec![exit(1)])]);
        let other = object(vec![(0, "a", vec![call((1, 8))]), (8, "b", vec![exit(2)])]);
        let changed: Vec<_> = one.without(&other).iter().map(|function| &function.name).collect();
        assert_eq!(changed, ["b"]);
        assert_ne!(one.globals()["a"], other.globals()["a"]);
    }
}
