//! MS-NLMP 4.2.4's values, round trips, and the initiator against the acceptor in every wrapping.

use super::acceptor::{AcceptorConfig, Denial, Finish, NtlmAcceptor, Step, StepInputs};
use super::initiator::{Credentials, InitiatorError, InitiatorInputs, Next, NtlmInitiator, Wrapping};
use super::ntlm::{
    Authenticate, AvId, AvPairs, Challenge, ClientChallenge, Direction, Flags, Negotiate, SessionSecurity,
    Version, compute,
};
use super::spnego::{MechTypes, NegState, NegTokenInit, NegTokenResp, Oid, Token};
use crate::crypto::Secret;
use crate::crypto::tests::published::{hex, hex_array};
use crate::name::Name;
use crate::time::FileTime;

const CHALLENGE: &str = "
    4e544c4d53535000020000000c000c003800000033828ae20123456789abcdef
    00000000000000002400240044000000060070170000000f5300650072007600
    6500720002000c0044006f006d00610069006e0001000c005300650072007600
    6500720000000000";
const AUTHENTICATE: &str = "
    4e544c4d5353500003000000180018006c00000054005400840000000c000c00
    480000000800080054000000100010005c00000010001000d8000000358288e2
    0501280a0000000f44006f006d00610069006e00550073006500720043004f00
    4d005000550054004500520086c35097ac9cec102554764a57cccc19aaaaaaaa
    aaaaaaaa68cd0ab851e51c96aabc927bebef6a1c010100000000000000000000
    00000000aaaaaaaaaaaaaaaa0000000002000c0044006f006d00610069006e00
    01000c005300650072007600650072000000000000000000c5dad2544fc97990
    94ce1ce90bc9d03e";

#[test]
fn ntlmv2_gives_the_values_of_ms_nlmp() {
    let hash = compute::nt_hash("Password");
    assert_eq!(hash.expose(), &hex_array("a4f49c406510bdcab6824ee7c30fd852"));
    let key = compute::response_key(hash.expose(), &Name::from("User"), &Name::from("Domain"));
    assert_eq!(key.expose(), &hex_array("0c868a403bfd7a93a3001ef22ef02e3f"));

    let challenge = Challenge::parse(&hex(CHALLENGE)).unwrap();
    assert_eq!(challenge.server_challenge, hex_array("0123456789abcdef"));
    let temp = ClientChallenge {
        time: FileTime(0),
        challenge: [0xAA; 8],
        target_info: challenge.target_info.clone(),
    };
    let proof = compute::proof(key.expose(), &challenge.server_challenge, &temp.emit());
    assert_eq!(proof, hex_array("68cd0ab851e51c96aabc927bebef6a1c"));
    let lm = compute::lm_v2_response(key.expose(), &challenge.server_challenge, &[0xAA; 8]);
    assert_eq!(lm, hex("86c35097ac9cec102554764a57cccc19aaaaaaaaaaaaaaaa"));
    let base = compute::session_base_key(key.expose(), &proof);
    assert_eq!(base.expose(), &hex_array("8de40ccadbc14a82f15cb0ad0de95ca3"));
    let encrypted = compute::exchange_key(base.expose(), &[0x55; 16]);
    assert_eq!(encrypted.expose(), &hex_array("c5dad2544fc9799094ce1ce90bc9d03e"));

    let message = Authenticate {
        lm_response: lm,
        nt_response: [proof.as_slice(), &temp.emit()].concat(),
        domain: Name::from("Domain"),
        user: Name::from("User"),
        workstation: Name::from("COMPUTER"),
        encrypted_session_key: encrypted.expose().to_vec(),
        flags: Flags(0xE288_8235),
        version: Some(Version::new(5, 1, 2600)),
        mic: None,
    };
    assert_eq!(message.emit(), hex(AUTHENTICATE));
    assert_eq!(Authenticate::parse(&hex(AUTHENTICATE)), Ok(message));
    assert_eq!(challenge.emit(), hex(CHALLENGE));
}

#[test]
fn session_security_gives_the_values_of_ms_nlmp() {
    let security = SessionSecurity::new(Flags(0xE28A_8233), &[0x55; 16]).unwrap();
    let (signing, sealing) = security.keys(Direction::ClientToServer);
    assert_eq!(signing.expose(), &hex_array("4788dc861b4782f35d43fd98fe1a2d39"));
    assert_eq!(sealing.expose(), &hex_array("59f600973cc4960a25480a7c196e4c58"));
    // The example's signature was encrypted after 18 bytes of sealed text; ours is the first use of the key state, so
    // here only the unencrypted checksum can be compared.
    let plain = SessionSecurity::new(Flags(0xA28A_8233), &[0x55; 16]).unwrap();
    let text: Vec<u8> = "Plaintext".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let signature = plain.first_signature(Direction::ClientToServer, &text);
    assert_eq!(signature, hex_array("0100000070352851f256430900000000"));
    assert!(plain.verify_first_signature(Direction::ClientToServer, &text, &signature));
    assert!(!plain.verify_first_signature(Direction::ServerToClient, &text, &signature));
    assert!(!plain.verify_first_signature(Direction::ClientToServer, &text, &signature[..15]));
    assert_eq!(SessionSecurity::new(Flags::UNICODE, &[0; 16]), None);
}

#[test]
fn weaker_sealing_keys_come_from_less_of_the_key() {
    let base = Flags::EXTENDED_SESSION_SECURITY;
    let mut keys = Vec::new();
    for flags in [base.with(Flags::KEY_128), base.with(Flags::KEY_56), base] {
        let security = SessionSecurity::new(flags, &[1; 16]).unwrap();
        keys.push(security.keys(Direction::ServerToClient).1.clone());
    }
    assert!(keys[0] != keys[1] && keys[1] != keys[2] && keys[0] != keys[2]);
}

/// Every truncation is answered, and none as the whole is.
fn check_truncations<T: PartialEq + std::fmt::Debug, E>(bytes: &[u8], parse: impl Fn(&[u8]) -> Result<T, E>) {
    let whole = parse(bytes).ok();
    assert!(whole.is_some());
    for length in 0..bytes.len() {
        assert_ne!(parse(&bytes[..length]).ok(), whole, "length {length}");
    }
}

#[test]
fn messages_make_the_round_trip() {
    let negotiate = Negotiate {
        flags: Flags(0xE208_8297).with(Flags::OEM_DOMAIN_SUPPLIED).with(Flags::OEM_WORKSTATION_SUPPLIED),
        domain: b"DOMAIN".to_vec(),
        workstation: b"CLIENT".to_vec(),
        version: Some(Version::new(6, 3, 9600)),
    };
    assert_eq!(Negotiate::parse(&negotiate.emit()), Ok(negotiate.clone()));
    check_truncations(&negotiate.emit(), Negotiate::parse);
    let short = Negotiate { flags: Flags::UNICODE, ..Negotiate::default() };
    assert_eq!(Negotiate::parse(&short.emit()[..16]), Ok(short));

    check_truncations(&hex(CHALLENGE), Challenge::parse);
    check_truncations(&hex(AUTHENTICATE), Authenticate::parse);
    let mut with_mic = Authenticate::parse(&hex(AUTHENTICATE)).unwrap();
    with_mic.mic = Some([9; 16]);
    assert_eq!(Authenticate::parse(&with_mic.emit()), Ok(with_mic.clone()));
    assert_eq!(with_mic.emit()[Authenticate::MIC_RANGE], [9; 16]);
    assert!(Negotiate::parse(&hex(CHALLENGE)).is_err());
    assert!(Challenge::parse(&hex(AUTHENTICATE)).is_err());
    assert!(Authenticate::parse(&hex(CHALLENGE)).is_err());

    let mut pairs = AvPairs::default();
    pairs.push_name(AvId::DNS_TREE, "forest");
    pairs.set(AvId::FLAGS, vec![6, 0, 0, 0]);
    pairs.set(AvId::FLAGS, vec![2, 0, 0, 0]);
    pairs.set(AvId(0x1234), Vec::new());
    assert_eq!(pairs.0.len(), 3);
    assert_eq!((pairs.flags(), pairs.timestamp()), (2, None));
    assert_eq!(AvPairs::parse(&pairs.emit()), Ok(pairs.clone()));
    check_truncations(&pairs.emit(), AvPairs::parse);
}

#[test]
fn hostile_fields_are_refused() {
    // Each of the six fields of AUTHENTICATE, with offset and length at the end of the range.
    for field in 0..6 {
        for (length, offset) in [(u16::MAX, 0), (1, u32::MAX), (u16::MAX, u32::MAX), (2, 232)] {
            let mut message = hex(AUTHENTICATE);
            let at = 12 + 8 * field;
            message[at..at + 2].copy_from_slice(&length.to_le_bytes());
            message[at + 4..at + 8].copy_from_slice(&offset.to_le_bytes());
            assert!(Authenticate::parse(&message).is_err());
        }
    }
    let mut odd = hex(AUTHENTICATE);
    odd[28] = 11;
    assert!(Authenticate::parse(&odd).is_err(), "half a character");
    let mut oem = hex(AUTHENTICATE);
    oem[60] &= 0xFE;
    assert!(Authenticate::parse(&oem).is_err(), "not Unicode");
}

fn init() -> NegTokenInit {
    NegTokenInit {
        mech_types: MechTypes::new(vec![
            Oid::NEGOEX,
            Oid::MS_KERBEROS,
            Oid::KERBEROS,
            Oid::NTLMSSP,
            Oid::from_encoding(&[1, 2]),
        ]),
        req_flags: Some(vec![6, 0x40]),
        mech_token: Some(vec![7; 300]),
        hint_name: None,
        mech_list_mic: Some(vec![8; 16]),
    }
}

#[test]
fn spnego_tokens_make_the_round_trip() {
    let long = NegTokenInit { mech_token: Some(vec![1; 70_000]), ..init() };
    let short = NegTokenInit { mech_token: Some(Vec::new()), req_flags: None, mech_list_mic: None, ..init() };
    let hint = NegTokenInit { hint_name: Some(NegTokenInit::HINT_NAME.to_vec()), ..init() };
    for token in [init(), long, short, hint, NegTokenInit::server_hint(vec![Oid::NTLMSSP])] {
        assert_eq!(Token::parse(&token.emit()), Ok(Token::Init(token.clone())));
    }
    check_truncations(&init().emit(), Token::parse);
    let resp = NegTokenResp {
        neg_state: Some(NegState::REQUEST_MIC),
        supported_mech: Some(Oid::NTLMSSP),
        response_token: Some(vec![3; 200]),
        mech_list_mic: Some(vec![4; 16]),
    };
    for token in [resp.clone(), NegTokenResp::default()] {
        assert_eq!(Token::parse(&token.emit()), Ok(Token::Resp(token.clone())));
    }
    check_truncations(&resp.emit(), Token::parse);
}

#[test]
fn the_server_hint_is_what_servers_send() {
    let expected = hex("604806062b0601050502a03e303ca00e300c060a2b06010401823702020aa32a3028
                        a0261b246e6f745f646566696e65645f696e5f5246433431373840706c656173655f69676e6f7265");
    let hint = NtlmAcceptor::server_hint();
    assert_eq!(hint, expected);
    let Ok(Token::Init(parsed)) = Token::parse(&hint) else { panic!() };
    assert_eq!(parsed.mech_types.der(), hex("300c060a2b06010401823702020a"));
}

#[test]
fn hostile_tokens_are_refused() {
    for text in [
        "",
        "60",
        "6080",
        "60ffffffffff",
        "6084ffffffff",
        "a184fffffffe3000",
        "a1023001",
        "a1053003a0010a",
        "a1073005a0030a0200",
        "a1093007a0050a020001",
        "600806062b0601050502",
        "600d06062b0601050502a003300100",
        "a0023000",
        "a0073004a0023000ff",
        "0400",
    ] {
        assert!(Token::parse(&hex(text)).is_err(), "{text}");
    }
    let many = NegTokenInit { mech_types: MechTypes::new(vec![Oid::NTLMSSP; 65]), ..init() };
    assert!(Token::parse(&many.emit()).is_err());
    let raw = NtlmInitiator::begin(Credentials::Anonymous, Wrapping::Raw, "", "").1;
    assert_eq!(Token::parse(&raw), Ok(Token::Ntlmssp(raw)));
}

const NOW: FileTime = FileTime(133_000_000_000_000_000);
const WRAPPINGS: [Wrapping; 3] = [Wrapping::Raw, Wrapping::Spnego, Wrapping::SpnegoKerberosFirst];

fn acceptor() -> NtlmAcceptor {
    NtlmAcceptor::new(&AcceptorConfig {
        netbios_computer: "SERVER".into(),
        netbios_domain: "WORKGROUP".into(),
        dns_computer: "server.example".into(),
        dns_domain: "example".into(),
    })
}

fn step_inputs() -> StepInputs {
    StepInputs { challenge: [0x77; 8], now: NOW }
}

fn initiator_inputs() -> InitiatorInputs {
    InitiatorInputs { client_challenge: [0x66; 8], session_key: Secret::new([0x99; 16]), now: NOW }
}

fn user(password: &str) -> Credentials {
    Credentials::password("Zoë", "WORKGROUP", password)
}

/// What becomes of an exchange when `change` is applied to every token on its way; its arguments are who sends, the
/// number of the token, and the token.
fn exchange(
    credentials: Credentials,
    wrapping: Wrapping,
    nt_hash: Option<Secret<16>>,
    change: impl Fn(Direction, usize, Vec<u8>) -> Vec<u8>,
) -> (Result<Finish, Step>, NtlmInitiator, Option<Result<Next, InitiatorError>>) {
    let (mut client, first) = NtlmInitiator::begin(credentials, wrapping, "CLIENT", "cifs/server");
    let mut server = acceptor();
    let mut token = change(Direction::ClientToServer, 0, first);
    for round in 1..4 {
        match server.step(&token, step_inputs()) {
            Step::Continue { reply } => {
                let reply = change(Direction::ServerToClient, round, reply);
                match client.step(&reply, initiator_inputs()) {
                    Ok(Next::Send(next)) => token = change(Direction::ClientToServer, round, next),
                    end => return (Err(Step::Continue { reply }), client, Some(end)),
                }
            }
            Step::NeedUser { .. } | Step::Anonymous => {
                let finish = server.finish(nt_hash.as_ref().map(Secret::expose));
                let Finish::Accepted { reply, .. } = &finish else { return (Ok(finish), client, None) };
                let end =
                    client.step(&change(Direction::ServerToClient, round, reply.clone()), initiator_inputs());
                return (Ok(finish), client, Some(end));
            }
            denied @ Step::Denied { .. } => return (Err(denied), client, None),
        }
    }
    panic!("the exchange doesn't end");
}

fn unchanged(_: Direction, _: usize, token: Vec<u8>) -> Vec<u8> {
    token
}

#[test]
fn the_right_password_is_accepted_in_every_wrapping() {
    for wrapping in WRAPPINGS {
        let hash = Some(compute::nt_hash("secret"));
        let (result, client, end) = exchange(user("secret"), wrapping, hash, unchanged);
        let Ok(Finish::Accepted { session_key, user, domain, anonymous, .. }) = result else {
            panic!("{wrapping:?}: {result:?}")
        };
        assert_eq!((user.as_str(), domain.as_str(), anonymous), ("Zoë", "WORKGROUP", false));
        assert_eq!(Some(&session_key), client.session_key());
        assert_eq!(session_key, Secret::new([0x99; 16]));
        assert_eq!(end, Some(Ok(Next::Done)));
    }
}

#[test]
fn wrong_passwords_and_unknown_users_are_told_apart_by_nobody() {
    for wrapping in WRAPPINGS {
        for hash in [Some(compute::nt_hash("other")), Some(Secret::default()), None] {
            let (result, _, _) = exchange(user("secret"), wrapping, hash, unchanged);
            assert_eq!(result, Ok(Finish::Denied { reason: Denial::WrongCredentials }));
        }
    }
    // A hash of zeros is what an unknown user is computed with: it must not open the door.
    let zeros = Credentials::User { user: "x".into(), domain: String::new(), nt_hash: Secret::default() };
    let (result, _, _) = exchange(zeros, Wrapping::Raw, None, unchanged);
    assert_eq!(result, Ok(Finish::Denied { reason: Denial::WrongCredentials }));
}

#[test]
fn anonymous_clients_are_reported_as_such() {
    for wrapping in WRAPPINGS {
        let (result, client, end) = exchange(Credentials::Anonymous, wrapping, None, unchanged);
        let Ok(Finish::Accepted { anonymous, user, session_key, .. }) = result else {
            panic!("{wrapping:?}")
        };
        assert!(anonymous && user.is_empty());
        assert_eq!(Some(&session_key), client.session_key());
        assert_eq!(end, Some(Ok(Next::Done)));
    }
}

/// Changes the AUTHENTICATE message inside a token of the client's, if it is one, and puts it back.
fn rewrite(token: Vec<u8>, change: impl Fn(&mut Authenticate, &mut Option<Vec<u8>>)) -> Vec<u8> {
    match Token::parse(&token) {
        Ok(Token::Ntlmssp(bytes)) => match Authenticate::parse(&bytes) {
            Ok(mut message) => {
                change(&mut message, &mut None);
                message.emit()
            }
            Err(_) => token,
        },
        Ok(Token::Resp(mut resp)) => {
            let Some(Ok(mut message)) = resp.response_token.as_deref().map(Authenticate::parse) else {
                return token;
            };
            change(&mut message, &mut resp.mech_list_mic);
            resp.response_token = Some(message.emit());
            resp.emit()
        }
        _ => token,
    }
}

fn denial_after(wrapping: Wrapping, change: impl Fn(&mut Authenticate, &mut Option<Vec<u8>>)) -> Denial {
    let (result, _, _) =
        exchange(user("secret"), wrapping, Some(compute::nt_hash("secret")), |direction, _, token| {
            if direction == Direction::ClientToServer { rewrite(token, &change) } else { token }
        });
    match result {
        Ok(Finish::Denied { reason }) | Err(Step::Denied { reason }) => reason,
        other => panic!("{wrapping:?}: {other:?}"),
    }
}

#[test]
fn what_is_changed_on_its_way_is_noticed() {
    for wrapping in WRAPPINGS {
        assert_eq!(
            denial_after(wrapping, |message, _| message.nt_response[3] ^= 1),
            Denial::WrongCredentials
        );
        let late = denial_after(wrapping, |message, _| *message.nt_response.last_mut().unwrap() ^= 1);
        assert_eq!(late, Denial::WrongCredentials);
        assert_eq!(denial_after(wrapping, |message, _| message.mic = Some([1; 16])), Denial::BadMic);
        assert_eq!(denial_after(wrapping, |message, _| message.mic = None), Denial::BadMic);
        assert_eq!(denial_after(wrapping, |message, _| message.flags.0 ^= Flags::SEAL.0), Denial::BadMic);
        let key = denial_after(wrapping, |message, _| message.encrypted_session_key[0] ^= 1);
        assert_eq!(key, Denial::BadMic);
        let none = denial_after(wrapping, |message, _| message.encrypted_session_key.clear());
        assert_eq!(none, Denial::NoSessionKey);
    }
    for wrapping in [Wrapping::Spnego, Wrapping::SpnegoKerberosFirst] {
        let wrong = denial_after(wrapping, |_, mic| mic.as_mut().unwrap()[5] ^= 1);
        assert_eq!(wrong, Denial::BadMechListMic);
    }
    let missing = denial_after(Wrapping::SpnegoKerberosFirst, |_, mic| *mic = None);
    assert_eq!(missing, Denial::BadMechListMic);
}

#[test]
fn the_list_of_mechanisms_cannot_be_changed() {
    let hash = || Some(compute::nt_hash("secret"));
    let (result, _, _) = exchange(
        user("secret"),
        Wrapping::SpnegoKerberosFirst,
        hash(),
        |_, number, token| match Token::parse(&token) {
            Ok(Token::Init(init)) if number == 0 => {
                let mech_types = MechTypes::new(vec![Oid::KERBEROS, Oid::NTLMSSP]);
                NegTokenInit { mech_types, ..init }.emit()
            }
            _ => token,
        },
    );
    assert_eq!(result, Ok(Finish::Denied { reason: Denial::BadMechListMic }));

    // The other direction: the client notices.
    let (_, _, end) = exchange(user("secret"), Wrapping::Spnego, hash(), |direction, _, token| {
        match Token::parse(&token) {
            Ok(Token::Resp(resp))
                if direction == Direction::ServerToClient && resp.response_token.is_none() =>
            {
                NegTokenResp { mech_list_mic: Some(vec![0; 16]), ..resp }.emit()
            }
            _ => token,
        }
    });
    assert_eq!(end, Some(Err(InitiatorError::BadMechListMic)));
}

#[test]
fn changed_negotiate_and_challenge_are_noticed() {
    for wrapping in WRAPPINGS {
        let (result, _, _) =
            exchange(user("secret"), wrapping, Some(compute::nt_hash("secret")), |direction, _, token| {
                let strip = |bytes: Vec<u8>| match Negotiate::parse(&bytes) {
                    Ok(negotiate) => {
                        Negotiate { flags: Flags(negotiate.flags.0 & !Flags::KEY_128.0), ..negotiate }.emit()
                    }
                    Err(_) => bytes,
                };
                match (direction, Token::parse(&token)) {
                    (Direction::ClientToServer, Ok(Token::Ntlmssp(bytes))) => strip(bytes),
                    (Direction::ClientToServer, Ok(Token::Init(init))) => {
                        NegTokenInit { mech_token: init.mech_token.map(strip), ..init }.emit()
                    }
                    (Direction::ClientToServer, Ok(Token::Resp(resp))) => {
                        NegTokenResp { response_token: resp.response_token.map(strip), ..resp }.emit()
                    }
                    _ => token,
                }
            });
        assert_eq!(result, Ok(Finish::Denied { reason: Denial::BadMic }), "{wrapping:?}");
    }
}

#[test]
fn old_responses_are_refused() {
    for wrapping in WRAPPINGS {
        for length in [0, 1, 16, 24] {
            let reason = denial_after(wrapping, |message, _| {
                message.nt_response = vec![1; length];
                message.lm_response = vec![2; 24];
            });
            assert_eq!(reason, Denial::OldResponse);
        }
        let reason = denial_after(wrapping, |message, _| message.nt_response = vec![2; 44]);
        assert!(matches!(reason, Denial::Malformed(_)));
        // An LM response without a name is not an anonymous client's.
        let reason = denial_after(wrapping, |message, _| {
            message.user = Name::default();
            message.nt_response.clear();
            message.lm_response = vec![2; 24];
        });
        assert_eq!(reason, Denial::OldResponse);
    }
}

#[test]
fn clients_that_leave_the_domain_out_of_the_key_are_accepted() {
    let mut server = acceptor();
    let (mut client, first) = NtlmInitiator::begin(
        Credentials::password("user", "", "secret"),
        Wrapping::Raw,
        "CLIENT",
        "cifs/server",
    );
    let Step::Continue { reply } = server.step(&first, step_inputs()) else { panic!() };
    let Ok(Next::Send(token)) = client.step(&reply, initiator_inputs()) else { panic!() };
    // Named in the message, but not in the key. The MIC is made anew, as such a client would.
    let mut message = Authenticate::parse(&token).unwrap();
    message.domain = Name::from("ELSEWHERE");
    message.mic = Some([0; 16]);
    message.mic = Some(compute::mic(&[0x99; 16], &first, &reply, &message.emit()));
    assert!(matches!(server.step(&message.emit(), step_inputs()), Step::NeedUser { .. }));
    let finish = server.finish(Some(compute::nt_hash("secret").expose()));
    assert!(matches!(finish, Finish::Accepted { .. }), "{finish:?}");
}

#[test]
fn a_raw_last_token_within_spnego_is_taken_only_when_nothing_needs_protection() {
    for (wrapping, accepted) in [(Wrapping::Spnego, true), (Wrapping::SpnegoKerberosFirst, false)] {
        let (result, _, _) = exchange(
            user("secret"),
            wrapping,
            Some(compute::nt_hash("secret")),
            |direction, _, token| match (direction, Token::parse(&token)) {
                (Direction::ClientToServer, Ok(Token::Resp(resp))) => match resp.response_token {
                    Some(bytes) if Authenticate::parse(&bytes).is_ok() => bytes,
                    _ => token,
                },
                _ => token,
            },
        );
        assert_eq!(matches!(result, Ok(Finish::Accepted { .. })), accepted, "{result:?}");
    }
}

#[test]
fn tokens_out_of_order_end_the_exchange() {
    let raw = NtlmInitiator::begin(user("x"), Wrapping::Raw, "", "").1;
    let out_of_order = Step::Denied { reason: Denial::OutOfOrder };
    let mut server = acceptor();
    assert_eq!(server.finish(None), Finish::Denied { reason: Denial::OutOfOrder });
    assert_eq!(server.step(&raw, step_inputs()), out_of_order);

    let mut server = acceptor();
    assert_eq!(server.step(&NegTokenResp::default().emit(), step_inputs()), out_of_order);

    let mut server = acceptor();
    assert!(matches!(server.step(&raw, step_inputs()), Step::Continue { .. }));
    assert!(matches!(server.step(&raw, step_inputs()), Step::Denied { reason: Denial::Malformed(_) }));
    assert_eq!(server.finish(Some(&[0; 16])), Finish::Denied { reason: Denial::OutOfOrder });

    let mut server = acceptor();
    let kerberos = NegTokenInit { mech_types: MechTypes::new(vec![Oid::KERBEROS]), ..init() };
    let denied = Step::Denied { reason: Denial::NoCommonMechanism };
    assert_eq!(server.step(&kerberos.emit(), step_inputs()), denied);

    let mut server = acceptor();
    let Step::Continue { reply } = server.step(&init().emit(), step_inputs()) else { panic!() };
    let Ok(Token::Resp(resp)) = Token::parse(&reply) else { panic!() };
    assert_eq!(resp.neg_state, Some(NegState::REQUEST_MIC));
    assert_eq!((resp.supported_mech, resp.response_token), (Some(Oid::NTLMSSP), None));
}

#[test]
fn truncated_tokens_never_end_well() {
    for wrapping in WRAPPINGS {
        for cut in 1..60 {
            let (result, _, _) = exchange(
                user("secret"),
                wrapping,
                Some(compute::nt_hash("secret")),
                |direction, _, mut token| {
                    if direction == Direction::ClientToServer {
                        token.truncate(token.len().saturating_sub(cut));
                    }
                    token
                },
            );
            assert!(!matches!(result, Ok(Finish::Accepted { .. })), "{wrapping:?} {cut}");
        }
    }
}
