//! Messages with random content that a given version can carry.

use bytes::Bytes;
use uuid::Uuid;

use crate::ByteStr;

/// A seeded source of randomness (SplitMix64).
pub(super) struct Gen {
    state: u64,
    /// The longest array; halved by every nesting.
    breadth: u64,
}

impl Gen {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            state: seed,
            breadth: 5,
        }
    }

    pub(super) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub(super) fn optional<T: Random>(&mut self, v: i16, nullable: bool) -> Option<T> {
        if nullable && self.below(3) == 0 {
            None
        } else {
            Some(T::random(self, v))
        }
    }
}

pub(super) trait Random {
    fn random(g: &mut Gen, v: i16) -> Self;
}

macro_rules! numbers {
    ($($ty:ty)*) => {$(
        impl Random for $ty {
            fn random(g: &mut Gen, _: i16) -> Self {
                // Full width, small, and the value most defaults have.
                match g.below(4) {
                    0 => g.next() as $ty,
                    1 => (0 as $ty).wrapping_sub(1),
                    _ => g.below(100) as $ty,
                }
            }
        }
    )*};
}

numbers!(i8 i16 u16 i32 i64);

impl Random for bool {
    fn random(g: &mut Gen, _: i16) -> Self {
        g.below(2) == 0
    }
}

impl Random for f64 {
    fn random(g: &mut Gen, _: i16) -> Self {
        g.below(1_000_000) as f64 / 8.0
    }
}

impl Random for Uuid {
    fn random(g: &mut Gen, _: i16) -> Self {
        if g.below(4) == 0 {
            Self::nil()
        } else {
            Self::from_u64_pair(g.next(), g.next())
        }
    }
}

impl Random for ByteStr {
    fn random(g: &mut Gen, _: i16) -> Self {
        let alphabet = ['a', 'Z', '0', '.', '_', '-', 'ż', '語', '🦀', '\0'];
        let len = if g.below(20) == 0 {
            g.below(300)
        } else {
            g.below(12)
        };
        let text: String = (0..len).map(|_| alphabet[g.below(10) as usize]).collect();
        text.into()
    }
}

impl Random for Bytes {
    fn random(g: &mut Gen, _: i16) -> Self {
        // Sometimes long enough to be spliced.
        let len = if g.below(10) == 0 {
            1000 + g.below(100)
        } else {
            g.below(40)
        };
        (0..len).map(|_| g.next() as u8).collect()
    }
}

impl<T: Random> Random for Vec<T> {
    fn random(g: &mut Gen, v: i16) -> Self {
        let breadth = g.breadth;
        let len = g.below(breadth);
        g.breadth = breadth / 2 + 1;
        let elements = (0..len).map(|_| T::random(g, v)).collect();
        g.breadth = breadth;
        elements
    }
}
