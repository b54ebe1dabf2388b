//! What an endpoint needs to carry out outputs: payloads, users, randomness and the time.

use std::time::{SystemTime, UNIX_EPOCH};

use smb_proto::FileTime;
use smb_state::action::Output;
use smb_state::endpoint::surroundings::Surroundings;
use smb_state::endpoint::{Endpoint, Outbox};

use crate::common::Common;

/// Carries out one output. Authentication is computed right here: it takes microseconds, and users are in memory.
pub fn carry_out(common: &Common, endpoint: &mut Endpoint, output: Output, outbox: &mut Outbox) {
    let mut around = Surroundings {
        buffers: &common.buffers,
        users: &*common.users,
        keys: &common.keys,
        random: &mut fill_random,
        now: now(),
    };
    endpoint.carry_out(output, &mut around, outbox);
}

/// # Panics
/// When the kernel has no random numbers, without which nothing here is safe.
fn fill_random(mut bytes: &mut [u8]) {
    while !bytes.is_empty() {
        match rustix::rand::getrandom(&mut *bytes, rustix::rand::GetRandomFlags::empty()) {
            Ok(length) => bytes = &mut std::mem::take(&mut bytes)[length..],
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("no random numbers from the kernel: {error}"),
        }
    }
}

fn now() -> FileTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    FileTime::from_unix(i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_bytes_fill_everything_and_differ() {
        let (mut one, mut other) = ([0; 300], [0; 300]);
        fill_random(&mut one);
        fill_random(&mut other);
        assert_ne!(one, other);
        assert!(one.chunks(30).all(|part| part.iter().any(|byte| *byte != 0)));
    }

    #[test]
    fn the_time_is_of_this_century() {
        let (seconds, _) = now().to_unix();
        assert!(seconds > 1_700_000_000);
    }
}
