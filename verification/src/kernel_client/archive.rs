//! The kernel's initial file system: a cpio archive in the "newc" form (Linux, Documentation/driver-api/early-userspace/buffer-format.rst).

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;

/// Writes entries one after the other; parents are made as they are needed.
pub(super) struct Archive<W: Write> {
    output: W,
    inode: u32,
    written: BTreeSet<PathBuf>,
}

impl<W: Write> Archive<W> {
    pub(super) fn new(output: W) -> Archive<W> {
        Archive { output, inode: 0, written: BTreeSet::new() }
    }

    /// Whether the path, relative to the root, is in the archive.
    pub(super) fn has(&self, path: &Path) -> bool {
        self.written.contains(path)
    }

    pub(super) fn directory(&mut self, path: &Path) -> Result<()> {
        if path.as_os_str().is_empty() || self.has(path) {
            return Ok(());
        }
        self.parents_of(path)?;
        Ok(self.entry(path, DIRECTORY | 0o755, b"")?)
    }

    pub(super) fn file(&mut self, path: &Path, mode: u32, content: &[u8]) -> Result<()> {
        self.parents_of(path)?;
        Ok(self.entry(path, REGULAR | mode, content)?)
    }

    /// Copies a file of this machine.
    pub(super) fn copy(&mut self, from: &Path, to: &Path) -> Result<()> {
        let content = fs::read(from).with_context(|| from.display().to_string())?;
        self.file(to, from.metadata()?.permissions().mode() & 0o777, &content)
    }

    pub(super) fn symlink(&mut self, path: &Path, target: &str) -> Result<()> {
        self.parents_of(path)?;
        Ok(self.entry(path, SYMLINK | 0o777, target.as_bytes())?)
    }

    /// Ends the archive and returns where it was written.
    pub(super) fn finish(mut self) -> Result<W> {
        self.entry(Path::new("TRAILER!!!"), 0, b"")?;
        self.output.flush()?;
        Ok(self.output)
    }

    fn parents_of(&mut self, path: &Path) -> Result<()> {
        path.parent().map_or(Ok(()), |parent| self.directory(parent))
    }

    fn entry(&mut self, path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
        self.inode += 1;
        let name = path.to_string_lossy();
        let size = u32::try_from(content.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let name_size = name.len() as u32 + 1;
        // Magic, inode, mode, user, group, links, time, size, device, special device, size of the name, checksum.
        let fields = [self.inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        self.output.write_all(b"070701")?;
        for field in fields {
            write!(self.output, "{field:08x}")?;
        }
        self.output.write_all(name.as_bytes())?;
        self.output.write_all(&b"\0\0\0\0"[..1 + padding(6 + 13 * 8 + name_size as usize)])?;
        self.output.write_all(content)?;
        self.output.write_all(&b"\0\0\0"[..padding(content.len())])?;
        self.written.insert(path.to_path_buf());
        Ok(())
    }
}

/// Bytes up to the next multiple of four.
fn padding(length: usize) -> usize {
    length.next_multiple_of(4) - length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_aligned_and_parents_made_once() {
        let mut archive = Archive::new(Vec::new());
        archive.file(Path::new("a/b"), 0o644, b"12345").unwrap();
        archive.symlink(Path::new("a/c"), "b").unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(bytes.len() % 4, 0);
        let starts: Vec<usize> = (0..bytes.len() - 6).filter(|&at| &bytes[at..at + 6] == b"070701").collect();
        assert_eq!(starts.len(), 4);
        assert!(starts.iter().all(|start| start % 4 == 0));
        let name = |start: usize| bytes[start + 110..].split(|&byte| byte == 0).next().unwrap();
        assert_eq!(
            starts.iter().map(|&start| name(start)).collect::<Vec<_>>(),
            [&b"a"[..], b"a/b", b"a/c", b"TRAILER!!!"]
        );
        assert_eq!(&bytes[starts[1] + 54..starts[1] + 62], b"00000005");
    }
}
