//! Any text as an expression; what follows its first line break are the contexts, as JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;
use terraphim_actions::expr::{Allowed, Value, answer, evaluate, from_json, parse};

const CONTEXTS: &str = r#"{
    "github": {"ref": "refs/heads/main", "event": {"commits": [{"id": "a"}, {"id": "b"}], "n": -0.5}},
    "env": {"A": "1", "EMPTY": ""}, "matrix": {"os": ["x", null, true, 1e21]}
}"#;

fuzz_target!(|text: &str| {
    let (expression, contexts) = text.split_once('\n').unwrap_or((text, CONTEXTS));
    let Ok(contexts @ Value::Obj(_)) = from_json(contexts) else { return };
    let _ = answer(evaluate(expression, &contexts));
    if let Ok(Some(parsed)) = parse(expression, &Allowed::any()) {
        let again = parse(parsed.source(), &Allowed::any());
        assert!(matches!(again, Ok(Some(_))), "{expression:?} is read once only: {again:?}");
    }
});
