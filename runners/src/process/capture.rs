//! What is kept of a stream: its first bytes up to a limit, and how many there were.

/// Keeps the head of a stream.
#[derive(Debug)]
pub struct Capture {
    head: Vec<u8>,
    limit: usize,
    total: u64,
}

impl Capture {
    pub const fn new(limit: usize) -> Self {
        Self { head: Vec::new(), limit, total: 0 }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let room = self.limit - self.head.len();
        self.head.extend_from_slice(&bytes[..room.min(bytes.len())]);
    }

    pub const fn is_truncated(&self) -> bool {
        self.total > self.limit as u64
    }

    /// As text, with U+FFFD in place of what is not UTF-8; if something was left out, the end says so and names the
    /// limit.
    pub fn into_text(self) -> String {
        let truncated = self.is_truncated();
        let mut text = match String::from_utf8(self.head) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        };
        if truncated {
            text.push_str(&format!(
                "\n[truncated: the limit output_limit is {} bytes, {} were written]\n",
                self.limit, self.total
            ));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::Capture;

    #[test]
    fn the_head_is_kept_and_the_rest_counted() {
        let mut capture = Capture::new(5);
        capture.push(b"abc");
        assert!(!capture.is_truncated());
        capture.push(b"defg");
        capture.push(b"hij");
        assert_eq!(capture.into_text(), "abcde\n[truncated: the limit output_limit is 5 bytes, 10 were written]\n");
    }

    #[test]
    fn bytes_that_are_not_text_are_replaced() {
        let mut capture = Capture::new(100);
        capture.push(b"a\xff\xfeb\xc3\xa9");
        assert_eq!(capture.into_text(), "a\u{fffd}\u{fffd}bé");
    }
}
