//! The student's words, English and Chinese: forms of questions, reasons and reactions.
//!
//! Slots: `{q}` the learner's words, `{f}` the word it turns on, `{e}` the earlier claim,
//! `{t}` the topic. Invariant: a form adds nothing about any subject, so a question cannot
//! give an answer away; every form but the reactions holds `{q}`.

use lyceum_core::GapKind;

use super::{text::Language, utterance::Utterance};

/// The forms of a question about a kind of gap.
pub(super) fn forms(language: Language, kind: GapKind) -> &'static [&'static str] {
    match language {
        Language::English => english(kind),
        Language::Chinese => chinese(kind),
    }
}

fn english(kind: GapKind) -> &'static [&'static str] {
    match kind {
        GapKind::UndefinedTerm => &[
            "What does “{q}” mean? I have not come across it before.",
            "You use “{q}” as if I knew it. How would you explain it to someone who has never heard of it?",
            "I got stuck at “{q}”. What is that, in plain words?",
            "When you say “{q}”, what exactly should I picture?",
            "Could you tell me what “{q}” is before we go on? Without it I lose the thread.",
        ],
        GapKind::MissingMechanism => &[
            "You say “{q}”. How does that come about?",
            "“{q}” – what happens in between, step by step?",
            "I can repeat “{q}”, but I could not say how it works. What makes it happen?",
            "What is going on underneath when “{q}”? I only see the start and the end.",
            "Why would that be so: “{q}”? What drives it?",
        ],
        GapKind::MissingStep => &[
            "I cannot follow the jump in “{q}”. Which step comes in between?",
            "How do you get there: “{q}”? I think a step is missing for me.",
            "Before “{q}”, what has to happen first?",
            "Could you slow down at “{q}” and walk me through it one step at a time?",
        ],
        GapKind::UnsupportedClaim => &[
            "What makes you sure that “{q}”?",
            "If a friend doubted “{q}”, what evidence would you show them?",
            "Where does this come from: “{q}”? How could I check it myself?",
            "“{q}” – what would I have to observe to believe that?",
        ],
        GapKind::OverGeneralisation => &[
            "You say “{f}” in “{q}”. Can you think of a case where it does not hold?",
            "Is “{q}” true without exception? What would a counterexample look like?",
            "How far does “{q}” go – does “{f}” really mean every single case?",
            "What would have to be different for “{q}” to stop being true?",
        ],
        GapKind::BoundaryCase => &[
            "Where does this stop being true: “{q}”?",
            "What happens to “{q}” in an extreme case – very small, very large, or nothing at all?",
            "Under which conditions would “{q}” no longer work?",
            "Is there a point beyond which “{q}” breaks down? What happens there?",
        ],
        GapKind::BrokenAnalogy => &[
            "I like the picture in “{q}”. Where does the comparison stop working?",
            "In “{q}”, what matches what exactly – and what does not match?",
            "If I take “{q}” literally, which mistake would I make?",
        ],
        GapKind::MissingExample => &[
            "Can you give me one concrete example of “{q}”?",
            "“{q}” is still abstract to me. What would it look like in real life?",
            "Could you walk me through one particular case where “{q}”?",
            "What is the simplest situation in which I could see this: “{q}”?",
        ],
        GapKind::CircularDefinition => &[
            "“{q}” explains “{f}” with itself. How would you say it without using that word?",
            "If I did not know the word “{f}” at all, “{q}” would not help me. What is it, in other words?",
            "In “{q}” I come back to “{f}” again. What is it made of, or what does it do?",
        ],
        GapKind::Contradiction => &[
            "You said “{e}”, and also “{q}”. How can both be true?",
            "I am confused: first “{e}”, then “{q}”. Which one holds, and when?",
            "“{e}” and “{q}” do not seem to fit together. What am I missing?",
        ],
        GapKind::VagueWord => &[
            "In “{q}”, what precisely do you mean by “{f}”?",
            "“{q}” – could you replace “{f}” with something more exact?",
            "What stands behind “{f}” in “{q}”? I cannot picture it yet.",
            "Could you be more precise about “{f}” where you say “{q}”?",
        ],
        _ => &["Could you say more about “{q}”?"],
    }
}

fn chinese(kind: GapKind) -> &'static [&'static str] {
    match kind {
        GapKind::UndefinedTerm => &[
            "“{q}”是什么意思？我以前没听过这个词。",
            "你直接用了“{q}”，可我还不懂它。换成大白话该怎么说？",
            "我在“{q}”这里卡住了，它到底指什么？",
            "你说“{q}”的时候，我脑子里应该想到什么样的东西？",
            "能先告诉我“{q}”是什么吗？不然后面我跟不上。",
        ],
        GapKind::MissingMechanism => &[
            "你说“{q}”，这是怎么发生的？",
            "“{q}”——中间一步一步经历了什么？",
            "“{q}”这句话我记住了，可我说不出其中的道理。是什么让它发生的？",
            "为什么会这样：“{q}”？背后是什么在起作用？",
            "我只看到了开头和结果：“{q}”。中间到底发生了什么？",
        ],
        GapKind::MissingStep => &[
            "“{q}”这里我没跟上，中间是不是还有一步？",
            "你是怎么走到“{q}”这一步的？能拆开讲讲吗？",
            "在“{q}”之前，得先发生什么？",
            "“{q}”这里能慢一点吗？请一步一步带我走一遍。",
        ],
        GapKind::UnsupportedClaim => &[
            "你怎么确定“{q}”？",
            "要是有同学不信“{q}”，你会拿什么证据说服他？",
            "“{q}”这个说法是从哪里来的？我自己可以怎样验证？",
            "我要观察到什么，才能相信“{q}”？",
        ],
        GapKind::OverGeneralisation => &[
            "“{q}”里说的“{f}”，真的一个例外都没有吗？",
            "你能想到一个让“{q}”不成立的情况吗？",
            "“{q}”——这里的“{f}”是不是说得太满了？反例会是什么样？",
            "要改变什么条件，“{q}”就不再对了？",
        ],
        GapKind::BoundaryCase => &[
            "“{q}”在什么情况下就不成立了？",
            "如果走到极端，比如特别大、特别小或者干脆没有，“{q}”还对吗？",
            "“{q}”有没有前提条件？条件不满足时会怎样？",
            "“{q}”的适用范围到哪里为止？超出去会发生什么？",
        ],
        GapKind::BrokenAnalogy => &[
            "“{q}”这个比方挺形象，可它在哪里就不像了？",
            "在“{q}”里，两边各自对应的是什么？有没有对不上的地方？",
            "如果我完全照着“{q}”去理解，会在哪里想错？",
        ],
        GapKind::MissingExample => &[
            "关于“{q}”，能举一个具体的例子吗？",
            "“{q}”对我来说还有点抽象，在生活里会是什么样子？",
            "能不能挑一个具体的场景，带我看看“{q}”是怎么回事？",
            "要亲眼看到“{q}”，最简单的情形是什么？",
        ],
        GapKind::CircularDefinition => &[
            "“{q}”好像是用“{f}”来解释“{f}”。不用这个词，你会怎么说？",
            "如果我完全不知道“{f}”，听了“{q}”还是不明白。换个说法，它到底是什么？",
            "听完“{q}”，我又绕回了“{f}”。它由什么组成，或者说起什么作用？",
        ],
        GapKind::Contradiction => &[
            "你说过“{e}”，又说“{q}”，这两句怎么能同时成立？",
            "我有点糊涂：前面是“{e}”，后面是“{q}”，到底哪个对？分别在什么时候对？",
            "“{e}”和“{q}”好像对不上，我漏掉了什么？",
        ],
        GapKind::VagueWord => &[
            "“{q}”里的“{f}”具体指的是什么？",
            "你说“{q}”，能把“{f}”换成更确切的说法吗？",
            "“{f}”在“{q}”里代表什么？我还想象不出来。",
            "说到“{q}”的时候，“{f}”能再说得准确一点吗？",
        ],
        _ => &["关于“{q}”，能再多讲一点吗？"],
    }
}

/// Questions that go deeper where nothing is missing.
pub(super) fn deepening(language: Language) -> &'static [&'static str] {
    match language {
        Language::English => &[
            "Why is it that “{q}”? What lies behind it?",
            "What would change if this were not so: “{q}”?",
            "How would I use this if I had to solve a problem with it tomorrow: “{q}”?",
            "What is often confused with this: “{q}”? How do I tell them apart?",
            "How could I test for myself whether “{q}”?",
            "If I remember only one thing from “{q}”, which should it be, and why?",
            "What do beginners most often get wrong about “{q}”?",
            "What does this build on, and what follows from it: “{q}”?",
        ],
        Language::Chinese => &[
            "为什么说“{q}”？更深一层的原因是什么？",
            "如果“{q}”不是这样，结果会有什么变化？",
            "明天要是真遇到一个问题，我该怎么用上“{q}”？",
            "“{q}”最容易和什么搞混？怎么区分？",
            "我自己动手的话，怎样检验“{q}”？",
            "关于“{q}”，只能记住一点的话，该记哪一点？为什么？",
            "初学者对“{q}”最容易产生什么误解？",
            "“{q}”建立在什么基础上？从它又能推出什么？",
        ],
    }
}

/// What a short text is asked: there is not enough to find gaps in.
pub(super) fn more(language: Language) -> &'static [&'static str] {
    match language {
        Language::English => &[
            "“{q}” is a start. What happens, step by step?",
            "Can you tell me more about “{q}”? What would I see if I watched it?",
            "Why “{q}”? And what would be a concrete example?",
        ],
        Language::Chinese => &[
            "“{q}”是个开头。具体是怎么一步步发生的？",
            "“{q}”能再展开讲讲吗？如果我在旁边看，会看到什么？",
            "为什么“{q}”？能举个具体的例子吗？",
        ],
    }
}

/// What is said to a text that is no explanation.
pub(super) fn reactions(language: Language, utterance: Utterance) -> &'static [&'static str] {
    match (language, utterance) {
        (Language::English, Utterance::Greeting) => &[
            "Hello! I would like to learn about {t}. What is the first thing I should understand?",
            "Nice to meet you! If you had one minute to explain {t} to me, what would you say?",
        ],
        (Language::Chinese, Utterance::Greeting) => &[
            "你好！我想学{t}，最先应该弄懂的是什么？",
            "很高兴见到你！如果只有一分钟给我讲{t}，你会怎么讲？",
        ],
        (Language::English, Utterance::Meta) => &[
            "You say “{q}”. I am your student and know only what you teach me: what do you already know about {t}, even if it is little?",
            "I learn from your explanations. Which part of {t} feels easiest to start with?",
        ],
        (Language::Chinese, Utterance::Meta) => &[
            "你说“{q}”。我是你的学生，只知道你教我的东西：关于{t}，你现在了解多少？只有一点点也可以。",
            "我靠你的讲解来学习。{t}里你觉得哪一部分最好开头？",
        ],
        (Language::English, Utterance::Question) => &[
            "You ask “{q}” – I was hoping to learn that from you! What would be your best attempt at an answer?",
            "Good question: “{q}”. Which part of it can you already answer, and where do you get stuck?",
        ],
        (Language::Chinese, Utterance::Question) => &[
            "你问“{q}”，我还想跟你学这个呢！你会怎么试着回答？",
            "“{q}”问得好。哪一部分你已经能回答，又卡在哪里？",
        ],
        (Language::English, Utterance::Code) => &[
            "I can see the code “{q}”, but I cannot read it yet. What does it do, in words?",
            "Around “{q}”: what goes in, what comes out, and why is it written this way?",
            "What would go wrong if I left “{q}” out?",
        ],
        (Language::Chinese, Utterance::Code) => &[
            "我看到了代码“{q}”，可我还看不懂。用文字说，它在做什么？",
            "“{q}”这一段，输入是什么，输出是什么，为什么要这样写？",
            "如果去掉“{q}”，会出什么问题？",
        ],
        (Language::English, Utterance::Gibberish) => {
            &["I could not make sense of “{q}”. Could you explain {t} in full sentences?"]
        }
        (Language::Chinese, Utterance::Gibberish) => &["“{q}”我没看懂。能用完整的句子讲讲{t}吗？"],
        (Language::English, Utterance::Foreign) => &[
            "I only understand English and Chinese, so “{q}” is beyond me. Could you explain {t} in one of them?",
        ],
        (Language::Chinese, Utterance::Foreign) => {
            &["我只懂中文和英文，“{q}”我看不懂。能用其中一种语言讲讲{t}吗？"]
        }
        (Language::English, _) => {
            &["I see no words yet. What would you like to teach me about {t}?"]
        }
        (Language::Chinese, _) => &["我还没看到文字。关于{t}，你想先教我什么？"],
    }
}

/// What is missing, for a gap's `reason`.
pub(super) fn reason(language: Language, kind: GapKind) -> &'static str {
    match (language, kind) {
        (Language::English, GapKind::UndefinedTerm) => "“{f}” is used without saying what it means",
        (Language::Chinese, GapKind::UndefinedTerm) => "用到了“{f}”，但没有说明它的意思",
        (Language::English, GapKind::MissingMechanism) => {
            "it says that this happens, not how or why"
        }
        (Language::Chinese, GapKind::MissingMechanism) => "只说了会这样，没有说为什么、怎么发生",
        (Language::English, GapKind::MissingStep) => {
            "a step between what was said before and this is left out"
        }
        (Language::Chinese, GapKind::MissingStep) => "从前面到这里，中间缺了一步",
        (Language::English, GapKind::UnsupportedClaim) => {
            "the claim stands without a reason or evidence"
        }
        (Language::Chinese, GapKind::UnsupportedClaim) => "这个说法没有给出理由或证据",
        (Language::English, GapKind::OverGeneralisation) => "“{f}” allows no exception",
        (Language::Chinese, GapKind::OverGeneralisation) => "“{f}”说得太绝对，没有留例外",
        (Language::English, GapKind::BoundaryCase) => "it is not said where this stops being true",
        (Language::Chinese, GapKind::BoundaryCase) => "没有说明在什么情况下不再成立",
        (Language::English, GapKind::BrokenAnalogy) => {
            "the comparison does not say where it stops fitting"
        }
        (Language::Chinese, GapKind::BrokenAnalogy) => "打了比方，但没有说哪里不像",
        (Language::English, GapKind::MissingExample) => "there is no concrete example",
        (Language::Chinese, GapKind::MissingExample) => "没有具体的例子",
        (Language::English, GapKind::CircularDefinition) => "“{f}” is explained by itself",
        (Language::Chinese, GapKind::CircularDefinition) => "用“{f}”来解释“{f}”，绕了一圈",
        (Language::English, GapKind::Contradiction) => "it does not fit with “{f}”",
        (Language::Chinese, GapKind::Contradiction) => "和“{f}”对不上",
        (Language::English, GapKind::VagueWord) => "“{f}” leaves open what is meant",
        (Language::Chinese, GapKind::VagueWord) => "“{f}”没有说清具体指什么",
        (Language::English, _) => "something is missing here",
        (Language::Chinese, _) => "这里缺了点什么",
    }
}

/// Stands for a topic that was not named.
pub(super) fn unnamed_topic(language: Language) -> &'static str {
    match language {
        Language::English => "this topic",
        Language::Chinese => "这个主题",
    }
}
