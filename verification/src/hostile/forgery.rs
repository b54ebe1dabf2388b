//! Messages that were changed, made up, or sent again.

use anyhow::{Context, Result, bail, ensure};
use smb_proto::NtStatus;
use smb_proto::command::ioctl::{self, FsctlCode, IoctlFlags, ValidateNegotiateRequest};
use smb_proto::command::negotiate::{Dialect, SecurityMode};
use smb_proto::command::{FileId, Request, Response, echo};
use smb_proto::transform::TransformHeader;

use super::wire::{Wire, client_capabilities, framed, guid};
use super::{Bed, SOON};

fn ready(bed: &Bed, dialect: Dialect) -> Result<Wire> {
    let site = bed.site();
    Wire::ready(site.address, dialect, &site.users[0], &site.shares[0].name)
}

/// A compression header, before and after authentication.
pub(super) fn compressed(bed: &Bed) -> Result<()> {
    // A bomb: 4 GiB once decompressed.
    let bomb = framed(b"\xFCSMB\xFF\xFF\xFF\xFF\x01\0\0\0\0\0\0\0squeezed")?;
    Wire::connect(bed.site().address)?.offend(&bomb)?;
    ready(bed, Dialect::SMB_3_0)?.offend(&bomb)?;
    bed.check_memory()
}

fn sealed(session: u64) -> Result<Vec<u8>> {
    let header = TransformHeader {
        signature: [7; 16],
        nonce: [1; 16],
        original_message_size: 68,
        flags: TransformHeader::ENCRYPTED,
        session_id: session,
    };
    let mut message = Vec::new();
    header.emit(&mut message);
    message.extend_from_slice(&[0x5A; 68]);
    framed(&message)
}

/// An encrypted message for a session that isn't there.
pub(super) fn sealed_for_nobody(bed: &Bed) -> Result<()> {
    Wire::connect(bed.site().address)?.offend(&sealed(0)?)?;
    let mut wire = Wire::connect(bed.site().address)?;
    wire.negotiate(Dialect::SMB_3_0)?;
    wire.offend(&sealed(0x1234)?)
}

/// An encrypted message that doesn't decrypt.
pub(super) fn wrong_tag(bed: &Bed) -> Result<()> {
    let mut wire = ready(bed, Dialect::SMB_3_0)?;
    let session = wire.session;
    wire.offend(&sealed(session)?)
}

/// A message whose signature is not its own is refused; the connection goes on (MS-SMB2 3.3.5.2.4).
pub(super) fn wrong_signature(bed: &Bed) -> Result<()> {
    for dialect in [Dialect::SMB_2_0_2, Dialect::SMB_2_1, Dialect::SMB_3_0] {
        let mut wire = ready(bed, dialect)?;
        let mut message = wire.message(&Request::Echo(echo::Request), 1);
        message[50] ^= 0x40;
        wire.send(&message)?;
        let (status, ..) = wire.answer()?;
        ensure!(status == NtStatus::ACCESS_DENIED, "{dialect:?}: {status}");
        let (status, ..) = wire.ask(&Request::Echo(echo::Request))?;
        ensure!(status == NtStatus::SUCCESS, "{dialect:?}: afterwards {status}");
    }
    Ok(())
}

fn validate(wire: &mut Wire, capabilities: u32) -> Result<()> {
    let body = ValidateNegotiateRequest {
        capabilities,
        guid: guid(Dialect::SMB_3_0),
        security_mode: SecurityMode::SIGNING_ENABLED.0,
        dialects: vec![Dialect::SMB_3_0.0],
    };
    let mut input = Vec::new();
    body.emit(&mut input);
    let request = Request::Ioctl(ioctl::Request {
        ctl_code: FsctlCode::VALIDATE_NEGOTIATE_INFO,
        file_id: FileId::ALL_ONES,
        input: input.into(),
        max_input_response: 0,
        output_count: 0,
        max_output_response: 24,
        flags: IoctlFlags::IS_FSCTL,
    });
    let message = wire.message(&request, 1);
    wire.send(&message)
}

/// What the client remembers of NEGOTIATE differs from what the server does (3.3.5.15.12).
pub(super) fn tampered_negotiate(bed: &Bed) -> Result<()> {
    let mut honest = ready(bed, Dialect::SMB_3_0)?;
    validate(&mut honest, client_capabilities().0)?;
    let (status, response, _) = honest.answer().context("an honest client")?;
    let Response::Ioctl(_) = response else { bail!("an honest client: {status}") };

    let mut tampered = ready(bed, Dialect::SMB_3_0)?;
    validate(&mut tampered, client_capabilities().0 | 0x40)?;
    tampered.expect_disconnect(SOON)
}

/// A request sent again as it is (3.3.5.2.3).
pub(super) fn repeated_message(bed: &Bed) -> Result<()> {
    let mut stranger = Wire::connect(bed.site().address)?;
    stranger.negotiate(Dialect::SMB_2_1)?;
    let message = stranger.message(&Request::Echo(echo::Request), 1);
    stranger.send(&message)?;
    stranger.answer()?;
    stranger.offend(&framed(&message)?)?;

    let mut wire = ready(bed, Dialect::SMB_3_0)?;
    let message = framed(&wire.message(&Request::Echo(echo::Request), 1))?;
    wire.offend(&message.repeat(2))
}

/// Another connection's SessionId, which is easily guessed, is worth nothing.
pub(super) fn foreign_session(bed: &Bed) -> Result<()> {
    let owner = ready(bed, Dialect::SMB_3_0)?;
    let mut thief = Wire::connect(bed.site().address)?;
    thief.negotiate(Dialect::SMB_3_0)?;
    (thief.session, thief.tree) = (owner.session, owner.tree);
    for name in ["", "file"] {
        let error = thief.open(name).err().context("opened a file in another's session")?;
        ensure!(error.to_string().contains("USER_SESSION_DELETED"), "{error:#}");
    }
    Ok(())
}

/// Guessing ends in errors, and whoever knows the password is let in all the same.
pub(super) fn wrong_password(bed: &Bed) -> Result<()> {
    let user = &bed.site().users[1];
    for guess in ["", "password", "First-Secret-1"] {
        let mut wire = Wire::connect(bed.site().address)?;
        wire.negotiate(Dialect::SMB_3_0)?;
        let status = wire.log_on(user.name, guess)?;
        ensure!(status == NtStatus::LOGON_FAILURE, "{guess:?}: {status}");
        let error =
            wire.tree_connect(&bed.site().shares[0].name).err().context("a share without a session")?;
        ensure!(!error.to_string().contains("SUCCESS"), "{error:#}");
    }
    Ok(())
}
