//! Starts Samba's smbd in the site's own directory, without touching the system: accounts come from nss_wrapper.
//! Needs root, since smbd takes on each user's identity.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{HIDES_UNREADABLE, Purpose, Site};
use crate::process;

const START_LIMIT: Duration = Duration::from_secs(15);
const FIRST_USER_ID: u32 = 60_001;

/// Settings that the test suite counts on and that have nothing to do with directories. FSCTL_SMBTORTURE lets tests
/// block a channel; the kernel settings are off because the tests run against loopback without other local users.
const SETTINGS: &str = "\tnetbios name = PEER
\tserver role = standalone server
\tworkgroup = WORKGROUP
\tinterfaces = \"127.0.0.1;capability=RSS,speed=10000000000\" \"127.0.0.2;capability=RSS,speed=10000000000\"
\tbind interfaces only = yes
\tdisable netbios = yes
\tserver min protocol = SMB2_02
\tserver max protocol = SMB3_11
\tserver multi channel support = yes
\tserver smb encrypt = default
\tserver signing = default
\tpassdb backend = tdbsam
\tlogging = file
\tlog level = 1
\tpanic action = /bin/true
\tload printers = no
\tprinting = bsd
\tprintcap name = /dev/null
\tdisable spoolss = yes
\tmap to guest = never
\tntlm auth = ntlmv2-only
\trpc start on demand helpers = yes
\tsmbd:FSCTL_SMBTORTURE = yes
\tsmbd:validate_oplock_types = yes
\tsmbd:suicide mode = no
\tkernel oplocks = no
\tkernel change notify = no
\tkernel share modes = no
\tposix locking = no
\tdurable handles = yes
\tstrict locking = yes
\tstrict rename = yes
\tstrict sync = yes
\tsmb2 leases = yes
\toplocks = yes
\tlevel2 oplocks = yes
\tea support = yes
\tstore dos attributes = yes
\tmap archive = no
\tmap hidden = no
\tmap system = no
\tmap readonly = no
\tcreate mask = 0755
\tdos filemode = yes
\tsmbd:writetimeupdatedelay = 500000
\tcheck parent directory delete on close = yes
\tread only = no
\tvfs objects = acl_xattr xattr_tdb streams_depot
";

/// The [global] section of Debian's smb.conf, without what reaches for the system's own accounts, printers and mail (the
/// accounts here aren't the system's). Leaving PAM out spares smbd work when sessions begin.
const DEBIAN_SETTINGS: &str = "\tworkgroup = WORKGROUP
\tinterfaces = lo
\tbind interfaces only = yes
\tmax log size = 1000
\tlogging = file
\tserver role = standalone server
\tmap to guest = bad user
\tload printers = no
\tdisable spoolss = yes
\tread only = no
";

/// Starts smbd and waits until it accepts connections.
pub(super) fn spawn(site: &Site) -> Result<Child> {
    ensure!(rustix::process::geteuid().is_root(), "smbd as a peer needs root");
    let base = site.directory().join("smbd");
    let configuration = base.join("smb.conf");
    if !configuration.exists() {
        lay_out(site, &base, &configuration)?;
    }
    let log = OpenOptions::new().create(true).append(true).open(site.log_file())?;
    let mut child = samba(&base, "smbd")?
        .args(["-F", "--no-process-group", "-s"])
        .arg(&configuration)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    super::wait_until_accepting(&mut child, site, "smbd", START_LIMIT)?;
    Ok(child)
}

fn lay_out(site: &Site, base: &Path, configuration: &Path) -> Result<()> {
    let settings = match site.purpose {
        Purpose::Conformance => SETTINGS,
        Purpose::Speed => DEBIAN_SETTINGS,
    };
    let mut text = format!("[global]\n\tsmb ports = {}\n{settings}", site.address.port());
    let directories =
        ["private dir", "state directory", "cache directory", "lock directory", "pid directory"];
    for name in directories.into_iter().chain(["ncalrpc dir", "winbindd socket directory"]) {
        let path = base.join(name.replace(' ', "-"));
        fs::create_dir_all(&path)?;
        writeln!(text, "\t{name} = {}", path.display())?;
    }
    writeln!(text, "\tlog file = {}", site.log_file().display())?;
    writeln!(text, "\tmangled names = {}", if site.short_names { "yes" } else { "no" })?;
    for share in &site.shares {
        writeln!(text, "[{}]\n\tpath = {}", share.name, share.path.display())?;
    }
    for share in &site.named_shares {
        writeln!(text, "[{}]\n\tpath = {}", share.name, share.path.display())?;
        let trimmed = if share.name == HIDES_UNREADABLE { "yes" } else { "no" };
        writeln!(text, "\thide unreadable = {trimmed}")?;
    }
    fs::write(configuration, text)?;

    let mut passwd = fs::read_to_string("/etc/passwd")?;
    let mut group = fs::read_to_string("/etc/group")?;
    for (user, id) in site.users.iter().zip(FIRST_USER_ID..) {
        writeln!(passwd, "{0}:x:{id}:{id}:{0}:/nonexistent:/usr/sbin/nologin", user.name)?;
        writeln!(group, "{}:x:{id}:", user.name)?;
    }
    fs::write(base.join("passwd"), passwd)?;
    fs::write(base.join("group"), group)?;
    for user in &site.users {
        set_password(base, configuration, user.name, user.password)?;
    }
    Ok(())
}

fn set_password(base: &Path, configuration: &Path, name: &str, password: &str) -> Result<()> {
    let mut child = samba(base, "smbpasswd")?
        .arg("-c")
        .arg(configuration)
        .args(["-s", "-a", name])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    let mut input = child.stdin.take().context("smbpasswd's input")?;
    write!(input, "{password}\n{password}\n")?;
    drop(input);
    let status = child.wait()?;
    ensure!(status.success(), "smbpasswd for {name}: {status}");
    Ok(())
}

/// One of Samba's programs with the site's accounts in place of the system's.
fn samba(base: &Path, program: &str) -> Result<Command> {
    let file: PathBuf =
        process::find_program(program).with_context(|| format!("no {program} on this machine"))?;
    let mut command = Command::new(file);
    command
        .env("LD_PRELOAD", "libnss_wrapper.so")
        .env("NSS_WRAPPER_PASSWD", base.join("passwd"))
        .env("NSS_WRAPPER_GROUP", base.join("group"));
    Ok(command)
}
