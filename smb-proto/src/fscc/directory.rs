//! Entries of directory listings (MS-FSCC 2.4.8, 2.4.10, 2.4.15, 2.4.18 to 2.4.24, 2.4.33).
//!
//! All classes but FileNamesInformation start with the same fields; they differ in which of the others
//! follow, always in the same order: size of extended attributes, reparse tag, file ids, short name. One
//! table says which.
//!
//! Deliberately not done: FileIdGlobalTxDirectoryInformation, which is not used over the network.

use bytes::Bytes;

use super::InformationError;
use super::chain::{Chain, ChainWriter};
use super::class::FileInfoClass;
use crate::attributes::FileAttributes;
use crate::error::Malformed;
use crate::name::Name;
use crate::time::FileTime;
use crate::wire;

/// An 8.3 name, at most twelve code units, without storage of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ShortName {
    units: [u16; 12],
    length: u8,
}

impl ShortName {
    /// From code units; `None` for more than twelve.
    #[must_use]
    pub fn new(units: &[u16]) -> Option<Self> {
        let mut held = [0; 12];
        held.get_mut(..units.len())?.copy_from_slice(units);
        Some(Self { units: held, length: u8::try_from(units.len()).ok()? })
    }

    /// The code units; none for a file without a short name.
    #[must_use]
    pub fn units(&self) -> &[u16] {
        self.units.get(..usize::from(self.length)).unwrap_or_default()
    }
}

/// One file of a listing: the fields of all classes together. A class sends those it has; when read, the
/// others are zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// Place in the directory; zero where it means nothing.
    pub file_index: u32,
    /// When the file was created.
    pub creation_time: FileTime,
    /// When it was last read.
    pub last_access_time: FileTime,
    /// When its data last changed.
    pub last_write_time: FileTime,
    /// When anything of it last changed.
    pub change_time: FileTime,
    /// Bytes of data.
    pub end_of_file: u64,
    /// Bytes allocated.
    pub allocation_size: u64,
    /// Attributes.
    pub attributes: FileAttributes,
    /// Size of the extended attributes. The older classes send the reparse tag in its place for a reparse
    /// point.
    pub ea_size: u32,
    /// Reparse tag; only counts when the attributes say that the file is a reparse point.
    pub reparse_tag: u32,
    /// 64-bit file id.
    pub file_id: u64,
    /// 128-bit file id.
    pub file_id_128: [u8; 16],
    /// 8.3 name.
    pub short_name: ShortName,
    /// Name.
    pub name: Name,
}

/// Which of the optional fields a class has, in the order in which they come.
#[derive(Clone, Copy)]
struct Layout {
    /// Everything up to the length of the name but the index.
    metadata: bool,
    ea_size: bool,
    /// A field of its own for the tag, instead of its sharing with the size of extended attributes.
    reparse_tag: bool,
    /// Reserved bytes before the 64-bit id.
    padding: usize,
    id_64: bool,
    id_128: bool,
    short_name: bool,
    /// Where the name starts.
    name: usize,
}

impl Layout {
    const fn of(class: FileInfoClass) -> Option<Self> {
        let base = Self {
            metadata: true,
            ea_size: true,
            reparse_tag: false,
            padding: 0,
            id_64: false,
            id_128: false,
            short_name: false,
            name: 68,
        };
        let extended = Self { reparse_tag: true, ..base };
        Some(match class {
            FileInfoClass::NAMES => Self { metadata: false, ea_size: false, name: 12, ..base },
            FileInfoClass::DIRECTORY => Self { ea_size: false, name: 64, ..base },
            FileInfoClass::FULL_DIRECTORY => base,
            FileInfoClass::BOTH_DIRECTORY => Self { short_name: true, name: 94, ..base },
            FileInfoClass::ID_FULL_DIRECTORY => Self { padding: 4, id_64: true, name: 80, ..base },
            FileInfoClass::ID_BOTH_DIRECTORY => {
                Self { short_name: true, padding: 2, id_64: true, name: 104, ..base }
            }
            FileInfoClass::ID_EXTD_DIRECTORY => Self { id_128: true, name: 88, ..extended },
            FileInfoClass::ID_EXTD_BOTH_DIRECTORY => {
                Self { id_128: true, short_name: true, name: 114, ..extended }
            }
            FileInfoClass::ID_64_EXTD_DIRECTORY => Self { id_64: true, name: 80, ..extended },
            FileInfoClass::ID_64_EXTD_BOTH_DIRECTORY => {
                Self { id_64: true, short_name: true, name: 106, ..extended }
            }
            FileInfoClass::ID_ALL_EXTD_DIRECTORY => Self { id_64: true, id_128: true, name: 96, ..extended },
            FileInfoClass::ID_ALL_EXTD_BOTH_DIRECTORY => {
                Self { id_64: true, id_128: true, short_name: true, name: 122, ..extended }
            }
            _ => return None,
        })
    }

    /// The older classes with both put the short name before the id, the newer ones after it.
    const fn short_name_first(self) -> bool {
        !self.reparse_tag
    }
}

/// Where the name starts in entries of `class`: the size of an entry without its name. `None` if the class is
/// not one of directory listings.
#[must_use]
pub const fn name_offset(class: FileInfoClass) -> Option<usize> {
    match Layout::of(class) {
        Some(layout) => Some(layout.name),
        None => None,
    }
}

/// Writes entries one after the other into an output buffer of limited size, without allocating for each.
#[derive(Debug)]
pub struct DirectoryWriter {
    class: FileInfoClass,
    out: Vec<u8>,
    chain: ChainWriter,
}

impl DirectoryWriter {
    /// A writer of at most `limit` bytes; `None` if `class` is not one of directory listings.
    #[must_use]
    pub fn new(class: FileInfoClass, limit: usize) -> Option<Self> {
        Self::in_buffer(class, limit, Vec::new())
    }

    /// A writer of at most `limit` bytes behind what `out` already holds, from where entries are aligned.
    #[must_use]
    pub fn in_buffer(class: FileInfoClass, limit: usize, out: Vec<u8>) -> Option<Self> {
        Layout::of(class)?;
        let chain = ChainWriter::new(&out, limit, 8);
        Some(Self { class, out, chain })
    }

    /// Appends an entry; `false`, with nothing written, if it does not fit any more.
    pub fn push(&mut self, entry: &DirectoryEntry) -> bool {
        self.push_named(entry, entry.name.units())
    }

    /// The same with another name than the entry's, for who has names in a buffer that is used again and again.
    pub fn push_named(&mut self, entry: &DirectoryEntry, name: &[u16]) -> bool {
        let Some(layout) = Layout::of(self.class) else { return false };
        let name_length = name.len().saturating_mul(2);
        if !self.chain.begin(&mut self.out, layout.name.saturating_add(name_length)) {
            return false;
        }
        entry.emit_fields(layout, name_length, &mut self.out);
        wire::put_utf16(&mut self.out, name);
        true
    }

    /// Whether no entry was written yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chain.is_empty()
    }

    /// The buffer with its entries.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.out
    }
}

impl DirectoryEntry {
    /// Everything between the offset of the next entry and the name.
    fn emit_fields(&self, layout: Layout, name_length: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.file_index.to_le_bytes());
        if layout.metadata {
            let times = [self.creation_time, self.last_access_time, self.last_write_time, self.change_time];
            for time in times {
                out.extend_from_slice(&time.0.to_le_bytes());
            }
            out.extend_from_slice(&self.end_of_file.to_le_bytes());
            out.extend_from_slice(&self.allocation_size.to_le_bytes());
            out.extend_from_slice(&self.attributes.0.to_le_bytes());
        }
        out.extend_from_slice(&wire::length_u32(name_length).to_le_bytes());
        let is_reparse_point = self.attributes.contains(FileAttributes::REPARSE_POINT);
        if layout.ea_size {
            let shared = is_reparse_point && !layout.reparse_tag;
            out.extend_from_slice(&(if shared { self.reparse_tag } else { self.ea_size }).to_le_bytes());
        }
        if layout.reparse_tag {
            out.extend_from_slice(&(if is_reparse_point { self.reparse_tag } else { 0 }).to_le_bytes());
        }
        if layout.short_name && layout.short_name_first() {
            self.emit_short_name(out);
        }
        out.resize(out.len().saturating_add(layout.padding), 0);
        if layout.id_64 {
            out.extend_from_slice(&self.file_id.to_le_bytes());
        }
        if layout.id_128 {
            out.extend_from_slice(&self.file_id_128);
        }
        if layout.short_name && !layout.short_name_first() {
            self.emit_short_name(out);
        }
    }

    fn emit_short_name(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[self.short_name.length.saturating_mul(2), 0]);
        wire::put_utf16(out, &self.short_name.units);
    }

    fn parse(layout: Layout, bytes: &[u8]) -> Result<Self, Malformed> {
        let mut fields = Fields(bytes);
        fields.take::<4>()?; // the offset of the next entry
        let mut entry = Self { file_index: fields.u32()?, ..Self::default() };
        if layout.metadata {
            entry.creation_time = FileTime(fields.u64()?);
            entry.last_access_time = FileTime(fields.u64()?);
            entry.last_write_time = FileTime(fields.u64()?);
            entry.change_time = FileTime(fields.u64()?);
            entry.end_of_file = fields.u64()?;
            entry.allocation_size = fields.u64()?;
            entry.attributes = FileAttributes(fields.u32()?);
        }
        let name_length = usize::try_from(fields.u32()?).map_err(|_| WRONG)?;
        if layout.ea_size {
            let value = fields.u32()?;
            let shared = entry.attributes.contains(FileAttributes::REPARSE_POINT) && !layout.reparse_tag;
            *(if shared { &mut entry.reparse_tag } else { &mut entry.ea_size }) = value;
        }
        if layout.reparse_tag {
            let tag = fields.u32()?;
            // Without the attribute the field means nothing, whatever it holds.
            if entry.attributes.contains(FileAttributes::REPARSE_POINT) {
                entry.reparse_tag = tag;
            }
        }
        if layout.short_name && layout.short_name_first() {
            entry.short_name = fields.short_name()?;
        }
        fields.0 = fields.0.get(layout.padding..).ok_or(WRONG)?;
        if layout.id_64 {
            entry.file_id = fields.u64()?;
        }
        if layout.id_128 {
            entry.file_id_128 = *fields.take::<16>()?;
        }
        if layout.short_name && !layout.short_name_first() {
            entry.short_name = fields.short_name()?;
        }
        let name = fields.0.get(..name_length).ok_or(WRONG)?;
        entry.name = Name::from_wire(name)?;
        Ok(entry)
    }
}

const WRONG: Malformed = Malformed("directory entry");

/// Fields read one after the other.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Result<&'a [u8; N], Malformed> {
        let (field, rest) = self.0.split_first_chunk().ok_or(WRONG)?;
        self.0 = rest;
        Ok(field)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.take().map(|field| u32::from_le_bytes(*field))
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        self.take().map(|field| u64::from_le_bytes(*field))
    }

    fn short_name(&mut self) -> Result<ShortName, Malformed> {
        let &[length, _] = self.take::<2>()?;
        let name = self.take::<24>()?;
        let units = wire::utf16(name.get(..usize::from(length)).ok_or(WRONG)?, WRONG.0)?;
        ShortName::new(&units).ok_or(WRONG)
    }
}

/// Reads the entries of an output buffer (the client's direction).
///
/// # Errors
/// [`InformationError::Class`] if `class` is not one of directory listings; [`InformationError::Malformed`]
/// when an entry or a name reaches past the next entry or the end.
pub fn parse(class: FileInfoClass, bytes: &Bytes) -> Result<Vec<DirectoryEntry>, InformationError> {
    let layout = Layout::of(class).ok_or(InformationError::Class)?;
    let chain = Chain::new(bytes, layout.name, 8, WRONG.0);
    chain.map(|entry| Ok(DirectoryEntry::parse(layout, &entry?)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLASSES: [FileInfoClass; 12] = [
        FileInfoClass::DIRECTORY,
        FileInfoClass::FULL_DIRECTORY,
        FileInfoClass::BOTH_DIRECTORY,
        FileInfoClass::NAMES,
        FileInfoClass::ID_BOTH_DIRECTORY,
        FileInfoClass::ID_FULL_DIRECTORY,
        FileInfoClass::ID_EXTD_DIRECTORY,
        FileInfoClass::ID_EXTD_BOTH_DIRECTORY,
        FileInfoClass::ID_64_EXTD_DIRECTORY,
        FileInfoClass::ID_64_EXTD_BOTH_DIRECTORY,
        FileInfoClass::ID_ALL_EXTD_DIRECTORY,
        FileInfoClass::ID_ALL_EXTD_BOTH_DIRECTORY,
    ];

    fn entry(name: &str, attributes: FileAttributes) -> DirectoryEntry {
        DirectoryEntry {
            file_index: 3,
            creation_time: FileTime(1 << 56 | 1),
            last_access_time: FileTime(2),
            last_write_time: FileTime(3),
            change_time: FileTime(4),
            end_of_file: 1 << 40,
            allocation_size: 1 << 41,
            attributes,
            ea_size: 77,
            reparse_tag: if attributes.contains(FileAttributes::REPARSE_POINT) { 0xA000_000C } else { 0 },
            file_id: 0x0102_0304_0506_0708,
            file_id_128: [9; 16],
            short_name: ShortName::new(&"LEASED~1.TXT".encode_utf16().collect::<Vec<_>>()).unwrap(),
            name: Name::from(name),
        }
    }

    /// The entry as it is after a trip through `class`.
    fn reduced(class: FileInfoClass, full: &DirectoryEntry) -> DirectoryEntry {
        let layout = Layout::of(class).unwrap();
        let mut entry = full.clone();
        if !layout.metadata {
            entry =
                DirectoryEntry { file_index: full.file_index, name: full.name.clone(), ..Default::default() };
        }
        if !layout.id_64 {
            entry.file_id = 0;
        }
        if !layout.id_128 {
            entry.file_id_128 = [0; 16];
        }
        if !layout.short_name {
            entry.short_name = ShortName::default();
        }
        if !layout.ea_size {
            (entry.ea_size, entry.reparse_tag) = (0, 0);
        } else if !layout.reparse_tag && entry.attributes.contains(FileAttributes::REPARSE_POINT) {
            entry.ea_size = 0;
        }
        entry
    }

    #[test]
    fn every_class_round_trips() {
        let entries = [
            entry("a", FileAttributes::ARCHIVE),
            entry("link", FileAttributes::REPARSE_POINT),
            entry("", FileAttributes::DIRECTORY),
            entry("n\u{E4}me.txt", FileAttributes::NORMAL),
        ];
        for class in CLASSES {
            let mut writer = DirectoryWriter::new(class, 4096).unwrap();
            assert!(writer.is_empty());
            assert!(entries.iter().all(|entry| writer.push(entry)));
            let bytes = Bytes::from(writer.finish());
            let expected: Vec<_> = entries.iter().map(|entry| reduced(class, entry)).collect();
            assert_eq!(parse(class, &bytes), Ok(expected));
            for length in 1..bytes.len() {
                assert!(parse(class, &bytes.slice(..length)).is_err(), "{class:?} {length}");
            }
            for position in 0..bytes.len() {
                let mut hostile = bytes.to_vec();
                hostile[position] ^= 0xFF;
                let _ = parse(class, &hostile.into());
            }
        }
    }

    #[test]
    fn names_start_where_the_table_says() {
        for class in CLASSES {
            let mut writer = DirectoryWriter::new(class, 4096).unwrap();
            assert!(writer.push(&entry("", FileAttributes::EMPTY)));
            assert_eq!(Some(writer.finish().len()), name_offset(class));
        }
        assert_eq!(name_offset(FileInfoClass::BASIC), None);
        assert!(DirectoryWriter::new(FileInfoClass::BASIC, 100).is_none());
        assert_eq!(parse(FileInfoClass::BASIC, &Bytes::new()), Err(InformationError::Class));
    }

    #[test]
    fn the_limit_counts_padding_but_not_behind_the_last() {
        // 12 bytes and 2 of name each: 14, then padding to 16, then 14.
        for (limit, fits) in [(13, 0), (14, 1), (29, 1), (30, 2)] {
            let mut writer = DirectoryWriter::new(FileInfoClass::NAMES, limit).unwrap();
            let pushed = (0..3).take_while(|_| writer.push(&entry("x", FileAttributes::EMPTY))).count();
            assert_eq!(pushed, fits, "{limit}");
            let bytes = writer.finish();
            assert!(bytes.len() <= limit);
            assert_eq!(parse(FileInfoClass::NAMES, &bytes.into()).unwrap().len(), fits);
        }
    }

    #[test]
    fn entries_are_aligned_behind_what_the_buffer_holds() {
        let mut writer = DirectoryWriter::in_buffer(FileInfoClass::NAMES, 100, vec![0xEE; 3]).unwrap();
        assert!(
            writer.push(&entry("x", FileAttributes::EMPTY))
                && writer.push(&entry("y", FileAttributes::EMPTY))
        );
        let bytes = Bytes::from(writer.finish());
        assert_eq!(bytes.len(), 3 + 30);
        assert_eq!(parse(FileInfoClass::NAMES, &bytes.slice(3..)).unwrap().len(), 2);
    }

    #[test]
    fn a_tag_without_a_reparse_point_is_none() {
        let mut writer = DirectoryWriter::new(FileInfoClass::ID_EXTD_DIRECTORY, 4096).unwrap();
        let entry = DirectoryEntry { name: "a".into(), ..DirectoryEntry::default() };
        assert!(writer.push(&entry));
        let mut bytes = writer.finish();
        bytes[68..72].fill(7);
        assert_eq!(parse(FileInfoClass::ID_EXTD_DIRECTORY, &bytes.into()), Ok(vec![entry]));
    }
}
