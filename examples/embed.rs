//! An SMB server on the runtime smol, from the libraries alone: `embed ADDR:PORT DIRECTORY USER PASSWORD` serves a directory
//! as the share "share" to one user. One thread, one shard; what waits for a disk goes to smol's blocking pool.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read};
use std::time::{Duration, SystemTime};
use std::{cell::RefCell, rc::Rc, sync::Arc};

use smb_proto::{bytes::BytesMut, crypto::Portable, frame};
use smb_state::config::{Config, Share, Shared};
use smb_state::endpoint::{Buffers, Endpoint, EndpointOptions, KeyRing, OneUser, Outbox, Surroundings};
use smb_state::ids::{ConnectionId, ShardId, ShareId, VolumeId};
use smb_state::{Action, Actions, Event, Shard, action::Output, event::Peer};
use smol::{LocalExecutor, Timer, channel, net, prelude::*};
use storage::{driver::Driver, posix::Posix, table::BufferTable};

struct Server {
    executor: LocalExecutor<'static>,
    shard: RefCell<Shard>,
    buffers: Arc<BufferTable>,
    volume: Posix,
    user: OneUser,
    keys: KeyRing,
    late: channel::Sender<Event>,
    connections: RefCell<BTreeMap<ConnectionId, channel::Sender<Output>>>,
}

impl Server {
    /// Steps the shard with an event and with all that follows from it at once.
    fn step(&self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let mut actions = Actions::new();
            self.shard.borrow_mut().step(event, &mut actions);
            events.extend(actions.into_iter().filter_map(|action| self.carry_out(action)));
        }
    }

    fn carry_out(&self, action: Action) -> Option<Event> {
        match action {
            Action::Output(to, output) => match self.connections.borrow().get(&to) {
                Some(connection) => drop(connection.try_send(output)),
                None => output.discard(&*self.buffers),
            },
            Action::Submit { token, requester, op } => {
                let late = self.late.clone();
                let late = move |event| drop(late.try_send(event));
                return storage::submit(&self.volume, &self.buffers, token, &requester, op, late);
            }
            Action::Release(buffer) => self.buffers.release(buffer),
            Action::Arm { timer, armed, after_ms } => {
                let (late, after) = (self.late.clone(), Duration::from_millis(after_ms));
                let expire = async move {
                    Timer::after(after).await;
                    drop(late.try_send(Event::Expired(timer, armed)));
                };
                self.executor.spawn(expire).detach();
            }
            // The core ignores the expiry of a timer that was stopped or moved.
            Action::Disarm(_) | Action::Abandon { .. } => {}
            Action::ToShard(..) => unreachable!("there is one shard"),
            Action::Store { .. } | Action::Recovered { .. } => {
                unreachable!("no share is continuously available")
            }
            Action::Record(audit) => eprintln!("{audit:?}"),
        }
        None
    }

    async fn serve(self: Rc<Self>, connection: ConnectionId, peer: Peer, stream: net::TcpStream) {
        let options = EndpointOptions::standalone("embed");
        let endpoint = RefCell::new(Endpoint::new(connection, peer, options, Arc::new(Portable)));
        let (sender, outputs) = channel::unbounded();
        let (mut reader, mut writer) = (stream.clone(), stream);
        self.connections.borrow_mut().insert(connection, sender);
        self.step(Event::Accepted { connection, peer });
        let read = async {
            loop {
                let mut prefix = [0; frame::PREFIX_SIZE];
                reader.read_exact(&mut prefix).await?;
                let length =
                    frame::length(prefix, endpoint.borrow().frame_max()).map_err(io::Error::other)?;
                let mut bytes = BytesMut::zeroed(length);
                reader.read_exact(&mut bytes).await?;
                let event = endpoint.borrow_mut().receive_event(bytes, &*self.buffers);
                self.step(event);
                // A client that doesn't take its answers gets no more of them.
                while outputs.len() > 64 {
                    Timer::after(Duration::from_millis(1)).await;
                }
            }
        };
        let write = async {
            let mut outbox = Outbox::default();
            while let (false, Ok(output)) = (outbox.disconnect, outputs.recv().await) {
                let (buffers, users, keys) = (&*self.buffers, &self.user, &self.keys);
                let (random, now) = (&mut random, SystemTime::now().into());
                let mut around = Surroundings { buffers, users, keys, random, now };
                endpoint.borrow_mut().carry_out(output, &mut around, &mut outbox);
                outbox.events.drain(..).for_each(|event| self.step(event));
                for frame in outbox.frames.drain(..) {
                    writer.write_all(&frame).await?;
                }
            }
            Ok(())
        };
        let _ended: io::Result<()> = smol::future::or(read, write).await;
        self.connections.borrow_mut().remove(&connection);
        self.step(Event::Disconnected { connection });
        std::iter::from_fn(|| outputs.try_recv().ok()).for_each(|output| output.discard(&*self.buffers));
    }
}

fn random(bytes: &mut [u8]) {
    std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(bytes)).expect("random numbers");
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, directory, user, password] = arguments.as_slice() else {
        return Err("usage: embed ADDR:PORT DIRECTORY USER PASSWORD".into());
    };
    let blocking = |work| smol::unblock(work).detach();
    let volume = Posix::new(directory.as_ref(), Default::default(), Arc::new(blocking))?;
    let mut server_guid = [0; 16];
    random(&mut server_guid);
    let share = Share::new(ShareId(1), "share", VolumeId(1), volume.caps());
    let (late, completions) = channel::unbounded();
    let server = Rc::new(Server {
        executor: LocalExecutor::new(),
        shard: RefCell::new(Shard::new(ShardId(0), Shared::new(Config::new(server_guid, 1, vec![share])))),
        buffers: Arc::default(),
        volume,
        user: OneUser::new(user, password),
        keys: KeyRing::default(),
        late,
        connections: RefCell::default(),
    });
    smol::block_on(server.executor.run(async {
        let core = Rc::clone(&server);
        server.executor.spawn(completions.for_each(move |event| core.step(event))).detach();
        let listener = net::TcpListener::bind(address).await?;
        println!("listening on {}", listener.local_addr()?);
        for number in 1.. {
            let (stream, from) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let id = ConnectionId::new(ShardId(0), number);
            server.executor.spawn(Rc::clone(&server).serve(id, from.ip().into(), stream)).detach();
        }
        Ok(())
    }))
}
