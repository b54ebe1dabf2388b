//! Share modes over all pairs, and what becomes of pending deletes.

use smb_proto::access::AccessMask;
use smb_proto::command::create::ShareAccess;
use smb_proto::{Name, NtStatus};

use super::*;

fn link(name: &str) -> Link {
    Link { parent: FileNumber(1), name: Name::from(name) }
}

fn grant(access: AccessMask, share: ShareAccess) -> Grant {
    Grant {
        stream: Name::default(),
        access,
        share,
        link: link("A"),
        delete_on_close: false,
        session: SessionId(1),
        key: CacheKey::Open(OpenId(0)),
        permit: Permit::default(),
        draining: 0,
        in_flight: BTreeMap::new(),
    }
}

const ALL: ShareAccess = ShareAccess(7);

#[test]
fn share_modes_are_symmetric_and_follow_the_three_rights() {
    let accesses =
        [AccessMask::READ_DATA, AccessMask::WRITE_DATA, AccessMask::DELETE, AccessMask::READ_ATTRIBUTES];
    for one in accesses {
        for other in accesses {
            for shares in 0..64_u32 {
                let a = grant(one, ShareAccess(shares & 7));
                let b = grant(other, ShareAccess(shares >> 3));
                let needs = |access: AccessMask| match access {
                    AccessMask::READ_DATA => 1,
                    AccessMask::WRITE_DATA => 2,
                    AccessMask::DELETE => 4,
                    _ => 0,
                };
                let expected = needs(one) == 0
                    || needs(other) == 0
                    || (a.share.0 & needs(other) != 0 && b.share.0 & needs(one) != 0);
                assert_eq!(share_mode::compatible(&a, &b), expected, "{a:?} {b:?}");
                assert_eq!(share_mode::compatible(&b, &a), expected);
            }
        }
    }
}

#[test]
fn a_pending_delete_bites_at_the_last_close_through_the_link() {
    let mut file = File::default();
    file.grants.insert(OpenId(1), grant(AccessMask::DELETE, ALL));
    file.grants.insert(OpenId(2), grant(AccessMask::READ_DATA, ALL));
    file.grants.insert(OpenId(3), Grant { link: link("B"), ..grant(AccessMask::READ_DATA, ALL) });
    let first = file.grants[&OpenId(1)].clone();
    file.dispose(&first, true);
    assert_eq!(file.check_deletes(&grant(AccessMask::READ_ATTRIBUTES, ALL)), Err(NtStatus::DELETE_PENDING));
    let other_link = Grant { link: link("B"), ..grant(AccessMask::READ_ATTRIBUTES, ALL) };
    assert_eq!(file.check_deletes(&other_link), Ok(()));
    assert!(!file.close(OpenId(1)), "another open came by the same link");
    assert!(file.close(OpenId(2)), "the last one removes it");
    assert_eq!(file.check_deletes(&grant(AccessMask::READ_ATTRIBUTES, ALL)), Err(NtStatus::DELETE_PENDING));
    assert!(!file.close(OpenId(3)));
    assert!(!file.is_idle(), "the removal is under way");
}

#[test]
fn delete_on_close_becomes_pending_when_its_own_open_closes() {
    let mut file = File::default();
    file.grants.insert(OpenId(1), Grant { delete_on_close: true, ..grant(AccessMask::DELETE, ALL) });
    file.grants.insert(OpenId(2), grant(AccessMask::READ_DATA, ALL));
    assert_eq!(file.check_deletes(&grant(AccessMask::READ_DATA, ALL)), Ok(()));
    assert!(!file.close(OpenId(1)));
    assert_eq!(file.check_deletes(&grant(AccessMask::READ_DATA, ALL)), Err(NtStatus::DELETE_PENDING));
    let second = file.grants[&OpenId(2)].clone();
    file.dispose(&second, false);
    assert_eq!(
        file.check_deletes(&grant(AccessMask::READ_DATA, ALL)),
        Ok(()),
        "the disposition can be cleared"
    );
}

#[test]
fn a_stream_goes_alone() {
    let mut file = File::default();
    let stream = Grant { stream: Name::from("S"), ..grant(AccessMask::DELETE, ALL) };
    file.grants.insert(OpenId(1), stream.clone());
    file.grants.insert(OpenId(2), grant(AccessMask::READ_DATA, ALL));
    file.dispose(&stream, true);
    assert_eq!(file.check_deletes(&stream), Err(NtStatus::DELETE_PENDING));
    assert_eq!(file.check_deletes(&grant(AccessMask::READ_DATA, ALL)), Ok(()));
    assert!(file.close(OpenId(1)));
    assert!(!file.close(OpenId(2)));
}
