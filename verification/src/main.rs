//! Command line of the verification runner.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use verification::peer::{Fault, PeerKind, Runtime};
use verification::report::Totals;
use verification::{
    bench, count, cuts, fuzz, hostile, install, interop, kernel_client, kills, storm, torture, workspace,
};

/// Tests the server with the clients and the test suite that others wrote, and compares its speed with smbd's.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Everything: packages, build, cargo test, interoperability, the smbtorture ledger
    Test {
        #[command(flatten)]
        pool: Pool,
    },
    /// smbtorture's smb2 tests, checked against the ledger
    Torture {
        #[command(flatten)]
        pool: Pool,
        /// Run only tests whose name starts with one of these
        #[arg(long, value_name = "PREFIX", num_args = 1..)]
        filter: Vec<String>,
        /// The server under test; against smbd the results are compared with Samba's column instead of the ledger
        #[arg(long, value_enum, default_value = "leasehold")]
        peer: PeerKind,
        /// What drives leasehold
        #[arg(long, value_enum, value_name = "RUNTIME")]
        runtime: Option<Runtime>,
        /// Print each test's result as it ends
        #[arg(long)]
        print_results: bool,
        /// Keep the output of every test in this directory
        #[arg(long, value_name = "DIR")]
        keep_output: Option<std::path::PathBuf>,
        /// Take this run's results as the ledger's expectations; a new non-pass gets the reason UNEXPLAINED
        #[arg(long)]
        write_ledger: bool,
    },
    /// smbclient, two Python clients and two Rust ones
    Interop {
        /// Run only checks whose name contains one of these
        #[arg(long, value_name = "TEXT", num_args = 1..)]
        filter: Vec<String>,
        /// The server under test
        #[arg(long, value_enum, default_value = "leasehold")]
        peer: PeerKind,
        /// What drives leasehold
        #[arg(long, value_enum, value_name = "RUNTIME")]
        runtime: Option<Runtime>,
    },
    /// Speed, latency, processor time and memory beside smbd's and a bare floor, as Markdown tables
    Bench {
        /// Few short rounds, in about two minutes
        #[arg(long)]
        quick: bool,
        /// Run only rows whose name contains one of these
        #[arg(long, value_name = "FILTER", num_args = 1..)]
        rows: Vec<String>,
        /// Samples of each row and server
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        rounds: Option<u32>,
        /// Seconds of each sample
        #[arg(long, value_name = "SECONDS")]
        seconds: Option<f64>,
        /// The servers, in the order of their columns; the first is compared with the others
        #[arg(long, value_enum, num_args = 1.., default_values = ["leasehold", "smbd"])]
        peers: Vec<PeerKind>,
        /// Connections of every row, instead of as many as each has by itself
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
        connections: Option<u16>,
        /// Leave the floor out
        #[arg(long)]
        no_floor: bool,
        /// Connections of the row idle-connections
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        idle_connections: Option<u32>,
        /// Seconds that a server may take to get them
        #[arg(long, value_name = "SECONDS")]
        patience: Option<f64>,
        /// Also write every sample and row as a line of JSON to this file
        #[arg(long, value_name = "PATH")]
        json: Option<std::path::PathBuf>,
        /// Also draw the ratios, as SVG files in this directory
        #[arg(long, value_name = "DIR")]
        svg: Option<std::path::PathBuf>,
    },
    /// How processor time, latency and memory grow with connections, files in a directory and opens, as Markdown tables
    Scaling(Scaling),
    /// Draw charts from what `bench --json` and `scaling --json` wrote
    Charts {
        /// Where to write SVG files
        directory: std::path::PathBuf,
        /// Files of earlier runs
        #[arg(required = true)]
        journals: Vec<std::path::PathBuf>,
    },
    /// The part of bench that does nothing but move bytes
    #[command(hide = true)]
    FloorServer {
        /// Where its files are
        directory: std::path::PathBuf,
    },
    /// The Linux kernel's own client in a virtual machine
    KernelClient {
        /// Run only checks whose `mount: check` contains one of these
        #[arg(long, value_name = "TEXT", num_args = 1..)]
        filter: Vec<String>,
        /// The server under test
        #[arg(long, value_enum, default_value = "leasehold")]
        peer: PeerKind,
        /// Repeat the random parts of an earlier run
        #[arg(long)]
        seed: Option<u64>,
        /// Keep logs, the share and, with dumpcap installed, a capture of the connection in target/kernel-client/last-run
        #[arg(long)]
        keep: bool,
    },
    /// The part of kernel-client that runs in the virtual machine
    #[command(hide = true)]
    KernelGuest(kernel_client::guest::Arguments),
    /// Hostile peers against the running server
    Hostile {
        /// Run only checks whose name contains one of these
        #[arg(long, value_name = "TEXT", num_args = 1..)]
        filter: Vec<String>,
        /// What drives leasehold
        #[arg(long, value_enum, value_name = "RUNTIME")]
        runtime: Option<Runtime>,
    },
    /// Cut connections under clients that come back for their durable opens
    Cuts {
        /// How often
        #[arg(long, default_value_t = 200)]
        count: usize,
        /// Where the random parts start
        #[arg(long)]
        seed: Option<u64>,
        /// What drives leasehold
        #[arg(long, value_enum, value_name = "RUNTIME")]
        runtime: Option<Runtime>,
    },
    /// Kill the server under clients that come back for their persistent opens
    Kills {
        /// How often
        #[arg(long, default_value_t = 200)]
        count: usize,
        /// Where the random parts start
        #[arg(long)]
        seed: Option<u64>,
        /// What drives leasehold
        #[arg(long, value_enum, value_name = "RUNTIME")]
        runtime: Option<Runtime>,
    },
    /// Linux's own client and smbprotocol at once on the same files, judged by an oracle that proves itself first
    Storm {
        /// How long they work
        #[arg(long, value_name = "MINUTES", default_value_t = 10.0)]
        minutes: f64,
        /// Where the random parts start; the same seed makes the same choices, though not the same timing
        #[arg(long)]
        seed: Option<u64>,
        /// Who takes part
        #[arg(long, value_enum, default_value = "all")]
        clients: storm::Clients,
        /// What drives leasehold
        #[arg(long, value_enum, value_name = "RUNTIME")]
        runtime: Option<Runtime>,
        /// Only a storm against a server that is built to do this wrong, and that has to be caught
        #[arg(long, value_enum, conflicts_with = "unproven")]
        fault: Option<Fault>,
        /// Keep logs, the share and, with dumpcap installed, a capture of the connections in target/storm/last-run
        #[arg(long)]
        keep: bool,
        /// Leave out the proof that the oracle catches faults
        #[arg(long)]
        unproven: bool,
    },
    /// The part of storm that runs in the virtual machine
    #[command(hide = true)]
    StormGuest(storm::guest::Arguments),
    /// Bad input: the targets of verification/fuzz under a fuzzing engine, with executions and CPU time of each
    Fuzz {
        /// CPU minutes for each target
        #[arg(long, value_name = "MINUTES", conflicts_with = "total_minutes")]
        minutes_per_target: Option<f64>,
        /// CPU minutes for all targets together
        #[arg(long, value_name = "MINUTES", default_value_t = 30.0)]
        total_minutes: f64,
        /// Run only targets whose name contains one of these
        #[arg(long, value_name = "TEXT", num_args = 1..)]
        targets: Vec<String>,
    },
    /// Instructions that pieces of work take in codec, shard and endpoint, compared with the committed baseline
    Count {
        /// Run only pieces of work whose name contains one of these
        #[arg(long, value_name = "TEXT", num_args = 1..)]
        filter: Vec<String>,
        /// Take this run's counts as the baseline
        #[arg(long, conflicts_with = "filter")]
        write_baseline: bool,
    },
    /// Throughput of the crypto providers, alone and inside the endpoint
    CryptoSpeed,
    /// Print the name of every smbtorture test with its expected result and reason
    List,
}

#[derive(Args)]
struct Scaling {
    /// What grows; everything, one after the other, if not given
    #[arg(long, value_enum, num_args = 1..)]
    axes: Vec<bench::scaling::Axis>,
    /// The servers
    #[arg(long, value_enum, num_args = 1..)]
    peers: Vec<PeerKind>,
    /// Numbers of connections
    #[arg(long, value_name = "N", num_args = 1..)]
    connections: Vec<u32>,
    /// Numbers of files in a directory
    #[arg(long, value_name = "N", num_args = 1..)]
    files: Vec<u32>,
    /// Numbers of opens
    #[arg(long, value_name = "N", num_args = 1..)]
    opens: Vec<u32>,
    /// Samples of each point
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// Seconds of each sample
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<f64>,
    /// Seconds that a server may take to be brought to the next size before it is given up
    #[arg(long, value_name = "SECONDS")]
    patience: Option<f64>,
    /// Also write every point as a line of JSON to this file
    #[arg(long, value_name = "PATH")]
    json: Option<std::path::PathBuf>,
    /// Also draw the curves, as SVG files in this directory
    #[arg(long, value_name = "DIR")]
    svg: Option<std::path::PathBuf>,
}

impl Scaling {
    /// With defaults for what was not given.
    fn options(self) -> Result<bench::scaling::Options> {
        fn or<T>(given: Vec<T>, default: Vec<T>) -> Vec<T> {
            if given.is_empty() { default } else { given }
        }
        let defaults = bench::scaling::Options::default();
        Ok(bench::scaling::Options {
            peers: or(self.peers, defaults.peers),
            axes: self.axes,
            connections: or(self.connections, defaults.connections),
            files: or(self.files, defaults.files),
            opens: or(self.opens, defaults.opens),
            rounds: self.rounds.unwrap_or(defaults.rounds),
            duration: seconds_or(self.seconds, defaults.duration)?,
            patience: seconds_or(self.patience, defaults.patience)?,
            json: self.json,
            svg: self.svg,
        })
    }
}

#[derive(Args)]
struct Pool {
    /// Tests at once, each on a share of its own
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=16))]
    workers: u8,
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(totals)) => finish(&totals),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<Option<Totals>> {
    match command {
        Command::Test { pool } => Ok(Some(test_everything(usize::from(pool.workers)))),
        Command::Torture { pool, filter, peer, runtime, print_results, keep_output, write_ledger } => {
            install::ensure(&[install::SMBTORTURE, install::IPTABLES])?;
            let peer = peer.on(runtime);
            peer.prepare()?;
            let options = torture::Options {
                peer,
                filter,
                workers: usize::from(pool.workers),
                print_results,
                keep_output,
                write_ledger,
            };
            torture::run(&options).map(Some)
        }
        Command::Interop { filter, peer, runtime } => {
            let peer = peer.on(runtime);
            peer.prepare()?;
            workspace::build_examples()?;
            interop::run(peer, &filter).map(Some)
        }
        Command::Bench {
            quick,
            rows,
            rounds,
            seconds,
            peers,
            connections,
            no_floor,
            idle_connections,
            patience,
            json,
            svg,
        } => {
            let defaults = if quick { bench::Options::quick() } else { bench::Options::default() };
            bench::run(&bench::Options {
                peers,
                rows,
                rounds: rounds.unwrap_or(defaults.rounds),
                duration: seconds_or(seconds, defaults.duration)?,
                connections: connections.map(usize::from),
                floor: !no_floor,
                idle_connections: idle_connections.unwrap_or(defaults.idle_connections),
                patience: seconds_or(patience, defaults.patience)?,
                json,
                svg,
            })?;
            Ok(None)
        }
        Command::Scaling(scaling) => bench::scaling::run(&scaling.options()?).map(|()| None),
        Command::Charts { directory, journals } => bench::draw_journals(&directory, &journals).map(|()| None),
        Command::FloorServer { directory } => bench::serve_floor(&directory).map(|()| None),
        Command::KernelClient { filter, peer, seed, keep } => {
            peer.prepare()?;
            kernel_client::run(&kernel_client::Options { peer, filter, seed, keep }).map(Some)
        }
        Command::KernelGuest(arguments) => {
            kernel_client::guest::run(&arguments);
            Ok(None)
        }
        Command::Hostile { filter, runtime } => {
            let peer = PeerKind::Leasehold.on(runtime);
            peer.prepare()?;
            hostile::run(peer, &filter).map(Some)
        }
        Command::Cuts { count, seed, runtime } => {
            let peer = PeerKind::Leasehold.on(runtime);
            peer.prepare()?;
            cuts::run(&cuts::Options { peer, count, seed }).map(Some)
        }
        Command::Kills { count, seed, runtime } => {
            let peer = PeerKind::Leasehold.on(runtime);
            peer.prepare()?;
            kills::run(&kills::Options { peer, count, seed }).map(Some)
        }
        Command::Storm { minutes: duration, seed, clients, runtime, fault, keep, unproven } => {
            let peer = PeerKind::Leasehold.on(runtime);
            peer.prepare()?;
            let duration = minutes(duration);
            storm::run(&storm::Options { peer, duration, seed, clients, fault, keep, unproven }).map(Some)
        }
        Command::StormGuest(arguments) => {
            storm::guest::run(&arguments);
            Ok(None)
        }
        Command::Fuzz { minutes_per_target, total_minutes, targets } => {
            let options = fuzz::Options {
                per_target: minutes_per_target.map(minutes),
                total: minutes(total_minutes),
                filter: targets,
            };
            fuzz::run(&options).map(Some)
        }
        Command::Count { filter, write_baseline } => {
            install::ensure(&[install::VALGRIND])?;
            count::run(&filter, write_baseline).map(Some)
        }
        Command::CryptoSpeed => count::speed().map(|()| None),
        Command::List => torture::print_list().map(|()| None),
    }
}

/// Runs every stage. A stage that can't run counts as one failure, and the later ones run all the same: one report shows everything.
fn test_everything(workers: usize) -> Totals {
    let mut totals = Totals::default();
    totals.stage("packages", || install::ensure(install::ALL).map(|()| Totals::default()));
    totals.stage("build", || workspace::build_release().map(|()| Totals::default()));
    totals.stage("cargo test", workspace::cargo_test);
    totals.stage("instruction counts", || count::run(&[], false));
    totals.stage("bad input", fuzz::replay);
    totals.stage("hostile peers", || hostile::run(PeerKind::Leasehold, &[]));
    totals.stage("cut connections", || {
        cuts::run(&cuts::Options { peer: PeerKind::Leasehold, count: 100, seed: Some(1) })
    });
    totals.stage("killed servers", || {
        kills::run(&kills::Options { peer: PeerKind::Leasehold, count: 20, seed: Some(1) })
    });
    totals.stage("interoperability", || interop::run(PeerKind::Leasehold, &[]));
    totals.stage("storm", || storm::run_short(PeerKind::Leasehold, Duration::from_secs(20)));
    totals.stage("smbtorture", || torture::run(&torture::Options::all(PeerKind::Leasehold, workers)));
    totals
}

fn seconds_or(seconds: Option<f64>, default: Duration) -> Result<Duration> {
    Ok(seconds.map(Duration::try_from_secs_f64).transpose()?.unwrap_or(default))
}

fn minutes(minutes: f64) -> Duration {
    Duration::try_from_secs_f64(minutes * 60.0).unwrap_or_default()
}

fn finish(totals: &Totals) -> ExitCode {
    totals.print();
    if totals.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
