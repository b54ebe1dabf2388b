//! A table of waits. A slot's generation grows with each use, so that a late answer never meets a stranger (R2).

use crate::ids::Token;

/// Values under tokens. The lowest free slot is used first, so that equal contents look equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slots<T> {
    /// Keeps a value and names it.
    pub fn insert(&mut self, value: T) -> Token {
        if let Some(slot) = self.free.pop()
            && let Some(entry) = self.slots.get_mut(slot as usize)
        {
            entry.value = Some(value);
            return Token { slot, generation: entry.generation };
        }
        let slot = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        self.slots.push(Slot { generation: 0, value: Some(value) });
        Token { slot, generation: 0 }
    }

    /// Takes a value out. `None` if the token is not, or no longer, in use.
    pub fn remove(&mut self, token: Token) -> Option<T> {
        let slot = self.slots.get_mut(token.slot as usize)?;
        if slot.generation != token.generation {
            return None;
        }
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(token.slot);
        if self.free.len() == self.slots.len() {
            self.forget_order();
        } else {
            // Lowest last, to be used first; the list is short because answers come quickly.
            let position = self.free.len() - 1;
            let place = self.free[..position].partition_point(|free| *free > token.slot);
            self.free[place..].rotate_right(1);
        }
        Some(value)
    }

    /// Values in use.
    pub fn iter(&self) -> impl Iterator<Item = (Token, &T)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            let value = slot.value.as_ref()?;
            Some((
                Token { slot: u32::try_from(index).unwrap_or(u32::MAX), generation: slot.generation },
                value,
            ))
        })
    }

    /// Values in use, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Token, &mut T)> {
        self.slots.iter_mut().enumerate().filter_map(|(index, slot)| {
            let generation = slot.generation;
            let value = slot.value.as_mut()?;
            Some((Token { slot: u32::try_from(index).unwrap_or(u32::MAX), generation }, value))
        })
    }

    /// Number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn forget_order(&mut self) {
        self.free.sort_unstable_by(|a, b| b.cmp(a));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_token_finds_nothing() {
        let mut slots = Slots::default();
        let first = slots.insert("first");
        assert_eq!(slots.remove(first), Some("first"));
        let second = slots.insert("second");
        assert_eq!(second.slot, first.slot);
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.remove(second), Some("second"));
        assert!(slots.is_empty());
    }

    #[test]
    fn the_lowest_slot_is_used_first() {
        let mut slots = Slots::default();
        let tokens: Vec<Token> = (0..5).map(|value| slots.insert(value)).collect();
        for index in [3, 1, 4] {
            slots.remove(tokens[index]);
        }
        assert_eq!(slots.insert(9).slot, 1);
        assert_eq!(slots.insert(9).slot, 3);
        assert_eq!(slots.insert(9).slot, 4);
        assert_eq!(slots.insert(9).slot, 5);
    }
}
