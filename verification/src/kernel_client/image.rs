//! What the virtual machine boots: Debian's kernel, fetched and unpacked but not installed, and a file system in
//! memory with the modules, busybox, mount.cifs, Perl and this program.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::archive::Archive;
use crate::{install, process};

const LIMIT: Duration = Duration::from_secs(120);

/// The package that names Debian's current kernel.
const KERNEL_PACKAGE: &str = "linux-image-amd64";
/// Modules that must be there.
const MODULES: &[&str] = &["virtio_pci", "virtio_net", "cifs"];
/// Modules that the client asks for by itself; some kernels have them built in or under other names.
const OPTIONAL_MODULES: &[&str] = &[
    "nls_utf8",
    "aesni_intel",
    "ghash_clmulni_intel",
    "gcm",
    "ccm",
    "cmac",
    "ecb",
    "ctr",
    "hmac",
    "md5",
    "cifs_md4",
    "cifs_arc4",
    "aes_generic",
    "sha256_ssse3",
    "sha512_ssse3",
    "sha256_generic",
    "sha512_generic",
    "ghash_generic",
    "crc32c_generic",
];

const INIT: &str = include_str!("init.sh");

/// An unpacked kernel.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// Such as `6.1.0-1-amd64`.
    pub(crate) version: String,
    /// The file to boot.
    pub(crate) image: PathBuf,
    /// The directory that has `lib/modules`.
    root: PathBuf,
}

/// The current kernel from the cache, or fetched into it.
pub(crate) fn kernel(cache: &Path) -> Result<Kernel> {
    let package = install::dependency(KERNEL_PACKAGE)?;
    let version =
        package.strip_prefix("linux-image-").context("the name of the kernel's package")?.to_owned();
    let root = cache.join(&version);
    let image = root.join("boot").join(format!("vmlinuz-{version}"));
    // Written last, so that a kernel half unpacked is unpacked again.
    let stamp = root.join("unpacked");
    if !stamp.exists() {
        println!("fetching {package}");
        fs::create_dir_all(&root)?;
        let file = install::download(&package, &root)?;
        process::run_checked(Command::new("dpkg-deb").arg("-x").arg(&file).arg(&root), LIMIT)?;
        fs::remove_file(file)?;
        let mut depmod = Command::new(process::find_program("depmod").context("depmod")?);
        process::run_checked(depmod.arg("-b").arg(&root).arg(&version), LIMIT)?;
        fs::write(&stamp, "")?;
    }
    ensure!(image.is_file(), "{package} has no {}", image.display());
    Ok(Kernel { version, image, root })
}

/// Writes the file system that the kernel starts with; its first process runs this program with the arguments.
pub(crate) fn write_initrd(kernel: &Kernel, arguments: &[String], output: &Path) -> Result<()> {
    let file = File::create(output).with_context(|| output.display().to_string())?;
    let mut archive = Archive::new(BufWriter::new(file));
    for directory in ["dev", "proc", "sys", "tmp", "mnt/first", "mnt/second", "bin", "sbin", "etc", "run"] {
        archive.directory(Path::new(directory))?;
    }
    archive.file(Path::new("init"), 0o755, INIT.as_bytes())?;
    archive.file(Path::new("etc/passwd"), 0o644, b"root:x:0:0:root:/:/bin/sh\n")?;
    archive.file(Path::new("etc/group"), 0o644, b"root:x:0:\n")?;
    // One argument a line, as busybox's xargs reads them.
    let quoted: Vec<String> = arguments.iter().map(|argument| format!("\"{argument}\"")).collect();
    archive.file(Path::new("arguments"), 0o644, quoted.join("\n").as_bytes())?;

    add_program(&mut archive, &process::find_program("busybox").context("busybox")?, "bin/busybox")?;
    archive.symlink(Path::new("bin/sh"), "busybox")?;
    add_program(
        &mut archive,
        &process::find_program("mount.cifs").context("mount.cifs")?,
        "sbin/mount.cifs",
    )?;
    add_program(&mut archive, &process::find_program("perl").context("perl")?, "bin/perl")?;
    let this = std::env::current_exe()?;
    let stripped = output.with_extension("program");
    // Line tables are most of the program's size, and the guest has to unpack them. Without strip it only takes longer.
    let strip = process::run_limited(Command::new("strip").arg("-o").arg(&stripped).arg(&this), LIMIT);
    let smaller = strip.is_ok_and(|finished| finished.succeeded());
    add_program(&mut archive, if smaller { &stripped } else { &this }, "bin/verification")?;
    if stripped.exists() {
        fs::remove_file(&stripped)?;
    }

    let mut order = String::new();
    for module in modules(kernel)? {
        let name = module.file_name().and_then(|name| name.to_str()).context("a module's name")?;
        let name = name.trim_end_matches(".xz");
        let path = Path::new("modules").join(name);
        if archive.has(&path) {
            continue;
        }
        archive.file(&path, 0o644, &module_content(&module)?)?;
        order.push_str(name);
        order.push('\n');
    }
    archive.file(Path::new("modules/order"), 0o644, order.as_bytes())?;
    archive.finish()?;
    Ok(())
}

/// The modules' files, each after those that it needs.
fn modules(kernel: &Kernel) -> Result<Vec<PathBuf>> {
    let modprobe = process::find_program("modprobe").context("modprobe")?;
    let mut files = Vec::new();
    for name in MODULES.iter().chain(OPTIONAL_MODULES) {
        let mut command = Command::new(&modprobe);
        command.arg("-d").arg(&kernel.root).args(["-S", &kernel.version, "--show-depends", name]);
        let finished = process::run_limited(&mut command, LIMIT)?;
        ensure!(finished.succeeded() || !MODULES.contains(name), "no module {name}: {}", finished.output);
        files.extend(insmod_lines(&finished.output));
    }
    Ok(files)
}

fn insmod_lines(output: &str) -> impl Iterator<Item = PathBuf> {
    output
        .lines()
        .filter_map(|line| line.strip_prefix("insmod "))
        .filter_map(|line| line.split_whitespace().next())
        .map(PathBuf::from)
}

fn module_content(file: &Path) -> Result<Vec<u8>> {
    if file.extension().is_none_or(|extension| extension != "xz") {
        return fs::read(file).with_context(|| file.display().to_string());
    }
    let output = Command::new("xz").arg("-dc").arg(file).output().context("xz")?;
    ensure!(output.status.success(), "xz can't unpack {}", file.display());
    Ok(output.stdout)
}

/// Adds a program with the libraries that it is linked with.
fn add_program<W: std::io::Write>(archive: &mut Archive<W>, program: &Path, to: &str) -> Result<()> {
    archive.copy(program, Path::new(to))?;
    // A static program makes ldd fail, and has no libraries.
    let ldd = process::run_limited(Command::new("ldd").arg(program), LIMIT)?;
    for library in linked_libraries(&ldd.output) {
        let inside = library.strip_prefix("/")?.to_path_buf();
        if !archive.has(&inside) {
            archive.copy(&library, &inside)?;
        }
    }
    Ok(())
}

fn linked_libraries(output: &str) -> impl Iterator<Item = PathBuf> {
    output
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_tools_print_is_understood() {
        let ldd = "\tlinux-vdso.so.1 (0x00007f)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00)\n\t/lib64/ld-linux-x86-64.so.2 (0x00)\n";
        let paths: Vec<PathBuf> = linked_libraries(ldd).collect();
        assert_eq!(
            paths,
            [Path::new("/lib/x86_64-linux-gnu/libc.so.6"), Path::new("/lib64/ld-linux-x86-64.so.2")]
        );
        let modprobe =
            "builtin crc32\ninsmod /r/lib/modules/6.1/a.ko \ninsmod /r/lib/modules/6.1/b.ko.xz x=1\n";
        let paths: Vec<PathBuf> = insmod_lines(modprobe).collect();
        assert_eq!(paths, [Path::new("/r/lib/modules/6.1/a.ko"), Path::new("/r/lib/modules/6.1/b.ko.xz")]);
    }
}
