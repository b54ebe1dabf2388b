//! The client's end of a pipe: binds, calls, and puts answers together.

use super::Service;
use super::pdu::{
    Bind, Body, ContextElement, ContextResult, FRAGMENT_MAX, FRAGMENT_MIN, FaultStatus, Framer, NakReason,
    Packet, PacketFlags, RejectionReason, Request, SyntaxId, pieces,
};
use crate::error::Malformed;

/// Most bytes of results of one call, over all its fragments.
pub const RESPONSE_STUB_MAX: usize = 4 << 20;

/// The context that [`PipeClient`] binds.
const CONTEXT_ID: u16 = 0;

/// What the server said.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The interface can be called.
    Bound,
    /// The server does not offer the interface in NDR.
    Rejected(RejectionReason),
    /// The server does not accept the bind at all.
    BindRefused(NakReason),
    /// A call's results.
    Response {
        /// The call.
        call_id: u32,
        /// Results, to be parsed as the method's reply.
        stub: Vec<u8>,
    },
    /// A call that failed in the runtime.
    Fault {
        /// The call.
        call_id: u32,
        /// Why.
        status: FaultStatus,
    },
}

/// A pipe opened by a client. Calls are to be made one after the other: the next when the last was answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PipeClient {
    service: Service,
    framer: Framer,
    receive_fragment_max: u16,
    transmit_fragment_max: u16,
    call_id: u32,
    partial: Option<(u32, Vec<u8>)>,
}

impl PipeClient {
    /// A pipe to `service` that was just opened, which will take fragments of up to `fragment_max` bytes (within
    /// [`FRAGMENT_MIN`] and [`FRAGMENT_MAX`]).
    #[must_use]
    pub fn new(service: Service, fragment_max: u16) -> Self {
        let fragment_max = fragment_max.clamp(FRAGMENT_MIN, FRAGMENT_MAX);
        Self {
            service,
            framer: Framer::default(),
            receive_fragment_max: fragment_max,
            transmit_fragment_max: FRAGMENT_MIN,
            call_id: 1,
            partial: None,
        }
    }

    /// Appends the bind to `out`; to be written first.
    pub fn bind(&mut self, out: &mut Vec<u8>) {
        let bind = Bind {
            transmit_fragment_max: self.receive_fragment_max,
            receive_fragment_max: self.receive_fragment_max,
            association_group_id: 0,
            contexts: vec![ContextElement {
                context_id: CONTEXT_ID,
                abstract_syntax: self.service.interface(),
                transfer_syntaxes: vec![SyntaxId::NDR],
            }],
        };
        Packet { flags: PacketFlags::WHOLE, call_id: self.call_id, body: Body::Bind(bind) }.emit(out);
    }

    /// Appends a call to `out`, in as many fragments as the server wants, and returns its number.
    pub fn call(&mut self, opnum: u16, stub: &[u8], out: &mut Vec<u8>) -> u32 {
        self.call_id = self.call_id.wrapping_add(1);
        for (flags, allocation_hint, piece) in pieces(stub, self.transmit_fragment_max) {
            let request = Request {
                allocation_hint,
                context_id: CONTEXT_ID,
                opnum,
                object: None,
                stub: piece.to_vec(),
            };
            Packet { flags, call_id: self.call_id, body: Body::Request(request) }.emit(out);
        }
        self.call_id
    }

    /// Takes bytes read from the pipe, cut however they came, and appends what they say to `events`.
    ///
    /// # Errors
    /// [`Malformed`] when the server broke the protocol; the pipe is of no more use.
    pub fn input(&mut self, mut bytes: &[u8], events: &mut Vec<Event>) -> Result<(), Malformed> {
        while let Some(pdu) = self.framer.next(&mut bytes)? {
            let packet = Packet::parse(&pdu)?;
            let call_id = packet.call_id;
            match packet.body {
                Body::BindAck(ack) => {
                    let [answer] = ack.answers.as_slice() else {
                        return Err(Malformed("RPC: as many answers as contexts"));
                    };
                    self.transmit_fragment_max = ack.receive_fragment_max.clamp(FRAGMENT_MIN, FRAGMENT_MAX);
                    let is_accepted =
                        answer.result == ContextResult::ACCEPTANCE && answer.transfer_syntax == SyntaxId::NDR;
                    events.push(if is_accepted { Event::Bound } else { Event::Rejected(answer.reason) });
                }
                Body::BindNak(nak) => events.push(Event::BindRefused(nak.reason)),
                Body::Fault(fault) => {
                    self.partial = None;
                    events.push(Event::Fault { call_id, status: fault.status });
                }
                Body::Response(response) => {
                    if let Some(stub) = self.on_fragment(packet.flags, call_id, &response.stub)? {
                        events.push(Event::Response { call_id, stub });
                    }
                }
                _ => return Err(Malformed("RPC: a PDU that clients do not receive")),
            }
        }
        Ok(())
    }

    fn on_fragment(
        &mut self,
        flags: PacketFlags,
        call_id: u32,
        piece: &[u8],
    ) -> Result<Option<Vec<u8>>, Malformed> {
        let mut stub = match (flags.has(PacketFlags::FIRST), self.partial.take()) {
            (true, None) => Vec::new(),
            (false, Some((begun, stub))) if begun == call_id => stub,
            _ => return Err(Malformed("RPC: a fragment out of turn")),
        };
        if stub.len().saturating_add(piece.len()) > RESPONSE_STUB_MAX {
            return Err(Malformed("RPC: results too long"));
        }
        stub.extend_from_slice(piece);
        if flags.has(PacketFlags::LAST) {
            return Ok(Some(stub));
        }
        self.partial = Some((call_id, stub));
        Ok(None)
    }
}
