//! NEGOTIATE, and the SMB1 negotiate that may come before it (MS-SMB2 3.3.5.3, 3.3.5.4).
//!
//! Not done: compression, RDMA transforms and transport security (their contexts are ignored, which says that the server
//! does not have them).

use bytes::Bytes;
use smb_proto::command::negotiate::{Capabilities, Dialect, Request, Response, SecurityMode};
use smb_proto::command::negotiate_context::{self, ContextType, HashAlgorithm, NegotiateContext};
use smb_proto::command::smb1;
use smb_proto::crypto::{CipherAlgorithm, SigningAlgorithm};
use smb_proto::{FileTime, NtStatus};

use super::{Negotiated, Phase};
use crate::action::{Action, Agreed, Output};
use crate::config::Config;
use crate::ids::{ConnectionId, MessageId};
use crate::message::Terms;
use crate::response::{Body, NegotiateAnswer};
use crate::shard::{Shard, Turn};

/// Dialects that the server can speak, best first.
const DIALECTS: [Dialect; 5] =
    [Dialect::SMB_3_1_1, Dialect::SMB_3_0_2, Dialect::SMB_3_0, Dialect::SMB_2_1, Dialect::SMB_2_0_2];
/// Bytes of one READ, WRITE or transaction in 2.0.2, which has no multi-credit requests.
const SMALL_IO_SIZE: u32 = 65_536;
/// Room that a frame needs beyond its payload (3.3.5.2).
const FRAME_OVERHEAD: u32 = 4096;

/// What a request leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    negotiated: Negotiated,
    contexts: Vec<NegotiateContext>,
}

impl Shard {
    /// SMB_COM_NEGOTIATE: never answers in SMB1; leads to 2.0.2 or to another NEGOTIATE.
    pub(crate) fn on_multi_protocol_negotiate(
        &mut self,
        connection: ConnectionId,
        message: MessageId,
        request: &smb1::NegotiateRequest,
        turn: &mut Turn<'_>,
    ) {
        let Some(state) = self.connections.get_mut(&connection) else { return };
        if state.phase != Phase::AwaitingNegotiate {
            return self.misbehaved(connection, "SMB1 negotiate after negotiation", turn);
        }
        let (lowest, highest) = self.config.dialects;
        let dialect = if request.offers(smb1::DIALECT_2_WILDCARD) && highest > Dialect::SMB_2_0_2 {
            Dialect::WILDCARD
        } else if request.offers(smb1::DIALECT_2_0_2) && lowest == Dialect::SMB_2_0_2 {
            Dialect::SMB_2_0_2
        } else {
            return self.misbehaved(connection, "SMB1 negotiate without an SMB2 dialect", turn);
        };
        let empty = Request {
            security_mode: SecurityMode::EMPTY,
            capabilities: Capabilities::EMPTY,
            client_guid: [0; 16],
            dialects: Vec::new(),
            contexts: Vec::new(),
        };
        let negotiated = settle(&self.config, &empty, dialect, SigningAlgorithm::HmacSha256, None);
        if dialect == Dialect::WILDCARD {
            state.phase = Phase::AwaitingSmb2Negotiate;
        } else {
            state.phase = Phase::Ready(Box::new(negotiated.clone()));
        }
        self.answer_negotiate(connection, message, negotiated, Vec::new(), turn);
    }

    /// NEGOTIATE.
    pub(crate) fn on_negotiate(
        &mut self,
        connection: ConnectionId,
        message: MessageId,
        request: &Request,
        turn: &mut Turn<'_>,
    ) {
        let Some(state) = self.connections.get_mut(&connection) else { return };
        if state.negotiated().is_some() {
            return self.misbehaved(connection, "second NEGOTIATE", turn);
        }
        match choose(&self.config, request) {
            Ok(choice) => {
                state.phase = Phase::Ready(Box::new(choice.negotiated.clone()));
                self.answer_negotiate(connection, message, choice.negotiated, choice.contexts, turn);
            }
            Err(status) => self.finish_here(connection, message, status, Body::Error, turn),
        }
    }

    fn answer_negotiate(
        &mut self,
        connection: ConnectionId,
        message: MessageId,
        negotiated: Negotiated,
        contexts: Vec<NegotiateContext>,
        turn: &mut Turn<'_>,
    ) {
        let dialect = negotiated.terms.dialect;
        turn.output(
            connection,
            Output::Negotiated(Agreed {
                dialect,
                signing: negotiated.signing,
                cipher: negotiated.cipher,
                message,
                frame_max: negotiated.terms.io_size_max.saturating_add(FRAME_OVERHEAD),
            }),
        );
        let size = negotiated.terms.io_size_max;
        let answer = NegotiateAnswer {
            response: Response {
                security_mode: negotiated.server_security_mode,
                dialect,
                server_guid: self.config.server_guid,
                capabilities: negotiated.server_capabilities,
                max_transact_size: size,
                max_read_size: size,
                max_write_size: size,
                system_time: FileTime(0),
                server_start_time: FileTime(0),
                security_buffer: Bytes::new(),
                contexts,
            },
            preauth: dialect == Dialect::SMB_3_1_1,
        };
        self.finish_here(connection, message, NtStatus::SUCCESS, Body::Negotiate(Box::new(answer)), turn);
    }
}

impl Shard {
    /// The dialect that this server chooses among these.
    pub(crate) fn would_choose(&self, offered: &[Dialect]) -> Option<Dialect> {
        let (lowest, highest) = self.config.dialects;
        DIALECTS.into_iter().find(|dialect| (lowest..=highest).contains(dialect) && offered.contains(dialect))
    }
}

/// Chooses dialect and algorithms, in the order of checks of 3.3.5.4.
fn choose(config: &Config, request: &Request) -> Result<Choice, NtStatus> {
    if request.dialects.is_empty() {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    let (lowest, highest) = config.dialects;
    let dialect = DIALECTS
        .into_iter()
        .find(|dialect| (lowest..=highest).contains(dialect) && request.dialects.contains(dialect))
        .ok_or(NtStatus::NOT_SUPPORTED)?;
    if dialect != Dialect::SMB_3_1_1 {
        let can_encrypt = dialect.is_smb3()
            && config.ciphers.contains(&CipherAlgorithm::Aes128Ccm)
            && request.capabilities.contains(Capabilities::ENCRYPTION);
        let cipher = can_encrypt.then_some(CipherAlgorithm::Aes128Ccm);
        let signing =
            if dialect.is_smb3() { SigningAlgorithm::AesCmac } else { SigningAlgorithm::HmacSha256 };
        return Ok(Choice {
            negotiated: settle(config, request, dialect, signing, cipher),
            contexts: Vec::new(),
        });
    }
    check_contexts(&request.contexts)?;
    // The endpoint puts the preauthentication context in front: its salt is random.
    let mut answers = Vec::new();
    let cipher = choose_cipher(config, &request.contexts, &mut answers);
    let signing = choose_signing(config, &request.contexts, &mut answers);
    Ok(Choice { negotiated: settle(config, request, dialect, signing, cipher), contexts: answers })
}

/// Contexts that must come once at most, must be readable, or must offer something.
fn check_contexts(contexts: &[NegotiateContext]) -> Result<(), NtStatus> {
    let count =
        |wanted: ContextType| contexts.iter().filter(|context| context.context_type() == wanted).count();
    if count(ContextType::PREAUTH_INTEGRITY) != 1 {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    let at_most_once = [
        ContextType::ENCRYPTION,
        ContextType::COMPRESSION,
        ContextType::RDMA_TRANSFORM,
        ContextType::SIGNING,
    ];
    if at_most_once.into_iter().any(|wanted| count(wanted) > 1) {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    for context in contexts {
        match context {
            NegotiateContext::PreauthIntegrity { algorithms, .. } => {
                if !algorithms.contains(&HashAlgorithm::SHA_512) {
                    return Err(NtStatus::SMB_NO_PREAUTH_INTEGRITY_HASH_OVERLAP);
                }
            }
            NegotiateContext::Signing { algorithms } if algorithms.is_empty() => {
                return Err(NtStatus::INVALID_PARAMETER);
            }
            NegotiateContext::Unreadable { context_type, .. } => {
                let ours = [ContextType::PREAUTH_INTEGRITY, ContextType::ENCRYPTION, ContextType::SIGNING];
                if ours.contains(context_type) {
                    return Err(NtStatus::INVALID_PARAMETER);
                }
            }
            NegotiateContext::Signing { .. }
            | NegotiateContext::Encryption { .. }
            | NegotiateContext::Compression { .. }
            | NegotiateContext::NetName(_)
            | NegotiateContext::Transport { .. }
            | NegotiateContext::RdmaTransform { .. }
            | NegotiateContext::Unknown { .. } => {}
        }
    }
    Ok(())
}

/// The best cipher of ours that the client has; answers also when there is none, so that the client can tell.
fn choose_cipher(
    config: &Config,
    contexts: &[NegotiateContext],
    answers: &mut Vec<NegotiateContext>,
) -> Option<CipherAlgorithm> {
    let offered = contexts.iter().find_map(|context| {
        if let NegotiateContext::Encryption { ciphers } = context { Some(ciphers) } else { None }
    })?;
    if config.ciphers.is_empty() {
        return None;
    }
    let chosen =
        config.ciphers.iter().copied().find(|cipher| offered.iter().any(|other| other.0 == cipher.code()));
    let code = chosen.map_or(0, CipherAlgorithm::code);
    answers.push(NegotiateContext::Encryption { ciphers: vec![negotiate_context::Cipher(code)] });
    chosen
}

/// The best signer of ours that the client has, AES-CMAC if there is none.
fn choose_signing(
    config: &Config,
    contexts: &[NegotiateContext],
    answers: &mut Vec<NegotiateContext>,
) -> SigningAlgorithm {
    let offered = contexts.iter().find_map(|context| {
        if let NegotiateContext::Signing { algorithms } = context { Some(algorithms) } else { None }
    });
    let Some(offered) = offered else { return SigningAlgorithm::AesCmac };
    let chosen = config
        .signers
        .iter()
        .copied()
        .find(|signer| offered.iter().any(|other| other.0 == signer.code()))
        .unwrap_or(SigningAlgorithm::AesCmac);
    answers.push(NegotiateContext::Signing {
        algorithms: vec![negotiate_context::SigningAlgorithm(chosen.code())],
    });
    chosen
}

fn settle(
    config: &Config,
    request: &Request,
    dialect: Dialect,
    signing: SigningAlgorithm,
    cipher: Option<CipherAlgorithm>,
) -> Negotiated {
    let multi_credit = dialect != Dialect::SMB_2_0_2;
    let mut capabilities = Capabilities::EMPTY;
    if multi_credit {
        capabilities = capabilities.with(Capabilities::LARGE_MTU).with(Capabilities::LEASING);
    }
    // Some clients can't deal with directory leases that they did not say they know.
    if dialect.is_smb3() && request.capabilities.contains(Capabilities::DIRECTORY_LEASING) {
        capabilities = capabilities.with(Capabilities::DIRECTORY_LEASING);
    }
    if cipher.is_some() && dialect != Dialect::SMB_3_1_1 {
        capabilities = capabilities.with(Capabilities::ENCRYPTION);
    }
    let multi_channel = dialect.is_smb3() && request.capabilities.contains(Capabilities::MULTI_CHANNEL);
    if multi_channel {
        capabilities = capabilities.with(Capabilities::MULTI_CHANNEL);
    }
    // Only where there is a share for it, which there is only with a store (3.3.5.4).
    let persistent_handles = dialect.is_smb3()
        && request.capabilities.contains(Capabilities::PERSISTENT_HANDLES)
        && config.shares.iter().any(|share| share.continuous_availability.is_some());
    if persistent_handles {
        capabilities = capabilities.with(Capabilities::PERSISTENT_HANDLES);
    }
    let mut server_security_mode = SecurityMode::SIGNING_ENABLED;
    if config.signing_required {
        server_security_mode = server_security_mode.with(SecurityMode::SIGNING_REQUIRED);
    }
    let io_size_max = if multi_credit { config.limits.io_size_max } else { SMALL_IO_SIZE };
    Negotiated {
        terms: Terms { dialect, io_size_max, encryption: cipher.is_some(), multi_channel },
        client_guid: if dialect == Dialect::SMB_2_0_2 { [0; 16] } else { request.client_guid },
        client_capabilities: request.capabilities,
        client_security_mode: request.security_mode,
        server_capabilities: capabilities,
        server_security_mode,
        client_requires_signing: request.security_mode.contains(SecurityMode::SIGNING_REQUIRED),
        signing,
        cipher,
    }
}

impl Shard {
    /// A peer broke a rule that leaves no answer: ends its connection.
    pub(crate) fn misbehaved(&mut self, connection: ConnectionId, what: &'static str, turn: &mut Turn<'_>) {
        turn.push(Action::Record(crate::action::Audit::Misbehaved { connection, what }));
        self.disconnect(connection, turn);
    }
}
