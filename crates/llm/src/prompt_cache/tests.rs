use super::*;
use lyceum_core::{ToolCall, ToolSpec};

/// A text of so many tokens, by the estimate.
fn words(tokens: usize) -> String {
    "x".repeat(tokens * 10 / 3)
}

fn tool(name: &str, tokens: usize) -> ToolSpec {
    ToolSpec::new(name, words(tokens), json!({}))
}

/// The marked places: `t` for the tools, else the message's index.
fn marks(request: &ChatRequest) -> Vec<String> {
    let planned = PromptCache::MARKED.plan(request);
    let mut marks = Vec::new();
    if planned
        .tools
        .iter()
        .any(|tool| tool.extra.contains_key(FIELD))
    {
        marks.push("t".to_owned());
    }
    for (at, message) in planned.messages.iter().enumerate() {
        if let Content::Parts(parts) = &message.content
            && parts.iter().any(|part| matches!(part, Part::Text { extra, .. } if extra.get(FIELD) == Some(&ephemeral())))
        {
            marks.push(at.to_string());
        }
    }
    marks
}

fn conversation(system: usize, turns: &[usize]) -> ChatRequest {
    let turns = turns.iter().enumerate().map(|(at, tokens)| match at % 2 {
        0 => Message::user(words(*tokens)),
        _ => Message::assistant(words(*tokens)),
    });
    let messages: Vec<Message> = std::iter::once(Message::system(words(system)))
        .chain(turns)
        .collect();
    ChatRequest::new(messages)
}

#[test]
fn small_prompts_are_not_marked_and_small_parts_are_merged() {
    assert!(marks(&conversation(1_000, &[20])).is_empty());
    assert_eq!(marks(&conversation(1_030, &[20])), ["0"]);
    let mut request = conversation(600, &[20]);
    request.tools = vec![tool("a", 600)];
    assert_eq!(marks(&request), ["0"], "tools and instructions together");
    request.tools = vec![tool("a", 1_100)];
    assert_eq!(marks(&request), ["t"]);
    assert_eq!(marks(&conversation(600, &[300, 300, 20])), ["2"]);
}

#[test]
fn the_last_message_is_never_marked_and_four_marks_are_the_most() {
    assert_eq!(marks(&conversation(1_100, &[5_000])), ["0"]);
    let long = conversation(1_100, &[1_100; 9]);
    assert_eq!(marks(&long), ["0", "6", "7", "8"]);
}

#[test]
fn results_of_tools_and_marks_of_the_caller_are_left_alone() {
    let mut request = conversation(20, &[20, 20, 20]);
    request.messages[2].tool_calls = vec![ToolCall::new("1", "t", "{}")];
    request.messages[3] = Message::tool("1", words(2_000));
    request.messages.push(Message::user("and now?"));
    assert!(marks(&request).is_empty());

    let mut own = conversation(2_000, &[2_000, 20]);
    mark_message(&mut own.messages[1]);
    let planned = PromptCache::MARKED.plan(&own);
    assert_eq!(planned, own);
}

#[test]
fn the_next_turn_begins_with_what_was_marked() {
    let before = conversation(1_100, &[1_100, 1_100, 30]);
    let mut after = before.clone();
    after.messages.push(Message::assistant("well"));
    after.messages.push(Message::user("why?"));
    let (first, second) = (marks(&before), marks(&after));
    assert!(
        first.iter().all(|mark| second.contains(mark)),
        "{first:?} {second:?}"
    );
}

#[test]
fn tools_have_one_order_and_words_are_unchanged() {
    let mut request = conversation(1_100, &[1_100, 20]);
    request.tools = vec![tool("b", 1), tool("a", 1)];
    let planned = PromptCache::Automatic.plan(&request);
    assert_eq!(planned.tools[0].name, "a");
    assert_eq!(planned.messages, request.messages);
    let marked = PromptCache::MARKED.plan(&request);
    let texts = |request: &ChatRequest| -> Vec<String> {
        request
            .messages
            .iter()
            .map(|message| message.content.text())
            .collect()
    };
    assert_eq!(texts(&marked), texts(&request));
}

#[test]
fn stable_blocks_come_first_and_grow_to_the_size_that_is_cached() {
    use Stability::{Dynamic, Stable};
    let (big, small) = (words(1_030), words(600));
    let blocks = [
        (Dynamic, "now"),
        (Stable, &*small),
        (Stable, &*small),
        (Stable, &*big),
        (Dynamic, ""),
    ];
    let arranged = arrange(blocks, Tokens(1_024));
    let sizes: Vec<usize> = arranged.iter().map(|m| m.content.len_bytes()).collect();
    assert_eq!(sizes, [2 * small.len() + 2, big.len(), 3]);
}

#[test]
fn a_beginning_is_refreshed_late_and_only_when_it_will_be_used() {
    let (refresh, used) = (Refresh::default(), Instant::now());
    let minute = Duration::from_secs(60);
    for (minutes, expected, due) in [(3, 1, false), (4, 0, false), (4, 1, true), (5, 1, false)] {
        let now = used + minute * minutes;
        assert_eq!(
            refresh.is_due(used, expected, now),
            due,
            "{minutes} {expected}"
        );
    }
}
