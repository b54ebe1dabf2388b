//! One session on several connections (MS-SMB2 3.3.5.5), with this workspace's own client: the servers agree with what it
//! derives from the section, whichever dialect, cipher and signer.

use anyhow::{Context, Result, ensure};
use smb_proto::access::AccessMask;
use smb_proto::auth::Credentials;
use smb_proto::command::create::{CreateDisposition, CreateOptions};
use smb_proto::command::ioctl::{FsctlCode, NetworkInterface};
use smb_proto::command::negotiate::Dialect;
use smb_proto::crypto::{CipherAlgorithm, SigningAlgorithm};

use super::Check;
use crate::client::{Connection, Options, Protection, Session, Tree, open};
use crate::peer::{Site, User};

/// Connections beside the first.
const MORE: usize = 3;
const GUID: [u8; 16] = *b"several channels";

pub(super) fn checks(site: &Site) -> Vec<Check<'_>> {
    let mut checks = Vec::new();
    for options in links() {
        for protection in [Protection::Signed, Protection::Encrypted] {
            let mut options = options.clone();
            let mut guid = GUID;
            guid[0] = u8::try_from(checks.len()).unwrap_or(0);
            options.client_guid = Some(guid);
            let dialect = options.dialects.last().map_or(0, |dialect| dialect.0);
            let name = format!(
                "channels {dialect:x} {:?} {:?} {protection:?}: one session on {} connections",
                options.signers.first(),
                options.ciphers.first(),
                MORE + 1
            );
            let number = checks.len();
            let run = move || one_session(site, &options, protection, number);
            checks.push(Check { name, run: Box::new(run) });
        }
    }
    checks.push(Check {
        name: "channels: a bind that fails leaves the session alone".into(),
        run: Box::new(move || binds_that_fail(site)),
    });
    checks.push(Check {
        name: "channels: the server says where it can be reached".into(),
        run: Box::new(move || interfaces(site)),
    });
    checks
}

fn links() -> Vec<Options> {
    let link = |dialect, signer, cipher| Options {
        signers: vec![signer],
        ciphers: vec![cipher],
        ..Options::default().only(dialect)
    };
    vec![
        link(Dialect::SMB_3_0, SigningAlgorithm::AesCmac, CipherAlgorithm::Aes128Ccm),
        link(Dialect::SMB_3_0_2, SigningAlgorithm::AesCmac, CipherAlgorithm::Aes128Ccm),
        link(Dialect::SMB_3_1_1, SigningAlgorithm::AesGmac, CipherAlgorithm::Aes128Gcm),
        link(Dialect::SMB_3_1_1, SigningAlgorithm::AesCmac, CipherAlgorithm::Aes256Ccm),
        link(Dialect::SMB_3_1_1, SigningAlgorithm::HmacSha256, CipherAlgorithm::Aes256Gcm),
    ]
}

fn credentials(user: &User) -> Credentials {
    Credentials::password(user.name, "", user.password)
}

fn log_on(site: &Site, options: &Options, protection: Protection) -> Result<(Connection, Session, Tree)> {
    let mut connection = Connection::open(site.address, options)?;
    let session = connection.log_on(&credentials(&site.users[0]), protection)?;
    let tree = connection.connect_tree(session, &format!(r"\\server\{}", site.shares[0].name))?;
    Ok((connection, session, tree))
}

/// What is opened on one connection is used on all of them, also when the first is gone; LOGOFF on any ends it.
fn one_session(site: &Site, options: &Options, protection: Protection, number: usize) -> Result<()> {
    let (mut first, session, tree) = log_on(site, options, protection)?;
    let access = AccessMask::READ_DATA.with(AccessMask::WRITE_DATA).with(AccessMask::DELETE);
    let request = open(
        &format!("channels-{number}"),
        access,
        CreateDisposition::OVERWRITE_IF,
        CreateOptions::DELETE_ON_CLOSE,
    );
    let file = first.create(tree, request)?.file_id;
    first.write(tree, file, 0, b"one session")?;
    let mut others = Vec::new();
    for place in 0..MORE {
        let mut connection = Connection::open(site.address, options)?;
        connection
            .bind(&mut first, session, &credentials(&site.users[0]))
            .with_context(|| format!("binding connection {place}"))?;
        others.push(connection);
    }
    for round in 0..20_u8 {
        for (place, connection) in others.iter_mut().enumerate() {
            let data = [round, u8::try_from(place)?];
            connection.write(tree, file, 0, &data)?;
            ensure!(first.read(tree, file, 0, 2)? == data[..], "what {place} wrote in round {round}");
        }
    }
    drop(first);
    let [second, third, last] = &mut others[..] else { anyhow::bail!("{MORE} connections") };
    second.write(tree, file, 0, b"goes on")?;
    ensure!(third.read(tree, file, 0, 7)? == b"goes on"[..], "the session ended with its first connection");
    second.close(tree, file)?;
    third.log_off(session)?;
    ensure!(last.list(tree, "", "*").is_err(), "the session goes on after LOGOFF elsewhere");
    Ok(())
}

fn binds_that_fail(site: &Site) -> Result<()> {
    let options = Options { client_guid: Some(*b"failing channels"), ..Options::default() };
    let (mut first, session, tree) = log_on(site, &options, Protection::Signed)?;
    let wrong = Credentials::password(site.users[0].name, "", "wrong");
    for (who, other) in [("a wrong password", wrong), ("another user", credentials(&site.users[1]))] {
        let mut connection = Connection::open(site.address, &options)?;
        let refused = connection.bind(&mut first, session, &other);
        let status = refused.as_ref().err().and_then(crate::client::Error::status);
        ensure!(status.is_some_and(|status| status.is_error()), "{who}: {refused:?}");
        first.list(tree, "", "*").with_context(|| format!("after {who}"))?;
    }
    let mut connection = Connection::open(site.address, &options)?;
    connection.bind(&mut first, session, &credentials(&site.users[0]))?;
    connection.list(tree, "", "*")?;
    Ok(())
}

fn interfaces(site: &Site) -> Result<()> {
    let (mut connection, _, tree) = log_on(site, &Options::default(), Protection::Signed)?;
    let output = connection.control(
        tree,
        smb_proto::command::FileId::ALL_ONES,
        FsctlCode::QUERY_NETWORK_INTERFACE_INFO,
        Vec::new(),
        65_536,
    )?;
    let found = NetworkInterface::parse_list(&output)?;
    ensure!(!found.is_empty() && found.iter().all(|interface| interface.index > 0), "{found:?}");
    Ok(())
}
