//! A server-side copy asks two files, and waits for a client at one of them only with nothing of the other (S63).

use smb_proto::command::ioctl::{CopyChunk, CopyChunkRequest, FsctlCode, ResumeKey};

use super::*;
use crate::file::FileAsk;
use crate::file::caching::Cause;
use crate::file::permit::Permit;
use crate::message::{Address, Answer, Asker, Envelope, Message};
use crate::request::{Ioctl, IoctlInput};

const HERE: ShardId = ShardId(0);
const THERE: ShardId = ShardId(1);

/// What the files in the other shard are asked.
fn asked(actions: &Actions) -> Vec<(FileAsk, Asker)> {
    let ask = |action: &Action| match action {
        Action::ToShard(THERE, Envelope { message: Message::AskFile(ask, asker), .. }) => {
            Some((ask.clone(), *asker))
        }
        _ => None,
    };
    actions.iter().filter_map(ask).collect()
}

/// One of the files answers.
fn answer(net: &mut Net, asker: Asker, answer: Answer) -> Actions {
    let envelope = Envelope { to: Address::Shard(HERE), message: Message::Answer(asker.token, answer) };
    let mut actions = Actions::new();
    net.shards[0].step(Event::FromShard { from: THERE, envelope }, &mut actions);
    actions
}

/// The only ask: of which open, to do what, and whether it holds something.
fn check(actions: &Actions) -> (OpenId, Cause, bool, Asker) {
    let all = asked(actions);
    let Some((FileAsk::Check { open, cause, holds, .. }, asker)) = all.last() else { panic!("{actions:?}") };
    (*open, *cause, *holds, *asker)
}

#[test]
fn a_copy_waits_for_a_client_at_one_file_with_nothing_of_the_other() {
    let mut config = config();
    config.shards = 2;
    let mut net = Net::with(config);
    let key = |number| FileKey { volume: VolumeId(1), number: FileNumber(number) };
    let mut there = (5..).filter(|number| key(*number).partition().shard(2) == THERE);
    let mut client = net.party(ConnectionId::new(HERE, 1), [1; 16]);
    let mut open = |net: &mut Net| {
        net.file = there.next().expect("a number");
        opened(&net.ask(&mut client, plain())).0
    };
    let (source, target) = (open(&mut net), open(&mut net));
    // Somebody began to cache what it writes or reads.
    net.shards[0].opens.values_mut().for_each(|open| open.permit = Permit::default());
    let mut key = [0; 24];
    key[..8].copy_from_slice(&source.persistent.to_le_bytes());
    key[8..16].copy_from_slice(&source.volatile.to_le_bytes());
    let chunk = CopyChunk { source_offset: 0, target_offset: 0, length: 10 };
    let copy = CopyChunkRequest { source_key: ResumeKey(key), chunks: vec![chunk] };
    let command = Command::Ioctl(Box::new(Ioctl {
        code: FsctlCode::SRV_COPYCHUNK_WRITE,
        file_id: target,
        is_fsctl: true,
        input_length: 100,
        input_max: 0,
        output_max: 12,
        input: IoctlInput::CopyChunk(copy),
    }));
    let chain = Chain { first: client.request(command), rest: Vec::new() };
    let mut actions = Actions::new();
    net.shards[0].step(Event::Request { connection: client.connection, chain }, &mut actions);
    let checked = || Answer::Checked { permit: Permit::default() };

    let (open, cause, holds, asker) = check(&actions);
    assert_eq!((open.0, cause, holds), (target.persistent, Cause::Write, false));
    let (open, cause, holds, asker) = check(&answer(&mut net, asker, checked()));
    assert_eq!((open.0, cause, holds), (source.persistent, Cause::Read, true));
    // There a client has to be waited for: the target is given back first.
    let actions = answer(&mut net, asker, Answer::Again);
    assert!(
        matches!(asked(&actions)[..], [(FileAsk::Done { open, .. }, _), _] if open.0 == target.persistent),
        "{actions:?}"
    );
    let (open, cause, holds, asker) = check(&actions);
    assert_eq!((open.0, cause, holds), (source.persistent, Cause::Read, false), "now it may wait");
    let (open, cause, holds, asker) = check(&answer(&mut net, asker, checked()));
    assert_eq!((open.0, cause, holds), (target.persistent, Cause::Write, true));

    let actions = answer(&mut net, asker, checked());
    let [Action::Submit { token, op: StorageOp::Copy { length: 10, .. }, .. }] = actions[..] else {
        panic!("{actions:?}")
    };
    let mut actions = Actions::new();
    let reply = StorageReply::Written { length: 10 };
    net.shards[0].step(Event::Completed { token, reply }, &mut actions);
    assert_eq!(statuses(&actions, &client), [NtStatus::SUCCESS]);
    let done: Vec<u64> = asked(&actions)
        .into_iter()
        .map(|(ask, _)| match ask {
            FileAsk::Done { open, .. } => open.0,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(done, [target.persistent, source.persistent], "each once");
}
