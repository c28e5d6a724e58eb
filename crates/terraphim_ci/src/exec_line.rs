//! What an execution tells, one JSON object a line: on the host API and of `tci vm exec --json`.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use terraphim_vm::ExecEvent;

/// The line of an event; none of one that says nothing to people. `offset` is where an attachment would go on behind it.
pub(crate) fn of(event: &ExecEvent, offset: u64) -> Option<Value> {
    let mut line = match event {
        ExecEvent::Stdout(bytes) => output("stdout", bytes),
        ExecEvent::Stderr(bytes) => output("stderr", bytes),
        ExecEvent::Exited(exited) => {
            json!({"exit_code": exited.status.shell_code(), "duration_ms": exited.duration_us / 1000})
        }
        ExecEvent::Failed(failed) => json!({"failed": failed.message}),
        ExecEvent::Lost(why) => json!({"lost": why}),
        ExecEvent::Started(_) | ExecEvent::File(_) | ExecEvent::FileData(_) => return None,
    };
    line["offset"] = json!(offset);
    Some(line)
}

/// Text where it is text; a chunk may end in the middle of a character.
fn output(name: &str, bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!({name: text}),
        Err(_) => json!({format!("{name}_base64"): BASE64_STANDARD.encode(bytes)}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_is_base64() {
        let line = |bytes: &'static [u8]| of(&ExecEvent::Stderr(bytes.into()), 7).unwrap().to_string();
        assert_eq!(line("é\n".as_bytes()), r#"{"stderr":"é\n","offset":7}"#);
        assert_eq!(line(b"\xc3"), r#"{"stderr_base64":"ww==","offset":7}"#);
    }
}
