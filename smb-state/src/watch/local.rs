//! What local processes change in a watched directory: storage waits for it ([`StorageOp::Watch`]) as long as the watch lives,
//! one request at a time. What the server itself does is reported where it is done, and storage keeps it out of its answers.

use smb_proto::NtStatus;
use smb_proto::fscc::notify::Change;

use crate::ids::{ConnectionId, Handle, OpenId};
use crate::message::Origin;
use crate::open::Open;
use crate::open::channel_sequence::Ticket;

use crate::shard::{Shard, Turn, Wait};
use crate::storage::{LocalNews, Requester, StorageOp, StorageReply};

/// A wait for local changes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Listening {
    open: OpenId,
    handle: Handle,
    requester: Requester,
    tree: bool,
    /// Storage has not said yet that it listens.
    first: bool,
}

fn requester(open: &Open, connection: ConnectionId) -> Requester {
    Requester { volume: open.volume(), session: open.session, connection, share: open.share }
}

impl Shard {
    /// A watch is known to every shard; it is to hear of local changes too. `false` if nobody could tell.
    pub(super) fn begin_listening(
        &mut self,
        id: OpenId,
        origin: Option<Origin>,
        turn: &mut Turn<'_>,
    ) -> bool {
        let Some(watch) = self.watching.watches.get_mut(&id) else { return false };
        let Some(open) = self.opens.get_mut(&id).filter(|open| open.caps.local_changes) else { return false };
        // Its first request may have been given up already.
        let connection = origin.map_or(ConnectionId(0), |origin| origin.connection);
        watch.listening = true;
        open.outstanding.begin(Ticket::UNCOUNTED);
        let tree = watch.watcher.tree.is_some();
        let (handle, requester) = (open.handle, requester(open, connection));
        self.listen(Listening { open: id, handle, requester, tree, first: true }, turn);
        true
    }

    fn listen(&mut self, listening: Listening, turn: &mut Turn<'_>) {
        let op = StorageOp::Watch { handle: listening.handle, tree: listening.tree };
        self.submit(listening.requester.clone(), op, Wait::Local(Box::new(listening)), turn);
    }

    /// A watch ends: so does storage's.
    pub(super) fn end_listening(&mut self, id: OpenId, turn: &mut Turn<'_>) {
        let listening = self.watching.watches.get(&id).is_some_and(|watch| watch.listening);
        if let Some(open) = self.opens.get(&id).filter(|_| listening) {
            let op = StorageOp::Unwatch { handle: open.handle };
            self.submit(requester(open, ConnectionId(0)), op, Wait::Nothing, turn);
        }
    }

    /// Storage saw something, or waits no longer.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "an answer of another kind is the driver's fault, whatever kind it is"
    )]
    pub(crate) fn on_local_news(
        &mut self,
        mut listening: Listening,
        reply: StorageReply,
        turn: &mut Turn<'_>,
    ) {
        let id = listening.open;
        if std::mem::take(&mut listening.first) {
            self.watch_is_heard(id, turn);
        }
        let kept_max = self.limits.notify_bytes_max as usize;
        let Some(watch) = self.watching.watches.get_mut(&id).filter(|watch| watch.listening) else {
            return self.outstanding_done(id, Ticket::UNCOUNTED, turn);
        };
        match reply {
            StorageReply::Changed(LocalNews::Changes(changes)) => {
                let filter = watch.watcher.filter;
                let wanted = changes.into_iter().filter(|change| change.filter.intersects(filter));
                let wanted: Vec<Change> = wanted.map(|change| change.change).collect();
                watch.keep(wanted, kept_max);
            }
            StorageReply::Changed(LocalNews::Overflow) => watch.forget(),
            StorageReply::Changed(LocalNews::Gone) => {
                watch.listening = false;
                self.end_watch(id, NtStatus::DELETE_PENDING, turn);
                return self.outstanding_done(id, Ticket::UNCOUNTED, turn);
            }
            // The driver can't, though it said that it could: the server's own changes are still told.
            _ => {
                watch.listening = false;
                return self.outstanding_done(id, Ticket::UNCOUNTED, turn);
            }
        }
        self.answer_notifies(id, turn);
        self.listen(listening, turn);
    }
}
