//! Security identifiers (MS-DTYP 2.4.2).

use std::fmt;
use std::str::FromStr;

use crate::error::Malformed;

/// Most sub-authorities of a SID.
pub const SUB_AUTHORITIES_MAX: usize = 15;

/// A security identifier. Small and without storage of its own, so that comparing and copying cost nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sid {
    authority: [u8; 6],
    count: u8,
    /// Those past `count` are zero, which makes the derived comparisons right.
    sub_authorities: [u32; SUB_AUTHORITIES_MAX],
}

const fn short(authority: u8, count: u8, first: u32, second: u32) -> Sid {
    Sid {
        authority: [0, 0, 0, 0, 0, authority],
        count,
        sub_authorities: [first, second, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    }
}

/// Well-known identifiers (MS-DTYP 2.4.2.4).
impl Sid {
    /// S-1-0-0, nobody.
    pub const NULL: Self = short(0, 1, 0, 0);
    /// S-1-1-0, everyone.
    pub const EVERYONE: Self = short(1, 1, 0, 0);
    /// S-1-3-0, replaced by the owner when inherited.
    pub const CREATOR_OWNER: Self = short(3, 1, 0, 0);
    /// S-1-3-1, replaced by the primary group when inherited.
    pub const CREATOR_GROUP: Self = short(3, 1, 1, 0);
    /// S-1-3-4, whoever owns the object now.
    pub const OWNER_RIGHTS: Self = short(3, 1, 4, 0);
    /// S-1-5-2, users from the network.
    pub const NETWORK: Self = short(5, 1, 2, 0);
    /// S-1-5-4, users at the machine.
    pub const INTERACTIVE: Self = short(5, 1, 4, 0);
    /// S-1-5-7, anonymous users.
    pub const ANONYMOUS: Self = short(5, 1, 7, 0);
    /// S-1-5-10, replaced by the object's own identifier.
    pub const PRINCIPAL_SELF: Self = short(5, 1, 10, 0);
    /// S-1-5-11, users who proved who they are.
    pub const AUTHENTICATED_USERS: Self = short(5, 1, 11, 0);
    /// S-1-5-18, the system itself.
    pub const LOCAL_SYSTEM: Self = short(5, 1, 18, 0);
    /// S-1-5-32-544, administrators of the machine.
    pub const BUILTIN_ADMINISTRATORS: Self = short(5, 2, 32, 544);
    /// S-1-5-32-545, users of the machine.
    pub const BUILTIN_USERS: Self = short(5, 2, 32, 545);
    /// S-1-5-32-546, guests of the machine.
    pub const BUILTIN_GUESTS: Self = short(5, 2, 32, 546);
    /// S-1-5-32-551, backup operators of the machine.
    pub const BUILTIN_BACKUP_OPERATORS: Self = short(5, 2, 32, 551);
    /// S-1-16-4096, low integrity.
    pub const LOW_INTEGRITY: Self = short(16, 1, 4096, 0);
    /// S-1-16-8192, medium integrity.
    pub const MEDIUM_INTEGRITY: Self = short(16, 1, 8192, 0);
    /// S-1-16-12288, high integrity.
    pub const HIGH_INTEGRITY: Self = short(16, 1, 12288, 0);
    /// S-1-22-1, under which POSIX user numbers are placed by common practice.
    pub const UNIX_USERS: Self = short(22, 1, 1, 0);
    /// S-1-22-2, under which POSIX group numbers are placed by common practice.
    pub const UNIX_GROUPS: Self = short(22, 1, 2, 0);
    /// S-1-5-88-1, under which NFS user numbers are placed.
    pub const NFS_USERS: Self = short(5, 2, 88, 1);
    /// S-1-5-88-2, under which NFS group numbers are placed.
    pub const NFS_GROUPS: Self = short(5, 2, 88, 2);
    /// S-1-5-88-3, under which a POSIX mode is placed.
    pub const NFS_MODE: Self = short(5, 2, 88, 3);
}

impl Sid {
    /// From an authority (the low 48 bits count) and sub-authorities; `None` for more than fifteen.
    #[must_use]
    pub fn new(authority: u64, sub_authorities: &[u32]) -> Option<Self> {
        let [_, _, authority @ ..] = authority.to_be_bytes();
        let mut held = [0; SUB_AUTHORITIES_MAX];
        held.get_mut(..sub_authorities.len())?.copy_from_slice(sub_authorities);
        Some(Self { authority, count: u8::try_from(sub_authorities.len()).ok()?, sub_authorities: held })
    }

    /// The identifier below this one with number `rid`; `None` when there is no room.
    #[must_use]
    pub fn child(&self, rid: u32) -> Option<Self> {
        let mut child = *self;
        *child.sub_authorities.get_mut(usize::from(self.count))? = rid;
        child.count = child.count.checked_add(1)?;
        Some(child)
    }

    /// The identifier above this one and its own number; `None` when it has no sub-authority.
    #[must_use]
    pub fn split(&self) -> Option<(Self, u32)> {
        let mut parent = *self;
        parent.count = parent.count.checked_sub(1)?;
        let last = parent.sub_authorities.get_mut(usize::from(parent.count))?;
        let rid = std::mem::take(last);
        Some((parent, rid))
    }

    /// The identifier authority, 48 bits.
    #[must_use]
    pub fn authority(&self) -> u64 {
        let [a, b, c, d, e, f] = self.authority;
        u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }

    /// The sub-authorities, the most general first.
    #[must_use]
    pub fn sub_authorities(&self) -> &[u32] {
        self.sub_authorities.get(..usize::from(self.count)).unwrap_or_default()
    }

    /// Number of bytes on the wire.
    #[must_use]
    pub fn wire_len(&self) -> usize {
        usize::from(self.count).saturating_mul(4).saturating_add(8)
    }

    /// Reads the identifier at the start of `bytes`; what follows it (see [`Sid::wire_len`]) is left alone.
    ///
    /// # Errors
    /// [`Malformed`] when it is short, of another revision, or has more than fifteen sub-authorities.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let (head, tail) = bytes.split_first_chunk::<8>().ok_or(Malformed("SID: short"))?;
        let [revision, count, a, b, c, d, e, f] = *head;
        if revision != 1 {
            return Err(Malformed("SID: revision"));
        }
        let length = usize::from(count).saturating_mul(4);
        let (words, _) = tail.get(..length).ok_or(Malformed("SID: short"))?.as_chunks::<4>();
        let mut sub_authorities = [0; SUB_AUTHORITIES_MAX];
        let held =
            sub_authorities.get_mut(..words.len()).ok_or(Malformed("SID: too many sub-authorities"))?;
        for (sub_authority, word) in held.iter_mut().zip(words) {
            *sub_authority = u32::from_le_bytes(*word);
        }
        Ok(Self { authority: [a, b, c, d, e, f], count, sub_authorities })
    }

    /// Appends the identifier.
    pub fn emit(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[1, self.count]);
        out.extend_from_slice(&self.authority);
        for sub_authority in self.sub_authorities() {
            out.extend_from_slice(&sub_authority.to_le_bytes());
        }
    }
}

/// The string form of MS-DTYP 2.4.2.1.
impl fmt::Display for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self.authority();
        if authority > u64::from(u32::MAX) {
            write!(f, "S-1-0x{authority:012X}")?;
        } else {
            write!(f, "S-1-{authority}")?;
        }
        for sub_authority in self.sub_authorities() {
            write!(f, "-{sub_authority}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Sid {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        const WRONG: Malformed = Malformed("SID: not of the form S-1-authority-number...");
        let rest = text.strip_prefix("S-1-").or_else(|| text.strip_prefix("s-1-")).ok_or(WRONG)?;
        let mut parts = rest.split('-');
        let authority = parts.next().ok_or(WRONG)?;
        let authority = match authority.strip_prefix("0x").or_else(|| authority.strip_prefix("0X")) {
            Some(hexadecimal) if hexadecimal.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                u64::from_str_radix(hexadecimal, 16).map_err(|_| WRONG)?
            }
            Some(_) => return Err(WRONG),
            None => decimal(authority).ok_or(WRONG)?,
        };
        if authority >> 48 != 0 {
            return Err(WRONG);
        }
        let mut sid = Self::new(authority, &[]).ok_or(WRONG)?;
        for part in parts {
            let number = decimal(part).and_then(|number| u32::try_from(number).ok()).ok_or(WRONG)?;
            sid = sid.child(number).ok_or(WRONG)?;
        }
        Ok(sid)
    }
}

/// A number without the sign that `parse` would accept.
fn decimal(text: &str) -> Option<u64> {
    if text.starts_with('+') { None } else { text.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_and_bytes_round_trip() {
        for text in [
            "S-1-1-0",
            "S-1-5-32-544",
            "S-1-5-21-1-2-3-513",
            "S-1-0x010000000000-7",
            "S-1-5",
            "S-1-5-1-2-3-4-5-6-7-8-9-10-11-12-13-14-4294967295",
        ] {
            let sid: Sid = text.parse().unwrap();
            assert_eq!(sid.to_string(), text);
            let mut bytes = Vec::new();
            sid.emit(&mut bytes);
            assert_eq!(bytes.len(), sid.wire_len());
            assert_eq!(Sid::parse(&bytes), Ok(sid));
            for length in 0..bytes.len() {
                assert!(Sid::parse(&bytes[..length]).is_err());
            }
        }
    }

    #[test]
    fn known_bytes() {
        let bytes = [1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 0x20, 2, 0, 0, 0xFF];
        assert_eq!(Sid::parse(&bytes), Ok(Sid::BUILTIN_ADMINISTRATORS));
        assert_eq!("S-1-5-32-544".parse(), Ok(Sid::BUILTIN_ADMINISTRATORS));
    }

    #[test]
    fn wrong_strings_and_bytes_are_refused() {
        for text in
            ["", "S-1", "S-2-1-0", "S-1-", "S-1-5-", "S-1-5--1", "S-1-5-+1", "S-1-5-4294967296", "S-1-0xZ"]
        {
            assert!(text.parse::<Sid>().is_err(), "{text}");
        }
        assert!("S-1-281474976710656-1".parse::<Sid>().is_err());
        assert!("S-1-5-1-2-3-4-5-6-7-8-9-10-11-12-13-14-15-16".parse::<Sid>().is_err());
        let mut sixteen = vec![1, 16, 0, 0, 0, 0, 0, 5];
        sixteen.resize(8 + 64, 0);
        assert!(Sid::parse(&sixteen).is_err());
        assert!(Sid::parse(&[2, 1, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0]).is_err());
    }

    #[test]
    fn children_and_parents() {
        let child = Sid::BUILTIN_USERS.child(9).unwrap();
        assert_eq!(child.split(), Some((Sid::BUILTIN_USERS, 9)));
        assert_eq!(Sid::new(5, &[]).unwrap().split(), None);
        assert_ne!(Sid::new(5, &[0]), Sid::new(5, &[]));
    }
}
