//! The configuration file.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::path::{Path, PathBuf};

use runtime::Cores;
use serde::Deserialize;
use smb_proto::command::negotiate::Dialect;
use smb_state::config::{Limits, Survives};
use toml::Spanned;

use crate::cli::{Crypto, RuntimeKind};
use crate::directory::Strangers;
use crate::failure::{About, Failure, Outcome};

/// Threads at most, and processors that can be named.
const CORES_MAX: usize = 1024;

/// What a server is run with, from the command line or a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Empty: the default addresses.
    pub(crate) listen: Vec<SocketAddr>,
    /// Empty: what is listened on.
    pub(crate) interfaces: Vec<IpAddr>,
    /// None: one per processor, not bound.
    pub(crate) cores: Option<Cores>,
    pub(crate) runtime: RuntimeKind,
    pub(crate) name: Option<String>,
    pub(crate) state_dir: Option<PathBuf>,
    pub(crate) users_file: Option<PathBuf>,
    pub(crate) signing_required: bool,
    pub(crate) strangers: Strangers,
    pub(crate) encryption: Encryption,
    pub(crate) crypto: Crypto,
    pub(crate) dialects: (Dialect, Dialect),
    pub(crate) limits: Limits,
    pub(crate) shares: Vec<ShareSettings>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            interfaces: Vec::new(),
            cores: None,
            runtime: RuntimeKind::default(),
            name: None,
            state_dir: None,
            users_file: None,
            signing_required: false,
            strangers: Strangers::default(),
            encryption: Encryption::Possible,
            crypto: Crypto::default(),
            dialects: (Dialect::SMB_2_0_2, Dialect::SMB_3_1_1),
            limits: Limits::default(),
            shares: Vec::new(),
        }
    }
}

/// A share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ShareSettings {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) read_only: bool,
    pub(crate) encrypt: bool,
    /// Listings leave out what the user may not read.
    pub(crate) access_based: bool,
    /// The server follows symbolic links; if not, clients do.
    pub(crate) follow_symlinks: bool,
    /// Clients get persistent handles, and their writes survive this.
    pub(crate) continuous_availability: Option<Survives>,
    /// Guests and anonymous clients may connect too, where the server lets them in.
    pub(crate) guests: bool,
    /// `None`: every user.
    pub(crate) users: Option<Vec<String>>,
}

/// Whether traffic is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Encryption {
    Off,
    Possible,
    Required,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Signing {
    Possible,
    Required,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    server: ServerSection,
    #[serde(default)]
    limits: LimitsSection,
    #[serde(default)]
    share: Vec<ShareSection>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServerSection {
    listen: Option<Vec<Spanned<String>>>,
    interfaces: Option<Vec<Spanned<String>>>,
    cores: Option<Spanned<CoresSetting>>,
    runtime: Option<RuntimeKind>,
    name: Option<Spanned<String>>,
    state_dir: Option<PathBuf>,
    users_file: Option<PathBuf>,
    signing: Option<Signing>,
    #[serde(default)]
    anonymous: bool,
    #[serde(default)]
    guests: bool,
    encryption: Option<Spanned<Encryption>>,
    crypto: Option<Crypto>,
    dialect_min: Option<Spanned<String>>,
    dialect_max: Option<Spanned<String>>,
}

/// `cores = 4` or `cores = "0-3"`.
#[derive(Deserialize)]
#[serde(untagged, expecting = "cores must be a number, or a list of processors like \"0-3\"")]
enum CoresSetting {
    Count(u64),
    List(String),
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsSection {
    connections: Option<Spanned<u32>>,
    unauthenticated_connections: Option<Spanned<u32>>,
    authentication_timeout_seconds: Option<Spanned<u32>>,
    sessions_per_connection: Option<Spanned<u32>>,
    channels_per_session: Option<Spanned<u32>>,
    tree_connects_per_session: Option<Spanned<u32>>,
    opens_per_session: Option<Spanned<u32>>,
    preserved_opens: Option<Spanned<u32>>,
    preserve_seconds: Option<Spanned<u32>>,
    preserve_seconds_max: Option<Spanned<u32>>,
    locks_per_open: Option<Spanned<u32>>,
    waiting_requests_per_connection: Option<Spanned<u32>>,
    watches_per_session: Option<Spanned<u32>>,
    watches_per_volume: Option<Spanned<u32>>,
    streams_per_file: Option<Spanned<u32>>,
    credits: Option<Spanned<u32>>,
    io_size: Option<Spanned<u32>>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Availability {
    Off,
    PowerCut,
    KilledServer,
}

impl Availability {
    fn survives(self) -> Option<Survives> {
        match self {
            Self::Off => None,
            Self::PowerCut => Some(Survives::PowerCut),
            Self::KilledServer => Some(Survives::KilledServer),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ShareSection {
    name: Spanned<String>,
    path: Spanned<PathBuf>,
    #[serde(default)]
    read_only: bool,
    encrypt: Option<Spanned<bool>>,
    #[serde(default)]
    access_based_enumeration: bool,
    follow_symlinks: Option<Spanned<bool>>,
    continuous_availability: Option<Availability>,
    #[serde(default)]
    guests: bool,
    users: Option<Vec<Spanned<String>>>,
}

/// Reads a configuration file. Relative paths in it are relative to its directory.
pub(crate) fn load(path: &Path) -> Outcome<Settings> {
    let text = std::fs::read_to_string(path).about_path(path)?;
    let directory = path.parent().unwrap_or(Path::new(""));
    parse(&text, directory).map_err(|Wrong { line, cause }| match line {
        Some(line) => Failure::new(format!("{}:{line}: {cause}", path.display())),
        None => Failure::new(format!("{}: {cause}", path.display())),
    })
}

/// What is wrong with a file, and where.
#[derive(Debug, PartialEq, Eq)]
struct Wrong {
    line: Option<usize>,
    cause: String,
}

/// Finds lines.
struct Source<'a>(&'a str);

impl Source<'_> {
    fn wrong(&self, at: Range<usize>, cause: impl Into<String>) -> Wrong {
        let before = self.0.get(..at.start).unwrap_or(self.0);
        Wrong { line: Some(1 + before.matches('\n').count()), cause: cause.into() }
    }

    /// A limit that must lie in `range`.
    fn within(&self, value: Option<Spanned<u32>>, range: Range<u32>, default: u32) -> Result<u32, Wrong> {
        let Some(value) = value else { return Ok(default) };
        if range.contains(value.get_ref()) {
            return Ok(*value.get_ref());
        }
        Err(self.wrong(value.span(), format!("must be from {} to {}", range.start, range.end - 1)))
    }
}

fn parse(text: &str, directory: &Path) -> Result<Settings, Wrong> {
    let source = Source(text);
    let file: File = toml::from_str(text).map_err(|error| match error.span() {
        Some(span) => source.wrong(span, error.message()),
        None => Wrong { line: None, cause: error.message().into() },
    })?;
    let server = file.server;
    let listen = server.listen.unwrap_or_default();
    let interfaces = server.interfaces.unwrap_or_default();
    if file.share.is_empty() {
        return Err(Wrong { line: None, cause: "there is no [[share]]".into() });
    }
    let encryption = server.encryption.as_ref().map_or(Encryption::Possible, |value| *value.get_ref());
    let dialects = dialects(&source, server.dialect_min, server.dialect_max)?;
    if let Some(required) = server.encryption
        && *required.get_ref() == Encryption::Required
        && !dialects.1.is_smb3()
    {
        return Err(source.wrong(required.span(), "encryption can't be required below dialect 3.0"));
    }
    Ok(Settings {
        listen: listen
            .into_iter()
            .map(|address| parse_address(&source, &address))
            .collect::<Result<_, _>>()?,
        interfaces: interfaces
            .into_iter()
            .map(|address| parse_interface(&source, &address))
            .collect::<Result<_, _>>()?,
        cores: server.cores.map(|cores| check_cores(&source, &cores)).transpose()?,
        runtime: server.runtime.unwrap_or_default(),
        name: server.name.map(|name| check_name(&source, name)).transpose()?,
        state_dir: server.state_dir.map(|path| directory.join(path)),
        users_file: server.users_file.map(|path| directory.join(path)),
        signing_required: matches!(server.signing, Some(Signing::Required)),
        strangers: Strangers { anonymous: server.anonymous, guests: server.guests },
        encryption,
        crypto: server.crypto.unwrap_or_default(),
        dialects,
        limits: limits(&source, file.limits)?,
        shares: shares(&source, file.share, encryption, directory)?,
    })
}

fn parse_address(source: &Source<'_>, text: &Spanned<String>) -> Result<SocketAddr, Wrong> {
    let wrong = |_| source.wrong(text.span(), format!("\"{}\" is not ADDRESS:PORT", text.get_ref()));
    text.get_ref().parse().map_err(wrong)
}

fn parse_interface(source: &Source<'_>, text: &Spanned<String>) -> Result<IpAddr, Wrong> {
    let wrong = |_| source.wrong(text.span(), format!("\"{}\" is not an address", text.get_ref()));
    text.get_ref().parse().map_err(wrong)
}

fn check_cores(source: &Source<'_>, cores: &Spanned<CoresSetting>) -> Result<Cores, Wrong> {
    let parsed = match cores.get_ref() {
        CoresSetting::Count(count) => parse_cores(&count.to_string()),
        CoresSetting::List(list) => parse_cores(list),
    };
    parsed.map_err(|cause| source.wrong(cores.span(), cause))
}

/// A number of threads, or a list of processors: numbers and ranges. One processor alone is written as a range, `2-2`.
pub(crate) fn parse_cores(text: &str) -> Result<Cores, String> {
    let number = |text: &str| text.parse::<usize>().ok();
    if let Some(count) = number(text) {
        return match count {
            1..=CORES_MAX => Ok(Cores::Count(count)),
            _ => Err(format!("cores must be from 1 to {CORES_MAX}")),
        };
    }
    let mut processors = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let range =
            number(first).zip(number(last)).filter(|(first, last)| first <= last && *last < CORES_MAX);
        let Some((first, last)) = range else {
            return Err(format!("\"{part}\" is no processor (0 to {}) and no range of them", CORES_MAX - 1));
        };
        processors.extend(first..=last);
    }
    let mut sorted = processors.clone();
    sorted.sort_unstable();
    sorted.dedup();
    match sorted.len() == processors.len() {
        true => Ok(Cores::Pinned(processors)),
        false => Err("a processor is listed twice".into()),
    }
}

fn check_name(source: &Source<'_>, name: Spanned<String>) -> Result<String, Wrong> {
    let good = |character: char| character.is_ascii_alphanumeric() || character == '-';
    if (1..=15).contains(&name.get_ref().len()) && name.get_ref().chars().all(good) {
        return Ok(name.into_inner());
    }
    Err(source.wrong(name.span(), "a server's name has 1 to 15 letters, digits and hyphens"))
}

fn dialects(
    source: &Source<'_>,
    min: Option<Spanned<String>>,
    max: Option<Spanned<String>>,
) -> Result<(Dialect, Dialect), Wrong> {
    let parse =
        |text: &Spanned<String>| match text.get_ref().as_str() {
            "2.0.2" => Ok(Dialect::SMB_2_0_2),
            "2.1" => Ok(Dialect::SMB_2_1),
            "3.0" => Ok(Dialect::SMB_3_0),
            "3.0.2" => Ok(Dialect::SMB_3_0_2),
            "3.1.1" => Ok(Dialect::SMB_3_1_1),
            _ => Err(source
                .wrong(text.span(), "dialects are \"2.0.2\", \"2.1\", \"3.0\", \"3.0.2\" and \"3.1.1\"")),
        };
    let lowest = min.as_ref().map_or(Ok(Dialect::SMB_2_0_2), parse)?;
    let highest = max.as_ref().map_or(Ok(Dialect::SMB_3_1_1), parse)?;
    if lowest.0 > highest.0 {
        let at = max.or(min).map_or(0..0, |text| text.span());
        return Err(source.wrong(at, "dialect_min is above dialect_max"));
    }
    Ok((lowest, highest))
}

fn limits(source: &Source<'_>, section: LimitsSection) -> Result<Limits, Wrong> {
    let default = Limits::default();
    let timeout_s = u32::try_from(default.authentication_timeout_ms / 1000).unwrap_or(u32::MAX);
    let timeout_s = source.within(section.authentication_timeout_seconds, 1..3601, timeout_s)?;
    let io_size = section.io_size.as_ref().map(Spanned::span);
    let credits = source.within(section.credits, 1..65_536, default.credits_max.into())?;
    let limits = Limits {
        connections_max: source.within(section.connections, 1..1_000_001, default.connections_max)?,
        unauthenticated_connections_max: source.within(
            section.unauthenticated_connections,
            1..1_000_001,
            default.unauthenticated_connections_max,
        )?,
        authentication_timeout_ms: u64::from(timeout_s) * 1000,
        sessions_per_connection_max: source.within(
            section.sessions_per_connection,
            1..65_537,
            default.sessions_per_connection_max,
        )?,
        channels_per_session_max: source.within(
            section.channels_per_session,
            1..1025,
            default.channels_per_session_max,
        )?,
        tree_connects_per_session_max: source.within(
            section.tree_connects_per_session,
            1..65_537,
            default.tree_connects_per_session_max,
        )?,
        opens_per_session_max: source.within(
            section.opens_per_session,
            1..1_000_001,
            default.opens_per_session_max,
        )?,
        preserved_opens_max: source.within(
            section.preserved_opens,
            0..10_000_001,
            default.preserved_opens_max,
        )?,
        preserve_ms: 1000 * source.within(section.preserve_seconds, 1..86_401, default.preserve_ms / 1000)?,
        preserve_ms_max: 1000
            * source.within(section.preserve_seconds_max, 1..86_401, default.preserve_ms_max / 1000)?,
        locks_per_open_max: source.within(
            section.locks_per_open,
            1..1_000_001,
            default.locks_per_open_max,
        )?,
        async_requests_per_connection_max: source.within(
            section.waiting_requests_per_connection,
            1..65_537,
            default.async_requests_per_connection_max,
        )?,
        watches_per_session_max: source.within(
            section.watches_per_session,
            1..65_537,
            default.watches_per_session_max,
        )?,
        watches_per_volume_max: source.within(
            section.watches_per_volume,
            1..10_000_001,
            default.watches_per_volume_max,
        )?,
        streams_per_file_max: source.within(
            section.streams_per_file,
            1..65_537,
            default.streams_per_file_max,
        )?,
        credits_max: u16::try_from(credits).unwrap_or(u16::MAX),
        io_size_max: source.within(section.io_size, 65_536..(8 << 20) + 1, default.io_size_max)?,
        ..default
    };
    match io_size {
        Some(span) if !limits.io_size_max.is_multiple_of(65_536) => {
            Err(source.wrong(span, "io_size must be a multiple of 65536"))
        }
        _ => Ok(limits),
    }
}

fn shares(
    source: &Source<'_>,
    sections: Vec<ShareSection>,
    encryption: Encryption,
    directory: &Path,
) -> Result<Vec<ShareSettings>, Wrong> {
    let mut shares: Vec<ShareSettings> = Vec::new();
    for section in sections {
        let at = section.name.span();
        let name = section.name.into_inner();
        check_share_name(&name).map_err(|cause| source.wrong(at.clone(), cause))?;
        if shares.iter().any(|share| same_name(&share.name, &name)) {
            return Err(source.wrong(at, format!("there are two shares \"{name}\"")));
        }
        if let Some(encrypt) = &section.encrypt
            && *encrypt.get_ref()
            && encryption == Encryption::Off
        {
            return Err(source.wrong(encrypt.span(), "the share wants encryption, which is off in [server]"));
        }
        let path = directory.join(section.path.get_ref());
        if !path.is_dir() {
            let cause = format!("{} is not a directory that can be reached", path.display());
            return Err(source.wrong(section.path.span(), cause));
        }
        let follow_symlinks = section.follow_symlinks.as_ref().is_some_and(|follow| *follow.get_ref());
        if shares.iter().any(|share| share.path == path && share.follow_symlinks != follow_symlinks) {
            let at = section.follow_symlinks.map_or(at, |follow| follow.span());
            return Err(source.wrong(at, "another share of the directory has the other follow_symlinks"));
        }
        let users = section.users.map(|users| check_user_names(source, users)).transpose()?;
        let encrypt = section.encrypt.is_some_and(Spanned::into_inner);
        shares.push(ShareSettings {
            name,
            path,
            read_only: section.read_only,
            encrypt,
            access_based: section.access_based_enumeration,
            follow_symlinks,
            continuous_availability: section.continuous_availability.and_then(Availability::survives),
            guests: section.guests,
            users,
        });
    }
    Ok(shares)
}

fn check_user_names(source: &Source<'_>, users: Vec<Spanned<String>>) -> Result<Vec<String>, Wrong> {
    let check = |user: Spanned<String>| match crate::users::check_name(user.get_ref()) {
        Ok(()) => Ok(user.into_inner()),
        Err(cause) => Err(source.wrong(user.span(), cause.to_string())),
    };
    users.into_iter().map(check).collect()
}

/// Whether two share names are the same to a client.
pub(crate) fn same_name(one: &str, other: &str) -> bool {
    smb_proto::Name::from(one).folded() == smb_proto::Name::from(other).folded()
}

/// A share's name: 1 to 80 characters that clients can put into a path (MS-SMB2 2.2.9, MS-FSCC 2.1.6).
pub(crate) fn check_share_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.encode_utf16().count() > 80 {
        return Err("a share's name has 1 to 80 characters".into());
    }
    if let Some(bad) =
        name.chars().find(|character| character.is_control() || "\"\\/[]:|<>+=;,*?".contains(*character))
    {
        return Err(format!("{bad:?} can't be part of a share's name"));
    }
    if ["IPC$", "PIPE", "MAILSLOT"].iter().any(|reserved| same_name(name, reserved)) {
        return Err(format!("{name} is not for files"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Settings, Wrong> {
        parse(text, Path::new("/"))
    }

    /// The line and cause of what is wrong with a text.
    fn wrong(text: &str) -> (usize, String) {
        let wrong = parsed(text).unwrap_err();
        (wrong.line.unwrap_or(0), wrong.cause)
    }

    #[test]
    fn a_share_is_all_that_is_needed() {
        let settings = parsed("[[share]]\nname = \"data\"\npath = \"tmp\"\n").unwrap();
        let share = ShareSettings {
            name: "data".into(),
            path: "/tmp".into(),
            read_only: false,
            encrypt: false,
            access_based: false,
            follow_symlinks: false,
            continuous_availability: None,
            guests: false,
            users: None,
        };
        assert_eq!(settings, Settings { shares: vec![share], ..Settings::default() });
    }

    #[test]
    fn the_example_shows_the_defaults() {
        let text = include_str!("../leasehold.toml").replace("\"/srv\"", "\"/tmp\"");
        let settings = parsed(&text).unwrap();
        assert_eq!(Settings { shares: Vec::new(), ..settings.clone() }, Settings::default());
        assert_eq!(settings.shares.len(), 1);
        // What is commented out must be right too.
        let all: Vec<String> = text
            .lines()
            .map(|line| line.strip_prefix("# ").filter(|line| line.contains(" = ")).unwrap_or(line).into())
            .collect();
        let settings = parsed(&all.join("\n")).unwrap();
        assert_eq!((settings.listen.len(), settings.cores), (2, Some(Cores::Count(4))));
    }

    #[test]
    fn everything_can_be_set() {
        let settings = parsed(
            r#"
            [server]
            listen = ["0.0.0.0:445", "[::]:445"]
            interfaces = ["192.0.2.1", "2001:db8::1"]
            cores = "0-1"
            runtime = "glommio"
            name = "FILES-1"
            state_dir = "var/state"
            users_file = "/etc/users"
            signing = "possible"
            encryption = "required"
            crypto = "portable"
            dialect_min = "3.0"
            dialect_max = "3.1.1"
            [limits]
            connections = 10
            unauthenticated_connections = 5
            authentication_timeout_seconds = 7
            sessions_per_connection = 2
            channels_per_session = 6
            tree_connects_per_session = 3
            opens_per_session = 4
            preserved_opens = 7
            preserve_seconds = 8
            preserve_seconds_max = 9
            locks_per_open = 6
            waiting_requests_per_connection = 5
            watches_per_session = 6
            watches_per_volume = 10
            streams_per_file = 11
            credits = 512
            io_size = 1048576
            [[share]]
            name = "a"
            path = "/tmp"
            read_only = true
            encrypt = true
            follow_symlinks = true
            users = ["ann", "bob"]
            "#,
        )
        .unwrap();
        assert_eq!(settings.listen, ["0.0.0.0:445".parse().unwrap(), "[::]:445".parse().unwrap()]);
        let interfaces: [IpAddr; 2] = ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        assert_eq!(settings.interfaces, interfaces);
        assert_eq!(settings.cores, Some(Cores::Pinned(vec![0, 1])));
        assert_eq!((settings.runtime, settings.name.as_deref()), (RuntimeKind::Glommio, Some("FILES-1")));
        assert_eq!(settings.state_dir, Some("/var/state".into()));
        assert_eq!(settings.users_file, Some("/etc/users".into()));
        assert!(!settings.signing_required);
        assert_eq!((settings.encryption, settings.crypto), (Encryption::Required, Crypto::Portable));
        assert_eq!(settings.dialects, (Dialect::SMB_3_0, Dialect::SMB_3_1_1));
        let limits = Limits {
            connections_max: 10,
            unauthenticated_connections_max: 5,
            authentication_timeout_ms: 7000,
            sessions_per_connection_max: 2,
            channels_per_session_max: 6,
            tree_connects_per_session_max: 3,
            opens_per_session_max: 4,
            preserved_opens_max: 7,
            preserve_ms: 8000,
            preserve_ms_max: 9000,
            locks_per_open_max: 6,
            async_requests_per_connection_max: 5,
            watches_per_session_max: 6,
            watches_per_volume_max: 10,
            streams_per_file_max: 11,
            credits_max: 512,
            io_size_max: 1 << 20,
            ..Limits::default()
        };
        assert_eq!(settings.limits, limits);
        let share = &settings.shares[0];
        assert!(share.read_only && share.encrypt && share.follow_symlinks);
        assert_eq!(share.users, Some(vec!["ann".to_owned(), "bob".to_owned()]));
    }

    #[test]
    fn errors_name_their_line_and_cause() {
        let share = "[[share]]\nname = \"a\"\npath = \"/tmp\"\n";
        for (text, line, part) in [
            ("[server]\ncolour = 1\n".to_owned() + share, 2, "unknown field `colour`"),
            ("[server]\nlisten = [\"localhost\"]\n".to_owned() + share, 2, "not ADDRESS:PORT"),
            ("[server]\ninterfaces = [\"eth0\"]\n".to_owned() + share, 2, "not an address"),
            ("[server]\n\nsigning = \"maybe\"\n".to_owned() + share, 3, "unknown variant `maybe`"),
            ("[server]\ndialect_min = \"3.2\"\n".to_owned() + share, 2, "dialects are"),
            ("[server]\ndialect_min = \"3.0\"\ndialect_max = \"2.1\"\n".to_owned() + share, 3, "above"),
            ("[server]\nencryption = \"required\"\ndialect_max = \"2.1\"\n".to_owned() + share, 2, "below"),
            ("[server]\ncores = 0\n".to_owned() + share, 2, "cores"),
            ("[server]\ncores = \"0-x\"\n".to_owned() + share, 2, "no processor"),
            ("[server]\nruntime = \"smol\"\n".to_owned() + share, 2, "unknown variant `smol`"),
            ("[server]\nname = \"has space\"\n".to_owned() + share, 2, "name"),
            ("[limits]\ncredits = 0\n".to_owned() + share, 2, "from 1 to 65535"),
            ("[limits]\nio_size = 65537\n".to_owned() + share, 2, "multiple"),
            ("[server\n".to_owned() + share, 1, ""),
            (share.to_owned() + "[[share]]\nname = \"A\"\npath = \"/tmp\"\n", 5, "two shares"),
            (
                share.to_owned() + "[[share]]\nname = \"b\"\npath = \"/nowhere/at/all\"\n",
                6,
                "not a directory",
            ),
            (share.to_owned() + "[[share]]\nname = \"b\\u0000\"\npath = \"/tmp\"\n", 5, "share's name"),
            (share.to_owned() + "[[share]]\nname = \"ipc$\"\npath = \"/tmp\"\n", 5, "not for files"),
            (share.to_owned() + "users = [\"a:b\"]\n", 4, "name"),
            ("[server]\nencryption = \"off\"\n".to_owned() + share + "encrypt = true\n", 6, "off"),
            ("[[share]]\nname = \"a\"\n".to_owned(), 1, "missing field `path`"),
        ] {
            let (found, cause) = wrong(&text);
            assert_eq!(found, line, "{text}: {cause}");
            assert!(cause.contains(part), "{text}: {cause}");
        }
        assert_eq!(wrong("[server]\ncores = 1\n"), (0, "there is no [[share]]".to_owned()));
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let failure = load(Path::new("/nowhere/leasehold.toml")).unwrap_err().to_string();
        assert!(failure.starts_with("/nowhere/leasehold.toml: "), "{failure}");
    }
}
