//! An endpoint for each connection, shards behind them, storage and clients around them.
//!
//! Rules that hold for every input, each asserted where it can be broken:
//! * no panic, no violated invariant of a shard after any step (`Shard::check_invariants`), no adapter misuse
//! * each `Submit` is answered once, each buffer is given back once, each handle of storage is closed
//! * what the server sends can be read by the client's half of the codec, and answers a request that was sent:
//!   at most one interim and at most one final response for each, on a connection that still exists
//! * nobody gets a session with a wrong password
//! * once every connection is gone and everything was answered, nothing is left

pub mod client;
pub mod generate;
pub mod samples;
pub mod storage;
pub mod world;

/// Arbitrary frames to a connection in one of several states.
pub mod frames {
    use super::generate::Driver;
    use crate::script::Script;

    /// The first byte is the state, then come frames.
    pub fn check(input: &[u8]) {
        let mut script = Script::new(input);
        let mut driver = Driver::new(script.u8());
        let connection = driver.connect();
        match script.u8() % 4 {
            0 => {}
            1 => driver.negotiate(connection, 0),
            2 => driver.prepare(connection, 0),
            _ => driver.prepare(connection, 4),
        }
        while !script.is_over() {
            let kind = script.u8();
            let bytes = script.long_bytes();
            driver.arbitrary(connection, kind, bytes);
        }
        driver.finish();
    }

    /// Real frames.
    pub fn seeds() -> Vec<Vec<u8>> {
        let smb1 = crate::shape::emitted(|out| super::samples::smb1_negotiate().emit(out));
        let mut seeds = vec![script(0, 0, &[(0, smb1)])];
        for (index, request) in super::samples::requests().iter().enumerate() {
            let mut body = Vec::new();
            let code = request.command().code();
            let header = crate::messages::plain_header(code);
            header.emit(&mut body);
            request.emit(&mut body);
            let kind = 64 + u8::try_from(code).unwrap_or(0);
            let state = u8::try_from(index % 4).unwrap_or(0);
            seeds.push(script(0, state, &[(kind, body[64..].to_vec())]));
        }
        seeds
    }

    fn script(options: u8, state: u8, frames: &[(u8, Vec<u8>)]) -> Vec<u8> {
        let mut out = vec![options, state];
        for (kind, bytes) in frames {
            out.push(*kind);
            out.extend_from_slice(&u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_le_bytes());
            out.extend_from_slice(bytes);
        }
        out
    }
}

/// Valid requests in any order, with faults between them: clients that come and go, storage that is late or fails,
/// timers that expire, operators who interfere.
pub mod session {
    use super::generate::Driver;
    use crate::script::Script;

    /// The first byte is the configuration, then come operations.
    pub fn check(input: &[u8]) {
        let mut script = Script::new(input);
        let mut driver = Driver::new(script.u8());
        let mut budget = 64;
        while !script.is_over() && budget > 0 {
            budget -= 1;
            driver.operation(&mut script);
        }
        driver.finish();
    }

    /// Whole lives of connections.
    pub fn seeds() -> Vec<Vec<u8>> {
        super::samples::scripts()
    }
}
