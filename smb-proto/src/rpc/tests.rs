//! Both ends of a pipe against each other, layouts byte by byte, and hostile clients.

use super::client::Event;
use super::pdu::{
    Bind, BindAck, BindNak, Body, ContextAnswer, ContextElement, ContextResult, FRAGMENT_MAX, FRAGMENT_MIN,
    Fault, FaultStatus, NakReason, Packet, PacketFlags, PacketType, RejectionReason, Request, Response,
    SyntaxId, Uuid,
};
use super::server::{CONTEXTS_MAX, OUTPUT_MAX, REQUEST_STUB_MAX};
use super::srvsvc::{self, ShareInfo, ShareType};
use super::*;
use crate::time::FileTime;

const NOW: FileTime = FileTime(133_500_000_000_000_000);

fn description(shares: usize) -> ServerDescription {
    let disks = (0..shares).map(|number| ShareDescription {
        name: Name::from(format!("share{number}").as_str()),
        remark: Name::from("x".repeat(number % 7).as_str()),
        flags: 0x30,
        ..ShareDescription::default()
    });
    let ipc = ShareDescription {
        name: Name::from("IPC$"),
        kind: ShareType::IPC.with(ShareType::SPECIAL),
        security_descriptor: vec![1, 0, 4, 0x80, 5],
        ..ShareDescription::default()
    };
    ServerDescription {
        server_name: Name::from("LEASE"),
        domain: Name::from("WORKGROUP"),
        comment: Name::from("files"),
        version_major: 10,
        version_minor: 0,
        shares: disks.chain([ipc]).collect(),
        ..ServerDescription::default()
    }
}

struct Pipe {
    client: PipeClient,
    server: PipeServer,
    description: ServerDescription,
}

impl Pipe {
    fn bound(service: Service, fragment_max: u16, description: ServerDescription) -> Self {
        let client = PipeClient::new(service, fragment_max);
        let mut pipe = Self { client, server: PipeServer::new(service, 7), description };
        let mut bytes = Vec::new();
        pipe.client.bind(&mut bytes);
        assert_eq!(pipe.exchange(&bytes), [Event::Bound]);
        pipe
    }

    fn exchange(&mut self, bytes: &[u8]) -> Vec<Event> {
        let mut out = Vec::new();
        self.server.input(bytes, &self.description, NOW, &mut out).unwrap();
        let mut events = Vec::new();
        self.client.input(&out, &mut events).unwrap();
        events
    }

    fn call(&mut self, opnum: u16, stub: &[u8]) -> Result<Vec<u8>, FaultStatus> {
        let mut bytes = Vec::new();
        let number = self.client.call(opnum, stub, &mut bytes);
        match self.exchange(&bytes).as_slice() {
            [Event::Response { call_id, stub }] if *call_id == number => Ok(stub.clone()),
            [Event::Fault { call_id, status }] if *call_id == number => Err(*status),
            other => panic!("{other:?}"),
        }
    }

    fn share_enum(
        &mut self,
        opnum: u16,
        level: u32,
        length: u32,
        resume: Option<u32>,
    ) -> srvsvc::ShareEnumReply {
        let arguments = srvsvc::ShareEnum {
            server_name: Some(Name::from("\\\\lease")),
            level,
            preferred_length_max: length,
            resume_handle: resume,
        };
        assert!(
            !srvsvc::is_share_enum_level(level)
                || srvsvc::ShareEnum::parse(&arguments.emit()) == Ok(arguments.clone())
        );
        srvsvc::ShareEnumReply::parse(&self.call(opnum, &arguments.emit()).unwrap()).unwrap()
    }
}

fn names(reply: &srvsvc::ShareEnumReply) -> Vec<String> {
    reply.shares.iter().flatten().map(|share| share.name.as_ref().unwrap().to_string()).collect()
}

#[test]
fn pipe_names_lead_to_services() {
    for (name, expected) in [
        ("srvsvc", Some(Service::Srvsvc)),
        ("\\PIPE\\SrvSvc", Some(Service::Srvsvc)),
        ("pipe\\wkssvc", Some(Service::Wkssvc)),
        ("\\wkssvc", Some(Service::Wkssvc)),
        ("samr", None),
        ("srvsvc2", None),
        ("", None),
    ] {
        assert_eq!(service(&Name::from(name)), expected, "{name}");
    }
}

#[test]
fn five_hundred_shares_pass_through_tiny_fragments() {
    for fragment_max in [FRAGMENT_MIN, 33, 100, 1432, FRAGMENT_MAX] {
        let mut pipe = Pipe::bound(Service::Srvsvc, fragment_max, description(500));
        for level in [0, 1, 2, 501, 502, 503] {
            let reply =
                pipe.share_enum(srvsvc::opnum::SHARE_ENUM, level, srvsvc::MAX_PREFERRED_LENGTH, Some(0));
            assert_eq!((reply.status, reply.entries_total), (Win32Error::SUCCESS, 501));
            let listed = names(&reply);
            assert_eq!(listed.len(), 501);
            assert_eq!((listed[0].as_str(), listed[500].as_str()), ("share0", "IPC$"));
            let last: &ShareInfo = &reply.shares.as_ref().unwrap()[500];
            assert_eq!(last.path, [2, 502, 503].contains(&level).then(Name::default));
            assert_eq!(last.security_descriptor.is_some(), level == 502 || level == 503);
        }
    }
}

#[test]
fn fragments_keep_to_the_clients_size_and_to_eights() {
    let mut pipe = Pipe::bound(Service::Srvsvc, 100, description(20));
    let stub = srvsvc::ShareEnum {
        server_name: None,
        level: 1,
        preferred_length_max: u32::MAX,
        resume_handle: None,
    };
    let (mut bytes, mut out) = (Vec::new(), Vec::new());
    pipe.client.call(srvsvc::opnum::SHARE_ENUM, &stub.emit(), &mut bytes);
    pipe.server.input(&bytes, &pipe.description, NOW, &mut out).unwrap();
    let mut framer = pdu::Framer::default();
    let (mut rest, mut left, mut flags) = (out.as_slice(), None, Vec::new());
    while let Some(fragment) = framer.next(&mut rest).unwrap() {
        assert!(fragment.len() <= 100);
        let packet = Packet::parse(&fragment).unwrap();
        let Body::Response(response) = packet.body else { panic!() };
        assert_eq!(response.allocation_hint, left.unwrap_or(response.allocation_hint));
        assert!(packet.flags.has(PacketFlags::LAST) || response.stub.len() == 72);
        left = Some(response.allocation_hint - u32::try_from(response.stub.len()).unwrap());
        flags.push(packet.flags.0);
    }
    assert_eq!(left, Some(0));
    assert_eq!((flags[0], flags[1], *flags.last().unwrap()), (1, 0, 2));
}

#[test]
fn preferred_length_and_resume_handle_page_through_the_list() {
    let mut pipe = Pipe::bound(Service::Srvsvc, FRAGMENT_MAX, description(30));
    let (mut resume, mut seen) = (0, Vec::new());
    loop {
        let reply = pipe.share_enum(srvsvc::opnum::SHARE_ENUM, 1, 200, Some(resume));
        assert_eq!(reply.entries_total as usize, 31 - seen.len());
        seen.extend(names(&reply));
        if reply.status == Win32Error::SUCCESS {
            assert_eq!(reply.resume_handle, Some(0));
            break;
        }
        assert_eq!(reply.status, Win32Error::MORE_DATA);
        resume = reply.resume_handle.unwrap();
    }
    let all = pipe.share_enum(srvsvc::opnum::SHARE_ENUM, 1, u32::MAX, None);
    assert_eq!(seen, names(&all));
    assert_eq!(all.resume_handle, None);
    let tiny = pipe.share_enum(srvsvc::opnum::SHARE_ENUM, 1, 3, Some(0));
    assert_eq!((tiny.status, names(&tiny).len()), (Win32Error::BUFFER_TOO_SMALL, 0));
    let beyond = pipe.share_enum(srvsvc::opnum::SHARE_ENUM, 1, u32::MAX, Some(u32::MAX));
    assert_eq!((beyond.status, names(&beyond).len(), beyond.entries_total), (Win32Error::SUCCESS, 0, 0));
    let sticky = pipe.share_enum(srvsvc::opnum::SHARE_ENUM_STICKY, 1, u32::MAX, None);
    assert_eq!(names(&sticky).len(), 30);
    for (opnum, level) in [(srvsvc::opnum::SHARE_ENUM_STICKY, 501), (srvsvc::opnum::SHARE_ENUM, 77)] {
        assert_eq!(pipe.share_enum(opnum, level, u32::MAX, None).status, Win32Error::INVALID_LEVEL);
    }
}

#[test]
fn information_of_share_server_and_workstation() {
    let mut pipe = Pipe::bound(Service::Srvsvc, 64, description(3));
    let mut share = |name: &str, level| {
        let arguments = srvsvc::ShareGetInfo { server_name: None, share_name: Name::from(name), level };
        let stub = pipe.call(srvsvc::opnum::SHARE_GET_INFO, &arguments.emit()).unwrap();
        srvsvc::ShareGetInfoReply::parse(&stub).unwrap()
    };
    for level in [0, 1, 2, 501, 502, 503] {
        assert_eq!(share("SHARE1", level).share.unwrap().name, Some(Name::from("share1")));
    }
    assert_eq!(share("share1", 1005).share.unwrap().flags, 0x30);
    assert_eq!(share("share1", 2).share.unwrap().uses_max, u32::MAX);
    for (name, level, status) in [
        ("nope", 1, Win32Error::NET_NAME_NOT_FOUND),
        ("", 1, Win32Error::INVALID_PARAMETER),
        ("share1", 3, Win32Error::INVALID_LEVEL),
        ("share1", 1004, Win32Error::INVALID_LEVEL),
    ] {
        let reply = share(name, level);
        assert_eq!((reply.status, reply.share), (status, None));
    }
    let mut server = |level| {
        let stub =
            pipe.call(srvsvc::opnum::SERVER_GET_INFO, &srvsvc::GetInfo { server_name: None, level }.emit());
        srvsvc::ServerGetInfoReply::parse(&stub.unwrap()).unwrap()
    };
    for level in [100, 101, 102] {
        let info = server(level).server.unwrap();
        assert_eq!((info.platform_id, info.name), (500, Some(Name::from("LEASE"))));
        assert_eq!(info.comment, (level > 100).then(|| Name::from("files")));
        assert_eq!(info.user_path, (level > 101).then(Name::default));
    }
    assert_eq!(server(503).status, Win32Error::ACCESS_DENIED);
    assert_eq!(server(1556).status, Win32Error::INVALID_LEVEL);
    assert_eq!(server(9).status, Win32Error::INVALID_LEVEL);
    let time = pipe.call(srvsvc::opnum::REMOTE_TOD, &[0; 4]).unwrap();
    assert_eq!(srvsvc::RemoteTimeOfDayReply::parse(&time).unwrap().time.unwrap().year, 2024);
    let name = srvsvc::NameValidate { server_name: None, name: Name::from("a|b"), name_type: 9, flags: 0 };
    assert_eq!(srvsvc::NameValidate::parse(&name.emit()), Ok(name.clone()));
    assert_eq!(pipe.call(srvsvc::opnum::NAME_VALIDATE, &name.emit()), Ok(vec![123, 0, 0, 0]));

    let mut pipe = Pipe::bound(Service::Wkssvc, FRAGMENT_MAX, description(0));
    for (level, status) in [(100, 0), (101, 0), (102, 5), (502, 5), (1013, 124), (7, 124)] {
        let stub = pipe.call(0, &wkssvc::GetInfo { server_name: None, level }.emit()).unwrap();
        let reply = wkssvc::WorkstationGetInfoReply::parse(&stub).unwrap();
        assert_eq!((reply.status.0, reply.workstation.is_some()), (status, status == 0));
        if let Some(info) = reply.workstation {
            assert_eq!((info.domain, info.version_major), (Some(Name::from("WORKGROUP")), 10));
        }
    }
    assert_eq!(pipe.call(1, &[]), Err(FaultStatus::OPERATION_RANGE));
}

#[test]
fn what_others_do_is_not_told() {
    let mut pipe = Pipe::bound(Service::Srvsvc, FRAGMENT_MAX, description(1));
    for (opnum, level, arm) in [(8, 1, true), (9, 3, true), (12, 10, true), (12, 99, false)] {
        let arguments = srvsvc::ActivityEnum { level, resume_handle: Some(0) };
        let stub = pipe.call(opnum, &arguments.emit(opnum)).unwrap();
        let words: Vec<u32> = stub.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)).collect();
        let expected =
            if arm { vec![level, level, 0, 0, 0x0002_0000, 0, 5] } else { vec![level, level, 0, 0, 124] };
        assert_eq!(words, expected);
    }
    for opnum in [11, 13, 18, 19] {
        assert_eq!(pipe.call(opnum, &[]), Ok(vec![5, 0, 0, 0]));
    }
    for opnum in [0, 7, 31, 58, u16::MAX] {
        assert_eq!(pipe.call(opnum, &[0; 64]), Err(FaultStatus::OPERATION_RANGE));
    }
    assert_eq!(pipe.call(srvsvc::opnum::SHARE_ENUM, &[]), Err(FaultStatus::BAD_STUB_DATA));
}

#[test]
fn layout_of_share_enum_byte_by_byte() {
    let share = ShareInfo {
        name: Some(Name::from("a")),
        kind: ShareType::IPC,
        remark: Some(Name::from("")),
        ..ShareInfo::default()
    };
    let reply = srvsvc::ShareEnumReply {
        level: 1,
        shares: Some(vec![share]),
        entries_total: 1,
        resume_handle: Some(0),
        status: Win32Error::SUCCESS,
    };
    let words: Vec<u32> = vec![
        1,
        1,
        0x0002_0000, // level, tag, container
        1,
        0x0002_0004,
        1, // entries, array, its size
        0x0002_0008,
        3,
        0x0002_000C, // name, type, remark
        2,
        0,
        2,
        0x0000_0061, // "a"
        1,
        0,
        1,
        0, // "" and padding
        1,
        0x0002_0010,
        0,
        0, // total, resume handle, status
    ];
    let expected: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    assert_eq!(reply.emit(), expected);
    assert_eq!(srvsvc::ShareEnumReply::parse(&expected), Ok(reply));
    for length in 0..expected.len() {
        assert!(srvsvc::ShareEnumReply::parse(&expected[..length]).is_err());
    }
}

fn element(context_id: u16, transfer_syntax: SyntaxId) -> ContextElement {
    let abstract_syntax = Service::Srvsvc.interface();
    ContextElement { context_id, abstract_syntax, transfer_syntaxes: vec![transfer_syntax] }
}

fn emit(packet: &Packet) -> Vec<u8> {
    let mut out = Vec::new();
    packet.emit(&mut out);
    out
}

fn bind_packet(contexts: Vec<ContextElement>) -> Packet {
    let bind =
        Bind { transmit_fragment_max: 5840, receive_fragment_max: 5840, association_group_id: 0, contexts };
    Packet { flags: PacketFlags::WHOLE, call_id: 2, body: Body::Bind(bind) }
}

fn feed(server: &mut PipeServer, bytes: &[u8]) -> (Vec<Packet>, bool) {
    let mut out = Vec::new();
    let is_fine = server.input(bytes, &description(1), NOW, &mut out).is_ok();
    let (mut framer, mut rest, mut packets) = (pdu::Framer::default(), out.as_slice(), Vec::new());
    while let Some(pdu) = framer.next(&mut rest).unwrap() {
        packets.push(Packet::parse(&pdu).unwrap());
    }
    (packets, is_fine)
}

#[test]
fn contexts_are_answered_one_by_one() {
    let mut foreign = element(3, SyntaxId::NDR);
    foreign.abstract_syntax = Service::Wkssvc.interface();
    let mut server = PipeServer::new(Service::Srvsvc, 0x1234);
    let contexts = vec![
        element(0, SyntaxId::NDR),
        element(1, SyntaxId::NDR64),
        element(2, SyntaxId::features(3)),
        foreign,
    ];
    let (packets, _) = feed(&mut server, &emit(&bind_packet(contexts)));
    let [Packet { flags: PacketFlags::WHOLE, call_id: 2, body: Body::BindAck(ack) }] = packets.as_slice()
    else {
        panic!("{packets:?}")
    };
    assert_eq!((ack.transmit_fragment_max, ack.association_group_id), (FRAGMENT_MAX, 0x1234));
    assert_eq!(ack.secondary_address, b"\\PIPE\\srvsvc");
    let answer = |result, reason, transfer_syntax| ContextAnswer { result, reason, transfer_syntax };
    let none = SyntaxId::default();
    let expected = [
        answer(ContextResult::ACCEPTANCE, RejectionReason::NOT_SPECIFIED, SyntaxId::NDR),
        answer(ContextResult::PROVIDER_REJECTION, RejectionReason::TRANSFER_SYNTAXES_NOT_SUPPORTED, none),
        answer(ContextResult::NEGOTIATE_ACK, RejectionReason(2), none),
        answer(ContextResult::PROVIDER_REJECTION, RejectionReason::ABSTRACT_SYNTAX_NOT_SUPPORTED, none),
    ];
    assert_eq!(ack.answers, expected);
    let offered = (10..200).map(|number| element(number, SyntaxId::NDR)).take(90).collect();
    let Body::Bind(more) = bind_packet(offered).body else { panic!() };
    let alter = Packet { flags: PacketFlags::WHOLE, call_id: 3, body: Body::AlterContext(more) };
    let (packets, _) = feed(&mut server, &emit(&alter));
    let [Packet { body: Body::AlterContextResponse(ack), .. }] = packets.as_slice() else {
        panic!("{packets:?}")
    };
    let accepted = ack.answers.iter().filter(|answer| answer.result == ContextResult::ACCEPTANCE).count();
    assert_eq!(accepted, CONTEXTS_MAX - 1);
    assert!(ack.secondary_address.is_empty());
}

#[test]
fn binds_that_cannot_be_served_are_refused() {
    let good = bind_packet(vec![element(0, SyntaxId::NDR)]);
    let refused = |bytes: &[u8], reason, fine| {
        let (packets, is_fine) = feed(&mut PipeServer::new(Service::Srvsvc, 1), bytes);
        let nak = Body::BindNak(BindNak { reason, versions: vec![(5, 0)] });
        assert_eq!(packets.iter().map(|packet| &packet.body).collect::<Vec<_>>(), [&nak]);
        assert_eq!(is_fine, fine);
    };
    let mut version = emit(&good);
    version[0] = 4;
    refused(&version, NakReason::PROTOCOL_VERSION_NOT_SUPPORTED, false);
    let mut authenticated = emit(&good);
    authenticated.extend_from_slice(&[10, 2, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]);
    let length = u16::try_from(authenticated.len()).unwrap();
    authenticated[8..10].copy_from_slice(&length.to_le_bytes());
    authenticated[10] = 4;
    assert_eq!(Packet::parse(&authenticated), Ok(good.clone()));
    refused(&authenticated, NakReason::AUTHENTICATION_TYPE_NOT_RECOGNIZED, true);
    let mut split = good.clone();
    split.flags = PacketFlags::FIRST;
    refused(&emit(&split), NakReason::NOT_SPECIFIED, false);
    let Body::Bind(mut tiny) = good.body.clone() else { panic!() };
    tiny.receive_fragment_max = FRAGMENT_MIN - 1;
    refused(&emit(&Packet { body: Body::Bind(tiny), ..good.clone() }), NakReason::NOT_SPECIFIED, false);

    let mut server = PipeServer::new(Service::Srvsvc, 1);
    assert!(feed(&mut server, &emit(&bind_packet(vec![element(0, SyntaxId::NDR64)]))).1);
    assert!(feed(&mut server, &emit(&good)).1);
    assert!(!feed(&mut server, &emit(&good)).1);
    assert!(!feed(&mut server, &emit(&good)).1, "a broken pipe stays broken");
}

fn request(flags: PacketFlags, call_id: u32, context_id: u16, stub: Vec<u8>) -> Vec<u8> {
    let request = Request { allocation_hint: u32::MAX, context_id, opnum: 15, object: None, stub };
    emit(&Packet { flags, call_id, body: Body::Request(request) })
}

#[test]
fn calls_out_of_turn_fault() {
    let bound = || {
        let mut server = PipeServer::new(Service::Srvsvc, 1);
        assert!(feed(&mut server, &emit(&bind_packet(vec![element(0, SyntaxId::NDR)]))).1);
        server
    };
    let faults = |server: &mut PipeServer, bytes: &[u8], status, fine| {
        let (packets, is_fine) = feed(server, bytes);
        let Some(Packet { body: Body::Fault(Fault { status: given, .. }), .. }) = packets.last() else {
            panic!("{packets:?}")
        };
        assert_eq!((*given, is_fine), (status, fine));
    };
    let whole = request(PacketFlags::WHOLE, 5, 0, vec![]);
    faults(&mut PipeServer::new(Service::Srvsvc, 1), &whole, FaultStatus::PROTOCOL_ERROR, false);
    faults(&mut bound(), &request(PacketFlags::WHOLE, 5, 9, vec![]), FaultStatus::UNKNOWN_INTERFACE, true);
    faults(&mut bound(), &request(PacketFlags::LAST, 5, 0, vec![]), FaultStatus::PROTOCOL_ERROR, false);
    let first = request(PacketFlags::FIRST, 5, 0, vec![0; 8]);
    let mut server = bound();
    assert_eq!(feed(&mut server, &first), (vec![], true));
    faults(
        &mut server.clone(),
        &request(PacketFlags::LAST, 6, 0, vec![]),
        FaultStatus::PROTOCOL_ERROR,
        false,
    );
    faults(&mut server.clone(), &whole, FaultStatus::PROTOCOL_ERROR, false);
    let orphaned =
        Packet { flags: PacketFlags::WHOLE, call_id: 5, body: Body::Other(PacketType::ORPHANED, vec![]) };
    assert_eq!(feed(&mut server, &emit(&orphaned)), (vec![], true));
    faults(&mut server, &whole, FaultStatus::BAD_STUB_DATA, true);
    let mut server = bound();
    let mut endless = first;
    for _ in 0..=REQUEST_STUB_MAX / 4096 {
        endless.extend(request(PacketFlags::default(), 5, 0, vec![0; 4096]));
    }
    faults(&mut server, &endless, FaultStatus::PROTOCOL_ERROR, false);
}

#[test]
fn output_is_bounded_when_the_client_does_not_read() {
    let mut pipe = Pipe::bound(Service::Srvsvc, FRAGMENT_MAX, description(500));
    let arguments = srvsvc::ShareEnum {
        server_name: None,
        level: 2,
        preferred_length_max: u32::MAX,
        resume_handle: None,
    };
    let mut bytes = Vec::new();
    for _ in 0..2000 {
        pipe.client.call(srvsvc::opnum::SHARE_ENUM, &arguments.emit(), &mut bytes);
    }
    let mut out = Vec::new();
    assert!(pipe.server.input(&bytes, &pipe.description, NOW, &mut out).is_err());
    assert!(out.len() < OUTPUT_MAX + (2 << 20));
}

#[test]
fn pdus_round_trip_and_their_truncations_are_refused() {
    let uuid = Uuid::from_fields(1, 2, 3, [4; 8]);
    let ack = BindAck {
        transmit_fragment_max: 4280,
        receive_fragment_max: 4280,
        association_group_id: 9,
        secondary_address: b"\\PIPE\\x".to_vec(),
        answers: vec![ContextAnswer { transfer_syntax: SyntaxId::NDR, ..ContextAnswer::default() }; 3],
    };
    let Body::Bind(bind) = bind_packet(vec![element(0, SyntaxId::NDR), element(1, SyntaxId::NDR64)]).body
    else {
        panic!()
    };
    let bodies = [
        Body::Bind(bind.clone()),
        Body::AlterContext(bind),
        Body::BindAck(ack.clone()),
        Body::AlterContextResponse(BindAck { secondary_address: Vec::new(), ..ack }),
        Body::BindNak(BindNak { reason: NakReason::LOCAL_LIMIT_EXCEEDED, versions: vec![(5, 0), (5, 1)] }),
        Body::Request(Request {
            allocation_hint: 1,
            context_id: 2,
            opnum: 3,
            object: Some(uuid),
            stub: vec![1, 2],
        }),
        Body::Request(Request { allocation_hint: 1, context_id: 2, opnum: 3, object: None, stub: vec![] }),
        Body::Response(Response { allocation_hint: 1, context_id: 2, cancel_count: 3, stub: vec![5; 9] }),
        Body::Fault(Fault { context_id: 1, cancel_count: 2, status: FaultStatus(3) }),
        Body::Other(PacketType::CANCEL, vec![]),
    ];
    for body in bodies {
        let packet = Packet { flags: PacketFlags::WHOLE, call_id: 77, body };
        let bytes = emit(&packet);
        assert_eq!(Packet::parse(&bytes), Ok(packet.clone()));
        for length in 0..bytes.len() {
            assert!(Packet::parse(&bytes[..length]).is_err());
            // Cut, and honest about its length: no more than a stub may get shorter.
            let mut cut = bytes[..length].to_vec();
            if let Some(field) = cut.get_mut(8..10) {
                field.copy_from_slice(&u16::try_from(length).unwrap().to_le_bytes());
                let has_stub = matches!(packet.body, Body::Request(_) | Body::Response(_) | Body::Fault(_));
                assert!(Packet::parse(&cut).is_err() || (has_stub && length >= 24));
            }
        }
    }
    let bytes = emit(&bind_packet(vec![element(0, SyntaxId::NDR)]));
    assert_eq!(bytes[..16], [5, 0, 11, 3, 16, 0, 0, 0, 72, 0, 0, 0, 2, 0, 0, 0]);
    assert_eq!(bytes[24..32], [1, 0, 0, 0, 0, 0, 1, 0]);
    assert_eq!(bytes[32..40], [0xC8, 0x4F, 0x32, 0x4B, 0x70, 0x16, 0xD3, 0x01]);
}

#[test]
fn bytes_may_come_in_any_cut_and_any_corruption() {
    let mut pipe = Pipe::bound(Service::Srvsvc, 256, description(4));
    let bind = emit(&bind_packet(vec![element(0, SyntaxId::NDR), element(1, SyntaxId::features(3))]));
    let arguments = srvsvc::ShareEnum {
        server_name: Some(Name::from("s")),
        level: 502,
        preferred_length_max: u32::MAX,
        resume_handle: Some(0),
    };
    let mut script = bind;
    pipe.client.call(srvsvc::opnum::SHARE_ENUM, &arguments.emit(), &mut script);
    let run = |pieces: &[&[u8]]| {
        let (mut server, mut out) = (PipeServer::new(Service::Srvsvc, 1), Vec::new());
        for piece in pieces {
            if server.input(piece, &pipe.description, NOW, &mut out).is_err() {
                break;
            }
        }
        out
    };
    let whole = run(&[&script]);
    assert!(whole.len() > 300);
    assert_eq!(run(&script.chunks(1).collect::<Vec<_>>()), whole);
    for cut in 0..script.len() {
        assert_eq!(run(&[&script[..cut], &script[cut..]]), whole);
        for value in [0, 1, 0x7F, 0x80, 0xFF] {
            let mut corrupt = script.clone();
            corrupt[cut] = value;
            assert!(run(&[&corrupt]).len() < 8192);
        }
    }
    for length in 0..whole.len() {
        let mut corrupt = whole.clone();
        corrupt[length] ^= 0xFF;
        let mut client = PipeClient::new(Service::Srvsvc, FRAGMENT_MAX);
        let mut events = Vec::new();
        let _ = client.input(&corrupt, &mut events);
        for event in events {
            if let Event::Response { stub, .. } = event {
                let _ = srvsvc::ShareEnumReply::parse(&stub);
            }
        }
    }
}
