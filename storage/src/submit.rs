//! A shard's storage request to its driver and back, for adapters that have no table of payloads of their own.

use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use smb_proto::{NtStatus, Payload};
use smb_state::event::Event;
use smb_state::ids::Token;
use smb_state::storage::{Requester, StorageOp, StorageReply};

use crate::driver::{Completion, Driver};
use crate::table::BufferTable;

/// Carries out [`smb_state::Action::Submit`]: the request's payload is taken from `buffers` and the answer's goes there.
/// What follows is returned if the driver answered at once; otherwise `late` gets it, once, on any thread.
pub fn submit(
    driver: &dyn Driver,
    buffers: &Arc<BufferTable>,
    token: Token,
    requester: &Requester,
    op: StorageOp,
    late: impl Fn(Event) + Clone + Send + 'static,
) -> Option<Event> {
    let mut lost = false;
    let op = op.map_buffer(|buffer| {
        buffers.get(buffer).unwrap_or_else(|| {
            lost = true;
            Bytes::new()
        })
    });
    if lost {
        // Released before its request was made: the core's fault, and no reason to write nothing instead.
        return Some(Event::Completed { token, reply: StorageReply::Failed(NtStatus::UNEXPECTED_IO_ERROR) });
    }
    let completed = move |buffers: &BufferTable, reply: StorageReply<Payload>| Event::Completed {
        token,
        reply: reply.map_buffer(|payload| buffers.insert(payload)),
    };
    let mut later = || {
        let (buffers, late) = (Arc::clone(buffers), late.clone());
        Completion::new(move |reply| late(completed(&buffers, reply)))
    };
    match driver.submit(requester, op, &mut later) {
        Poll::Ready(reply) => Some(completed(buffers, reply)),
        Poll::Pending => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use smb_state::ids::{BufferId, ConnectionId, Handle, SessionId, ShardId, ShareId, VolumeId};
    use smb_state::storage::VolumeCaps;

    use super::*;

    /// Answers a write with how much it was, and a read later, on another thread.
    struct Odd;

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
            let StorageOp::Write { buffer, .. } = op else {
                let completion = later();
                let reply = StorageReply::Read { buffer: Payload::copy_from(b"late"), length: 4 };
                std::thread::spawn(move || completion.complete(reply));
                return Poll::Pending;
            };
            Poll::Ready(StorageReply::Written { length: u32::try_from(buffer.len()).unwrap() })
        }
    }

    #[test]
    fn payloads_go_there_and_come_back() {
        let buffers = Arc::new(BufferTable::new());
        let (volume, share) = (VolumeId(1), ShareId(1));
        let connection = ConnectionId::new(ShardId(0), 1);
        let requester = Requester { volume, session: SessionId(1), connection, share };
        let token = Token { slot: 3, generation: 4 };
        let (sender, receiver) = channel();
        let submit = |op| {
            let sender = sender.clone();
            super::submit(&Odd, &buffers, token, &requester, op, move |event| sender.send(event).unwrap())
        };
        let handle = Handle(1);
        let write =
            |buffer| StorageOp::Write { handle, offset: None, buffer, length: 5, write_through: false };
        let written = submit(write(buffers.insert(Bytes::from_static(b"three"))));
        assert_eq!(written, Some(Event::Completed { token, reply: StorageReply::Written { length: 5 } }));
        let failed = StorageReply::Failed(NtStatus::UNEXPECTED_IO_ERROR);
        assert_eq!(submit(write(BufferId(0))), Some(Event::Completed { token, reply: failed }));
        assert_eq!(submit(StorageOp::Read { handle, offset: 0, length: 4 }), None);
        let Event::Completed { reply: StorageReply::Read { buffer, length: 4 }, .. } =
            receiver.recv().unwrap()
        else {
            panic!("another answer");
        };
        assert_eq!(buffers.get(buffer).as_deref(), Some(&b"late"[..]));
    }
}
