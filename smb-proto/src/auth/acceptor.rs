//! The server's side of an authentication: a pure state machine (MS-NLMP 3.2.5.1, RFC 4178 4.2, MS-SPNG 3.2.5).
//!
//! Tokens come in through [`NtlmAcceptor::step`]; when the client has shown who it claims to be, the caller looks up the
//! user's NT hash and calls [`NtlmAcceptor::finish`]. Time and randomness are handed in. A user that doesn't exist takes
//! the same path through the computation as a wrong password.
//!
//! Deliberately not done: NTLMv1 and LM responses (refused), channel bindings (SMB's transports have none), guests (an
//! affair of the caller).

use std::fmt;

use subtle::{Choice, ConstantTimeEq};

use super::ntlm::{
    Authenticate, AvId, AvPairs, Challenge, ClientChallenge, Direction, Flags, Negotiate, SessionSecurity,
    Version, compute,
};
use super::spnego::{MechTypes, NegState, NegTokenInit, NegTokenResp, Oid, Token};
use crate::crypto::Secret;
use crate::error::Malformed;
use crate::name::Name;
use crate::time::FileTime;

/// How far a client's time may be from the server's: 36 hours, in intervals of 100 ns (MS-NLMP 3.1.1.1).
const LIFETIME_MAX: u64 = 36 * 3600 * 10_000_000;
/// Bytes of the proof in front of an NTLMv2 response.
const PROOF_SIZE: usize = 16;
/// What the server grants whenever the client offers it.
const GRANTED: Flags = Flags(
    Flags::SIGN.0
        | Flags::SEAL.0
        | Flags::ALWAYS_SIGN.0
        | Flags::REQUEST_TARGET.0
        | Flags::EXTENDED_SESSION_SECURITY.0
        | Flags::KEY_EXCHANGE.0
        | Flags::KEY_128.0
        | Flags::KEY_56.0
        | Flags::VERSION.0,
);
/// What the server's challenges always have.
const ALWAYS: Flags =
    Flags(Flags::UNICODE.0 | Flags::NTLM.0 | Flags::TARGET_TYPE_SERVER.0 | Flags::TARGET_INFO.0);

/// What the server calls itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AcceptorConfig {
    /// NetBIOS name of the server.
    pub netbios_computer: String,
    /// NetBIOS domain; the server's own name when it is in none.
    pub netbios_domain: String,
    /// DNS name of the server.
    pub dns_computer: String,
    /// DNS domain.
    pub dns_domain: String,
}

impl AcceptorConfig {
    /// The names of a server that is in no domain and has one name.
    #[must_use]
    pub fn standalone(name: &str) -> Self {
        let (upper, lower) = (name.to_uppercase(), name.to_lowercase());
        Self {
            netbios_computer: upper.clone(),
            netbios_domain: upper,
            dns_computer: lower.clone(),
            dns_domain: lower,
        }
    }
}

/// What a step needs from outside.
#[derive(Clone, Copy, Debug)]
pub struct StepInputs {
    /// Eight random bytes, new for every step.
    pub challenge: [u8; 8],
    /// The time.
    pub now: FileTime,
}

/// What a token leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send this and wait for the next token.
    Continue {
        /// The token for the client.
        reply: Vec<u8>,
    },
    /// Look up this user's NT hash, then call [`NtlmAcceptor::finish`].
    NeedUser {
        /// The user, as the client spells it; may be `user@domain` with an empty domain.
        user: String,
        /// The domain, as the client spells it; may be empty.
        domain: String,
        /// The client's name for itself, for logs.
        workstation: String,
    },
    /// The client wants to be nobody. Call [`NtlmAcceptor::finish`] without a hash to let it.
    Anonymous,
    /// The authentication failed and is over.
    Denied {
        /// Why.
        reason: Denial,
    },
}

/// How an authentication ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The client is who it claims to be.
    Accepted {
        /// The token for the client; empty without SPNEGO.
        reply: Vec<u8>,
        /// ExportedSessionKey.
        session_key: Secret<16>,
        /// The user, as the client spells it; empty for an anonymous one.
        user: String,
        /// The domain, as the client spells it.
        domain: String,
        /// Whether the client is nobody: nothing is known of it, and anyone knows the session key.
        anonymous: bool,
    },
    /// The authentication failed.
    Denied {
        /// Why: for the server's logs, not for the client.
        reason: Denial,
    },
}

/// Why an authentication failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Denial {
    /// A token or message isn't what it claims to be.
    Malformed(Malformed),
    /// A token comes when another kind is due.
    OutOfOrder,
    /// The client doesn't offer NTLM.
    NoCommonMechanism,
    /// The response is NTLMv1's or LM's.
    OldResponse,
    /// The user doesn't exist, or the password is wrong.
    WrongCredentials,
    /// The client's time is too far from the server's.
    Expired,
    /// The client promised to choose the session key and didn't.
    NoSessionKey,
    /// The messages were changed on their way.
    BadMic,
    /// The list of mechanisms was changed on its way, or isn't protected although it has to be.
    BadMechListMic,
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed(malformed) => return malformed.fmt(f),
            Self::OutOfOrder => "token out of order",
            Self::NoCommonMechanism => "the client doesn't offer NTLM",
            Self::OldResponse => "NTLMv1 or LM response",
            Self::WrongCredentials => "unknown user or wrong password",
            Self::Expired => "the client's time is too far from ours",
            Self::NoSessionKey => "no session key",
            Self::BadMic => "wrong MIC",
            Self::BadMechListMic => "wrong or missing mechListMIC",
        })
    }
}

impl From<Malformed> for Denial {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

/// The SPNEGO side of the exchange.
#[derive(Clone, Debug)]
struct Negotiation {
    mech_types: MechTypes,
    /// NTLM was not the client's first choice: then RFC 4178 (5) wants mechListMIC. Where it was, a missing one is let
    /// pass, as not every client sends it; there is no better mechanism here that an attacker could have hidden.
    mic_required: bool,
}

#[derive(Clone, Debug)]
enum State {
    AwaitingNegotiate,
    AwaitingAuthenticate(Exchange),
    AwaitingHash(Box<Pending>),
    Over,
}

/// The first two messages, as they were on the wire.
#[derive(Clone, Debug)]
struct Exchange {
    negotiate: Vec<u8>,
    challenge: Vec<u8>,
    flags: Flags,
    server_challenge: [u8; 8],
}

/// Everything that is to be checked.
#[derive(Clone, Debug)]
struct Pending {
    exchange: Exchange,
    bytes: Vec<u8>,
    message: Authenticate,
    response: Option<ClientChallenge>,
    mech_list_mic: Option<Vec<u8>>,
    now: FileTime,
}

/// One authentication. A new one is needed for each, also for a reauthentication.
#[derive(Clone, Debug)]
pub struct NtlmAcceptor {
    config: AcceptorConfig,
    negotiation: Option<Negotiation>,
    state: State,
}

impl NtlmAcceptor {
    /// An authentication that has not begun.
    #[must_use]
    pub fn new(config: &AcceptorConfig) -> Self {
        Self { config: config.clone(), negotiation: None, state: State::AwaitingNegotiate }
    }

    /// The token for the NEGOTIATE response: NTLM is what this server accepts.
    #[must_use]
    pub fn server_hint() -> Vec<u8> {
        NegTokenInit::server_hint(vec![Oid::NTLMSSP]).emit()
    }

    /// Takes a token of the client's.
    pub fn step(&mut self, token: &[u8], inputs: StepInputs) -> Step {
        let state = std::mem::replace(&mut self.state, State::Over);
        let step = Token::parse(token).map_err(Denial::from).and_then(|token| match state {
            State::AwaitingNegotiate => self.on_first(token, inputs),
            State::AwaitingAuthenticate(exchange) => self.on_last(token, exchange, inputs),
            State::AwaitingHash(_) | State::Over => Err(Denial::OutOfOrder),
        });
        step.unwrap_or_else(|reason| Step::Denied { reason })
    }

    /// Ends the authentication after [`Step::NeedUser`] or [`Step::Anonymous`], with the NT hash of the user if there
    /// is such a user.
    pub fn finish(&mut self, nt_hash: Option<&[u8; 16]>) -> Finish {
        let result = match std::mem::replace(&mut self.state, State::Over) {
            State::AwaitingHash(pending) => self.check(&pending, nt_hash),
            State::AwaitingNegotiate | State::AwaitingAuthenticate(_) | State::Over => {
                Err(Denial::OutOfOrder)
            }
        };
        result.unwrap_or_else(|reason| Finish::Denied { reason })
    }

    /// Ends the authentication after [`Step::NeedUser`] by letting the client in as a guest: nothing is proved, there is no
    /// session key, and the last token carries no integrity check. `None` when there is nothing to end.
    pub fn admit_guest(&mut self) -> Option<Vec<u8>> {
        if !matches!(std::mem::replace(&mut self.state, State::Over), State::AwaitingHash(_)) {
            return None;
        }
        let token = NegTokenResp { neg_state: Some(NegState::ACCEPT_COMPLETED), ..NegTokenResp::default() };
        Some(self.negotiation.as_ref().map(|_| token.emit()).unwrap_or_default())
    }

    fn on_first(&mut self, token: Token, inputs: StepInputs) -> Result<Step, Denial> {
        match (token, &self.negotiation) {
            (Token::Ntlmssp(message), None) => {
                let reply = self.challenge(message, inputs)?;
                Ok(Step::Continue { reply })
            }
            (Token::Init(init), None) => self.on_init(init, inputs),
            (Token::Resp(NegTokenResp { response_token: Some(message), .. }), Some(_)) => {
                let challenge = self.challenge(message, inputs)?;
                Ok(continue_with(NegState::ACCEPT_INCOMPLETE, None, Some(challenge)))
            }
            _ => Err(Denial::OutOfOrder),
        }
    }

    fn on_init(&mut self, init: NegTokenInit, inputs: StepInputs) -> Result<Step, Denial> {
        let oids = init.mech_types.oids();
        if !oids.contains(&Oid::NTLMSSP) {
            return Err(Denial::NoCommonMechanism);
        }
        let preferred = oids.first() == Some(&Oid::NTLMSSP);
        self.negotiation = Some(Negotiation { mech_types: init.mech_types, mic_required: !preferred });
        match init.mech_token {
            // The token of the preferred mechanism; another mechanism's is of no use here.
            Some(message) if preferred => {
                let challenge = self.challenge(message, inputs)?;
                Ok(continue_with(NegState::ACCEPT_INCOMPLETE, Some(Oid::NTLMSSP), Some(challenge)))
            }
            _ => {
                self.state = State::AwaitingNegotiate;
                let state = if preferred { NegState::ACCEPT_INCOMPLETE } else { NegState::REQUEST_MIC };
                Ok(continue_with(state, Some(Oid::NTLMSSP), None))
            }
        }
    }

    /// Answers NEGOTIATE with CHALLENGE.
    fn challenge(&mut self, negotiate: Vec<u8>, inputs: StepInputs) -> Result<Vec<u8>, Denial> {
        let offered = Negotiate::parse(&negotiate)?.flags;
        if !offered.contains(Flags::UNICODE) {
            return Err(Malformed("NTLM NEGOTIATE: not Unicode").into());
        }
        let flags = offered.common(GRANTED).with(ALWAYS);
        let mut target_info = AvPairs::default();
        for (id, name) in [
            (AvId::NETBIOS_DOMAIN, &self.config.netbios_domain),
            (AvId::NETBIOS_COMPUTER, &self.config.netbios_computer),
            (AvId::DNS_DOMAIN, &self.config.dns_domain),
            (AvId::DNS_COMPUTER, &self.config.dns_computer),
        ] {
            target_info.push_name(id, name);
        }
        target_info.set(AvId::TIMESTAMP, inputs.now.0.to_le_bytes().to_vec());
        let challenge = Challenge {
            flags,
            server_challenge: inputs.challenge,
            target_name: Name::from(self.config.netbios_computer.as_str()),
            target_info,
            // What Windows clients expect of a current server; nothing depends on it.
            version: flags.contains(Flags::VERSION).then_some(Version::new(10, 0, 20_348)),
        }
        .emit();
        self.state = State::AwaitingAuthenticate(Exchange {
            negotiate,
            challenge: challenge.clone(),
            flags,
            server_challenge: inputs.challenge,
        });
        Ok(challenge)
    }

    fn on_last(&mut self, token: Token, exchange: Exchange, inputs: StepInputs) -> Result<Step, Denial> {
        let (bytes, mech_list_mic) = match (token, &self.negotiation) {
            // Windows leaves SPNEGO out of its last token when nothing there needs protection (MS-SPNG, note 8).
            (Token::Ntlmssp(bytes), _) => (bytes, None),
            (Token::Resp(NegTokenResp { response_token: Some(bytes), mech_list_mic, .. }), Some(_)) => {
                (bytes, mech_list_mic)
            }
            _ => return Err(Denial::OutOfOrder),
        };
        let message = Authenticate::parse(&bytes)?;
        let anonymous = message.user.is_empty()
            && message.nt_response.is_empty()
            && matches!(message.lm_response.as_slice(), [] | [0]);
        let response = match message.nt_response.get(PROOF_SIZE..) {
            _ if anonymous => None,
            // NTLMv1's is 24 bytes long; an empty one leaves LM's only.
            Some(response) if message.nt_response.len() > 24 => Some(ClientChallenge::parse(response)?),
            _ => return Err(Denial::OldResponse),
        };
        let step = match anonymous {
            true => Step::Anonymous,
            false => Step::NeedUser {
                user: message.user.to_string(),
                domain: message.domain.to_string(),
                workstation: message.workstation.to_string(),
            },
        };
        let now = inputs.now;
        self.state =
            State::AwaitingHash(Box::new(Pending { exchange, bytes, message, response, mech_list_mic, now }));
        Ok(step)
    }

    /// Proof, then time, then MIC, then mechListMIC: what needs the session key comes after what shows that it is right.
    fn check(&self, pending: &Pending, nt_hash: Option<&[u8; 16]>) -> Result<Finish, Denial> {
        let message = &pending.message;
        let key_exchange_key = match &pending.response {
            Some(response) => {
                let key = check_proof(pending, nt_hash)?;
                if response.time.0.abs_diff(pending.now.0) > LIFETIME_MAX {
                    return Err(Denial::Expired);
                }
                key
            }
            None => Secret::default(),
        };
        let flags = message.flags.common(pending.exchange.flags);
        let session_key = exported_session_key(message, flags, key_exchange_key)?;
        if pending
            .response
            .as_ref()
            .is_some_and(|response| response.target_info.flags() & AvPairs::FLAG_MIC != 0)
        {
            let Exchange { negotiate, challenge, .. } = &pending.exchange;
            let expected = compute::mic(session_key.expose(), negotiate, challenge, &pending.bytes);
            if !message.mic.is_some_and(|mic| expected.ct_eq(&mic).into()) {
                return Err(Denial::BadMic);
            }
        }
        Ok(Finish::Accepted {
            reply: self.last_reply(pending, SessionSecurity::new(flags, session_key.expose()))?,
            session_key,
            user: message.user.to_string(),
            domain: message.domain.to_string(),
            anonymous: pending.response.is_none(),
        })
    }

    /// Checks the client's mechListMIC and gives the last token, with the server's if the client has sent one.
    fn last_reply(&self, pending: &Pending, security: Option<SessionSecurity>) -> Result<Vec<u8>, Denial> {
        let Some(negotiation) = &self.negotiation else { return Ok(Vec::new()) };
        let list = negotiation.mech_types.der();
        let ours = match (&pending.mech_list_mic, security) {
            (Some(theirs), Some(security)) => {
                if !security.verify_first_signature(Direction::ClientToServer, list, theirs) {
                    return Err(Denial::BadMechListMic);
                }
                Some(security.first_signature(Direction::ServerToClient, list).to_vec())
            }
            (None, _) if !negotiation.mic_required => None,
            _ => return Err(Denial::BadMechListMic),
        };
        let token = NegTokenResp {
            neg_state: Some(NegState::ACCEPT_COMPLETED),
            mech_list_mic: ours,
            ..NegTokenResp::default()
        };
        Ok(token.emit())
    }
}

/// A step that continues within SPNEGO.
fn continue_with(state: NegState, supported_mech: Option<Oid>, response_token: Option<Vec<u8>>) -> Step {
    let token = NegTokenResp { neg_state: Some(state), supported_mech, response_token, mech_list_mic: None };
    Step::Continue { reply: token.emit() }
}

/// Checks the proof and gives KeyExchangeKey. Both spellings of the domain are tried, always both, since some clients
/// compute with an empty one (MS-NLMP 3.2.5.1.2); an unknown user is computed with a hash that nothing can match.
fn check_proof(pending: &Pending, nt_hash: Option<&[u8; 16]>) -> Result<Secret<16>, Denial> {
    let message = &pending.message;
    let (theirs, client_challenge) =
        message.nt_response.split_first_chunk::<PROOF_SIZE>().ok_or(Denial::OldResponse)?;
    let known = Choice::from(u8::from(nt_hash.is_some()));
    let hash = nt_hash.unwrap_or(&[0; 16]);
    let mut accepted = None;
    for domain in [&message.domain, &Name::default()] {
        let key = compute::response_key(hash, &message.user, domain);
        let expected = compute::proof(key.expose(), &pending.exchange.server_challenge, client_challenge);
        let base = compute::session_base_key(key.expose(), &expected);
        if bool::from(expected.ct_eq(theirs) & known) {
            accepted = accepted.or(Some(base));
        }
    }
    accepted.ok_or(Denial::WrongCredentials)
}

/// ExportedSessionKey: the client's choice if it made one, otherwise KeyExchangeKey.
fn exported_session_key(
    message: &Authenticate,
    flags: Flags,
    key_exchange_key: Secret<16>,
) -> Result<Secret<16>, Denial> {
    if !flags.contains(Flags::KEY_EXCHANGE) {
        return Ok(key_exchange_key);
    }
    match <&[u8; 16]>::try_from(message.encrypted_session_key.as_slice()) {
        Ok(encrypted) => Ok(compute::exchange_key(key_exchange_key.expose(), encrypted)),
        // Without signing and sealing the client has nothing to send (MS-NLMP 3.1.5.1.2).
        Err(_) if !flags.intersects(Flags::SIGN.with(Flags::SEAL)) => Ok(key_exchange_key),
        Err(_) => Err(Denial::NoSessionKey),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::tests::published::{
        SESSION_KEY, SESSION_SETUP_REQUEST_1, SESSION_SETUP_REQUEST_2, SESSION_SETUP_RESPONSE_1,
        SESSION_SETUP_RESPONSE_2, hex, hex_array,
    };

    /// Where the token stands in a SESSION_SETUP request, and in a response.
    const TOKEN_IN: (usize, usize) = (0x58, 0x48);

    /// An acceptor that has sent the challenge which Windows sent.
    fn as_windows() -> NtlmAcceptor {
        let Ok(Token::Init(init)) = Token::parse(&hex(SESSION_SETUP_REQUEST_1)[TOKEN_IN.0..]) else {
            panic!()
        };
        let Ok(Token::Resp(resp)) = Token::parse(&hex(SESSION_SETUP_RESPONSE_1)[TOKEN_IN.1..]) else {
            panic!()
        };
        let bytes = resp.response_token.unwrap();
        let challenge = Challenge::parse(&bytes).unwrap();
        assert_eq!(challenge.emit(), bytes);
        let mut acceptor = NtlmAcceptor::new(&AcceptorConfig {
            netbios_computer: "SUT311".into(),
            netbios_domain: "SUT311".into(),
            dns_computer: "SUT311".into(),
            dns_domain: "SUT311".into(),
        });
        // Our own challenge differs from Windows's in nothing but the version.
        let now = challenge.target_info.timestamp().unwrap();
        let inputs = StepInputs { challenge: challenge.server_challenge, now };
        let ours = acceptor.challenge(init.mech_token.clone().unwrap(), inputs).unwrap();
        assert_eq!(Challenge { version: challenge.version, ..Challenge::parse(&ours).unwrap() }, challenge);

        acceptor.state = State::AwaitingAuthenticate(Exchange {
            negotiate: init.mech_token.unwrap(),
            challenge: bytes,
            flags: challenge.flags,
            server_challenge: challenge.server_challenge,
        });
        acceptor.negotiation = Some(Negotiation { mech_types: init.mech_types, mic_required: false });
        acceptor
    }

    fn inputs() -> StepInputs {
        StepInputs { challenge: [0; 8], now: FileTime(0x01D0_AECB_ADF5_A1A1) }
    }

    #[test]
    fn a_windows_client_is_accepted_as_windows_did() {
        let token = hex(SESSION_SETUP_REQUEST_2).split_off(TOKEN_IN.0);
        let mut acceptor = as_windows();
        let need = acceptor.step(&token, inputs());
        let expected = Step::NeedUser {
            user: "administrator".into(),
            domain: "SUT311".into(),
            workstation: "DRIVER311".into(),
        };
        assert_eq!(need, expected);
        let hash = compute::nt_hash("Password01!");
        let Finish::Accepted { reply, session_key, anonymous, .. } = acceptor.finish(Some(hash.expose()))
        else {
            panic!()
        };
        assert_eq!(session_key.expose(), &hex_array(SESSION_KEY));
        assert_eq!(reply, hex(SESSION_SETUP_RESPONSE_2)[TOKEN_IN.1..]);
        assert!(!anonymous);
    }

    #[test]
    fn every_changed_byte_of_it_is_noticed() {
        let token = hex(SESSION_SETUP_REQUEST_2).split_off(TOKEN_IN.0);
        let hash = compute::nt_hash("Password01!");
        // But for the client's negState, which nothing protects and nobody reads, and the tag of mechListMIC, which may
        // as well be missing here.
        let mic = token.len() - 20;
        assert_eq!(token[mic..mic + 4], [0xA3, 0x12, 0x04, 0x10]);
        for position in (0..8).chain(13..mic).chain(mic + 1..token.len()) {
            let mut changed = token.clone();
            changed[position] ^= 0x55;
            let mut acceptor = as_windows();
            if matches!(acceptor.step(&changed, inputs()), Step::NeedUser { .. } | Step::Anonymous) {
                let finish = acceptor.finish(Some(hash.expose()));
                assert!(matches!(finish, Finish::Denied { .. }), "byte {position}: {finish:?}");
            }
        }
    }

    #[test]
    fn a_time_too_far_away_is_refused() {
        let token = hex(SESSION_SETUP_REQUEST_2).split_off(TOKEN_IN.0);
        let hash = compute::nt_hash("Password01!");
        for (distance, accepted) in [(LIFETIME_MAX, true), (LIFETIME_MAX + 1, false)] {
            for now in [inputs().now.0 - distance, inputs().now.0 + distance] {
                let mut acceptor = as_windows();
                acceptor.step(&token, StepInputs { now: FileTime(now), ..inputs() });
                let finish = acceptor.finish(Some(hash.expose()));
                assert_eq!(matches!(finish, Finish::Accepted { .. }), accepted);
                assert!(accepted || finish == Finish::Denied { reason: Denial::Expired });
            }
        }
    }
}
