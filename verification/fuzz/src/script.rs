//! Bytes read as a series of decisions. Input that runs out answers zero for ever, so that every input is a script.

/// A reader of decisions.
#[derive(Clone, Debug)]
pub struct Script<'a> {
    rest: &'a [u8],
}

impl<'a> Script<'a> {
    /// Reads `input` from its start.
    #[must_use]
    pub const fn new(input: &'a [u8]) -> Self {
        Self { rest: input }
    }

    /// Whether everything was read.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.rest.is_empty()
    }

    /// One byte.
    pub fn u8(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        *first
    }

    /// Two bytes, little-endian.
    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.u8(), self.u8()])
    }

    /// Four bytes, little-endian.
    pub fn u32(&mut self) -> u32 {
        u32::from(self.u16()) | u32::from(self.u16()) << 16
    }

    /// Eight bytes, little-endian.
    pub fn u64(&mut self) -> u64 {
        u64::from(self.u32()) | u64::from(self.u32()) << 32
    }

    /// A decision with these odds: `in_256` of 256.
    pub fn chance(&mut self, in_256: u8) -> bool {
        // An input that ran out decides for what is usual.
        !self.is_over() && self.u8() >= 255 - in_256.saturating_sub(1)
    }

    /// One of several values.
    pub fn of<T: Copy>(&mut self, values: &[T]) -> T {
        values[usize::from(self.u8()) % values.len()]
    }

    /// A length of one byte, and that many bytes as far as there are any.
    pub fn bytes(&mut self) -> &'a [u8] {
        let length = usize::from(self.u8());
        self.take(length)
    }

    /// A length of two bytes, and that many bytes as far as there are any.
    pub fn long_bytes(&mut self) -> &'a [u8] {
        let length = usize::from(self.u16());
        self.take(length)
    }

    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(length.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// A number that matters somewhere: small, a limit of a field, a usual size, or any.
    pub fn number(&mut self) -> u64 {
        const INTERESTING: [u64; 14] = [
            0,
            1,
            4095,
            4096,
            65_535,
            65_536,
            65_537,
            1 << 20,
            8 << 20,
            u32::MAX as u64,
            1 << 32,
            i64::MAX as u64,
            1 << 63,
            u64::MAX,
        ];
        match self.u8() {
            kind @ 0..=199 => u64::from(kind),
            kind @ 200..=239 => INTERESTING[usize::from(kind - 200) % INTERESTING.len()],
            240..=249 => u64::from(self.u16()),
            _ => self.u64(),
        }
    }
}
