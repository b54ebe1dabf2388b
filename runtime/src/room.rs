//! Memory for large frames that arrive: a thread's last ones again, once nobody holds a part of them any more.
//!
//! Fresh memory of that size is cleared by the kernel page by page and is in no cache, which costs as much as receiving
//! into it. And the kernel takes data half as fast again that begins at a multiple of 32 bytes.

use std::cell::RefCell;

use bytes::BytesMut;

/// Smaller frames come from the allocator.
const SMALLEST: usize = 2 << 10;
/// Larger ones are rare.
const LARGEST: usize = 9 << 20;
/// Allocations are a multiple of this, so that frames of nearly the same size fit.
const STEP: usize = 4 << 10;
/// What data begins at a multiple of in memory, a cache line.
const ALIGNMENT: usize = 64;
/// Allocations that a thread keeps.
const COUNT_MAX: usize = 8;
/// Bytes that a thread keeps.
const HELD_MAX: usize = 16 << 20;

thread_local! {
    static ROOMS: RefCell<Vec<Room>> = const { RefCell::new(Vec::new()) };
}

/// An allocation that was lent out.
struct Room {
    /// What is behind the part that was lent last. While others hold parts it can't be had whole.
    rest: BytesMut,
    size: usize,
}

/// An empty buffer with room for a frame, whose data is expected to begin `data_at` bytes behind its start.
pub(crate) fn room_for(length: usize, data_at: usize) -> BytesMut {
    if !(SMALLEST..=LARGEST).contains(&length) {
        return BytesMut::with_capacity(length);
    }
    ROOMS.with_borrow_mut(|rooms| {
        let wanted = length + ALIGNMENT;
        let fits = |room: &mut Room| {
            // A short frame that is kept for long is not to keep much more memory.
            room.size <= 2 * wanted + 2 * STEP && room.rest.try_reclaim(wanted)
        };
        let Room { rest: mut frame, size } = match rooms.iter_mut().rposition(fits) {
            Some(at) => rooms.remove(at),
            None => {
                // At least a byte is left behind the frame.
                let size = (wanted / STEP + 1) * STEP;
                Room { rest: BytesMut::with_capacity(size), size }
            }
        };
        let data = frame.as_ptr().addr() + data_at;
        let mut frame = frame.split_off(data.next_multiple_of(ALIGNMENT) - data);
        let rest = frame.split_off(length);
        rooms.push(Room { rest, size });
        while rooms.len() > COUNT_MAX || rooms.iter().map(|room| room.size).sum::<usize>() > HELD_MAX {
            rooms.remove(0);
        }
        frame
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_lent_again_when_nobody_holds_it() {
        let mut frame = room_for(100_000, 0);
        let place = frame.as_ptr();
        frame.extend_from_slice(&[7; 100_000]);
        let part = frame.freeze().slice(10..20);
        let other = room_for(100_000, 0);
        assert_ne!(other.as_ptr(), place);
        assert_eq!(part[..], [7; 10]);
        drop(part);
        let again = room_for(90_000, 0);
        assert_eq!((again.as_ptr(), again.len(), again.capacity()), (place, 0, 90_000));
        let short = room_for(3000, 0);
        assert_ne!(short.as_ptr(), other.as_ptr());
    }

    #[test]
    fn frames_lie_apart_from_each_other_with_their_data_aligned() {
        let mut frames = Vec::new();
        for round in 0..40_usize {
            let length = SMALLEST + round * 7919 % 100_000;
            let mut frame = room_for(length, round);
            assert!(frame.is_empty() && frame.capacity() >= length);
            assert_eq!((frame.as_ptr().addr() + round) % ALIGNMENT, 0);
            frame.resize(length, round as u8);
            frames.push((round as u8, frame));
            if round % 3 == 2 {
                frames.remove(0);
            }
        }
        for (round, frame) in frames {
            assert!(frame.iter().all(|byte| *byte == round));
        }
    }

    #[test]
    fn what_a_thread_keeps_is_bounded() {
        for length in [20_000, 1 << 20, 8 << 20] {
            let frames: Vec<_> = (0..20).map(|_| room_for(length, 0)).collect();
            drop(frames);
            ROOMS.with_borrow(|rooms| {
                assert!(rooms.len() <= COUNT_MAX);
                assert!(rooms.iter().map(|room| room.size).sum::<usize>() <= HELD_MAX);
            });
        }
        assert!(room_for(LARGEST + 1, 0).capacity() > LARGEST);
    }
}
