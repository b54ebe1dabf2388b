//! `count list` names the pieces of work, `count run NAME` does one of them, so that a run of it under callgrind counts what
//! happens in [`meter::measured`] and nothing else. With the feature `speed`, `count run NAME portable` and `fast` take real
//! crypto, and `count speed` measures the throughput of both providers.
//!
//! Ciphers and signatures are left out of the counts, by a provider that does nothing: which instructions they take
//! depends on the processor. What is left is what this workspace's own code does around them.

mod codec;
mod meter;
mod provider;
#[cfg(feature = "speed")]
mod speed;
mod work;
mod world;

use std::process::ExitCode;
use std::sync::Arc;

use smb_proto::crypto::Provider;

/// Repetitions that are counted, after one that isn't.
const ROUNDS: u32 = 16;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["list"] => {
            codec::ALL.iter().for_each(|case| println!("{}", case.name));
            work::ALL.iter().for_each(|case| println!("{}", case.name));
        }
        ["run", name] => return run(name, Arc::new(provider::Nothing)),
        #[cfg(feature = "speed")]
        ["run", name, "portable"] => return run(name, Arc::new(smb_proto::crypto::Portable)),
        #[cfg(feature = "speed")]
        ["run", name, "fast"] => return run(name, Arc::new(crypto_fast::Fast)),
        #[cfg(feature = "speed")]
        ["speed"] => speed::run(),
        _ => {
            eprintln!("usage: count list | count run NAME | count speed");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn run(name: &str, provider: Arc<dyn Provider>) -> ExitCode {
    if let Some(case) = codec::ALL.iter().find(|case| case.name == name) {
        case.run(ROUNDS);
    } else if let Some(case) = work::ALL.iter().find(|case| case.name == name) {
        case.run(ROUNDS, provider);
    } else {
        eprintln!("no piece of work is called {name}");
        return ExitCode::FAILURE;
    }
    println!("{ROUNDS} rounds");
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use smb_proto::crypto::Portable;

    use super::*;

    #[test]
    fn every_piece_of_work_can_be_done() {
        for case in codec::ALL {
            case.run(1);
        }
        for case in work::ALL {
            case.run(1, Arc::new(provider::Nothing));
            case.run(1, Arc::new(Portable));
        }
    }
}
