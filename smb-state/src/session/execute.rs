//! A request at its session: protection, state, encryption and tree connect are checked (MS-SMB2 3.3.5.2.4, .9, .11),
//! then the command is carried out.

use smb_proto::NtStatus;
use smb_proto::header::CommandCode;

use super::{EndWaiter, Leaves, Session};
use crate::ids::SessionId;
use crate::message::{Execution, Finished, Origin};
use crate::open::channel_sequence::Ticket;
use crate::request::{Command, Protection};
use crate::response::{Body, Protect};
use crate::shard::{Shard, Turn};

impl Session {
    /// A request must be protected as the session demands.
    pub(crate) fn check_protection(&self, protection: Protection) -> Result<(), NtStatus> {
        let sealed = matches!(protection, Protection::Sealed(_));
        if self.encrypt && !sealed {
            return Err(NtStatus::ACCESS_DENIED);
        }
        if self.signing_required && !sealed && protection != Protection::Signed {
            return Err(NtStatus::ACCESS_DENIED);
        }
        Ok(())
    }

    /// How the answer to a request of this protection goes out (S12, S13).
    pub(crate) fn protection_of_answer(&self, id: SessionId, protection: Protection) -> Protect {
        match protection {
            Protection::Sealed(session) => Protect::Seal(session),
            _ if self.encrypt => Protect::Seal(id),
            Protection::Signed => Protect::Sign,
            _ if self.signing_required => Protect::Sign,
            Protection::None | Protection::BadSignature | Protection::Unverified => Protect::Plain,
        }
    }
}

impl Shard {
    /// A request arrives at its session.
    pub(crate) fn on_execute(&mut self, id: SessionId, execution: Execution, turn: &mut Turn<'_>) {
        let mut origin = Origin {
            connection: execution.connection,
            message: execution.request.message,
            session: id,
            tree: execution.tree,
            protect: Protect::Plain,
            ticket: Ticket::UNCOUNTED,
        };
        let verdict = self.check_execution(id, &execution, &mut origin);
        let spent = execution.request.command.buffer();
        if let Err(status) = verdict {
            return turn.finish(Finished {
                origin,
                status,
                body: Body::Error,
                open: execution.related_open,
                spent,
            });
        }
        match execution.request.command {
            Command::Logoff => {
                let waiter = EndWaiter::Request(origin, NtStatus::SUCCESS);
                self.end_session(id, Leaves::DurableOpens, Some(waiter), turn);
            }
            Command::TreeConnect(ref request) => self.on_tree_connect(origin, &execution, request, turn),
            Command::TreeDisconnect => self.on_tree_disconnect(origin, turn),
            Command::Create(_) => self.on_create(origin, execution, turn),
            Command::OplockBreak(_) => self.on_acknowledgment(origin, &execution, turn),
            Command::Close(_)
            | Command::Flush(_)
            | Command::Read(_)
            | Command::Write(_)
            | Command::Lock(_)
            | Command::Ioctl(_)
            | Command::QueryDirectory(_)
            | Command::ChangeNotify(_)
            | Command::QueryInfo(_)
            | Command::SetInfo(_) => self.on_open_request(origin, execution, turn),
            Command::MultiProtocolNegotiate(_)
            | Command::Negotiate(_)
            | Command::SessionSetup(_)
            | Command::Cancel
            | Command::Echo
            | Command::Unreadable(_) => {
                let status = NtStatus::INVALID_PARAMETER;
                turn.finish(Finished { origin, status, body: Body::Error, open: None, spent });
            }
        }
    }

    fn check_execution(
        &self,
        id: SessionId,
        execution: &Execution,
        origin: &mut Origin,
    ) -> Result<(), NtStatus> {
        let protection = execution.request.protection;
        let session = self.sessions.get(&id).ok_or(NtStatus::USER_SESSION_DELETED)?;
        origin.protect = session.protection_of_answer(id, protection);
        let command = execution.request.command.code();
        session.check_protection(protection)?;
        session.check_state(command)?;
        match command {
            CommandCode::Logoff | CommandCode::TreeConnect => return Ok(()),
            CommandCode::Negotiate
            | CommandCode::SessionSetup
            | CommandCode::TreeDisconnect
            | CommandCode::Create
            | CommandCode::Close
            | CommandCode::Flush
            | CommandCode::Read
            | CommandCode::Write
            | CommandCode::Lock
            | CommandCode::Ioctl
            | CommandCode::Cancel
            | CommandCode::Echo
            | CommandCode::QueryDirectory
            | CommandCode::ChangeNotify
            | CommandCode::QueryInfo
            | CommandCode::SetInfo
            | CommandCode::OplockBreak => {}
        }
        let tree = session
            .trees
            .get(&execution.tree)
            .filter(|tree| !tree.is_ending())
            .ok_or(NtStatus::NETWORK_NAME_DELETED)?;
        if tree.encrypted {
            origin.protect = Protect::Seal(id);
            if !matches!(protection, Protection::Sealed(_)) {
                // Answered in the clear: the client asked in the clear and must learn why it is refused.
                origin.protect = session.protection_of_answer(id, protection);
                return Err(NtStatus::ACCESS_DENIED);
            }
        }
        Ok(())
    }
}
