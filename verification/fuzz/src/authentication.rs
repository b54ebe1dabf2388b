//! SPNEGO and NTLM tokens, of clients and of servers.

use smb_proto::FileTime;
use smb_proto::auth::acceptor::{AcceptorConfig, NtlmAcceptor, Step, StepInputs};
use smb_proto::auth::initiator::{Credentials, InitiatorInputs, Next, NtlmInitiator, Wrapping};
use smb_proto::auth::ntlm::compute;
use smb_proto::crypto::Secret;

use crate::script::Script;

/// The time on both sides.
pub const NOW: FileTime = FileTime(134_000_000_000_000_000);

fn names() -> AcceptorConfig {
    AcceptorConfig {
        netbios_computer: "SERVER".into(),
        netbios_domain: "SERVER".into(),
        dns_computer: "server".into(),
        dns_domain: String::new(),
    }
}

fn inputs() -> StepInputs {
    StepInputs { challenge: [1; 8], now: NOW }
}

fn initiator_inputs() -> InitiatorInputs {
    InitiatorInputs { client_challenge: [2; 8], session_key: Secret::new([3; 16]), now: NOW }
}

const WRAPPINGS: [Wrapping; 3] = [Wrapping::Raw, Wrapping::Spnego, Wrapping::SpnegoKerberosFirst];

fn begin(wrapping: Wrapping) -> (NtlmInitiator, Vec<u8>) {
    NtlmInitiator::begin(Credentials::password("user", "", "password"), wrapping, "CLIENT", "cifs/server")
}

/// The tokens of an exchange that succeeds, the client's and the server's in turn.
fn exchange(wrapping: Wrapping) -> Vec<Vec<u8>> {
    let (mut initiator, first) = begin(wrapping);
    let mut acceptor = NtlmAcceptor::new(&names());
    let mut tokens = vec![first];
    loop {
        let reply = match acceptor.step(tokens.last().expect("a token"), inputs()) {
            Step::Continue { reply } => reply,
            Step::NeedUser { .. } => {
                let finish = acceptor.finish(Some(compute::nt_hash("password").expose()));
                let smb_proto::auth::acceptor::Finish::Accepted { reply, .. } = finish else {
                    panic!("the right password is refused: {finish:?}")
                };
                tokens.push(reply);
                return tokens;
            }
            other => panic!("a good token leads to {other:?}"),
        };
        tokens.push(reply.clone());
        match initiator.step(&reply, initiator_inputs()) {
            Ok(Next::Send(token)) => tokens.push(token),
            other => panic!("a good token leads to {other:?}"),
        }
    }
}

/// Lengths and tokens, as [`Script::long_bytes`] reads them.
fn joined<'a>(tokens: impl Iterator<Item = &'a Vec<u8>>) -> Vec<u8> {
    tokens
        .flat_map(|token| {
            let length = u16::try_from(token.len()).unwrap_or(u16::MAX);
            length.to_le_bytes().into_iter().chain(token.iter().copied())
        })
        .collect()
}

/// What a client sends.
pub mod acceptor {
    use super::*;
    use smb_proto::auth::acceptor::Finish;
    use smb_proto::auth::ntlm::message::{Authenticate, AvPairs, Challenge, ClientChallenge, Negotiate};
    use smb_proto::auth::spnego::Token;

    /// A series of tokens. An exchange never goes on after it was denied, and nobody gets in with an unknown hash.
    pub fn check(input: &[u8]) {
        let mut script = Script::new(input);
        let mut acceptor = NtlmAcceptor::new(&names());
        let mut over = false;
        while !script.is_over() {
            let token = script.long_bytes();
            parse(token);
            let step = acceptor.step(token, inputs());
            assert!(!over || matches!(step, Step::Denied { .. }), "went on after the end: {step:?}");
            match step {
                Step::Continue { .. } => {}
                Step::Denied { .. } => over = true,
                Step::NeedUser { .. } => {
                    let finish = acceptor.finish(Some(&[0xA5; 16]));
                    assert!(matches!(finish, Finish::Denied { .. }), "let in without the password");
                    over = true;
                }
                Step::Anonymous => {
                    let _ = acceptor.finish(None);
                    over = true;
                }
            }
        }
    }

    fn parse(token: &[u8]) {
        macro_rules! round {
            ($type:ty, $bytes:expr) => {
                // A flag that announces a part which isn't there goes with the first trip; the second is exact.
                if let Ok(parsed) = <$type>::parse($bytes) {
                    let emitted = parsed.emit();
                    let again = <$type>::parse(&emitted).expect("what was emitted");
                    assert_eq!(<$type>::parse(&again.emit()).as_ref(), Ok(&again), "{emitted:02x?}");
                }
            };
        }
        match Token::parse(token) {
            Ok(Token::Init(init)) => assert_eq!(Token::parse(&init.emit()), Ok(Token::Init(init))),
            Ok(Token::Resp(resp)) => assert_eq!(Token::parse(&resp.emit()), Ok(Token::Resp(resp))),
            Ok(_) | Err(_) => {}
        }
        round!(Negotiate, token);
        round!(Challenge, token);
        round!(Authenticate, token);
        round!(AvPairs, token);
        round!(ClientChallenge, token);
    }

    /// Exchanges that succeed.
    pub fn seeds() -> Vec<Vec<u8>> {
        WRAPPINGS.map(|wrapping| joined(exchange(wrapping).iter().step_by(2))).into()
    }
}

/// What a server sends.
pub mod initiator {
    use super::*;

    /// The first byte is the wrapping, then a series of tokens.
    pub fn check(input: &[u8]) {
        let mut script = Script::new(input);
        let wrapping = script.of(&WRAPPINGS);
        let (mut initiator, _) = begin(wrapping);
        let mut over = false;
        while !script.is_over() {
            let step = initiator.step(script.long_bytes(), initiator_inputs());
            assert!(!over || step.is_err(), "went on after the end: {step:?}");
            over = !matches!(step, Ok(Next::Send(_)));
        }
    }

    /// Exchanges that succeed.
    pub fn seeds() -> Vec<Vec<u8>> {
        WRAPPINGS
            .iter()
            .zip(0_u8..)
            .map(|(wrapping, index)| {
                let tokens = exchange(*wrapping);
                [vec![index], joined(tokens.iter().skip(1).step_by(2))].concat()
            })
            .collect()
    }
}
