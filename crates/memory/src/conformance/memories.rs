//! The rules of the memory port.

use std::time::Duration;

use super::{Subject, Violation, fresh_scope, id, same, strangers};
use crate::{
    InMemory, MemoryCursor, MemoryId, MemoryKind, MemoryStore, NewMemory, Recollection, Timestamp,
};

const TEXTS: [(&str, &str); 8] = [
    (
        "photosynthesis",
        "Plants turn light, water and carbon dioxide into sugar and oxygen.",
    ),
    (
        "光合作用",
        "植物用叶绿素吸收光能，把二氧化碳和水变成葡萄糖。",
    ),
    (
        "photosynthesis",
        "Chlorophyll absorbs red and blue light; light, light and light again.",
    ),
    ("细胞呼吸", "线粒体分解葡萄糖，释放能量。植物也需要呼吸。"),
    (
        "gravity",
        "Mass curves spacetime; apples fall because of it.",
    ),
    ("引力", "质量使时空弯曲，苹果因此落下。"),
    (
        "recursion",
        "A function that calls itself needs a base case.",
    ),
    (
        "learner",
        "Prefers worked examples; finds the word 'ATP' hard.",
    ),
];

const QUERIES: [&str; 14] = [
    "How do plants use light?",
    "叶绿素吸收什么光",
    "苹果",
    "水",
    "ATP例子 worked example",
    "nothing matches zzz",
    "",
    "   ",
    "the of and",
    "\"unbalanced AND (NEAR(",
    "light* OR col:text -plants ^x",
    "'; DROP TABLE memory; --",
    "nul\u{0}byte 🌱 emoji",
    "ＰＬＡＮＴＳ",
];

pub(super) async fn verify(subject: &dyn Subject) -> Result<(), Violation> {
    storing_is_idempotent(subject).await?;
    searches_rank_like_the_reference(subject).await?;
    the_best_match_comes_first(subject).await?;
    lists_are_paged(subject).await?;
    deletion_is_complete(subject).await?;
    strangers_see_nothing(subject).await
}

fn corpus() -> Result<Vec<NewMemory>, Violation> {
    (0..)
        .zip(TEXTS)
        .map(|(n, (topic, text))| {
            Ok(NewMemory {
                id: id(MemoryId::new(format!("m{n}")))?,
                created_at: Some(Timestamp(1_600_000_000_000 + n)),
                ..NewMemory::new(MemoryKind::Fact, topic, text)
            })
        })
        .collect()
}

fn found(recollections: &[Recollection]) -> Vec<&str> {
    recollections.iter().map(|r| r.id.as_str()).collect()
}

async fn storing_is_idempotent(subject: &dyn Subject) -> Result<(), Violation> {
    let (store, scope) = (subject.memories(), fresh_scope());
    let memory = NewMemory {
        importance: 0.25,
        ..NewMemory::new(MemoryKind::Preference, "topic", "first words\u{0}")
    };
    let other = NewMemory {
        text: "other words".into(),
        ..memory.clone()
    };
    same(
        "a memory is new once",
        store.put(&scope, &memory).await?,
        true,
    )?;
    same(
        "a memory is new once",
        store.put(&scope, &other).await?,
        false,
    )?;
    let Some(record) = store.get(&scope, &memory.id).await? else {
        return same("a stored memory is there", false, true);
    };
    same(
        "the first content stays",
        record.text.as_str(),
        "first words\u{0}",
    )?;
    same(
        "a memory keeps its fields",
        (record.kind, record.importance),
        (memory.kind, 0.25),
    )?;
    same(
        "a memory knows its session",
        record.session,
        scope.session.clone(),
    )?;
    same(
        "a replay indexes nothing",
        store.search(&scope, "other", 9).await?,
        vec![],
    )?;
    let mut without = scope.clone();
    without.session = None;
    let second = NewMemory::new(MemoryKind::Fact, "topic", "second words");
    store.put(&scope, &second).await?;
    let unknown = MemoryId::random();
    let asked = [
        second.id.clone(),
        unknown,
        memory.id.clone(),
        memory.id.clone(),
    ];
    let mut many = store.get_many(&without, &asked).await?;
    many.sort_by(|a, b| a.text.cmp(&b.text));
    let many: Vec<&str> = many.iter().map(|record| record.text.as_str()).collect();
    let rule = "several memories come at once, each once";
    same(rule, many, vec!["first words\u{0}", "second words"])?;
    same(rule, store.get_many(&without, &[]).await?, vec![])?;
    let got = store.get(&without, &memory.id).await?;
    same("memories belong to no session", got.is_some(), true)
}

async fn searches_rank_like_the_reference(subject: &dyn Subject) -> Result<(), Violation> {
    let (store, reference, scope) = (subject.memories(), InMemory::default(), fresh_scope());
    // A stranger's memories must not move the scores.
    for whose in strangers(subject, &scope).await? {
        for memory in corpus()?.into_iter().take(4) {
            store.put(&whose, &memory).await?;
        }
    }
    for memory in corpus()? {
        store.put(&scope, &memory).await?;
        reference.put(&scope, &memory).await?;
    }
    for query in QUERIES {
        let got = store.search(&scope, query, 5).await?;
        let want = reference.search(&scope, query, 5).await?;
        same(
            "a search ranks as the reference does",
            found(&got),
            found(&want),
        )?;
        for (got, want) in got.iter().zip(&want) {
            let close = (got.score - want.score).abs() < 1e-9;
            same("scores are the reference's", (query, close), (query, true))?;
        }
    }
    same(
        "a search may ask for none",
        store.search(&scope, "light", 0).await?,
        vec![],
    )
}

async fn the_best_match_comes_first(subject: &dyn Subject) -> Result<(), Violation> {
    let (store, scope) = (subject.memories(), fresh_scope());
    for memory in corpus()? {
        store.put(&scope, &memory).await?;
    }
    for (query, best) in [
        ("which plant makes sugars", "m0"),
        ("叶绿素", "m1"),
        ("red light", "m2"),
        ("线粒体", "m3"),
        ("falling apple", "m4"),
        ("时空为什么弯曲", "m5"),
        ("recursive functions", "m6"),
    ] {
        let got = store.search(&scope, query, 1).await?;
        same(
            "the best match comes first",
            (query, found(&got)),
            (query, vec![best]),
        )?;
    }
    Ok(())
}

async fn lists_are_paged(subject: &dyn Subject) -> Result<(), Violation> {
    let (store, scope) = (subject.memories(), fresh_scope());
    for (n, mut memory) in (0..).zip(corpus()?) {
        // Pairs share a millisecond: the cursor must break the tie.
        memory.created_at = Some(Timestamp(1_600_000_000_000 + n / 2));
        store.put(&scope, &memory).await?;
    }
    let mut seen = Vec::new();
    let mut cursor = None;
    loop {
        let page = store.list(&scope, cursor.as_ref(), 3).await?;
        same("a page keeps to its limit", page.len() <= 3, true)?;
        let Some(last) = page.last() else { break };
        cursor = Some(MemoryCursor::from(last));
        seen.extend(page.into_iter().map(|record| record.id.to_string()));
    }
    let want: Vec<String> = (0..8).rev().map(|n| format!("m{n}")).collect();
    same("pages give each memory once, newest first", seen, want)
}

async fn deletion_is_complete(subject: &dyn Subject) -> Result<(), Violation> {
    let (store, reference, scope) = (subject.memories(), InMemory::default(), fresh_scope());
    for memory in corpus()? {
        store.put(&scope, &memory).await?;
    }
    for memory in corpus()?.into_iter().skip(1) {
        reference.put(&scope, &memory).await?;
    }
    let first = id(MemoryId::new("m0"))?;
    same(
        "a memory can be deleted",
        store.delete(&scope, &first).await?,
        true,
    )?;
    same(
        "twice deletes nothing",
        store.delete(&scope, &first).await?,
        false,
    )?;
    same(
        "a deleted memory is gone",
        store.get(&scope, &first).await?,
        None,
    )?;
    let got = store.search(&scope, "light for plants", 9).await?;
    let want = reference.search(&scope, "light for plants", 9).await?;
    let scores = |all: &[Recollection]| -> Vec<i64> {
        all.iter().map(|one| (one.score * 1e6) as i64).collect()
    };
    same(
        "its words no longer count",
        (found(&got), scores(&got)),
        (found(&want), scores(&want)),
    )?;
    let again = corpus()?.swap_remove(0);
    same(
        "a deleted id can be stored again",
        store.put(&scope, &again).await?,
        true,
    )?;
    same(
        "and is found",
        found(&store.search(&scope, "sugar", 9).await?),
        vec!["m0"],
    )?;
    subject.advance(Duration::from_secs(1)).await;
    let now = NewMemory::new(MemoryKind::Fact, "time", "untimed");
    store.put(&scope, &now).await?;
    let newest = store.list(&scope, None, 1).await?;
    same(
        "a memory without a time gets the present",
        newest[0].id == now.id,
        true,
    )
}

async fn strangers_see_nothing(subject: &dyn Subject) -> Result<(), Violation> {
    let (store, scope) = (subject.memories(), fresh_scope());
    let secret = NewMemory::new(MemoryKind::Fact, "secret", "the vault code is swordfish");
    store.put(&scope, &secret).await?;
    let before = store.search(&scope, "swordfish", 9).await?;
    for stranger in strangers(subject, &scope).await? {
        let rule = "another owner sees nothing of a memory";
        same(rule, store.get(&stranger, &secret.id).await?, None)?;
        same(rule, store.search(&stranger, "swordfish", 9).await?, vec![])?;
        same(rule, store.list(&stranger, None, 9).await?, vec![])?;
        let ids = [secret.id.clone()];
        same(rule, store.get_many(&stranger, &ids).await?, vec![])?;
        let rule = "another owner changes nothing of a memory";
        same(rule, store.delete(&stranger, &secret.id).await?, false)?;
        let theirs = NewMemory {
            text: "swordfish, swordfish".into(),
            ..secret.clone()
        };
        same(rule, store.put(&stranger, &theirs).await?, true)?;
        same(
            rule,
            store.search(&scope, "swordfish", 9).await?,
            before.clone(),
        )?;
        same(rule, store.delete(&stranger, &secret.id).await?, true)?;
        same(
            rule,
            store.search(&scope, "swordfish", 9).await?,
            before.clone(),
        )?;
    }
    Ok(())
}
