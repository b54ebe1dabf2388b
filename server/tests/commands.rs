//! The binary as an operator uses it.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

fn leasehold(state: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leasehold"));
    command.env("XDG_STATE_HOME", state).env_remove("LEASEHOLD_LOG").stdin(Stdio::null());
    command
}

fn run(command: &mut Command, input: &str) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A command that needs no input may be gone already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A server; killed when the test ends, however it ends.
struct Server {
    child: Child,
    /// What it printed until it was ready.
    said: Vec<String>,
    address: SocketAddr,
}

impl Server {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = Vec::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            said.push(line.unwrap());
            if let Some(address) = said.last().and_then(|line| line.strip_prefix("listening on ")) {
                let address = address.parse().unwrap();
                return Self { child, said, address };
            }
        }
        let log = text(&child.wait_with_output().unwrap().stderr);
        panic!("the server is not ready: {said:?} {log}");
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Stops it as systemd does, and returns its log.
    fn stop(mut self) -> String {
        self.signal(rustix::process::Signal::TERM);
        let begun = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < PATIENCE, "the server does not stop");
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut log = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        assert!(self.child.wait().unwrap().success(), "{log}");
        log
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_directory_is_served_with_a_user_that_is_made_up() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = leasehold(directory.path());
    let server = Server::start(command.args(["serve", "--listen", "127.0.0.1:0"]).arg(directory.path()));
    let peer = TcpStream::connect(server.address).unwrap();
    let said = server.said.join("\n");
    assert!(said.contains("share share is "), "{said}");
    let password =
        said.split("user leasehold, password ").nth(1).and_then(|rest| rest.lines().next()).unwrap();
    let line = format!("smbclient //127.0.0.1/share -p {} -U 'leasehold%{password}'", server.address.port());
    assert!(said.contains(&line), "{said}");
    let log = server.stop();
    assert!(!log.contains(password), "no password in the log");
    drop(peer);
}

#[test]
#[cfg(target_os = "linux")]
fn the_runtime_is_chosen_at_start_and_refused_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = leasehold(directory.path());
    let arguments = ["serve", "--runtime", "glommio", "--cores", "0-0", "--listen", "127.0.0.1:0"];
    let server = Server::start(command.args(arguments).arg(directory.path()));
    drop(TcpStream::connect(server.address).unwrap());
    server.stop();

    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -l 64 && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_leasehold")]);
    limited.env("XDG_STATE_HOME", directory.path()).args(arguments).arg(directory.path());
    let refused = run(&mut limited, "");
    let log = text(&refused.stderr);
    assert!(!refused.status.success() && log.contains("\"memlock\"") && log.contains("64 KiB"), "{log}");

    let absent = ["serve", "--cores", "0,1000", "--listen", "127.0.0.1:0"];
    let refused = run(leasehold(directory.path()).args(absent).arg(directory.path()), "");
    let log = text(&refused.stderr);
    assert!(!refused.status.success() && log.contains("processor 1000"), "{log}");
}

#[test]
fn users_are_added_listed_and_removed() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("users");
    let user = |arguments: &[&str], input: &str| {
        let mut command = leasehold(directory.path());
        run(command.args(["user", "--users-file"]).arg(&file).args(arguments), input)
    };
    let added = user(&["add", "ann"], "secret of ann\n");
    assert!(added.status.success(), "{}", text(&added.stderr));
    assert!(user(&["add", "bob"], "secret of bob\n").status.success());
    assert_eq!(text(&user(&["list"], "").stdout), "1000\tann\n1001\tbob\n");
    assert!(user(&["remove", "ANN"], "").status.success());
    let again = user(&["remove", "ann"], "");
    assert!(!again.status.success() && text(&again.stderr).contains("there is no user ann"));
    assert_eq!(text(&user(&["list"], "").stdout), "1001\tbob\n");
    let empty = user(&["add", "eve"], "\n");
    assert!(!empty.status.success() && text(&empty.stderr).contains("empty"));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    for output in [added, again, empty] {
        assert!(!text(&output.stdout).contains("secret") && !text(&output.stderr).contains("secret"));
    }
}

#[test]
fn a_configuration_is_checked_served_and_reloaded() {
    let directory = tempfile::tempdir().unwrap();
    let (config, users) = (directory.path().join("leasehold.toml"), directory.path().join("users"));
    let share = |name: &str| format!("[[share]]\nname = \"{name}\"\npath = \".\"\n");
    let head =
        "[server]\nlisten = [\"127.0.0.1:0\"]\nstate_dir = \"state\"\nusers_file = \"users\"\ncores = 1\n";
    std::fs::write(&config, head.to_owned() + &share("one")).unwrap();
    let check = || run(leasehold(directory.path()).arg("check").arg(&config), "");

    let missing = check();
    assert!(!missing.status.success() && text(&missing.stderr).contains("no such users file"));
    let mut add = leasehold(directory.path());
    assert!(run(add.args(["user", "add", "ann", "--users-file"]).arg(&users), "secret\n").status.success());
    let good = check();
    assert!(good.status.success() && text(&good.stdout).contains("good, 1 shares, 1 users"));

    let server = Server::start(leasehold(directory.path()).arg("serve").arg("--config").arg(&config));
    assert!(!server.said.iter().any(|line| line.contains("password")), "{:?}", server.said);
    let second = run(leasehold(directory.path()).arg("serve").arg("--config").arg(&config), "");
    assert!(!second.status.success() && text(&second.stderr).contains("another server uses it"));

    let mut peer = TcpStream::connect(server.address).unwrap();
    peer.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    std::fs::write(&config, head.to_owned() + &share("one") + &share("two")).unwrap();
    server.signal(rustix::process::Signal::HUP);
    let still_open = loop {
        match peer.read(&mut [0]).map_err(|error| error.kind()) {
            Err(ErrorKind::Interrupted) => {}
            other => break other,
        }
    };
    assert_eq!(still_open, Err(ErrorKind::WouldBlock), "connections live through a reload");
    std::fs::write(&config, "[[share]]\nname = 5\n").unwrap();
    server.signal(rustix::process::Signal::HUP);
    std::thread::sleep(Duration::from_millis(200));
    let log = server.stop();
    assert!(log.contains("reloaded"), "{log}");
    assert!(log.contains("nothing is reloaded: ") && log.contains("leasehold.toml:2: "), "{log}");
}

#[test]
fn what_is_wrong_is_said_in_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let users = directory.path().join("users");
    std::fs::write(&users, "leasehold-users 1 1000\n").unwrap();
    std::fs::set_permissions(&users, PermissionsExt::from_mode(0o644)).unwrap();
    let path = directory.path().to_str().unwrap();
    for (arguments, part) in [
        (vec!["serve", "/nowhere/at/all"], "not a directory"),
        (vec!["serve", path, "--user", "Eve.1"], "LEASEHOLD_PASSWORD_EVE_1"),
        (vec!["serve", path, "--users-file", users.to_str().unwrap()], "chmod 600"),
        (vec!["check", "/nowhere/leasehold.toml"], "/nowhere/leasehold.toml"),
    ] {
        let output = run(leasehold(directory.path()).args(&arguments), "");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.starts_with("leasehold: ") && said.contains(part) && said.lines().count() == 1,
            "{said}"
        );
    }
}
