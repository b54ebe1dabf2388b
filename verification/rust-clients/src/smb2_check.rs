//! The crate `smb2`: the newest dialect that the server has, pipelined, with or without compression.

use anyhow::{Context, Result, bail, ensure};
use smb2::{ClientConfig, SmbClient, Tree};

use crate::Target;

const SIZES: [usize; 4] = [0, 1, 65_536, 20 * 1024 * 1024 + 7];

pub(crate) async fn run(target: &Target) -> Result<()> {
    let compression = match target.mode.as_str() {
        "plain" => false,
        "compress" => true,
        other => bail!("smb2 has no mode {other}"),
    };
    let mut client = SmbClient::connect(ClientConfig {
        addr: target.address.to_string(),
        username: target.user.clone(),
        password: target.password.clone(),
        compression,
        ..Default::default()
    })
    .await?;
    let dialect = client.params().context("nothing negotiated")?.dialect;
    ensure!(dialect.to_string().contains(&target.dialect), "negotiated {dialect}");
    let shares = client.list_shares().await?;
    ensure!(shares.iter().any(|share| share.name == target.share), "the share isn't listed: {shares:?}");

    let mut tree = client.connect_share(&target.share).await?;
    use_files(&mut client, &mut tree, &format!("smb2-{}-{}", target.dialect, target.mode)).await?;
    client.disconnect_share(&tree).await?;
    Ok(())
}

async fn use_files(client: &mut SmbClient, tree: &mut Tree, base: &str) -> Result<()> {
    client.create_directory(tree, base).await?;
    for size in SIZES {
        let path = format!("{base}/file {size}.bin");
        let sent = crate::content(size);
        // One compound of create, read and close: only for what fits a single read.
        if size <= 1 << 20 {
            client.write_file(tree, &path, &sent).await?;
            ensure!(client.read_file(tree, &path).await? == sent, "{size} bytes differ");
        }
        client.write_file_pipelined(tree, &path, &sent).await?;
        ensure!(client.read_file_pipelined(tree, &path).await? == sent, "{size} pipelined bytes differ");
        ensure!(client.stat(tree, &path).await?.size == size as u64, "length of {size} bytes");
    }
    let mut wanted: Vec<String> = SIZES.iter().map(|size| format!("file {size}.bin")).collect();
    wanted.sort();
    ensure!(list(client, tree, base).await? == wanted, "listing before the rename");

    client.rename(tree, &format!("{base}/file 1.bin"), &format!("{base}/𝄞 renamed")).await?;
    let names = list(client, tree, base).await?;
    ensure!(names.iter().any(|name| name == "𝄞 renamed"), "the new name isn't listed: {names:?}");
    ensure!(names.iter().all(|name| name != "file 1.bin"), "the old name is still listed: {names:?}");
    ensure!(client.delete_directory(tree, base).await.is_err(), "a directory with entries was removed");
    for name in names {
        client.delete_file(tree, &format!("{base}/{name}")).await?;
    }
    client.delete_directory(tree, base).await?;
    ensure!(client.stat(tree, base).await.is_err(), "the directory is still there");
    Ok(())
}

async fn list(client: &mut SmbClient, tree: &mut Tree, path: &str) -> Result<Vec<String>> {
    let entries = client.list_directory(tree, path).await?;
    let mut names: Vec<String> = entries.into_iter().map(|entry| entry.name).collect();
    names.retain(|name| name != "." && name != "..");
    names.sort();
    Ok(names)
}
