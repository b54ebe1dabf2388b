//! The client against a server in the same process that is made of the codec's server direction: what each side derives,
//! signs and encrypts has to be what the other expects, for every dialect, signer and cipher.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;

use bytes::Bytes;
use smb_proto::auth::ntlm::compute::nt_hash;
use smb_proto::auth::{AcceptorConfig, Credentials, Finish, NtlmAcceptor, Step, StepInputs};
use smb_proto::command::negotiate::{self, Capabilities, Dialect, SecurityMode};
use smb_proto::command::negotiate_context::{self, HashAlgorithm, NegotiateContext};
use smb_proto::command::session_setup::{self, SessionFlags};
use smb_proto::command::tree_connect::{self, ShareCapabilities, ShareFlags, ShareType};
use smb_proto::command::{FileId, Request, Response, echo, error, read};
use smb_proto::compound;
use smb_proto::crypto::{
    Cipher, CipherAlgorithm, KeySchedule, Portable, PreauthHash, Provider, SessionKeys, Signer,
    SigningAlgorithm, seal, signing,
};
use smb_proto::frame;
use smb_proto::header::{CommandCode, Flags, Header, Routing};
use smb_proto::{AccessMask, FileTime, NtStatus, Payload};

use super::*;

const SESSION_ID: u64 = 0x1122_3344_5566;
const TREE_ID: u32 = 7;
const DATA: &[u8] = b"what the file holds";

/// What the server does wrong, on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// Answers ECHO without protection.
    Unprotected,
    /// Answers ECHO with a changed byte.
    Changed,
    /// Answers ECHO as another request.
    OtherId,
}

struct Server {
    stream: TcpStream,
    dialect: Dialect,
    cipher: CipherAlgorithm,
    signer_algorithm: SigningAlgorithm,
    fault: Fault,
    preauth: PreauthHash,
    acceptor: NtlmAcceptor,
    signer: Option<std::sync::Arc<dyn Signer>>,
    opener: Option<std::sync::Arc<dyn Cipher>>,
    sealer: Option<std::sync::Arc<dyn Cipher>>,
    sealed: u64,
}

/// How an answer is protected.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Guard {
    Plain,
    Signed,
    Sealed,
}

fn serve(
    dialect: Dialect,
    signer: SigningAlgorithm,
    cipher: CipherAlgorithm,
    fault: Fault,
) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let config = AcceptorConfig {
            netbios_computer: "SERVER".into(),
            netbios_domain: "SERVER".into(),
            dns_computer: "server".into(),
            dns_domain: String::new(),
        };
        let mut server = Server {
            stream: listener.accept().unwrap().0,
            dialect,
            cipher,
            signer_algorithm: signer,
            fault,
            preauth: PreauthHash::default(),
            acceptor: NtlmAcceptor::new(&config),
            signer: None,
            opener: None,
            sealer: None,
            sealed: 0,
        };
        while let Some(frame) = server.receive() {
            server.on_frame(frame);
        }
    });
    (address, server)
}

impl Server {
    fn receive(&mut self) -> Option<Vec<u8>> {
        let mut prefix = [0; 4];
        self.stream.read_exact(&mut prefix).ok()?;
        let mut frame = vec![0; frame::length(prefix, frame::LENGTH_MAX).unwrap()];
        self.stream.read_exact(&mut frame).unwrap();
        Some(frame)
    }

    fn on_frame(&mut self, mut frame: Vec<u8>) {
        let sealed = frame::Kind::of(&frame).unwrap() == frame::Kind::Transform;
        if sealed {
            frame = seal::open(&**self.opener.as_ref().unwrap(), &mut frame).unwrap().to_vec();
        }
        for message in compound::split(&frame.into()) {
            let message = message.unwrap();
            let header = Header::parse(&message).unwrap();
            let signed = header.flags.contains(Flags::SIGNED);
            assert!(!signed || signing::verify_message(&**self.signer.as_ref().unwrap(), &message));
            let guard = match (sealed, signed) {
                (true, _) => Guard::Sealed,
                (false, true) => Guard::Signed,
                (false, false) => Guard::Plain,
            };
            self.on_request(&header, &message, guard);
        }
    }

    fn on_request(&mut self, header: &Header, message: &Bytes, guard: Guard) {
        match Request::parse(header, message).unwrap() {
            Request::Negotiate(request) => self.on_negotiate(header, message, &request),
            Request::SessionSetup(request) => self.on_session_setup(header, message, &request),
            Request::TreeConnect(request) => {
                assert_eq!(request.path.to_string(), r"\\127.0.0.1\share");
                assert!(self.dialect != Dialect::SMB_3_1_1 || guard != Guard::Plain);
                let response = tree_connect::Response {
                    share_type: ShareType::DISK,
                    share_flags: ShareFlags::default(),
                    capabilities: ShareCapabilities::default(),
                    maximal_access: AccessMask::FILE_ALL_ACCESS,
                };
                self.answer(header, NtStatus::SUCCESS, &Response::TreeConnect(response), guard);
            }
            Request::Echo(_) => self.on_echo(header, guard),
            Request::Read(request) if request.offset > 100 => {
                self.answer(
                    header,
                    NtStatus::END_OF_FILE,
                    &Response::Error(error::Response::default()),
                    guard,
                );
            }
            Request::Read(_) => {
                // First an interim response, which is never signed, as asynchronous ones are sent.
                let mut interim = *header;
                interim.routing = Routing::Async { async_id: 5 };
                let guard_of_interim = if guard == Guard::Sealed { guard } else { Guard::Plain };
                let pending = Response::Error(error::Response::default());
                self.answer(&interim, NtStatus::PENDING, &pending, guard_of_interim);
                let response = read::Response { data: Bytes::from_static(DATA), data_remaining: 0 };
                self.answer(header, NtStatus::SUCCESS, &Response::Read(response), guard);
            }
            other => panic!("unexpected {other:?}"),
        }
    }

    fn on_negotiate(&mut self, header: &Header, message: &Bytes, request: &negotiate::Request) {
        assert!(request.dialects.contains(&self.dialect));
        self.preauth.update(message);
        let response = negotiate::Response {
            security_mode: SecurityMode::SIGNING_ENABLED,
            dialect: self.dialect,
            server_guid: *b"server-guid-1234",
            capabilities: Capabilities::LARGE_MTU.with(Capabilities::ENCRYPTION),
            max_transact_size: 1 << 20,
            max_read_size: 1 << 20,
            max_write_size: 1 << 20,
            system_time: FileTime(1),
            server_start_time: FileTime(0),
            security_buffer: NtlmAcceptor::server_hint().into(),
            contexts: vec![
                NegotiateContext::PreauthIntegrity {
                    algorithms: vec![HashAlgorithm::SHA_512],
                    salt: Bytes::from_static(b"salt"),
                },
                NegotiateContext::Encryption { ciphers: vec![negotiate_context::Cipher(self.cipher.code())] },
                NegotiateContext::Signing {
                    algorithms: vec![negotiate_context::SigningAlgorithm(self.signer_algorithm.code())],
                },
            ],
        };
        let sent = self.answer(header, NtStatus::SUCCESS, &Response::Negotiate(response), Guard::Plain);
        self.preauth.update(&sent);
    }

    fn on_session_setup(&mut self, header: &Header, message: &Bytes, request: &session_setup::Request) {
        self.preauth.update(message);
        let inputs = StepInputs { challenge: *b"challeng", now: FileTime(133_000_000_000_000_000) };
        let (status, token) = match self.acceptor.step(&request.security_buffer, inputs) {
            Step::Continue { reply } => (NtStatus::MORE_PROCESSING_REQUIRED, reply),
            Step::NeedUser { user, .. } => {
                assert_eq!(user, "user");
                match self.acceptor.finish(Some(nt_hash("secret").expose())) {
                    Finish::Accepted { reply, session_key, .. } => {
                        self.derive(session_key.expose());
                        (NtStatus::SUCCESS, reply)
                    }
                    Finish::Denied { .. } => (NtStatus::LOGON_FAILURE, Vec::new()),
                }
            }
            other => panic!("unexpected {other:?}"),
        };
        let mut header = *header;
        header.session_id = SESSION_ID;
        let response = match status {
            NtStatus::LOGON_FAILURE => Response::Error(error::Response::default()),
            _ => Response::SessionSetup(session_setup::Response {
                session_flags: SessionFlags::default(),
                security_buffer: token.into(),
            }),
        };
        let guard = if status == NtStatus::SUCCESS { Guard::Signed } else { Guard::Plain };
        let sent = self.answer(&header, status, &response, guard);
        self.preauth.update(&sent);
    }

    fn derive(&mut self, key: &[u8]) {
        let schedule = match self.dialect {
            Dialect::SMB_3_1_1 => KeySchedule::Smb311 { preauth: &self.preauth },
            dialect if dialect.is_smb3() => KeySchedule::Smb30,
            _ => KeySchedule::Smb2,
        };
        let cipher = self.dialect.is_smb3().then_some(self.cipher);
        let keys = SessionKeys::derive(schedule, key, cipher);
        self.signer = Some(Portable.signer(self.signer_algorithm, keys.signing.expose()));
        self.opener = Portable.cipher(self.cipher, keys.client_to_server.expose()).ok();
        self.sealer = Portable.cipher(self.cipher, keys.server_to_client.expose()).ok();
    }

    fn on_echo(&mut self, header: &Header, guard: Guard) {
        let mut header = *header;
        let mut guard = guard;
        match self.fault {
            Fault::None | Fault::Changed => {}
            Fault::Unprotected => guard = Guard::Plain,
            Fault::OtherId => header.message_id += 1000,
        }
        self.answer(&header, NtStatus::SUCCESS, &Response::Echo(echo::Response), guard);
    }

    /// Sends an answer and returns it as it was before encryption.
    fn answer(&mut self, request: &Header, status: NtStatus, response: &Response, guard: Guard) -> Vec<u8> {
        let routing = match request.routing {
            Routing::Sync { .. } => Routing::Sync { process_id: 0, tree_id: TREE_ID },
            routing @ Routing::Async { .. } => routing,
        };
        let header = Header {
            status,
            credits: request.credits,
            flags: Flags::SERVER_TO_REDIR,
            next_command: 0,
            routing,
            signature: [0; 16],
            ..*request
        };
        let mut message = Vec::new();
        header.emit(&mut message);
        response.emit(&mut message);
        if guard == Guard::Signed {
            signing::sign_message(&**self.signer.as_ref().unwrap(), &mut message);
        }
        let mut sent = message.clone();
        if guard == Guard::Sealed {
            self.sealed += 1;
            let nonce = seal::nonce_from_counter(self.sealed);
            let sealer = &**self.sealer.as_ref().unwrap();
            sent = seal::seal(sealer, SESSION_ID, &nonce, Payload::copy_from(&message)).data().to_vec();
        }
        if self.fault == Fault::Changed && request.command == CommandCode::Echo.code() {
            *sent.last_mut().unwrap() ^= 1;
        }
        self.stream.write_all(&frame::prefix(sent.len()).unwrap()).unwrap();
        self.stream.write_all(&sent).unwrap();
        message
    }
}

/// Every dialect with each signer and cipher that it can have.
fn links() -> Vec<(Dialect, SigningAlgorithm, CipherAlgorithm)> {
    use CipherAlgorithm::{Aes128Ccm, Aes128Gcm, Aes256Ccm, Aes256Gcm};
    use SigningAlgorithm::{AesCmac, AesGmac, HmacSha256};
    vec![
        (Dialect::SMB_2_0_2, HmacSha256, Aes128Ccm),
        (Dialect::SMB_2_1, HmacSha256, Aes128Ccm),
        (Dialect::SMB_3_0, AesCmac, Aes128Ccm),
        (Dialect::SMB_3_0_2, AesCmac, Aes128Ccm),
        (Dialect::SMB_3_1_1, HmacSha256, Aes128Ccm),
        (Dialect::SMB_3_1_1, AesCmac, Aes128Gcm),
        (Dialect::SMB_3_1_1, AesGmac, Aes256Ccm),
        (Dialect::SMB_3_1_1, AesGmac, Aes256Gcm),
    ]
}

fn protections(dialect: Dialect) -> Vec<Protection> {
    let mut protections = vec![Protection::Plain, Protection::Signed];
    if dialect.is_smb3() {
        protections.push(Protection::Encrypted);
    }
    protections
}

fn credentials(password: &str) -> Credentials {
    Credentials::password("user", "", password)
}

#[test]
fn sessions_work_in_every_dialect_under_every_protection() {
    for (dialect, signer, cipher) in links() {
        for protection in protections(dialect) {
            let (address, server) = serve(dialect, signer, cipher, Fault::None);
            let mut connection = Connection::open(address, &Options::default()).unwrap();
            let negotiated = connection.negotiated();
            assert_eq!((negotiated.dialect, negotiated.signer), (dialect, signer));
            assert_eq!(negotiated.cipher, dialect.is_smb3().then_some(cipher));
            let session = connection.log_on(&credentials("secret"), protection).unwrap();
            assert_eq!(session, Session { id: SESSION_ID, protection });
            let tree = connection.connect_tree(session, r"\\127.0.0.1\share").unwrap();
            assert_eq!(tree, Tree { session, id: TREE_ID });
            connection.echo(Some(session)).unwrap();
            let file_id = FileId { persistent: 1, volatile: 2 };
            assert_eq!(connection.read(tree, file_id, 0, 100).unwrap(), DATA);
            let error = connection.read(tree, file_id, 200, 100).unwrap_err();
            assert_eq!(error.status(), Some(NtStatus::END_OF_FILE), "{error}");
            // A deep queue, answered in one compound's worth of frames each.
            let requests = [read_request(file_id, 0, 100), read_request(file_id, 200, 100)];
            let ids: Vec<_> =
                (0..20).map(|_| connection.submit_compound(tree, &requests, true).unwrap()).collect();
            assert_eq!(connection.outstanding(), 40);
            for pair in ids.iter().rev() {
                assert_eq!(connection.wait(pair[1]).unwrap().header.status, NtStatus::END_OF_FILE);
                assert!(matches!(connection.wait(pair[0]).unwrap().response, Response::Read(_)));
            }
            drop(connection);
            server.join().unwrap();
        }
    }
}

#[test]
fn a_wrong_password_is_a_status() {
    let (address, server) =
        serve(Dialect::SMB_3_1_1, SigningAlgorithm::AesGmac, CipherAlgorithm::Aes128Gcm, Fault::None);
    let mut connection = Connection::open(address, &Options::default()).unwrap();
    let error = connection.log_on(&credentials("wrong"), Protection::Signed).unwrap_err();
    assert_eq!(error.status(), Some(NtStatus::LOGON_FAILURE));
    drop(connection);
    server.join().unwrap();
}

#[test]
fn answers_without_their_protection_are_refused() {
    for fault in [Fault::Unprotected, Fault::Changed, Fault::OtherId] {
        for (dialect, signer, cipher) in links() {
            for protection in protections(dialect) {
                if protection == Protection::Plain && fault != Fault::OtherId {
                    continue;
                }
                let (address, server) = serve(dialect, signer, cipher, fault);
                let mut connection = Connection::open(address, &Options::default()).unwrap();
                let session = connection.log_on(&credentials("secret"), protection).unwrap();
                let error = connection.echo(Some(session)).unwrap_err();
                assert!(matches!(error, Error::Protocol(_)), "{fault:?} {dialect} {protection:?}: {error}");
                drop(connection);
                server.join().unwrap();
            }
        }
    }
}

#[test]
fn what_was_not_offered_is_refused() {
    let (address, server) =
        serve(Dialect::SMB_3_1_1, SigningAlgorithm::AesGmac, CipherAlgorithm::Aes128Gcm, Fault::None);
    let options = Options { ciphers: vec![CipherAlgorithm::Aes256Gcm], ..Options::default() };
    assert!(matches!(Connection::open(address, &options), Err(Error::Protocol(_))));
    server.join().unwrap();
}

#[test]
fn requests_wait_for_credits() {
    let (address, server) =
        serve(Dialect::SMB_3_1_1, SigningAlgorithm::AesGmac, CipherAlgorithm::Aes128Gcm, Fault::None);
    let options = Options { credits: 20, ..Options::default() };
    let mut connection = Connection::open(address, &options).unwrap();
    let session = connection.log_on(&credentials("secret"), Protection::Plain).unwrap();
    let tree = connection.connect_tree(session, r"\\127.0.0.1\share").unwrap();
    let before = connection.credits();
    let request = read_request(FileId { persistent: 1, volatile: 2 }, 0, 1 << 20);
    let id = connection.submit(tree, &request).unwrap();
    assert_eq!(connection.credits(), before - 16);
    assert!(matches!(connection.submit(tree, &request), Err(Error::NoCredits)));
    assert!(connection.wait(id).unwrap().success().is_ok());
    let id = connection.submit(tree, &request).unwrap();
    assert!(connection.wait(id).unwrap().success().is_ok());
    drop(connection);
    server.join().unwrap();
}
