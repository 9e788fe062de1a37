//! Requests as bytes, made ahead, and what is read of their answers.

use crate::driver::Plan;
use crate::workload::{Words, path};

/// Requests in rotation: one for each instance, a thousand at least, so that texts differ.
#[derive(Clone, Debug)]
pub(crate) struct Requests {
    bytes: Vec<Vec<u8>>,
}

/// Different requests at least.
const LEAST: usize = 1_000;

impl Requests {
    pub(crate) fn prepare(plan: &Plan) -> Self {
        let request = |n: usize| {
            let name = &plan.instances[n % plan.instances.len()];
            let body = Words::new(n as u64).body(name, plan.messages);
            let head = format!(
                "POST {} HTTP/1.1\r\nhost: {}\r\nx-api-key: {}\r\ncontent-type: \
                 application/json\r\ncontent-length: {}\r\n\r\n",
                path(plan.messages),
                plan.address,
                plan.key,
                body.len()
            );
            (head + &body).into_bytes()
        };
        Self {
            bytes: (0..plan.instances.len().max(LEAST)).map(request).collect(),
        }
    }

    /// The `n`-th request.
    pub(crate) fn get(&self, n: u64) -> &[u8] {
        &self.bytes[(n % self.bytes.len() as u64) as usize]
    }
}

/// An answer that begins a buffer: its status, and how many bytes it takes. `None` while it is
/// not whole.
pub(super) fn answer(bytes: &[u8]) -> Option<(u16, usize)> {
    let head = bytes.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&bytes[..head]).ok()?;
    let status = text.get(9..12)?.parse().ok()?;
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().ok())?
    });
    let whole = head + length.unwrap_or(0);
    (bytes.len() >= whole).then_some((status, whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_once_it_is_whole() {
        let text = b"HTTP/1.1 201 Created\r\nContent-Length: 4\r\nx: y\r\n\r\nbodyHTTP";

        assert_eq!(answer(text), Some((201, text.len() - 4)));
        assert_eq!(answer(&text[..text.len() - 5]), None);
        assert_eq!(answer(&text[..30]), None);
    }
}
