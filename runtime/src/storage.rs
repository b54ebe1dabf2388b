//! Storage requests: from a shard to its volume's driver, and the answer back.
//!
//! An answer that is there at once goes straight back into the step loop. Where a late one goes is the adapter's choice.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use ::storage::driver::Completion;
use bytes::Bytes;
use smb_proto::{NtStatus, Payload};
use smb_state::event::Event;
use smb_state::ids::{ConnectionId, ShardId, Token};
use smb_state::storage::{Requester, StorageOp, StorageReply};

use crate::common::Common;

/// Takes late answers.
pub trait Answers: Send + Sync + 'static {
    /// What is the same under every runtime.
    fn common(&self) -> &Common;

    /// A late answer for `shard`, which the connection asked for; on any thread.
    fn deliver(self: &Arc<Self>, connection: ConnectionId, shard: ShardId, answer: Event);
}

/// Starts a request of `shard`. Returns what the shard is to be stepped with, if the answer is there already.
pub fn submit<A: Answers>(
    hub: &Arc<A>,
    shard: ShardId,
    token: Token,
    requester: Requester,
    op: StorageOp<Option<Bytes>>,
) -> Option<Event> {
    let common = hub.common();
    let failed = || Some(answer(common, token, StorageReply::Failed(NtStatus::UNEXPECTED_IO_ERROR)));
    let mut lost = false;
    let op = op.map_buffer(|bytes| {
        bytes.unwrap_or_else(|| {
            lost = true;
            Bytes::new()
        })
    });
    if lost {
        tracing::error!(?token, "a payload was released before its request");
        return failed();
    }
    let Some(driver) = common.volumes.get(requester.volume) else { return failed() };
    let mut taken = false;
    let mut later = || {
        taken = true;
        common.submitted.fetch_add(1, Ordering::Relaxed);
        let (hub, connection) = (Arc::clone(hub), requester.connection);
        Completion::new(move |reply| {
            hub.deliver(connection, shard, answer(hub.common(), token, reply));
            hub.common().submitted.fetch_sub(1, Ordering::Release);
        })
    };
    let outcome = catch_unwind(AssertUnwindSafe(|| driver.submit(&requester, op, &mut later)));
    // One answer each, whatever the driver does (R2): the completion answers when there is one, if only by being dropped.
    let wrong = match outcome {
        Ok(Poll::Ready(reply)) if !taken => return Some(answer(common, token, reply)),
        Ok(Poll::Pending) if taken => return None,
        Ok(Poll::Ready(_)) => "a driver answered at once and took a completion too",
        Ok(Poll::Pending) => "a driver took no completion for a pending request",
        Err(_) => "a driver panicked",
    };
    tracing::error!(volume = requester.volume.0, wrong);
    if taken { None } else { failed() }
}

fn answer(common: &Common, token: Token, reply: StorageReply<Payload>) -> Event {
    let reply = reply.map_buffer(|payload| common.buffers.insert_payload(payload));
    Event::Completed { token, reply }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, Sender, channel};

    use ::storage::driver::Driver;
    use ::storage::table::VolumeTable;
    use smb_proto::auth::AcceptorConfig;
    use smb_proto::command::negotiate::Dialect;
    use smb_proto::crypto::Portable;
    use smb_state::config::{Config, Encryption, Limits};
    use smb_state::endpoint::surroundings::{Buffers, Lookup, Users};
    use smb_state::event::{Identity, Peer};
    use smb_state::ids::{Handle, SessionId, ShareId, VolumeId};
    use smb_state::storage::VolumeCaps;

    use super::*;
    use crate::config::{Bounds, Cores, ServerConfig};

    const TOKEN: Token = Token { slot: 3, generation: 4 };
    const HOME: ShardId = ShardId(0);

    /// Does what the offset of a read tells it to.
    struct Odd(Mutex<Sender<Completion>>);

    impl Driver for Odd {
        fn caps(&self) -> VolumeCaps {
            VolumeCaps::default()
        }

        fn submit(
            &self,
            _: &Requester,
            op: StorageOp<Bytes>,
            later: &mut dyn FnMut() -> Completion,
        ) -> Poll<StorageReply<Payload>> {
            let StorageOp::Read { offset, .. } = op else { panic!("only reads are asked for") };
            let keep = |completion| self.0.lock().unwrap().send(completion).unwrap();
            let data = StorageReply::Read { buffer: Payload::copy_from(b"data"), length: 4 };
            match offset {
                0 => Poll::Ready(data),
                1 => {
                    keep(later());
                    Poll::Pending
                }
                2 => Poll::Pending,
                3 => {
                    keep(later());
                    Poll::Ready(data)
                }
                4 => panic!("expected in this test"),
                _ => {
                    let _completion = later();
                    panic!("expected in this test");
                }
            }
        }
    }

    struct Nobody;

    impl Users for Nobody {
        fn look_up(&self, _: &str, _: &str, _: Peer) -> Lookup {
            Lookup::Unknown
        }

        fn record(&self, _: &str, _: Peer, _: bool) {}

        fn anonymous(&self) -> Option<Identity> {
            None
        }
    }

    /// Keeps late answers.
    struct Hub {
        common: Common,
        late: Mutex<Vec<(ConnectionId, ShardId, Event)>>,
    }

    impl Answers for Hub {
        fn common(&self) -> &Common {
            &self.common
        }

        fn deliver(self: &Arc<Self>, connection: ConnectionId, shard: ShardId, answer: Event) {
            self.late.lock().unwrap().push((connection, shard, answer));
        }
    }

    fn config() -> ServerConfig {
        ServerConfig {
            listen: Vec::new(),
            core: Config {
                server_guid: [1; 16],
                incarnation: 1,
                shards: 1,
                dialects: (Dialect::SMB_2_0_2, Dialect::SMB_3_1_1),
                signers: Vec::new(),
                ciphers: Vec::new(),
                signing_required: true,
                encryption: Encryption::Possible,
                limits: Limits::default(),
                shares: Vec::new(),
                interfaces: Vec::new(),
            },
            names: AcceptorConfig {
                netbios_computer: "TEST".into(),
                netbios_domain: "TEST".into(),
                dns_computer: "test".into(),
                dns_domain: "test".into(),
            },
            volumes: Arc::new(VolumeTable::new()),
            users: Arc::new(Nobody),
            provider: Arc::new(Portable),
            cores: Cores::Count(1),
            bounds: Bounds::default(),
            store: None,
        }
    }

    fn odd() -> (Arc<Hub>, Receiver<Completion>) {
        let (common, _) = Common::new(config(), 1);
        let (sender, receiver) = channel();
        common.volumes.insert(VolumeId(7), Arc::new(Odd(Mutex::new(sender))));
        (Arc::new(Hub { common, late: Mutex::default() }), receiver)
    }

    fn requester(volume: VolumeId) -> Requester {
        Requester { volume, session: SessionId(1), connection: ConnectionId::new(HOME, 1), share: ShareId(1) }
    }

    fn read(hub: &Arc<Hub>, volume: VolumeId, offset: u64) -> Option<Event> {
        submit(hub, HOME, TOKEN, requester(volume), StorageOp::Read { handle: Handle(1), offset, length: 4 })
    }

    fn reply_of(event: Option<Event>) -> StorageReply {
        match event {
            Some(Event::Completed { token: TOKEN, reply }) => reply,
            other => panic!("{other:?}"),
        }
    }

    fn late(hub: &Hub) -> Vec<Event> {
        let late = std::mem::take(&mut *hub.late.lock().unwrap());
        late.into_iter()
            .map(|(connection, shard, event)| {
                assert_eq!((connection, shard), (ConnectionId::new(HOME, 1), HOME));
                event
            })
            .collect()
    }

    const FAILED: StorageReply = StorageReply::Failed(NtStatus::UNEXPECTED_IO_ERROR);

    #[test]
    fn an_answer_at_once_goes_straight_back() {
        let (hub, _completions) = odd();
        let StorageReply::Read { buffer, length: 4 } = reply_of(read(&hub, VolumeId(7), 0)) else { panic!() };
        assert_eq!(hub.common.buffers.get(buffer).as_deref(), Some(&b"data"[..]));
    }

    #[test]
    fn a_late_answer_is_delivered_for_the_connection_that_asked() {
        let (hub, completions) = odd();
        assert!(read(&hub, VolumeId(7), 1).is_none());
        assert_eq!(hub.common.submitted.load(Ordering::Relaxed), 1);
        completions.recv().unwrap().complete(StorageReply::Done);
        assert_eq!(hub.common.submitted.load(Ordering::Relaxed), 0);
        assert_eq!(reply_of(late(&hub).pop()), StorageReply::Done);
    }

    #[test]
    fn there_is_one_answer_whatever_the_driver_does() {
        for offset in 2..6 {
            let (hub, completions) = odd();
            let at_once = read(&hub, VolumeId(7), offset);
            drop(completions.try_recv());
            let answers: Vec<Event> = at_once.into_iter().chain(late(&hub)).collect();
            assert_eq!(answers.len(), 1, "{offset}");
            assert_eq!(reply_of(answers.into_iter().next()), FAILED, "{offset}");
            let left = (hub.common.submitted.load(Ordering::Relaxed), hub.common.buffers.outstanding());
            assert_eq!(left, (0, 0), "{offset}");
        }
    }

    #[test]
    fn what_is_not_there_is_an_answer() {
        let (hub, _completions) = odd();
        assert_eq!(reply_of(read(&hub, VolumeId(8), 0)), FAILED);
        let op = StorageOp::Write {
            handle: Handle(1),
            offset: None,
            buffer: None,
            length: 1,
            write_through: false,
        };
        assert_eq!(reply_of(submit(&hub, HOME, TOKEN, requester(VolumeId(7)), op)), FAILED);
    }
}
