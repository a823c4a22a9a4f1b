//! Keeps `docs/transcripts/` true: runs every command with the real `curl` against the
//! real server and compares. `UPDATE_DOCS=1` writes the files anew.
//!
//! What differs from run to run (times, ids, figures of the machine) is masked by `…`.
//! A model's words are compared by shape only: they depend on the processor's arithmetic.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod support;

use std::{fmt::Write, fs, process::Command};

use serde_json::Value;
use support::{Server, model, root};

/// The address in the documents.
const SHOWN: &str = "http://127.0.0.1:8080";
/// Fields whose values are the machine's, not the program's.
const MASKED: [&str; 6] = [
    "timestamp",
    "serviceId",
    "metrics",
    "checks",
    "memory_id",
    "version",
];

struct Step {
    title: &'static str,
    path: &'static str,
    body: Option<&'static str>,
    flags: &'static [&'static str],
}

impl Step {
    const fn get(title: &'static str, path: &'static str) -> Self {
        Self {
            title,
            path,
            body: None,
            flags: &[],
        }
    }

    const fn post(title: &'static str, path: &'static str, body: &'static str) -> Self {
        Self {
            title,
            path,
            body: Some(body),
            flags: &[],
        }
    }

    /// The command as it is shown.
    fn command(&self) -> String {
        let flags: String = self.flags.iter().map(|flag| format!(" {flag}")).collect();
        match self.body {
            None => format!("curl -s{flags} {SHOWN}{}", self.path),
            Some(body) => format!(
                "curl -s{flags} {SHOWN}{} \\\n  -H 'content-type: application/json' \\\n  -d '{body}'",
                self.path
            ),
        }
    }

    fn run(&self, server: &Server) -> String {
        let mut command = Command::new("curl");
        command
            .arg("-sS")
            .args(self.flags)
            .arg(format!("{}{}", server.url, self.path));
        if let Some(body) = self.body {
            command.args(["-H", "content-type: application/json", "-d", body]);
        }
        let output = command
            .output()
            .expect("curl is missing: run `cargo xtask setup`, or apt-get install curl");
        assert!(
            output.status.success(),
            "{}: {}",
            self.command(),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).expect("answers are UTF-8")
    }
}

const LESSON_EN: &str = r#"{"topic": "Photosynthesis", "explanation": "Plants use sunlight to make food. The chlorophyll somehow turns light into energy, so the plant always grows.", "session_id": "alice-1"}"#;
const LESSON_ZH: &str = r#"{"topic": "复利", "explanation": "把钱存进银行会有利息，利息又会产生利息，因此钱会指数增长。", "session_id": "xiaoming-1"}"#;
const HISTORY: &str = r#"{"topic": "Bread", "conversation_history": [{"role": "user", "content": "Yeast eats sugar and makes carbon dioxide, which raises the dough."}, {"role": "assistant", "content": "Why does salt slow it?"}]}"#;

const OFFLINE: &[Step] = &[
    Step::post("Teach, and get questions", "/chat", LESSON_EN),
    Step::post(
        "Answer a question: the conversation goes on under its session id",
        "/chat",
        r#"{"topic": "Photosynthesis", "explanation": "Chlorophyll is a green pigment. It absorbs light because its electrons take up the energy of the photons. Plants never grow in the dark.", "session_id": "alice-1"}"#,
    ),
    Step::post(
        "Teach and read the questions as they come",
        "/chat/stream",
        LESSON_ZH,
    ),
    Step::post(
        "Store a conversation in semantic memory",
        "/memorize",
        HISTORY,
    ),
    Step::get("Is it alive, is it ready, how is it", "/livez"),
    Step::get("Ready to take requests", "/readyz"),
    Step::get("Health with figures; 503 when unhealthy", "/health"),
    Step::post(
        "A mistake is explained",
        "/chat",
        r#"{"topic": "Photosynthesis", "explanation": 42}"#,
    ),
    Step::post("A broken body too", "/chat", r#"{"topic": "#),
    Step::post(
        "And an id that is none",
        "/chat",
        r#"{"topic": "x", "explanation": "y", "session_id": "../etc/passwd"}"#,
    ),
];

const LOCAL: &[Step] = &[
    Step::post(
        "Teach, and get a real model's questions",
        "/chat",
        LESSON_EN,
    ),
    Step::post(
        "Teach and read the words as they come",
        "/chat/stream",
        r#"{"topic": "Rain", "explanation": "Rain falls from clouds.", "session_id": "rain-1"}"#,
    ),
    Step::post(
        "Store a conversation in semantic memory",
        "/memorize",
        HISTORY,
    ),
    Step::get("Health", "/health"),
];

/// The transcript of all steps.
fn render(title: &str, start: &str, steps: &[Step], server: &Server) -> String {
    let mut text = format!(
        "# {title}\n\nWritten by a test that runs these commands (`bins/lyceum/tests/transcripts.rs`); `…` stands for what\ndiffers from run to run.\n\n```console\n$ {start}\n```\n"
    );
    for step in steps {
        let output = masked(&step.run(server));
        // Writing to a string never fails.
        let _ = write!(
            text,
            "\n## {}\n\n```console\n$ {}\n{}\n```\n",
            step.title,
            step.command(),
            output.trim_end()
        );
    }
    text
}

fn masked(output: &str) -> String {
    match serde_json::from_str::<Value>(output) {
        Ok(mut value) => {
            mask(&mut value);
            serde_json::to_string_pretty(&value).unwrap()
        }
        Err(_) => output.to_owned(),
    }
}

fn mask(value: &mut Value) {
    let Value::Object(fields) = value else { return };
    for (name, field) in fields {
        if MASKED.contains(&name.as_str()) {
            *field = Value::from("…");
        }
    }
}

/// The transcript without a model's words: names and kinds of values, pieces of text as one.
fn shape(transcript: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in transcript
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        let shape = if line.starts_with("id: ") {
            continue;
        } else if line.starts_with("data: \"") && !line.contains("END_OF_STREAM") {
            "data: text".to_owned()
        } else if let Some(value) = line
            .strip_prefix("data: ")
            .and_then(|data| serde_json::from_str::<Value>(data).ok())
        {
            format!("data: {}", kinds(&value))
        } else if line.starts_with('"') || line.starts_with(|c: char| "[]{}0123456789".contains(c))
        {
            // A line of a pretty-printed answer: its key only, lists may differ in length.
            match line.split_once("\": ") {
                Some((key, _)) => key.to_owned(),
                None => continue,
            }
        } else {
            line.to_owned()
        };
        if !lines.contains(&shape) || shape.starts_with(['#', '$']) {
            lines.push(shape);
        }
    }
    lines
}

fn kinds(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let fields: Vec<String> = fields.iter().map(|(name, _)| name.clone()).collect();
            format!("{{{}}}", fields.join(","))
        }
        Value::Array(_) => "[]".to_owned(),
        other => other.to_string(),
    }
}

fn check(name: &str, transcript: &str, comparable: impl Fn(&str) -> Vec<String>) {
    let path = root().join("docs/transcripts").join(name);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, transcript).unwrap();
        return;
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    let (kept, now) = (comparable(&kept), comparable(transcript));
    let differs = kept.iter().zip(&now).find(|(kept, now)| kept != now);
    assert!(
        kept == now,
        "{} is out of date: run the test with UPDATE_DOCS=1 and look at the change; first difference: {differs:?}, lines {} and {}",
        path.display(),
        kept.len(),
        now.len(),
    );
}

#[test]
fn the_offline_transcript_is_true() {
    let server = Server::offline();
    let start = "cargo run --release -p lyceum -- serve --provider offline";
    let transcript = render("Using the API, offline", start, OFFLINE, &server);
    check("offline.md", &transcript, |text| {
        text.lines().map(str::to_owned).collect()
    });
}

#[test]
fn the_local_model_transcript_is_true_in_shape() {
    let server = Server::start(
        &["--model", model().to_str().unwrap()],
        &[("CANDLE_NUM_THREADS", "1")],
    );
    let start = "cargo run --release -p lyceum -- serve --model SmolLM2-135M-Instruct.Q4_1.gguf";
    let transcript = render("Using the API with a local model", start, LOCAL, &server);
    check("local.md", &transcript, shape);
}
