//! Expressions by example: what they give, and what is said about wrong ones.

use terraphim_actions::expr::{
    self, Allowed, ErrorKind, ExprError, Functions, Object, Scope, Value, from_json,
};

const CONTEXTS: &str = r#"{
    "github": {"ref": "refs/heads/main", "event": {"n": 3, "labels": [{"name": "bug"}, {"name": "UI"}, {}]}},
    "matrix": {"os": "Linux", "list": [1, "two", null]},
    "empty": {}
}"#;

fn eval(text: &str) -> Result<Value, ExprError> {
    expr::evaluate(text, &from_json(CONTEXTS).expect("JSON"))
}

/// The value as JSON.
fn json(text: &str) -> String {
    match eval(text) {
        Ok(value) => serde_json::Value::from(&value).to_string(),
        Err(error) => panic!("{text}: {error}"),
    }
}

#[test]
fn values() {
    for (text, expected) in [
        ("", "null"),
        ("1 == '1'", "true"),
        ("'a' == 'A'", "true"),
        ("null == 0", "true"),
        ("null != null", "false"),
        ("NaN == NaN", "false"),
        ("'abc' == 0", "false"),
        ("'' == false", "true"),
        ("'z' > 'A' && 'Z' > 'a'", "true"),
        ("1 < 2 == true", "true"),
        ("'' || 'x'", "\"x\""),
        ("0 && 'x'", "0"),
        ("matrix.os == 'linux' && 'yes' || 'no'", "\"yes\""),
        ("!'false'", "false"),
        ("github.EVENT.N", "3"),
        ("github['event']['N']", "3"),
        ("github.nosuch.thing", "null"),
        ("matrix.list[1]", "\"two\""),
        ("matrix.list['0x1']", "\"two\""),
        ("matrix.list[9]", "null"),
        ("github.event.labels.*.name", r#"["bug","UI"]"#),
        ("join(github.event.labels.*.name)", "\"bug,UI\""),
        ("join(matrix.list, '+')", "\"1+two+\""),
        ("contains(github.event.labels.*.name, 'ui')", "true"),
        ("contains(github.ref, 'HEADS')", "true"),
        ("startsWith(github.ref, 'refs/') && endsWith(github.ref, 'Main')", "true"),
        ("format('{1}{0}{{}}', 1, true)", "\"true1{}\""),
        ("format('{0}', empty)", "\"Object\""),
        ("toJSON(matrix.list)", r#""[\n  1,\n  \"two\",\n  null\n]""#),
        ("fromJSON('{\"a\": 1, \"A\": 2}').a", "1"),
        ("fromJSON('{\"a\": 1, \"b\": 2, \"a\": 3}').a", "3"),
        ("case(github.ref == 'x', 1, matrix.os == 'Linux', 2, 3)", "2"),
        ("github.event == github.event", "true"),
        ("fromJSON('[]') == fromJSON('[]')", "false"),
        ("'it''s'", "\"it's\""),
        ("1e3", "1000"),
        ("-0x", "null"),
    ] {
        if text == "-0x" {
            assert!(eval(text).is_err());
        } else {
            assert_eq!(json(text), expected, "{text}");
        }
    }
}

#[test]
fn errors_have_a_kind_a_text_and_a_position() {
    use ErrorKind::{Evaluation, Lexing, Parsing};
    for (text, kind, position, words) in [
        ("github.ref ==", Parsing, Some(12), "Unexpected end of expression: '=='"),
        ("é == $", Lexing, Some(1), "Unexpected symbol: 'é'"),
        ("'😀' == $", Lexing, Some(9), "Unexpected symbol: '$'"),
        ("nosuch.x", Parsing, Some(1), "Unrecognized named-value: 'nosuch'"),
        ("nosuch()", Parsing, Some(1), "Unrecognized function: 'nosuch'"),
        ("success()", Parsing, Some(1), "Unrecognized function: 'success'"),
        ("contains('a')", Parsing, Some(1), "Too few parameters supplied: 'contains'"),
        ("toJSON(1, 2)", Parsing, Some(1), "Too many parameters supplied: 'toJSON'"),
        ("case(true, 1, false, 2)", Parsing, Some(1), "Even number of parameters"),
        ("(1", Parsing, Some(2), "Unexpected end of expression: '1'"),
        ("1)", Parsing, Some(2), "Unexpected symbol: ')'"),
        ("github.event[", Parsing, Some(13), "Unexpected end of expression: '['"),
        ("format('{1}', 1)", Evaluation, None, "references more arguments"),
        ("format('{0:x}', 1)", Evaluation, None, "format specifiers 'x'"),
        ("case('x', 1, 2)", Evaluation, None, "must evaluate to a boolean"),
        ("fromJSON('{')", Evaluation, None, "Error parsing fromJson"),
    ] {
        let error = eval(text).expect_err(text);
        assert_eq!((error.kind, error.position), (kind, position), "{text}: {error}");
        assert!(error.message.contains(words), "{text}: {error}");
    }
}

#[test]
fn memory_is_limited() {
    let huge = "'x'".to_owned() + &" && 'x'".repeat(10);
    assert!(eval(&huge).is_ok());
    let big = format!("format('{}', toJSON(github))", "{0}".repeat(2000));
    let error = eval(&format!("startsWith({big}, {big})")).expect_err("too much");
    assert!(error.message.starts_with("The maximum allowed memory size was exceeded"), "{error}");
}

/// A run in which one job failed and files have a hash.
struct Run;

impl Functions for Run {
    fn success(&self, jobs: &[String]) -> Result<bool, ExprError> {
        Ok(!jobs.is_empty() && !jobs.contains(&"bad".to_owned()))
    }

    fn failure(&self, jobs: &[String]) -> Result<bool, ExprError> {
        self.success(jobs).map(|success| !success)
    }

    fn cancelled(&self) -> Result<bool, ExprError> {
        Ok(false)
    }

    fn hash_files(&self, patterns: &[String]) -> Result<String, ExprError> {
        match patterns {
            [one] if one == "later" => Err(ExprError::not_known_yet("hashFiles")),
            _ => Ok(patterns.join("+")),
        }
    }
}

#[test]
fn functions_ask_the_run() {
    let contexts = Object::new();
    let scope = Scope::new(&contexts, &Run);
    let evaluate = |text: &str| {
        let parsed = expr::parse(text, &Allowed::any()).expect("parses").expect("an expression");
        parsed.evaluate(&scope).map(|value| value.to_text().into_owned())
    };
    assert_eq!(evaluate("success('good') && !success('bad', 'good')").as_deref(), Ok("true"));
    assert_eq!(evaluate("failure() || cancelled()").as_deref(), Ok("true"));
    assert_eq!(evaluate("hashFiles('**/a', 'b')").as_deref(), Ok("**/a+b"));
    assert!(evaluate("hashFiles('later')").expect_err("not yet").pending);
    // What is not reached is not asked.
    assert_eq!(evaluate("always() || hashFiles('later')").as_deref(), Ok("true"));
}

#[test]
fn a_batch_answers_line_by_line() {
    let answer = |line: &str| expr::batch_line(line);
    assert_eq!(answer(r#"{"expr": "1 + 1"}"#).matches("lexing").count(), 1);
    assert_eq!(answer(r#"{"expr": "a", "contexts": {"a": [1]}}"#), r#"{"kind":"Array","value":[1]}"#);
    assert_eq!(answer(r#"{"expr": "-Infinity"}"#), r#"{"kind":"Number","value":"-Infinity"}"#);
    assert!(answer("not JSON").contains("error"));
}
