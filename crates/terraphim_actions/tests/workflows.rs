//! Workflow files by example: what is read, and what is said about wrong ones.

use terraphim_actions::expr::{Object, Scope, from_json};
use terraphim_actions::matrix;
use terraphim_actions::workflow::{CallSecrets, Level, Loader, Options, StepKind, Workflow};

/// The errors as `line:column text`.
fn errors(text: &str) -> Vec<String> {
    let errors = Workflow::parse(text, "w.yml").expect_err(text);
    errors.iter().map(|error| format!("{}:{} {}", error.line, error.col, error.message)).collect()
}

fn workflow(text: &str) -> Workflow {
    match Workflow::parse(text, "w.yml") {
        Ok(workflow) => workflow,
        Err(errors) => panic!("{errors:?}"),
    }
}

#[test]
fn what_was_written_can_be_shown_before_it_is_evaluated() {
    for (name, want) in [
        ("plain", "plain"),
        ("'{0} ${{matrix.os}} }} {{'", "{0} ${{ matrix.os }} }} {{"),
        ("a ${{ github.ref }}${{ github.sha }} b", "a ${{ github.ref }}${{ github.sha }} b"),
        ("${{ format('a {0}', github.ref) }}", "${{ format('a {0}', github.ref) }}"),
        ("${{ 'text' }}", "text"),
    ] {
        let steps = format!("    steps:\n      - name: {name}\n        run: x\n");
        let workflow = workflow(&format!("on: push\njobs:\n  a:\n    runs-on: x\n{steps}"));
        let written = workflow.jobs["a"].steps[0].name.as_ref().unwrap().written().into_owned();
        assert_eq!(written, want);
    }
}

#[test]
fn errors_are_at_their_places() {
    let job = "on: push\njobs:\n  a:\n    runs-on: x\n";
    for (rest, expected) in [
        (
            "    steps:\n      - rum: x\n",
            vec![
                "6:9 Unexpected value 'rum'",
                "6:9 There's not enough info to determine what you meant. Add one of these properties: parallel, run, \
             shell, uses, with, working-directory",
            ],
        ),
        ("    timeout-minutes: soon\n", vec!["5:22 Unexpected value 'soon'"]),
        ("    env: [a]\n", vec!["5:10 A sequence was not expected"]),
        ("    name: {a: b}\n", vec!["5:11 A mapping was not expected"]),
        ("    runs-on: y\n", vec!["5:5 'runs-on' is already defined"]),
        (
            "    if: secrets.x\n",
            vec![
                "5:9 Unrecognized named-value: 'secrets'. Located at position 1 within expression: secrets.x",
            ],
        ),
        (
            "    if: hashFiles('x')\n",
            vec![
                "5:9 Unrecognized function: 'hashFiles'. Located at position 1 within expression: hashFiles('x')",
            ],
        ),
        (
            "    name: ${{ 1 +\n",
            vec![
                "5:11 The expression is not closed. An unescaped ${{ sequence was found, but the closing }} sequence was \
             not found.",
            ],
        ),
        ("    name: ${{ }}\n", vec!["5:11 An expression was expected"]),
        (
            "    needs: [b, a]\n  b:\n    runs-on: x\n",
            vec!["5:16 Job 'a' depends on job 'a' which creates a cycle in the dependency graph."],
        ),
        ("    needs: c\n  b:\n    runs-on: x\n", vec!["5:12 Job 'a' depends on unknown job 'c'."]),
        ("    needs: a\n", vec!["3:3 The workflow must contain at least one job with no dependencies."]),
        (
            "    steps:\n      - {id: x, run: a}\n      - {id: X, run: b}\n",
            vec!["7:14 The identifier 'X' may not be used more than once within the same scope."],
        ),
        (
            "    steps:\n      - uses: checkout\n",
            vec!["6:15 Expected format {org}/{repo}[/path]@ref. Actual 'checkout'"],
        ),
        (
            "    strategy: {matrix: {v: [], exclude: [{w: 1}]}}\n",
            vec![
                "5:28 Matrix vector 'v' does not contain any values",
                "5:43 Matrix exclude key 'w' does not match any key within the matrix",
            ],
        ),
        ("    steps:\n      - wait: b\n", vec!["6:15 Step references unknown step ID 'b'"]),
        ("    services: {s: ''}\n", vec!["5:19 Unexpected value ''"]),
        (
            "    env:\n      A: ${{ insert }} x\n",
            vec![
                "6:10 The directive 'insert' is not allowed in this context. Directives are not supported for expressions \
             that are embedded within a string. Directives are only supported when the entire value is an expression.",
            ],
        ),
        ("    concurrency: {group: a, queue: all}\n", vec!["5:36 Unexpected value 'all'"]),
        (
            "    permissions: {contents: admin, nosuch: read}\n",
            vec!["5:29 Unexpected value 'admin'", "5:36 Unexpected value 'nosuch'"],
        ),
    ] {
        assert_eq!(errors(&format!("{job}{rest}")), expected, "{rest}");
    }
}

#[test]
fn whole_files() {
    for (text, expected) in [
        ("name: x\n", "1:1 Required property is missing: jobs"),
        ("on: nosuch\njobs: {a: {runs-on: x}}\n", "1:5 Unexpected value 'nosuch'"),
        ("on: push\njobs: {1a: {runs-on: x}}\n", "2:8 The identifier '1a' is invalid. IDs may only contain"),
        ("on: push\njobs: {a: {runs-on: x, uses: y}}\n", "2:24 Unexpected value 'uses'"),
        ("on: push\njobs: {a: {}}\n", "2:11 There's not enough info to determine what you meant."),
        ("on: push\njobs: !!int x\n", "0:0 The value 'x' on line 2 and column 7 is invalid for the type"),
        ("on: push\n---\njobs: {}\n", "1:1 Required property is missing: jobs"),
        (
            "on: push\nname: ${{ 1 == 1 }}\njobs: {a: {runs-on: x}}\n",
            "2:7 A template expression is not allowed",
        ),
    ] {
        assert!(errors(text)[0].starts_with(expected), "{text}: {:?}", errors(text));
    }
}

/// Each with its place and what to do.
#[test]
fn what_is_no_workflow_is_said_with_a_remedy() {
    let job = "jobs: {a: {runs-on: x, steps: [{run: x}]}}\n";
    let input = |keys: &str| format!("on:\n  workflow_dispatch:\n    inputs:\n      i: {{{keys}}}\n{job}");
    for (text, expected) in [
        (String::new(), "1:1 The file is empty, or all of it is comments"),
        ("# on: push\n\n# jobs:\n".to_owned(), "1:1 The file is empty, or all of it is comments"),
        (format!("on: push\n{job}---\non: push\n"), "3:1 The file has more than one YAML document"),
        (job.to_owned(), "1:1 No event triggers defined in `on`"),
        (format!("on: []\n{job}"), "1:5 No event triggers defined in `on`"),
        (
            "on: push\njobs:\n  a: {runs-on: x}\n  b: {runs-on: x, steps: [{run: x}]}\n  c: {runs-on: x, steps: []}\n"
                .to_owned(),
            "3:3 No steps defined in `steps` and no workflow called in `uses` for the following jobs: a, c",
        ),
        (input("type: bool"), "4:17 Unexpected value 'bool'"),
        (input("type: choice"), "4:17 The input 'i' is a choice and has no options"),
        (
            input("type: choice, options: [a, b], default: c"),
            "4:51 The default 'c' of the input 'i' does not fit",
        ),
        (input("type: boolean, default: 'yes'"), "4:35 The default 'yes' of the input 'i' does not fit"),
        (input("type: number, default: many"), "4:34 The default 'many' of the input 'i' does not fit"),
    ] {
        let found = Workflow::parse(&text, "w.yml").expect_err(&text);
        assert_eq!(errors(&text), [expected], "{text}");
        assert!(found[0].hint.is_some(), "{text}");
    }
    for keys in [
        "type: choice, options: [1, 2], default: 1",
        "type: boolean, default: true",
        "type: number, default: 1.5",
        "type: environment, default: x",
        "type: choice, options: [a], default: ''",
        "default: x",
    ] {
        workflow(&input(keys));
    }
}

#[test]
fn a_workflow_that_calls_itself_is_an_error_at_the_call() {
    let call = |file: &str| {
        format!("on: [push, workflow_call]\njobs: {{a: {{uses: ./.github/workflows/{file}}}}}\n")
    };
    let mut loader = Loader::default();
    loader.add("./.github/workflows/b.yml", &call("c.yml"));
    loader.add("./.github/workflows/c.yml", &call("b.yml"));
    loader.add("./.github/workflows/w.yml", &call("w.yml"));
    for (file, called, expected) in [
        (
            ".github/workflows/w.yml",
            "w.yml",
            ".github/workflows/w.yml (Line: 2, Col: 18): The workflow calls itself: ./.github/workflows/w.yml -> \
             ./.github/workflows/w.yml",
        ),
        (
            "w.yml",
            "b.yml",
            "./.github/workflows/c.yml (Line: 2, Col: 18): The workflow calls itself: ./.github/workflows/b.yml -> \
             ./.github/workflows/c.yml -> ./.github/workflows/b.yml",
        ),
    ] {
        let errors = Workflow::load(&call(called), file, &loader, &Options::default()).expect_err("a loop");
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(texts, [expected]);
        assert!(errors[0].hint.is_some());
    }
}

#[test]
fn at_most_ten_errors_and_no_cascade() {
    let keys: String = (0..30).map(|n| format!("nosuch{n}: {{deep: [1, 2, {{a: b}}]}}\n")).collect();
    let errors = errors(&format!("{keys}on: push\njobs: {{a: {{runs-on: x}}}}\n"));
    assert_eq!(errors.len(), 10);
    assert!(errors.iter().all(|error| error.contains("Unexpected value 'nosuch")), "{errors:?}");
}

#[test]
fn literals_become_text_where_text_is_wanted() {
    let workflow = workflow(
        "on: push\nenv: {a: 1.0, b: true, c: ~, d: 3.10, e: 1e3, f: 010}\njobs: {a: {runs-on: x, steps: [{run: x}]}}",
    );
    let empty = Object::new();
    let env = workflow.env.expect("env").text_map(&Scope::of(&empty)).expect("texts");
    let values: Vec<&str> = env.values().map(String::as_str).collect();
    assert_eq!(values, ["1", "true", "", "3.1", "1000", "10"]);
}

#[test]
fn anchors_repeat_a_value_at_its_place() {
    let text = "\
on: push
jobs:
  a: &a
    runs-on: x
    steps: &steps [{run: one}]
  b: *a
  c: {runs-on: y, steps: *steps}
";
    let found = workflow(text);
    assert_eq!(found.jobs["b"].steps[0].span, found.jobs["a"].steps[0].span);
    assert_eq!(found.jobs["c"].steps.len(), 1);
    let merge = errors("on: push\njobs:\n  a: &a {runs-on: x}\n  b: {<<: *a}\n");
    assert_eq!(merge[0], "4:7 Unexpected value '<<'");
}

#[test]
fn ids_are_made_for_steps_without() {
    let steps =
        "[{run: x}, {uses: a/b/c@v1}, {id: run, run: y}, {run: z}, {uses: ./l}, {uses: 'docker://al:3'}]";
    let found = workflow(&format!("on: push\njobs: {{a: {{runs-on: x, steps: {steps}}}}}"));
    let ids: Vec<&str> = found.jobs["a"].steps.iter().map(|step| step.id.as_str()).collect();
    assert_eq!(ids, ["__run", "__a_b", "run", "__run_2", "__self", "__al_3"]);
    let written: Vec<bool> = found.jobs["a"].steps.iter().map(|step| !step.id_is_generated).collect();
    assert_eq!(written, [false, false, true, false, false, false]);
}

#[test]
fn success_is_implied_unless_a_status_function_is_called() {
    for (written, expected) in [
        ("", "success()"),
        ("if: github.x", "success() && (github.x)"),
        ("if: ${{ github.x }}", "success() && (github.x)"),
        ("if: '!always()'", "!always()"),
        ("if: github.x == 'always()'", "success() && (github.x == 'always()')"),
        ("if: true && (failure())", "true && (failure())"),
        ("if: ", "success()"),
        ("if: 1", "success() && (1)"),
    ] {
        let found = workflow(&format!(
            "on: push\njobs:\n  a:\n    runs-on: x\n    steps:\n      - run: x\n        {written}\n"
        ));
        assert_eq!(found.jobs["a"].steps[0].condition.expr.source(), expected);
    }
}

#[test]
fn steps_side_by_side() {
    let text = "\
on: push
jobs:
  a:
    runs-on: x
    steps:
      - {id: s, run: serve, background: true}
      - parallel:
          - run: one
          - uses: o/r@v1
      - wait: s
      - wait-all:
      - cancel: s
";
    let found = workflow(text);
    let steps = &found.jobs["a"].steps;
    assert!(steps[0].background);
    assert!(matches!(&steps[1].kind, StepKind::Parallel(inner) if inner.len() == 2));
    assert!(matches!(&steps[2].kind, StepKind::Wait(targets) if targets[0].value == "s"));
    assert!(matches!(steps[3].kind, StepKind::WaitAll));
    assert!(matches!(&steps[4].kind, StepKind::Cancel(target) if target.value == "s"));
}

#[test]
fn called_workflows_are_checked_against_their_callers() {
    let callee = "\
on:
  workflow_call:
    inputs:
      count: {type: number, required: true}
    secrets:
      token: {required: true}
jobs:
  inner:
    permissions: {contents: write}
    runs-on: x
    steps: [{run: x}]
";
    let load = |caller: &str, options: &Options| {
        let mut loader = Loader::default();
        loader.add("./.github/workflows/c.yml", callee);
        Workflow::load(caller, "w.yml", &loader, options)
    };
    let good = "on: push\njobs:\n  a:\n    uses: ./.github/workflows/c.yml\n    with: {count: 1}\n    secrets: inherit\n";
    let found = load(good, &Options::default()).expect("a workflow");
    assert_eq!(found.calls(), ["./.github/workflows/c.yml"]);
    let call = found.jobs["a"].call.as_ref().expect("a call");
    assert!(matches!(call.secrets, CallSecrets::Inherit));
    let called = call.workflow.as_ref().expect("the callee");
    assert_eq!(called.jobs["inner"].permissions.as_ref().expect("permissions").get("contents"), Level::Write);
    assert_eq!(found.files.len(), 2);

    let bad = "on: push\npermissions: {contents: read}\njobs:\n  a:\n    uses: ./.github/workflows/c.yml\n    with: {other: 1}\n";
    let texts: Vec<String> =
        load(bad, &Options::default()).expect_err("errors").iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "w.yml (Line: 5, Col: 11): Input count is required, but not provided while calling.",
            "w.yml (Line: 6, Col: 19): Invalid input, other is not defined in the referenced workflow.",
            "w.yml (Line: 5, Col: 11): Secret token is required, but not provided while calling.",
            "w.yml (Line: 4, Col: 3): Error calling workflow './.github/workflows/c.yml'. The nested job 'inner' is \
             requesting 'contents: write', but is only allowed 'contents: read'.",
        ]
    );
    let missing = "on: push\njobs: {a: {uses: o/r/.github/workflows/x.yml@v1}}\n";
    let error = load(missing, &Options::default()).expect_err("an error");
    assert!(error[0].message.contains("Cannot find the called workflow"), "{error:?}");
    let options = Options { max_call_depth: 0, ..Options::default() };
    assert!(load(good, &options).expect_err("too deep")[0].message.contains("depth exceeded 0"));
}

/// The jobs of a matrix as `name: context`.
fn jobs(matrix: &str) -> Vec<String> {
    let job = format!("{{runs-on: x, steps: [{{run: x}}], strategy: {{matrix: {matrix}}}}}");
    let found = workflow(&format!("on: push\njobs: {{a: {job}}}"));
    let contexts = from_json(r#"{"inputs": {"list": [1, 2], "map": {"v": ["x"]}}}"#).expect("JSON");
    let terraphim_actions::expr::Value::Obj(contexts) = contexts else { panic!("an object") };
    let strategy =
        matrix::expand(found.jobs["a"].strategy.as_ref(), &Scope::of(&contexts), "a").expect("a matrix");
    let line =
        |one: &matrix::Configuration| format!("{}: {}", one.name, serde_json::Value::from(&one.matrix));
    strategy.configurations.iter().map(line).collect()
}

#[test]
fn a_matrix_is_a_product_in_order() {
    assert_eq!(
        jobs("{a: [1, 2], b: [x, y]}"),
        [
            r#"a (1, x): {"a":1,"b":"x"}"#,
            r#"a (1, y): {"a":1,"b":"y"}"#,
            r#"a (2, x): {"a":2,"b":"x"}"#,
            r#"a (2, y): {"a":2,"b":"y"}"#,
        ]
    );
}

#[test]
fn exclude_compares_as_expressions_do() {
    assert_eq!(jobs("{v: [1, A, {x: 1, y: 2}], exclude: [{v: '1'}, {v: {y: 2}}]}"), [r#"a (A): {"v":"A"}"#]);
}

#[test]
fn include_adds_to_what_it_matches_and_makes_new_jobs_else() {
    assert_eq!(
        jobs("{v: [1, 2], include: [{v: 1, extra: a}, {extra: b}, {v: 3}, {v: 1, extra: c}]}"),
        [r#"a (1): {"v":1,"extra":"c"}"#, r#"a (2): {"v":2,"extra":"b"}"#, r#"a (3): {"v":3}"#]
    );
    assert_eq!(jobs("{include: [{x: 1}, {y: 2}]}"), [r#"a (1): {"x":1}"#, r#"a (2): {"y":2}"#]);
}

#[test]
fn vectors_and_the_whole_matrix_may_be_expressions() {
    assert_eq!(jobs("{v: '${{ inputs.list }}'}").len(), 2);
    assert_eq!(jobs("{v: ['${{ inputs.list }}', 3]}").len(), 3, "a sequence in a sequence is spliced");
    assert_eq!(jobs("'${{ inputs.map }}'"), [r#"a (x): {"v":"x"}"#]);
    assert_eq!(jobs("{'${{ insert }}': '${{ inputs.map }}', w: [1]}"), [r#"a (x, 1): {"v":"x","w":1}"#]);
}

#[test]
fn a_matrix_has_its_limit() {
    let many = (0..17).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
    let text =
        format!("on: push\njobs: {{a: {{runs-on: x, strategy: {{matrix: {{a: [{many}], b: [{many}]}}}}}}}}");
    let expected = "2:43 The strategy matrix of job 'a' has more than 256 jobs";
    assert_eq!(errors(&text), [expected]);
}

#[test]
fn line_endings_of_windows_change_nothing() {
    let text = "on: push\njobs:\n  a:\n    runs-on: x\n    steps:\n      - run: |\n          one\n          two\n      - rum: x\n";
    assert_eq!(errors(text), errors(&text.replace('\n', "\r\n")));
    let good = text.replace("rum", "run").replace('\n', "\r\n");
    let found = workflow(&good);
    let StepKind::Run { run, .. } = &found.jobs["a"].steps[0].kind else { panic!("a script") };
    assert_eq!((run.as_str(), run.span.line, run.span.col), (Some("one\ntwo\n"), 6, 14));
}

#[test]
fn a_block_text_is_where_its_header_is() {
    let text = "on: push\njobs:\n  a:\n    runs-on: x\n    steps: [{run: x}]\n    env:\n      # a | in a comment\n      \"k:|\": # another |\n        >-\n        folded\n        text\n      p: !!str |\n        x";
    let env = workflow(text).jobs["a"].env.clone().expect("env");
    let places: Vec<(u32, u32, &str)> =
        env.entries().iter().map(|(_, v)| (v.span.line, v.span.col, v.as_str().expect("text"))).collect();
    assert_eq!(places, [(9, 9, "folded text"), (12, 10, "x")]);
}

#[test]
fn the_deepest_file_fits_the_stack() {
    let options = Options { max_depth: usize::MAX, ..Options::default() };
    let text = |depth: usize| {
        let value = format!("{}1{}", "[{a: ".repeat(depth), "}]".repeat(depth));
        let matrix = format!("{{matrix: {{v: {value}}}}}");
        format!("on: push\njobs: {{a: {{runs-on: x, steps: [{{run: x}}], strategy: {matrix}}}}}")
    };
    let found = Workflow::load(&text(97), "w.yml", &Loader::default(), &options).expect("a workflow");
    assert!(found.template_json(true)["jobs"][0]["strategy"].is_object());
    let errors = Workflow::load(&text(100), "w.yml", &Loader::default(), &options).expect_err("too deep");
    assert_eq!(errors[0].message, "Maximum object depth exceeded");
}
