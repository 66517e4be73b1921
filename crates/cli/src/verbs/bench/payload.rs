//! Values to measure with: letters that do not compress to nothing, different from record to record.

/// Cheap, repeatable letters in a ring; each record takes another stretch of it.
pub(super) struct Payload {
    ring: Vec<u8>,
    size: usize,
    at: usize,
}

/// Steps between two records' stretches: prime, so that they rarely repeat.
const STEP: usize = 7919;

impl Payload {
    pub(super) fn new(size: usize) -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let length = size.max(1) * 2 + STEP * 16;
        let letters = (0..length).map(|_| {
            // xorshift64
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            b'A' + u8::try_from(state % 26).unwrap_or(0)
        });
        Self {
            ring: letters.collect(),
            size,
            at: 0,
        }
    }

    /// The next record's value.
    pub(super) fn next(&mut self) -> &[u8] {
        let room = self.ring.len().saturating_sub(self.size).max(1);
        self.at = (self.at + STEP) % room;
        self.ring.get(self.at..self.at + self.size).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_size_and_differ() {
        for size in [0, 1, 100, 100_000] {
            let mut payload = Payload::new(size);
            assert_eq!(payload.next().len(), size);
        }
        let mut payload = Payload::new(100);
        let first = payload.next().to_vec();
        assert_ne!(payload.next(), first);
    }
}
