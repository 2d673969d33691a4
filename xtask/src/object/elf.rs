//! Sections, symbols and relocations of a 64-bit little-endian ELF file.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

/// Section types.
const SYMBOLS: u32 = 2;
const NO_BITS: u32 = 8;
const RELOCATIONS: u32 = 9;

/// Symbol types.
pub(super) const OBJECT: u8 = 1;
pub(super) const FUNCTION: u8 = 2;
pub(super) const SECTION: u8 = 3;

/// An ELF file.
pub(super) struct Elf {
    pub(super) sections: Vec<Section>,
    pub(super) symbols: Vec<Symbol>,
}

pub(super) struct Section {
    pub(super) name: String,
    /// Empty for a section that has no bytes in the file.
    pub(super) data: Vec<u8>,
    /// By offset into the data: the symbol's number and the relocation's type.
    pub(super) relocations: BTreeMap<usize, (usize, u32)>,
}

pub(super) struct Symbol {
    pub(super) name: String,
    pub(super) kind: u8,
    pub(super) is_global: bool,
    /// The section's number, or one of ELF's reserved numbers.
    pub(super) section: usize,
    /// The offset into the section.
    pub(super) value: usize,
    pub(super) size: usize,
}

/// A section header.
struct Header {
    name: usize,
    kind: u32,
    offset: usize,
    size: usize,
    link: usize,
    info: usize,
}

impl Elf {
    pub(super) fn parse(file: &[u8]) -> Result<Self> {
        if file.get(..6) != Some(b"\x7fELF\x02\x01") {
            bail!("not a 64-bit little-endian ELF file");
        }
        let read = Reader(file);
        let table = read.word(40)?;
        let (size, count, names) = (read.u16(58)?, read.u16(60)?, read.u16(62)?);
        let headers: Vec<Header> =
            (0..count).map(|number| read.header(table + number * size)).collect::<Result<_>>()?;
        let names = headers.get(names).context("no section has the names of sections")?;

        let mut sections = Vec::new();
        for header in &headers {
            let data = if header.kind == NO_BITS {
                &[][..]
            } else {
                read.bytes(header.offset, header.size)?
            };
            let name = read.text(names.offset + header.name)?;
            sections.push(Section { name, data: data.to_vec(), relocations: BTreeMap::new() });
        }
        let mut symbols = Vec::new();
        for table in headers.iter().filter(|header| header.kind == SYMBOLS) {
            let names = headers.get(table.link).context("symbols have no names")?.offset;
            for at in (table.offset..table.offset + table.size).step_by(24) {
                symbols.push(read.symbol(at, names)?);
            }
        }
        for table in headers.iter().filter(|header| header.kind == RELOCATIONS) {
            let section = sections.get_mut(table.info).context("relocations of no section")?;
            for at in (table.offset..table.offset + table.size).step_by(16) {
                let symbol = usize::try_from(read.u32(at + 12)?)?;
                section.relocations.insert(read.word(at)?, (symbol, read.u32(at + 8)?));
            }
        }
        Ok(Self { sections, symbols })
    }

    /// The bytes of a symbol. Empty if they are not in the file.
    pub(super) fn bytes_of(&self, symbol: &Symbol) -> &[u8] {
        let data = self.sections.get(symbol.section).map_or(&[][..], |section| &section.data);
        data.get(symbol.value..symbol.value + symbol.size).unwrap_or_default()
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn bytes(&self, at: usize, size: usize) -> Result<&[u8]> {
        let end = at.checked_add(size).context("an offset is too large")?;
        self.0.get(at..end).with_context(|| format!("the file ends before byte {end}"))
    }

    fn u16(&self, at: usize) -> Result<usize> {
        Ok(usize::from(u16::from_le_bytes(self.bytes(at, 2)?.try_into()?)))
    }

    fn u32(&self, at: usize) -> Result<u32> {
        Ok(u32::from_le_bytes(self.bytes(at, 4)?.try_into()?))
    }

    /// 64 bits.
    fn word(&self, at: usize) -> Result<usize> {
        Ok(usize::try_from(u64::from_le_bytes(self.bytes(at, 8)?.try_into()?))?)
    }

    fn text(&self, at: usize) -> Result<String> {
        let rest = self.0.get(at..).context("a name is behind the end of the file")?;
        let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
        Ok(String::from_utf8_lossy(&rest[..end]).into_owned())
    }

    fn header(&self, at: usize) -> Result<Header> {
        Ok(Header {
            name: usize::try_from(self.u32(at)?)?,
            kind: self.u32(at + 4)?,
            offset: self.word(at + 24)?,
            size: self.word(at + 32)?,
            link: usize::try_from(self.u32(at + 40)?)?,
            info: usize::try_from(self.u32(at + 44)?)?,
        })
    }

    fn symbol(&self, at: usize, names: usize) -> Result<Symbol> {
        let info = self.bytes(at + 4, 1)?[0];
        Ok(Symbol {
            name: self.text(names + usize::try_from(self.u32(at)?)?)?,
            kind: info & 0xf,
            is_global: info >> 4 == 1,
            section: self.u16(at + 6)?,
            value: self.word(at + 8)?,
            size: self.word(at + 16)?,
        })
    }
}
