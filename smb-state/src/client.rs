//! The Client machine (MS-SMB2 3.3.1.16, 3.3.1.11): what all connections of one ClientGuid share: their dialect, which file
//! each of their lease keys stands for, and which CREATEs can be replayed.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use smb_proto::command::negotiate::Dialect;
use smb_proto::create_context::LeaseKey;
use smb_proto::{Name, NtStatus};

use crate::ids::{FileKey, OpenId, SessionId};
use crate::message::{Answer, Asker, ClientAsk, KnownCreate};
use crate::shard::{Shard, Turn};

/// A client with at least one valid session, an open under a lease, or a CREATE that can be replayed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Client {
    /// The one dialect that its connections may speak.
    dialect: Option<Dialect>,
    /// Sessions that count.
    sessions: u32,
    /// LeaseTable.LeaseList: lease keys in use.
    leases: BTreeMap<LeaseKey, Lease>,
    /// CREATEs that can be replayed, by CreateGuid (3.3.5.9.10).
    creates: BTreeMap<[u8; 16], KnownCreate>,
}

/// What a lease key stands for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Lease {
    file: FileKey,
    stream: Name,
    /// Opens under it.
    opens: u32,
}

impl Client {
    fn is_idle(&self) -> bool {
        self.sessions == 0 && self.leases.is_empty() && self.creates.is_empty()
    }

    /// A session of this dialect begins: all of a client's connections speak one (3.3.5.5.3, S8).
    fn join(&mut self, dialect: Dialect) -> Answer {
        if self.sessions > 0 && self.dialect != Some(dialect) {
            return Answer::Refused(NtStatus::USER_SESSION_DELETED);
        }
        self.dialect = Some(dialect);
        self.sessions += 1;
        Answer::Granted
    }

    /// An open joins a lease; a key stands for one stream of one file as long as it is in use (3.3.5.9.8).
    fn claim(&mut self, key: LeaseKey, file: FileKey, stream: Name) -> Answer {
        let lease = self.leases.entry(key).or_insert(Lease { file, stream: stream.clone(), opens: 0 });
        if lease.file != file || lease.stream != stream {
            return Answer::Refused(NtStatus::INVALID_PARAMETER);
        }
        lease.opens += 1;
        Answer::Granted
    }

    /// A lease follows its stream's name (3.3.5.21.1).
    fn rename(&mut self, key: LeaseKey, file: FileKey, stream: Name) {
        if let Some(lease) = self.leases.get_mut(&key).filter(|lease| lease.file == file) {
            lease.stream = stream;
        }
    }

    /// Of two CREATEs with one CreateGuid the first one counts (S24).
    fn begin_create(&mut self, guid: [u8; 16], created: KnownCreate) -> Answer {
        match self.creates.entry(guid) {
            Entry::Occupied(known) => Answer::CreateKnown(Box::new(known.get().clone())),
            Entry::Vacant(vacant) => {
                vacant.insert(created);
                Answer::Granted
            }
        }
    }

    fn end_create(&mut self, guid: [u8; 16], open: OpenId) {
        if self.creates.get(&guid).is_some_and(|known| known.open == open) {
            self.creates.remove(&guid);
        }
    }

    fn move_create(&mut self, guid: [u8; 16], open: OpenId, session: SessionId) {
        if let Some(known) = self.creates.get_mut(&guid).filter(|known| known.open == open) {
            known.session = session;
        }
    }

    fn unclaim(&mut self, key: LeaseKey) {
        if let Some(lease) = self.leases.get_mut(&key) {
            lease.opens = lease.opens.saturating_sub(1);
            if lease.opens == 0 {
                self.leases.remove(&key);
            }
        }
    }
}

impl Shard {
    /// A client's machine is asked.
    pub(crate) fn on_ask_client(
        &mut self,
        guid: [u8; 16],
        ask: ClientAsk,
        asker: Asker,
        turn: &mut Turn<'_>,
    ) {
        let client = self.clients.entry(guid).or_insert_with(|| Client {
            dialect: None,
            sessions: 0,
            leases: BTreeMap::new(),
            creates: BTreeMap::new(),
        });
        match ask {
            ClientAsk::Join(dialect) => turn.answer(asker, client.join(dialect)),
            ClientAsk::Leave => client.sessions = client.sessions.saturating_sub(1),
            ClientAsk::Leased(key) => {
                let file = client.leases.get(&key).map(|lease| lease.file);
                turn.answer(asker, Answer::LeasedFile(file));
            }
            ClientAsk::Claim { key, file, stream } => turn.answer(asker, client.claim(key, file, stream)),
            ClientAsk::Renamed { key, file, stream } => {
                client.rename(key, file, stream);
                turn.answer(asker, Answer::Granted);
            }
            ClientAsk::Unclaim(key) => client.unclaim(key),
            ClientAsk::BeginCreate { guid, created } => {
                turn.answer(asker, client.begin_create(guid, *created));
            }
            ClientAsk::EndCreate { guid, open } => client.end_create(guid, open),
            ClientAsk::MoveCreate { guid, open, session } => client.move_create(guid, open, session),
        }
        if client.is_idle() {
            self.clients.remove(&guid);
        }
    }
}
