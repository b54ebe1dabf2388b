//! The oracle as a service: each worker has a connection, over which it tells what it does, in lines.
//!
//! | a worker says | and hears |
//! |---|---|
//! | `hello NUMBER CLIENT` | `go`, once all workers have said it |
//! | `begin OPERATION ...` | `go ...`, or `stop` when the storm is over |
//! | `end OUTCOME ...` | |
//! | `abandon LOG GENERATION SLOT` | |
//! | `idle`: everything is closed | what it has to look at, in lines, then `.`, once all workers are idle |
//! | `violation ...`, `broken ...`: it can't go on | |
//! | `bye ...` | |

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::oracle::{GRACE, Oracle};

/// A request that is not answered for so long is stuck; breaks that a client doesn't acknowledge take 35 s.
const STUCK: Duration = Duration::from_secs(60);

/// Why a storm has failed.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    /// The history is none of a correct server: lost or stale data, a wrong status.
    History(String),
    /// A request without an answer, a client that ended.
    Other(String),
}

/// The oracle and how far the storm is.
pub(super) struct Service {
    state: Mutex<State>,
    changed: Condvar,
    started: Instant,
    /// How long workers work.
    duration: Duration,
    port: u16,
}

struct State {
    oracle: Oracle,
    workers: Vec<Worker>,
    /// When all workers were there.
    begun: Option<Instant>,
    /// What the first worker of each client has to look at in the end.
    checks: Option<Vec<String>>,
    failures: Vec<Failure>,
    /// Each worker's last words.
    farewells: BTreeMap<usize, String>,
}

#[derive(Debug, Clone, Default)]
struct Worker {
    client: String,
    here: bool,
    idle: bool,
    gone: bool,
    doing: Option<(String, Instant)>,
}

impl Service {
    /// Listens on a port of its own. Workers have the numbers of their clients' places in the list.
    pub(super) fn start(clients: Vec<String>, duration: Duration) -> Result<Arc<Service>> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let workers =
            clients.iter().map(|client| Worker { client: client.clone(), ..Worker::default() }).collect();
        let service = Arc::new(Service {
            state: Mutex::new(State {
                oracle: Oracle::new(clients),
                workers,
                begun: None,
                checks: None,
                failures: Vec::new(),
                farewells: BTreeMap::new(),
            }),
            changed: Condvar::new(),
            started: Instant::now(),
            duration,
            port,
        });
        let of_listener = Arc::downgrade(&service);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let Some(service) = of_listener.upgrade() else { return };
                std::thread::spawn(move || service.serve(stream));
            }
        });
        Ok(service)
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Since when all workers work; None before that.
    pub(super) fn begun(&self) -> Option<Instant> {
        self.lock().begun
    }

    /// Whether nothing more is to come: all have gone, or something went wrong.
    pub(super) fn is_over(&self) -> bool {
        let mut state = self.lock();
        let stuck: Vec<String> = state
            .workers
            .iter()
            .enumerate()
            .filter_map(|(number, worker)| {
                let (doing, since) = worker.doing.as_ref().filter(|(_, since)| since.elapsed() > STUCK)?;
                let (client, waited) = (&worker.client, since.elapsed());
                Some(format!("worker {number} ({client}) waits for {waited:?}: {doing}"))
            })
            .collect();
        for text in stuck {
            self.fail(&mut state, Failure::Other(format!("a stuck request: {text}")));
        }
        !state.failures.is_empty() || state.workers.iter().all(|worker| worker.gone)
    }

    /// Ends the storm for a reason from outside.
    pub(super) fn give_up(&self, why: String) {
        let mut state = self.lock();
        self.fail(&mut state, Failure::Other(why));
    }

    pub(super) fn failures(&self) -> Vec<Failure> {
        self.lock().failures.clone()
    }

    pub(super) fn farewells(&self) -> BTreeMap<usize, String> {
        self.lock().farewells.clone()
    }

    /// Looks at the oracle.
    pub(super) fn with_oracle<T>(&self, look: impl FnOnce(&Oracle) -> T) -> T {
        look(&self.lock().oracle)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, state: &mut State, failure: Failure) {
        state.failures.push(failure);
        self.changed.notify_all();
    }

    fn serve(&self, stream: TcpStream) {
        let mut number = None;
        let result = self.listen(&stream, &mut number);
        let mut state = self.lock();
        let place = number.and_then(|number: usize| state.workers.get_mut(number));
        let early = place.is_some_and(|worker| !std::mem::replace(&mut worker.gone, true));
        let text = match result {
            Err(error) => format!("{error:#}"),
            Ok(()) if early => "its connection ended".to_owned(),
            Ok(()) => return,
        };
        // After one failure everybody leaves, and that is no news.
        if state.failures.is_empty() {
            self.fail(&mut state, Failure::Other(format!("worker {number:?}: {text}")));
        }
    }

    fn listen(&self, stream: &TcpStream, number: &mut Option<usize>) -> Result<()> {
        stream.set_nodelay(true)?;
        let mut output = stream;
        for line in BufReader::new(stream).lines() {
            let Ok(line) = line else { return Ok(()) };
            let words: Vec<&str> = line.split_whitespace().collect();
            let (verb, rest) = words.split_first().context("an empty line")?;
            if *verb == "hello" {
                let worker: usize = rest.first().context("hello from whom?")?.parse()?;
                *number = Some(worker);
                if !self.gather(worker)? {
                    return Ok(());
                }
                output.write_all(b"go\n")?;
                continue;
            }
            let worker = number.context("a worker without a name")?;
            match *verb {
                "begin" => output.write_all(self.begin(worker, rest, &line).as_bytes())?,
                "end" => self.end(worker, rest),
                "abandon" => self.lock().oracle.abandon(rest)?,
                "idle" => match self.wait_until_idle(worker) {
                    Some(checks) => output.write_all(checks.as_bytes())?,
                    None => return Ok(()),
                },
                "violation" => {
                    let mut state = self.lock();
                    self.fail(&mut state, Failure::History(format!("worker {worker}: {}", rest.join(" "))));
                }
                "broken" => bail!("{}", rest.join(" ")),
                "bye" => {
                    let mut state = self.lock();
                    state.farewells.insert(worker, rest.join(" "));
                    if let Some(worker) = state.workers.get_mut(worker) {
                        worker.gone = true;
                    }
                }
                other => bail!("it says {other}"),
            }
        }
        Ok(())
    }

    /// Waits until all are there; false when that will not be.
    fn gather(&self, worker: usize) -> Result<bool> {
        let mut state = self.lock();
        state.workers.get_mut(worker).context("one worker too many")?.here = true;
        if state.workers.iter().all(|worker| worker.here) {
            state.begun = Some(Instant::now());
            self.changed.notify_all();
        }
        let state = self
            .changed
            .wait_while(state, |state| state.begun.is_none() && state.failures.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        Ok(state.failures.is_empty())
    }

    fn begin(&self, worker: usize, words: &[&str], line: &str) -> String {
        let mut state = self.lock();
        let late = state.begun.is_none_or(|begun| begun.elapsed() >= self.duration);
        if !state.failures.is_empty() || (late && state.checks.is_none()) {
            return "stop\n".to_owned();
        }
        match state.oracle.begin(worker, words, self.started.elapsed()) {
            Ok(answer) => {
                if let Some(worker) = state.workers.get_mut(worker) {
                    worker.doing = Some((line.to_owned(), Instant::now()));
                }
                format!("go {answer}\n")
            }
            Err(error) => {
                self.fail(&mut state, Failure::Other(format!("worker {worker}: {line}: {error:#}")));
                "stop\n".to_owned()
            }
        }
    }

    fn end(&self, worker: usize, words: &[&str]) {
        let mut state = self.lock();
        if let Some(worker) = state.workers.get_mut(worker) {
            worker.doing = None;
        }
        if let Err(error) = state.oracle.end(worker, words, self.started.elapsed()) {
            self.fail(&mut state, Failure::History(format!("{error:#}")));
        }
    }

    /// What the worker has to look at, once all are idle and whatever clients keep open by themselves is closed.
    fn wait_until_idle(&self, worker: usize) -> Option<String> {
        let mut state = self.lock();
        state.workers.get_mut(worker)?.idle = true;
        self.changed.notify_all();
        let state = self
            .changed
            .wait_while(state, |state| {
                state.failures.is_empty() && !state.workers.iter().all(|worker| worker.idle)
            })
            .unwrap_or_else(PoisonError::into_inner);
        drop(state);
        std::thread::sleep(GRACE);
        let mut state = self.lock();
        if !state.failures.is_empty() {
            return None;
        }
        if state.checks.is_none() {
            state.checks = Some(state.oracle.check());
        }
        let client = &state.workers.get(worker)?.client;
        // One worker of each client looks for all.
        let first = state.workers.iter().position(|other| other.client == *client) == Some(worker);
        let mut lines: Vec<&str> = Vec::new();
        if first && let Some(checks) = &state.checks {
            lines.extend(checks.iter().map(String::as_str));
        }
        lines.push(".");
        Some(lines.join("\n") + "\n")
    }
}
