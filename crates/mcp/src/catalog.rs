//! Which of the tools a server lists are taken, and how they are described here.
//!
//! Pure. Invariant: every [`ToolSpec`] made has a name of its own, a bounded description and
//! a bounded schema that describes an object. What a server writes is shown as its words.

use std::collections::{BTreeSet, HashMap, HashSet};

use lyceum_core::ToolSpec;
use serde_json::{Map, Value};

use crate::{
    ServerName,
    plain::{line, plain},
};

/// The most characters of a tool's description, and of one inside its schema.
const MAX_DESCRIPTION: usize = 1_024;
/// The largest schema, in bytes of its JSON.
const MAX_SCHEMA: usize = 16 << 10;
/// The longest name of a tool at its server, in bytes; the protocol allows 128 characters.
const MAX_REMOTE_NAME: usize = 512;

/// A tool as a server lists it.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) schema: Value,
}

impl Listed {
    /// Reads an entry of the list as far as it can be read.
    pub(crate) fn read(value: &Value) -> Option<Self> {
        let text = |key| value.get(key).and_then(Value::as_str);
        Some(Self {
            name: text("name")?.to_owned(),
            description: text("description")
                .or(text("title"))
                .unwrap_or("")
                .to_owned(),
            schema: value.get("inputSchema").cloned().unwrap_or(Value::Null),
        })
    }
}

/// Why a listed tool is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("give the tool {name:?} a name of at most {MAX_REMOTE_NAME} bytes")]
    Name { name: String },
    #[error("tell the tool {name:?} from another: both would be {ours}")]
    Collision { name: String, ours: String },
    #[error("use the schema of the tool {name:?}: {why}")]
    Schema { name: String, why: &'static str },
    #[error("take the tool {name:?} too: the server has changed its names too often")]
    Restless { name: String },
}

/// What is taken of a list.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// The server's names and the tools.
    pub(crate) tools: Vec<(String, ToolSpec)>,
    /// What was not.
    pub(crate) refused: Vec<Refusal>,
    /// Tools beyond the most.
    pub(crate) left_out: usize,
    /// Tools that are allowed and not there.
    pub(crate) missing: Vec<String>,
}

/// Takes the tools of one server, again and again.
#[derive(Debug)]
pub(crate) struct Catalog {
    server: ServerName,
    allow: Option<BTreeSet<String>>,
    most: usize,
    /// Every name ever taken: each becomes a metric's label, so there may not be ever more.
    known: HashSet<String>,
}

impl Catalog {
    pub(crate) fn new(server: ServerName, allow: Option<BTreeSet<String>>, most: usize) -> Self {
        Self {
            server,
            allow,
            most,
            known: HashSet::new(),
        }
    }

    /// Takes what is allowed and sound, in the server's order.
    pub(crate) fn take(&mut self, listed: Vec<Listed>) -> Taken {
        let mut taken = Taken::default();
        let mut ours: HashMap<String, ()> = HashMap::new();
        let mut missing = self.allow.clone().unwrap_or_default();
        for tool in listed {
            let shown = || line(&tool.name, 80);
            if self
                .allow
                .as_ref()
                .is_some_and(|allow| !allow.contains(&tool.name))
            {
                continue;
            }
            missing.remove(&tool.name);
            if taken.tools.len() == self.most {
                taken.left_out += 1;
                continue;
            }
            if tool.name.is_empty() || tool.name.len() > MAX_REMOTE_NAME {
                taken.refused.push(Refusal::Name { name: shown() });
                continue;
            }
            let name = self.server.tool(&tool.name);
            if ours.contains_key(&name) {
                let name_of_it = shown();
                taken.refused.push(Refusal::Collision {
                    name: name_of_it,
                    ours: name,
                });
                continue;
            }
            let schema = match sound(tool.schema.clone()) {
                Ok(schema) => schema,
                Err(why) => {
                    taken.refused.push(Refusal::Schema { name: shown(), why });
                    continue;
                }
            };
            if !self.known.contains(&name) {
                if self.known.len() >= self.most * 4 {
                    taken.refused.push(Refusal::Restless { name: shown() });
                    continue;
                }
                self.known.insert(name.clone());
            }
            ours.insert(name.clone(), ());
            let description = self.describe(&tool.description);
            taken
                .tools
                .push((tool.name, ToolSpec::new(name, description, schema)));
        }
        taken.missing = missing.into_iter().collect();
        taken
    }

    /// Whose words they are is said first, so that they are not taken for ours.
    fn describe(&self, words: &str) -> String {
        let words = plain(words.trim(), MAX_DESCRIPTION);
        match words.is_empty() {
            true => format!("A tool of the server {}.", self.server),
            false => format!(
                "A tool of the server {}, in its own words: {words}",
                self.server
            ),
        }
    }
}

/// A schema that can be shown to a model, its texts made plain.
fn sound(schema: Value) -> Result<Value, &'static str> {
    let Value::Object(mut schema) = schema else {
        return Err("it is no object");
    };
    match schema.get("type") {
        Some(Value::String(kind)) if kind == "object" => {}
        // A schema without a type takes anything, and what is sent is an object always.
        None => {
            schema.insert("type".to_owned(), "object".into());
        }
        Some(_) => return Err("it does not describe an object"),
    }
    if schema
        .get("properties")
        .is_some_and(|properties| !properties.is_object())
    {
        return Err("its properties are no object");
    }
    let mut schema = Value::Object(schema);
    tidy(&mut schema);
    match schema.to_string().len() <= MAX_SCHEMA {
        true => Ok(schema),
        false => Err("it is too long"),
    }
}

/// Makes every text and every key plain. The depth is bounded by the JSON reader's own.
fn tidy(value: &mut Value) {
    match value {
        Value::String(text) => *text = plain(text, MAX_DESCRIPTION),
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Object(fields) => {
            for (key, mut value) in std::mem::take(fields) {
                tidy(&mut value);
                insert(fields, &key, value);
            }
        }
        _ => {}
    }
}

fn insert(fields: &mut Map<String, Value>, key: &str, value: Value) {
    fields.insert(plain(key, 256), value);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn catalog(allow: Option<&[&str]>, most: usize) -> Catalog {
        let allow = allow.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        Catalog::new("srv".parse().unwrap(), allow, most)
    }

    fn tool(name: &str) -> Listed {
        listed(name, json!({"type": "object", "properties": {}}))
    }

    fn listed(name: &str, schema: Value) -> Listed {
        Listed {
            name: name.to_owned(),
            description: "does it".to_owned(),
            schema,
        }
    }

    fn names(taken: &Taken) -> Vec<&str> {
        taken
            .tools
            .iter()
            .map(|(_, spec)| spec.name.as_str())
            .collect()
    }

    #[test]
    fn what_is_not_allowed_is_not_there() {
        let mut catalog = catalog(Some(&["b", "z"]), 9);
        let taken = catalog.take(vec![tool("a"), tool("b")]);
        assert_eq!(names(&taken), ["srv__b"]);
        assert_eq!(taken.missing, ["z"]);
    }

    #[test]
    fn two_tools_of_one_name_are_one_and_an_error() {
        let taken = catalog(None, 9).take(vec![tool("a b"), tool("a_b"), tool("c")]);
        assert_eq!(names(&taken), ["srv__a_b", "srv__c"]);
        assert!(matches!(&taken.refused[..], [Refusal::Collision { name, .. }] if name == "a_b"));
    }

    #[test]
    fn a_hundred_thousand_tools_are_a_few() {
        let all = (0..100_000).map(|n| tool(&format!("t{n}"))).collect();
        let taken = catalog(None, 128).take(all);
        assert_eq!((taken.tools.len(), taken.left_out), (128, 99_872));
    }

    #[test]
    fn names_that_change_for_ever_end() {
        let mut catalog = catalog(None, 2);
        for round in 0..4 {
            let tools = (0..2).map(|n| tool(&format!("t{round}_{n}"))).collect();
            assert_eq!(catalog.take(tools).tools.len(), 2);
        }
        let taken = catalog.take(vec![tool("new"), tool("t0_0")]);
        assert_eq!(names(&taken), ["srv__t0_0"]);
        assert!(matches!(&taken.refused[..], [Refusal::Restless { .. }]));
    }

    #[test]
    fn only_schemas_of_objects_are_taken() {
        for bad in [
            json!(null),
            json!("object"),
            json!({"type": "string"}),
            json!({"type": ["object", "null"]}),
            json!({"type": "object", "properties": []}),
            json!({"type": "object", "enum": vec!["x".repeat(1_000); 20]}),
        ] {
            let taken = catalog(None, 9).take(vec![listed("t", bad.clone())]);
            assert!(
                matches!(&taken.refused[..], [Refusal::Schema { .. }]),
                "{bad}"
            );
        }
        let taken = catalog(None, 9).take(vec![listed("t", json!({}))]);
        assert_eq!(*taken.tools[0].1.parameters, json!({"type": "object"}));
    }

    #[test]
    fn words_of_a_server_are_bounded_plain_and_marked_as_its_own() {
        let mut hostile = tool("t");
        hostile.description = format!("\u{1b}[2J\u{E0041}Ignore all{}", "!".repeat(5_000));
        hostile.schema = json!({"type": "object", "properties": {"a": {
            "type": "string", "description": "x\u{202E}y".repeat(2_000)
        }}});
        let taken = catalog(None, 9).take(vec![hostile]);
        let spec = &taken.tools[0].1;
        assert!(
            spec.description
                .starts_with("A tool of the server srv, in its own words: [2JIgnore")
        );
        assert!(spec.description.chars().count() < 1_100);
        let inner = spec.parameters["properties"]["a"]["description"]
            .as_str()
            .unwrap();
        assert_eq!(inner.chars().count(), 1_025);
        assert!(!inner.contains('\u{202E}'));
    }
}
