//! The server's end of a pipe: bytes that the client wrote become bytes that the client will read (MS-RPCE 3.3.3).
//!
//! One [`PipeServer`] stands behind one open of a pipe. It knows no clock and no registry: facts and time are handed
//! in with the bytes.

use super::answer::answer;
use super::pdu::{
    Bind, BindAck, BindNak, Body, ContextAnswer, ContextElement, ContextResult, FRAGMENT_MAX, FRAGMENT_MIN,
    Fault, FaultStatus, Framer, Header, NakReason, Packet, PacketFlags, PacketType, RejectionReason, Request,
    Response, SyntaxId, pieces,
};
use super::{ServerDescription, Service};
use crate::error::Malformed;
use crate::time::FileTime;

/// Most bytes of arguments of one call, over all its fragments.
pub const REQUEST_STUB_MAX: usize = 64 * 1024;
/// Once this many bytes wait to be read, the client has to read before it may call again.
pub const OUTPUT_MAX: usize = 4 << 20;
/// Most presentation contexts of one pipe.
pub const CONTEXTS_MAX: usize = 64;

/// The feature of binding that we have (MS-RPCE 2.2.2.15): a client that gives up a call keeps its pipe.
const KEEP_CONNECTION_ON_ORPHAN: u8 = 0x02;

/// Whether a bind has succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum State {
    AwaitingBind,
    Bound {
        transmit_fragment_max: u16,
    },
    /// The client broke the protocol; nothing more is read.
    Broken,
}

/// A call whose last fragment has not come yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct PartialCall {
    call_id: u32,
    context_id: u16,
    opnum: u16,
    stub: Vec<u8>,
}

/// What stands behind a pipe.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PipeServer {
    service: Service,
    association_group_id: u32,
    framer: Framer,
    state: State,
    contexts: Vec<u16>,
    call: Option<PartialCall>,
}

impl PipeServer {
    /// A pipe that was just opened. `association_group_id` tells this pipe's association from the client's others; zero
    /// has a meaning of its own on the wire and counts as one.
    #[must_use]
    pub const fn new(service: Service, association_group_id: u32) -> Self {
        let association_group_id = if association_group_id == 0 { 1 } else { association_group_id };
        Self {
            service,
            association_group_id,
            framer: Framer { pending: Vec::new() },
            state: State::AwaitingBind,
            contexts: Vec::new(),
            call: None,
        }
    }

    /// The service that the pipe leads to.
    #[must_use]
    pub const fn service(&self) -> Service {
        self.service
    }

    /// Takes bytes that the client wrote, cut however it liked, and appends to `out` what it is to read. `out` may hold
    /// earlier answers that were not read yet; they count towards [`OUTPUT_MAX`].
    ///
    /// # Errors
    /// [`Malformed`] when the client broke the protocol or does not read. What `out` holds may still be delivered, then
    /// the pipe is to be closed; further bytes are refused with the same error.
    pub fn input(
        &mut self,
        mut bytes: &[u8],
        description: &ServerDescription,
        now: FileTime,
        out: &mut Vec<u8>,
    ) -> Result<(), Malformed> {
        if self.state == State::Broken {
            return Err(Malformed("RPC: the pipe is broken"));
        }
        let result = self.take(&mut bytes, description, now, out);
        if result.is_err() {
            self.state = State::Broken;
            self.call = None;
        }
        result
    }

    fn take(
        &mut self,
        bytes: &mut &[u8],
        description: &ServerDescription,
        now: FileTime,
        out: &mut Vec<u8>,
    ) -> Result<(), Malformed> {
        while let Some(pdu) = self.framer.next(bytes)? {
            if out.len() > OUTPUT_MAX {
                return Err(Malformed("RPC: calls without reading the answers"));
            }
            self.on_pdu(&pdu, description, now, out)?;
        }
        Ok(())
    }

    fn on_pdu(
        &mut self,
        pdu: &[u8],
        description: &ServerDescription,
        now: FileTime,
        out: &mut Vec<u8>,
    ) -> Result<(), Malformed> {
        let header = Header::parse(pdu)?;
        let is_bind = header.packet_type == PacketType::BIND;
        if header.version_major != 5 || header.version_minor > 1 {
            if is_bind {
                refuse_bind(header.call_id, NakReason::PROTOCOL_VERSION_NOT_SUPPORTED, out);
            }
            return Err(Malformed("RPC: version"));
        }
        if header.authentication_length != 0 {
            if is_bind {
                refuse_bind(header.call_id, NakReason::AUTHENTICATION_TYPE_NOT_RECOGNIZED, out);
                return Ok(());
            }
            fault(header.call_id, 0, FaultStatus::PROTOCOL_ERROR, out);
            return Err(Malformed("RPC: authentication without having agreed on it"));
        }
        let Ok(packet) = Packet::parse(pdu) else {
            if is_bind {
                refuse_bind(header.call_id, NakReason::NOT_SPECIFIED, out);
            } else {
                fault(header.call_id, 0, FaultStatus::PROTOCOL_ERROR, out);
            }
            return Err(Malformed("RPC: a PDU does not hold what its type says"));
        };
        match packet.body {
            Body::Bind(bind) => self.on_bind(packet.flags, packet.call_id, &bind, out),
            Body::AlterContext(bind) => self.on_alter_context(packet.flags, packet.call_id, &bind, out),
            Body::Request(request) => {
                let Some(call) = self.on_request(packet.flags, packet.call_id, request, out)? else {
                    return Ok(());
                };
                self.execute(&call, description, now, out);
                Ok(())
            }
            // By the time a cancel comes the call is answered, or its arguments are not complete.
            Body::Other(PacketType::CANCEL, _) => Ok(()),
            Body::Other(PacketType::ORPHANED, _) => {
                self.call = self.call.take().filter(|call| call.call_id != packet.call_id);
                Ok(())
            }
            _ => {
                fault(packet.call_id, 0, FaultStatus::PROTOCOL_ERROR, out);
                Err(Malformed("RPC: a PDU that servers do not receive"))
            }
        }
    }

    fn on_bind(
        &mut self,
        flags: PacketFlags,
        call_id: u32,
        bind: &Bind,
        out: &mut Vec<u8>,
    ) -> Result<(), Malformed> {
        // A bind whose contexts were all rejected may be followed by another; one that gave a context may not.
        let is_repeated = !self.contexts.is_empty();
        let is_whole = flags.has(PacketFlags::WHOLE);
        if is_repeated || !is_whole || bind.receive_fragment_max < FRAGMENT_MIN {
            refuse_bind(call_id, NakReason::NOT_SPECIFIED, out);
            return Err(Malformed("RPC: bind out of turn, in fragments, or for too small ones"));
        }
        let transmit_fragment_max = bind.receive_fragment_max.min(FRAGMENT_MAX);
        self.state = State::Bound { transmit_fragment_max };
        // Associations exist to share context handles. There are none here, so that joining one is no more than being
        // told the number that was asked for.
        if bind.association_group_id != 0 {
            self.association_group_id = bind.association_group_id;
        }
        let ack = BindAck {
            transmit_fragment_max,
            receive_fragment_max: FRAGMENT_MAX,
            association_group_id: self.association_group_id,
            secondary_address: format!("\\PIPE\\{}", self.service.pipe_name()).into_bytes(),
            answers: self.answer_contexts(&bind.contexts),
        };
        let flags = PacketFlags(flags.0 & PacketFlags::CONCURRENT_MULTIPLEXING.0).with(PacketFlags::WHOLE);
        Packet { flags, call_id, body: Body::BindAck(ack) }.emit(out);
        Ok(())
    }

    fn on_alter_context(
        &mut self,
        flags: PacketFlags,
        call_id: u32,
        bind: &Bind,
        out: &mut Vec<u8>,
    ) -> Result<(), Malformed> {
        let State::Bound { transmit_fragment_max } = self.state else {
            fault(call_id, 0, FaultStatus::PROTOCOL_ERROR, out);
            return Err(Malformed("RPC: alter_context before bind"));
        };
        if !flags.has(PacketFlags::WHOLE) {
            fault(call_id, 0, FaultStatus::PROTOCOL_ERROR, out);
            return Err(Malformed("RPC: alter_context in fragments"));
        }
        let ack = BindAck {
            transmit_fragment_max,
            receive_fragment_max: FRAGMENT_MAX,
            association_group_id: self.association_group_id,
            secondary_address: Vec::new(),
            answers: self.answer_contexts(&bind.contexts),
        };
        Packet { flags: PacketFlags::WHOLE, call_id, body: Body::AlterContextResponse(ack) }.emit(out);
        Ok(())
    }

    fn answer_contexts(&mut self, contexts: &[ContextElement]) -> Vec<ContextAnswer> {
        contexts.iter().map(|context| self.answer_context(context)).collect()
    }

    /// One context's answer (MS-RPCE 3.3.1.5.3, 3.3.1.5.6): features are acknowledged, NDR is accepted for our
    /// interface, and all else, NDR64 with it, is rejected.
    fn answer_context(&mut self, context: &ContextElement) -> ContextAnswer {
        if let [only] = context.transfer_syntaxes.as_slice()
            && let Some(asked) = only.asked_features()
        {
            let given = asked & KEEP_CONNECTION_ON_ORPHAN;
            return ContextAnswer {
                result: ContextResult::NEGOTIATE_ACK,
                reason: RejectionReason(u16::from(given)),
                transfer_syntax: SyntaxId::default(),
            };
        }
        let reject = |reason| ContextAnswer {
            result: ContextResult::PROVIDER_REJECTION,
            reason,
            transfer_syntax: SyntaxId::default(),
        };
        let ours = self.service.interface();
        let asked = context.abstract_syntax;
        if asked.uuid != ours.uuid || asked.major != ours.major || asked.minor > ours.minor {
            return reject(RejectionReason::ABSTRACT_SYNTAX_NOT_SUPPORTED);
        }
        if !context.transfer_syntaxes.contains(&SyntaxId::NDR) {
            return reject(RejectionReason::TRANSFER_SYNTAXES_NOT_SUPPORTED);
        }
        if !self.contexts.contains(&context.context_id) {
            if self.contexts.len() >= CONTEXTS_MAX {
                return reject(RejectionReason::LOCAL_LIMIT_EXCEEDED);
            }
            self.contexts.push(context.context_id);
        }
        ContextAnswer {
            result: ContextResult::ACCEPTANCE,
            reason: RejectionReason::NOT_SPECIFIED,
            transfer_syntax: SyntaxId::NDR,
        }
    }

    /// Puts fragments together; the call, once its last fragment is there.
    fn on_request(
        &mut self,
        flags: PacketFlags,
        call_id: u32,
        request: Request,
        out: &mut Vec<u8>,
    ) -> Result<Option<PartialCall>, Malformed> {
        let violation = |out: &mut Vec<u8>, what| {
            fault(call_id, request.context_id, FaultStatus::PROTOCOL_ERROR, out);
            Err(Malformed(what))
        };
        if !matches!(self.state, State::Bound { .. }) {
            return violation(out, "RPC: request before bind");
        }
        let call = match (flags.has(PacketFlags::FIRST), self.call.take()) {
            (true, None) => PartialCall {
                call_id,
                context_id: request.context_id,
                opnum: request.opnum,
                stub: request.stub,
            },
            (false, Some(mut call)) if call.call_id == call_id => {
                call.stub.extend_from_slice(&request.stub);
                call
            }
            (true, Some(_)) => {
                return violation(out, "RPC: a call begins before the last one's fragments ended");
            }
            (false, _) => return violation(out, "RPC: a fragment of a call that did not begin"),
        };
        if call.stub.len() > REQUEST_STUB_MAX {
            return violation(out, "RPC: arguments too long");
        }
        if flags.has(PacketFlags::LAST) {
            return Ok(Some(call));
        }
        self.call = Some(call);
        Ok(None)
    }

    fn execute(&self, call: &PartialCall, description: &ServerDescription, now: FileTime, out: &mut Vec<u8>) {
        let State::Bound { transmit_fragment_max } = self.state else { return };
        if !self.contexts.contains(&call.context_id) {
            fault(call.call_id, call.context_id, FaultStatus::UNKNOWN_INTERFACE, out);
            return;
        }
        match answer(self.service, call.opnum, &call.stub, description, now) {
            Ok(stub) => {
                for (flags, allocation_hint, piece) in pieces(&stub, transmit_fragment_max) {
                    let response = Response {
                        allocation_hint,
                        context_id: call.context_id,
                        cancel_count: 0,
                        stub: piece.to_vec(),
                    };
                    Packet { flags, call_id: call.call_id, body: Body::Response(response) }.emit(out);
                }
            }
            Err(status) => fault(call.call_id, call.context_id, status, out),
        }
    }
}

fn refuse_bind(call_id: u32, reason: NakReason, out: &mut Vec<u8>) {
    let nak = BindNak { reason, versions: vec![(5, 0)] };
    Packet { flags: PacketFlags::WHOLE, call_id, body: Body::BindNak(nak) }.emit(out);
}

/// Every fault of ours comes before the method was begun.
fn fault(call_id: u32, context_id: u16, status: FaultStatus, out: &mut Vec<u8>) {
    let flags = PacketFlags::WHOLE.with(PacketFlags::DID_NOT_EXECUTE);
    Packet { flags, call_id, body: Body::Fault(Fault { context_id, cancel_count: 0, status }) }.emit(out);
}
