//! Where a stream is cut into blocks: at places that its content chooses, so that a change early in a layer moves
//! no cut behind it for long, and the blocks there are the same as before.
//!
//! A gear hash rolls over the last 64 bytes (FastCDC, Xia et al. 2016); a block ends where its upper bits are all
//! zero. Bytes that cannot matter because the block is still too small are not hashed. Where blocks end depends on
//! nothing but the bytes, never on how they were cut into writes. All numbers here are part of the blobs' digests.

/// How large blocks are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// No block but the last is smaller. More than [`WINDOW_BYTES`].
    pub(super) min: usize,
    /// Beyond `min`, one byte in 2^`bits` is a cut.
    pub(super) bits: u32,
    /// No block is larger.
    pub(super) max: usize,
}

/// Finds the cuts of one stream.
#[derive(Debug)]
pub(super) struct Cutter {
    bounds: Bounds,
    hash: u64,
    length: usize,
}

/// What the hash remembers: each step shifts one bit out of 64.
const WINDOW_BYTES: usize = 64;

impl Cutter {
    pub(super) fn new(bounds: Bounds) -> Self {
        debug_assert!(bounds.min > WINDOW_BYTES && bounds.max > bounds.min);
        Self { bounds, hash: 0, length: 0 }
    }

    /// How many of the stream's next bytes belong to the block under way, and whether it ends behind them.
    pub(super) fn take(&mut self, bytes: &[u8]) -> (usize, bool) {
        let bytes = &bytes[..bytes.len().min(self.bounds.max - self.length)];
        let unseen = (self.bounds.min - WINDOW_BYTES).saturating_sub(self.length).min(bytes.len());
        let small = (self.bounds.min - 1).saturating_sub(self.length).min(bytes.len()).max(unseen);
        for byte in &bytes[unseen..small] {
            self.hash = roll(self.hash, *byte);
        }
        for (at, byte) in bytes.iter().enumerate().skip(small) {
            self.hash = roll(self.hash, *byte);
            if self.hash >> (u64::BITS - self.bounds.bits) == 0 {
                return (at + 1, self.end());
            }
        }
        self.length += bytes.len();
        (bytes.len(), self.length == self.bounds.max && self.end())
    }

    /// Starts the next block. Says that this one ended.
    fn end(&mut self) -> bool {
        (self.hash, self.length) = (0, 0);
        true
    }
}

fn roll(hash: u64, byte: u8) -> u64 {
    (hash << 1).wrapping_add(GEAR[byte as usize])
}

/// A number for each byte that looks random: the first outputs of SplitMix64 from seed 0.
const GEAR: [u64; 256] = gear();

const fn gear() -> [u64; 256] {
    let mut table = [0; 256];
    let (mut state, mut at) = (0u64, 0);
    while at < table.len() {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        table[at] = z ^ (z >> 31);
        at += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { min: 2000, bits: 11, max: 8000 };

    fn noise(length: usize) -> Vec<u8> {
        let mut state = 7u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        (0..length).map(|_| next()).collect()
    }

    /// The blocks of a stream that is written in pieces of `piece` bytes.
    fn blocks(bytes: &[u8], piece: usize) -> Vec<Vec<u8>> {
        let mut cutter = Cutter::new(BOUNDS);
        let (mut blocks, mut block) = (Vec::new(), Vec::new());
        for mut rest in bytes.chunks(piece) {
            while !rest.is_empty() {
                let (taken, ends) = cutter.take(rest);
                block.extend_from_slice(&rest[..taken]);
                rest = &rest[taken..];
                if ends {
                    blocks.push(std::mem::take(&mut block));
                }
            }
        }
        blocks.push(block);
        blocks
    }

    #[test]
    fn writes_do_not_move_cuts() {
        let bytes = noise(100_000);
        let whole = blocks(&bytes, usize::MAX);
        assert!(whole.len() > 15, "{}", whole.len());
        for piece in [1, 63, 64, 65, 1999, 2000, 2001, 7999, 8000, 8001] {
            assert!(blocks(&bytes, piece) == whole, "{piece}");
        }
    }

    #[test]
    fn blocks_keep_their_bounds() {
        for bytes in [noise(200_000), vec![0; 50_000], b"abc".repeat(20_000)] {
            let blocks = blocks(&bytes, 999);
            let (last, rest) = blocks.split_last().unwrap();
            assert!(last.len() <= BOUNDS.max);
            for block in rest {
                assert!((BOUNDS.min..=BOUNDS.max).contains(&block.len()), "{}", block.len());
            }
            assert_eq!(blocks.concat(), bytes);
        }
    }

    #[test]
    fn bytes_put_in_change_few_blocks() {
        let old = noise(400_000);
        let new = [&old[..100_000], b"something new", &old[100_000..]].concat();
        let known: std::collections::HashSet<_> = blocks(&old, 512).into_iter().collect();
        let changed = blocks(&new, 512).iter().filter(|block| !known.contains(*block)).count();
        assert!((1..=6).contains(&changed), "{changed} of {} blocks", known.len());
    }
}
