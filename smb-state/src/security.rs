//! Who asks, and what security descriptors grant (MS-FSA 2.1.4.14, MS-DTYP 2.5.3.2).
//!
//! Users have SIDs below a domain of the server's own. Nobody has a privilege but the one to pass through directories
//! (MS-LSAD 3.1.1.2.1 SeChangeNotifyPrivilege), which Windows gives to everybody: only the directory that a name is in counts.

use smb_proto::NtStatus;
use smb_proto::access::AccessMask;
use smb_proto::security::access_check::{Token, access_check};
use smb_proto::security::acl::{Ace, AceBody, AceFlags, AceType, Acl};
use smb_proto::security::descriptor::SecurityDescriptor;
use smb_proto::security::inherit::NewObject;
use smb_proto::security::sid::Sid;

use crate::event::Identity;
use crate::ids::SessionId;
use crate::message::Origin;
use crate::shard::Shard;
use crate::storage::Kind;

/// Relative identifiers of well-known accounts and groups of every domain (MS-DTYP 2.4.2.4).
const GUEST: u32 = 501;
const USERS: u32 = 513;
const GUESTS: u32 = 514;

/// The domain that a server's users are in: S-1-5-21 and three numbers, as a machine has it. Its own for every ServerGuid.
#[must_use]
pub fn account_domain(server_guid: &[u8; 16]) -> Sid {
    let (words, _) = server_guid.as_chunks::<4>();
    let numbers = words.iter().take(3).map(|word| u32::from_le_bytes(*word));
    numbers.fold(Sid::new(5, &[21]).unwrap_or(Sid::NULL), below)
}

/// There is always room: a domain has four sub-authorities of fifteen.
fn below(sid: Sid, number: u32) -> Sid {
    sid.child(number).unwrap_or(Sid::NULL)
}

/// The group of all users of a domain, the primary group of every user.
#[must_use]
pub fn users_of(domain: Sid) -> Sid {
    below(domain, USERS)
}

/// The descriptor of what has none stored: everybody may do everything, and files in a directory inherit that, so that
/// nothing need be stored for them either.
#[must_use]
pub fn default_descriptor(owner: Sid, group: Sid, kind: Kind) -> SecurityDescriptor {
    let flags = match kind {
        Kind::Directory => AceFlags::OBJECT_INHERIT.with(AceFlags::CONTAINER_INHERIT),
        Kind::File | Kind::Pipe => AceFlags::EMPTY,
    };
    let ace = Ace::allow(Sid::EVERYONE, AccessMask::FILE_ALL_ACCESS, flags);
    SecurityDescriptor::new(owner, group, Acl::new(vec![ace]))
}

/// The SID of whoever it is.
pub(crate) fn user_sid(identity: &Identity, domain: Sid) -> Sid {
    match identity {
        Identity::User { number, .. } => below(domain, *number),
        Identity::Guest => below(domain, GUEST),
        Identity::Anonymous => Sid::ANONYMOUS,
    }
}

/// Who asks, as the access check wants it (MS-DTYP 2.5.2).
fn token(identity: &Identity, domain: Sid) -> Token {
    let groups = match identity {
        Identity::User { .. } => {
            vec![users_of(domain), Sid::EVERYONE, Sid::NETWORK, Sid::AUTHENTICATED_USERS, Sid::BUILTIN_USERS]
        }
        Identity::Guest => vec![below(domain, GUESTS), Sid::EVERYONE, Sid::NETWORK, Sid::BUILTIN_GUESTS],
        // Who said no name comes in only through a share that is for everybody, so everybody includes them.
        Identity::Anonymous => vec![Sid::EVERYONE, Sid::NETWORK],
    };
    Token::new(user_sid(identity, domain), groups)
}

/// All that a descriptor grants, one that is not stored included. Nothing, if nobody could be found who asks.
pub(crate) fn rights(descriptor: Option<&SecurityDescriptor>, token: Option<&Token>) -> AccessMask {
    match (descriptor, token) {
        (None, _) => AccessMask::FILE_ALL_ACCESS,
        (Some(_), None) => AccessMask::EMPTY,
        (Some(descriptor), Some(token)) => access_check(descriptor, token, AccessMask::MAXIMUM_ALLOWED)
            .unwrap_or(AccessMask::EMPTY)
            .masked(AccessMask::FILE_ALL_ACCESS),
    }
}

/// Whether an entry with this descriptor is in an access-based listing (MS-SMB2 3.3.5.18).
#[must_use]
pub fn may_see(descriptor: Option<&SecurityDescriptor>, token: &Token) -> bool {
    rights(descriptor, Some(token)).contains(AccessMask::FILE_GENERIC_READ)
}

/// Whether `token` may make `owner` an owner: itself, or a group that it is in, which MS-FSA 2.1.5.17 leaves to the server.
/// Nobody can make a file somebody else's.
pub(crate) fn check_owner(owner: Option<&Sid>, token: &Token) -> Result<(), NtStatus> {
    match owner {
        Some(owner) if token.contains(owner) => Ok(()),
        Some(_) | None => Err(NtStatus::INVALID_OWNER),
    }
}

/// A descriptor as it is kept: generic rights are replaced by what they stand for (MS-DTYP 2.4.3), but for entries that are
/// there to be inherited only.
pub(crate) fn with_specific_rights(descriptor: &SecurityDescriptor) -> SecurityDescriptor {
    let mut mapped = descriptor.clone();
    for ace in mapped.dacl.iter_mut().chain(&mut mapped.sacl).flat_map(|list| &mut list.aces) {
        if let AceBody::Sid { mask, .. } = &mut ace.body
            && !ace.flags.contains(AceFlags::INHERIT_ONLY)
            && ace.ace_type != AceType::SYSTEM_MANDATORY_LABEL
        {
            *mask = mask.map_generic();
        }
    }
    mapped
}

/// The descriptor of a new object (MS-FSA 2.1.5.1.1, MS-DTYP 2.5.3.4): of what its directory hands down and what its maker
/// gives; the maker owns it. `None` if neither says anything, so that the default one is exactly right.
pub(crate) fn new_descriptor(
    parent: Option<&SecurityDescriptor>,
    creator: Option<&SecurityDescriptor>,
    kind: Kind,
    token: &Token,
) -> Option<Box<SecurityDescriptor>> {
    if parent.is_none() && creator.is_none() {
        return None;
    }
    let group = token.groups.first().copied().unwrap_or(Sid::NULL);
    let fallback;
    let parent = match parent {
        Some(parent) => parent,
        None => {
            fallback = default_descriptor(token.user, group, Kind::Directory);
            &fallback
        }
    };
    // The DefaultDACL of MS-DTYP 2.5.2, for a directory that hands nothing down.
    let default_dacl = Acl::new(vec![
        Ace::allow(token.user, AccessMask::FILE_ALL_ACCESS, AceFlags::EMPTY),
        Ace::allow(Sid::LOCAL_SYSTEM, AccessMask::FILE_ALL_ACCESS, AceFlags::EMPTY),
    ]);
    let new = NewObject {
        parent,
        creator,
        is_directory: kind == Kind::Directory,
        owner: token.user,
        group,
        default_dacl: &default_dacl,
    };
    Some(Box::new(new.descriptor()))
}

impl Shard {
    /// Who a session belongs to, as descriptors name it; `None` once it is gone.
    pub(crate) fn token(&self, session: SessionId) -> Option<Token> {
        let identity = self.sessions.get(&session)?.identity.as_ref()?;
        Some(token(identity, account_domain(&self.config.server_guid)))
    }

    /// Whom listings through this tree connect are trimmed for, if they are.
    pub(crate) fn trims_listings(&self, origin: &Origin) -> Result<Option<Token>, NtStatus> {
        let session = self.sessions.get(&origin.session).ok_or(NtStatus::USER_SESSION_DELETED)?;
        if !session.trees.get(&origin.tree).is_some_and(|tree| tree.access_based) {
            return Ok(None);
        }
        self.token(origin.session).map(Some).ok_or(NtStatus::USER_SESSION_DELETED)
    }

    /// The SID alone.
    pub(crate) fn user_sid(&self, session: SessionId) -> Option<Sid> {
        let identity = self.sessions.get(&session)?.identity.as_ref()?;
        Some(user_sid(identity, account_domain(&self.config.server_guid)))
    }

    /// All that a stored descriptor, or the lack of one, grants to a session's user.
    pub(crate) fn rights(&self, session: SessionId, descriptor: Option<&SecurityDescriptor>) -> AccessMask {
        match descriptor {
            None => AccessMask::FILE_ALL_ACCESS,
            Some(_) => rights(descriptor, self.token(session).as_ref()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOMAIN: &str = "S-1-5-21-67305985-134678021-202050057";

    fn domain() -> Sid {
        account_domain(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16])
    }

    fn user(number: u32) -> Identity {
        Identity::User { name: "ann".into(), number }
    }

    #[test]
    fn users_are_in_the_servers_domain() {
        assert_eq!(domain().to_string(), DOMAIN);
        assert_eq!(user_sid(&user(1001), domain()).to_string(), format!("{DOMAIN}-1001"));
        assert_eq!(users_of(domain()).to_string(), format!("{DOMAIN}-513"));
    }

    #[test]
    fn the_default_descriptor_grants_everything_to_whoever_came_in() {
        let default = default_descriptor(Sid::LOCAL_SYSTEM, Sid::LOCAL_SYSTEM, Kind::File);
        for identity in [user(1001), Identity::Guest, Identity::Anonymous] {
            let token = token(&identity, domain());
            assert_eq!(rights(Some(&default), Some(&token)), rights(None, Some(&token)));
        }
        assert_eq!(rights(Some(&default), None), AccessMask::EMPTY);
    }

    #[test]
    fn what_a_default_directory_hands_down_is_the_default() {
        let token = token(&user(1001), domain());
        let directory = default_descriptor(Sid::LOCAL_SYSTEM, Sid::LOCAL_SYSTEM, Kind::Directory);
        for kind in [Kind::File, Kind::Directory] {
            let heir = new_descriptor(Some(&directory), None, kind, &token).unwrap();
            assert_eq!(*heir, default_descriptor(token.user, users_of(domain()), kind));
        }
        assert_eq!(new_descriptor(None, None, Kind::File, &token), None);
    }

    #[test]
    fn only_entries_for_heirs_keep_generic_rights() {
        let entry = |flags| Ace::allow(Sid::EVERYONE, AccessMask::GENERIC_ALL, flags);
        let list = Acl::new(vec![entry(AceFlags::EMPTY), entry(AceFlags::INHERIT_ONLY)]);
        let kept = with_specific_rights(&SecurityDescriptor::new(Sid::EVERYONE, Sid::EVERYONE, list));
        let masks = kept.dacl.unwrap().aces.into_iter().map(|ace| match ace.body {
            AceBody::Sid { mask, .. } => mask,
            AceBody::Raw(_) => AccessMask::EMPTY,
        });
        assert!(masks.eq([AccessMask::FILE_ALL_ACCESS, AccessMask::GENERIC_ALL]));
    }

    #[test]
    fn nobody_makes_somebody_else_an_owner() {
        let token = token(&user(1001), domain());
        assert_eq!(check_owner(Some(&token.user), &token), Ok(()));
        assert_eq!(check_owner(Some(&users_of(domain())), &token), Ok(()));
        let other = user_sid(&user(1002), domain());
        for other in [Some(other), Some(Sid::LOCAL_SYSTEM), None] {
            assert_eq!(check_owner(other.as_ref(), &token), Err(NtStatus::INVALID_OWNER));
        }
    }
}
