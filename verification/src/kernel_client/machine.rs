//! The virtual machine: started, listened to, ended.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::guest;
use crate::process;

/// The guest ends a check that hangs; only a guest that hangs itself is silent for longer.
const SILENCE_LIMIT: Duration = Duration::from_secs(guest::CHECK_LIMIT.as_secs() + 60);
/// How often somebody looks whether it is over.
const LOOK_AROUND: Duration = Duration::from_millis(500);
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// Boots the kernel and passes each line of its serial output on, until it powers off.
///
/// # Errors
/// No end within the limit or no output for long; the machine has been killed then.
pub(crate) fn run(kernel: &Path, initrd: &Path, limit: Duration, on_line: impl FnMut(&str)) -> Result<()> {
    run_until(kernel, initrd, limit, &AtomicBool::new(false), on_line)
}

/// As [`run`], until somebody else says that it is over; the machine is killed then, which is no error.
pub(crate) fn run_until(
    kernel: &Path,
    initrd: &Path,
    limit: Duration,
    over: &AtomicBool,
    mut on_line: impl FnMut(&str),
) -> Result<()> {
    let deadline = Instant::now() + limit;
    let mut machine = Machine(command(kernel, initrd)?.spawn().context("qemu-system-x86_64")?);
    let output = BufReader::new(machine.0.stdout.take().context("the machine's output")?);
    let (sender, lines) = mpsc::channel();
    // Ends with the machine, whose end closes the pipe.
    std::thread::spawn(move || {
        for line in output.split(b'\n').map_while(Result::ok) {
            if sender.send(String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned()).is_err() {
                break;
            }
        }
    });
    let mut heard = Instant::now();
    loop {
        match lines.recv_timeout(LOOK_AROUND) {
            Ok(line) => {
                heard = Instant::now();
                on_line(&line);
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) if over.load(Ordering::Relaxed) => return Ok(()),
            Err(RecvTimeoutError::Timeout) if Instant::now() >= deadline => bail!("no end after {limit:?}"),
            Err(RecvTimeoutError::Timeout) if heard.elapsed() < SILENCE_LIMIT => {}
            Err(RecvTimeoutError::Timeout) => bail!("no output for {SILENCE_LIMIT:?}"),
        }
    }
    let status = process::wait_limited(&mut machine.0, STOP_LIMIT)?;
    let status = status.context("the machine closed its output and runs on")?;
    ensure!(status.success(), "the emulator ended with {status}");
    Ok(())
}

/// Emulation without any help from the hardware, at a low priority so that it never starves the server.
fn command(kernel: &Path, initrd: &Path) -> Result<Command> {
    let emulator = process::find_program("qemu-system-x86_64").context("qemu-system-x86_64")?;
    let mut command = Command::new("nice");
    command.arg(emulator);
    command.args(["-machine", "pc", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1024"]);
    command.args(["-nodefaults", "-no-reboot", "-display", "none", "-monitor", "none", "-serial", "stdio"]);
    command.args(["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="]);
    command.arg("-kernel").arg(kernel).arg("-initrd").arg(initrd);
    command.args(["-append", "console=ttyS0 panic=-1 quiet mitigations=off"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    Ok(command)
}

/// Killed when dropped, unless it has ended.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        if !matches!(self.0.try_wait(), Ok(Some(_)))
            && let Err(error) = self.0.kill().and_then(|()| self.0.wait().map(|_| ()))
        {
            eprintln!("ending the machine: {error}");
        }
    }
}
