//! A rename through one open: the others of the same link have the new name too, wherever they are (MS-FSA 2.1.5.15.11).

use smb_proto::create_context::{LeaseFlags, LeaseState, LeaseV1, RequestContext};
use smb_proto::fscc::class::FileInfoClass;
use smb_proto::fscc::file_info::{RenameFlags, RenameInformation, SetFileInformation};

use super::breaks::{Net, Party, open, opened, plain, statuses, with_lease};
use super::*;
use crate::open::State;
use crate::request::{Asked, QueryInfo};

const RH: LeaseState = LeaseState::READ_HANDLE;

fn client(net: &mut Net, shard: u16, number: u64, guid: u8) -> Party {
    net.party(ConnectionId::new(ShardId(shard), number), [guid; 16])
}

fn deleting(command: Command) -> Command {
    let Command::Create(mut request) = command else { unreachable!() };
    request.desired_access = AccessMask::READ_DATA.with(AccessMask::READ_ATTRIBUTES).with(AccessMask::DELETE);
    Command::Create(request)
}

fn rename(file_id: FileId) -> Command {
    let rename = RenameInformation { flags: RenameFlags::EMPTY, root_directory: 0, name: Name::from("free") };
    let what = Setting::File(SetFileInformation::Rename(rename));
    Command::SetInfo(Box::new(SetInfo { file_id, length: 100, what }))
}

fn name_of(net: &mut Net, party: &mut Party, file_id: FileId) -> Vec<u8> {
    let asked = Asked::File(FileInfoClass::NAME);
    let query = QueryInfo { file_id, output_max: 100, input_length: 0, asked };
    let actions = net.ask(party, Command::QueryInfo(Box::new(query)));
    let Body::Info(bytes) = &response(&actions).body else { panic!("{actions:?}") };
    bytes[4..].to_vec()
}

fn wire(name: &str) -> Vec<u8> {
    name.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

#[test]
fn every_open_of_a_link_follows_its_rename() {
    for shards in [1, 3] {
        let mut net = Net::with(Config { shards, ..config() });
        let (mut one, mut other) = (client(&mut net, 0, 1, 1), client(&mut net, shards - 1, 2, 2));
        let (renamed, ..) = opened(&net.ask(&mut one, deleting(plain())));
        let (follows, ..) = opened(&net.ask(&mut other, deleting(plain())));
        assert_eq!(name_of(&mut net, &mut other, follows), wire(r"\a"));
        // This one's CREATE is answered after the rename.
        net.send(&mut other, deleting(plain()));
        net.answer();
        let preparing = net.asked.pop_front().expect("storage makes it ready");
        assert_eq!(statuses(&net.ask(&mut one, rename(renamed)), &one), [NtStatus::SUCCESS]);
        net.asked.push_back(preparing);
        let (late, ..) = opened(&net.run());
        assert_eq!(name_of(&mut net, &mut one, renamed), wire(r"\free"));
        for id in [follows, late] {
            assert_eq!(name_of(&mut net, &mut other, id), wire(r"\free"));
        }
        net.end(&[one, other]);
    }
}

#[test]
fn a_preserved_open_has_the_new_name_for_its_clients_return() {
    for shards in [1, 3] {
        let mut net = Net::with(Config { shards, ..config() });
        let (mut party, mut stays) = (client(&mut net, 0, 1, 1), client(&mut net, shards - 1, 2, 1));
        let Command::Create(mut durable) = with_lease(RH) else { unreachable!() };
        durable.contexts.push(RequestContext::DurableHandleRequest);
        let (file_id, ..) = opened(&net.ask(&mut party, Command::Create(durable)));
        let (renamed, ..) = opened(&net.ask(&mut stays, deleting(with_lease(RH))));
        net.step(party.connection.shard(), Event::Disconnected { connection: party.connection });
        net.run();
        let kept = |net: &Net| {
            let opens = net.shards.iter().flat_map(|shard| shard.opens.values());
            opens.filter(|open| open.state == State::Preserved).count()
        };
        assert_eq!(kept(&net), 1);
        // Under the same lease nothing breaks.
        assert_eq!(statuses(&net.ask(&mut stays, rename(renamed)), &stays), [NtStatus::SUCCESS]);
        assert_eq!(kept(&net), 1);
        let mut again = client(&mut net, shards - 1, 3, 1);
        let key = smb_proto::create_context::LeaseKey([7; 16]);
        let mut back = |net: &mut Net, name| {
            let Command::Create(mut request) = open(name, OplockLevel::LEASE, None) else { unreachable!() };
            request.contexts = vec![
                RequestContext::DurableHandleReconnect(file_id),
                RequestContext::Lease(LeaseV1 { key, state: RH, flags: LeaseFlags::EMPTY }),
            ];
            net.ask(&mut again, Command::Create(request))
        };
        let old = back(&mut net, "a");
        assert!(response(&old).status.is_error(), "that is not its name any more");
        let (file_id, ..) = opened(&back(&mut net, "free"));
        net.ask(&mut again, super::breaks::close_of(file_id));
        net.end(&[stays, again]);
    }
}
