//! The volume of named pipes.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::task::Poll;

use bytes::Bytes;
use smb_proto::rpc::client::Event;
use smb_proto::rpc::{PipeClient, ServerDescription, Service, ShareDescription, srvsvc};
use smb_proto::{FileTime, Name, NtStatus, Payload};
use smb_state::ids::{ConnectionId, Handle, SessionId, ShareId, VolumeId};
use smb_state::storage::{Kind, Requester, StorageOp, StorageReply};
use storage::conformance::Client;
use storage::driver::{Completion, Driver};
use storage::pipes::{PipeEnvironment, Pipes};

struct Facts(Mutex<Arc<ServerDescription>>);

impl PipeEnvironment for Facts {
    fn description(&self, _requester: &Requester) -> Arc<ServerDescription> {
        Arc::clone(&self.0.lock().unwrap())
    }

    fn now(&self) -> FileTime {
        FileTime::from_unix(1_700_000_000, 0)
    }
}

fn shares(names: &[String]) -> Arc<ServerDescription> {
    let share =
        |name: &String| ShareDescription { name: name.as_str().into(), ..ShareDescription::default() };
    Arc::new(ServerDescription { shares: names.iter().map(share).collect(), ..ServerDescription::default() })
}

fn pipes(names: &[String]) -> (Arc<Facts>, Arc<Pipes>, Client) {
    let facts = Arc::new(Facts(Mutex::new(shares(names))));
    let driver = Arc::new(Pipes::new(Arc::clone(&facts) as Arc<dyn PipeEnvironment>));
    (facts, Arc::clone(&driver), Client::new(driver))
}

/// Submits without waiting.
fn submit(
    driver: &Pipes,
    op: StorageOp<Bytes>,
) -> (Poll<StorageReply<Payload>>, Receiver<StorageReply<Payload>>) {
    let (sender, receiver) = channel();
    let requester = Requester {
        volume: VolumeId(1),
        session: SessionId(1),
        connection: ConnectionId(1),
        share: ShareId(1),
    };
    let poll = driver.submit(&requester, op, &mut || {
        let sender = sender.clone();
        Completion::new(move |reply| sender.send(reply).unwrap())
    });
    (poll, receiver)
}

/// Asks through FSCTL_PIPE_TRANSCEIVE with room for `length_max` bytes, and reads the rest.
fn transceive(
    client: &Client,
    rpc: &mut PipeClient,
    handle: Handle,
    request: &[u8],
    length_max: u32,
) -> Vec<Event> {
    let mut events = Vec::new();
    let buffer = Bytes::copy_from_slice(request);
    let length = buffer.len() as u32;
    let mut reply = client.call(StorageOp::Transceive { handle, buffer, length, length_max });
    loop {
        match reply {
            StorageReply::Read { buffer, .. } | StorageReply::ReadPartly { buffer, .. } => {
                assert!(!buffer.is_empty() && buffer.len() <= length_max as usize);
                rpc.input(buffer.data(), &mut events).unwrap();
            }
            other => panic!("{other:?}"),
        }
        if !events.is_empty() {
            return events;
        }
        reply = client.call(StorageOp::Read { handle, offset: 0, length: length_max });
    }
}

fn listed(client: &Client, length_max: u32) -> Vec<String> {
    let pipe = client.find("SrvSvc");
    assert_eq!((pipe.attributes.kind, pipe.name.to_string()), (Kind::Pipe, "srvsvc".into()));
    assert!(client.open(pipe.handle, true, true).is_ok());
    let mut rpc = PipeClient::new(Service::Srvsvc, 4280);
    let mut request = Vec::new();
    rpc.bind(&mut request);
    assert_eq!(transceive(client, &mut rpc, pipe.handle, &request, length_max), [Event::Bound]);
    let arguments = srvsvc::ShareEnum {
        server_name: Some("server".into()),
        level: 1,
        preferred_length_max: srvsvc::MAX_PREFERRED_LENGTH,
        resume_handle: Some(0),
    };
    request.clear();
    rpc.call(srvsvc::opnum::SHARE_ENUM, &arguments.emit(), &mut request);
    let events = transceive(client, &mut rpc, pipe.handle, &request, length_max);
    let [Event::Response { stub, .. }] = &events[..] else { panic!("{events:?}") };
    let reply = srvsvc::ShareEnumReply::parse(stub).unwrap();
    client.close(pipe.handle);
    reply.shares.unwrap().iter().map(|share| share.name.as_ref().unwrap().to_string()).collect()
}

#[test]
fn shares_are_listed_whatever_the_size_of_reads() {
    let names: Vec<String> = (0..300).map(|number| format!("share{number}")).collect();
    let (facts, driver, client) = pipes(&names);
    for length_max in [16, 100, 1024, 4280, 65536] {
        assert_eq!(listed(&client, length_max), names, "{length_max}");
    }
    *facts.0.lock().unwrap() = shares(&["new".into()]);
    assert_eq!(listed(&client, 4280), ["new"], "a reload shows");
    assert_eq!(driver.handles_open(), 0);
}

#[test]
fn reads_wait_for_data() {
    let (_, driver, client) = pipes(&[]);
    let pipe = client.find("wkssvc");
    let handle = pipe.handle;
    let (first, answer) = submit(&driver, StorageOp::Read { handle, offset: 0, length: 24 });
    let (second, rest) = submit(&driver, StorageOp::Read { handle, offset: 0, length: 4096 });
    assert_eq!((first, second), (Poll::Pending, Poll::Pending));
    let mut request = Vec::new();
    PipeClient::new(Service::Wkssvc, 4280).bind(&mut request);
    assert_eq!(client.write(handle, 0, &request[..10]), Ok(10));
    assert!(answer.try_recv().is_err(), "half a request has no answer");
    assert_eq!(client.write(handle, 0, &request[10..]), Ok(request.len() - 10));
    let StorageReply::ReadPartly { length: 24, .. } = answer.try_recv().unwrap() else { panic!("24 bytes") };
    assert!(matches!(rest.try_recv(), Ok(StorageReply::Read { .. })));
    client.close(handle);
}

#[test]
fn closing_answers_reads_that_wait() {
    let (_, driver, client) = pipes(&[]);
    let pipe = client.find("srvsvc");
    let (poll, answer) = submit(&driver, StorageOp::Read { handle: pipe.handle, offset: 0, length: 10 });
    assert_eq!(poll, Poll::Pending);
    let buffer = Bytes::from_static(b"x");
    let busy = StorageOp::Transceive { handle: pipe.handle, buffer, length: 1, length_max: 10 };
    assert_eq!(client.call(busy), StorageReply::Failed(NtStatus::PIPE_BUSY));
    client.close(pipe.handle);
    assert_eq!(answer.try_recv(), Ok(StorageReply::Failed(NtStatus::PIPE_BROKEN)));
}

#[test]
fn reads_that_wait_are_bounded() {
    let (_, driver, client) = pipes(&[]);
    let pipe = client.find("srvsvc");
    let waiting: Vec<_> = (0..100)
        .map(|_| submit(&driver, StorageOp::Read { handle: pipe.handle, offset: 0, length: 10 }))
        .collect();
    let refused = Poll::Ready(StorageReply::Failed(NtStatus::INSUFFICIENT_RESOURCES));
    assert_eq!(waiting.iter().filter(|(poll, _)| *poll == refused).count(), 68);
    client.close(pipe.handle);
}

#[test]
fn nonsense_breaks_the_pipe() {
    let (_, _, client) = pipes(&[]);
    let pipe = client.find("srvsvc");
    assert_eq!(client.write(pipe.handle, 0, &[0xFF; 100]), Err(NtStatus::PIPE_DISCONNECTED));
    assert_eq!(client.write(pipe.handle, 0, b"x"), Err(NtStatus::PIPE_DISCONNECTED));
    let mut last = Ok(Vec::new());
    for _ in 0..3 {
        last = client.read(pipe.handle, 0, 4096);
    }
    assert_eq!(last, Err(NtStatus::PIPE_DISCONNECTED));
    client.close(pipe.handle);
}

#[test]
fn only_the_services_have_pipes() {
    let (_, _, client) = pipes(&[]);
    for path in ["lsarpc", "srvsvc2", "srvsvc\\x", "srvsvc:stream"] {
        assert_eq!(client.resolve(path), Err(NtStatus::OBJECT_NAME_NOT_FOUND), "{path}");
    }
    let root = client.find("");
    assert_eq!(root.attributes.kind, Kind::Directory);
    assert_eq!(client.read(root.handle, 0, 1), Err(NtStatus::INVALID_DEVICE_REQUEST));
    assert_eq!(
        client.create_with(root.handle, &Name::from("x"), Kind::File, Default::default()),
        Err(NtStatus::INVALID_DEVICE_REQUEST)
    );
    client.close(root.handle);
    assert!(client.caps().pipes);
}

#[test]
fn a_pipe_tells_what_waits_in_it() {
    let (_facts, _driver, client) = pipes(&[]);
    let handle = client.find("srvsvc").handle;
    assert!(client.open(handle, true, true).is_ok());
    let state = || match client.call(StorageOp::PipeState { handle }) {
        StorageReply::Pipe(state) => state,
        other => panic!("{other:?}"),
    };
    let idle = state();
    assert_eq!((idle.readable, idle.is_broken, idle.writable), (0, false, idle.inbound_quota));
    let mut request = Vec::new();
    PipeClient::new(Service::Srvsvc, 4280).bind(&mut request);
    assert_eq!(client.write(handle, 0, &request), Ok(request.len()));
    let waiting = state().readable;
    assert!(waiting > 0);
    let answer = client.read(handle, 0, 4280).unwrap();
    assert_eq!((answer.len(), state().readable), (waiting as usize, 0));
    assert!(client.write(handle, 0, &[0xFF; 64]).is_err());
    assert!(state().is_broken && state().writable == 0);
    client.close(handle);
}
