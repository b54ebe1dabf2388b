//! Sessions and tree connects (MS-SMB2 3.2.4.2.3, 3.2.4.2.4).

use std::sync::Arc;
use std::time::SystemTime;

use smb_proto::auth::{Credentials, InitiatorInputs, Next, NtlmInitiator, Wrapping};
use smb_proto::command::negotiate::{Capabilities, Dialect};
use smb_proto::command::session_setup::{self, SessionFlags};
use smb_proto::command::tree_connect::{self, ShareFlags};
use smb_proto::command::{Request, Response, logoff, tree_disconnect};
use smb_proto::crypto::{KeySchedule, Portable, PreauthHash, Provider, Secret, SessionKeys, Signer, signing};
use smb_proto::header::Flags;
use smb_proto::{FileTime, Name, NtStatus};

use super::connection::{Connection, Keys, Protection, Reply, Session, Target, Tree, WRONG_COMMAND};
use super::error::{Error, Result};
use super::random;

/// The connection's place in a session stands above the counter in every nonce: no nonce is used twice.
const CHANNEL_SHIFT: u32 = 48;
/// Requests that one authentication may take.
const LEGS_MAX: usize = 4;

impl Connection {
    /// Authenticates with NTLMv2 inside SPNEGO. The session's requests are protected as `protection` says, and encrypted if
    /// the server insists.
    ///
    /// # Errors
    /// [`Error::Status`] when the server refuses; others when it can't be trusted.
    pub fn log_on(&mut self, credentials: &Credentials, protection: Protection) -> Result<Session> {
        let (initiator, preauth, reply) =
            self.authenticate(credentials, Target::NONE, session_setup::Flags::default())?;
        self.begin_session(&initiator, &preauth, &reply, protection)
    }

    /// Makes this connection one more that carries a session of `first`, the connection that set it up. Both must have
    /// been opened with the same ClientGuid.
    ///
    /// # Errors
    /// As [`Self::log_on`]; the session goes on without this connection.
    pub fn bind(
        &mut self,
        first: &mut Connection,
        session: Session,
        credentials: &Credentials,
    ) -> Result<Session> {
        let keys = first.keys.get_mut(&session.id).ok_or(Error::Protocol("the session has no keys"))?;
        keys.bound += 1;
        let (sealer, opener) = (keys.sealer.clone(), keys.opener.clone());
        let sealed = keys.bound << CHANNEL_SHIFT;
        let session_signer = Arc::clone(&keys.session_signer);
        // Until it succeeds the session's own key signs (3.2.5.3.3).
        let signer = Arc::clone(&session_signer);
        self.keys.insert(session.id, Keys { signer, sealer, opener, sealed, session_signer, bound: 0 });
        let target = Target { session_id: session.id, tree_id: 0, protection: Protection::Signed };
        let bound = self.authenticate(credentials, target, session_setup::Flags::BINDING).and_then(|done| {
            let (initiator, preauth, reply) = done;
            let signer = self.channel_keys(&initiator, &preauth)?.1;
            if !signing::verify_message(&*signer, &reply.message) {
                return Err(Error::Protocol("the bind's last response isn't signed with the channel's key"));
            }
            Ok(signer)
        });
        match (bound, self.keys.get_mut(&session.id)) {
            (Ok(signer), Some(keys)) => {
                keys.signer = signer;
                Ok(session)
            }
            (bound, _) => {
                self.keys.remove(&session.id);
                Err(bound.err().unwrap_or(Error::Protocol("the session has no keys")))
            }
        }
    }

    /// SESSION_SETUP from the first leg to the last. Returns what proves who the client is, the hash up to the last
    /// request, and the last response, whose signature is not verified yet.
    fn authenticate(
        &mut self,
        credentials: &Credentials,
        first: Target,
        flags: session_setup::Flags,
    ) -> Result<(NtlmInitiator, PreauthHash, Reply)> {
        let (mut initiator, mut token) =
            NtlmInitiator::begin(credentials.clone(), Wrapping::Spnego, "CLIENT", "cifs/server");
        let mut preauth = self.preauth;
        let mut target = first;
        for _ in 0..LEGS_MAX {
            let message_id = self.submit(target, &self.setup_request(flags, token))?;
            preauth.update(self.last_message());
            let reply = self.wait(message_id)?;
            let Response::SessionSetup(response) = &reply.response else {
                reply.success()?;
                return Err(Error::Protocol(WRONG_COMMAND));
            };
            target.session_id = reply.header.session_id;
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
                    return Ok((initiator, preauth, reply));
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

    fn setup_request(&self, flags: session_setup::Flags, token: Vec<u8>) -> Request {
        Request::SessionSetup(session_setup::Request {
            flags,
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
        protection: Protection,
    ) -> Result<Session> {
        let Response::SessionSetup(response) = &reply.response else {
            return Err(Error::Protocol(WRONG_COMMAND));
        };
        let (id, flags) = (reply.header.session_id, response.session_flags);
        let nobody = flags.intersects(SessionFlags::IS_GUEST.with(SessionFlags::IS_NULL));
        if nobody {
            // Anyone knows such a session's key: it neither signs nor encrypts (3.2.5.3.1).
            return Ok(Session { id, protection: Protection::Plain });
        }
        let (keys, signer) = self.channel_keys(initiator, preauth)?;
        let cipher = |key: &[u8]| {
            let cipher = self.negotiated.cipher?;
            Portable.cipher(cipher, key).ok()
        };
        let keys = Keys {
            session_signer: Arc::clone(&signer),
            signer,
            bound: 0,
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

impl Connection {
    /// The keys that an authentication on this connection leads to, and its signer.
    fn channel_keys(
        &self,
        initiator: &NtlmInitiator,
        preauth: &PreauthHash,
    ) -> Result<(SessionKeys, Arc<dyn Signer>)> {
        let key = initiator.session_key().ok_or(Error::Protocol("the authentication gave no key"))?;
        let schedule = match self.negotiated.dialect {
            Dialect::SMB_3_1_1 => KeySchedule::Smb311 { preauth },
            dialect if dialect.is_smb3() => KeySchedule::Smb30,
            _ => KeySchedule::Smb2,
        };
        let keys = SessionKeys::derive(schedule, key.expose(), self.negotiated.cipher);
        let signer = Portable.signer(self.negotiated.signer, keys.signing.expose());
        Ok((keys, signer))
    }
}

fn now() -> FileTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    FileTime::from_unix(i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_nanos())
}
