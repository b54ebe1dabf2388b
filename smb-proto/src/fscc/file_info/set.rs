//! What requests set.

use bytes::Bytes;

use super::query::fixed;
use super::structures::{BasicInformation, Mode, PipeInformation};
use crate::flags::flags;
use crate::fscc::class::FileInfoClass;
use crate::fscc::ea::{self, FullEa};
use crate::fscc::{InformationError, counted_name, put_counted_name, u32_at, u64_at};
use crate::name::Name;
use crate::wire;

flags! {
    /// How a file is marked for deletion (MS-FSCC 2.4.12).
    pub struct DispositionFlags(u32);
    /// Delete; clear takes the mark away.
    DELETE = 0x01;
    /// The name goes away with this open rather than with the last.
    POSIX_SEMANTICS = 0x02;
    /// Refuse while the file is executed.
    FORCE_IMAGE_SECTION_CHECK = 0x04;
    /// Changes what the option to delete on close does.
    ON_CLOSE = 0x08;
    /// Delete though the file is read-only.
    IGNORE_READONLY_ATTRIBUTE = 0x10;
}

flags! {
    /// How a file is renamed or linked (MS-FSCC 2.4.43). The classes without flags know only the first.
    pub struct RenameFlags(u32);
    /// What already has the name is replaced.
    REPLACE_IF_EXISTS = 0x0001;
    /// What is replaced stays open for whoever has it open.
    POSIX_SEMANTICS = 0x0002;
    /// The new directory does not decide whether the file is pinned.
    SUPPRESS_PIN_STATE_INHERITANCE = 0x0004;
    /// The new directory does not decide on the storage reserve.
    SUPPRESS_STORAGE_RESERVE_INHERITANCE = 0x0008;
    /// Space available to users does not grow.
    NO_INCREASE_AVAILABLE_SPACE = 0x0010;
    /// Space available to users does not shrink.
    NO_DECREASE_AVAILABLE_SPACE = 0x0020;
    /// Replace though the file is read-only.
    IGNORE_READONLY_ATTRIBUTE = 0x0040;
    /// The target's storage reserve grows by the file.
    FORCE_RESIZE_TARGET_SR = 0x0080;
    /// The source's storage reserve shrinks by the file.
    FORCE_RESIZE_SOURCE_SR = 0x0100;
}

/// A new name: of FILE_RENAME_INFORMATION_TYPE_2, FILE_LINK_INFORMATION_TYPE_2 and their forms with flags
/// (MS-FSCC 2.4.42.2, 2.4.28.2, 2.4.43).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RenameInformation {
    /// How.
    pub flags: RenameFlags,
    /// The directory to which the name is relative; zero over the network, for the share's root.
    pub root_directory: u64,
    /// The name: a path, not yet checked.
    pub name: Name,
}

/// Size of a rename without its name.
const RENAME_FIXED: usize = 20;
/// Senders pad a rename to this size.
const RENAME_MIN: usize = 24;

impl RenameInformation {
    fn parse(bytes: &Bytes, with_flags: bool) -> Result<Self, InformationError> {
        const WHAT: &str = "rename information";
        if bytes.len() < RENAME_FIXED {
            return Err(InformationError::Length);
        }
        let raw = u32_at(bytes, 0, WHAT)?;
        let flags = match with_flags {
            true => RenameFlags(raw),
            // A boolean and reserved bytes.
            false if raw & 0xFF == 0 => RenameFlags::EMPTY,
            false => RenameFlags::REPLACE_IF_EXISTS,
        };
        Ok(Self { flags, root_directory: u64_at(bytes, 8, WHAT)?, name: counted_name(bytes, 16, WHAT)? })
    }

    fn emit(&self, out: &mut Vec<u8>, with_flags: bool) {
        let start = out.len();
        let flags = if with_flags { self.flags } else { self.flags.masked(RenameFlags::REPLACE_IF_EXISTS) };
        out.extend_from_slice(&flags.0.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.root_directory.to_le_bytes());
        put_counted_name(out, &self.name);
        out.resize(out.len().max(start.saturating_add(RENAME_MIN)), 0);
    }
}

/// What a request sets, one variant for each class. Sizes and positions are signed on the wire: a value above
/// `i64::MAX` is negative, which is an invalid parameter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SetFileInformation {
    /// The space allocated (2.4.4).
    Allocation(u64),
    /// Times and attributes (2.4.7).
    Basic(BasicInformation),
    /// Whether the file goes away with its last open (2.4.11).
    Disposition(bool),
    /// The same, with flags (2.4.12).
    DispositionEx(DispositionFlags),
    /// The end of the file (2.4.14).
    EndOfFile(u64),
    /// Extended attributes to be set or, without a value, deleted (2.4.16).
    FullEa(Vec<FullEa>),
    /// A hard link to be added (2.4.28).
    Link(RenameInformation),
    /// The same, with flags.
    LinkEx(RenameInformation),
    /// The mode of the open (2.4.31).
    Mode(Mode),
    /// How a pipe is read and completes (2.4.37).
    Pipe(PipeInformation),
    /// The position of the open (2.4.40).
    Position(u64),
    /// A new name (2.4.42).
    Rename(RenameInformation),
    /// The same, with flags (2.4.43).
    RenameEx(RenameInformation),
    /// The short name; empty to delete it (2.4.46).
    ShortName(Name),
    /// The valid data length (2.4.50).
    ValidDataLength(u64),
}

impl SetFileInformation {
    /// The class that this is.
    #[must_use]
    pub const fn class(&self) -> FileInfoClass {
        match self {
            Self::Allocation(_) => FileInfoClass::ALLOCATION,
            Self::Basic(_) => FileInfoClass::BASIC,
            Self::Disposition(_) => FileInfoClass::DISPOSITION,
            Self::DispositionEx(_) => FileInfoClass::DISPOSITION_EX,
            Self::EndOfFile(_) => FileInfoClass::END_OF_FILE,
            Self::FullEa(_) => FileInfoClass::FULL_EA,
            Self::Link(_) => FileInfoClass::LINK,
            Self::LinkEx(_) => FileInfoClass::LINK_EX,
            Self::Mode(_) => FileInfoClass::MODE,
            Self::Pipe(_) => FileInfoClass::PIPE,
            Self::Position(_) => FileInfoClass::POSITION,
            Self::Rename(_) => FileInfoClass::RENAME,
            Self::RenameEx(_) => FileInfoClass::RENAME_EX,
            Self::ShortName(_) => FileInfoClass::SHORT_NAME,
            Self::ValidDataLength(_) => FileInfoClass::VALID_DATA_LENGTH,
        }
    }

    /// Reads what a request sets. Bytes behind the structure are ignored.
    ///
    /// # Errors
    /// [`InformationError`]: not a class that is set, too few bytes, lengths that point outside them, or
    /// extended attributes that are none.
    pub fn parse(class: FileInfoClass, bytes: &Bytes) -> Result<Self, InformationError> {
        let long = || u64_at(bytes, 0, "").map_err(|_| InformationError::Length);
        let number = || u32_at(bytes, 0, "").map_err(|_| InformationError::Length);
        Ok(match class {
            FileInfoClass::ALLOCATION => Self::Allocation(long()?),
            FileInfoClass::BASIC => Self::Basic(fixed(bytes)?),
            FileInfoClass::DISPOSITION => {
                Self::Disposition(*bytes.first().ok_or(InformationError::Length)? != 0)
            }
            FileInfoClass::DISPOSITION_EX => Self::DispositionEx(DispositionFlags(number()?)),
            FileInfoClass::END_OF_FILE => Self::EndOfFile(long()?),
            FileInfoClass::FULL_EA => Self::FullEa(ea::parse_full(bytes)?),
            FileInfoClass::LINK => Self::Link(RenameInformation::parse(bytes, false)?),
            FileInfoClass::LINK_EX => Self::LinkEx(RenameInformation::parse(bytes, true)?),
            FileInfoClass::MODE => Self::Mode(Mode(number()?)),
            FileInfoClass::PIPE => Self::Pipe(fixed(bytes)?),
            FileInfoClass::POSITION => Self::Position(long()?),
            FileInfoClass::RENAME => Self::Rename(RenameInformation::parse(bytes, false)?),
            FileInfoClass::RENAME_EX => Self::RenameEx(RenameInformation::parse(bytes, true)?),
            FileInfoClass::SHORT_NAME => {
                number()?;
                Self::ShortName(counted_name(bytes, 0, "short name information")?)
            }
            FileInfoClass::VALID_DATA_LENGTH => Self::ValidDataLength(long()?),
            _ => return Err(InformationError::Class),
        })
    }

    /// Appends the information (the client's direction).
    pub fn emit(&self, out: &mut Vec<u8>) {
        match self {
            Self::Allocation(number)
            | Self::EndOfFile(number)
            | Self::Position(number)
            | Self::ValidDataLength(number) => out.extend_from_slice(&number.to_le_bytes()),
            Self::Basic(information) => wire::put(out, information),
            Self::Disposition(delete) => out.push(u8::from(*delete)),
            Self::DispositionEx(flags) => wire::put(out, flags),
            Self::FullEa(list) => {
                ea::emit_full(list, out, usize::MAX);
            }
            Self::Link(information) | Self::Rename(information) => information.emit(out, false),
            Self::LinkEx(information) | Self::RenameEx(information) => information.emit(out, true),
            Self::Mode(mode) => wire::put(out, mode),
            Self::Pipe(information) => wire::put(out, information),
            Self::ShortName(name) => put_counted_name(out, name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fscc::ea::EaError;
    use crate::fscc::tests::round_trip;
    use crate::status::NtStatus;

    fn rename(flags: RenameFlags, name: &str) -> RenameInformation {
        RenameInformation { flags, root_directory: 0, name: Name::from(name) }
    }

    #[test]
    fn every_class_round_trips() {
        let replace = RenameFlags::REPLACE_IF_EXISTS;
        let posix = replace.with(RenameFlags::POSIX_SEMANTICS);
        for information in [
            SetFileInformation::Allocation(5),
            SetFileInformation::Basic(BasicInformation::default()),
            SetFileInformation::Disposition(true),
            SetFileInformation::DispositionEx(
                DispositionFlags::DELETE.with(DispositionFlags::POSIX_SEMANTICS),
            ),
            SetFileInformation::EndOfFile(u64::MAX),
            SetFileInformation::FullEa(vec![FullEa {
                flags: 0,
                name: Bytes::from_static(b"A"),
                value: Bytes::from_static(b"1"),
            }]),
            SetFileInformation::Link(rename(RenameFlags::EMPTY, "d\\new name")),
            SetFileInformation::LinkEx(rename(posix, "new")),
            SetFileInformation::Mode(Mode::SEQUENTIAL_ONLY),
            SetFileInformation::Pipe(PipeInformation { read_mode: 1, completion_mode: 1 }),
            SetFileInformation::Position(9),
            SetFileInformation::Rename(rename(replace, "n")),
            SetFileInformation::RenameEx(rename(posix, "new")),
            SetFileInformation::ShortName(Name::from("NEW~1")),
            SetFileInformation::ShortName(Name::default()),
            SetFileInformation::ValidDataLength(7),
        ] {
            let class = information.class();
            let parse = |bytes: &Bytes| SetFileInformation::parse(class, bytes);
            let bytes = round_trip(&information, SetFileInformation::emit, parse);
            // Padding may go missing, nothing else; no bytes at all are no extended attributes.
            let needed = if class == FileInfoClass::RENAME { 22 } else { bytes.len() };
            for length in 1..needed {
                assert!(parse(&bytes.slice(..length)).is_err(), "{class:?} {length}");
            }
        }
    }

    #[test]
    fn a_rename_is_padded() {
        let mut out = Vec::new();
        SetFileInformation::Rename(rename(RenameFlags::REPLACE_IF_EXISTS, "n")).emit(&mut out);
        assert_eq!(out, [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, b'n', 0, 0, 0]);
        // Reserved bytes behind the boolean mean nothing.
        out[..4].copy_from_slice(&[0, 0xFF, 0xFF, 0xFF]);
        let parsed = SetFileInformation::parse(FileInfoClass::RENAME, &out.into());
        assert_eq!(parsed, Ok(SetFileInformation::Rename(rename(RenameFlags::EMPTY, "n"))));
    }

    #[test]
    fn faults_have_their_status() {
        let status = |class, bytes: &'static [u8]| {
            SetFileInformation::parse(class, &Bytes::from_static(bytes)).unwrap_err().status()
        };
        assert_eq!(status(FileInfoClass::BASIC, &[0; 39]), NtStatus::INFO_LENGTH_MISMATCH);
        assert_eq!(status(FileInfoClass::STANDARD, &[0; 39]), NtStatus::INVALID_INFO_CLASS);
        let long_name = &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 1, 0];
        assert_eq!(status(FileInfoClass::RENAME, long_name), NtStatus::INVALID_PARAMETER);
        assert_eq!(status(FileInfoClass::FULL_EA, &[1; 4]), NtStatus::EA_LIST_INCONSISTENT);
        let name_error = InformationError::Ea(EaError::Name(0));
        assert_eq!(name_error.status(), NtStatus::INVALID_EA_NAME);
    }
}
