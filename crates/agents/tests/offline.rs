//! The offline student by its public API: what it finds, how it asks, what it survives.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use lyceum_agents::offline::{
    Lecture, MAX_GAPS, MAX_QUESTIONS, analyse,
    evaluation::{Case, Report, evaluate, load},
    learned::{Model, WEIGHTS, fingerprint},
    questions, summary,
};
use lyceum_core::{Gap, GapKind, Role, Turn};
use proptest::prelude::*;

fn lecture<'a>(topic: &'a str, text: &'a str) -> Lecture<'a> {
    Lecture {
        topic,
        text,
        earlier: &[],
        recalled: &[],
    }
}

fn ask(topic: &str, text: &str) -> (Vec<Gap>, Vec<String>) {
    let lecture = lecture(topic, text);
    let gaps = analyse(&lecture);
    let questions = questions(&lecture, &gaps, &[]);
    (gaps, questions)
}

fn said(text: &str) -> Turn {
    Turn {
        role: Role::User,
        content: text.to_owned(),
    }
}

fn data(set: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    folder.join(set)
}

fn cases() -> Vec<Case> {
    load(&data("feynman")).unwrap_or_default()
}

fn assert_bars(report: &Report) {
    let notes = report.notes.join("\n");
    assert!(report.hit_rate() >= 0.70, "{}\n{notes}", report.hit_rate());
    assert!(
        report.false_alarms_per_clean_text() <= 0.5,
        "{}\n{notes}",
        report.false_alarms_per_clean_text()
    );
    assert!(report.quote_rate() >= 0.95, "{}", report.quote_rate());
    assert_eq!(report.leaks, 0);
    assert_eq!(report.duplicates, 0);
    assert_eq!(report.misquotes, 0);
}

#[test]
fn the_set_is_large_and_balanced() {
    let cases = cases();
    for language in ["en", "zh"] {
        let own = cases.iter().filter(|case| case.language == language);
        let (clean, flawed): (Vec<&Case>, Vec<&Case>) = own.partition(|case| case.gaps.is_empty());
        assert!(flawed.len() >= 30 && clean.len() >= 6, "{language}");
    }
    let subjects: std::collections::HashSet<&str> =
        cases.iter().map(|case| case.subject.as_str()).collect();
    assert!(subjects.len() >= 10, "{subjects:?}");
}

/// Texts that the weights were learnt from: a floor under what is remembered, no promise.
#[test]
fn the_bars_hold_on_what_was_learnt_from() {
    let cases = cases();
    for language in ["en", "zh"] {
        assert_bars(&evaluate(cases.iter().filter(|c| c.language == language)));
    }
}

/// Texts of authors that nothing was learnt from, in figures that are what they are; what is
/// asked is never wrong.
#[test]
fn what_was_never_read_stays_as_good_as_it_is() {
    let cases = load(&data("feynman-exam")).unwrap();
    assert!(cases.len() >= 180);
    let report = evaluate(&cases);
    assert!(report.hit_rate() >= 0.6, "{}", report.hit_rate());
    let alarms = report.false_alarms_per_clean_text();
    assert!(alarms <= 0.5, "{alarms}");
    assert!(report.quote_rate() >= 0.95, "{}", report.quote_rate());
    assert_eq!(
        (report.leaks, report.duplicates, report.misquotes),
        (0, 0, 0)
    );
}

/// Who changes a feature or a text has to learn again: `cargo xtask train feynman`.
#[test]
fn the_weights_were_learnt_from_these_texts_by_these_features() {
    let model = Model::decode(WEIGHTS).expect("weights of this version of the features");
    assert!(WEIGHTS.len() <= 600 * 1024, "{}", WEIGHTS.len());
    let mut authors: Vec<PathBuf> = std::fs::read_dir(data("feynman-train"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "jsonl"))
        .collect();
    authors.sort();
    let sets = [data("feynman"), data("feynman-blind")];
    let cases: Vec<Case> = sets
        .iter()
        .chain(&authors)
        .flat_map(|set| load(set).unwrap())
        .collect();
    assert_eq!(model.fingerprint, fingerprint(&cases));
}

/// Few gaps are reported of one text, whatever is wrong with it.
#[test]
fn what_is_asked_of_a_short_text_can_be_read() {
    let texts = load(&data("feynman-train")).unwrap();
    let many = texts
        .iter()
        .step_by(8)
        .map(|case| ask(&case.topic, &case.text).0.len());
    assert_eq!(many.max(), Some(6));
}

#[test]
fn asks_about_each_gap_in_the_learners_words() {
    let (gaps, questions) = ask(
        "photosynthesis",
        "Photosynthesis is how plants make food. Chlorophyll absorbs sunlight and somehow \
         turns it into glucose. All plants always do this.",
    );
    let kinds: Vec<GapKind> = gaps.iter().map(|gap| gap.kind).collect();
    assert!(kinds.contains(&GapKind::VagueWord), "{gaps:?}");
    assert!(kinds.contains(&GapKind::UndefinedTerm), "{gaps:?}");
    assert!(kinds.contains(&GapKind::OverGeneralisation), "{gaps:?}");
    assert!(
        questions.iter().any(|q| q.contains("“somehow”")),
        "{questions:?}"
    );
    assert!((3..=MAX_QUESTIONS).contains(&questions.len()));
}

#[test]
fn answers_in_the_language_of_the_learner() {
    let (gaps, questions) = ask(
        "TCP",
        "TCP 使用三次握手，因此数据不会丢失。反正某种机制会处理。",
    );
    assert!(!gaps.is_empty());
    for text in gaps.iter().map(|gap| &gap.reason).chain(&questions) {
        assert!(
            text.contains(['的', '么', '吗', '是', '没', '这']),
            "{text}"
        );
    }
}

#[test]
fn obvious_short_cases_are_all_right() {
    let short = cases().into_iter().filter(|c| c.name.contains("-short-"));
    let short: Vec<Case> = short.collect();
    let report = evaluate(&short);
    assert!(report.clean >= 6 && report.flawed >= 14);
    assert!(report.notes.is_empty(), "{}", report.notes.join("\n"));
}

#[test]
fn one_sentence_is_not_quoted_whole_by_every_question() {
    for text in [
        "The sky is blue because the air scatters short waves more than long waves, which is why \
         we see blue light from all sides.",
        "天空是蓝色的，因为空气会把短的光波散开，所以我们从四面八方看到蓝光。",
    ] {
        let (_, questions) = ask("", text);
        let whole = text.trim_end_matches(['.', '。']);
        assert!(
            questions.iter().all(|q| !q.contains(whole)),
            "{questions:?}"
        );
        let quotes: std::collections::HashSet<&str> = questions
            .iter()
            .filter_map(|q| q.split_once('“')?.1.split('”').next())
            .collect();
        assert!(quotes.len() >= 2, "{questions:?}");
    }
}

#[test]
fn what_was_said_before_is_remembered() {
    let earlier = [
        said("Heating a gas increases its pressure."),
        said("Entropy is a measure of disorder."),
    ];
    let lecture = Lecture {
        topic: "gases",
        text: "Heating a gas decreases its pressure. Entropy grows.",
        earlier: &earlier,
        recalled: &[],
    };
    let gaps = analyse(&lecture);
    let conflict = gaps
        .iter()
        .find(|gap| gap.kind == GapKind::Contradiction)
        .unwrap();
    assert!(
        conflict
            .reason
            .contains("Heating a gas increases its pressure")
    );
    assert!(!gaps.iter().any(|gap| gap.quote == "Entropy"), "{gaps:?}");
    let questions = questions(&lecture, &gaps, &[]);
    assert!(
        questions
            .iter()
            .any(|q| q.contains("increases its pressure") && q.contains("decreases its pressure")),
        "{questions:?}"
    );
}

#[test]
fn a_term_that_another_conversation_explained_is_known_and_one_it_only_used_is_not() {
    let text = "The chlorophyll takes in the light, so the plant grows.";
    let asks = |recalled: &[String]| {
        let lecture = Lecture {
            recalled,
            ..lecture("plants", text)
        };
        analyse(&lecture)
            .iter()
            .any(|gap| gap.quote == "chlorophyll")
    };
    assert!(asks(&[]));
    assert!(asks(&["The chlorophyll takes in the light.".to_owned()]));
    assert!(!asks(&[
        "Chlorophyll is a green dye in the leaves.".to_owned()
    ]));
}

#[test]
fn two_flips_are_no_contradiction() {
    for text in [
        "When supply rises, the price falls. When supply falls, the price rises.",
        "Hot air rises. Cold air falls.",
        "供给增加，价格下降。供给减少，价格上升。",
    ] {
        let (gaps, _) = ask("", text);
        assert!(
            !gaps.iter().any(|gap| gap.kind == GapKind::Contradiction),
            "{gaps:?}"
        );
    }
}

#[test]
fn no_question_is_asked_twice() {
    let text = "It uses a mutex, so it is safe.";
    let lecture = lecture("threads", text);
    let gaps = analyse(&lecture);
    let mut asked: Vec<String> = Vec::new();
    for _ in 0..30 {
        let new = questions(&lecture, &gaps, &asked);
        assert!(!new.is_empty() && new.len() <= MAX_QUESTIONS);
        assert!(
            new.iter().all(|question| !asked.contains(question)),
            "{new:?}"
        );
        asked.extend(new);
    }
}

#[test]
fn a_gap_of_a_model_is_asked_about_when_its_quote_is_real() {
    let lecture = lecture("x", "The heart pumps blood through the body.");
    let gap = |quote: &str| Gap {
        kind: GapKind::MissingMechanism,
        quote: quote.to_owned(),
        reason: String::new(),
        severity: lyceum_core::Severity::High,
        confidence: lyceum_core::Confidence::default(),
    };
    let asked = questions(&lecture, &[gap("pumps blood"), gap("never said")], &[]);
    assert!(asked[0].contains("“pumps blood”"), "{asked:?}");
    assert!(
        asked
            .iter()
            .all(|question| !question.contains("never said"))
    );
}

#[test]
fn what_is_no_explanation_gets_a_natural_reaction() {
    for (text, part) in [
        ("Hello!", "Hello"),
        ("你好", "你好"),
        ("What is a black hole?", "What is a black hole"),
        ("什么是黑洞？", "什么是黑洞"),
        ("asdkjh qwlkjx zxcmnb wqrtp", "asdkjh"),
        ("def f(x):\n    return x + 1\n\nprint(f(2))", "def f(x):"),
        (
            "Die Photosynthese ist ein Prozess, bei dem Pflanzen Licht in Energie umwandeln.",
            "Photosynthese",
        ),
        ("Фотосинтез превращает свет в энергию.", "Фотосинтез"),
        ("😀🎉", ""),
        ("   ", ""),
        ("", ""),
    ] {
        let (gaps, questions) = ask("", text);
        assert!(gaps.is_empty(), "{text}: {gaps:?}");
        assert!(!questions.is_empty(), "{text}");
        assert!(
            questions[0].contains(part) || questions.iter().any(|q| q.contains(part)),
            "{questions:?}"
        );
    }
}

#[test]
fn a_word_or_two_are_asked_to_be_more() {
    for text in ["It works.", "能用。", "Because."] {
        let (_, questions) = ask("", text);
        let quote = text.trim_end_matches(['.', '。']);
        assert!(questions.iter().all(|q| q.contains(quote)), "{questions:?}");
    }
}

#[test]
fn different_lessons_give_different_questions() {
    let (_, one) = ask(
        "gravity",
        "Gravity pulls things down, so apples fall. It always works.",
    );
    let (_, other) = ask(
        "trade",
        "Trade makes countries rich, so tariffs are bad. It never fails.",
    );
    assert!(one.iter().all(|question| !other.contains(question)));
}

#[test]
fn long_texts_take_linear_time() {
    let sentence = "The enzyme catalase quickly turns peroxide into water, so 3 cells survive. ";
    let chinese = "酶把过氧化氢变成水，因此细胞不会增加损伤，温度升高活性下降。";
    for unit in [sentence, chinese] {
        let short = unit.repeat(20_000 / unit.len());
        let long = unit.repeat(160_000 / unit.len());
        // The dictionaries are loaded before the clock starts.
        let _ = ask("enzymes", &short);
        let time = |text: &str| {
            let start = Instant::now();
            let (gaps, questions) = ask("enzymes", text);
            assert!(gaps.len() <= MAX_GAPS && !questions.is_empty());
            start.elapsed().as_secs_f64()
        };
        // The faster of two runs: other processes only ever add time.
        let best = |text: &str| time(text).min(time(text));
        let (short, long) = (best(&short), best(&long));
        // Eight times the text: quadratic work would take sixty-four times as long.
        assert!(long < short.max(0.005) * 24.0, "{short} s, then {long} s");
    }
}

#[test]
fn a_summary_holds_topic_turns_and_claims() {
    let turns = [
        said("Osmosis is the movement of water through a membrane. Water moves to the salty side."),
        Turn {
            role: Role::Assistant,
            content: "What is a membrane?".to_owned(),
        },
        said("A membrane is a thin wall."),
    ];
    let text = summary("osmosis", &turns);
    assert!(text.starts_with("Topic: osmosis. 3 turns."), "{text}");
    assert!(text.contains("A membrane is a thin wall"), "{text}");
    assert!(!text.contains("What is a membrane"), "{text}");
    assert!(
        summary("渗透", &[said("水从稀的一侧流向浓的一侧。")]).starts_with("主题：渗透。共 1 轮。")
    );
    assert_eq!(summary("", &[]), "Topic: this topic. 0 turns.");
}

/// Text as learners may send it: words of both languages, marks, and anything else.
fn anything() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("so ".to_owned()),
        Just("is like a ".to_owned()),
        Just("always ".to_owned()),
        Just("increases ".to_owned()),
        Just("not ".to_owned()),
        Just("mitochondria ".to_owned()),
        Just("因此".to_owned()),
        Just("所有".to_owned()),
        Just("就是".to_owned()),
        Just("叶绿体".to_owned()),
        Just("。".to_owned()),
        Just(". ".to_owned()),
        Just("，".to_owned()),
        Just("“".to_owned()),
        Just("{q}".to_owned()),
        "\\PC{0,12}",
        any::<String>(),
    ];
    prop::collection::vec(word, 0..40).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn nothing_panics_and_quotes_are_true(topic in anything(), text in anything(), before in anything()) {
        let earlier = [said(&before)];
        let lecture = Lecture { topic: &topic, text: &text, earlier: &earlier, recalled: &[] };
        let gaps = analyse(&lecture);
        prop_assert_eq!(&gaps, &analyse(&lecture));
        prop_assert!(gaps.len() <= MAX_GAPS);
        for gap in &gaps {
            prop_assert!(text.contains(&gap.quote) && !gap.quote.is_empty());
        }
        let first = questions(&lecture, &gaps, &[]);
        prop_assert_eq!(&first, &questions(&lecture, &gaps, &[]));
        prop_assert!((1..=MAX_QUESTIONS).contains(&first.len()));
        let second = questions(&lecture, &gaps, &first);
        prop_assert!(second.iter().all(|question| !first.contains(question)));
        let _ = summary(&topic, &earlier);
    }
}
