//! What a service says went wrong, in the forms in which services say it.

use serde_json::Value;

/// The words of the error that a body's JSON is or holds; `None` when it is none.
///
/// `{"error": "..."}` and `{"error": {"message": "..."}}`; older vLLM answers `{"object": "error", "message": "..."}`;
/// OpenRouter (docs, "Errors and Debugging") has the words of the provider behind it in `metadata`.
pub(crate) fn of_error(body: &Value) -> Option<String> {
    let is_error_itself = body.get("object").and_then(Value::as_str) == Some("error");
    let error = match body.get("error").filter(|error| !error.is_null()) {
        Some(error) => error,
        None if is_error_itself => body,
        None => return None,
    };
    let words = plain(error).unwrap_or_else(|| error.to_string());
    let metadata = error.get("metadata");
    let Some(raw) = metadata.and_then(|metadata| metadata.get("raw")).filter(|raw| !raw.is_null()) else {
        return Some(words);
    };
    let provider = metadata.and_then(|metadata| metadata.get("provider_name")).and_then(Value::as_str);
    Some(format!("{words} ({}: {})", provider.unwrap_or("the provider"), of_provider(raw)))
}

fn plain(error: &Value) -> Option<String> {
    error.as_str().or_else(|| error.get("message")?.as_str()).map(str::to_owned)
}

/// A provider's error is JSON, or JSON in a text, or a text.
fn of_provider(raw: &Value) -> String {
    let parsed = raw.as_str().and_then(|text| serde_json::from_str(text).ok());
    let raw = parsed.as_ref().unwrap_or(raw);
    plain(raw.get("error").unwrap_or(raw)).unwrap_or_else(|| raw.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_form_of_an_error_has_its_words() {
        for (body, words) in [
            (json!({"error": "model 'x' not found"}), Some("model 'x' not found")),
            (json!({"error": {"message": "no", "type": "api_error", "code": null}}), Some("no")),
            (json!({"object": "error", "message": "too long", "code": 400}), Some("too long")),
            (
                json!({"error": {"message": "Provider returned error", "metadata": {"provider_name": "Acme",
                    "raw": "{\"error\": {\"message\": \"response_format is not supported\"}}"}}}),
                Some("Provider returned error (Acme: response_format is not supported)"),
            ),
            (
                json!({"error": {"message": "Provider returned error", "metadata": {"raw": "slow down"}}}),
                Some("Provider returned error (the provider: slow down)"),
            ),
            (
                json!({"error": {"message": "m", "metadata": {"raw": {"message": "inner"}, "provider_name": "P"}}}),
                Some("m (P: inner)"),
            ),
            (json!({"error": {"code": 1}}), Some("{\"code\":1}")),
            (json!({"error": null, "choices": []}), None),
            (json!({"choices": []}), None),
            (json!([1]), None),
        ] {
            assert_eq!(of_error(&body).as_deref(), words, "{body}");
        }
    }
}
