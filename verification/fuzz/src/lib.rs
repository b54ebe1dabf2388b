//! Bad input: what reads bytes of a peer is fed with arbitrary ones.
//!
//! A [`Target`] is a function that takes any bytes at all and panics when a promise is broken: no panic, no arithmetic
//! overflow (the profiles check), what can be parsed can be emitted and parsed back to the same value, and, for the
//! endpoint with its shard, every rule that [`server`] lists. `tests/targets.rs` runs each target under bolero: in
//! `cargo test` over the committed corpus and random input, under a fuzzing engine for as long as one likes.
//!
//! ```text
//! cargo test --manifest-path verification/fuzz/Cargo.toml
//! cargo run --release -p verification -- fuzz --total-minutes 30
//! ```

pub mod authentication;
pub mod information;
pub mod messages;
pub mod names;
pub mod rpc;
pub mod script;
pub mod security;
pub mod server;
pub mod shape;

/// One thing that is fed with arbitrary bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: of its test, of its folder in `corpus/`, for `--targets`.
    pub name: &'static str,
    /// Takes any bytes. Panics when a promise is broken.
    pub check: fn(&[u8]),
    /// Inputs to begin with, made by the emitters of the codec.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

macro_rules! targets {
    ($($name:ident: $module:ident;)*) => {
        /// Every target.
        pub const TARGETS: &[Target] = &[
            $(Target {
                name: stringify!($name),
                check: $module::$name::check,
                seeds: $module::$name::seeds,
            },)*
        ];
    };
}

targets! {
    header: messages;
    compound: messages;
    request: messages;
    response: messages;
    negotiate_contexts: messages;
    create_contexts: messages;
    smb1_negotiate: messages;
    transform: messages;
    control_bodies: messages;
    file_information: information;
    directory: information;
    lists: information;
    file_system_control: information;
    name: names;
    expression: names;
    security_descriptor: security;
    acceptor: authentication;
    initiator: authentication;
    rpc_pipe: rpc;
    rpc_stubs: rpc;
    frames: server;
    session: server;
}

/// The target of this name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
