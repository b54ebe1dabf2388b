//! One connection: reads frames, steps their requests, writes what comes back.
//!
//! A connection that waits holds no read buffer: bytes are read into one buffer per core and cut into frames, and only
//! the rest of a large frame is read to where it stays.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use smb_state::action::Output;
use smb_state::endpoint::{Endpoint, Outbox};
use smb_state::event::{Event, Peer};
use smb_state::ids::{ConnectionId, ShardId};
use smb_state::request::{Command, Request};

use crate::common::Common;
use crate::frame::{Allowance, Framer};

/// Bytes read at once; for a connection that isn't authenticated, fewer.
const SCRATCH: usize = 256 << 10;
const SCRATCH_UNAUTHENTICATED: usize = 4 << 10;
/// Bytes read at once when the last frame was large: the next one likely is too, and is only copied as far as its length
/// is not known.
const SCRATCH_LARGE: usize = 256;
/// A frame is large from here on.
const LARGE: usize = 32 << 10;
/// The rest of a frame is read directly when at least this much is missing.
const DIRECT: usize = 16 << 10;
/// A peer that sent this much at once is not one that sends in small pieces.
const BULK: usize = 64 << 10;
/// Bytes that are received, handled, answered or sent for which a turn is as much shorter as for another frame: to move them
/// takes about as long as a small request. A turn is so short that a small request of somebody else, which waits for one of
/// a peer that streams, hardly takes longer for it.
const FRAME_SHARE: usize = 8 << 10;
/// A turn is so many times as long when nobody else asked for anything lately: to look whether somebody does costs a few
/// percent of what a stream costs.
const ALONE: usize = 8;
/// Turns for which somebody who asked for something counts as still there.
const CROWDED: u8 = u8::MAX;
/// Unsent bytes that are written before more frames are handled.
const WRITE_EARLY: usize = 512 << 10;
/// Unsent memory at which a connection that isn't authenticated is no longer read from.
const UNSENT_UNAUTHENTICATED: usize = 64 << 10;
/// What an unsent frame costs beside its bytes: room for headers that wasn't used, bookkeeping, the allocator's share.
const FRAME_COST: usize = 512;
/// Slices in one vectored write.
const SLICES: usize = 64;

thread_local! {
    static SCRATCH_BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH]);
}

/// What an adapter is to its connections.
pub trait Host {
    /// A connection's byte stream.
    type Stream: Stream;
    /// A pause.
    type Sleep: Future<Output = ()>;
    /// Where others leave mail for a connection.
    type Mailbox: Mailbox;

    /// What is the same under every runtime.
    fn common(&self) -> &Common;

    /// Steps shards with events and carries out everything that follows from it without waiting.
    fn run(&self, work: impl IntoIterator<Item = (ShardId, Event)>);

    /// A pause from now on.
    fn sleep(&self, duration: Duration) -> Self::Sleep;

    /// Wakes the task again when the others that are ready had their turn and the sockets were looked at. What is returned has
    /// to be kept until then.
    fn after_others(&self, context: &mut Context<'_>) -> Option<Pin<Box<Self::Sleep>>>;

    /// A new connection's mailbox.
    fn open_mailbox(&self, connection: ConnectionId, peer: SocketAddr) -> Self::Mailbox;

    /// Forgets a mailbox, which must be closed.
    fn remove_mailbox(&self, connection: ConnectionId);

    /// As [`Self::run`], for a request of this mailbox's connection. What other threads have to do for it may still be under
    /// way afterwards, until [`Self::poll_settled`] is ready.
    fn run_request(&self, mailbox: &Self::Mailbox, work: (ShardId, Event));

    /// Whether everything that requests led to without waiting is done, and what came of it for the connection is in its
    /// mailbox. Requests that wait (for a client, a disk) don't count.
    fn poll_settled(&self, mailbox: &Self::Mailbox, context: &Context<'_>) -> Poll<()>;
}

/// A connection's byte stream. Nothing here waits: what is not ready leaves the task's waker.
pub trait Stream {
    /// Reads what is there into `buffer`; 0 bytes are the stream's end.
    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Reads up to `limit` bytes to the end of `frame`, which has the room; 0 bytes are the stream's end.
    fn poll_extend(
        &mut self,
        context: &mut Context<'_>,
        frame: &mut BytesMut,
        limit: usize,
    ) -> Poll<io::Result<usize>>;

    /// Writes a part of the slices, which are not all empty.
    fn poll_write(&mut self, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>>;

    /// Acknowledges what was received now, where the system can be asked for that.
    ///
    /// # Errors
    /// When the system refuses.
    fn acknowledge(&self) -> io::Result<()>;
}

/// Where others leave mail for a connection.
pub trait Mailbox {
    /// Swaps what is there with `mail`, which must be empty. False, and the task will be woken, when there was nothing.
    fn take(&self, mail: &mut Mail, context: &Context<'_>) -> bool;

    /// Refuses everything from now on and returns what is left.
    fn close(&self) -> Mail;
}

/// What was in a mailbox.
#[derive(Default)]
pub struct Mail {
    /// What shards want done with the connection, in the order in which they said so.
    pub outputs: VecDeque<Output>,
    /// Events to be stepped where the connection lives.
    pub work: VecDeque<(ShardId, Event)>,
    /// The server wants the connection gone at once.
    pub kill: bool,
}

impl Mail {
    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.outputs.is_empty() && self.work.is_empty() && !self.kill
    }
}

/// Why a connection ended.
#[derive(Debug)]
enum Ending {
    /// The peer closed it.
    Peer,
    /// The core wanted it closed, and everything before that is sent.
    Core,
    /// The server is going down and did not wait any longer.
    Killed,
    /// The peer took nothing for too long.
    WriteTimeout,
    /// Unauthenticated peers hold too much memory.
    UnauthenticatedOverflow,
    /// The transport failed.
    Transport(io::Error),
}

/// Serves a connection of a core to its end.
pub async fn serve<H: Host>(host: H, core: usize, stream: H::Stream, address: SocketAddr) {
    let mut connection = Box::new(Connection::new(host, core, stream, address));
    let id = connection.id.0;
    tracing::debug!(connection = id, %address, "accepted");
    let ending = std::future::poll_fn(|context| connection.poll(context)).await;
    tracing::debug!(connection = id, ?ending, "closed");
    let counters = &connection.common().cores[core];
    match ending {
        Ending::WriteTimeout => counters.write_timeouts.add(1),
        Ending::UnauthenticatedOverflow => counters.unauthenticated_overflows.add(1),
        Ending::Transport(error) => tracing::debug!(connection = id, %error, "the transport failed"),
        Ending::Peer | Ending::Core | Ending::Killed => {}
    }
}

/// One customer of IPv6 has a whole /64 to connect from.
fn peer(address: IpAddr) -> Peer {
    match address.to_canonical() {
        IpAddr::V4(v4) => Peer(u128::from(v4.to_ipv6_mapped())),
        IpAddr::V6(v6) => Peer(u128::from(v6) >> 64 << 64),
    }
}

/// Whether what a client sends next may build on the request. Those that only look, and WRITE, are so many that waiting for
/// each would cost more than an order that no client relies on is worth.
fn changes_something(request: &Request) -> bool {
    match &request.command {
        Command::Flush(_)
        | Command::Read(_)
        | Command::Write(_)
        | Command::Cancel
        | Command::Echo
        | Command::QueryDirectory(_)
        | Command::QueryInfo(_)
        | Command::Unreadable(_) => false,
        Command::MultiProtocolNegotiate(_)
        | Command::Negotiate(_)
        | Command::SessionSetup(_)
        | Command::Logoff
        | Command::TreeConnect(_)
        | Command::TreeDisconnect
        | Command::Create(_)
        | Command::Close(_)
        | Command::Lock(_)
        | Command::Ioctl(_)
        | Command::ChangeNotify(_)
        | Command::SetInfo(_)
        | Command::OplockBreak(_) => true,
    }
}

struct Connection<H: Host> {
    host: H,
    core: usize,
    id: ConnectionId,
    shard: ShardId,
    mailbox: H::Mailbox,
    mail: Mail,
    endpoint: Endpoint,
    stream: H::Stream,
    framer: Framer,
    /// Bytes that were read but not looked at when the turn ended.
    unread: BytesMut,
    /// The last frame was large.
    large: bool,
    /// Bytes received since the turn began.
    received: usize,
    unsent: Unsent,
    outbox: Outbox,
    /// A request that changes something is still under way on other threads. Clients send what builds on it before they
    /// see its answer (smbtorture's lease.rename_wait does), so nothing is read before it has settled.
    unsettled: bool,
    /// Nothing is read any more.
    deaf: bool,
    /// The core wants the connection closed when everything is sent.
    closing: bool,
    stalled: Option<Pin<Box<H::Sleep>>>,
    /// Turns that are still short because of what others asked for.
    crowded: u8,
    /// Requests of the whole core when the last turn ended.
    requests_seen: u64,
    /// What wakes the task after a turn that was over before there was nothing to do.
    others_first: Option<Pin<Box<H::Sleep>>>,
    /// This connection's part of [`Common::unauthenticated_bytes`].
    charged: usize,
}

impl<H: Host> Connection<H> {
    fn new(host: H, core: usize, stream: H::Stream, address: SocketAddr) -> Self {
        let peer = peer(address.ip());
        let common = host.common();
        let shard = ShardId(u16::try_from(core % usize::from(common.shards)).unwrap_or(0));
        let id = ConnectionId::new(shard, common.next_connection.fetch_add(1, Ordering::Relaxed));
        let mailbox = host.open_mailbox(id, address);
        let endpoint = Endpoint::new(id, peer, common.endpoint_options.clone(), Arc::clone(&common.provider));
        host.run([(shard, Event::Accepted { connection: id, peer })]);
        Self {
            host,
            core,
            id,
            shard,
            mailbox,
            mail: Mail::default(),
            endpoint,
            stream,
            framer: Framer::default(),
            unread: BytesMut::new(),
            large: false,
            received: 0,
            unsent: Unsent::default(),
            outbox: Outbox::default(),
            unsettled: false,
            deaf: false,
            closing: false,
            stalled: None,
            crowded: 0,
            requests_seen: 0,
            others_first: None,
            charged: 0,
        }
    }

    fn common(&self) -> &Common {
        self.host.common()
    }

    /// Takes a turn.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Ending> {
        self.crowded = match self.requests_of_core() == self.requests_seen {
            true => self.crowded.saturating_sub(1),
            false => CROWDED,
        };
        let ending = self.poll_turn(context);
        self.requests_seen = self.requests_of_core();
        ending
    }

    fn requests_of_core(&self) -> u64 {
        self.common().cores[self.core].requests.get()
    }

    fn poll_turn(&mut self, context: &mut Context<'_>) -> Poll<Ending> {
        let mut budget = self.common().bounds.frames_per_turn.max(1);
        if self.crowded == 0 {
            budget = budget.saturating_mul(ALONE);
        }
        self.received = 0;
        self.others_first = None;
        loop {
            self.empty_mailbox(context);
            if self.mail.kill {
                return Poll::Ready(Ending::Killed);
            }
            if !self.gathers(budget)
                && let Poll::Ready(result) = self.poll_write(context, &mut budget)
            {
                match result {
                    Err(ending) => return Poll::Ready(ending),
                    Ok(()) if self.closing => return Poll::Ready(Ending::Core),
                    Ok(()) => {}
                }
            }
            if budget == 0 {
                self.others_first = self.host.after_others(context);
                break;
            }
            if self.deaf || self.unsent.held() > self.unsent_max() {
                break;
            }
            if self.unsettled {
                if self.host.poll_settled(&self.mailbox, context).is_pending() {
                    break;
                }
                self.unsettled = false;
                continue;
            }
            match self.poll_read(context, &mut budget) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(ending)) => return Poll::Ready(ending),
                Poll::Pending => {
                    self.acknowledge_part();
                    break;
                }
            }
        }
        match self.charge() {
            true => Poll::Pending,
            false => Poll::Ready(Ending::UnauthenticatedOverflow),
        }
    }

    fn authenticated(&self) -> bool {
        self.endpoint.frame_max() > self.common().endpoint_options.unauthenticated_frame_max as usize
    }

    /// Unsent memory at which nothing more is read: a peer that takes no answers gets no more of them.
    fn unsent_max(&self) -> usize {
        let bound = self.common().bounds.unsent_max;
        if self.authenticated() { bound } else { bound.min(UNSENT_UNAUTHENTICATED) }
    }

    /// Carries out what shards left here and steps what storage left here, until nothing is left.
    fn empty_mailbox(&mut self, context: &Context<'_>) {
        while !self.mail.kill && self.mailbox.take(&mut self.mail, context) {
            while let Some(output) = self.mail.outputs.pop_front() {
                if self.closing {
                    self.common().discard(output);
                    continue;
                }
                crate::auth::carry_out(self.host.common(), &mut self.endpoint, output, &mut self.outbox);
                self.unsent.extend(self.outbox.frames.drain(..));
                if self.outbox.disconnect {
                    self.closing = true;
                    self.deaf = true;
                }
                let shard = self.shard;
                self.mail.work.extend(self.outbox.events.drain(..).map(|event| (shard, event)));
            }
            self.host.run(self.mail.work.drain(..));
        }
    }

    /// Whether what is there to be sent waits for the answers to requests that are here already: one call sends all. What a
    /// request waits for in between is other threads' turns, never a client.
    fn gathers(&self, budget: usize) -> bool {
        budget > 0
            && !self.unread.is_empty()
            && !self.deaf
            && !self.closing
            && self.stalled.is_none()
            && self.unsent.bytes <= WRITE_EARLY
            && self.unsent.held() <= self.unsent_max()
    }

    /// Sends what is there to be sent, as far as the turn allows. Ready when all of it is out.
    fn poll_write(&mut self, context: &mut Context<'_>, budget: &mut usize) -> Poll<Result<(), Ending>> {
        let before = self.unsent.bytes;
        let limit = budget.saturating_mul(FRAME_SHARE);
        let result = self.unsent.poll_write(&mut self.stream, limit, context);
        let sent = before - self.unsent.bytes;
        *budget = budget.saturating_sub(sent / FRAME_SHARE);
        self.common().cores[self.core].sent.add(sent);
        match result {
            Poll::Ready(Ok(())) => {
                self.stalled = None;
                // What the turn did not allow is sent in the next one.
                return if self.unsent.bytes == 0 { Poll::Ready(Ok(())) } else { Poll::Pending };
            }
            Poll::Ready(Err(error)) => return Poll::Ready(Err(Ending::Transport(error))),
            Poll::Pending => {}
        }
        let timeout = self.common().bounds.write_timeout;
        match &mut self.stalled {
            Some(stalled) if sent > 0 => stalled.set(self.host.sleep(timeout)),
            Some(_) => {}
            none => *none = Some(Box::pin(self.host.sleep(timeout))),
        }
        if let Some(stalled) = &mut self.stalled {
            ready!(stalled.as_mut().poll(context));
        }
        Poll::Ready(Err(Ending::WriteTimeout))
    }

    /// Reads once and handles the frames that are complete, `budget` at most.
    fn poll_read(&mut self, context: &mut Context<'_>, budget: &mut usize) -> Poll<Result<(), Ending>> {
        if !self.unread.is_empty() {
            let mut unread = std::mem::take(&mut self.unread);
            let taken = self.on_bytes(&unread, budget);
            unread.advance(taken);
            self.unread = unread;
            return Poll::Ready(Ok(()));
        }
        if let Some(frame) = self.framer.complete() {
            self.on_frame(frame, budget);
            return Poll::Ready(Ok(()));
        }
        if let Some((frame, missing)) = self.framer.direct(DIRECT) {
            let limit = missing.min(budget.saturating_mul(FRAME_SHARE));
            let length = match ready!(self.stream.poll_extend(context, frame, limit)) {
                Ok(0) => return Poll::Ready(Err(Ending::Peer)),
                Ok(length) => length,
                Err(error) => return Poll::Ready(Err(Ending::Transport(error))),
            };
            self.common().cores[self.core].received.add(length);
            self.received += length;
            *budget = budget.saturating_sub(length / FRAME_SHARE);
            return Poll::Ready(Ok(()));
        }
        SCRATCH_BUFFER.with_borrow_mut(|scratch| {
            let limit = match self.authenticated() {
                false => SCRATCH_UNAUTHENTICATED,
                true if self.large && !self.framer.in_frame() => SCRATCH_LARGE,
                true => SCRATCH,
            };
            let length = match ready!(self.stream.poll_read(context, &mut scratch[..limit])) {
                Ok(0) => return Poll::Ready(Err(Ending::Peer)),
                Ok(length) => length,
                Err(error) => return Poll::Ready(Err(Ending::Transport(error))),
            };
            let bytes = &scratch[..length];
            self.common().cores[self.core].received.add(bytes.len());
            self.received += bytes.len();
            let taken = self.on_bytes(bytes, budget);
            self.unread.extend_from_slice(&bytes[taken..]);
            Poll::Ready(Ok(()))
        })
    }

    /// Lets a peer go on that sends a frame in small pieces and, by Nagle's rule, holds the next one back until it has
    /// an acknowledgement: there is no answer yet that could carry it, and on its own the kernel takes 40 ms.
    fn acknowledge_part(&self) {
        if self.framer.in_frame()
            && self.received < BULK
            && let Err(error) = self.stream.acknowledge()
        {
            tracing::debug!(connection = self.id.0, %error, "a part of a frame is acknowledged late");
        }
    }

    /// Cuts `input` into frames and handles them until the turn is over or enough waits to be sent, but at least one.
    /// Returns how many bytes were taken.
    fn on_bytes(&mut self, input: &[u8], budget: &mut usize) -> usize {
        let mut rest = input;
        while !rest.is_empty() && !self.deaf && !self.unsettled {
            let allowance = Allowance { frame_max: self.endpoint.frame_max(), whole: self.authenticated() };
            match self.framer.push(&mut rest, allowance) {
                Ok(Some(frame)) => {
                    self.on_frame(frame, budget);
                    if *budget == 0 || self.unsent.bytes > WRITE_EARLY {
                        break;
                    }
                }
                Ok(None) => {}
                Err(malformed) => {
                    tracing::debug!(connection = self.id.0, %malformed, "no frame");
                    self.deaf = true;
                    self.step(Event::Malformed { connection: self.id });
                    self.closing = true;
                }
            }
        }
        input.len() - rest.len()
    }

    fn on_frame(&mut self, frame: BytesMut, budget: &mut usize) {
        let moved = frame.len() / FRAME_SHARE;
        let unsent = self.unsent.bytes;
        self.large = frame.len() >= LARGE;
        let (event, changes) = match self.endpoint.receive(frame, &self.host.common().buffers) {
            Ok(chain) => {
                self.common().cores[self.core].requests.add(1 + chain.rest.len());
                let changes = std::iter::once(&chain.first).chain(&chain.rest).any(changes_something);
                (Event::Request { connection: self.id, chain }, changes)
            }
            Err(malformed) => {
                tracing::debug!(connection = self.id.0, %malformed, "frame refused");
                (Event::Malformed { connection: self.id }, false)
            }
        };
        self.step(event);
        let answered = self.unsent.bytes.saturating_sub(unsent) / FRAME_SHARE;
        *budget = budget.saturating_sub(1 + moved + answered);
        // The turn ends with another look that leaves a real waker.
        let context = Context::from_waker(std::task::Waker::noop());
        self.unsettled = changes && self.host.poll_settled(&self.mailbox, &context).is_pending();
    }

    /// Steps the connection's shard, then carries out what came of it: the next frame may depend on it (keys, sizes).
    fn step(&mut self, event: Event) {
        self.host.run_request(&self.mailbox, (self.shard, event));
        // Nobody needs to be woken: the turn ends with a look into the mailbox that leaves a real waker.
        self.empty_mailbox(&Context::from_waker(std::task::Waker::noop()));
    }

    /// Accounts for the memory that an unauthenticated connection keeps while it waits. False when it is too much.
    fn charge(&mut self) -> bool {
        if self.unread.is_empty() && self.unread.capacity() > 0 {
            self.unread = BytesMut::new();
        }
        let held = match self.authenticated() {
            true => 0,
            false => self.framer.held() + self.unread.capacity() + self.unsent.held(),
        };
        let total = &self.common().unauthenticated_bytes;
        if held > self.charged {
            let more = held - self.charged;
            let before = total.fetch_add(more, Ordering::Relaxed);
            self.charged = held;
            return before + more <= self.common().bounds.unauthenticated_bytes_max;
        }
        total.fetch_sub(self.charged - held, Ordering::Relaxed);
        self.charged = held;
        true
    }
}

impl<H: Host> Drop for Connection<H> {
    /// However the connection ended, also by a panic or with its runtime: the core learns of it, and nothing that was
    /// meant for the connection is lost.
    fn drop(&mut self) {
        self.common().unauthenticated_bytes.fetch_sub(self.charged, Ordering::Relaxed);
        let gone = (self.shard, Event::Disconnected { connection: self.id });
        let events = self.outbox.events.drain(..).map(|event| (self.shard, event));
        self.host.run(self.mail.work.drain(..).chain(events).chain([gone]));
        let rest = self.mailbox.close();
        self.host.remove_mailbox(self.id);
        for output in self.mail.outputs.drain(..).chain(rest.outputs) {
            self.host.common().discard(output);
        }
        self.host.run(rest.work);
    }
}

/// Frames that wait to be sent.
#[derive(Default)]
struct Unsent {
    frames: VecDeque<Bytes>,
    bytes: usize,
}

impl Unsent {
    /// Memory held. Of answers to tiny requests the bytes are the smallest part.
    fn held(&self) -> usize {
        self.bytes + self.frames.len() * FRAME_COST
    }

    fn extend(&mut self, frames: impl Iterator<Item = Bytes>) {
        for frame in frames {
            self.bytes += frame.len();
            self.frames.push_back(frame);
        }
    }

    /// Sends `limit` bytes at most. Ready when they are out, or everything is.
    fn poll_write(
        &mut self,
        stream: &mut impl Stream,
        mut limit: usize,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.bytes > 0 && limit > 0 {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = self.fill(&mut slices, limit);
            let length = ready!(stream.poll_write(context, &slices[..count]))?;
            if length == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent(length);
            limit -= length;
        }
        if self.bytes > 0 {
            return Poll::Ready(Ok(()));
        }
        self.frames.clear();
        if self.frames.capacity() > SLICES {
            self.frames = VecDeque::new();
        }
        Poll::Ready(Ok(()))
    }

    /// Makes slices of the first `limit` bytes and returns how many.
    fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>], mut limit: usize) -> usize {
        let mut count = 0;
        for (slice, frame) in slices.iter_mut().zip(&self.frames) {
            if limit == 0 {
                break;
            }
            let part = frame.len().min(limit);
            *slice = IoSlice::new(&frame[..part]);
            limit -= part;
            count += 1;
        }
        count
    }

    fn sent(&mut self, mut length: usize) {
        self.bytes -= length;
        while let Some(frame) = self.frames.front_mut() {
            if length < frame.len() {
                frame.advance(length);
                return;
            }
            length -= frame.len();
            self.frames.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_writes_leave_the_rest_in_order() {
        let text = b"one two three four five";
        for step in 1..=text.len() {
            let mut unsent = Unsent::default();
            let parts = text.chunks(4).map(Bytes::copy_from_slice);
            unsent.extend(parts);
            let mut sent = 0;
            while sent < text.len() {
                let rest: Vec<u8> = unsent.frames.iter().flatten().copied().collect();
                assert_eq!(rest, &text[sent..]);
                assert_eq!(unsent.bytes, rest.len());
                let length = step.min(rest.len());
                unsent.sent(length);
                sent += length;
            }
            assert!(unsent.frames.is_empty());
        }
    }

    /// A stream that takes a part of what it is offered at a time.
    struct Taker {
        most: usize,
        taken: Vec<u8>,
    }

    impl Stream for Taker {
        fn poll_read(&mut self, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn poll_extend(
            &mut self,
            _: &mut Context<'_>,
            _: &mut BytesMut,
            _: usize,
        ) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn poll_write(&mut self, _: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
            let offered: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            let part = offered.len().min(self.most);
            self.taken.extend_from_slice(&offered[..part]);
            Poll::Ready(Ok(part))
        }

        fn acknowledge(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_turn_sends_what_it_may_and_the_next_one_goes_on() {
        let text = b"one two three four five six seven eight";
        for most in [1, 3, 7, 100] {
            for limit in 1..=text.len() + 1 {
                let mut unsent = Unsent::default();
                unsent.extend(text.chunks(4).map(Bytes::copy_from_slice));
                let mut stream = Taker { most, taken: Vec::new() };
                for turn in 1..=text.len().div_ceil(limit) {
                    let context = &mut Context::from_waker(std::task::Waker::noop());
                    assert!(unsent.poll_write(&mut stream, limit, context).is_ready());
                    let expected = &text[..text.len().min(turn * limit)];
                    assert_eq!(stream.taken, expected, "in turn {turn} of {limit} bytes");
                    assert_eq!(unsent.bytes, text.len() - expected.len());
                }
                assert!(unsent.frames.is_empty());
            }
        }
    }

    #[test]
    fn a_peer_is_an_ipv4_address_or_an_ipv6_network() {
        let of = |text: &str| peer(text.parse().unwrap());
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::2"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
    }
}
