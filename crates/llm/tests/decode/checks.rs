//! What has to hold for any bytes. Fuzz targets and property tests share it.

use std::fmt::Debug;

use lyceum_core::ChatEvent;
use lyceum_llm::{
    Dialect,
    decode::{AnswerDecoder, MAX_EVENT_BYTES},
    sse::SseDecoder,
};

/// What an answer's bytes mean: its events, and how it ended.
pub(crate) type Meaning = (Vec<ChatEvent>, String);

/// The meaning of a body in pieces.
pub(crate) fn meaning<'a>(dialect: Dialect, pieces: impl IntoIterator<Item = &'a [u8]>) -> Meaning {
    let mut decoder = AnswerDecoder::new(dialect, "provider", "model");
    let mut events = Vec::new();
    for piece in pieces {
        if let Err(error) = decoder.feed(piece, &mut events) {
            return (events, describe(&error));
        }
    }
    let end = decoder.finish(&mut events);
    (events, describe(&end))
}

fn describe(end: &impl Debug) -> String {
    format!("{end:?}")
}

/// Cuts a body into pieces of these lengths, again and again.
pub(crate) fn cut<'a>(mut body: &'a [u8], lengths: &[u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    let mut lengths = lengths.iter().cycle();
    while !body.is_empty() {
        let length = lengths.next().map_or(body.len(), |n| usize::from(*n) + 1);
        let (piece, rest) = body.split_at(length.min(body.len()));
        pieces.push(piece);
        body = rest;
    }
    pieces
}

/// A body means the same in one piece and in many, and no more than it holds.
pub(crate) fn same_however_cut(dialect: Dialect, body: &[u8], lengths: &[u8]) {
    let whole = meaning(dialect, [body]);
    assert_eq!(meaning(dialect, cut(body, lengths)), whole);
    let said: usize = whole.0.iter().map(length).sum();
    // An escape never gets shorter than its meaning, and `{}` may stand for no arguments.
    assert!(
        said <= body.len() + 2 * whole.0.len(),
        "{said} of {}",
        body.len()
    );
    let answer = AnswerDecoder::new(dialect, "provider", "model");
    let _ = answer.whole(body, &mut Vec::new());
}

fn length(event: &ChatEvent) -> usize {
    match event {
        ChatEvent::Text(text) | ChatEvent::Reasoning(text) => text.len(),
        ChatEvent::ToolCall(delta) => delta.arguments.len(),
        ChatEvent::Choice { event, .. } => length(event),
        _ => 0,
    }
}

/// The event-stream decoder gives the same events however its bytes are cut.
pub(crate) fn same_events_however_cut(body: &[u8], lengths: &[u8]) {
    let decode = |pieces: Vec<&[u8]>| {
        let mut decoder = SseDecoder::new(MAX_EVENT_BYTES.min(256));
        let mut events = Vec::new();
        let mut fed = Ok(());
        for piece in pieces {
            fed = decoder.feed(piece, |event| {
                events.push((event.name.to_vec(), event.data.to_vec()));
            });
            if fed.is_err() {
                break;
            }
        }
        (events, fed)
    };
    assert_eq!(decode(cut(body, lengths)), decode(vec![body]));
}
