//! A stream's oplocks and leases follow its name (MS-SMB2 3.3.5.21.1).

use smb_proto::fscc::file_info::{RenameFlags, RenameInformation, SetFileInformation};

use super::*;

fn stream(name: &str, lease: Option<LeaseState>) -> Command {
    let command = match lease {
        Some(state) => open(name, OplockLevel::LEASE, Some((KEY, state))),
        None => open(name, OplockLevel::NONE, None),
    };
    but(command, DATA.with(AccessMask::DELETE), 7)
}

fn rename(file_id: FileId, name: &str) -> Command {
    let rename = RenameInformation { flags: RenameFlags::EMPTY, root_directory: 0, name: Name::from(name) };
    let what = Setting::File(SetFileInformation::Rename(rename));
    Command::SetInfo(Box::new(SetInfo { file_id, length: 40, what }))
}

#[test]
fn a_lease_follows_the_name_of_its_stream() {
    for shards in [1, 4] {
        let mut config = config();
        config.shards = shards;
        let mut net = Net::with(config);
        let [mut holder, mut opener, third] = net.three();
        let (id, _, state) = opened(&net.ask(&mut holder, stream("a:S", Some(RWH))));
        assert_eq!(state, RWH);
        assert_eq!(statuses(&net.ask(&mut holder, rename(id, ":T:$DATA")), &holder), [NtStatus::SUCCESS]);
        // Its own key is the renamed stream's, and no longer that of what had the name before.
        let again = net.ask(&mut holder, stream("a:T", Some(RWH)));
        assert_eq!(statuses(&again, &holder), [NtStatus::SUCCESS], "{again:?}");
        let other = net.ask(&mut holder, stream("a:S", Some(RWH)));
        assert_eq!(statuses(&other, &holder), [NtStatus::INVALID_PARAMETER]);
        let actions = net.ask(&mut opener, stream("a:S", None));
        assert_eq!(notifications(&actions), [], "another stream");
        let actions = net.ask(&mut opener, stream("a:T", None));
        let told: Vec<ConnectionId> = notifications(&actions).into_iter().map(|(to, _)| to).collect();
        assert_eq!(told, [holder.connection]);
        assert_eq!(statuses(&actions, &opener), [NtStatus::PENDING]);
        let actions = net.ask(&mut holder, acknowledge_lease(RH));
        assert_eq!(statuses(&actions, &opener), [NtStatus::SUCCESS]);
        net.end(&[holder, opener, third]);
    }
}
