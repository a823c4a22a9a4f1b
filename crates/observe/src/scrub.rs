//! Log lines for people, without what must not be in them.
//!
//! Invariant: a line is scrubbed whole, as it is written, so nothing hides between two fields.
//! Deliberately absent: the lines of the target [`AUDIT`], which say who did what.

use std::{io, sync::Arc};

use lyceum_core::Scrubber;
use tracing::Metadata;
use tracing_subscriber::fmt::MakeWriter;

/// The target of lines that stay as they are.
pub(crate) const AUDIT: &str = "audit";

/// Gives writers that scrub.
pub(crate) struct Scrubbing<W> {
    writer: W,
    scrubber: Option<Arc<dyn Scrubber>>,
}

impl<W> Scrubbing<W> {
    pub(crate) fn new(writer: W, scrubber: Option<Arc<dyn Scrubber>>) -> Self {
        Self { writer, scrubber }
    }
}

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for Scrubbing<W> {
    type Writer = Lines<'a, W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Lines {
            writer: self.writer.make_writer(),
            scrubber: self.scrubber.as_deref(),
        }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Self::Writer {
        let scrubber = self.scrubber.as_deref();
        Lines {
            writer: self.writer.make_writer_for(metadata),
            scrubber: scrubber.filter(|_| metadata.target() != AUDIT),
        }
    }
}

/// Scrubs each line; the formatter writes an event by one call.
pub(crate) struct Lines<'a, W> {
    writer: W,
    scrubber: Option<&'a dyn Scrubber>,
}

impl<W: io::Write> io::Write for Lines<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(scrubber) = self.scrubber else {
            return self.writer.write(bytes);
        };
        let text = String::from_utf8_lossy(bytes);
        self.writer
            .write_all(scrubber.scrub(&text).text.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{
        borrow::Cow,
        io::Write,
        sync::{Arc, Mutex},
    };

    use lyceum_core::Scrubbed;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// Knows one secret.
    #[derive(Debug)]
    pub(crate) struct Swordfish;

    impl Scrubber for Swordfish {
        fn scrub<'a>(&self, text: &'a str) -> Scrubbed<'a> {
            Scrubbed {
                text: Cow::Owned(text.replace("swordfish", "[fish]")),
                found: Vec::new(),
            }
        }
    }

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_for_people_are_scrubbed_but_for_the_audit() {
        let sink = Sink::default();
        let writer = sink.clone();
        let writer = Scrubbing::new(move || writer.clone(), Some(Arc::new(Swordfish)));
        let layer = tracing_subscriber::fmt::layer().with_writer(writer);
        let subscriber = tracing_subscriber::registry().with(layer.with_ansi(false));
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!("request", user = "swordfish");
            span.in_scope(|| tracing::info!(code = "swordfish", "a swordfish {}", "swordfish"));
            tracing::info!(target: "audit", user = "swordfish", "audit");
        });
        let bytes = sink.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        let (first, last) = text.trim_end().split_once('\n').unwrap();
        assert!(!first.contains("swordfish"), "{first}");
        assert_eq!(first.matches("[fish]").count(), 4, "{first}");
        assert!(last.contains("swordfish"), "{last}");
    }
}
