//! `toJSON` and `fromJSON`.

use super::error::ExprError;
use super::memory::Counter;
use super::value::{Object, Value};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::fmt::{self, Write};

/// How deep `toJSON` follows arrays and objects. `fromJSON` accepts 127, contexts hold less.
const MAX_JSON_DEPTH: usize = 200;

/// Reads JSON. Of equal keys the last wins, of those that differ by case only the first: JSON's readers and GitHub's
/// dictionaries, in that order.
///
/// # Errors
/// If the text is not JSON.
pub fn from_json(text: &str) -> Result<Value, ExprError> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    JsonValue
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| ExprError::evaluation(format!("Error parsing fromJson: {error}")))
}

/// Converts parsed JSON.
impl From<&serde_json::Value> for Value {
    fn from(json: &serde_json::Value) -> Self {
        match json {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(value) => Self::Bool(*value),
            serde_json::Value::Number(number) => Self::Num(number.as_f64().unwrap_or(f64::NAN)),
            serde_json::Value::String(text) => Self::str(text),
            serde_json::Value::Array(items) => Self::arr(items.iter().map(Self::from).collect()),
            serde_json::Value::Object(entries) => {
                let mut object = Object::new();
                for (key, value) in entries {
                    object.insert(key, Self::from(value));
                }
                Self::from(object)
            }
        }
    }
}

/// Converts to JSON. Numbers that JSON cannot hold become strings.
impl From<&Value> for serde_json::Value {
    fn from(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Num(number) => json_number(*number),
            Value::Str(text) => Self::String(text.to_string()),
            Value::Arr(items) => Self::Array(items.iter().map(Self::from).collect()),
            Value::Obj(object) => {
                Self::Object(object.iter().map(|(key, value)| (key.to_owned(), Self::from(value))).collect())
            }
        }
    }
}

fn json_number(number: f64) -> serde_json::Value {
    // 2^53: below it a whole double is an exact integer, which prints without `.0`.
    #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53, so it fits")]
    if number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0 {
        return serde_json::Value::from(number as i64);
    }
    serde_json::Number::from_f64(number)
        .map_or_else(|| super::number::format(number).into(), serde_json::Value::Number)
}

struct JsonValue;

impl<'de> DeserializeSeed<'de> for JsonValue {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for JsonValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    #[expect(clippy::cast_precision_loss, reason = "GitHub knows doubles only")]
    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Num(value as f64))
    }

    #[expect(clippy::cast_precision_loss, reason = "GitHub knows doubles only")]
    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Num(value as f64))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Num(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::str(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(JsonValue)? {
            items.push(item);
        }
        Ok(Value::arr(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Object::new();
        while let Some(key) = map.next_key::<String>()? {
            let value = map.next_value_seed(JsonValue)?;
            if object.spelling(&key).is_none_or(|written| written == key) {
                object.insert(&key, value);
            }
        }
        Ok(Value::from(object))
    }
}

/// Writes JSON with two spaces for each level.
pub(super) fn to_json(value: &Value, counter: &mut Counter<'_>) -> Result<String, ExprError> {
    let mut writer = Writer { out: String::new(), counter };
    writer.value(value, "", 0)?;
    Ok(writer.out)
}

struct Writer<'a, 'b> {
    out: String,
    counter: &'a mut Counter<'b>,
}

impl Writer<'_, '_> {
    /// Appends a piece; each is booked as GitHub books it, so that limits fall at the same place.
    fn piece(&mut self, text: &str) -> Result<(), ExprError> {
        self.counter.add_text(text)?;
        self.out.push_str(text);
        Ok(())
    }

    /// Writes `value` after `prefix` (a separator, a line break and the indent, or `: `).
    fn value(&mut self, value: &Value, prefix: &str, level: usize) -> Result<(), ExprError> {
        if level > MAX_JSON_DEPTH {
            return Err(ExprError::evaluation("toJSON: the value is nested too deeply"));
        }
        let text = match value {
            Value::Arr(items) if !items.is_empty() => return self.array(items, prefix, level),
            Value::Obj(object) if !object.is_empty() => return self.object(object, prefix, level),
            Value::Arr(_) => "[]".to_owned(),
            Value::Obj(_) => "{}".to_owned(),
            Value::Null => "null".to_owned(),
            Value::Str(text) => escape(text),
            Value::Bool(_) | Value::Num(_) => value.to_text().into_owned(),
        };
        self.piece(&format!("{prefix}{text}"))
    }

    fn array(&mut self, items: &[Value], prefix: &str, level: usize) -> Result<(), ExprError> {
        self.piece(&format!("{prefix}["))?;
        for (index, item) in items.iter().enumerate() {
            let prefix = new_line(index, level + 1);
            self.value(item, &prefix, level + 1)?;
        }
        self.piece(&format!("\n{}]", indent(level)))
    }

    fn object(&mut self, object: &Object, prefix: &str, level: usize) -> Result<(), ExprError> {
        self.piece(&format!("{prefix}{{"))?;
        for (index, (key, value)) in object.iter().enumerate() {
            self.piece(&format!("{}{}", new_line(index, level + 1), escape(key)))?;
            self.value(value, ": ", level + 1)?;
        }
        self.piece(&format!("\n{}}}", indent(level)))
    }
}

fn indent(level: usize) -> String {
    "  ".repeat(level)
}

fn new_line(index: usize, level: usize) -> String {
    let separator = if index == 0 { "" } else { "," };
    format!("{separator}\n{}", indent(level))
}

/// A JSON string. Line separators that JavaScript source cannot hold are escaped too.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            '\0'..='\u{1f}' | '\u{85}' | '\u{2028}' | '\u{2029}' => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            _ => out.push(c),
        }
    }
    out.push('"');
    out
}
