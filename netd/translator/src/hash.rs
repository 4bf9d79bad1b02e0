//! A hasher for packed tuples: two multiplications a packet, and a secret so that nobody can choose collisions.

use std::hash::{BuildHasher, Hasher};

use crate::random::Random;

/// Makes hashers that share a secret.
#[derive(Clone, Debug)]
pub(crate) struct Mixer {
    start: u64,
    secret: u64,
}

impl Mixer {
    pub(crate) fn new(random: &mut Random) -> Self {
        Self { start: random.next(), secret: random.next() | 1 }
    }
}

impl BuildHasher for Mixer {
    type Hasher = MixHasher;

    fn build_hasher(&self) -> MixHasher {
        MixHasher { state: self.start, secret: self.secret }
    }
}

/// Folds the 128-bit product of the state and each word, as wyhash does.
#[derive(Debug)]
pub(crate) struct MixHasher {
    state: u64,
    secret: u64,
}

impl Hasher for MixHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            for (place, byte) in word.iter_mut().zip(chunk) {
                *place = *byte;
            }
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        // The rotation keeps two equal words from cancelling each other.
        let product = u128::from(self.state.rotate_left(23) ^ word) * u128::from(self.secret);
        let [high, low] = halves(product);
        self.state = high ^ low ^ self.secret;
    }

    fn finish(&self) -> u64 {
        self.state ^ (self.state >> 29)
    }
}

fn halves(wide: u128) -> [u64; 2] {
    [u64::try_from(wide >> 64).unwrap_or_default(), u64::try_from(wide & u128::from(u64::MAX)).unwrap_or_default()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tuple::{Protocol, Tuple};
    use std::collections::HashSet;

    #[test]
    fn tuples_that_differ_little_spread_over_all_buckets() {
        let mixer = Mixer::new(&mut Random::new(7));
        let mut buckets = vec![0u32; 1024];
        let mut hashes = HashSet::new();
        for client in 0..64u8 {
            for port in 0..1024u16 {
                let tuple =
                    Tuple::new(Protocol::Tcp, ([10, 244, 0, client], 32768 + port).into(), ([10, 96, 0, 1], 80).into());
                let hash = mixer.hash_one(tuple);
                hashes.insert(hash);
                buckets[usize::try_from(hash % 1024).unwrap()] += 1;
            }
        }
        assert_eq!(hashes.len(), 64 * 1024, "no two of them share a hash");
        // 64 expected; 8 standard deviations are 64.
        assert!(buckets.iter().all(|&n| (8..=128).contains(&n)), "{buckets:?}");
    }

    #[test]
    fn another_seed_gives_other_hashes() {
        let [a, b] = [1, 2].map(|seed| Mixer::new(&mut Random::new(seed)).hash_one(5u64));
        assert_ne!(a, b);
    }
}
