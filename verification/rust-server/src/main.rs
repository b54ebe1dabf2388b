//! Serves directories with the crate `smb-server`, for comparisons of speed.
//!
//! Usage: `rust-server ADDRESS USER NAME=PATH...`, with the user's password in SMB_PASSWORD.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use smb_server::{Access, LocalFsBackend, Share, SmbServer};

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address: SocketAddr = arguments.next().context("no address")?.parse()?;
    let user = arguments.next().context("no user")?;
    let password = std::env::var("SMB_PASSWORD").context("no SMB_PASSWORD")?;
    let mut builder = SmbServer::builder().listen(address).user(&user, &password);
    for share in arguments {
        let (name, path) = share.split_once('=').context("a share is NAME=PATH")?;
        builder = builder.share(Share::new(name, LocalFsBackend::new(path)?).user(&user, Access::ReadWrite));
    }
    let server = builder.build()?;
    server.bind().await?;
    server.serve().await?;
    Ok(())
}
