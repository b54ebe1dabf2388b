//! The client's side of an authentication: a pure state machine, for load generators and tests (MS-NLMP 3.1.5.1,
//! RFC 4178 4.2).

use std::fmt;

use super::ntlm::{
    Authenticate, AvId, AvPairs, Challenge, ClientChallenge, Direction, Flags, Negotiate, SessionSecurity,
    Version, compute,
};
use super::spnego::{MechTypes, NegState, NegTokenInit, NegTokenResp, Oid, Token};
use crate::crypto::Secret;
use crate::error::Malformed;
use crate::name::Name;
use crate::time::FileTime;
use crate::wire;

/// Who logs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// A user.
    User {
        /// The user's name.
        user: String,
        /// The user's domain; may be empty.
        domain: String,
        /// The NT hash of the password, see [`compute::nt_hash`].
        nt_hash: Secret<16>,
    },
    /// Nobody.
    Anonymous,
}

impl Credentials {
    /// A user with a password.
    #[must_use]
    pub fn password(user: &str, domain: &str, password: &str) -> Self {
        Self::User { user: user.to_owned(), domain: domain.to_owned(), nt_hash: compute::nt_hash(password) }
    }
}

/// What the NTLM messages are wrapped in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wrapping {
    /// Nothing.
    Raw,
    /// SPNEGO that offers NTLM only and sends its first message at once.
    Spnego,
    /// SPNEGO that would rather have Kerberos, as the clients of a domain do, and comes back to NTLM.
    SpnegoKerberosFirst,
}

/// What a step needs from outside.
#[derive(Clone, Debug)]
pub struct InitiatorInputs {
    /// Eight random bytes.
    pub client_challenge: [u8; 8],
    /// The session key to propose: 16 random bytes.
    pub session_key: Secret<16>,
    /// The time, for servers that don't tell theirs.
    pub now: FileTime,
}

/// What a token of the server's leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Send this and wait for the answer.
    Send(Vec<u8>),
    /// The server accepted, and what it proved is right.
    Done,
}

/// Why the client gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InitiatorError {
    /// A token or message isn't what it claims to be.
    Malformed(Malformed),
    /// A token comes when another kind is due.
    OutOfOrder,
    /// The server refuses, or wants another mechanism.
    Rejected,
    /// The server's mechListMIC is wrong or missing.
    BadMechListMic,
}

impl fmt::Display for InitiatorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed(malformed) => return malformed.fmt(f),
            Self::OutOfOrder => "token out of order",
            Self::Rejected => "rejected by the server",
            Self::BadMechListMic => "wrong or missing mechListMIC",
        })
    }
}

impl std::error::Error for InitiatorError {}

impl From<Malformed> for InitiatorError {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    AwaitingChoice,
    AwaitingChallenge,
    AwaitingEnd,
    Over,
}

/// One authentication.
#[derive(Clone, Debug)]
pub struct NtlmInitiator {
    credentials: Credentials,
    workstation: Name,
    target_name: Name,
    mech_types: Option<MechTypes>,
    negotiate: Vec<u8>,
    state: State,
    session_key: Option<Secret<16>>,
    security: Option<SessionSecurity>,
}

impl NtlmInitiator {
    /// What the client asks for.
    pub const FLAGS: Flags = Flags(
        Flags::UNICODE.0
            | Flags::REQUEST_TARGET.0
            | Flags::SIGN.0
            | Flags::NTLM.0
            | Flags::ALWAYS_SIGN.0
            | Flags::EXTENDED_SESSION_SECURITY.0
            | Flags::TARGET_INFO.0
            | Flags::KEY_128.0
            | Flags::KEY_EXCHANGE.0
            | Flags::KEY_56.0,
    );

    /// An authentication to the service `target_name` (as in `cifs/server`), and the first token for it.
    #[must_use]
    pub fn begin(
        credentials: Credentials,
        wrapping: Wrapping,
        workstation: &str,
        target_name: &str,
    ) -> (Self, Vec<u8>) {
        let version = Some(Version::new(10, 0, 20_348));
        let negotiate = Negotiate { flags: Self::FLAGS, version, ..Negotiate::default() }.emit();
        let mut initiator = Self {
            credentials,
            workstation: Name::from(workstation),
            target_name: Name::from(target_name),
            mech_types: None,
            negotiate,
            state: State::AwaitingChallenge,
            session_key: None,
            security: None,
        };
        let (oids, mech_token) = match wrapping {
            Wrapping::Raw => {
                let token = initiator.negotiate.clone();
                return (initiator, token);
            }
            Wrapping::Spnego => (vec![Oid::NTLMSSP], Some(initiator.negotiate.clone())),
            Wrapping::SpnegoKerberosFirst => {
                initiator.state = State::AwaitingChoice;
                (vec![Oid::MS_KERBEROS, Oid::KERBEROS, Oid::NTLMSSP], None)
            }
        };
        let mech_types = MechTypes::new(oids);
        initiator.mech_types = Some(mech_types.clone());
        let init =
            NegTokenInit { mech_types, req_flags: None, mech_token, hint_name: None, mech_list_mic: None };
        (initiator, init.emit())
    }

    /// Takes a token of the server's. Without SPNEGO the last one is empty.
    ///
    /// # Errors
    /// [`InitiatorError`], after which the authentication is over.
    pub fn step(&mut self, token: &[u8], inputs: InitiatorInputs) -> Result<Next, InitiatorError> {
        let state = std::mem::replace(&mut self.state, State::Over);
        let Some(mech_types) = self.mech_types.clone() else {
            return match state {
                State::AwaitingChallenge => Ok(Next::Send(self.authenticate(token, inputs)?)),
                State::AwaitingEnd if token.is_empty() => Ok(Next::Done),
                _ => Err(InitiatorError::OutOfOrder),
            };
        };
        let Token::Resp(response) = Token::parse(token)? else { return Err(InitiatorError::OutOfOrder) };
        if response.neg_state == Some(NegState::REJECT)
            || response.supported_mech.as_ref().is_some_and(|mech| *mech != Oid::NTLMSSP)
        {
            return Err(InitiatorError::Rejected);
        }
        match (state, response.response_token) {
            (State::AwaitingChoice, None) => {
                self.state = State::AwaitingChallenge;
                let token =
                    NegTokenResp { response_token: Some(self.negotiate.clone()), ..NegTokenResp::default() };
                Ok(Next::Send(token.emit()))
            }
            (State::AwaitingChallenge, Some(challenge)) => {
                let authenticate = self.authenticate(&challenge, inputs)?;
                let sign = |security: &SessionSecurity| {
                    security.first_signature(Direction::ClientToServer, mech_types.der()).to_vec()
                };
                let token = NegTokenResp {
                    response_token: Some(authenticate),
                    mech_list_mic: self.security.as_ref().map(sign),
                    ..NegTokenResp::default()
                };
                Ok(Next::Send(token.emit()))
            }
            (State::AwaitingEnd, None) if response.neg_state == Some(NegState::ACCEPT_COMPLETED) => {
                let right = match (&self.security, response.mech_list_mic) {
                    (Some(security), Some(mic)) => {
                        security.verify_first_signature(Direction::ServerToClient, mech_types.der(), &mic)
                    }
                    (security, _) => security.is_none(),
                };
                if right { Ok(Next::Done) } else { Err(InitiatorError::BadMechListMic) }
            }
            _ => Err(InitiatorError::OutOfOrder),
        }
    }

    /// ExportedSessionKey, once AUTHENTICATE is made.
    #[must_use]
    pub fn session_key(&self) -> Option<&Secret<16>> {
        self.session_key.as_ref()
    }

    /// Answers CHALLENGE with AUTHENTICATE.
    fn authenticate(&mut self, bytes: &[u8], inputs: InitiatorInputs) -> Result<Vec<u8>, InitiatorError> {
        let challenge = Challenge::parse(bytes)?;
        let flags = challenge.flags.common(Self::FLAGS);
        let mut message = Authenticate {
            lm_response: Vec::new(),
            nt_response: Vec::new(),
            domain: Name::default(),
            user: Name::default(),
            workstation: self.workstation.clone(),
            encrypted_session_key: Vec::new(),
            flags,
            version: Some(Version::new(10, 0, 20_348)),
            mic: Some([0; 16]),
        };
        let key_exchange_key = match &self.credentials {
            Credentials::Anonymous => {
                // One zero byte in LM's place is how anonymous clients are told (MS-NLMP 3.2.5.1.2).
                message.lm_response = vec![0];
                message.flags = flags.with(Flags::ANONYMOUS);
                Secret::default()
            }
            Credentials::User { user, domain, nt_hash } => {
                message.user = Name::from(user.as_str());
                message.domain = Name::from(domain.as_str());
                let key = compute::response_key(nt_hash.expose(), &message.user, &message.domain);
                let response = self.client_challenge(&challenge, &inputs).emit();
                let proof = compute::proof(key.expose(), &challenge.server_challenge, &response);
                message.nt_response = [&proof, response.as_slice()].concat();
                message.lm_response = match challenge.target_info.timestamp() {
                    Some(_) => vec![0; 24],
                    None => compute::lm_v2_response(
                        key.expose(),
                        &challenge.server_challenge,
                        &inputs.client_challenge,
                    ),
                };
                compute::session_base_key(key.expose(), &proof)
            }
        };
        let chosen = flags.contains(Flags::KEY_EXCHANGE) && flags.intersects(Flags::SIGN.with(Flags::SEAL));
        let session_key = if chosen {
            let encrypted = compute::exchange_key(key_exchange_key.expose(), inputs.session_key.expose());
            message.encrypted_session_key = encrypted.expose().to_vec();
            inputs.session_key
        } else {
            key_exchange_key
        };
        message.mic = Some(compute::mic(session_key.expose(), &self.negotiate, bytes, &message.emit()));
        self.security = SessionSecurity::new(flags, session_key.expose());
        self.session_key = Some(session_key);
        self.state = State::AwaitingEnd;
        Ok(message.emit())
    }

    /// The server's AV pairs with the client's added.
    fn client_challenge(&self, challenge: &Challenge, inputs: &InitiatorInputs) -> ClientChallenge {
        let mut target_info = challenge.target_info.clone();
        if challenge.target_info.timestamp().is_some() {
            let flags = target_info.flags() | AvPairs::FLAG_MIC;
            target_info.set(AvId::FLAGS, flags.to_le_bytes().to_vec());
        }
        target_info.set(AvId::CHANNEL_BINDINGS, vec![0; 16]);
        let mut target_name = Vec::new();
        wire::put_utf16(&mut target_name, self.target_name.units());
        target_info.set(AvId::TARGET_NAME, target_name);
        ClientChallenge {
            time: challenge.target_info.timestamp().unwrap_or(inputs.now),
            challenge: inputs.client_challenge,
            target_info,
        }
    }
}
