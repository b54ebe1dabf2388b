//! The crate `smb`: every dialect, signed or encrypted, with Microsoft's own shape of names and its own crypto.
//!
//! It runs on a single thread. Its directory stream (`QueryDirectoryStream`) tells its fetching task that a batch is used
//! up with `Notify::notify_waiters`, which is lost when that task doesn't wait yet, and then both wait for ever; its
//! session setup installs the verification key after it has passed the last request on, which a fast answer can overtake.
//! Neither can happen while tasks take turns at their waits. Shares aren't listed: the crate speaks NDR64 only
//! (MS-RPCE 2.2.5), which servers need not have.

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use futures_util::StreamExt;
use smb::connection::EncryptionMode;
use smb::{
    Client, ClientConfig, ConnectionConfig, CreateOptions, Dialect, DirAccessMask, Directory, FileAccessMask,
    FileAttributes, FileCreateArgs, FileDispositionInformation, FileIdBothDirectoryInformation,
    FileRenameInformation, GetLen, ReadAt, UncPath, WriteAt,
};

use crate::Target;

const SIZES: [usize; 4] = [0, 1, 65_536, 3 * 1024 * 1024 + 7];

pub(crate) async fn run(target: &Target) -> Result<()> {
    let dialect = dialect(&target.dialect)?;
    let encryption_mode = match target.mode.as_str() {
        // It encrypts nothing that the server doesn't want encrypted. When told not to encrypt at all it offers an empty
        // list of ciphers, and takes no answer to that.
        "sign" => EncryptionMode::Allowed,
        // Without an encrypted session the client gives up.
        "encrypt" => EncryptionMode::Required,
        other => bail!("smb has no mode {other}"),
    };
    let connection = ConnectionConfig {
        port: Some(target.address.port()),
        min_dialect: Some(dialect),
        max_dialect: Some(dialect),
        encryption_mode,
        ..Default::default()
    };
    let client = Client::new(ClientConfig { dfs: false, connection, ..Default::default() });
    let server = target.address.ip().to_string();
    let share = UncPath::new(&server)?.with_share(&target.share)?;
    client.share_connect(&share, &target.user, target.password.clone()).await?;
    let connection = client.get_connection(&server).await?;
    let negotiated = &connection.conn_info().context("nothing negotiated")?.negotiation;
    ensure!(negotiated.dialect_rev == dialect, "negotiated {:?}", negotiated.dialect_rev);
    let transfer_max = usize::try_from(negotiated.max_read_size.min(negotiated.max_write_size))?.min(1 << 20);
    let base = share.with_path(&format!("smb-{}-{}", target.dialect, target.mode));
    Files { client: &client, base, transfer_max }.exercise().await?;
    client.close().await?;
    Ok(())
}

fn dialect(name: &str) -> Result<Dialect> {
    Ok(match name {
        "2.0.2" => Dialect::Smb0202,
        "2.1" => Dialect::Smb021,
        "3.0" => Dialect::Smb030,
        "3.0.2" => Dialect::Smb0302,
        "3.1.1" => Dialect::Smb0311,
        other => bail!("smb has no dialect {other}"),
    })
}

/// A directory of the check's own.
struct Files<'a> {
    client: &'a Client,
    base: UncPath,
    /// What one read or write may have: less in the oldest dialect, which knows single credits only.
    transfer_max: usize,
}

impl Files<'_> {
    async fn exercise(&self) -> Result<()> {
        let directory = FileAttributes::new().with_directory(true);
        let options = CreateOptions::new().with_directory_file(true);
        let made =
            self.client.create_file(&self.base, &FileCreateArgs::make_create_new(directory, options)).await?;
        made.unwrap_dir().close().await?;
        for size in SIZES {
            self.write_and_read(&format!("file {size}.bin"), &crate::content(size)).await?;
        }
        let mut wanted: Vec<String> = SIZES.iter().map(|size| format!("file {size}.bin")).collect();
        wanted.sort();
        ensure!(self.list().await? == wanted, "listing before the rename");

        self.rename("file 1.bin", "𝄞 renamed").await?;
        let names = self.list().await?;
        ensure!(names.iter().any(|name| name == "𝄞 renamed"), "the new name isn't listed: {names:?}");
        ensure!(names.iter().all(|name| name != "file 1.bin"), "the old name is still listed: {names:?}");
        ensure!(self.delete(&self.base).await.is_err(), "a directory with entries was removed");
        for name in names {
            self.delete(&self.path(&name)).await?;
        }
        ensure!(self.list().await?.is_empty(), "deleted files are listed");
        self.delete(&self.base).await?;
        ensure!(self.list().await.is_err(), "the directory is still there");
        Ok(())
    }

    fn path(&self, name: &str) -> UncPath {
        self.base.clone().with_add_path(name)
    }

    async fn write_and_read(&self, name: &str, sent: &[u8]) -> Result<()> {
        let create = FileCreateArgs::make_create_new(FileAttributes::new(), CreateOptions::new());
        let file = self.client.create_file(&self.path(name), &create).await?.unwrap_file();
        let mut written = 0;
        while written < sent.len() {
            let end = sent.len().min(written + self.transfer_max);
            let count = file.write_at(&sent[written..end], written as u64).await?;
            ensure!(count > 0, "nothing of {name} was written at {written}");
            written += count;
        }
        file.flush().await?;
        file.close().await?;

        let file =
            self.open(&self.path(name), FileAccessMask::new().with_generic_read(true)).await?.unwrap_file();
        ensure!(file.get_len().await? == sent.len() as u64, "length of {name}");
        let mut found = vec![0; sent.len()];
        let mut read = 0;
        while read < found.len() {
            let end = found.len().min(read + self.transfer_max);
            let count = file.read_at(&mut found[read..end], read as u64).await?;
            ensure!(count > 0, "{name} ends at {read}");
            read += count;
        }
        file.close().await?;
        ensure!(found == sent, "the bytes of {name} differ");
        Ok(())
    }

    async fn list(&self) -> Result<Vec<String>> {
        let access: FileAccessMask =
            DirAccessMask::new().with_list_directory(true).with_synchronize(true).into();
        let directory = Arc::new(self.open(&self.base, access).await?.unwrap_dir());
        let mut names = Vec::new();
        let mut entries = Directory::query::<FileIdBothDirectoryInformation>(&directory, "*").await?;
        while let Some(entry) = entries.next().await {
            names.push(entry?.file_name.to_string());
        }
        drop(entries);
        directory.close().await?;
        names.retain(|name| name != "." && name != "..");
        names.sort();
        Ok(names)
    }

    async fn rename(&self, from: &str, to: &str) -> Result<()> {
        let access = FileAccessMask::new().with_generic_read(true).with_delete(true);
        let file = self.open(&self.path(from), access).await?.unwrap_file();
        let target = self.path(to);
        let file_name = target.path().context("a path below the share")?.into();
        file.set_info(FileRenameInformation {
            replace_if_exists: false.into(),
            root_directory: 0,
            file_name,
        })
        .await?;
        file.close().await?;
        Ok(())
    }

    async fn delete(&self, path: &UncPath) -> Result<()> {
        let access = FileAccessMask::new().with_generic_read(true).with_delete(true);
        let resource = self.open(path, access).await?;
        let handle = match &resource {
            smb::Resource::File(file) => file.handle(),
            smb::Resource::Directory(directory) => directory.handle(),
            smb::Resource::Pipe(_) => bail!("a pipe on a disk share"),
        };
        let deleted = handle.set_info(FileDispositionInformation { delete_pending: true.into() }).await;
        handle.close().await?;
        Ok(deleted?)
    }

    async fn open(&self, path: &UncPath, access: FileAccessMask) -> Result<smb::Resource> {
        Ok(self.client.create_file(path, &FileCreateArgs::make_open_existing(access)).await?)
    }
}
