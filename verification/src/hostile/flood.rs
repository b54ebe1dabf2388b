//! Too much: of rubbish, of length, of requests, of answers that nobody takes.

use std::io::{ErrorKind, Read};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use smb_proto::command::negotiate::Dialect;
use smb_proto::command::{Request, echo, read};
use smb_proto::header::Header;

use super::wire::{Wire, framed, is_disconnect};
use super::{Bed, SOON};

const MILLION: u64 = 1_000_000;
/// Requests sent before their answers are taken, within the credits that the server grants.
const BATCH: u64 = 256;

/// Bytes without meaning, raw and behind a good prefix.
pub(super) fn rubbish(bed: &Bed) -> Result<()> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut random = |length: usize| -> Vec<u8> {
        (0..length)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()[3]
            })
            .collect()
    };
    for round in 0..50 {
        let mut bytes = random(4000);
        if round % 2 == 0 {
            bytes = framed(&bytes)?;
        } else {
            // A frame's first byte is zero; this is none.
            bytes[0] |= 1;
        }
        Wire::connect(bed.site().address)?.offend(&bytes).with_context(|| format!("rubbish {round}"))?;
    }
    // The right first bytes, and then rubbish.
    for id in [b"\xFESMB", b"\xFFSMB", b"\xFDSMB", b"\xFCSMB"] {
        let message = [&id[..], &random(300)].concat();
        Wire::connect(bed.site().address)?.offend(&framed(&message)?).with_context(|| format!("{id:x?}"))?;
    }
    bed.check_memory()
}

/// The longest frame that a prefix can announce, from strangers who send as much of it as they are let.
pub(super) fn long_frame(bed: &Bed) -> Result<()> {
    for _ in 0..20 {
        let mut wire = Wire::connect(bed.site().address)?;
        wire.offend(&[0, 0xFF, 0xFF, 0xFF])?;
    }
    let mut wire = Wire::connect(bed.site().address)?;
    wire.negotiate(Dialect::SMB_2_1)?;
    let mut bytes = vec![0xFE; 1 << 20];
    bytes[..4].copy_from_slice(&[0, 0xFF, 0xFF, 0xFF]);
    wire.offend(&bytes)?;
    bed.check_memory()
}

/// Tiny requests as fast as credits allow. Served, all of them.
pub(super) fn echoes(bed: &Bed) -> Result<()> {
    let site = bed.site();
    let user = &site.users[0];
    let mut wire = Wire::connect(site.address)?;
    wire.negotiate(Dialect::SMB_2_1)?;
    wire.log_on(user.name, user.password)?;
    // Plain requests: the point is their number, not the signature.
    let echo = plain_echo(&mut wire, 0);
    let first = next_id(&mut wire);
    let mut id = first;
    let mut answers = vec![0; echo.len() * usize::try_from(BATCH)?];
    let mut reader = wire.try_clone()?;
    let started = Instant::now();
    while id < first + MILLION {
        let mut batch = Vec::with_capacity(echo.len() * usize::try_from(BATCH)?);
        for message in id..id + BATCH {
            batch.extend_from_slice(&with_id(&echo, message));
        }
        wire.write(&batch).context("an honest flood was cut off")?;
        reader.read_exact(&mut answers).context("an honest flood was not answered")?;
        id += BATCH;
    }
    println!("        {:.0} echoes a second", MILLION as f64 / started.elapsed().as_secs_f64());
    let last = Header::parse(&answers[answers.len() - echo.len() + 4..])?;
    ensure!(last.message_id == id - 1 && !last.status.is_error(), "the last answer is {last:?}");
    bed.check_memory()
}

/// Tiny requests without waiting for answers, and ids that were not granted.
pub(super) fn beyond_credits(bed: &Bed) -> Result<()> {
    let mut wire = Wire::connect(bed.site().address)?;
    wire.negotiate(Dialect::SMB_2_1)?;
    let echo = plain_echo(&mut wire, 0);
    let first = next_id(&mut wire);
    let batch = |start: u64| (start..start + 1000).flat_map(|id| with_id(&echo, id)).collect::<Vec<u8>>();
    flood(&mut wire, first, batch).context("answers that nobody takes")?;
    bed.check_memory()?;
    let mut wire = Wire::connect(bed.site().address)?;
    wire.negotiate(Dialect::SMB_2_1)?;
    let mut ids = Vec::new();
    for id in 0..1000 {
        ids.extend_from_slice(&with_id(&echo, 50_000 + id));
    }
    wire.offend(&ids)
}

/// SMB1's negotiate, again and again.
pub(super) fn smb1_negotiates(bed: &Bed) -> Result<()> {
    let mut message = b"\xFFSMB\x72\0\0\0\0\x18\x53\xC8".to_vec();
    message.extend_from_slice(&[0; 20]);
    message.extend_from_slice(b"\0\x0C\0\x02SMB 2.???\0");
    message[33..35].copy_from_slice(&11_u16.to_le_bytes());
    let framed = framed(&message)?;
    let mut wire = Wire::connect(bed.site().address)?;
    flood(&mut wire, 0, |_| framed.repeat(1000))?;
    // One on each connection is good, and answered.
    for _ in 0..500 {
        let mut wire = Wire::connect(bed.site().address)?;
        wire.write(&framed)?;
        let (header, _) = wire.receive()?.context("SMB1's negotiate was not answered")?;
        ensure!(!header.status.is_error(), "{header:?}");
    }
    bed.check_memory()
}

/// Sends up to a million requests in thousands. The server has to end it, or to take no more while its answers stay
/// where they are; then it would end it after its own time limit.
fn flood(wire: &mut Wire, first: u64, batch: impl Fn(u64) -> Vec<u8>) -> Result<()> {
    wire.write_within(Duration::from_secs(2))?;
    for thousand in 0..MILLION / 1000 {
        match wire.write(&batch(first + thousand * 1000)) {
            Ok(()) => {}
            Err(error) if is_disconnect(error.kind()) => return Ok(()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
    }
    wire.expect_disconnect(SOON).context("a million requests were taken")
}

/// Large reads, whose answers stay in the server.
pub(super) fn slow_reader(bed: &Bed) -> Result<()> {
    const SIZE: u32 = 1 << 20;
    const CHARGE: u16 = 16;
    let site = bed.site();
    let share = &site.shares[0];
    std::fs::File::create(share.path.join("large"))?.set_len(64 << 20)?;
    let mut wires = Vec::new();
    for _ in 0..2 {
        let mut wire = Wire::ready(site.address, Dialect::SMB_3_0, &site.users[0], &share.name)?;
        let file_id = wire.open("large")?;
        // Credits first: each answer may bring some.
        for _ in 0..20 {
            wire.ask(&Request::Echo(echo::Request))?;
        }
        let mut requests = Vec::new();
        for number in 0..200_u64 {
            let request = Request::Read(read::Request {
                padding: 0x50,
                flags: read::Flags(0),
                length: SIZE,
                offset: (number % 64) << 20,
                file_id,
                minimum_count: 0,
                channel: read::Channel::NONE,
                remaining_bytes: 0,
                channel_info: bytes::Bytes::new(),
            });
            let message = wire.message(&request, CHARGE);
            requests.extend_from_slice(&framed(&message)?);
        }
        wire.write(&requests).context("the requests themselves are small")?;
        wires.push(wire);
    }
    let deadline = Instant::now() + Duration::from_secs(2);
    while Instant::now() < deadline {
        bed.check_memory()?;
        std::thread::sleep(Duration::from_millis(20));
    }
    bed.check_service().context("beside the slow readers")?;
    // They were refused nothing: whoever begins to read gets answers.
    for wire in &mut wires {
        let (header, message) = wire.receive()?.context("a slow reader was disconnected")?;
        ensure!(!header.status.is_error() && message.len() > SIZE as usize, "{header:?}");
    }
    drop(wires);
    std::fs::remove_file(share.path.join("large"))?;
    Ok(())
}

/// An ECHO with its prefix, unsigned, with as many credits asked for as it costs (more at first).
fn plain_echo(wire: &mut Wire, session: u64) -> Vec<u8> {
    let mut header = wire.header(Request::Echo(echo::Request).command().code(), 1);
    header.session_id = session;
    let mut message = Vec::new();
    header.emit(&mut message);
    Request::Echo(echo::Request).emit(&mut message);
    framed(&message).unwrap_or_default()
}

fn next_id(wire: &mut Wire) -> u64 {
    // The header taken for the template was not sent.
    wire.header(0, 1).message_id - 1
}

fn with_id(frame: &[u8], id: u64) -> Vec<u8> {
    const MESSAGE_ID: std::ops::Range<usize> = 28..36;
    let mut frame = frame.to_vec();
    frame[MESSAGE_ID].copy_from_slice(&id.to_le_bytes());
    frame
}
