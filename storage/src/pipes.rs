//! A volume of named pipes: `srvsvc` and `wkssvc`, behind which the RPC services of the codec answer.
//!
//! Pipes are in message mode: each PDU that a service writes is one message, and a read gets one message or the
//! beginning of one (MS-SMB2 3.3.5.12, MS-FSCC 2.3.47).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;

use bytes::Bytes;
use smb_proto::rpc::pdu::FRAGMENT_MAX;
use smb_proto::rpc::server::OUTPUT_MAX;
use smb_proto::rpc::{PipeServer, ServerDescription, Service, service};
use smb_proto::security::{Ace, AceFlags, Acl, SecurityDescriptor, Sid};
use smb_proto::{AccessMask, FileAttributes, FileTime, Name, NtStatus, Payload};
use smb_state::ids::FileNumber;
use smb_state::storage::{
    Attributes, Kind, Object, PipeState, Requester, Resolved, StorageOp, StorageReply, VolumeCaps,
};

use crate::driver::{Completion, Driver};
use crate::fault::{Outcome, reply};
use crate::handles::{HandleTable, lock};

/// Reads that may wait on one pipe.
const WAITING_MAX: usize = 32;
/// Number of the volume's root; pipes come after it.
const ROOT: FileNumber = FileNumber(1);
/// Reading and writing a pipe and its attributes.
const PIPE_ACCESS: AccessMask = AccessMask(0x0012_019F);

/// The facts that the services tell. Asked anew for every request, so that changes show.
pub trait PipeEnvironment: Send + Sync + 'static {
    /// The server and those of its shares that the requester may know of.
    fn description(&self, requester: &Requester) -> Arc<ServerDescription>;

    /// The time now.
    fn now(&self) -> FileTime;
}

/// The driver.
pub struct Pipes {
    environment: Arc<dyn PipeEnvironment>,
    handles: HandleTable<Node>,
    next_number: AtomicU32,
}

enum Node {
    Root,
    Pipe { number: FileNumber, service: Service, created: FileTime, state: Mutex<Pipe> },
}

/// One open of a pipe.
struct Pipe {
    server: PipeServer,
    /// What the client has not read yet.
    messages: VecDeque<Vec<u8>>,
    /// Reads that came before their data, with the bytes that each may have.
    waiting: VecDeque<(Completion, usize)>,
    is_broken: bool,
}

/// Answers to be given once no lock is held.
type Answers = Vec<(Completion, StorageReply<Payload>)>;

impl Pipe {
    fn queued(&self) -> usize {
        self.messages.iter().map(Vec::len).sum()
    }

    /// A service takes what is written at once, as long as there is room for its answers.
    fn state(&self) -> PipeState {
        let bytes = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let queued = self.queued();
        let is_open = !self.is_broken && queued <= OUTPUT_MAX;
        PipeState {
            readable: bytes(queued),
            inbound_quota: FRAGMENT_MAX.into(),
            writable: if is_open { FRAGMENT_MAX.into() } else { 0 },
            outbound_quota: bytes(OUTPUT_MAX),
            is_broken: self.is_broken,
        }
    }

    /// Feeds the service and hands what it says to those who wait. The status tells that the client broke the protocol.
    fn input(
        &mut self,
        bytes: &[u8],
        description: &ServerDescription,
        now: FileTime,
    ) -> (Answers, Outcome<()>) {
        if self.is_broken {
            return (Vec::new(), Err(NtStatus::PIPE_DISCONNECTED.into()));
        }
        if self.queued() > OUTPUT_MAX {
            return (Vec::new(), Err(NtStatus::INSUFFICIENT_RESOURCES.into()));
        }
        let mut output = Vec::new();
        let result = self.server.input(bytes, description, now, &mut output);
        self.messages.extend(messages(&output));
        self.is_broken = result.is_err();
        let mut answers = Answers::new();
        while !self.waiting.is_empty() {
            let Some((_, length_max)) = self.waiting.front() else { break };
            let Some(answer) = self.next(*length_max) else { break };
            let Some((completion, _)) = self.waiting.pop_front() else { break };
            answers.push((completion, answer));
        }
        (answers, result.map_err(|_| NtStatus::PIPE_DISCONNECTED.into()))
    }

    /// The answer to a read; `None` while there is nothing.
    fn next(&mut self, length_max: usize) -> Option<StorageReply<Payload>> {
        let Some(mut message) = self.messages.pop_front() else {
            return self.is_broken.then_some(StorageReply::Failed(NtStatus::PIPE_DISCONNECTED));
        };
        let rest = if message.len() > length_max { message.split_off(length_max) } else { Vec::new() };
        let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
        let buffer = Payload::copy_from(&message);
        if rest.is_empty() {
            return Some(StorageReply::Read { buffer, length });
        }
        self.messages.push_front(rest);
        Some(StorageReply::ReadPartly { buffer, length })
    }
}

/// The PDUs of a service's output: each says its length at its eighth byte (C706 12.6.3.1).
fn messages(mut output: &[u8]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    while !output.is_empty() {
        let length =
            output.get(8..10).map_or(0, |length| usize::from(u16::from_le_bytes([length[0], length[1]])));
        let length = if length == 0 { output.len() } else { length.min(output.len()) };
        let (message, rest) = output.split_at(length);
        messages.push(message.to_vec());
        output = rest;
    }
    messages
}

impl Pipes {
    /// A volume whose services tell the facts of `environment`.
    #[must_use]
    pub fn new(environment: Arc<dyn PipeEnvironment>) -> Self {
        Self { environment, handles: HandleTable::default(), next_number: AtomicU32::new(2) }
    }

    /// Handles that are open, so that leaks can be found.
    #[must_use]
    pub fn handles_open(&self) -> usize {
        self.handles.len()
    }

    fn attributes(&self, node: &Node) -> Attributes {
        let (number, kind, dos, created) = match node {
            Node::Root => (ROOT, Kind::Directory, FileAttributes::DIRECTORY, FileTime(0)),
            Node::Pipe { number, created, .. } => (*number, Kind::Pipe, FileAttributes::NORMAL, *created),
        };
        Attributes {
            number,
            kind,
            dos,
            creation: created,
            last_access: created,
            last_write: created,
            change: created,
            end_of_file: 0,
            // What Windows tells of its own pipes.
            allocation: if kind == Kind::Pipe { 4096 } else { 0 },
            links: 1,
            ea_size: 0,
            reparse_tag: 0,
        }
    }

    /// Each open of a pipe is an instance of its own, with a number of its own.
    fn resolve(&self, path: &[Name], stream: Option<&Name>) -> Outcome<Resolved> {
        let node = match path {
            [] => Node::Root,
            [name] if stream.is_none() => {
                let service = service(name).ok_or(NtStatus::OBJECT_NAME_NOT_FOUND)?;
                let number = self.next_number.fetch_add(1, Ordering::Relaxed);
                let state = Pipe {
                    server: PipeServer::new(service, number),
                    messages: VecDeque::new(),
                    waiting: VecDeque::new(),
                    is_broken: false,
                };
                let created = self.environment.now();
                Node::Pipe { number: FileNumber(number.into()), service, created, state: state.into() }
            }
            _ => return Err(NtStatus::OBJECT_NAME_NOT_FOUND.into()),
        };
        let attributes = self.attributes(&node);
        let name = match &node {
            Node::Root => Name::default(),
            Node::Pipe { service, .. } => Name::from(service.pipe_name()),
        };
        let handle = self.handles.insert(Arc::new(node));
        let stream = Name::default();
        Ok(Resolved::Found(Object { handle, attributes, parent: ROOT, name, stream, security: None }))
    }

    fn close(&self, node: &Node) {
        let Node::Pipe { state, .. } = node else { return };
        let waiting = std::mem::take(&mut lock(state).waiting);
        for (completion, _) in waiting {
            completion.complete(StorageReply::Failed(NtStatus::PIPE_BROKEN));
        }
    }

    fn write(&self, requester: &Requester, node: &Node, bytes: &[u8]) -> Outcome<StorageReply<Payload>> {
        let Node::Pipe { state, .. } = node else { return Err(NtStatus::INVALID_DEVICE_REQUEST.into()) };
        let description = self.environment.description(requester);
        let (answers, result) = lock(state).input(bytes, &description, self.environment.now());
        complete(answers);
        result?;
        let length = u32::try_from(bytes.len()).map_err(|_| NtStatus::INVALID_PARAMETER)?;
        Ok(StorageReply::Written { length })
    }

    /// The next message, now or when there is one.
    fn read(
        &self,
        node: &Node,
        length_max: u32,
        later: &mut dyn FnMut() -> Completion,
    ) -> Outcome<Poll<StorageReply<Payload>>> {
        let Node::Pipe { state, .. } = node else { return Err(NtStatus::INVALID_DEVICE_REQUEST.into()) };
        let mut pipe = lock(state);
        if pipe.waiting.is_empty()
            && let Some(answer) = pipe.next(length_max as usize)
        {
            return Ok(Poll::Ready(answer));
        }
        if pipe.waiting.len() >= WAITING_MAX {
            return Err(NtStatus::INSUFFICIENT_RESOURCES.into());
        }
        pipe.waiting.push_back((later(), length_max as usize));
        Ok(Poll::Pending)
    }

    fn transceive(
        &self,
        requester: &Requester,
        node: &Node,
        bytes: &[u8],
        length_max: u32,
        later: &mut dyn FnMut() -> Completion,
    ) -> Outcome<Poll<StorageReply<Payload>>> {
        let Node::Pipe { state, .. } = node else { return Err(NtStatus::INVALID_DEVICE_REQUEST.into()) };
        {
            let pipe = lock(state);
            if !pipe.messages.is_empty() || !pipe.waiting.is_empty() {
                return Err(NtStatus::PIPE_BUSY.into());
            }
        }
        let written = self.write(requester, node, bytes);
        // What the service still said before it gave up is worth more than that it did.
        if lock(state).messages.is_empty() {
            written?;
        }
        self.read(node, length_max, later)
    }

    fn run(
        &self,
        requester: &Requester,
        op: StorageOp<Bytes>,
        later: &mut dyn FnMut() -> Completion,
    ) -> Outcome<Poll<StorageReply<Payload>>> {
        let node = |handle| self.handles.get(handle);
        let ready = match op {
            StorageOp::Resolve { path, stream } => {
                StorageReply::Resolved(self.resolve(&path, stream.as_ref())?)
            }
            StorageOp::Open { handle, .. } | StorageOp::Attributes { handle } => {
                StorageReply::Attributes(self.attributes(&*node(handle)?))
            }
            StorageOp::Close { handle } => {
                self.close(&*self.handles.remove(handle)?);
                StorageReply::Done
            }
            StorageOp::PipeState { handle } => match &*node(handle)? {
                Node::Root => return Err(NtStatus::INVALID_DEVICE_REQUEST.into()),
                Node::Pipe { state, .. } => StorageReply::Pipe(lock(state).state()),
            },
            StorageOp::Flush { handle } => {
                node(handle)?;
                StorageReply::Done
            }
            StorageOp::Write { handle, buffer, length, .. } => {
                let bytes = buffer.get(..length as usize).ok_or(NtStatus::INVALID_PARAMETER)?;
                self.write(requester, &*node(handle)?, bytes)?
            }
            StorageOp::Read { handle, length, .. } => return self.read(&*node(handle)?, length, later),
            StorageOp::Transceive { handle, buffer, length, length_max } => {
                let bytes = buffer.get(..length as usize).ok_or(NtStatus::INVALID_PARAMETER)?;
                return self.transceive(requester, &*node(handle)?, bytes, length_max, later);
            }
            StorageOp::Security { handle } => {
                node(handle)?;
                let ace = Ace::allow(Sid::EVERYONE, PIPE_ACCESS, AceFlags(0));
                let owner = Sid::BUILTIN_ADMINISTRATORS;
                StorageReply::Security(Box::new(SecurityDescriptor::new(owner, owner, Acl::new(vec![ace]))))
            }
            _ => return Err(NtStatus::INVALID_DEVICE_REQUEST.into()),
        };
        Ok(Poll::Ready(ready))
    }
}

fn complete(answers: Answers) {
    for (completion, answer) in answers {
        completion.complete(answer);
    }
}

impl Driver for Pipes {
    fn caps(&self) -> VolumeCaps {
        VolumeCaps { pipes: true, ..VolumeCaps::default() }
    }

    fn submit(
        &self,
        requester: &Requester,
        op: StorageOp<Bytes>,
        later: &mut dyn FnMut() -> Completion,
    ) -> Poll<StorageReply<Payload>> {
        self.run(requester, op, later).unwrap_or_else(|fault| Poll::Ready(reply(Err(fault))))
    }
}
