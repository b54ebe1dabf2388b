//! Every target: over its committed corpus, then over random input, or under a fuzzing engine.

use std::path::PathBuf;
use std::time::Duration;

use fuzz::{TARGETS, Target, target};

/// Longest random input; the engine is told the same by its runner.
const LENGTH_MAX: usize = 4096;
/// How long random input is tried in `cargo test`.
const TEST_TIME: Duration = Duration::from_millis(700);

fn corpus(target: &Target) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name)
}

fn run(name: &str) {
    let target = target(name).expect("a target of this name");
    if !cfg!(fuzzing) {
        let mut files: Vec<_> =
            std::fs::read_dir(corpus(target)).expect("a corpus").map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert!(!files.is_empty(), "the corpus of {name} is empty");
        for file in files {
            eprintln!("{}", file.display());
            (target.check)(&std::fs::read(&file).unwrap());
        }
    }
    bolero::check!(name = name)
        .with_max_len(LENGTH_MAX)
        .with_test_time(TEST_TIME)
        .for_each(|input: &[u8]| (target.check)(input));
}

macro_rules! tests {
    ($($name:ident)*) => {
        const TESTS: &[&str] = &[$(stringify!($name)),*];
        $(#[test] fn $name() { run(stringify!($name)); })*
    };
}

tests! {
    header compound request response negotiate_contexts create_contexts smb1_negotiate transform control_bodies
    file_information directory lists file_system_control name expression security_descriptor acceptor initiator
    rpc_pipe rpc_stubs frames session
}

#[test]
fn every_target_has_a_test() {
    let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(names, TESTS);
}

/// The seeds are what the emitters write today. `UPDATE_CORPUS=1` writes them anew.
#[test]
fn seeds_are_committed() {
    for target in TARGETS {
        let directory = corpus(target);
        for (index, seed) in (target.seeds)().iter().enumerate() {
            let file = directory.join(format!("seed-{index:02}"));
            if std::env::var_os("UPDATE_CORPUS").is_some() {
                std::fs::create_dir_all(&directory).unwrap();
                std::fs::write(&file, seed).unwrap();
            }
            let committed = std::fs::read(&file).unwrap_or_default();
            assert!(committed == *seed, "{} is not current: UPDATE_CORPUS=1", file.display());
        }
    }
}

#[test]
fn the_corpus_stays_small() {
    let mut total = 0;
    for target in TARGETS {
        for entry in std::fs::read_dir(corpus(target)).expect("a corpus") {
            total += entry.unwrap().metadata().unwrap().len();
        }
    }
    assert!(total < 300 << 10, "{total} bytes");
}
