//! Access control lists (MS-DTYP 2.4.4, 2.4.5).

use bytes::Bytes;

use super::sid::Sid;
use crate::access::AccessMask;
use crate::error::Malformed;
use crate::flags::flags;
use crate::wire;

/// Kind of an entry (MS-DTYP 2.4.4.1); undefined values are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AceType(pub u8);

impl AceType {
    /// Grants.
    pub const ACCESS_ALLOWED: Self = Self(0x00);
    /// Refuses.
    pub const ACCESS_DENIED: Self = Self(0x01);
    /// Logs.
    pub const SYSTEM_AUDIT: Self = Self(0x02);
    /// Alarms; reserved.
    pub const SYSTEM_ALARM: Self = Self(0x03);
    /// Grants on a kind of object.
    pub const ACCESS_ALLOWED_OBJECT: Self = Self(0x05);
    /// Refuses on a kind of object.
    pub const ACCESS_DENIED_OBJECT: Self = Self(0x06);
    /// Logs on a kind of object.
    pub const SYSTEM_AUDIT_OBJECT: Self = Self(0x07);
    /// Grants under a condition.
    pub const ACCESS_ALLOWED_CALLBACK: Self = Self(0x09);
    /// Refuses under a condition.
    pub const ACCESS_DENIED_CALLBACK: Self = Self(0x0A);
    /// Grants on a kind of object under a condition.
    pub const ACCESS_ALLOWED_CALLBACK_OBJECT: Self = Self(0x0B);
    /// Refuses on a kind of object under a condition.
    pub const ACCESS_DENIED_CALLBACK_OBJECT: Self = Self(0x0C);
    /// Logs under a condition.
    pub const SYSTEM_AUDIT_CALLBACK: Self = Self(0x0D);
    /// Logs on a kind of object under a condition.
    pub const SYSTEM_AUDIT_CALLBACK_OBJECT: Self = Self(0x0F);
    /// Integrity level.
    pub const SYSTEM_MANDATORY_LABEL: Self = Self(0x11);
    /// Attribute of the object.
    pub const SYSTEM_RESOURCE_ATTRIBUTE: Self = Self(0x12);
    /// Central policy that applies.
    pub const SYSTEM_SCOPED_POLICY_ID: Self = Self(0x13);

    /// Whether the entry is a mask and a SID, perhaps with data behind them.
    #[must_use]
    pub const fn has_sid(self) -> bool {
        matches!(self.0, 0x00..=0x03 | 0x09 | 0x0A | 0x0D | 0x11..=0x13)
    }
}

flags! {
    /// Flags of an entry (MS-DTYP 2.4.4.1).
    pub struct AceFlags(u8);
    /// Files inherit it.
    OBJECT_INHERIT = 0x01;
    /// Directories inherit it.
    CONTAINER_INHERIT = 0x02;
    /// Inherited once, not further.
    NO_PROPAGATE_INHERIT = 0x04;
    /// Only for inheritance, without effect here.
    INHERIT_ONLY = 0x08;
    /// Came by inheritance.
    INHERITED = 0x10;
    /// Log what succeeds.
    SUCCESSFUL_ACCESS = 0x40;
    /// Log what fails.
    FAILED_ACCESS = 0x80;
}

/// What stands behind the header of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AceBody {
    /// A mask, a SID, and what follows them (a condition, an attribute; usually nothing).
    Sid {
        /// Rights, generic ones included.
        mask: AccessMask,
        /// Whom it is about.
        sid: Sid,
        /// What follows the SID; a multiple of four bytes once it was on the wire.
        data: Bytes,
    },
    /// The bytes of a kind that this crate does not take apart.
    Raw(Bytes),
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ace {
    /// Kind.
    pub ace_type: AceType,
    /// Inheritance and auditing.
    pub flags: AceFlags,
    /// The rest.
    pub body: AceBody,
}

/// Size of the header of an entry.
const ACE_HEADER: usize = 4;

impl Ace {
    /// An entry that grants `mask` to `sid`.
    #[must_use]
    pub fn allow(sid: Sid, mask: AccessMask, flags: AceFlags) -> Self {
        Self {
            ace_type: AceType::ACCESS_ALLOWED,
            flags,
            body: AceBody::Sid { mask, sid, data: Bytes::new() },
        }
    }

    /// An entry that refuses `mask` to `sid`.
    #[must_use]
    pub fn deny(sid: Sid, mask: AccessMask, flags: AceFlags) -> Self {
        Self { ace_type: AceType::ACCESS_DENIED, flags, body: AceBody::Sid { mask, sid, data: Bytes::new() } }
    }

    /// Whom the entry is about, if it is of a kind that is taken apart.
    #[must_use]
    pub fn sid(&self) -> Option<&Sid> {
        match &self.body {
            AceBody::Sid { sid, .. } => Some(sid),
            AceBody::Raw(_) => None,
        }
    }

    /// Number of bytes on the wire, padding included.
    #[must_use]
    pub fn wire_len(&self) -> usize {
        let body = match &self.body {
            AceBody::Sid { sid, data, .. } => sid.wire_len().saturating_add(data.len()).saturating_add(4),
            AceBody::Raw(bytes) => bytes.len(),
        };
        body.saturating_add(ACE_HEADER).next_multiple_of(4)
    }

    fn parse(bytes: &Bytes) -> Result<Self, Malformed> {
        let Some((&[ace_type, flags, _, _], _)) = bytes.split_first_chunk::<ACE_HEADER>() else {
            return Err(Malformed("ACE: short"));
        };
        let ace_type = AceType(ace_type);
        let flags = AceFlags(flags);
        let body = bytes.slice(ACE_HEADER..);
        if !ace_type.has_sid() {
            return Ok(Self { ace_type, flags, body: AceBody::Raw(body) });
        }
        let (mask, tail) = body.split_first_chunk::<4>().ok_or(Malformed("ACE: short"))?;
        let sid = Sid::parse(tail)?;
        let data = body.slice(sid.wire_len().saturating_add(4)..);
        Ok(Self {
            ace_type,
            flags,
            body: AceBody::Sid { mask: AccessMask(u32::from_le_bytes(*mask)), sid, data },
        })
    }

    fn emit(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[self.ace_type.0, self.flags.0]);
        out.extend_from_slice(&wire::length_u16(self.wire_len()).to_le_bytes());
        match &self.body {
            AceBody::Sid { mask, sid, data } => {
                out.extend_from_slice(&mask.0.to_le_bytes());
                sid.emit(out);
                out.extend_from_slice(data);
            }
            AceBody::Raw(bytes) => out.extend_from_slice(bytes),
        }
        wire::align(out, start, 4);
    }
}

/// A list of entries; their order matters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Acl {
    /// 2, or 4 when there are entries for kinds of objects.
    pub revision: u8,
    /// The entries.
    pub aces: Vec<Ace>,
}

/// Size of the header of a list.
const ACL_HEADER: usize = 8;

/// Most bytes of a list: its size is a 16-bit field.
pub const ACL_SIZE_MAX: usize = 0xFFFF;

impl Default for Acl {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl Acl {
    /// A list of entries of the plain kinds.
    #[must_use]
    pub fn new(aces: Vec<Ace>) -> Self {
        Self { revision: 2, aces }
    }

    /// Number of bytes on the wire. A list longer than [`ACL_SIZE_MAX`] cannot be sent: refuse it before
    /// emitting.
    #[must_use]
    pub fn wire_len(&self) -> usize {
        self.aces.iter().fold(ACL_HEADER, |sum, ace| sum.saturating_add(ace.wire_len()))
    }

    /// Reads the list at the start of `bytes`, sharing their storage; what follows it is left alone.
    ///
    /// # Errors
    /// [`Malformed`] when the list or an entry is short, of an unknown revision, or has a size that is not a
    /// multiple of four.
    pub fn parse(bytes: &Bytes) -> Result<Self, Malformed> {
        let Some((&[revision, _, size_low, size_high, count_low, count_high, _, _], _)) =
            bytes.split_first_chunk::<ACL_HEADER>()
        else {
            return Err(Malformed("ACL: short"));
        };
        if !(2..=4).contains(&revision) {
            return Err(Malformed("ACL: revision"));
        }
        let size = usize::from(u16::from_le_bytes([size_low, size_high]));
        let count = u16::from_le_bytes([count_low, count_high]);
        if size < ACL_HEADER || size > bytes.len() {
            return Err(Malformed("ACL: size"));
        }
        let mut rest = bytes.slice(ACL_HEADER..size);
        let mut aces = Vec::with_capacity(usize::from(count).min(rest.len() / ACE_HEADER));
        for _ in 0..count {
            let Some((&[_, _, low, high], _)) = rest.split_first_chunk::<ACE_HEADER>() else {
                return Err(Malformed("ACL: fewer entries than announced"));
            };
            let size = usize::from(u16::from_le_bytes([low, high]));
            if size < ACE_HEADER || size % 4 != 0 || size > rest.len() {
                return Err(Malformed("ACE: size"));
            }
            aces.push(Ace::parse(&rest.split_to(size))?);
        }
        Ok(Self { revision, aces })
    }

    /// Appends the list.
    pub fn emit(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[self.revision, 0]);
        out.extend_from_slice(&wire::length_u16(self.wire_len()).to_le_bytes());
        out.extend_from_slice(&wire::length_u16(self.aces.len()).to_le_bytes());
        out.extend_from_slice(&[0, 0]);
        for ace in &self.aces {
            ace.emit(out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Acl {
        Acl {
            revision: 4,
            aces: vec![
                Ace::deny(Sid::ANONYMOUS, AccessMask(0x10), AceFlags::default()),
                Ace::allow(Sid::EVERYONE, AccessMask::FILE_ALL_ACCESS, AceFlags(3)),
                Ace {
                    ace_type: AceType::ACCESS_ALLOWED_CALLBACK,
                    flags: AceFlags::INHERITED,
                    body: AceBody::Sid {
                        mask: AccessMask(1),
                        sid: Sid::BUILTIN_USERS,
                        data: Bytes::from_static(b"artx"),
                    },
                },
                Ace {
                    ace_type: AceType::ACCESS_ALLOWED_OBJECT,
                    flags: AceFlags::default(),
                    body: AceBody::Raw(Bytes::from_static(&[7; 40])),
                },
                Ace { ace_type: AceType(0x77), flags: AceFlags(0x80), body: AceBody::Raw(Bytes::new()) },
            ],
        }
    }

    #[test]
    fn round_trips() {
        let acl = sample();
        let mut bytes = Vec::new();
        acl.emit(&mut bytes);
        assert_eq!(bytes.len(), acl.wire_len());
        let bytes = Bytes::from(bytes);
        assert_eq!(Acl::parse(&bytes), Ok(acl));
        for length in 0..bytes.len() {
            assert!(Acl::parse(&bytes.slice(..length)).is_err());
        }
    }

    #[test]
    fn known_bytes() {
        let mut bytes = Vec::new();
        Acl::new(vec![Ace::allow(Sid::EVERYONE, AccessMask::FILE_GENERIC_READ, AceFlags::default())])
            .emit(&mut bytes);
        assert_eq!(
            bytes,
            [2, 0, 28, 0, 1, 0, 0, 0, 0, 0, 20, 0, 0x89, 0, 0x12, 0, 1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]
        );
    }

    #[test]
    fn hostile_sizes_are_refused() {
        let mut bytes = Vec::new();
        sample().emit(&mut bytes);
        for (position, value) in [(2, 4), (2, 0xFF), (4, 200), (10, 0), (10, 2), (10, 21), (10, 0xFF), (0, 9)]
        {
            let mut wrong = bytes.clone();
            wrong[position] = value;
            if position == 2 && value == 0xFF {
                wrong[3] = 0xFF;
            }
            assert!(Acl::parse(&wrong.into()).is_err(), "{position} {value}");
        }
    }
}
