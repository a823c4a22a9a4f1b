//! The `data:` lines of a server-sent event stream.
//!
//! Deliberately small: the servers measured here send one `data:` line an event, so lines
//! are not joined. A line above the limit is an error, so that a server cannot fill the
//! generator's memory.

/// Longer lines than this are no answer.
const MAX_LINE_BYTES: usize = 16 << 20;

/// Splits a stream into the values of its `data:` lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// Takes more bytes and hands every complete value to `each`; stops with its error.
    pub(super) fn push<E: From<TooLong>>(
        &mut self,
        mut bytes: &[u8],
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            bytes = rest;
            if self.partial.is_empty() {
                value(line).map_or(Ok(()), &mut each)?;
            } else {
                self.partial.extend_from_slice(line);
                let line = std::mem::take(&mut self.partial);
                value(&line).map_or(Ok(()), &mut each)?;
            }
        }
        if self.partial.len() + bytes.len() > MAX_LINE_BYTES {
            return Err(TooLong.into());
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }
}

/// A line above the limit.
#[derive(Debug)]
pub(super) struct TooLong;

fn value(line: &[u8]) -> Option<&[u8]> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let value = line.strip_prefix(b"data:")?;
    Some(value.strip_prefix(b" ").unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    impl From<TooLong> for &'static str {
        fn from(_: TooLong) -> Self {
            "too long"
        }
    }

    #[test]
    fn values_are_the_same_however_the_bytes_are_split() {
        let stream = "event: a\ndata: {\"x\":1}\r\n\r\n: ping\ndata:你好\n\ndata: cut";
        for size in 1..=stream.len() {
            let (mut lines, mut values) = (Lines::default(), Vec::new());
            for part in stream.as_bytes().chunks(size) {
                let keep = |value: &[u8]| {
                    values.push(String::from_utf8(value.to_vec()).unwrap());
                    Ok::<(), &str>(())
                };
                lines.push(part, keep).unwrap();
            }
            assert_eq!(values, ["{\"x\":1}", "你好"], "parts of {size}");
        }
    }
}
