//! Storage requests: from a shard to its volume's driver, and the answer back.
//!
//! An answer that is there at once goes straight back into the step loop. A late one goes to the task of the connection
//! that asked, so that the response is encrypted and sent where the connection lives.

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
    match driver.submit(&requester, op, &mut later) {
        Poll::Ready(reply) if !taken => Some(answer(hub, shard, token, reply)),
        Poll::Pending if taken => None,
        // One answer each, whatever the driver does (R2): the completion answers when there is one.
        Poll::Ready(_) => {
            tracing::error!(
                volume = requester.volume.0,
                "a driver answered at once and took a completion too"
            );
            None
        }
        Poll::Pending => {
            tracing::error!(volume = requester.volume.0, "a driver took no completion for a pending request");
            Some(answer(hub, shard, token, StorageReply::Failed(NtStatus::UNEXPECTED_IO_ERROR)))
        }
    }
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
