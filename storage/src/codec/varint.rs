//! Whole numbers in as few bytes as they need: the building block of every packed form.

use crate::StoreError;

/// Appends a number, seven bits a byte, lowest first.
pub(crate) fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a number that may be negative, so that small ones of either sign stay short.
pub(crate) fn put_signed(out: &mut Vec<u8>, number: i64) {
    put(out, ((number << 1) ^ (number >> 63)) as u64);
}

/// Appends bytes behind their count.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Takes packed values off the front of some bytes.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    /// Reads `bytes`; faults name `what` was being read.
    pub(crate) const fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { rest: bytes, what }
    }

    /// A fault of what is being read.
    pub(crate) fn fault(&self, detail: impl Into<String>) -> StoreError {
        StoreError::Corrupt {
            what: self.what,
            detail: detail.into(),
        }
    }

    /// Whether nothing is left.
    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// One byte.
    pub(crate) fn byte(&mut self) -> Result<u8, StoreError> {
        let (&first, rest) = self
            .rest
            .split_first()
            .ok_or_else(|| self.fault("ends early"))?;
        self.rest = rest;
        Ok(first)
    }

    /// A number of [`put`].
    pub(crate) fn number(&mut self) -> Result<u64, StoreError> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(self.fault("a number of more than ten bytes"))
    }

    /// A number of [`put_signed`].
    pub(crate) fn signed(&mut self) -> Result<i64, StoreError> {
        let number = self.number()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    /// A number that fits in 32 bits.
    pub(crate) fn small(&mut self) -> Result<u32, StoreError> {
        let number = self.number()?;
        u32::try_from(number).map_err(|_| self.fault("a count above 2^32"))
    }

    /// Bytes of [`put_bytes`].
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], StoreError> {
        let count = self.number()? as usize;
        let (bytes, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or_else(|| self.fault("ends early"))?;
        self.rest = rest;
        Ok(bytes)
    }

    /// Everything that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_size_and_sign_come_back() {
        let mut out = Vec::new();
        let signed = [0, 1, -1, 63, -64, 64, i64::MAX, i64::MIN];
        put(&mut out, u64::MAX);
        for number in signed {
            put_signed(&mut out, number);
        }

        let mut reader = Reader::new("test", &out);

        assert_eq!(reader.number().unwrap(), u64::MAX);
        for number in signed {
            assert_eq!(reader.signed().unwrap(), number);
        }
        assert!(reader.is_empty());
    }

    #[test]
    fn bytes_that_end_early_are_a_fault() {
        let mut reader = Reader::new("test", &[5, 1, 2]);

        assert!(matches!(reader.bytes(), Err(StoreError::Corrupt { .. })));
    }
}
