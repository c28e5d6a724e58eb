//! What holds for any input.

use proptest::prelude::*;
use terraphim_actions::expr::{self, Allowed, Object, Scope, Value};
use terraphim_actions::workflow::Workflow;
use terraphim_actions::{action, command, env_file, matrix, trigger};

/// Pieces of expressions, so that some sequences make sense.
fn expression() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "(",
        ")",
        "[",
        "]",
        ",",
        ".",
        "*",
        "!",
        "<",
        "<=",
        ">",
        ">=",
        "==",
        "!=",
        "&&",
        "||",
        "null",
        "true",
        "NaN",
        "Infinity",
        "0x1f",
        "1.5",
        "-1",
        "'a'",
        "'b''c'",
        "github",
        "matrix",
        "a",
        "b",
        "format",
        "toJSON",
        "fromJSON",
        "join",
        "contains",
        "startsWith",
        "case",
        "'{0}'",
        "'[1,{\"a\":2}]'",
        " ",
        "😀",
    ]);
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.join(""))
}

/// An expression that parses.
fn valid_expression() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "null",
        "true",
        "1",
        "'x'",
        "github",
        "matrix.a",
        "github['b']",
        "matrix.*.c",
    ]);
    leaf.prop_map(str::to_owned).prop_recursive(6, 40, 3, |inner| {
        prop_oneof![
            (inner.clone(), prop::sample::select(vec!["==", "<", "&&", "||", "!="]), inner.clone())
                .prop_map(|(left, sign, right)| format!("({left} {sign} {right})")),
            inner.clone().prop_map(|operand| format!("!{operand}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("format('{{0}}{{1}}', {a}, {b})")),
            (inner.clone(), inner.clone(), inner).prop_map(|(a, b, c)| format!("case({a} == {b}, {b}, {c})")),
        ]
    })
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<f64>().prop_map(Value::Num),
        "[a-cA-C0-9 .\u{df}\u{131}]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::arr),
            prop::collection::vec(("[a-cA-C]{0,2}", inner), 0..4)
                .prop_map(|entries| Value::from(entries.into_iter().collect::<Object>())),
        ]
    })
}

/// Lines that look like a workflow.
fn workflow_text() -> impl Strategy<Value = String> {
    let line = prop::sample::select(vec![
        "on: push",
        "on: [push, x]",
        "jobs:",
        "  a:",
        "  b:",
        "    runs-on: x",
        "    needs: [a, b]",
        "    needs: b",
        "    if: ${{ github.x }}",
        "    if: always(",
        "    steps:",
        "      - run: x",
        "      - uses: a/b@c",
        "      - &x",
        "      - *x",
        "        id: a",
        "        if: a",
        "    strategy:",
        "      matrix:",
        "        os: [1, 2, {a: b}]",
        "        include: [{os: 1, x: 2}, {}]",
        "        exclude: [{y: 1}]",
        "    strategy: ${{ fromJSON(x) }}",
        "    uses: ./x",
        "    env: {a: 1, A: 2}",
        "    env:",
        "      ${{ insert }}: x",
        "permissions: read-all",
        "? a",
        "- b",
        "\t",
        "'",
        "\"",
        "|",
        ">",
        "---",
        "...",
        "!!int x",
        "    ${{",
        "    <<: *x",
    ]);
    prop::collection::vec(line, 0..24).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #[test]
    fn expressions_never_panic(text in prop_oneof![expression(), any::<String>()], github in value(), matrix in value()) {
        let contexts = [("github", github), ("matrix", matrix)].into_iter().collect::<Object>();
        let _ = expr::evaluate(&text, &Value::from(contexts));
    }

    #[test]
    fn printing_and_parsing_is_a_round_trip(text in valid_expression()) {
        let allowed = Allowed::any();
        let Ok(Some(parsed)) = expr::parse(&text, &allowed) else {
            // Too deep is the only way in which it can be refused.
            return Ok(());
        };
        let printed = parsed.to_string();
        let again = expr::parse(&printed, &allowed).expect("printed expressions parse").expect("and are not empty");
        prop_assert_eq!(again.to_string(), printed);
    }

    #[test]
    fn a_printed_expression_means_the_same(text in valid_expression(), github in value(), matrix in value()) {
        let contexts = [("github", github), ("matrix", matrix)].into_iter().collect::<Object>();
        let Ok(Some(parsed)) = expr::parse(&text, &Allowed::any()) else { return Ok(()) };
        let again = expr::parse(&parsed.to_string(), &Allowed::any()).expect("parses").expect("an expression");
        let json = |expr: &expr::Expr| {
            expr.evaluate(&Scope::of(&contexts)).map(|value| serde_json::Value::from(&value).to_string())
        };
        prop_assert_eq!(json(&parsed), json(&again));
    }

    #[test]
    fn comparison_is_consistent(left in value(), right in value()) {
        let contexts = [("l", left), ("r", right)].into_iter().collect::<Object>();
        let contexts = Value::from(contexts);
        let holds = |text: &str| matches!(expr::evaluate(text, &contexts), Ok(Value::Bool(true)));
        prop_assert_eq!(holds("l == r"), holds("r == l"));
        prop_assert_eq!(holds("l == r"), !holds("l != r"));
        prop_assert_eq!(holds("l < r"), holds("r > l"));
        prop_assert!(!(holds("l < r") && holds("l > r")));
    }

    #[test]
    fn json_goes_there_and_back(value in value()) {
        let contexts = Value::from([("v", value)].into_iter().collect::<Object>());
        if let Ok(Value::Str(text)) = expr::evaluate("toJSON(v)", &contexts)
            && !text.contains("NaN") && !text.contains("Infinity")
        {
            let again = expr::evaluate("toJSON(fromJSON(toJSON(v)))", &contexts).expect("JSON");
            let again = again.to_text().into_owned();
            prop_assert_eq!(again.as_str(), &*text);
        }
    }

    #[test]
    fn workflows_never_panic(text in prop_oneof![workflow_text(), any::<String>()]) {
        if let Err(errors) = Workflow::parse(&text, "w.yml") {
            prop_assert!((1..=10).contains(&errors.len()));
        }
        let _ = action::Action::parse(&text, "action.yml");
    }

    #[test]
    fn what_steps_say_never_panics(text in any::<String>()) {
        let _ = command::parse(&text, Some("stop"));
        let _ = env_file::parse_pairs(&text).count();
        let _ = trigger::Pattern::new(&text).map(|pattern| pattern.fits(&text));
        let _ = trigger::cron::Cron::parse(&text);
    }

    #[test]
    fn a_matrix_has_as_many_jobs_as_the_rule_says(
        sizes in prop::collection::vec(1_usize..4, 1..4),
        excluded in 0_usize..5,
        added in 0_usize..3,
    ) {
        let vectors: Vec<String> = sizes.iter().enumerate()
            .map(|(at, size)| format!("v{at}: [{}]", (0..*size).map(|n| n.to_string()).collect::<Vec<_>>().join(", ")))
            .collect();
        let excludes = format!("exclude: [{{v0: {excluded}}}]");
        let includes = (0..added).map(|n| format!("{{v0: new{n}}}")).collect::<Vec<_>>().join(", ");
        let text = format!(
            "on: push\njobs: {{a: {{runs-on: x, steps: [{{run: x}}], strategy: {{matrix: {{{}, {excludes}, include: [{includes}]}}}}}}}}",
            vectors.join(", ")
        );
        let workflow = Workflow::parse(&text, "w.yml").expect("a workflow");
        let contexts = Object::new();
        let strategy = matrix::expand(workflow.jobs["a"].strategy.as_ref(), &Scope::of(&contexts), "a").expect("a matrix");
        let first = if excluded < sizes[0] { sizes[0] - 1 } else { sizes[0] };
        let product = first * sizes[1..].iter().product::<usize>();
        prop_assert_eq!(strategy.configurations.len(), (product + added).max(1));
        let mut ids: Vec<&str> = strategy.configurations.iter().map(|one| one.id.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        prop_assert_eq!(ids.len(), strategy.configurations.len());
    }
}

#[test]
fn nesting_costs_no_stack() {
    for (open, close) in [("(", ")"), ("!", ""), ("a[", "]"), ("format(", ")"), ("-", "")] {
        let text = format!("{}1{}", open.repeat(20_000), close.repeat(20_000));
        let text: String = text.chars().take(20_900).collect();
        let _ = expr::parse(&text, &Allowed::any());
    }
    for (open, close) in [("[", "]"), ("{a: ", "}"), ("- ", ""), ("a:\n ", "")] {
        let _ = Workflow::parse(&format!("{}{}", open.repeat(20_000), close.repeat(20_000)), "w.yml");
        let json = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(expr::from_json(&json).is_err());
    }
    // An alias inside its own anchor, and aliases that multiply.
    assert!(Workflow::parse("on: push\njobs: &a {a: *a}", "w.yml").is_err());
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let below = format!("*a{}, ", level - 1).repeat(9);
        bomb.push_str(&format!("a{level}: &a{level} [{below}]\n"));
    }
    assert!(Workflow::parse(&bomb, "w.yml").is_err());
}
