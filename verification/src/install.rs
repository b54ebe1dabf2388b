//! The programs of others that the checks need: found, or installed with apt-get, or named in a clear failure.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::{process, workspace};

const APT_LIMIT: Duration = Duration::from_secs(600);
const PIP_LIMIT: Duration = Duration::from_secs(300);

/// A program and the Debian packages that bring it.
#[derive(Debug, Clone, Copy)]
pub struct Tool {
    program: &'static str,
    /// Arguments that only work when everything is there; None: being on the search path is enough.
    probe: Option<&'static [&'static str]>,
    packages: &'static [&'static str],
}

/// Samba's command line client.
pub const SMBCLIENT: Tool = Tool { program: "smbclient", probe: None, packages: &["smbclient"] };
/// Samba's protocol test suite.
pub const SMBTORTURE: Tool = Tool { program: "smbtorture", probe: None, packages: &["samba-testsuite"] };
/// Cuts connections of smbtorture's off, as a broken network does.
pub const IPTABLES: Tool =
    Tool { program: "iptables", probe: Some(&["-w", "-n", "-L", "OUTPUT"]), packages: &["iptables"] };
/// Python with what a virtual environment needs.
pub const PYTHON: Tool = Tool {
    program: "python3",
    probe: Some(&["-c", "import venv, ensurepip"]),
    packages: &["python3", "python3-venv", "python3-pip"],
};
/// Samba's server, only for runs that compare with it.
pub const SMBD: Tool =
    Tool { program: "smbd", probe: None, packages: &["samba", "samba-vfs-modules", "libnss-wrapper"] };

/// The emulator of the kernel client's machine.
const QEMU: Tool = Tool { program: "qemu-system-x86_64", probe: None, packages: &["qemu-system-x86"] };
/// The guest's user-space.
const BUSYBOX: Tool = Tool { program: "busybox", probe: None, packages: &["busybox-static"] };
/// Finds the modules that a module needs.
const KMOD: Tool = Tool { program: "depmod", probe: None, packages: &["kmod"] };
/// Gives the kernel's client its options.
const MOUNT_CIFS: Tool = Tool { program: "mount.cifs", probe: None, packages: &["cifs-utils"] };
/// Unpacks modules.
const XZ: Tool = Tool { program: "xz", probe: None, packages: &["xz-utils"] };
/// What the kernel's client in a virtual machine needs, beside the kernel.
pub const KERNEL_CLIENT: &[Tool] = &[QEMU, BUSYBOX, KMOD, MOUNT_CIFS, XZ];

/// Counts instructions.
pub const VALGRIND: Tool = Tool { program: "valgrind", probe: None, packages: &["valgrind"] };

/// What `verification test` needs.
pub const ALL: &[Tool] = &[SMBCLIENT, SMBTORTURE, IPTABLES, PYTHON, VALGRIND];

/// Installs what is missing. As root directly, otherwise through sudo if it asks for no password.
///
/// # Errors
/// Names the missing packages where they can't be installed.
pub fn ensure(tools: &[Tool]) -> Result<()> {
    let missing: Vec<&str> =
        tools.iter().filter(|tool| !is_there(tool)).flat_map(|tool| tool.packages.iter().copied()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let wanted = missing.join(" ");
    let Some(apt_get) = privileged_apt_get() else {
        bail!("missing Debian packages, and neither root nor sudo to install them: {wanted}");
    };
    println!("installing {wanted}");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(&apt_get[0]);
        command.args(&apt_get[1..]).args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        process::run_checked(&mut command, APT_LIMIT).with_context(|| format!("installing {wanted}"))
    };
    run(&["update", "-q"])?;
    let mut install = vec!["install", "-y", "-q", "--no-install-recommends"];
    install.extend(&missing);
    run(&install)?;
    for tool in tools {
        ensure!(is_there(tool), "{} still can't be used after installing {wanted}", tool.program);
    }
    Ok(())
}

/// The first package that a package depends on, as apt's lists have it now.
pub fn dependency(package: &str) -> Result<String> {
    let ask = || -> Result<Option<String>> {
        let output = process::run_checked(Command::new("apt-cache").args(["depends", package]), APT_LIMIT)?;
        let found = output.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
        Ok(found.map(str::to_owned))
    };
    if let Ok(Some(found)) = ask() {
        return Ok(found);
    }
    update_lists()?;
    ask()?.with_context(|| format!("apt knows no package {package}"))
}

/// Downloads a package's file into a directory without installing it, and returns the file.
pub fn download(package: &str, directory: &Path) -> Result<PathBuf> {
    let fetch = || {
        let mut command = Command::new("apt-get");
        process::run_checked(command.args(["download", "-q", package]).current_dir(directory), APT_LIMIT)
    };
    if fetch().is_err() {
        // The mirror may have a newer version than apt's lists.
        update_lists()?;
        fetch().with_context(|| format!("downloading {package}"))?;
    }
    let prefix = format!("{package}_");
    let files = std::fs::read_dir(directory)?.map_while(Result::ok).map(|entry| entry.path());
    let is_it = |file: &PathBuf| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(&prefix) && name.ends_with(".deb")
    };
    files.into_iter().find(is_it).with_context(|| format!("no file after downloading {package}"))
}

fn update_lists() -> Result<()> {
    let apt_get = privileged_apt_get().context("neither root nor sudo to update apt's lists")?;
    let mut command = Command::new(&apt_get[0]);
    command.args(&apt_get[1..]).args(["update", "-q"]);
    process::run_checked(&mut command, APT_LIMIT).map(|_| ())
}

/// The Python interpreter of a virtual environment that has the packages of `python/requirements.txt`, made if need be.
pub fn python_environment() -> Result<PathBuf> {
    ensure(&[PYTHON])?;
    let requirements = workspace::package_dir().join("python").join("requirements.txt");
    let wanted =
        std::fs::read_to_string(&requirements).with_context(|| requirements.display().to_string())?;
    let directory = workspace::target_dir()?.join("verification-python");
    let python = directory.join("bin").join("python");
    // Written last, so that an environment half made is made again.
    let stamp = directory.join("requirements.installed");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) && python.exists() {
        return Ok(python);
    }
    println!("making a Python environment in {}", directory.display());
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv", "--clear"]).arg(&directory);
    process::run_checked(&mut venv, PIP_LIMIT)?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]).arg(&requirements);
    process::run_checked(&mut pip, PIP_LIMIT)?;
    std::fs::write(&stamp, wanted)?;
    Ok(python)
}

fn is_there(tool: &Tool) -> bool {
    let Some(program) = process::find_program(tool.program) else { return false };
    tool.probe.is_none_or(|arguments| {
        process::run_limited(Command::new(program).args(arguments), Duration::from_secs(60))
            .is_ok_and(|finished| finished.succeeded())
    })
}

/// How to start apt-get with the right to install, or None.
fn privileged_apt_get() -> Option<Vec<PathBuf>> {
    let apt_get = process::find_program("apt-get")?;
    if rustix::process::geteuid().is_root() {
        return Some(vec![apt_get]);
    }
    let sudo = process::find_program("sudo")?;
    let allowed = process::run_limited(Command::new(&sudo).args(["-n", "true"]), Duration::from_secs(10))
        .is_ok_and(|finished| finished.succeeded());
    allowed.then(|| vec![sudo, Path::new("-n").into(), apt_get])
}
