//! What has to hold for any bytes that a provider sends.

#[path = "decode/checks.rs"]
mod checks;

use checks::{meaning, same_events_however_cut, same_however_cut};
use lyceum_core::ChatEvent;
use lyceum_llm::{Dialect, decode::AnswerDecoder};
use proptest::prelude::*;
use serde_json::{Value, json};

const DIALECTS: [Dialect; 2] = [Dialect::OpenAi, Dialect::Anthropic];

/// Documents of both dialects, right, strange and broken.
fn documents() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        Just("Hello".to_owned()),
        Just("光合".to_owned()),
        Just(String::new()),
        "[ -~]{0,6}",
        "\\PC{0,4}",
        Just("a\"b\\c\n".to_owned()),
    ];
    let openai = (text.clone(), 0..9_u8, 0..3_u32).prop_map(|(text, kind, index)| {
        let choice =
            |delta: Value| json!({"id": "c", "choices": [{"index": index, "delta": delta}]});
        match kind {
            0..=3 => json!({"id": "c", "choices": [{"index": 0, "delta": {"content": text}}]}),
            4 => choice(json!({"reasoning_content": text, "content": null})),
            5 => choice(json!({"tool_calls": [{"index": index, "id": text,
                "function": {"name": text, "arguments": text}}]})),
            6 => json!({"id": text, "choices": [{"index": index, "delta": {"content": text},
                "finish_reason": "stop", "logprobs": {"content": [text]}}]}),
            7 => json!({"choices": [], "usage": {"prompt_tokens": index, "details": text}}),
            _ => json!({"choices": [{"delta": {"content": index}}]}),
        }
    });
    let anthropic = (text, 0..12_u8, 0..3_u32).prop_map(|(text, kind, index)| {
        let delta = |delta: Value| {
            json!({"type": "content_block_delta", "index": index, "delta": delta})
        };
        let start = |block: Value| {
            json!({"type": "content_block_start", "index": index, "content_block": block})
        };
        match kind {
            0..=2 => delta(json!({"type": "text_delta", "text": text})),
            3 => delta(json!({"type": "thinking_delta", "thinking": text})),
            4 => delta(json!({"type": "input_json_delta", "partial_json": text})),
            5 => delta(json!({"type": "signature_delta", "signature": text})),
            6 => start(json!({"type": "tool_use", "id": text, "name": text, "input": {}})),
            7 => start(json!({"type": "thinking", "thinking": text})),
            8 => start(json!({"type": text, "input": {}})),
            9 => json!({"type": "content_block_stop", "index": index}),
            10 => json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"},
                "usage": {"output_tokens": index}}),
            _ => json!({"type": "message_start", "message": {"id": text, "model": text}}),
        }
    });
    prop_oneof![openai, anthropic]
}

fn body(documents: &[Value]) -> String {
    documents
        .iter()
        .map(|data| format!("data: {data}\n\n"))
        .collect()
}

proptest! {
    #[test]
    fn any_bytes_mean_the_same_however_cut(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        lengths in prop::collection::vec(0..9_u8, 1..6),
    ) {
        for dialect in DIALECTS {
            same_however_cut(dialect, &bytes, &lengths);
        }
        same_events_however_cut(&bytes, &lengths);
    }

    #[test]
    fn any_documents_mean_the_same_however_cut(
        documents in prop::collection::vec(documents(), 0..12),
        lengths in prop::collection::vec(any::<u8>(), 1..6),
        broken in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut body = body(&documents).into_bytes();
        for dialect in DIALECTS {
            same_however_cut(dialect, &body, &lengths);
        }
        if !body.is_empty() {
            let at = broken.index(body.len());
            body[at] = byte;
            for dialect in DIALECTS {
                same_however_cut(dialect, &body, &lengths);
            }
        }
    }

    /// A document is compared with the one before it; a space that is never in the same
    /// place makes every comparison fail, so that all are parsed.
    #[test]
    fn what_is_compared_means_what_is_parsed(
        documents in prop::collection::vec(documents(), 0..20),
    ) {
        let compared = body(&documents);
        let parsed: String = documents
            .iter()
            .enumerate()
            .map(|(n, data)| {
                let data = data.to_string().replacen('{', &format!("{{{}", " ".repeat(n)), 1);
                format!("data: {data}\n\n")
            })
            .collect();
        for dialect in DIALECTS {
            let (compared, _) = meaning(dialect, [compared.as_bytes()]);
            let (parsed, _) = meaning(dialect, [parsed.as_bytes()]);
            prop_assert_eq!(compared, parsed);
        }
    }
}

#[test]
fn deep_nesting_is_an_error_or_left_out_and_no_overflow() {
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    for document in [
        format!(r#"{{"deep":{deep},"choices":[{{"delta":{{"content":"x"}}}}]}}"#),
        format!(r#"{{"choices":[{{"delta":{{"content":{deep}}}}}]}}"#),
        deep,
    ] {
        let mut decoder = AnswerDecoder::new(Dialect::OpenAi, "p", "m");
        let mut events = Vec::new();
        let fed = decoder.feed(format!("data: {document}\n\n").as_bytes(), &mut events);
        let said = events.contains(&ChatEvent::Text("x".into()));
        assert_eq!(said, fed.is_ok());
    }
}

#[test]
fn memory_stays_bounded_while_a_line_has_no_end() {
    for dialect in DIALECTS {
        let mut decoder = AnswerDecoder::new(dialect, "p", "m");
        let megabyte = vec![b'x'; 1 << 20];
        let fed = (0..100).find(|_| decoder.feed(&megabyte, &mut Vec::new()).is_err());
        assert_eq!(fed, Some(4));
    }
}

#[test]
fn an_answer_in_one_document_is_read() {
    let answer = json!({"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]});
    let mut events = Vec::new();
    let decoder = AnswerDecoder::new(Dialect::OpenAi, "p", "m");
    decoder
        .whole(answer.to_string().as_bytes(), &mut events)
        .unwrap();
    assert_eq!(events.last(), Some(&ChatEvent::Text("x".into())));
}
