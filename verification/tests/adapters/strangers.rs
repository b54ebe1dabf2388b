//! A server as its peers see it: what connections may cost, and what is left when it stops.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use runtime::{Bounds, Cores, Running};
use smb_proto::command::echo;
use smb_proto::command::negotiate::{self, Dialect};
use smb_proto::header::{CommandCode, Flags, Header, Routing};
use smb_proto::{NtStatus, frame};
use smb_state::config::Limits;

use crate::{PATIENCE, Start, config, wait_until};

fn connect(server: &dyn Running) -> TcpStream {
    let stream = TcpStream::connect(server.addresses()[0]).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn frame_of(command: CommandCode, message_id: u64, emit: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let header = Header {
        credit_charge: 0,
        status: NtStatus::SUCCESS,
        command: command.code(),
        credits: 1,
        flags: Flags::default(),
        next_command: 0,
        message_id,
        routing: Routing::Sync { process_id: 0, tree_id: 0 },
        session_id: 0,
        signature: [0; 16],
    };
    let mut message = Vec::new();
    header.emit(&mut message);
    emit(&mut message);
    [&frame::prefix(message.len()).unwrap()[..], &message].concat()
}

/// A NEGOTIATE request for 2.1, with its prefix.
fn negotiate_frame() -> Vec<u8> {
    let request = negotiate::Request {
        security_mode: negotiate::SecurityMode::SIGNING_ENABLED,
        capabilities: negotiate::Capabilities::default(),
        client_guid: [9; 16],
        dialects: vec![Dialect::SMB_2_1],
        contexts: Vec::new(),
    };
    frame_of(CommandCode::Negotiate, 0, |out| request.emit(out))
}

fn read_frame(stream: &mut TcpStream) -> Vec<u8> {
    let mut prefix = [0; 4];
    stream.read_exact(&mut prefix).unwrap();
    let mut message = vec![0; frame::length(prefix, frame::LENGTH_MAX).unwrap()];
    stream.read_exact(&mut message).unwrap();
    message
}

/// The server closes the connection, sending nothing.
fn assert_closed(mut stream: TcpStream) {
    let mut byte = [0];
    match stream.read(&mut byte) {
        Ok(0) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        other => panic!("still open: {other:?}"),
    }
}

pub(crate) fn requests_are_answered_however_they_are_cut(start: Start) {
    let server = start(config(Limits::default(), Bounds::default())).unwrap();
    let frame = negotiate_frame();
    for step in [1, 3, 50, frame.len()] {
        let mut stream = connect(&*server);
        stream.set_nodelay(true).unwrap();
        for chunk in frame.chunks(step) {
            stream.write_all(chunk).unwrap();
        }
        let message = read_frame(&mut stream);
        let header = Header::parse(&message).unwrap();
        assert_eq!((header.status, header.command), (NtStatus::SUCCESS, CommandCode::Negotiate.code()));
        // A client that checks signatures over its own form of the header has 0 where nothing is (MS-SMB2 2.2.1.2).
        assert_eq!(header.routing, Routing::Sync { process_id: 0, tree_id: 0 });
    }
    let metrics = server.metrics();
    assert_eq!((metrics.connections_accepted, metrics.requests), (4, 4));
    assert_eq!(metrics.bytes_received, 4 * frame.len() as u64);
    wait_until("the end of every connection", || server.metrics().connections_open == 0);
    assert_eq!(server.shutdown(PATIENCE), Default::default());
}

/// A client that writes the length and the message apart and leaves Nagle's algorithm on, as some do. Without an
/// acknowledgement of the length at once, each request takes the 40 ms that the kernel waits with it.
pub(crate) fn a_client_that_sends_the_length_apart_does_not_wait(start: Start) {
    const EXCHANGES: u64 = 50;
    let server = start(config(Limits::default(), Bounds::default())).unwrap();
    let mut stream = connect(&*server);
    let mut exchange = |frame: &[u8]| {
        stream.write_all(&frame[..4]).unwrap();
        stream.write_all(&frame[4..]).unwrap();
        read_frame(&mut stream);
    };
    exchange(&negotiate_frame());
    let begin = Instant::now();
    for message_id in 1..=EXCHANGES {
        exchange(&frame_of(CommandCode::Echo, message_id, |out| echo::Request.emit(out)));
    }
    let each = begin.elapsed() / u32::try_from(EXCHANGES).unwrap();
    assert!(each < Duration::from_millis(20), "{each:?} each");
    assert_eq!(server.shutdown(PATIENCE), Default::default());
}

pub(crate) fn what_is_no_frame_ends_the_connection(start: Start) {
    let server = start(config(Limits::default(), Bounds::default())).unwrap();
    for garbage in
        [&[0x81, 0, 0, 4, 1, 2, 3, 4][..], &[0, 0xFF, 0xFF, 0xFF], &[0, 0, 0, 4, b'G', b'E', b'T', b' ']]
    {
        let mut stream = connect(&*server);
        stream.write_all(garbage).unwrap();
        assert_closed(stream);
    }
    assert_eq!(server.shutdown(PATIENCE), Default::default());
}

pub(crate) fn a_peer_that_does_not_authenticate_is_not_kept(start: Start) {
    let limits = Limits { authentication_timeout_ms: 100, ..Limits::default() };
    let server = start(config(limits, Bounds::default())).unwrap();
    let silent = connect(&*server);
    let mut negotiated = connect(&*server);
    negotiated.write_all(&negotiate_frame()).unwrap();
    read_frame(&mut negotiated);
    assert_closed(silent);
    assert_closed(negotiated);
    assert_eq!(server.shutdown(PATIENCE), Default::default());
}

pub(crate) fn strangers_share_a_bound_on_memory(start: Start) {
    let bounds = Bounds { unauthenticated_bytes_max: 64 << 10, ..Bounds::default() };
    let server = start(config(Limits::default(), bounds)).unwrap();
    let part_of_a_frame = [&[0, 0, 0x40, 0][..], &[7; 10_000]].concat();
    let mut streams = Vec::new();
    for _ in 0..20 {
        let mut stream = connect(&*server);
        stream.write_all(&part_of_a_frame).unwrap();
        streams.push(stream);
        let sent = streams.len() as u64;
        let begun = Instant::now();
        while server.metrics().bytes_received != sent * part_of_a_frame.len() as u64 {
            assert!(begun.elapsed() < PATIENCE, "{sent} peers, {:?}", server.metrics());
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    wait_until("the refusal of some", || server.metrics().unauthenticated_overflows >= 12);
    assert!(server.metrics().connections_open >= 3, "those within the bound stay");
    drop(streams);
    wait_until("the end of every connection", || server.metrics().connections_open == 0);
    let mut stream = connect(&*server);
    stream.write_all(&part_of_a_frame).unwrap();
    wait_until("reading", || server.metrics().bytes_received == 21 * part_of_a_frame.len() as u64);
    assert_eq!(server.metrics().connections_open, 1, "the memory of the others is given back");
    drop(stream);
    assert_eq!(server.shutdown(PATIENCE), Default::default());
}

pub(crate) fn a_peer_that_takes_nothing_costs_bounded_memory_and_time(start: Start) {
    let bounds =
        Bounds { unsent_max: 64 << 10, write_timeout: Duration::from_millis(300), ..Bounds::default() };
    let server = start(config(Limits::default(), bounds)).unwrap();
    let mut stream = connect(&*server);
    socket2::SockRef::from(&stream).set_recv_buffer_size(4096).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&negotiate_frame()).unwrap();
    let mut sent = 0_usize;
    for first in (1..).step_by(100) {
        let echoes: Vec<u8> = (first..first + 100)
            .flat_map(|message_id| frame_of(CommandCode::Echo, message_id, |out| echo::Request.emit(out)))
            .collect();
        if stream.write_all(&echoes).is_err() {
            break;
        }
        sent += echoes.len();
    }
    wait_until("giving up", || server.metrics().connections_open == 0);
    let metrics = server.metrics();
    assert_eq!(metrics.write_timeouts, 1);
    // What the kernel holds of the answers, and 64 KiB and one turn of the server's own.
    let received = usize::try_from(metrics.bytes_received).unwrap();
    let waiting = received - usize::try_from(metrics.bytes_sent).unwrap();
    assert!(received < sent + (32 << 20) && waiting < 1 << 20, "{received} received, {waiting} not answered");
    assert_eq!(server.shutdown(PATIENCE), Default::default());
}

pub(crate) fn connections_are_spread_over_cores_and_stopping_ends_them(start: Start) {
    let server = start(config(Limits::default(), Bounds::default())).unwrap();
    let mut streams: Vec<TcpStream> = (0..8).map(|_| connect(&*server)).collect();
    for stream in &mut streams {
        stream.write_all(&negotiate_frame()).unwrap();
        read_frame(stream);
    }
    let address = server.addresses()[0];
    let begun = Instant::now();
    assert_eq!(server.shutdown(PATIENCE), Default::default());
    assert!(begun.elapsed() < PATIENCE / 2, "peers that do nothing don't hold up the end");
    streams.into_iter().for_each(assert_closed);
    assert!(TcpStream::connect(address).is_err());
}

pub(crate) fn a_dropped_handle_stops_the_server(start: Start) {
    let server = start(config(Limits::default(), Bounds::default())).unwrap();
    let stream = connect(&*server);
    let address = server.addresses()[0];
    drop(server);
    assert_closed(stream);
    assert!(TcpStream::connect(address).is_err());
}

/// One connection that always has requests waiting does not keep another of the same core from its answers.
pub(crate) fn a_flood_leaves_others_their_turn(start: Start) {
    let mut config = config(Limits::default(), Bounds::default());
    (config.core.shards, config.cores) = (1, Cores::Count(1));
    let server = start(config).unwrap();
    let mut flood = connect(&*server);
    flood.write_all(&negotiate_frame()).unwrap();
    read_frame(&mut flood);
    let mut answers = flood.try_clone().unwrap();
    let reader =
        std::thread::spawn(move || while answers.read(&mut [0; 65_536]).is_ok_and(|length| length > 0) {});
    let writer = std::thread::spawn(move || {
        // Refused one by one, for want of a session and of credits, until the server ends the connection.
        for first in (1..).step_by(100) {
            let echoes: Vec<u8> = (first..first + 100)
                .flat_map(|message_id| frame_of(CommandCode::Echo, message_id, |out| echo::Request.emit(out)))
                .collect();
            if flood.write_all(&echoes).is_err() {
                return;
            }
        }
    });
    let begun = Instant::now();
    for _ in 0..50 {
        let mut stream = connect(&*server);
        stream.write_all(&negotiate_frame()).unwrap();
        read_frame(&mut stream);
    }
    assert!(begun.elapsed() < PATIENCE / 2, "{:?} for 50 answers", begun.elapsed());
    assert_eq!(server.shutdown(Duration::ZERO).buffers, 0);
    reader.join().unwrap();
    writer.join().unwrap();
}

pub(crate) fn a_port_in_use_is_an_error_and_leaves_nothing_behind(start: Start) {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = config(Limits::default(), Bounds::default());
    config.listen.push(taken.local_addr().unwrap());
    let error = start(config).err().expect("the port is taken");
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
}

pub(crate) fn cores_can_be_bound_to_processors_that_exist(start: Start) {
    let mut absent = config(Limits::default(), Bounds::default());
    absent.cores = Cores::Pinned(vec![0, 1000]);
    assert_eq!(start(absent).err().expect("there is no such processor").kind(), ErrorKind::InvalidInput);
    let mut bound = config(Limits::default(), Bounds::default());
    bound.cores = Cores::Pinned(vec![0]);
    let server = start(bound).unwrap();
    let mut stream = connect(&*server);
    stream.write_all(&negotiate_frame()).unwrap();
    read_frame(&mut stream);
    assert_eq!(server.shutdown(PATIENCE), Default::default());
}
