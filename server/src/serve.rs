//! `leasehold serve`.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crypto_fast::Fast;
use runtime::{BlockingPool, Bounds, Cores, Recovery, Running, ServerConfig};
use rustix::process::{Resource, getrlimit, setrlimit};
use smb_proto::auth::AcceptorConfig;
use smb_proto::command::ioctl::NetworkInterface;
use smb_proto::crypto::{CipherAlgorithm, Portable, Provider, SigningAlgorithm};
use smb_state::config::{Config, Encryption as CoreEncryption};
use smb_state::event::Admin;
use storage::driver::Offload;
use storage::store::{HandleStore, LogStore, Options};
use tokio::signal::unix::{Signal, SignalKind, signal};
use zeroize::Zeroizing;

use crate::cli::{Crypto, RuntimeKind, ServeArguments};
use crate::config::{self, Encryption, Settings, ShareSettings};
use crate::directory::Directory;
use crate::failure::{About, Failure, Outcome};
use crate::site::Site;
use crate::state::{self, Start};
use crate::users::UserTable;
use crate::{interfaces, logging, password, random, users};

const PORT: u16 = 445;
/// For those who may not take [`PORT`].
const PORT_UNPRIVILEGED: u16 = 4445;
/// How long connections may take to end when the server stops.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);
/// Threads for file I/O that has to wait for a disk.
const BLOCKING_THREADS_MAX: usize = 64;
const GENERATED_USER: &str = "leasehold";

pub(crate) fn run(arguments: &ServeArguments) -> Outcome<()> {
    logging::start(arguments.log_format);
    raise_file_limit();
    let settings = settings(arguments)?;
    check_runtime(settings.runtime)?;
    cores(&settings).check().about("cores")?;
    let (users, generated) = known_users(&settings, arguments)?;
    let directory = Arc::new(Directory::new(users, settings.strangers));
    let (mut start, note) = state::begin(settings.state_dir.as_deref())?;
    let store = handle_store(&settings, &mut start)?;
    if let Some(note) = note {
        tracing::warn!("{note}");
    }
    let name = settings.name.clone().unwrap_or_else(host_name);
    let domain = smb_state::security::account_domain(&start.server_guid);
    let mut site = Site::new(&name, domain, offload(settings.runtime));
    let shares = site.shares(&settings.shares)?;
    let keeps = store.is_some();
    let core = core_config(&settings, &start, shares);
    let handle = listen(&settings, |listen| ServerConfig {
        core: Config { interfaces: interfaces(&settings, &listen), ..core.clone() },
        listen,
        names: names(&name),
        volumes: site.volumes(),
        users: Arc::clone(&directory) as _,
        provider: provider(settings.crypto),
        cores: cores(&settings),
        bounds: Bounds::default(),
        store: store.clone(),
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().about("signals")?;
    // Before anybody is told that the server is ready: a signal must not find the default handler.
    let mut signals = runtime.block_on(async { Signals::install() }).about("signals")?;
    announce(&*handle, &settings, generated.as_ref().map(|password| password.as_str()))
        .about("standard output")?;
    let serving =
        until_stopped(&*handle, &mut signals, || reload(arguments, &*handle, &directory, &mut site, keeps));
    #[cfg(feature = "seeded-faults")]
    let serving = crate::seeded::beside(&*handle, arguments.fault, serving);
    runtime.block_on(serving);
    stop(handle, &runtime, &mut signals)
}

/// Where records of persistent opens are kept, if a share has such. The number of the start is then also greater than those of all
/// starts that the store knows. If no share has such, records of earlier starts are void: nobody guards their files any more.
fn handle_store(settings: &Settings, start: &mut Start) -> Outcome<Option<Arc<dyn HandleStore>>> {
    let none = settings.shares.iter().all(|share| share.continuous_availability.is_none());
    let path = match &start.directory {
        Some(directory) => directory.join("handles"),
        None if none => return Ok(None),
        None => {
            return Err(Failure::new("a continuously available share needs a state directory (state_dir)"));
        }
    };
    let options = Options { incarnation_min: start.incarnation, ..Options::default() };
    if none {
        if path.try_exists().about_path(&path)? {
            let records;
            (records, start.incarnation) = LogStore::clear(&path, options).about_path(&path)?;
            if records > 0 {
                tracing::warn!(records, "no share is continuously available: persistent opens are given up");
            }
        }
        return Ok(None);
    }
    let store = LogStore::open(&path, options).about_path(&path)?;
    start.incarnation = store.incarnation();
    for damage in store.damage() {
        let (segment, bytes) = (damage.segment, &damage.bytes);
        if damage.torn {
            tracing::info!(segment, ?bytes, "the end of the handle store is torn, as crashes leave it");
        } else {
            tracing::error!(segment, ?bytes, "the handle store is damaged");
        }
    }
    Ok(Some(Arc::new(store)))
}

/// What to serve, from the file or the command line.
fn settings(arguments: &ServeArguments) -> Outcome<Settings> {
    let mut settings = match &arguments.config {
        Some(path) => config::load(path)?,
        None => Settings {
            users_file: arguments.users_file.clone(),
            shares: shares_of_command_line(arguments)?,
            ..Settings::default()
        },
    };
    if !arguments.listen.is_empty() {
        settings.listen.clone_from(&arguments.listen);
    }
    if !arguments.interface.is_empty() {
        settings.interfaces.clone_from(&arguments.interface);
    }
    settings.crypto = arguments.crypto.unwrap_or(settings.crypto);
    settings.cores = arguments.cores.clone().or(settings.cores);
    settings.runtime = arguments.runtime.unwrap_or(settings.runtime);
    Ok(settings)
}

fn shares_of_command_line(arguments: &ServeArguments) -> Outcome<Vec<ShareSettings>> {
    let alone = arguments.path.iter().map(|path| ("share", path));
    let named = arguments.share.iter().map(|(name, path)| (name.as_str(), path));
    let mut shares: Vec<ShareSettings> = Vec::new();
    for (name, path) in alone.chain(named) {
        if shares.iter().any(|share| config::same_name(&share.name, name)) {
            return Err(Failure::new(format!("there are two shares \"{name}\"")));
        }
        if !path.is_dir() {
            return Err(Failure::new(format!("{} is not a directory that can be reached", path.display())));
        }
        let (read_only, path) = (arguments.read_only, path.clone());
        let name = name.into();
        let (encrypt, access_based, guests) = (false, false, false);
        shares.push(ShareSettings {
            name,
            path,
            read_only,
            encrypt,
            access_based,
            continuous_availability: None,
            follow_symlinks: false,
            guests,
            users: None,
        });
    }
    if shares.is_empty() {
        return Err(Failure::new("nothing to serve: give a directory, --share NAME=PATH or --config FILE"));
    }
    Ok(shares)
}

/// Who may log on. Without users of the operator's, one with a password that is made up, which is returned too.
fn known_users(
    settings: &Settings,
    arguments: &ServeArguments,
) -> Outcome<(UserTable, Option<Zeroizing<String>>)> {
    if let Some(path) = &settings.users_file {
        return Ok((load_users(path)?, None));
    }
    let mut table = UserTable::default();
    for user in &arguments.user {
        table.set(user, &password::from_environment(user)?)?;
    }
    if !arguments.user.is_empty() {
        return Ok((table, None));
    }
    let password = random::password()?;
    table.set(GENERATED_USER, &password)?;
    Ok((table, Some(password)))
}

fn load_users(path: &Path) -> Outcome<UserTable> {
    users::load(path).map_err(|error| Failure::new(error.to_string()))
}

fn core_config(settings: &Settings, start: &Start, shares: Vec<smb_state::config::Share>) -> Config {
    Config {
        server_guid: start.server_guid,
        incarnation: start.incarnation,
        shards: u16::try_from(cores(settings).count()).unwrap_or(1),
        dialects: settings.dialects,
        signers: vec![SigningAlgorithm::AesGmac, SigningAlgorithm::AesCmac, SigningAlgorithm::HmacSha256],
        ciphers: match settings.encryption {
            Encryption::Off => Vec::new(),
            Encryption::Possible | Encryption::Required => vec![
                CipherAlgorithm::Aes128Gcm,
                CipherAlgorithm::Aes256Gcm,
                CipherAlgorithm::Aes128Ccm,
                CipherAlgorithm::Aes256Ccm,
            ],
        },
        signing_required: settings.signing_required,
        encryption: match settings.encryption {
            Encryption::Required => CoreEncryption::Required,
            Encryption::Off | Encryption::Possible => CoreEncryption::Possible,
        },
        limits: settings.limits,
        shares,
        interfaces: Vec::new(),
    }
}

/// The addresses to tell to clients.
fn interfaces(settings: &Settings, listening: &[SocketAddr]) -> Vec<NetworkInterface> {
    let listening: Vec<IpAddr> = listening.iter().map(SocketAddr::ip).collect();
    interfaces::advertised(&settings.interfaces, &listening)
}

fn provider(crypto: Crypto) -> Arc<dyn Provider> {
    match crypto {
        Crypto::Fast => Arc::new(Fast),
        Crypto::Portable => Arc::new(Portable),
    }
}

fn cores(settings: &Settings) -> Cores {
    let all = || Cores::Count(std::thread::available_parallelism().map_or(1, NonZero::get));
    settings.cores.clone().unwrap_or_else(all)
}

/// Starts a server on the runtime that was chosen.
fn start(kind: RuntimeKind, config: ServerConfig) -> io::Result<Box<dyn Running>> {
    match kind {
        RuntimeKind::Tokio => Ok(Box::new(runtime_tokio::Server::start(config)?)),
        #[cfg(target_os = "linux")]
        RuntimeKind::Glommio => Ok(Box::new(runtime_glommio::Server::start(config)?)),
        #[cfg(not(target_os = "linux"))]
        RuntimeKind::Glommio => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// What carries out file I/O that has to wait.
fn offload(kind: RuntimeKind) -> Arc<dyn Offload> {
    let threads = Arc::new(BlockingPool::new(BLOCKING_THREADS_MAX));
    match kind {
        RuntimeKind::Tokio => threads,
        #[cfg(target_os = "linux")]
        RuntimeKind::Glommio => Arc::new(runtime_glommio::RingOffload::new(threads)),
        #[cfg(not(target_os = "linux"))]
        RuntimeKind::Glommio => threads,
    }
}

/// Whether the runtime that was chosen can run here at all.
fn check_runtime(kind: RuntimeKind) -> Outcome<()> {
    match kind {
        RuntimeKind::Tokio => Ok(()),
        #[cfg(target_os = "linux")]
        RuntimeKind::Glommio => {
            runtime_glommio::available().about("glommio can't run here; --runtime tokio can")
        }
        #[cfg(not(target_os = "linux"))]
        RuntimeKind::Glommio => Err(Failure::new("glommio needs Linux; --runtime tokio runs here")),
    }
}

/// The machine's name as NetBIOS would have it.
fn host_name() -> String {
    let system = rustix::system::uname();
    let name = system.nodename().to_string_lossy();
    let first = name.split('.').next().unwrap_or_default();
    let good = |character: &char| character.is_ascii_alphanumeric() || *character == '-';
    let name: String = first.chars().filter(good).take(15).collect::<String>().to_uppercase();
    if name.is_empty() { "LEASEHOLD".into() } else { name }
}

/// What NTLM tells clients: a server that is in no domain is its own.
fn names(netbios: &str) -> AcceptorConfig {
    let dns = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    let domain = dns.split_once('.').map_or(dns.as_str(), |(_, domain)| domain);
    AcceptorConfig {
        netbios_computer: netbios.into(),
        netbios_domain: netbios.into(),
        dns_domain: domain.into(),
        dns_computer: dns,
    }
}

/// Starts the server where it was told to listen, or on every address.
fn listen(
    settings: &Settings,
    config: impl Fn(Vec<SocketAddr>) -> ServerConfig,
) -> Outcome<Box<dyn Running>> {
    if !settings.listen.is_empty() {
        let addresses: Vec<String> = settings.listen.iter().map(ToString::to_string).collect();
        return start(settings.runtime, config(settings.listen.clone()))
            .about(format!("listening on {}", addresses.join(", ")));
    }
    match everywhere(settings.runtime, PORT, &config) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            everywhere(settings.runtime, PORT_UNPRIVILEGED, &config)
                .about(format!("listening on port {PORT_UNPRIVILEGED}"))
        }
        other => other.about(format!("listening on port {PORT}")),
    }
}

fn everywhere(
    kind: RuntimeKind,
    port: u16,
    config: impl Fn(Vec<SocketAddr>) -> ServerConfig,
) -> io::Result<Box<dyn Running>> {
    let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    match start(kind, config(vec![v4, v6])) {
        // A machine may have no IPv6 at all.
        Err(error) if !matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::AddrInUse) => {
            start(kind, config(vec![v4]))
        }
        other => other,
    }
}

/// Tells on standard output what is served and where. The line with `listening on` comes last.
fn announce(handle: &dyn Running, settings: &Settings, generated: Option<&str>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for share in &settings.shares {
        writeln!(out, "share {} is {}", share.name, share.path.display())?;
    }
    if let (Some(password), Some(address), Some(share)) =
        (generated, handle.addresses().first(), settings.shares.first())
    {
        let host = match address.ip() {
            ip if !ip.is_unspecified() => ip,
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        writeln!(out, "user {GENERATED_USER}, password {password}")?;
        let port = address.port();
        let unc = quoted(&format!("//{host}/{}", share.name));
        writeln!(out, "try: smbclient {unc} -p {port} -U '{GENERATED_USER}%{password}'")?;
    }
    if let Some(Recovery { restored, given_up, unreadable, took }) = handle.recovery() {
        let ms = took.as_secs_f64() * 1000.0;
        writeln!(
            out,
            "recovered {restored} handles in {ms:.1} ms; {given_up} given up, {unreadable} unreadable"
        )?;
    }
    for address in handle.addresses() {
        writeln!(out, "listening on {address}")?;
    }
    out.flush()
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-:".contains(&byte);
    if word.bytes().all(plain) { word.into() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

struct Signals {
    hang_up: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn install() -> io::Result<Self> {
        Ok(Self {
            hang_up: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

/// Waits for the signal to stop, and reloads at each SIGHUP.
async fn until_stopped(handle: &dyn Running, signals: &mut Signals, mut reload: impl FnMut() -> Outcome<()>) {
    loop {
        tokio::select! {
            _ = signals.hang_up.recv() => match reload() {
                Ok(()) => tracing::info!("reloaded"),
                Err(failure) => tracing::error!("nothing is reloaded: {failure}"),
            },
            _ = signals.terminate.recv() => return,
            _ = signals.interrupt.recv() => return,
            () = handle.failed() => return,
        }
    }
}

/// Takes over shares, users, limits and the addresses that clients are told; everything is read before anything changes.
fn reload(
    arguments: &ServeArguments,
    handle: &dyn Running,
    directory: &Directory,
    site: &mut Site,
    keeps: bool,
) -> Outcome<()> {
    let settings = settings(arguments)?;
    if !keeps && settings.shares.iter().any(|share| share.continuous_availability.is_some()) {
        return Err(Failure::new("the first continuously available share needs a start of the server"));
    }
    let users = settings.users_file.as_deref().map(load_users).transpose()?;
    let shares = site.shares(&settings.shares)?;
    if let Some(users) = users {
        directory.replace(users);
    }
    handle.reload(&Admin::Shares(shares));
    handle.reload(&Admin::Limits(settings.limits));
    handle.reload(&Admin::Interfaces(interfaces(&settings, handle.addresses())));
    Ok(())
}

/// Stops; a second signal doesn't wait for clients.
fn stop(handle: Box<dyn Running>, runtime: &tokio::runtime::Runtime, signals: &mut Signals) -> Outcome<()> {
    let failed = handle.has_failed();
    tracing::info!("stopping");
    let stopping = std::thread::spawn(move || handle.shutdown(SHUTDOWN_TIMEOUT));
    runtime.block_on(async {
        while !stopping.is_finished() {
            tokio::select! {
                _ = signals.terminate.recv() => std::process::exit(1),
                _ = signals.interrupt.recv() => std::process::exit(1),
                () = tokio::time::sleep(Duration::from_millis(10)) => {}
            }
        }
    });
    let leftovers = stopping.join().map_err(|_| Failure::new("stopping failed"))?;
    if leftovers.connections > 0 {
        tracing::warn!(connections = leftovers.connections, "cut off");
    }
    if failed { Err(Failure::new("a shard failed; see the log")) } else { Ok(()) }
}

/// Every open of a client is a file descriptor: take as many as the system allows.
fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files stays low");
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn arguments(line: &[&str]) -> ServeArguments {
        match Cli::parse_from(["leasehold", "serve"].iter().chain(line)).command {
            Command::Serve(arguments) => arguments,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_path_alone_is_the_share_named_share() {
        let settings =
            settings(&arguments(&["/tmp", "--share", "etc=/etc", "--read-only", "--cores", "3"])).unwrap();
        let names: Vec<_> =
            settings.shares.iter().map(|share| (share.name.as_str(), share.read_only)).collect();
        assert_eq!(names, [("share", true), ("etc", true)]);
        assert_eq!(cores(&settings), Cores::Count(3));
        assert_eq!(settings.runtime, RuntimeKind::Tokio);
    }

    #[test]
    fn what_cannot_be_served_is_said() {
        for (line, part) in [
            (&[][..], "nothing to serve"),
            (&["/nowhere/at/all"], "not a directory"),
            (&["/tmp", "--share", "SHARE=/etc"], "two shares"),
            (&["--config", "/nowhere/leasehold.toml"], "/nowhere/leasehold.toml"),
        ] {
            let failure = settings(&arguments(line)).unwrap_err().to_string();
            assert!(failure.contains(part), "{failure}");
        }
    }

    #[test]
    fn without_users_one_is_made_up() {
        let line = arguments(&["/tmp"]);
        let (table, password) = known_users(&settings(&line).unwrap(), &line).unwrap();
        let password = password.unwrap();
        let hash = smb_proto::auth::ntlm::compute::nt_hash(&password);
        assert_eq!(table.get(GENERATED_USER).unwrap().nt_hash, hash);
        let line = arguments(&["/tmp", "--user", "no such user"]);
        let failure = known_users(&settings(&line).unwrap(), &line).unwrap_err().to_string();
        assert!(failure.contains("LEASEHOLD_PASSWORD_NO_SUCH_USER"), "{failure}");
    }

    #[test]
    fn records_are_void_after_a_start_without_continuous_availability() {
        let directory = tempfile::tempdir().unwrap();
        let with = |continuous_availability| {
            let mut settings = settings(&arguments(&["/tmp"])).unwrap();
            settings.shares[0].continuous_availability = continuous_availability;
            let (mut start, _) = state::begin(Some(directory.path())).unwrap();
            let store = handle_store(&settings, &mut start).unwrap();
            (store, start.incarnation)
        };
        let available = Some(smb_state::config::Survives::PowerCut);
        assert!(with(None).0.is_none());
        assert!(!directory.path().join("handles").exists(), "nothing is made for what nobody uses");
        let put = |store: Arc<dyn HandleStore>| {
            let (sender, receiver) = std::sync::mpsc::channel();
            let change = storage::store::Change::Put { key: 1, value: b"record"[..].into() };
            store.change(change, storage::store::Done::new(move |outcome| sender.send(outcome).unwrap()));
            receiver.recv().unwrap().unwrap();
        };
        put(with(available).0.unwrap());
        let (store, last) = with(available);
        assert_eq!(store.unwrap().replay().len(), 1);
        let (none, number) = with(None);
        assert!(none.is_none() && number > last);
        let (store, last) = with(available);
        assert_eq!(store.unwrap().replay(), [], "its client did without it meanwhile");
        assert!(last > number);
    }

    #[test]
    fn a_line_for_the_shell_means_what_it_says() {
        assert_eq!(quoted("//127.0.0.1/share"), "//127.0.0.1/share");
        assert_eq!(quoted("//127.0.0.1/ann's $HOME"), r"'//127.0.0.1/ann'\''s $HOME'");
    }

    #[test]
    fn the_host_name_fits_netbios() {
        let name = host_name();
        assert!((1..=15).contains(&name.len()), "{name}");
    }
}
