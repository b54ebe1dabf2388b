//! Proves the server against programs that others wrote: Samba's own test suite, its command line client, and
//! clients in Python and Rust, each over loopback against a server process that the run starts and stops.
//!
//! `cargo run --release -p verification -- test` does everything and ends with `N passed, N failed`;
//! `-- bench` compares the server's speed with smbd's.

pub mod bench;
pub mod client;
pub mod count;
pub mod cuts;
pub mod fuzz;
pub mod hostile;
pub mod install;
pub mod interop;
pub mod kernel_client;
pub mod kills;
pub mod peer;
pub mod process;
pub mod report;
pub mod storm;
pub mod torture;
pub mod workspace;
