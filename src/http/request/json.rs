//! Strict JSON parser: rejects text that two parsers could interpret differently.
//!
//! In addition to RFC 8259: no duplicate member names (RFC 7493 §2.3), at most 32 levels of nesting, no text after the
//! value. A number with a zero fraction (`60.0`, `6e1`) is the equal integer, as in JSON Schema. The parser also finds
//! control characters, so that the value does not have to be searched for them.

use std::{cell::Cell, fmt};

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::base::input::{schema::ParsedInput, text};

const MAX_DEPTH: u8 = 32;
/// Largest integer up to which every integer is exact as a double (RFC 7493 §2.2).
const MAX_EXACT: f64 = 9_007_199_254_740_991.0;

/// Parses one JSON text. The error has the location and the reason, and can be shown to clients.
pub fn parse(bytes: &[u8]) -> Result<ParsedInput, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| format!("not UTF-8 after byte {}", error.valid_up_to()))?;
    let has_bad_text = Cell::new(false);
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let strict = Strict { depth: 0, has_bad_text: &has_bad_text };
    let value = strict.deserialize(&mut deserializer).map_err(|error| error.to_string())?;
    deserializer.end().map_err(|error| error.to_string())?;
    Ok(ParsedInput { value, has_bad_text: has_bad_text.get() })
}

#[derive(Clone, Copy)]
struct Strict<'a> {
    depth: u8,
    /// Set if any text violates [`text::check`].
    has_bad_text: &'a Cell<bool>,
}

impl Strict<'_> {
    fn nested<E: de::Error>(self) -> Result<Self, E> {
        if self.depth == MAX_DEPTH {
            return Err(E::custom(format_args!("nested deeper than {MAX_DEPTH} levels")));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }

    fn check(self, text: &str) {
        if text::check(text).is_err() {
            self.has_bad_text.set(true);
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        if value.fract() == 0.0 && value.abs() <= MAX_EXACT {
            return Ok((value as i64).into());
        }
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        self.visit_string(value.to_owned())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        self.check(&value);
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(self.nested()?)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            self.check(&name);
            let value = map.next_value_seed(self.nested()?)?;
            if members.contains_key(&name) {
                return Err(de::Error::custom(format_args!("duplicate member {name:?}")));
            }
            members.insert(name, value);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_json_is_parsed_like_serde_json() {
        let text = r#"{"a":[1,-2,0.5,true,null,"x\u00e9"],"b":{"c":{}}}"#;
        assert_eq!(parse(text.as_bytes()).unwrap().value, serde_json::from_str::<Value>(text).unwrap());
        assert_eq!(parse(b"60.0").unwrap().value, Value::from(60));
        assert_eq!(parse(b"-6e1").unwrap().value, Value::from(-60));
    }

    #[test]
    fn control_characters_are_found_in_names_and_values_at_every_depth() {
        for text in [r#""\u0000""#, r#"{"a\n":1}"#, r#"[{"a":["\u009f"]}]"#, r#"{"a":{"\u007f":null}}"#] {
            assert!(parse(text.as_bytes()).unwrap().has_bad_text, "{text}");
        }
        assert!(!parse(r#"{"a":["é ~"]}"#.as_bytes()).unwrap().has_bad_text);
    }

    #[test]
    fn ambiguous_json_is_rejected() {
        let deep = "[".repeat(10_000) + &"]".repeat(10_000);
        for (text, why) in [
            (&br#"{"a":1,"a":2}"#[..], "duplicate member"),
            (br#"{"a":1,"\u0061":2}"#, "duplicate member"),
            (br#"{} {}"#, "trailing"),
            (br#""\ud800""#, "hex escape"),
            (b"\"\xc0\xaf\"", "UTF-8"),
            (b"", "EOF"),
            (b"1e999", "number out of range"),
            (b"NaN", "expected"),
            (deep.as_bytes(), "deeper than 32"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        let allowed = "[".repeat(32) + &"]".repeat(32);
        assert!(parse(allowed.as_bytes()).is_ok());
    }
}
