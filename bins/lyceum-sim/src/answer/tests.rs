//! Answers follow from the request.

use super::*;
use crate::{Rule, ask::ToolOffer, config::Spread};

fn ask(user: &str) -> Ask {
    Ask {
        user: user.into(),
        ..Ask::default()
    }
}

fn answer(ask: &Ask, config: &SimConfig) -> Answer {
    compose(ask, config, &Script::new(config.script.clone()), 1).0
}

fn with_tool() -> Ask {
    Ask {
        tools: vec![ToolOffer {
            name: "calculate".into(),
            schema: json!({"type": "object", "properties": {"expression": {"type": "string"}}}),
        }],
        ..ask("please, marker-u1t1 now")
    }
}

#[test]
fn the_last_mark_comes_back_in_text_and_json() {
    let user = "marker-u9t1 is old\nAtoms marker-u9t2 \"bind\" because";
    let plain = answer(&ask(user), &SimConfig::default());
    assert_eq!(plain.text, "What do you mean by \"marker-u9t2\"?");
    let wants_json = Ask {
        system: "Answer in JSON.".into(),
        ..ask(user)
    };
    let object: Value =
        serde_json::from_str(&answer(&wants_json, &SimConfig::default()).text).unwrap();
    assert_eq!(object["gaps"][0]["quote"], "marker-u9t2");
}

#[test]
fn without_a_mark_the_beginning_is_quoted() {
    let long = "光合作用".repeat(30);
    let text = answer(&ask(&long), &SimConfig::default()).text;
    assert_eq!(
        text,
        format!("What do you mean by \"{}\"?", "光合作用".repeat(5))
    );
}

#[test]
fn lengths_limits_and_stops_are_kept() {
    let config = SimConfig {
        output: Some(Spread::Fixed(200)),
        ..SimConfig::default()
    };
    let long = answer(&ask("x"), &config);
    assert!((199..=200).contains(&long.tokens), "{}", long.tokens);
    assert_eq!(long.finish, Finish::Stop);
    let limited = Ask {
        max_output: Some(5),
        ..ask("x")
    };
    let cut = answer(&limited, &config);
    assert_eq!((cut.tokens, cut.finish), (5, Finish::Length));
    let stopped = Ask {
        stop: vec!["mean".into(), "What".into()],
        ..ask("x")
    };
    let cut = answer(&stopped, &config);
    assert_eq!(cut.finish, Finish::StopSequence("What".into()));
    assert_eq!(cut.text, "");
}

#[test]
fn tools_are_called_when_demanded_or_wished_and_not_after_a_result() {
    let eager = SimConfig {
        tool_use: 1.0,
        ..SimConfig::default()
    };
    let call = answer(&with_tool(), &eager);
    assert_eq!(call.finish, Finish::ToolCalls);
    assert_eq!(
        call.calls[0].arguments,
        r#"{"expression":"marker-u1t1 now"}"#
    );
    assert!(answer(&with_tool(), &SimConfig::default()).calls.is_empty());
    let demanded = Ask {
        tool_choice: ToolChoice::Required,
        ..with_tool()
    };
    assert_eq!(answer(&demanded, &SimConfig::default()).calls.len(), 1);
    let answered = Ask {
        tool_result: Some("4".into()),
        ..with_tool()
    };
    assert!(answer(&answered, &eager).calls.is_empty());
    let forbidden = Ask {
        tool_choice: ToolChoice::None,
        ..with_tool()
    };
    assert!(answer(&forbidden, &eager).calls.is_empty());
}

#[test]
fn a_script_comes_first_and_fills_in_the_mark() {
    let config = SimConfig {
        script: vec![Rule::text("about {{marker}}")],
        tool_use: 1.0,
        ..SimConfig::default()
    };
    assert_eq!(answer(&with_tool(), &config).text, "about marker-u1t1");
}
