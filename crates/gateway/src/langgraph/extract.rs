//! Parts of a thread that a search names by their paths, e.g. `values.messages[-1].content`.
//!
//! Invariant: a path that leads to nothing gives null. Deliberately absent: wildcards.

use serde_json::{Map, Value};

use super::refusal::{Answer, Refusal};

/// The member under which a thread shows what was asked for.
pub(crate) const EXTRACTED: &str = "extracted";
/// The most paths of one search, and the longest, in bytes.
const PATHS: usize = 10;
const PATH_BYTES: usize = 256;

/// One step of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step<'a> {
    Key(&'a str),
    /// From the end where it is negative.
    At(i64),
}

/// Adds to each thread what the body's `extract` names.
///
/// # Errors
///
/// A refusal when it is not an object of at most [`PATHS`] paths.
pub(crate) fn extract(asked: Option<&Value>, threads: &mut [Value]) -> Answer<()> {
    let Some(asked) = asked else {
        return Ok(());
    };
    let wrong = || {
        Refusal::invalid(format!(
            "extract must be an object of at most {PATHS} paths"
        ))
    };
    let asked = asked.as_object().filter(|asked| asked.len() <= PATHS);
    let mut paths = Vec::new();
    for (name, path) in asked.ok_or_else(wrong)? {
        let text = path.as_str().ok_or_else(wrong)?;
        let path = steps(text).ok_or_else(|| Refusal::invalid(format!(
                "extract: {text:?} is no path such as values.messages[-1].content, of at most {PATH_BYTES} bytes"
            )))?;
        paths.push((name, path));
    }
    for thread in threads {
        let found = paths.iter().map(|(name, path)| {
            let found = follow(thread, path).cloned();
            ((*name).clone(), found.unwrap_or_default())
        });
        let found: Map<String, Value> = found.collect();
        thread[EXTRACTED] = Value::Object(found);
    }
    Ok(())
}

fn steps(text: &str) -> Option<Vec<Step<'_>>> {
    let mut steps = Vec::new();
    for part in text.split('.') {
        let (key, mut rest) = part.split_at(part.find('[').unwrap_or(part.len()));
        if key.is_empty() {
            return None;
        }
        steps.push(Step::Key(key));
        while !rest.is_empty() {
            let (number, after) = rest.strip_prefix('[')?.split_once(']')?;
            steps.push(Step::At(number.parse().ok()?));
            rest = after;
        }
    }
    (text.len() <= PATH_BYTES).then_some(steps)
}

fn follow<'a>(value: &'a Value, path: &[Step<'_>]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, step| match step {
        Step::Key(key) => value.get(key),
        Step::At(at) => {
            let all = value.as_array()?;
            let at = if *at < 0 {
                all.len()
                    .checked_sub(usize::try_from(at.unsigned_abs()).ok()?)?
            } else {
                usize::try_from(*at).ok()?
            };
            all.get(at)
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_lead_to_parts_or_to_null() {
        let mut threads =
            [json!({ "values": { "messages": [{ "content": "a" }, { "content": "b" }] } })];
        let asked = json!({
            "last": "values.messages[-1].content", "first": "values.messages[0]",
            "none": "values.messages[9]", "before": "values.messages[-3]", "deep": "values.a.b.c",
        });
        extract(Some(&asked), &mut threads).unwrap();
        let expected = json!({
            "last": "b", "first": { "content": "a" }, "none": null, "before": null, "deep": null,
        });
        assert_eq!(threads[0]["extracted"], expected);
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for path in ["", "a..b", "a[", "a[x]", "a[0", "[0]", "a]", "a[0]b"] {
            let asked = json!({ "x": path });
            let refused = extract(Some(&asked), &mut []);
            assert_eq!(refused.is_err(), path != "a]", "{path:?}");
        }
        let many: Map<_, _> = (0..11).map(|n| (n.to_string(), json!("a"))).collect();
        assert!(extract(Some(&Value::Object(many)), &mut []).is_err());
        assert!(extract(Some(&json!([])), &mut []).is_err());
    }
}
