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
        persistent: false,
        away: false,
        key: CacheKey::Open(OpenId(0)),
        permit: Permit::default(),
        draining: 0,
        in_flight: BTreeMap::new(),
    }
}

fn removal(name: &str, stream: &str) -> Removal {
    Removal { link: link(name), stream: Name::from(stream) }
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
    assert_eq!(file.close(OpenId(1)), None, "another open came by the same link");
    assert_eq!(file.close(OpenId(2)), Some(removal("A", "")), "the last one removes it");
    assert_eq!(file.check_deletes(&grant(AccessMask::READ_ATTRIBUTES, ALL)), Err(NtStatus::DELETE_PENDING));
    assert_eq!(file.close(OpenId(3)), None);
    assert!(!file.is_idle(), "the removal is under way");
}

#[test]
fn delete_on_close_becomes_pending_when_its_own_open_closes() {
    let mut file = File::default();
    file.grants.insert(OpenId(1), Grant { delete_on_close: true, ..grant(AccessMask::DELETE, ALL) });
    file.grants.insert(OpenId(2), grant(AccessMask::READ_DATA, ALL));
    assert_eq!(file.check_deletes(&grant(AccessMask::READ_DATA, ALL)), Ok(()));
    assert_eq!(file.close(OpenId(1)), None);
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
    assert_eq!(file.close(OpenId(1)), Some(removal("A", "S")));
    assert_eq!(file.close(OpenId(2)), None);
}

#[test]
fn a_file_goes_with_the_last_open_of_any_of_its_streams() {
    let mut file = File::default();
    let stream = Grant { stream: Name::from("S"), ..grant(AccessMask::DELETE, ALL) };
    file.grants.insert(OpenId(1), stream.clone());
    file.grants.insert(OpenId(2), grant(AccessMask::DELETE, ALL));
    file.dispose(&grant(AccessMask::DELETE, ALL), true);
    assert_eq!(file.close(OpenId(2)), None, "a stream is open");
    assert_eq!(file.close(OpenId(1)), Some(removal("A", "")), "the link goes, not the stream");
    // With both pending the stream goes first: another link may keep the file.
    let mut file = File::default();
    file.grants.insert(OpenId(1), stream.clone());
    file.dispose(&stream, true);
    file.dispose(&grant(AccessMask::DELETE, ALL), true);
    assert_eq!(file.close(OpenId(1)), Some(removal("A", "S")));
    assert_eq!(file.begin_link_removal(&link("A")), Some(removal("A", "")));
}

#[test]
fn what_a_last_close_removes_has_the_name_of_now() {
    let mut file = File::default();
    file.grants.insert(OpenId(1), grant(AccessMask::DELETE, ALL));
    file.grants.insert(OpenId(2), Grant { delete_on_close: true, ..grant(AccessMask::DELETE, ALL) });
    let name = NewName { link: link("B"), path: Name::from("b"), spelled: Name::from("b") };
    let mut effects = Vec::new();
    file.rename(OpenId(1), &name, &mut effects);
    let told = ask::Effect::Follow(OpenId(2), Some(SessionId(1)), Box::new(name));
    assert_eq!(effects, [told], "who renamed it knows");
    assert_eq!(file.close(OpenId(1)), None);
    assert_eq!(file.close(OpenId(2)), Some(removal("B", "")));
}

#[test]
fn opens_follow_the_rename_of_their_stream() {
    let mut file = File::default();
    let stream = |name: &str| Grant { stream: Name::from(name), ..grant(AccessMask::DELETE, ALL) };
    file.grants.insert(OpenId(1), stream("S"));
    file.grants.insert(OpenId(2), stream("S"));
    file.grants.insert(OpenId(3), stream("T"));
    let taken = Err(NtStatus::INVALID_PARAMETER);
    assert_eq!(file.begin_stream_rename(OpenId(1), &Name::from("T")), taken, "it is open");
    assert_eq!(file.begin_stream_rename(OpenId(1), &Name::from("U")), Ok(()));
    assert_eq!(file.begin_stream_rename(OpenId(3), &Name::from("U")), taken, "it is being taken");
    assert_eq!(file.check_deletes(&stream("U")), Err(NtStatus::SHARING_VIOLATION));
    file.end_stream_rename(OpenId(1), &Name::from("U"), false);
    assert_eq!(
        (file.check_deletes(&stream("U")), &file.grants[&OpenId(1)].stream),
        (Ok(()), &Name::from("S"))
    );
    assert_eq!(file.begin_stream_rename(OpenId(1), &Name::from("U")), Ok(()));
    file.end_stream_rename(OpenId(1), &Name::from("U"), true);
    assert_eq!(file.grants[&OpenId(2)].stream, Name::from("U"));
    file.dispose(&stream("U"), true);
    assert_eq!(file.begin_stream_rename(OpenId(1), &Name::from("V")), Err(NtStatus::DELETE_PENDING));
    assert_eq!(file.close(OpenId(1)), None);
    assert_eq!(file.close(OpenId(2)), Some(removal("A", "U")));
}

#[test]
fn whoever_holds_something_does_not_wait_for_a_client() {
    use super::ask::Behind;
    use super::ask::Effect;
    use super::caching::{CacheRequest, Cause, Want};
    use crate::ids::{ConnectionId, MessageId, ShardId, Token};
    use crate::message::{Answer, Asker};
    use smb_proto::command::oplock_break::OplockLevel;

    for holds in [false, true] {
        let mut file = File::default();
        file.grants
            .insert(OpenId(1), Grant { key: CacheKey::Open(OpenId(1)), ..grant(AccessMask::READ_DATA, ALL) });
        // No open leads to a cache of writes beside a reader; it is the rule that counts, not how it comes to that.
        file.caching.grant(&CacheRequest {
            open: OpenId(2),
            session: SessionId(2),
            key: CacheKey::Open(OpenId(2)),
            stream: &Name::default(),
            want: Want::Oplock(OplockLevel::BATCH),
            alone: true,
            deleted: false,
            locked: false,
        });
        let behind = Behind { connection: ConnectionId::new(ShardId(0), 1), message: MessageId(9) };
        let ask = FileAsk::Check { open: OpenId(1), cause: Cause::Read, access: None, holds, behind };
        let asker = Asker { shard: ShardId(0), token: Token { slot: 0, generation: 0 } };
        let mut effects = Vec::new();
        file.take(ask, asker, &mut effects);
        assert!(effects.iter().any(|effect| matches!(effect, Effect::Tell(..))), "the break begins");
        let last = if holds { Effect::Answer(asker, Answer::Again) } else { Effect::Interim(behind) };
        assert_eq!(effects.last(), Some(&last));
        assert_eq!(file.waiting.len(), usize::from(!holds));
    }
}
