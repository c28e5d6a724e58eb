//! What a behaviour's `expected.json` says of a report.

use serde_json::Value;

/// What is expected must be there: of objects at least these keys, of lists all entries.
pub(crate) fn compare(path: &str, expected: &Value, got: &Value, problems: &mut Vec<String>) {
    match (expected, got) {
        (Value::Object(expected), Value::Object(object)) => {
            for (key, value) in expected {
                compare(&format!("{path}.{key}"), value, object.get(key).unwrap_or(&Value::Null), problems);
            }
        }
        (Value::Array(expected), Value::Array(list)) if expected.len() == list.len() => {
            for (index, value) in expected.iter().enumerate() {
                compare(&format!("{path}[{index}]"), value, &list[index], problems);
            }
        }
        _ if expected == got => {}
        _ => problems.push(format!("{path} is {got}, not {expected}")),
    }
}
