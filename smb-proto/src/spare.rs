//! Buffers of payloads that are done with, kept for the next ones on the same thread.
//!
//! A buffer of a megabyte that comes from the system is made of pages that the kernel clears one by one, and that are
//! in no cache yet: that costs as much as filling it. The one that was given back last is warm. What is kept is bounded,
//! by number and by bytes for each thread.

use std::cell::RefCell;

/// Smaller buffers come from the allocator, which has them at hand.
const SMALLEST: usize = 4096;
/// What a buffer has beyond a power of two: a header's room must not cost twice the memory.
const EXTRA: usize = 1024;
/// Sizes that are kept: 4 KiB, 8 KiB, ... 8 MiB.
const CLASSES: usize = 12;
/// Buffers of one size that a thread keeps.
const COUNT_MAX: usize = 64;
/// Bytes that a thread keeps.
const HELD_MAX: usize = 16 << 20;

thread_local! {
    static SPARES: RefCell<Spares> = RefCell::default();
}

#[derive(Default)]
struct Spares {
    classes: [Vec<Vec<u8>>; CLASSES],
    /// Capacities of all of them.
    held: usize,
}

/// Capacity of the buffers of each class.
const SIZES: [usize; CLASSES] = sizes();

const fn sizes() -> [usize; CLASSES] {
    let mut sizes = [0; CLASSES];
    let mut rest = sizes.as_mut_slice();
    let mut power = SMALLEST;
    while let [size, others @ ..] = rest {
        *size = power.saturating_add(EXTRA);
        power = power.saturating_mul(2);
        rest = others;
    }
    sizes
}

/// The class whose buffers are just large enough, with their capacity; none if buffers of that size are not kept.
fn class_for(capacity: usize) -> Option<(usize, usize)> {
    if capacity < SMALLEST { None } else { SIZES.into_iter().enumerate().find(|(_, size)| *size >= capacity) }
}

/// The class that a buffer belongs to: it has its capacity, and less than that of the next.
fn class_of(capacity: usize) -> Option<usize> {
    let smallest = capacity.checked_sub(EXTRA)?.checked_div(SMALLEST)?;
    let class = usize::try_from(smallest.checked_ilog2()?).ok()?;
    (class < CLASSES).then_some(class)
}

/// Whether a buffer of this capacity is worth giving back.
pub(crate) fn is_kept(capacity: usize) -> bool {
    class_of(capacity).is_some()
}

/// A buffer with room for `capacity` bytes. What it holds is of an earlier use, or nothing.
pub(crate) fn take(capacity: usize) -> Vec<u8> {
    let Some((class, size)) = class_for(capacity) else { return Vec::with_capacity(capacity) };
    let spare = SPARES.try_with(|spares| spares.borrow_mut().take(class)).ok().flatten();
    spare.unwrap_or_else(|| Vec::with_capacity(size))
}

/// Keeps a buffer for later, or frees it.
pub(crate) fn give_back(buffer: Vec<u8>) {
    if let Some(class) = class_of(buffer.capacity()) {
        // A thread that ends has no spares any more: then it is freed.
        let _ = SPARES.try_with(|spares| spares.borrow_mut().keep(class, buffer));
    }
}

impl Spares {
    fn take(&mut self, class: usize) -> Option<Vec<u8>> {
        let buffer = self.classes.get_mut(class)?.pop()?;
        self.held = self.held.saturating_sub(buffer.capacity());
        Some(buffer)
    }

    fn keep(&mut self, class: usize, buffer: Vec<u8>) {
        if self.held.saturating_add(buffer.capacity()) > HELD_MAX {
            // Other sizes are asked for than were before.
            *self = Self::default();
        }
        let Some(buffers) = self.classes.get_mut(class) else { return };
        if buffers.len() < COUNT_MAX {
            self.held = self.held.saturating_add(buffer.capacity());
            buffers.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_given_back_is_taken_first() {
        let (first, second) = (take(100_000), take(100_000));
        let places = [first.as_ptr(), second.as_ptr()];
        assert!(first.capacity() >= 100_000 && first.capacity() < 200_000);
        give_back(first);
        give_back(second);
        let again = [take(90_000), take(100_000)];
        assert_eq!(again.each_ref().map(|buffer| buffer.as_ptr()), [places[1], places[0]]);
    }

    #[test]
    fn buffers_belong_to_the_class_that_they_are_made_for() {
        for (class, size) in SIZES.into_iter().enumerate() {
            assert_eq!((class_for(size), class_of(size)), (Some((class, size)), Some(class)));
            assert_eq!(class_of(size - 1), class.checked_sub(1));
        }
    }

    #[test]
    fn small_and_huge_ones_are_not_kept() {
        for capacity in [0, 1, 4095, 17 << 20, 64 << 20] {
            assert!(!is_kept(take(capacity).capacity()), "{capacity}");
        }
        for capacity in [4096, 5000, 1 << 20, (8 << 20) + EXTRA] {
            assert!(is_kept(take(capacity).capacity()), "{capacity}");
        }
    }

    #[test]
    fn what_a_thread_keeps_is_bounded() {
        for capacity in [4096, 1 << 20, 8 << 20] {
            let buffers: Vec<_> = (0..2 * COUNT_MAX).map(|_| Vec::with_capacity(capacity + EXTRA)).collect();
            buffers.into_iter().for_each(give_back);
            SPARES.with_borrow(|spares| {
                let held: usize = spares.classes.iter().flatten().map(Vec::capacity).sum();
                assert_eq!(held, spares.held);
                assert!(held <= HELD_MAX);
                assert!(spares.classes.iter().all(|class| class.len() <= COUNT_MAX));
            });
        }
    }
}
