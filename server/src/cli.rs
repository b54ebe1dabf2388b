//! The command line.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use runtime::Cores;
use serde::Deserialize;

/// An SMB 2/3 file server in user space.
#[derive(Debug, Parser)]
#[command(version, about)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve directories.
    Serve(ServeArguments),
    /// Manage the users of a users file.
    User(UserArguments),
    /// Check a configuration file without serving.
    Check(CheckArguments),
}

#[derive(Args, Debug)]
pub(crate) struct ServeArguments {
    /// A directory to serve as the share "share".
    pub(crate) path: Option<PathBuf>,
    /// Address to listen on; port 0 takes a free one [default: every address, port 445, or 4445 without the right to it].
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) listen: Vec<SocketAddr>,
    /// An address to tell to clients that ask where else they can connect (multichannel): behind address translation, or to
    /// name fewer than there are [default: every address that is listened on].
    #[arg(long, value_name = "ADDR")]
    pub(crate) interface: Vec<IpAddr>,
    /// A directory to serve under a name of its own.
    #[arg(long, value_name = "NAME=PATH", value_parser = parse_share)]
    pub(crate) share: Vec<(String, PathBuf)>,
    /// A user who may log on; the password is taken from the environment variable `LEASEHOLD_PASSWORD_<NAME>`
    /// (upper case, `_` for everything but letters and digits).
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Vec<String>,
    /// File with the users who may log on (see `leasehold user`).
    #[arg(long, value_name = "FILE", conflicts_with = "user")]
    pub(crate) users_file: Option<PathBuf>,
    /// Nothing can be changed through the shares given here.
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Threads that serve connections: a number of them, or the processors to bind one each to, as `0-3` or `0,2,4`
    /// [default: one per processor].
    #[arg(long, value_name = "N|LIST", value_parser = crate::config::parse_cores)]
    pub(crate) cores: Option<Cores>,
    /// What drives the server [default: tokio].
    #[arg(long, value_name = "RUNTIME")]
    pub(crate) runtime: Option<RuntimeKind>,
    /// Implementation of signing and encryption [default: fast].
    #[arg(long, value_name = "PROVIDER")]
    pub(crate) crypto: Option<Crypto>,
    /// Configuration file.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["path", "share", "user", "users_file", "read_only"])]
    pub(crate) config: Option<PathBuf>,
    /// What to do wrong at the next SIGUSR1.
    #[cfg(feature = "seeded-faults")]
    #[arg(long, value_name = "FAULT", hide = true)]
    pub(crate) fault: Option<crate::seeded::Fault>,
    /// How the log on standard error looks.
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    pub(crate) log_format: LogFormat,
}

/// Who implements signing and encryption; what goes over the wire is the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Crypto {
    /// AWS-LC, where it is faster.
    #[default]
    Fast,
    /// Rust alone.
    Portable,
}

/// What drives the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RuntimeKind {
    /// tokio, which runs anywhere.
    #[default]
    Tokio,
    /// glommio, a shard per core without locks: Linux with io_uring and 512 KiB of locked memory.
    Glommio,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

#[derive(Args, Debug)]
pub(crate) struct UserArguments {
    #[command(subcommand)]
    pub(crate) action: UserAction,
    /// The users file [default: "users" in the state directory].
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) users_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum UserAction {
    /// Add a user, or give one a new password; it is asked for, or read as one line from standard input.
    Add {
        /// The user's name.
        name: String,
    },
    /// Remove a user.
    Remove {
        /// The user's name.
        name: String,
    },
    /// List the users.
    List,
}

#[derive(Args, Debug)]
pub(crate) struct CheckArguments {
    /// Configuration file.
    pub(crate) config: PathBuf,
}

fn parse_share(text: &str) -> Result<(String, PathBuf), String> {
    let (name, path) = text.split_once('=').ok_or("must be NAME=PATH")?;
    if path.is_empty() {
        return Err("the path is empty".into());
    }
    crate::config::check_share_name(name)?;
    Ok((name.to_owned(), path.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serve(arguments: &[&str]) -> Result<ServeArguments, clap::Error> {
        let all = ["leasehold", "serve"].iter().chain(arguments);
        match Cli::try_parse_from(all)?.command {
            Command::Serve(arguments) => Ok(arguments),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn serve_takes_a_path_or_shares() {
        let simple = serve(&["/srv"]).unwrap();
        assert_eq!((simple.path, simple.log_format), (Some("/srv".into()), LogFormat::Human));
        assert_eq!(simple.crypto, None);
        assert_eq!(serve(&["/srv", "--crypto", "portable"]).unwrap().crypto, Some(Crypto::Portable));
        let many = serve(&[
            "--share",
            "a=/srv/a",
            "--share",
            "b=/srv/b=c",
            "--user",
            "ann",
            "--listen",
            "127.0.0.1:0",
            "--listen",
            "[::1]:0",
            "--interface",
            "192.0.2.1",
            "--interface",
            "2001:db8::1",
        ])
        .unwrap();
        assert_eq!(many.share, [("a".to_owned(), "/srv/a".into()), ("b".to_owned(), "/srv/b=c".into())]);
        assert_eq!((many.listen.len(), many.interface.len()), (2, 2));
    }

    #[test]
    fn cores_are_a_number_or_a_list_of_processors() {
        for (text, cores) in [
            ("3", Cores::Count(3)),
            ("0-3", Cores::Pinned(vec![0, 1, 2, 3])),
            ("5,0-1", Cores::Pinned(vec![5, 0, 1])),
            ("2-2", Cores::Pinned(vec![2])),
        ] {
            let arguments = serve(&["/srv", "--runtime", "glommio", "--cores", text]).unwrap();
            assert_eq!(arguments.cores, Some(cores), "{text}");
            assert_eq!(arguments.runtime, Some(RuntimeKind::Glommio));
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for wrong in [
            &["--share", "a"][..],
            &["--share", "a="],
            &["--share", "=/srv"],
            &["--share", "IPC$=/srv"],
            &["--share", "a/b=/srv"],
            &["--listen", "127.0.0.1"],
            &["--interface", "127.0.0.1:445"],
            &["--cores", "0"],
            &["--cores", "3-1"],
            &["--cores", "1,1"],
            &["--runtime", "smol"],
            &["--config", "x.toml", "/srv"],
            &["--config", "x.toml", "--user", "ann"],
            &["--users-file", "x", "--user", "ann"],
            &["--log-format", "xml"],
            &["--crypto", "openssl"],
        ] {
            assert!(serve(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn user_commands_take_their_file_anywhere() {
        for line in [
            ["leasehold", "user", "--users-file", "f", "add", "ann"],
            ["leasehold", "user", "add", "ann", "--users-file", "f"],
        ] {
            let Command::User(arguments) = Cli::try_parse_from(line).unwrap().command else { panic!() };
            assert_eq!(arguments.users_file, Some("f".into()));
            assert!(matches!(arguments.action, UserAction::Add { name } if name == "ann"));
        }
    }
}
