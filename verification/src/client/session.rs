//! Sessions and tree connects (MS-SMB2 3.2.4.2.3, 3.2.4.2.4).

use std::time::SystemTime;

use smb_proto::auth::{Credentials, InitiatorInputs, Next, NtlmInitiator, Wrapping};
use smb_proto::command::negotiate::{Capabilities, Dialect};
use smb_proto::command::session_setup::{self, SessionFlags};
use smb_proto::command::tree_connect::{self, ShareFlags};
use smb_proto::command::{Request, Response, logoff, tree_disconnect};
use smb_proto::crypto::{KeySchedule, Portable, PreauthHash, Provider, Secret, SessionKeys, signing};
use smb_proto::header::Flags;
use smb_proto::{FileTime, Name, NtStatus};

use super::connection::{Connection, Keys, Protection, Reply, Session, Target, Tree, WRONG_COMMAND};
use super::error::{Error, Result};
use super::random;

/// Requests that one authentication may take.
const LEGS_MAX: usize = 4;

impl Connection {
    /// Authenticates with NTLMv2 inside SPNEGO. The session's requests are protected as `protection` says, and encrypted if
    /// the server insists.
    ///
    /// # Errors
    /// [`Error::Status`] when the server refuses; others when it can't be trusted.
    pub fn log_on(&mut self, credentials: &Credentials, protection: Protection) -> Result<Session> {
        let (mut initiator, mut token) =
            NtlmInitiator::begin(credentials.clone(), Wrapping::Spnego, "CLIENT", "cifs/server");
        let mut preauth = self.preauth;
        let mut session_id = 0;
        for _ in 0..LEGS_MAX {
            let target = Target { session_id, ..Target::NONE };
            let message_id = self.submit(target, &self.setup_request(token))?;
            preauth.update(self.last_message());
            let reply = self.wait(message_id)?;
            let Response::SessionSetup(response) = &reply.response else {
                reply.success()?;
                return Err(Error::Protocol(WRONG_COMMAND));
            };
            session_id = reply.header.session_id;
            let inputs = InitiatorInputs {
                client_challenge: random()?,
                session_key: Secret::new(random()?),
                now: now(),
            };
            match initiator.step(&response.security_buffer, inputs)? {
                Next::Send(next) if reply.header.status == NtStatus::MORE_PROCESSING_REQUIRED => {
                    preauth.update(&reply.message);
                    token = next;
                }
                Next::Done if reply.header.status == NtStatus::SUCCESS => {
                    let flags = response.session_flags;
                    return self.begin_session(&initiator, &preauth, &reply, flags, protection);
                }
                _ => {
                    return Err(Error::Protocol("status and token of a SESSION_SETUP contradict each other"));
                }
            }
        }
        Err(Error::Protocol("the authentication doesn't end"))
    }

    /// Ends a session.
    ///
    /// # Errors
    /// As [`Connection::call`].
    pub fn log_off(&mut self, session: Session) -> Result<()> {
        self.call(session, &Request::Logoff(logoff::Request))?;
        self.keys.remove(&session.id);
        Ok(())
    }

    /// Connects to a share, `\\server\share`. In 3.1.1 the request is signed even in a session without protection,
    /// because servers insist (3.3.5.7).
    ///
    /// # Errors
    /// As [`Connection::call`].
    pub fn connect_tree(&mut self, session: Session, path: &str) -> Result<Tree> {
        let request = tree_connect::Request {
            flags: tree_connect::Flags::default(),
            path: Name::from(path),
            contexts: Vec::new(),
        };
        let mut target = Target::from(session);
        let must_sign =
            self.negotiated().dialect == Dialect::SMB_3_1_1 && self.keys.contains_key(&session.id);
        if must_sign && target.protection == Protection::Plain {
            target.protection = Protection::Signed;
        }
        let message_id = self.submit(target, &Request::TreeConnect(request))?;
        let reply = self.wait(message_id)?;
        let id = reply.header.tree_id().ok_or(Error::Protocol("TREE_CONNECT was answered asynchronously"))?;
        let Response::TreeConnect(response) = reply.success()? else {
            return Err(Error::Protocol(WRONG_COMMAND));
        };
        let mut session = session;
        if response.share_flags.contains(ShareFlags::ENCRYPT_DATA) {
            session.protection = Protection::Encrypted;
        }
        Ok(Tree { session, id })
    }

    /// Ends a tree connect.
    ///
    /// # Errors
    /// As [`Connection::call`].
    pub fn disconnect_tree(&mut self, tree: Tree) -> Result<()> {
        self.call(tree, &Request::TreeDisconnect(tree_disconnect::Request)).map(|_| ())
    }

    fn setup_request(&self, token: Vec<u8>) -> Request {
        Request::SessionSetup(session_setup::Request {
            flags: session_setup::Flags::default(),
            security_mode: self.offered.security_mode,
            capabilities: Capabilities::default(),
            channel: 0,
            previous_session_id: 0,
            security_buffer: token.into(),
        })
    }

    /// Derives the keys of a session that stands, and checks the response that says so (3.2.5.3.1).
    fn begin_session(
        &mut self,
        initiator: &NtlmInitiator,
        preauth: &PreauthHash,
        reply: &Reply,
        flags: SessionFlags,
        protection: Protection,
    ) -> Result<Session> {
        let id = reply.header.session_id;
        let nobody = flags.intersects(SessionFlags::IS_GUEST.with(SessionFlags::IS_NULL));
        if nobody {
            // Anyone knows such a session's key: it neither signs nor encrypts (3.2.5.3.1).
            return Ok(Session { id, protection: Protection::Plain });
        }
        let key = initiator.session_key().ok_or(Error::Protocol("the authentication gave no key"))?;
        let schedule = match self.negotiated.dialect {
            Dialect::SMB_3_1_1 => KeySchedule::Smb311 { preauth },
            dialect if dialect.is_smb3() => KeySchedule::Smb30,
            _ => KeySchedule::Smb2,
        };
        let keys = SessionKeys::derive(schedule, key.expose(), self.negotiated.cipher);
        let cipher = |key: &[u8]| {
            let cipher = self.negotiated.cipher?;
            Portable.cipher(cipher, key).ok()
        };
        let keys = Keys {
            signer: Portable.signer(self.negotiated.signer, keys.signing.expose()),
            sealer: cipher(keys.client_to_server.expose()),
            opener: cipher(keys.server_to_client.expose()),
            sealed: 0,
        };
        let signed = reply.header.flags.contains(Flags::SIGNED);
        if (signed && !signing::verify_message(&*keys.signer, &reply.message))
            || (!signed && self.negotiated.dialect == Dialect::SMB_3_1_1)
        {
            return Err(Error::Protocol(
                "the last SESSION_SETUP response isn't signed with the session's key",
            ));
        }
        self.keys.insert(id, keys);
        let must_encrypt = flags.contains(SessionFlags::ENCRYPT_DATA);
        Ok(Session { id, protection: if must_encrypt { Protection::Encrypted } else { protection } })
    }
}

fn now() -> FileTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    FileTime::from_unix(i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_nanos())
}
