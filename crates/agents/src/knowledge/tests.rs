//! Tests of what is kept of a lesson, taught back and examined.

use lyceum_core::Verdict;

use super::{exam::exam, teach_back::teach_back, *};
use crate::Mind;

const DAY: u64 = 24 * 60 * 60 * 1_000;

fn turn(knowledge: &mut Knowledge, topic: &str, text: &str, now_ms: u64) -> Vec<String> {
    hear(knowledge, topic, text, now_ms);
    let lecture = Lecture {
        topic,
        text,
        earlier: &[],
        recalled: &[],
    };
    let gaps = worth_asking(knowledge, offline::analyse(&lecture));
    find(knowledge, &gaps, now_ms);
    let questions = offline::questions(&lecture, &gaps, &[]);
    ask(knowledge, &questions);
    questions
}

fn plants() -> Knowledge {
    let mut known = Knowledge::default();
    let first = "Plants use sunlight to make food. The chlorophyll somehow turns light into energy, so the plant always grows.";
    turn(&mut known, "Photosynthesis", first, 0);
    known
}

fn status(known: &Knowledge, kind: GapKind) -> GapStatus {
    let found = known.gaps.iter().find(|gap| gap.gap.kind == kind);
    found.unwrap().status
}

fn call() -> lyceum_core::CallContext {
    lyceum_core::CallContext::new(lyceum_core::Scope::local())
}

async fn examined(known: &Knowledge, question: &str) -> lyceum_core::ExamAnswer {
    let tone = lyceum_core::Tone::default();
    exam(&Mind::Offline, call(), known, question, tone)
        .await
        .unwrap()
}

#[test]
fn an_explanation_becomes_claims_concepts_and_gaps() {
    let known = plants();
    assert_eq!(known.claims.len(), 2);
    assert_eq!(known.claims[0].text, "Plants use sunlight to make food.");
    let names: Vec<&str> = known.concepts.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names[0], "Photosynthesis");
    assert!(names.contains(&"chlorophyll"), "{names:?}");
    assert_eq!(status(&known, GapKind::UndefinedTerm), GapStatus::Asked);
    assert!(known.gaps.iter().all(|gap| !gap.concepts.is_empty()));
}

#[test]
fn an_answer_closes_its_gap_and_no_other() {
    let mut known = plants();
    let chlorophyll = known.concepts.iter().find(|it| it.name == "chlorophyll");
    let chlorophyll = chlorophyll.unwrap().id;
    let before = known.mastery(chlorophyll);
    let text = "Chlorophyll is a green pigment in the leaves.";
    let closed = hear(&mut known, "Photosynthesis", text, 1);
    assert_eq!(status(&known, GapKind::UndefinedTerm), GapStatus::Answered);
    assert_eq!(
        status(&known, GapKind::OverGeneralisation),
        GapStatus::Asked
    );
    assert_eq!(closed.len(), 1);
    assert!(known.mastery(chlorophyll) > before);
    let text = "But the plant does not grow when it is cold, except in a greenhouse.";
    hear(&mut known, "Photosynthesis", text, 2);
    assert_eq!(
        status(&known, GapKind::OverGeneralisation),
        GapStatus::Answered
    );
}

#[test]
fn what_says_nothing_closes_nothing() {
    let open = plants().open_gaps().len();
    for text in [
        "I don't know what chlorophyll is.",
        "Bananas are yellow because they ripen.",
        "Hello!",
        "What is chlorophyll?",
        "Plants use sunlight to make food.",
        "",
    ] {
        let mut known = plants();
        hear(&mut known, "Photosynthesis", text, 1);
        assert_eq!(known.open_gaps().len(), open, "{text}");
    }
}

#[test]
fn chinese_gaps_close_too() {
    let mut known = Knowledge::default();
    let first = "叶绿素以某种方式把光变成能量，所以植物总是会生长。";
    turn(&mut known, "光合作用", first, 0);
    let open = known.open_gaps().len();
    assert!(open > 0);
    let text =
        "植物不是总会生长，没有水就不会生长。叶绿素是一种绿色的色素，它通过吸收光让电子跳起来。";
    hear(&mut known, "光合作用", text, 1);
    assert!(known.open_gaps().len() < open, "{:?}", known.gaps);
}

#[test]
fn a_contradiction_is_a_misconception_until_it_is_set_right() {
    let mut known = plants();
    let gap = Gap {
        kind: GapKind::Contradiction,
        quote: "Plants never grow in the dark".into(),
        reason: "you said that they always grow".into(),
        severity: Severity::High,
        confidence: lyceum_core::Confidence::default(),
    };
    let words = "Plants never grow in the dark.";
    hear(&mut known, "Photosynthesis", words, 1);
    find(&mut known, std::slice::from_ref(&gap), 1);
    assert!(!known.misconceptions[0].resolved);
    let words = "I was wrong: plants only grow if they have light.";
    hear(&mut known, "Photosynthesis", words, 2);
    assert!(known.misconceptions[0].resolved, "{known:?}");
    find(&mut known, &[gap], 2);
    assert_eq!(known.misconceptions.len(), 1, "the same is not found twice");
}

#[test]
fn a_gap_that_is_not_wanted_is_not_asked_again() {
    let mut known = plants();
    let gap = known.gaps[0].gap.clone();
    assert_eq!(worth_asking(&known, vec![gap.clone()]).len(), 1);
    known.gaps[0].status = GapStatus::Dismissed;
    assert!(worth_asking(&known, vec![gap]).is_empty());
}

#[test]
fn a_model_says_what_was_answered_but_only_of_what_was_asked() {
    let mut known = plants();
    let id = known.gaps[0].id;
    let ruling = Ruling {
        shown: vec![id],
        answered: vec![id, 999],
    };
    ruled(&mut known, &ruling, &[]);
    assert!(known.gaps[0].status.is_open(), "it was found just now");
    hear(
        &mut known,
        "Photosynthesis",
        "It is green in the leaves.",
        1,
    );
    ruled(&mut known, &ruling, &[]);
    assert_eq!(known.gaps[0].status, GapStatus::Answered);
    // What the rules closed and the model did not is open again.
    let ruling = Ruling {
        shown: vec![id],
        answered: Vec::new(),
    };
    ruled(&mut known, &ruling, &[id]);
    assert_eq!(known.gaps[0].status, GapStatus::Asked);
    assert!(known.gaps[0].answers.is_empty());
}

#[test]
fn it_stays_small_however_much_is_said() {
    let mut known = Knowledge::default();
    for at in 0..300 {
        let text = format!(
            "The quantorium{at} always turns flux{at} into goo{at} somehow. Everybody knows that zorb{at} is best."
        );
        turn(&mut known, "Machines", &text, at);
    }
    assert!(known.claims.len() <= CLAIMS && known.gaps.len() <= GAPS);
    assert!(known.concepts.len() <= CONCEPTS && known.misconceptions.len() <= MISCONCEPTIONS);
    assert!(known.dropped > 0);
    assert_eq!(known.concepts[0].name, "Machines");
    let bytes = serde_json::to_vec(&known).unwrap().len();
    assert!(bytes < 100_000, "{bytes}");
    for claim in &known.claims {
        assert!(claim.concepts.iter().all(|id| known.concept(*id).is_some()));
    }
}

#[test]
fn sm2_gives_its_published_intervals() {
    let mut review = schedule::fresh(0);
    let mut days = Vec::new();
    for _ in 0..4 {
        review = schedule::graded(review, 4, review.due_at_ms);
        days.push(review.interval_days);
    }
    assert_eq!(days, [1, 6, 15, 38]);
    assert!((review.ease - 2.5).abs() < 1e-9, "quality 4 keeps the ease");
    let early = schedule::graded(review, 5, review.due_at_ms - 1);
    assert_eq!(early, review, "before its time nothing changes");
    let lapsed = schedule::graded(review, 2, review.due_at_ms);
    assert_eq!((lapsed.repetitions, lapsed.interval_days), (0, 1));
    let hard = schedule::graded(review, 3, review.due_at_ms);
    assert!((hard.ease - 2.36).abs() < 1e-9, "{}", hard.ease);
    for _ in 0..50 {
        review = schedule::graded(review, 3, review.due_at_ms);
        assert!(review.ease >= 1.3 && (1..=365).contains(&review.interval_days));
    }
}

#[test]
fn what_is_due_comes_first() {
    let known = plants();
    let today = schedule::items(&known, 0);
    assert!(!today[0].is_due, "{today:?}");
    let later = schedule::items(&known, 2 * DAY);
    assert!(later.iter().all(|item| item.is_due));
    assert!(later.is_sorted_by_key(|item| item.mastery));
}

#[tokio::test]
async fn teaching_back_shows_the_holes_and_invents_nothing() {
    let known = plants();
    let tone = lyceum_core::Tone::default();
    let told = teach_back(&Mind::Offline, call(), &known, tone)
        .await
        .unwrap();
    assert_eq!(told.holes.len(), known.open_gaps().len());
    assert_eq!(told.claims.len(), 2);
    for claim in &known.claims {
        assert!(told.text.contains(&claim.text));
    }
    assert!(told.text.contains("[?"), "{}", told.text);
}

#[tokio::test]
async fn an_exam_is_answered_from_what_was_taught_or_not_at_all() {
    let mut known = plants();
    let text = "Chlorophyll is a green pigment. It absorbs light because its electrons take up the energy of the photons.";
    turn(&mut known, "Photosynthesis", text, 1);
    let answer = examined(&known, "What is chlorophyll?").await;
    assert_eq!(answer.verdict, Verdict::Answered, "{answer:?}");
    assert!(answer.text.contains("green pigment"), "{}", answer.text);
    let answer = examined(&known, "Which gas does the mitochondrion release?").await;
    assert_eq!(answer.verdict, Verdict::NotTaught, "{answer:?}");
    assert!(answer.claims.is_empty());
    assert!(
        answer
            .not_taught
            .iter()
            .any(|it| it.contains("mitochondrion")),
        "{answer:?}"
    );
    let answer = examined(&known, "Why do plants use sunlight?").await;
    assert_eq!(answer.verdict, Verdict::Partly, "{answer:?}");
    assert_eq!(answer.not_taught, ["the reason"]);
    let answer = examined(&known, "How does chlorophyll split water into oxygen?").await;
    assert_eq!(answer.verdict, Verdict::Partly, "{answer:?}");
    assert!(!answer.text.contains("oxygen is"), "{}", answer.text);
}

#[tokio::test]
async fn a_chinese_exam_names_what_was_not_taught() {
    let mut known = Knowledge::default();
    let text = "叶绿素是一种绿色的色素。它吸收光，因为它的电子会跳到更高的能级。";
    turn(&mut known, "光合作用", text, 0);
    let answer = examined(&known, "叶绿素是什么？").await;
    assert_eq!(answer.verdict, Verdict::Answered, "{answer:?}");
    let answer = examined(&known, "线粒体释放什么气体？").await;
    assert_eq!(answer.verdict, Verdict::NotTaught, "{answer:?}");
}

#[test]
fn a_models_additions_are_left_out() {
    let known = plants();
    let said = "Plants use sunlight to make food [1].\nMitochondria oxidise 38 molecules of glucose.\nThe chlorophyll turns light into energy [2]. This was discovered by Jan Ingenhousz in 1779.";
    let kept = grounded::ground(said, &known, "");
    assert!(kept.text.contains("Plants use sunlight to make food"));
    assert!(kept.text.contains("turns light into energy"));
    assert!(
        !kept.text.contains("1779") && !kept.text.contains("38"),
        "{}",
        kept.text
    );
    assert_eq!(kept.removed.len(), 2, "{:?}", kept.removed);
    assert_eq!(kept.claims.len(), 2);
}

#[test]
fn a_conversation_can_be_taken_in_afterwards() {
    let turn = |role, content: &str| Turn {
        role,
        content: content.to_owned(),
    };
    let turns = [
        turn(Role::User, "Plants use chlorophyll to make food."),
        turn(Role::Assistant, "What do you mean by “chlorophyll”?"),
        turn(Role::User, "Chlorophyll is a green pigment."),
    ];
    let mut known = Knowledge::default();
    replay(&mut known, "Photosynthesis", &turns, 0);
    assert_eq!(known.turns, 2);
    let gap = known.gaps.iter().find(|gap| gap.gap.quote == "chlorophyll");
    let gap = gap.unwrap();
    assert_eq!(
        gap.question.as_deref(),
        Some("What do you mean by “chlorophyll”?")
    );
    assert_eq!(gap.status, GapStatus::Answered);
}

#[test]
fn what_is_written_out_reads_as_it_was_reviewed() {
    let mut known = plants();
    let text = "Chlorophyll is a green pigment. <b>It</b> absorbs light because its electrons take up the energy of the photons.";
    turn(&mut known, "Photosynthesis", text, 1);
    let notes = markdown::notes(&known, &[], 1);
    assert!(!notes.contains("<b>"), "{notes}");
    insta::assert_snapshot!(format!(
        "{}\n\n----\n\n{notes}",
        markdown::knowledge(&known)
    ));
}
