//! xorshift64*: the model's only source of chance.

pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Self {
        Rng(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    /// In `from..to`.
    pub(super) fn range(&mut self, from: u64, to: u64) -> u64 {
        from + self.next() % (to - from).max(1)
    }

    pub(super) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.range(0, u64::try_from(len).unwrap())).unwrap()
    }

    pub(super) fn one_in(&mut self, n: u64) -> bool {
        self.range(0, n) == 0
    }
}
