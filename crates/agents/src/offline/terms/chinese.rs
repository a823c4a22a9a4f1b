//! Chinese terms: rare words, words with a learned ending, compounds in a noun's place.

use std::{ops::Range, sync::LazyLock};

use super::{
    super::{
        chinese,
        english::{ADVERB, NOUN},
        markers::{FORMS, Phrases, section},
        text::{Class, Sentence, is_chinese},
    },
    Candidate, EVERYDAY_CAPITALS, LONGEST, push, surface,
};

/// Words before which a noun's place begins.
static LEADS: Phrases = LazyLock::new(|| section(FORMS, "noun_leads"));

/// Finds them in a sentence.
pub(super) fn runs(sentence: &Sentence<'_>, index: usize, found: &mut Vec<Candidate>) {
    let words = &sentence.words;
    let mut at = 0;
    while at < words.len() {
        if !is_nominal(sentence, at) {
            at += 1;
            continue;
        }
        let mut end = at + 1;
        while end < words.len()
            && end - at < LONGEST
            && (is_nominal(sentence, end) || is_tail(sentence, end))
            && !begins_predicate(sentence, end)
            && words[end - 1].range.end == words[end].range.start
        {
            end += 1;
        }
        run(sentence, index, at..end, found);
        at = end;
    }
}

/// "阳极|放出": a verb after a noun begins what is said of it.
fn begins_predicate(sentence: &Sentence<'_>, at: usize) -> bool {
    let (left, right) = (&sentence.words[at - 1], &sentence.words[at]);
    left.may_be(NOUN) && !right.may_be(NOUN) && !is_tail(sentence, at) && !right.base.is_ascii()
}

/// "拉链|法", "海马|体": a single character that makes a term of what stands before it.
fn is_tail(sentence: &Sentence<'_>, at: usize) -> bool {
    let Some(word) = sentence.words.get(at) else {
        return false;
    };
    let mut chars = word.base.chars();
    let single = chars.next().filter(|_| chars.next().is_none());
    single.is_some_and(|c| TAILS.contains(c)) && word.class != Class::Function
}

fn is_nominal(sentence: &Sentence<'_>, at: usize) -> bool {
    let word = &sentence.words[at];
    let text = surface(sentence, word);
    if !text.chars().any(is_chinese) {
        return word.class == Class::Rare;
    }
    match word.class {
        Class::Function | Class::Number => false,
        Class::Rare => text.chars().count() >= 2 && !word.may_be(ADVERB),
        Class::Common => word.may_be(NOUN) && text.chars().count() >= 2 && word.frequency < 12_000,
    }
}

fn run(sentence: &Sentence<'_>, index: usize, run: Range<usize>, found: &mut Vec<Candidate>) {
    let words = &sentence.words;
    let slot = stands_as_noun(sentence, &run);
    let best = run
        .clone()
        .map(|at| rarity(sentence, at, slot))
        .fold(0.0, f32::max);
    if best <= 0.2 {
        compound(sentence, index, run, slot, found);
        return;
    }
    // A verb or a common noun at the edge belongs to the sentence rather than the term.
    let technical: Vec<usize> = run
        .clone()
        .filter(|&at| rarity(sentence, at, slot) > 0.2)
        .filter(|&at| {
            slot || words[at].may_be(NOUN) || words[at].base.is_ascii() || is_tail(sentence, at + 1)
        })
        .collect();
    let (Some(&first), Some(&last)) = (technical.first(), technical.last()) else {
        return;
    };
    // "遗传|漂变": a common noun directly in front belongs to the term.
    let first =
        if first > run.start && words[first - 1].may_be(NOUN) && words[first - 1].frequency < 9_000
        {
            first - 1
        } else {
            first
        };
    let mut end = last + 1;
    if end < run.end && (slot || words[end].may_be(NOUN)) {
        end += 1;
    }
    let mut joined = if end - first > 1 { 0.16 } else { 0.0 };
    if (first + 1..end).any(|at| is_tail(sentence, at)) {
        joined = 0.2;
    }
    let loose = (first..end).any(|at| is_loose(surface(sentence, &words[at]), words[at].frequency));
    let score = best + joined - if loose { 0.3 } else { 0.0 };
    push(sentence, index, first..end, score, found);
}

/// Two everyday nouns that together may be a term: "损失函数".
fn compound(
    sentence: &Sentence<'_>,
    index: usize,
    run: Range<usize>,
    slot: bool,
    found: &mut Vec<Candidate>,
) {
    let words = &sentence.words;
    for head in run.skip(1) {
        let (left, right) = (&words[head - 1], &words[head]);
        if is_tail(sentence, head) && "法率性论律式学定主".contains(right.base.as_str()) {
            push(sentence, index, head - 1..head + 1, 0.5, found);
        } else if COMPOUND_HEADS.contains(&right.base.as_str())
            && (left.may_be(NOUN) || slot)
            && left.frequency < 9_000
            && !surface(sentence, right).is_ascii()
        {
            push(sentence, index, head - 1..head + 1, 0.46, found);
        }
    }
}

/// Nouns that name abstract constructions in every subject.
static COMPOUND_HEADS: Phrases = LazyLock::new(|| section(FORMS, "chinese_heads"));

/// How technical one Chinese word looks.
fn rarity(sentence: &Sentence<'_>, at: usize, slot: bool) -> f32 {
    let word = &sentence.words[at];
    let text = surface(sentence, word);
    if !text.chars().any(is_chinese) {
        let upper = text.chars().filter(|c| c.is_uppercase()).count();
        return if EVERYDAY_CAPITALS.contains(&text) || word.class != Class::Rare {
            0.0
        } else if upper >= 2 {
            0.72
        } else {
            0.55
        };
    }
    let count = text.chars().count();
    let verb = !word.may_be(NOUN);
    if word.class != Class::Rare
        || count < 2
        || text.starts_with([
            '没', '不', '很', '就', '能', '会', '可', '被', '看', '听', '弹', '另', '一',
        ])
        || verb
            && text.ends_with([
                '来', '去', '掉', '完', '住', '起', '开', '成', '到', '死', '好', '满',
            ])
    {
        return 0.0;
    }
    let mut score: f32 = match word.frequency {
        // Guessed by the segmenter: often no word at all.
        0..=1 if slot => 0.42,
        0..=1 => 0.32,
        2..=30 => 0.46,
        31..=150 => 0.41,
        151..=400 => 0.34,
        _ => 0.28,
    };
    let noun = word.speech & NOUN != 0 || slot || is_tail(sentence, at + 1);
    if !noun {
        score -= 0.16;
    }
    let last = text.chars().next_back();
    if noun && last.is_some_and(|c| TAILS.contains(c)) {
        score += 0.18;
    }
    if count == 2
        && last == Some('子')
        && !text.starts_with([
            '电', '原', '分', '质', '中', '离', '光', '粒', '量', '算', '因',
        ])
    {
        score -= 0.2;
    }
    if word.frequency <= 5 && chinese::is_verb_with_object(text) {
        score -= 0.15;
    }
    if count == 4 && chinese::is_transparent(text) {
        score -= 0.15;
    }
    match count {
        0..=2 => {}
        3 => score += 0.05,
        _ => score += 0.14,
    }
    if count >= 2 && text.chars().filter(|c| SOUNDS.contains(*c)).count() * 2 > count {
        // A foreign name written by sound; as a rule somebody's law or effect.
        score += 0.08;
    }
    score
}

/// "…的感抗会…", "通过反向传播来": what stands between grammar words is used as a noun,
/// whatever the segmenter calls it.
fn stands_as_noun(sentence: &Sentence<'_>, run: &Range<usize>) -> bool {
    let words = &sentence.words;
    let first = &words[run.start];
    let led = match run.start.checked_sub(1).map(|left| &words[left]) {
        Some(left) => left.range.end < first.range.start || LEADS.contains(&left.base.as_str()),
        None => true,
    };
    let ended = words.get(run.end).is_none_or(|right| {
        let apart = right.range.start > words[run.end - 1].range.end;
        apart || right.class == Class::Function && right.base != "了" && right.base != "着"
    });
    led && ended
}

/// A piece that the segmenter guessed and that holds grammar or counting, as in "留给走神" or
/// "两辆车": a stretch of a sentence, no term.
fn is_loose(text: &str, frequency: usize) -> bool {
    const GRAMMAR: &str = "的了着给把被让得到成来去不没很就也都又还并要会能可这那哪什么怎";
    const COUNTING: &str = "一二两三四五六七八九十几半每整各这那";
    const MEASURES: &str = "个辆条根只块张本件次下点种层段片颗滴样些年月天";
    let counted = text.starts_with(|c| COUNTING.contains(c))
        && text.chars().nth(1).is_some_and(|c| MEASURES.contains(c));
    counted || frequency <= 5 && text.chars().any(|c| GRAMMAR.contains(c))
}

/// Last characters of Chinese learned words: substance, body, quality, rate, law, …
const TAILS: &str = "物素酶体质性率量值数律理论学法式核膜器波场能态极衡树表图阵元键链集域层码荷程制义准频矩熵差商碱酸盐胞肽剂幂栈币债液权税轴带晶粒磁压抗阻容感应效度觉欲原毒菌疫苗症瘤线角积商积根系统权约";
/// Characters that write foreign names by sound.
const SOUNDS: &str =
    "斯尔克伦诺瑞利特拉德巴贝叶夫洛维亚里奥科卡恩曼森顿莱弗格姆罗尼米奇布鲁托达安赫兹普朗欧";
