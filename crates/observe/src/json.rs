//! Log events as one flat JSON object a line.
//!
//! Invariant: the fields of all open spans stand beside the event's own at the top,
//! so `request_id` and `session` are always in one place; an inner value hides an
//! outer one; a text is cut at [`MAX_TEXT`]. Deliberately absent: source lines.

use std::{borrow::Cow, error::Error, fmt, io::Write, sync::Arc, time::SystemTime};

use lyceum_core::Scrubber;
use serde_json::Value;
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    Layer,
    fmt::{
        MakeWriter,
        format::Writer,
        time::{FormatTime, SystemTime as Clock},
    },
    layer::Context,
    registry::LookupSpan,
};

use crate::scrub::AUDIT;

/// The longest text of a field, in bytes: a log line is no place for documents.
const MAX_TEXT: usize = 2_048;

/// How much of it is looked at: longer than anything that is taken out of it begins before its end.
const READ_TEXT: usize = 2 * MAX_TEXT;

/// Writes every event as a line of JSON.
pub(crate) struct JsonLayer<W> {
    writer: W,
    scrubber: Option<Arc<dyn Scrubber>>,
}

impl<W> JsonLayer<W> {
    pub(crate) fn new(writer: W, scrubber: Option<Arc<dyn Scrubber>>) -> Self {
        Self { writer, scrubber }
    }

    /// Takes out of the texts what must not be in a log.
    fn scrub(&self, fields: &mut Fields) {
        let Some(scrubber) = &self.scrubber else {
            return;
        };
        for (_, value) in &mut fields.0 {
            if let Value::String(text) = value
                && let Cow::Owned(scrubbed) = scrubber.scrub(text).text
            {
                *text = scrubbed;
            }
        }
    }
}

#[derive(Default)]
struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    fn set(&mut self, field: &Field, value: Value) {
        // For exported spans only; the log has names of its own for these.
        if field.name().starts_with("otel.") || field.name().starts_with("http.") {
            return;
        }
        match self.0.iter_mut().find(|(name, _)| *name == field.name()) {
            Some((_, old)) => *old = value,
            None => self.0.push((field.name(), value)),
        }
    }

    fn set_text(&mut self, field: &Field, mut text: String) {
        // Cut again when the line is written: what is cut here in the middle, a number perhaps, is
        // beyond that.
        if text.len() > READ_TEXT {
            text.truncate(text.floor_char_boundary(READ_TEXT));
        }
        self.set(field, Value::String(text));
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, value.into());
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.set_text(field, value.to_owned());
    }
    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let mut text = value.to_string();
        let mut cause = value.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        self.set_text(field, text);
    }
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set_text(field, format!("{value:?}"));
    }
}

impl<S, W> Layer<S> for JsonLayer<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut path = String::new();
        for span in context.event_scope(event).into_iter().flatten() {
            path = match path.is_empty() {
                true => span.name().to_owned(),
                false => format!("{}/{path}", span.name()),
            };
            if let Some(outer) = span.extensions().get::<Fields>() {
                for (name, value) in &outer.0 {
                    if !fields.0.iter().any(|(known, _)| known == name) {
                        fields.0.push((name, value.clone()));
                    }
                }
            }
        }
        if event.metadata().target() != AUDIT {
            self.scrub(&mut fields);
        }
        for (_, value) in &mut fields.0 {
            if let Value::String(text) = value
                && text.len() > MAX_TEXT
            {
                text.truncate(text.floor_char_boundary(MAX_TEXT));
                text.push('…');
            }
        }
        let line = line(event, &path, &fields);
        // Nobody could be told that the log itself cannot be written.
        let _ = self
            .writer
            .make_writer_for(event.metadata())
            .write_all(&line);
    }
}

fn line(event: &Event<'_>, path: &str, fields: &Fields) -> Vec<u8> {
    let mut timestamp = String::with_capacity(32);
    if Clock.format_time(&mut Writer::new(&mut timestamp)).is_err() {
        timestamp = format!("{:?}", SystemTime::now());
    }
    let metadata = event.metadata();
    let mut line = Vec::with_capacity(512);
    line.push(b'{');
    put(&mut line, "timestamp", &Value::String(timestamp));
    put(&mut line, "level", &metadata.level().as_str().into());
    put(&mut line, "target", &metadata.target().into());
    if !path.is_empty() {
        put(&mut line, "span", &path.into());
    }
    for (name, value) in &fields.0 {
        if !matches!(*name, "timestamp" | "level" | "target" | "span") {
            put(&mut line, name, value);
        }
    }
    line.extend_from_slice(b"}\n");
    line
}

fn put(line: &mut Vec<u8>, name: &str, value: &Value) {
    if line.len() > 1 {
        line.push(b',');
    }
    // Writing a string or a scalar to memory does not fail.
    let _ = serde_json::to_writer(&mut *line, name);
    line.push(b':');
    let _ = serde_json::to_writer(&mut *line, value);
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::{info, info_span};
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(act: impl FnOnce()) -> Vec<Value> {
        logged_by(None, act)
    }

    fn logged_by(scrubber: Option<Arc<dyn Scrubber>>, act: impl FnOnce()) -> Vec<Value> {
        let sink = Sink::default();
        let writer = sink.clone();
        let layer = JsonLayer::new(move || writer.clone(), scrubber);
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, act);
        let bytes = sink.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        text.lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect()
    }

    #[test]
    fn fields_of_spans_stand_at_the_top() {
        let lines = logged(|| {
            let outer = info_span!(
                "request",
                request_id = "r-1",
                session = tracing::field::Empty
            );
            outer.in_scope(|| {
                outer.record("session", "s-1");
                info_span!("node", name = "gap_identifier")
                    .in_scope(|| info!(status = 200_u64, "handled"));
            });
        });
        let line = &lines[0];
        assert_eq!(line["request_id"], "r-1");
        assert_eq!(line["session"], "s-1");
        assert_eq!(line["span"], "request/node");
        assert_eq!(line["status"], 200);
        assert_eq!(line["message"], "handled");
        assert_eq!(line["level"], "INFO");
    }

    #[test]
    fn texts_are_scrubbed_but_for_the_audit() {
        let scrubber = Arc::new(crate::scrub::tests::Swordfish);
        let lines = logged_by(Some(scrubber), || {
            let long = format!("{}swordfish", "x".repeat(MAX_TEXT - 4));
            let span = info_span!("request", user = "swordfish");
            span.in_scope(|| info!(long, "a {}", "swordfish"));
            info!(target: "audit", user = "swordfish", "audit");
        });
        assert_eq!(lines[0]["user"], "[fish]");
        assert_eq!(lines[0]["message"], "a [fish]");
        // What begins before the cut leaves no half.
        assert!(lines[0]["long"].as_str().unwrap().ends_with("x[fis…"));
        assert_eq!(lines[1]["user"], "swordfish");
    }

    #[test]
    fn a_line_stays_one_line_and_short() {
        let lines = logged(|| info!(detail = "a\n\"b\"\u{0}", long = "好".repeat(1_000), "x"));
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0]["detail"], "a\n\"b\"\u{0}");
        assert!(lines[0]["long"].as_str().unwrap().len() <= MAX_TEXT + '…'.len_utf8());
    }

    #[test]
    fn the_cause_of_an_error_is_kept() {
        #[derive(Debug, thiserror::Error)]
        #[error("open the database")]
        struct Outer(#[source] std::io::Error);
        let lines = logged(|| {
            let error = Outer(std::io::Error::other("disk full"));
            info!(error = &error as &(dyn Error + 'static), "failed");
        });
        assert_eq!(lines[0]["error"], "open the database: disk full");
    }
}
