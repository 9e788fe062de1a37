//! Memory on a page boundary, as `O_DIRECT` demands it.

use std::fmt;

/// What every device accepts as the alignment of memory, in bytes.
const ALIGNMENT: usize = 4096;

/// A growing run of bytes that begins on a page boundary.
///
/// It is a vector with a page more than it needs, used from the first boundary on: the price of
/// not asking the allocator for an alignment is that page.
pub(super) struct AlignedBuffer {
    memory: Vec<u8>,
    first: usize,
    used: usize,
}

impl AlignedBuffer {
    pub(super) fn new(capacity: usize) -> Self {
        let memory = vec![0; capacity + ALIGNMENT];
        let first = memory.as_ptr().align_offset(ALIGNMENT);
        Self {
            memory,
            first,
            used: 0,
        }
    }

    fn capacity(&self) -> usize {
        self.memory.len() - ALIGNMENT
    }

    pub(super) fn len(&self) -> usize {
        self.used
    }

    /// Empties it; memory beyond `keep` bytes is given back.
    pub(super) fn clear(&mut self, keep: usize) {
        if self.capacity() > keep {
            *self = Self::new(keep);
        }
        self.used = 0;
    }

    /// Makes room for `more` bytes, so that the pushes after it do not move what is there.
    pub(super) fn reserve(&mut self, more: usize) {
        if self.used + more > self.capacity() {
            let mut larger = Self::new((self.used + more).next_power_of_two());
            larger.extend(self.as_slice());
            *self = larger;
        }
    }

    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        let at = self.first + self.used;
        self.memory[at..at + bytes.len()].copy_from_slice(bytes);
        self.used += bytes.len();
    }

    /// Adds zeros up to a multiple of `unit`.
    pub(super) fn pad(&mut self, unit: usize) {
        let padding = self.used.next_multiple_of(unit) - self.used;
        self.reserve(padding);
        let at = self.first + self.used;
        self.memory[at..at + padding].fill(0);
        self.used += padding;
    }

    /// Makes it `length` zeros.
    pub(super) fn zeros(length: usize) -> Self {
        let mut buffer = Self::new(length);
        buffer.used = length;
        buffer
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.memory[self.first..self.first + self.used]
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.memory[self.first..self.first + self.used]
    }
}

impl fmt::Debug for AlignedBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlignedBuffer")
            .field("used", &self.used)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_stays_on_its_boundary_and_keeps_its_bytes_while_it_grows() {
        let mut buffer = AlignedBuffer::new(16);
        for round in 0..2_000_u32 {
            buffer.extend(&round.to_le_bytes());
            assert_eq!(buffer.as_slice().as_ptr().align_offset(ALIGNMENT), 0);
        }
        buffer.pad(512);
        assert_eq!(buffer.len(), 8_192);
        assert_eq!(buffer.as_slice()[4 * 1_999..8_000], 1_999_u32.to_le_bytes());
        assert!(buffer.as_slice()[8_000..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn padding_is_zero_where_an_earlier_group_left_bytes() {
        let mut buffer = AlignedBuffer::new(1_024);
        buffer.extend(&[7; 1_024]);
        buffer.clear(1_024);
        buffer.extend(&[1]);
        buffer.pad(512);
        assert!(buffer.as_slice()[1..].iter().all(|byte| *byte == 0));
    }
}
