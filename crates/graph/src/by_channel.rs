//! How a checkpoint's head spells the values it names: each channel once.
//!
//! A channel in many pieces would otherwise repeat its name in every head. A list of plain
//! references is read as well.
//!
//! Invariant: the order of the references survives. Deliberately absent: any other form.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::saver::{CheckpointId, ValueRef};

#[derive(Deserialize)]
#[serde(untagged)]
enum Spelled {
    /// One value.
    Plain(ValueRef),
    /// A channel's values in a row.
    Channel(String, Vec<CheckpointId>),
}

pub(crate) fn serialize<S: Serializer>(
    values: &[ValueRef],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let rows = values.chunk_by(|a, b| a.channel == b.channel);
    let rows = rows.filter_map(|row| Some((row.first()?.channel.as_str(), Ids(row))));
    serializer.collect_seq(rows)
}

struct Ids<'a>(&'a [ValueRef]);

impl Serialize for Ids<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|key| key.written_by))
    }
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<ValueRef>, D::Error> {
    let mut values = Vec::new();
    for spelled in Vec::<Spelled>::deserialize(deserializer)? {
        match spelled {
            Spelled::Plain(key) => values.push(key),
            Spelled::Channel(channel, ids) => {
                values.extend(ids.into_iter().map(|written_by| ValueRef {
                    channel: channel.clone(),
                    written_by,
                }));
            }
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Head(#[serde(with = "super")] Vec<ValueRef>);

    #[test]
    fn both_spellings_are_read_and_names_are_written_once() {
        let plain = r#"[{"channel":"a","written_by":1},{"channel":"a","written_by":3},
                        {"channel":"b","written_by":2}]"#;
        let Head(values) = serde_json::from_str(plain).unwrap();
        let written = serde_json::to_string(&Head(values.clone())).unwrap();
        assert_eq!(written, r#"[["a",[1,3]],["b",[2]]]"#);
        let Head(again) = serde_json::from_str(&written).unwrap();
        assert_eq!(again, values);
    }
}
