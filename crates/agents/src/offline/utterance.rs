//! What a text is: an explanation, or something else that wants a different reaction.

use super::text::{Class, Document, Language, has_any, is_chinese};

/// Kinds of text a learner may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Utterance {
    Explanation,
    /// Nothing, or marks and emoji only.
    Wordless,
    Greeting,
    /// Talk about the student or the conversation.
    Meta,
    /// The learner asks instead of explaining.
    Question,
    Code,
    /// Letters without words.
    Gibberish,
    /// Neither English nor Chinese.
    Foreign,
}

/// Judges a text.
pub(super) fn of(document: &Document<'_>) -> Utterance {
    let text = document.text;
    if !text.chars().any(char::is_alphanumeric) {
        return Utterance::Wordless;
    }
    if is_foreign_script(text) {
        return Utterance::Foreign;
    }
    if is_code(text) {
        return Utterance::Code;
    }
    let count = document.word_count();
    let lower = super::text::head(text, 200).trim().to_ascii_lowercase();
    let bare = lower.trim_matches(|c: char| !c.is_alphanumeric());
    if count <= 8 && is_greeting(bare) {
        return Utterance::Greeting;
    }
    if count <= 16 && has_any(&lower, META) {
        return Utterance::Meta;
    }
    if !document.sentences.is_empty()
        && count <= 60
        && document
            .sentences
            .iter()
            .all(|sentence| sentence.is_question || asks(&sentence.lower))
    {
        return Utterance::Question;
    }
    if document.language == Language::English {
        return latin(document);
    }
    Utterance::Explanation
}

fn is_greeting(bare: &str) -> bool {
    const WHOLE: &[&str] = &[
        "hi",
        "hello",
        "hey",
        "yo",
        "good morning",
        "good evening",
        "good afternoon",
        "thanks",
        "thank you",
        "bye",
        "goodbye",
        "ok",
        "okay",
        "yes",
        "no",
        "test",
        "testing",
        "hi there",
        "hello there",
        "how are you",
        "what's up",
        "sup",
        "greetings",
        "你好",
        "您好",
        "嗨",
        "哈喽",
        "早上好",
        "下午好",
        "晚上好",
        "大家好",
        "在吗",
        "谢谢",
        "再见",
        "好的",
        "好",
        "嗯",
        "测试",
        "喂",
        "早",
        "拜拜",
        "你好啊",
        "你好呀",
        "哈哈",
    ];
    WHOLE.contains(&bare)
        || [
            "hi ",
            "hello ",
            "hey ",
            "你好，",
            "你好！",
            "你好,",
            "您好，",
        ]
        .iter()
        .any(|start| bare.starts_with(start))
            && bare.chars().count() <= 24
}

const META: &[&str] = &[
    "who are you",
    "what are you",
    "are you a robot",
    "are you an ai",
    "are you real",
    "can you help me",
    "what can you do",
    "how do you work",
    "i don't know",
    "i dont know",
    "no idea",
    "never mind",
    "nevermind",
    "forget it",
    "let's start",
    "lets start",
    "i want to teach you",
    "i will teach you",
    "let me explain",
    "start over",
    "are you there",
    "skip this",
    "next question",
    "i think so",
    "not sure",
    "i have no idea",
    "你是谁",
    "你是什么",
    "你是机器人",
    "你会什么",
    "你能做什么",
    "怎么用",
    "我不知道",
    "不知道",
    "不清楚",
    "不确定",
    "应该是吧",
    "我不会",
    "算了",
    "开始吧",
    "我来教你",
    "我要教你",
    "我想教你",
    "重新开始",
    "下一个问题",
    "跳过",
    "你在吗",
    "帮帮我",
];

fn asks(lower: &str) -> bool {
    const OPENINGS: &[&str] = &[
        "what is ",
        "what are ",
        "what's ",
        "why is ",
        "why are ",
        "why do ",
        "how do ",
        "how does ",
        "how is ",
        "can you explain",
        "could you explain",
        "please explain",
        "explain ",
        "tell me",
        "teach me",
        "什么是",
        "为什么",
        "请解释",
        "请问",
        "解释一下",
        "告诉我",
        "给我讲",
        "帮我解释",
        "你能解释",
    ];
    OPENINGS.iter().any(|opening| lower.starts_with(opening))
        || lower.ends_with("是什么")
        || lower.ends_with('吗')
        || lower.ends_with('呢')
}

fn is_foreign_script(text: &str) -> bool {
    let (mut known, mut foreign) = (0_usize, 0_usize);
    for c in text.chars().filter(|c| c.is_alphabetic()) {
        let kana = matches!(c, '\u{3040}'..='\u{30ff}');
        if kana {
            foreign += 2;
        } else if c.is_ascii_alphabetic()
            || is_chinese(c)
            || matches!(c, '\u{00c0}'..='\u{024f}' | '\u{0370}'..='\u{03ff}')
        {
            known += 1;
        } else {
            foreign += 1;
        }
    }
    foreign > known
}

fn is_code(text: &str) -> bool {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .take(200)
        .collect();
    if lines.is_empty() {
        return false;
    }
    const STARTS: &[&str] = &[
        "def ",
        "fn ",
        "let ",
        "const ",
        "var ",
        "import ",
        "from ",
        "#include",
        "public ",
        "private ",
        "class ",
        "return ",
        "return;",
        "if (",
        "for (",
        "while (",
        "func ",
        "function ",
        "select ",
        "SELECT ",
        "print(",
        "console.",
        "//",
        "/*",
        "use ",
        "<?php",
        "package ",
        "elif ",
        "else:",
        "try:",
        "struct ",
        "impl ",
        "#!/",
    ];
    let coded = lines
        .iter()
        .filter(|line| {
            let ends =
                line.ends_with(['{', '}', ';']) || (line.ends_with(':') && line.contains('('));
            let calls = line.contains("()")
                || line.contains("=>")
                || line.contains(" = ")
                || line.contains("==")
                || line.contains("->");
            let starts = STARTS.iter().any(|start| line.starts_with(start))
                && line.contains(['(', '=', '{', ';', ':', '<', '"']);
            let prose = line.split_whitespace().count() >= 12 && line.ends_with('.');
            let chinese = line.chars().filter(|c| is_chinese(*c)).count() > 8;
            !prose && !chinese && (ends || calls || starts)
        })
        .count();
    coded * 10 >= lines.len() * 6
}

/// English, gibberish or another language in Latin letters, by the share of known words.
fn latin(document: &Document<'_>) -> Utterance {
    let (mut grammar, mut known, mut all) = (0_usize, 0_usize, 0_usize);
    for word in document.sentences.iter().flat_map(|s| &s.words).take(2_000) {
        all += 1;
        grammar += usize::from(word.class == Class::Function);
        known += usize::from(word.class != Class::Rare);
    }
    let odd = document
        .sentences
        .iter()
        .flat_map(|s| &s.words)
        .take(200)
        .filter(|word| word.class == Class::Rare && is_unpronounceable(&word.base))
        .count();
    if all > 0 && odd * 2 > all.min(200) {
        return Utterance::Gibberish;
    }
    if all >= 6 && known * 4 < all {
        let accents = document
            .text
            .chars()
            .any(|c| matches!(c, '\u{00c0}'..='\u{024f}'));
        return if accents || (grammar > 0 && all >= 8) {
            Utterance::Foreign
        } else {
            Utterance::Gibberish
        };
    }
    Utterance::Explanation
}

/// No vowel in it, or five consonants in a row.
fn is_unpronounceable(word: &str) -> bool {
    let mut run = 0;
    let mut longest = 0;
    let mut vowels = 0;
    for c in word.chars() {
        if "aeiouyáéíóúäöüàèâêôåæø".contains(c) {
            vowels += 1;
            run = 0;
        } else {
            run += 1;
            longest = longest.max(run);
        }
    }
    word.chars().count() >= 4
        && (vowels == 0 || longest >= 5 || word.chars().any(|c| c.is_ascii_digit()))
}
