//! The trace context that comes with a request and goes on with the calls it makes
//! (<https://www.w3.org/TR/trace-context/>).

use http::HeaderMap;
use opentelemetry::{
    propagation::TextMapPropagator,
    trace::{TraceContextExt, TraceId},
};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::{
    propagation::TraceContextPropagator,
    trace::{IdGenerator, RandomIdGenerator},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Makes the trace named by a request's `traceparent` the parent of `span`, which must be
/// new, and gives the trace's id, 32 hexadecimal digits: the caller's, else the exporter's,
/// else a random one, so that log lines of one request can always be found.
pub fn accept(span: &Span, headers: &HeaderMap) -> String {
    let remote = TraceContextPropagator::new().extract(&HeaderExtractor(headers));
    let theirs = remote.span().span_context().trace_id();
    if theirs != TraceId::INVALID {
        // Fails where no exporter is installed.
        let _ = span.set_parent(remote);
    }
    let ours = span.context().span().span_context().trace_id();
    let id = [ours, theirs]
        .into_iter()
        .find(|id| *id != TraceId::INVALID)
        .unwrap_or_else(|| RandomIdGenerator::default().new_trace_id());
    id.to_string()
}

/// Names the current span to `put`, header by header, for a call to another program.
/// Nothing is named where no exporter is installed.
pub fn outgoing(put: &mut dyn FnMut(&str, String)) {
    struct Put<'a>(&'a mut dyn FnMut(&str, String));
    impl opentelemetry::propagation::Injector for Put<'_> {
        fn set(&mut self, name: &str, value: String) {
            (self.0)(name, value);
        }
    }
    let context = Span::current().context();
    TraceContextPropagator::new().inject_context(&context, &mut Put(put));
}

/// Links the current span to the one that headers of [`outgoing`] name: the work that put off
/// what is done now. Nothing is linked where no exporter is installed.
pub fn link(headers: &[(String, String)]) {
    struct Given<'a>(&'a [(String, String)]);
    impl opentelemetry::propagation::Extractor for Given<'_> {
        fn get(&self, key: &str) -> Option<&str> {
            let found = self.0.iter().find(|(name, _)| name == key);
            found.map(|(_, value)| value.as_str())
        }
        fn keys(&self) -> Vec<&str> {
            self.0.iter().map(|(name, _)| name.as_str()).collect()
        }
    }
    let remote = TraceContextPropagator::new().extract(&Given(headers));
    let remote = remote.span().span_context().clone();
    if remote.is_valid() {
        Span::current().add_link(remote);
    }
}
