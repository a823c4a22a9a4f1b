//! Whole numbers in JSON.
//!
//! `100` and `100.0` are the same number there (RFC 8259, section 6; JSON Schema validation
//! 2020-12, section 6.1.1), and clients in languages with one kind of number send either.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{
        Error, Unexpected, Visitor,
        value::{I64Deserializer, U64Deserializer},
    },
};

/// Reads a whole number that may be absent or null, for fields with `default`.
///
/// # Errors
///
/// What the number's own type says of one that is none of it, and of a fraction.
pub(crate) fn optional<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    deserializer.deserialize_option(Whole(PhantomData))
}

struct Whole<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Whole<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number")
    }

    fn visit_none<E>(self) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<T>, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Option<T>, E> {
        T::deserialize(U64Deserializer::new(number)).map(Some)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Option<T>, E> {
        T::deserialize(I64Deserializer::new(number)).map(Some)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Option<T>, E> {
        // Integers beyond the largest and the least come as numbers that are rounded to these bounds.
        let (least, largest) = (-9_223_372_036_854_775_808.0, 18_446_744_073_709_551_616.0);
        if number.fract() != 0.0 || number <= least || number >= largest {
            Err(E::invalid_type(Unexpected::Float(number), &self))
        } else if number < 0.0 {
            self.visit_i64(number as i64)
        } else {
            self.visit_u64(number as u64)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Shape {
        #[serde(default, deserialize_with = "optional")]
        count: Option<u32>,
        #[serde(default, deserialize_with = "optional")]
        seed: Option<i64>,
        #[serde(flatten)]
        _more: serde_json::Map<String, serde_json::Value>,
    }

    fn read(value: &serde_json::Value) -> Result<(Option<u32>, Option<i64>), String> {
        let shape = serde_json::from_str::<Shape>(&value.to_string());
        let shape = shape.map_err(|error| error.to_string())?;
        Ok((shape.count, shape.seed))
    }

    #[test]
    fn a_whole_number_is_one_however_it_is_written() {
        assert_eq!(read(&json!({})), Ok((None, None)));
        assert_eq!(
            read(&json!({"count": null, "seed": -0.0})),
            Ok((None, Some(0)))
        );
        assert_eq!(
            read(&json!({"count": 93.0, "seed": -5.0})),
            Ok((Some(93), Some(-5)))
        );
        assert_eq!(
            read(&json!({"count": 7, "seed": 1e18})),
            Ok((Some(7), Some(1_000_000_000_000_000_000)))
        );
    }

    #[test]
    fn what_is_none_is_refused() {
        for value in [
            json!({"count": 1.5}),
            json!({"count": -1.0}),
            json!({"count": 4_294_967_296.0}),
            json!({"seed": 9_223_372_036_854_775_808.0}),
            json!({"count": "7"}),
            json!({"count": true}),
        ] {
            assert!(read(&value).is_err(), "{value}");
        }
        let beyond = r#"{"seed": -9223372036854775809}"#;
        assert!(serde_json::from_str::<Shape>(beyond).is_err());
        assert_eq!(read(&json!({"seed": i64::MIN})), Ok((None, Some(i64::MIN))));
    }
}
