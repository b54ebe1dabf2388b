//! DCE/RPC over pipes: what a client writes, and the stubs within.

use smb_proto::rpc::client::PipeClient;
use smb_proto::rpc::server::PipeServer;
use smb_proto::rpc::srvsvc::{self, ShareType};
use smb_proto::rpc::{ServerDescription, Service, ShareDescription, wkssvc};

use crate::authentication::NOW;
use crate::script::Script;

/// What the services tell.
#[must_use]
pub fn description() -> ServerDescription {
    let share =
        |name: &str, kind| ShareDescription { name: name.into(), kind, ..ShareDescription::default() };
    ServerDescription {
        server_name: "SERVER".into(),
        domain: "GROUP".into(),
        version_major: 10,
        shares: vec![share("data", ShareType::DISK), share("IPC$", ShareType::IPC)],
        ..ServerDescription::default()
    }
}

const SERVICES: [Service; 2] = [Service::Srvsvc, Service::Wkssvc];

/// The server's end of a pipe, with a client's end that reads what it says.
pub mod rpc_pipe {
    use super::*;
    use smb_proto::rpc::pdu::Packet;

    /// The first byte is the service, then come writes, cut as the client likes.
    pub fn check(input: &[u8]) {
        let mut script = Script::new(input);
        let service = script.of(&SERVICES);
        let mut server = PipeServer::new(service, 1);
        let mut client = PipeClient::new(service, 4280);
        let description = description();
        let mut answers = Vec::new();
        while !script.is_over() {
            let written = script.long_bytes();
            if let Ok(packet) = Packet::parse(written) {
                let mut out = Vec::new();
                packet.emit(&mut out);
                assert_eq!(Packet::parse(&out).as_ref(), Ok(&packet));
            }
            // The client's end may be told anything as well.
            let _ = client.input(written, &mut Vec::new());
            let before = answers.len();
            if server.input(written, &description, NOW, &mut answers).is_err() {
                break;
            }
            assert!(answers.len() - before < 8 << 20, "one write of {} bytes makes too many", written.len());
        }
        let mut rest = answers.as_slice();
        while !rest.is_empty() {
            let packet = smb_proto::rpc::pdu::Header::parse(rest).expect("our own header");
            let length = usize::from(packet.fragment_length);
            Packet::parse(&rest[..length]).expect("our own packet");
            rest = &rest[length..];
        }
    }

    /// A bind and calls of the methods that every client uses.
    pub fn seeds() -> Vec<Vec<u8>> {
        SERVICES
            .iter()
            .zip(0_u8..)
            .map(|(service, index)| {
                let mut writes = vec![Vec::new()];
                let mut client = PipeClient::new(*service, 4280);
                client.bind(&mut writes[0]);
                for (opnum, stub) in super::stubs() {
                    let mut out = Vec::new();
                    client.call(opnum, &stub, &mut out);
                    writes.push(out);
                }
                let mut seed = vec![index];
                for write in writes {
                    let length = u16::try_from(write.len()).unwrap_or(u16::MAX);
                    seed.extend_from_slice(&length.to_le_bytes());
                    seed.extend(write);
                }
                seed
            })
            .collect()
    }
}

fn stubs() -> Vec<(u16, Vec<u8>)> {
    let list = srvsvc::ShareEnum {
        server_name: Some("\\\\server".into()),
        level: 1,
        preferred_length_max: u32::MAX,
        resume_handle: Some(0),
    };
    let get = srvsvc::GetInfo { server_name: Some("\\\\server".into()), level: 101 };
    let one = srvsvc::ShareGetInfo { server_name: None, share_name: "data".into(), level: 2 };
    vec![(15, list.emit()), (0, get.emit()), (21, get.emit()), (16, one.emit())]
}

/// Arguments and results of methods.
pub mod rpc_stubs {
    use super::*;
    use crate::shape::{choice, chosen};

    macro_rules! round {
        ($type:ty, $input:expr) => {
            if let Ok(parsed) = <$type>::parse($input) {
                let emitted = parsed.emit();
                assert_eq!(<$type>::parse(&emitted).as_ref(), Ok(&parsed), "{emitted:02x?}");
            }
        };
    }

    /// The first byte chooses the method and the direction.
    pub fn check(input: &[u8]) {
        let (which, stub) = choice(input);
        match which % 9 {
            0 => round!(srvsvc::ShareEnum, &stub),
            1 => round!(srvsvc::ShareEnumReply, &stub),
            2 => round!(srvsvc::ShareGetInfo, &stub),
            3 => round!(srvsvc::ShareGetInfoReply, &stub),
            4 => round!(srvsvc::GetInfo, &stub),
            5 => round!(srvsvc::ServerGetInfoReply, &stub),
            6 => round!(srvsvc::RemoteTimeOfDayReply, &stub),
            7 => round!(srvsvc::NameValidate, &stub),
            _ => round!(wkssvc::WorkstationGetInfoReply, &stub),
        }
    }

    /// Arguments as clients send them, and results as the server does.
    pub fn seeds() -> Vec<Vec<u8>> {
        let stubs = super::stubs();
        let kinds = [0, 4, 4, 2];
        let mut seeds: Vec<_> = stubs.iter().zip(kinds).map(|((_, stub), kind)| chosen(kind, stub)).collect();
        for (service, methods) in
            [(Service::Srvsvc, &[(15, 1), (16, 3), (21, 5), (28, 6)][..]), (Service::Wkssvc, &[(0, 8)])]
        {
            for (opnum, kind) in methods {
                let stub =
                    stubs.iter().find(|(number, _)| number == opnum).map_or(&stubs[1].1, |(_, stub)| stub);
                if let Some(reply) = answer(service, *opnum, stub) {
                    seeds.push(chosen(*kind, &reply));
                }
            }
        }
        seeds
    }

    fn answer(service: Service, opnum: u16, stub: &[u8]) -> Option<Vec<u8>> {
        let mut server = PipeServer::new(service, 1);
        let mut client = PipeClient::new(service, 4280);
        let (mut written, mut read, mut events) = (Vec::new(), Vec::new(), Vec::new());
        client.bind(&mut written);
        server.input(&written, &description(), NOW, &mut read).ok()?;
        client.input(&read, &mut events).ok()?;
        written.clear();
        read.clear();
        client.call(opnum, stub, &mut written);
        server.input(&written, &description(), NOW, &mut read).ok()?;
        client.input(&read, &mut events).ok()?;
        events.into_iter().find_map(|event| match event {
            smb_proto::rpc::client::Event::Response { stub, .. } => Some(stub),
            _ => None,
        })
    }
}
