//! Storage requests: from a shard to its volume's driver, and the answer back.
//!
//! An answer that is there at once goes straight back into the step loop. A late one goes to the task of the connection
//! that asked, so that the response is encrypted and sent where the connection lives.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use bytes::Bytes;
use smb_proto::{NtStatus, Payload};
use smb_state::event::Event;
use smb_state::ids::{ConnectionId, ShardId, Token};
use smb_state::storage::{Requester, StorageOp, StorageReply};
use storage::driver::Completion;

use crate::driver::{Hub, Work};

/// Starts a request of `shard`. Returns what is to be done with the answer, if it is there already.
pub(crate) fn submit(
    hub: &Arc<Hub>,
    shard: ShardId,
    token: Token,
    requester: Requester,
    op: StorageOp<Option<Bytes>>,
) -> Option<Work> {
    let mut lost = false;
    let op = op.map_buffer(|bytes| {
        bytes.unwrap_or_else(|| {
            lost = true;
            Bytes::new()
        })
    });
    if lost {
        tracing::error!(?token, "a payload was released before its request");
        return Some(answer(hub, shard, token, StorageReply::Failed(NtStatus::UNEXPECTED_IO_ERROR)));
    }
    let Some(driver) = hub.volumes.get(requester.volume) else {
        return Some(answer(hub, shard, token, StorageReply::Failed(NtStatus::UNEXPECTED_IO_ERROR)));
    };
    let mut taken = false;
    let mut later = || {
        taken = true;
        hub.submitted.fetch_add(1, Ordering::Relaxed);
        let (hub, connection) = (Arc::clone(hub), requester.connection);
        Completion::new(move |reply| complete(&hub, shard, connection, token, reply))
    };
    let outcome = catch_unwind(AssertUnwindSafe(|| driver.submit(&requester, op, &mut later)));
    // One answer each, whatever the driver does (R2): the completion answers when there is one, if only by being dropped.
    let wrong = match outcome {
        Ok(Poll::Ready(reply)) if !taken => return Some(answer(hub, shard, token, reply)),
        Ok(Poll::Pending) if taken => return None,
        Ok(Poll::Ready(_)) => "a driver answered at once and took a completion too",
        Ok(Poll::Pending) => "a driver took no completion for a pending request",
        Err(_) => "a driver panicked",
    };
    tracing::error!(volume = requester.volume.0, wrong);
    if taken {
        return None;
    }
    Some(answer(hub, shard, token, StorageReply::Failed(NtStatus::UNEXPECTED_IO_ERROR)))
}

/// A late answer, on any thread.
fn complete(
    hub: &Arc<Hub>,
    shard: ShardId,
    connection: ConnectionId,
    token: Token,
    reply: StorageReply<Payload>,
) {
    match hub.mailboxes.post_work(connection, answer(hub, shard, token, reply)) {
        Ok(Some(waker)) => waker.wake(),
        Ok(None) => {}
        Err(work) => hub.run([*work]),
    }
    hub.submitted.fetch_sub(1, Ordering::Release);
}

fn answer(hub: &Hub, shard: ShardId, token: Token, reply: StorageReply<Payload>) -> Work {
    let reply = reply.map_buffer(|payload| hub.buffers.insert_payload(payload));
    Work::Event(shard, Event::Completed { token, reply })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, Sender, channel};

    use smb_state::endpoint::surroundings::Buffers;
    use smb_state::ids::{Handle, SessionId, ShareId, VolumeId};
    use smb_state::storage::VolumeCaps;
    use storage::driver::Driver;

    use super::*;

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

    fn odd() -> (Arc<Hub>, Receiver<Completion>) {
        let hub = crate::server::hub_for_tests();
        let (sender, receiver) = channel();
        hub.volumes.insert(VolumeId(7), Arc::new(Odd(Mutex::new(sender))));
        (hub, receiver)
    }

    fn requester(volume: VolumeId) -> Requester {
        Requester { volume, session: SessionId(1), connection: ConnectionId::new(HOME, 1), share: ShareId(1) }
    }

    fn read(hub: &Arc<Hub>, volume: VolumeId, offset: u64) -> Option<Work> {
        submit(hub, HOME, TOKEN, requester(volume), StorageOp::Read { handle: Handle(1), offset, length: 4 })
    }

    fn reply_of(work: Option<Work>) -> StorageReply {
        match work {
            Some(Work::Event(HOME, Event::Completed { token: TOKEN, reply })) => reply,
            other => panic!("{other:?}"),
        }
    }

    const FAILED: StorageReply = StorageReply::Failed(NtStatus::UNEXPECTED_IO_ERROR);

    #[test]
    fn an_answer_at_once_goes_straight_back() {
        let (hub, _completions) = odd();
        let StorageReply::Read { buffer, length: 4 } = reply_of(read(&hub, VolumeId(7), 0)) else { panic!() };
        assert_eq!(hub.buffers.get(buffer).as_deref(), Some(&b"data"[..]));
    }

    #[test]
    fn a_late_answer_goes_to_the_connection_that_asked() {
        let (hub, completions) = odd();
        let mailbox = hub.mailboxes.open(ConnectionId::new(HOME, 1), ([192, 0, 2, 1], 1).into());
        assert!(read(&hub, VolumeId(7), 1).is_none());
        assert_eq!(hub.submitted.load(Ordering::Relaxed), 1);
        completions.recv().unwrap().complete(StorageReply::Done);
        assert_eq!(hub.submitted.load(Ordering::Relaxed), 0);
        assert_eq!(reply_of(mailbox.close().work.pop_front()), StorageReply::Done);
    }

    #[test]
    fn there_is_one_answer_whatever_the_driver_does() {
        for offset in 2..6 {
            let (hub, completions) = odd();
            let mailbox = hub.mailboxes.open(ConnectionId::new(HOME, 1), ([192, 0, 2, 1], 1).into());
            let at_once = read(&hub, VolumeId(7), offset);
            drop(completions.try_recv());
            let answers: Vec<Work> = at_once.into_iter().chain(mailbox.close().work).collect();
            assert_eq!(answers.len(), 1, "{offset}");
            assert_eq!(reply_of(answers.into_iter().next()), FAILED, "{offset}");
            assert_eq!(
                (hub.submitted.load(Ordering::Relaxed), hub.buffers.outstanding()),
                (0, 0),
                "{offset}"
            );
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
