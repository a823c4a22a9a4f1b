//! An incremental decoder of `text/event-stream` (WHATWG HTML, "Server-sent events").
//!
//! Invariant: the events are the same however the bytes were cut into chunks, inside
//! a UTF-8 sequence or between CR and LF too. A line or an event's data longer than
//! the limit is an error, so memory stays bounded whatever the server sends.
//! Deliberately absent: `id` and `retry`, because a model's answer cannot be resumed.

use memchr::{memchr, memchr2};

/// One event. It borrows from the decoder or from the chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SseEvent<'a> {
    /// The value of the last `event` field; empty when there was none.
    pub name: &'a [u8],
    /// The `data` lines joined by a line feed. Not checked to be UTF-8.
    pub data: &'a [u8],
}

/// A line or an event is longer than the decoder's limit. The decoder is of no more use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("read an event of more than {limit_bytes} bytes")]
pub struct SseTooLong {
    /// The limit.
    pub limit_bytes: usize,
}

/// See the module's text. An event is complete when its blank line was read; a caller
/// that also accepts a last event without one feeds two line feeds at the end.
///
/// ```
/// use lyceum_llm::sse::SseDecoder;
///
/// let mut decoder = SseDecoder::new(1024);
/// let mut seen = Vec::new();
/// for chunk in ["data: he", "llo\r", "\n\r\nda", "ta: you\n\n"] {
///     decoder.feed(chunk.as_bytes(), |event| seen.push(event.data.to_vec())).unwrap();
/// }
/// assert_eq!(seen, [b"hello".to_vec(), b"you".to_vec()]);
/// ```
#[derive(Debug)]
pub struct SseDecoder {
    limit: usize,
    /// The unfinished line at the end of the last chunk.
    line: Vec<u8>,
    /// The data of the unfinished event.
    data: Vec<u8>,
    has_data: bool,
    name: Vec<u8>,
    /// The last chunk ended in CR, so a LF at the start of the next belongs to it.
    after_carriage_return: bool,
    first_line: bool,
}

const BYTE_ORDER_MARK: &[u8] = &[0xEF, 0xBB, 0xBF];

impl SseDecoder {
    /// A decoder that refuses lines and events of more than `limit_bytes`.
    #[must_use]
    pub fn new(limit_bytes: usize) -> Self {
        Self {
            limit: limit_bytes,
            line: Vec::new(),
            data: Vec::new(),
            has_data: false,
            name: Vec::new(),
            after_carriage_return: false,
            first_line: true,
        }
    }

    /// Reads a chunk and hands on every event that it completes.
    ///
    /// # Errors
    ///
    /// [`SseTooLong`]; events before the long one were handed on.
    pub fn feed<F>(&mut self, chunk: &[u8], mut on_event: F) -> Result<(), SseTooLong>
    where
        F: FnMut(SseEvent<'_>),
    {
        let mut rest = chunk;
        if self.after_carriage_return
            && let Some((first, tail)) = rest.split_first()
        {
            self.after_carriage_return = false;
            if *first == b'\n' {
                rest = tail;
            }
        }
        // The common event is one data line and a blank line in the same chunk: its data
        // is handed on from the chunk itself, without a copy.
        let mut single: Option<&[u8]> = None;
        while let Some(end) = memchr2(b'\n', b'\r', rest) {
            let line = &rest[..end];
            let carriage_return = rest[end] == b'\r';
            rest = &rest[end + 1..];
            if carriage_return {
                match rest.split_first() {
                    Some((b'\n', tail)) => rest = tail,
                    Some(_) => {}
                    None => self.after_carriage_return = true,
                }
            }
            self.fits(self.line.len() + line.len())?;
            if self.line.is_empty() && !self.first_line {
                if let Some(data) = self.accept(line, &mut single, &mut on_event)? {
                    single = Some(data);
                }
            } else {
                self.accept_stored(line, &mut on_event)?;
            }
        }
        self.keep(&mut single)?;
        self.fits(self.line.len() + rest.len())?;
        self.line.extend_from_slice(rest);
        Ok(())
    }

    /// Takes a line that began in an earlier chunk, or the stream's first line.
    fn accept_stored<F>(&mut self, tail: &[u8], on_event: &mut F) -> Result<(), SseTooLong>
    where
        F: FnMut(SseEvent<'_>),
    {
        self.line.extend_from_slice(tail);
        let stored = std::mem::take(&mut self.line);
        let line = match stored.strip_prefix(BYTE_ORDER_MARK) {
            Some(line) if self.first_line => line,
            _ => &stored,
        };
        self.first_line = false;
        let mut data = self.accept(line, &mut None, on_event)?;
        self.keep(&mut data)?;
        self.line = stored;
        self.line.clear();
        Ok(())
    }

    /// Takes one whole line. Returns data that was not stored yet.
    fn accept<'a, F>(
        &mut self,
        line: &'a [u8],
        single: &mut Option<&[u8]>,
        on_event: &mut F,
    ) -> Result<Option<&'a [u8]>, SseTooLong>
    where
        F: FnMut(SseEvent<'_>),
    {
        if line.is_empty() {
            let data = single.take();
            if data.is_some() || self.has_data {
                on_event(SseEvent {
                    name: &self.name,
                    data: data.unwrap_or(&self.data),
                });
            }
            self.data.clear();
            self.has_data = false;
            self.name.clear();
            return Ok(None);
        }
        let (field, value) = match memchr(b':', line) {
            Some(colon) => {
                let value = &line[colon + 1..];
                let value = value.strip_prefix(b" ").unwrap_or(value);
                (&line[..colon], value)
            }
            None => (line, &[][..]),
        };
        match field {
            b"data" => {
                if single.is_none() && !self.has_data {
                    return Ok(Some(value));
                }
                self.keep(single)?;
                self.keep(&mut Some(value))?;
            }
            b"event" => {
                self.name.clear();
                self.name.extend_from_slice(value);
            }
            // Comments (an empty field name) and fields of no use here.
            _ => {}
        }
        Ok(None)
    }

    /// Stores a data line.
    fn keep(&mut self, line: &mut Option<&[u8]>) -> Result<(), SseTooLong> {
        let Some(line) = line.take() else {
            return Ok(());
        };
        self.fits(self.data.len() + usize::from(self.has_data) + line.len())?;
        if self.has_data {
            self.data.push(b'\n');
        }
        self.data.extend_from_slice(line);
        self.has_data = true;
        Ok(())
    }

    fn fits(&self, bytes: usize) -> Result<(), SseTooLong> {
        if bytes > self.limit {
            return Err(SseTooLong {
                limit_bytes: self.limit,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Decoded = (Vec<(Vec<u8>, Vec<u8>)>, Result<(), SseTooLong>);

    fn decode<'a>(limit: usize, chunks: impl IntoIterator<Item = &'a [u8]>) -> Decoded {
        let mut events = Vec::new();
        let mut decoder = SseDecoder::new(limit);
        let mut push = |event: SseEvent<'_>| {
            events.push((event.name.to_vec(), event.data.to_vec()));
        };
        for chunk in chunks {
            if let Err(error) = decoder.feed(chunk, &mut push) {
                return (events, Err(error));
            }
        }
        let end = decoder.feed(b"\n\n", &mut push);
        (events, end)
    }

    fn whole(text: &str) -> Vec<(String, String)> {
        let (events, end) = decode(1 << 20, [text.as_bytes()]);
        end.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        events
            .into_iter()
            .map(|(name, data)| (text(name), text(data)))
            .collect()
    }

    #[test]
    fn fields_follow_the_standard() {
        let text = "\u{feff}: comment\nid: 7\nretry: 1\nevent: a\ndata: one\ndata:two\ndata\n\n\
                    event: lost\n\ndata:  two spaces\r\rdata: last";
        let expected = [("a", "one\ntwo\n"), ("", " two spaces"), ("", "last")];
        assert_eq!(whole(text), expected.map(|(n, d)| (n.into(), d.into())));
    }

    #[test]
    fn every_split_gives_the_same_events() {
        let text = "\u{feff}event: x\r\ndata: {\"t\":\"学生\"}\r\n\r\ndata: a\rdata: b\r\r: hi\n\
                    data: é\n\ndata: [DONE]\n\n";
        let bytes = text.as_bytes();
        let expected = decode(1 << 20, [bytes]);
        assert_eq!(expected.0.len(), 4);
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let chunks = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                assert_eq!(
                    decode(1 << 20, chunks),
                    expected,
                    "cut at {first}, {second}"
                );
            }
        }
    }

    #[test]
    fn a_line_without_an_end_is_refused_while_it_arrives() {
        let mut decoder = SseDecoder::new(4 << 20);
        let chunk = vec![b'x'; 64 << 10];
        let fed = (0..1600).find(|_| decoder.feed(&chunk, |_| {}).is_err());
        assert_eq!(fed, Some(64), "refused after 4 MiB of 100");
        assert!(decoder.line.capacity() <= 8 << 20);
    }

    proptest! {
        #[test]
        fn decoding_is_independent_of_chunking(
            pieces in prop::collection::vec(
                prop::sample::select(vec![
                    &b"data: x"[..], b"data:", b"data", b"event: n", b":", b"\n", b"\r", b"\r\n",
                    b"\n\n", b" ", b"\xEF\xBB\xBF", b"\xE5\xAD\xA6", b"\xFF", b"0123456789",
                ]),
                0..40,
            ),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
            limit in 5_usize..64,
        ) {
            let bytes = pieces.concat();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let chunks = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]);
            prop_assert_eq!(decode(limit, chunks), decode(limit, [&bytes[..]]));
        }
    }
}
