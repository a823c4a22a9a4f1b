//! The table: what can go wrong at a provider, and what has to come of it.

use std::time::Duration;

use crate::{
    support::{END, Step, chunk, plain},
    wire::Wire,
};

/// What comes of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// None: the answer is whole.
    Whole,
    /// The call is made again. When the fault goes on, so many attempts are made in all
    /// before the next model is asked.
    Again(usize),
    /// The next model is asked at once.
    Next,
    /// The caller sees what came and then this error; nobody else is asked.
    Broken(&'static str),
    /// The form has no such fault.
    Absent,
}

/// One fault.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    pub(crate) script: fn(Wire) -> Vec<Step>,
    pub(crate) events: Outcome,
    pub(crate) document: Outcome,
    /// Whether it is the client that has to end the connection.
    pub(crate) leaves: bool,
    /// Whether the provider did nothing, so that no token counts.
    pub(crate) refused: bool,
    /// Whether the main model is left alone after it went on.
    pub(crate) avoided: bool,
}

use Outcome::{Absent, Again, Broken, Next, Whole};

/// What came of the answer before it broke.
pub(crate) const HALF: &str = "一半";
/// The main model's answer.
pub(crate) const MAIN: &str = "光合作用";

const fn fault(
    name: &'static str,
    script: fn(Wire) -> Vec<Step>,
    (events, document): (Outcome, Outcome),
) -> Fault {
    Fault {
        name,
        script,
        events,
        document,
        leaves: false,
        refused: false,
        avoided: false,
    }
}

impl Fault {
    const fn leaves(self) -> Self {
        Self {
            leaves: true,
            ..self
        }
    }

    const fn refused(self) -> Self {
        Self {
            refused: true,
            ..self
        }
    }

    const fn avoided(self) -> Self {
        Self {
            avoided: true,
            ..self
        }
    }
}

/// The retry budget of a first call allows one attempt more. A refusal for rate or load goes
/// back into the queue five times; the breaker counts those for load.
pub(crate) const FAULTS: &[Fault] = &[
    fault(
        "429 with retry-after",
        |_| limited("retry-after: 1\r\n"),
        (Again(6), Again(6)),
    )
    .refused(),
    fault(
        "429 without retry-after",
        |_| limited(""),
        (Again(6), Again(6)),
    )
    .refused(),
    fault(
        "429 for an hour",
        |_| limited("retry-after: 3600\r\n"),
        (Next, Next),
    )
    .refused()
    .avoided(),
    fault("500", |_| says("500 Oops", ""), (Again(2), Again(2))),
    fault("503", |_| says("503 Unavailable", ""), (Again(2), Again(2))).refused(),
    fault("529", |_| says("529 Overloaded", ""), (Again(5), Again(5)))
        .refused()
        .avoided(),
    fault("401", |_| says("401 Unauthorized", ""), (Next, Next)).refused(),
    fault("400", |_| says("400 Bad Request", ""), (Next, Next)).refused(),
    fault(
        "hang before headers",
        |_| vec![Step::Hang],
        (Again(2), Again(2)),
    )
    .leaves(),
    fault(
        "hang after headers",
        |wire| vec![Step::Send(wire.head()), Step::Hang],
        (Again(2), Again(2)),
    )
    .leaves(),
    fault(
        "hang in the answer",
        |wire| after_half(wire, Step::Hang),
        (Broken("timeout"), Again(2)),
    )
    .leaves(),
    fault(
        "trickle before the answer",
        trickle_before,
        (Again(2), Again(2)),
    )
    .leaves(),
    fault(
        "trickle in the answer",
        trickle_within,
        (Broken("timeout"), Again(2)),
    )
    .leaves(),
    fault("trickle of a whole answer", trickle_whole, (Whole, Whole)),
    fault(
        "reset before headers",
        |_| vec![Step::Reset],
        (Again(2), Again(2)),
    ),
    fault(
        "reset after headers",
        |wire| vec![Step::Send(wire.head()), Step::Reset],
        (Again(2), Again(2)),
    ),
    fault(
        "close before headers",
        |_| vec![Step::Close],
        (Again(2), Again(2)),
    ),
    fault(
        "close in the answer",
        |wire| after_half(wire, Step::Close),
        (Broken("interrupted"), Again(2)),
    ),
    fault("split at every byte", split, (Whole, Whole)),
    fault(
        "malformed at once",
        |wire| malformed(wire, false),
        (Again(2), Again(2)),
    ),
    fault(
        "malformed in the answer",
        |wire| malformed(wire, true),
        (Broken("protocol"), Again(2)),
    ),
    fault("no closing marker", no_closing, (Whole, Absent)),
    fault(
        "no end of the answer",
        no_end,
        (Broken("truncated"), Again(2)),
    ),
    fault(
        "nothing at all",
        |wire| vec![Step::Send([wire.head(), END.to_vec()].concat())],
        (Again(2), Again(2)),
    ),
    fault("cut gzip", cut_gzip, (Again(2), Again(2))),
    fault("line of 100 MB", endless, (Again(2), Again(2))).leaves(),
    fault(
        "load error as an event",
        |wire| error(wire, false),
        (Again(5), Absent),
    )
    .refused()
    .avoided(),
    fault(
        "error event in the answer",
        |wire| error(wire, true),
        (Broken("unavailable"), Absent),
    ),
];

fn says(status: &str, headers: &str) -> Vec<Step> {
    vec![Step::Send(plain(status, headers, "not JSON"))]
}

fn limited(headers: &str) -> Vec<Step> {
    let body = r#"{"error":{"message":"slow down","type":"rate_limit_error"}}"#;
    vec![Step::Send(plain("429 Too Many", headers, body))]
}

fn after_half(wire: Wire, step: Step) -> Vec<Step> {
    vec![Step::Send(wire.begun(HALF)), step]
}

fn slowly(bytes: Vec<u8>) -> Step {
    Step::Trickle(bytes, Duration::from_millis(1))
}

fn trickle_before(wire: Wire) -> Vec<Step> {
    let nothing = chunk(wire.nothing()).repeat(10_000);
    vec![Step::Send(wire.head()), slowly(nothing)]
}

fn trickle_within(wire: Wire) -> Vec<Step> {
    after_half(wire, slowly(chunk("x").repeat(10_000)))
}

fn trickle_whole(wire: Wire) -> Vec<Step> {
    vec![slowly(
        [wire.head(), chunk(wire.body(MAIN)), END.to_vec()].concat(),
    )]
}

/// Bytes of characters and of line ends come apart from each other.
fn split(wire: Wire) -> Vec<Step> {
    let body = wire.body(MAIN);
    let bytes = body.bytes().flat_map(|byte| chunk([byte]));
    let bytes: Vec<u8> = wire.head().into_iter().chain(bytes).collect();
    vec![Step::Send([bytes, END.to_vec()].concat())]
}

fn malformed(wire: Wire, late: bool) -> Vec<Step> {
    let before = match late {
        true => wire.before() + &wire.words(HALF),
        false => String::new(),
    };
    let body = before + &wire.malformed();
    vec![Step::Send(
        [wire.head(), chunk(body), END.to_vec()].concat(),
    )]
}

fn no_closing(wire: Wire) -> Vec<Step> {
    let body = [wire.before(), wire.words(MAIN), wire.reason()].concat();
    vec![Step::Send(
        [wire.head(), chunk(body), END.to_vec()].concat(),
    )]
}

fn no_end(wire: Wire) -> Vec<Step> {
    after_half(wire, Step::Send(END.to_vec()))
}

fn cut_gzip(wire: Wire) -> Vec<Step> {
    // RFC 1952: the fixed header of ten bytes, then the beginning of a deflate block.
    const CUT: &[u8] = &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0x4b, 0x49, 0x2c];
    let head = wire.head_with("content-encoding: gzip\r\ncontent-length: 100\r\n");
    vec![Step::Send([&head, CUT].concat()), Step::Close]
}

fn endless(wire: Wire) -> Vec<Step> {
    let megabyte = match wire.form {
        crate::wire::Form::Events => b'x',
        crate::wire::Form::Document => b' ',
    };
    let mut script = vec![Step::Send(wire.head_with(""))];
    script.push(Step::Send(b"data: ".to_vec()));
    script.extend(std::iter::repeat_n(
        Step::Send(vec![megabyte; 1 << 20]),
        100,
    ));
    script
}

fn error(wire: Wire, late: bool) -> Vec<Step> {
    let body = match late {
        true => wire.before() + &wire.words(HALF) + &wire.error("api_error"),
        false => wire.error("overloaded_error"),
    };
    vec![Step::Send(
        [wire.head(), chunk(body), END.to_vec()].concat(),
    )]
}
