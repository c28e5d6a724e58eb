//! `tci expr` and `tci check`.

use crate::fixture::World;

#[test]
fn an_expression_is_evaluated_with_its_contexts() {
    let world = World::new();
    let contexts = world.write("contexts.json", r#"{"github": {"ref": "refs/heads/main"}}"#);
    let said = world.run(&["expr", "contains(github.ref, 'main')", "--contexts", contexts.to_str().unwrap()]);
    said.prints(&[r#"{"kind":"Boolean","value":true}"#]);
    world.run(&["expr", "1 +"]).fails(2, &["error:"]);
    world.run(&["expr"]).fails(2, &["<EXPRESSION>"]);
}

#[test]
fn a_batch_has_one_answer_a_line_in_order() {
    let world = World::new();
    let cases = "{\"expr\": \"a.b\", \"contexts\": {\"a\": {\"b\": 2}}}\n\n{\"expr\": \"0 / 0\"}\n{\"expr\": \"NaN\"}\n";
    let file = world.write("cases.jsonl", cases);
    let said = world.run(&["expr", "--batch", file.to_str().unwrap()]);
    let lines: Vec<serde_json::Value> =
        said.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3, "{said:?}");
    assert_eq!(lines[0], serde_json::json!({"kind": "Number", "value": 2}));
    assert_eq!(lines[1]["error"]["kind"], "lexing");
    assert_eq!(lines[2]["value"], "NaN");
}

const GOOD: &str = "on: push\njobs:\n  a:\n    runs-on: x\n    steps:\n      - run: echo\n";

#[test]
fn a_good_file_is_silent_and_can_be_printed_as_json() {
    let world = World::new();
    let file = world.write("w.yml", GOOD);
    let said = world.run(&["check", file.to_str().unwrap()]);
    assert_eq!((said.code, said.stdout.as_str(), said.stderr.as_str()), (0, "", ""));
    let said = world.run(&[
        "check",
        file.to_str().unwrap(),
        "--as",
        ".github/workflows/w.yml",
        "--emit",
        "template-json",
        "--option",
        "include-source=false",
    ]);
    let json: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(json["jobs"][0]["id"], "a");
}

#[test]
fn a_bad_file_is_shown_with_line_and_caret_or_in_the_words_of_the_suite() {
    let world = World::new();
    let file = world.write("w.yml", &GOOD.replace("runs-on", "runs-om"));
    let said = world.run(&["check", file.to_str().unwrap()]);
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.stdout.contains("w.yml:4:5") && said.stdout.contains("4 |     runs-om: x"), "{said:?}");
    assert!(said.stdout.lines().any(|line| line.trim_end().ends_with('^')), "{said:?}");
    let said = world.run(&["check", file.to_str().unwrap(), "--as", "w.yml", "--emit", "template-json"]);
    assert_eq!(said.code, 2);
    assert!(said.stdout.contains("w.yml (Line: 4, Col: 5): Unexpected value 'runs-om'"), "{said:?}");
}

#[test]
fn a_workflow_of_the_same_repository_is_read_when_it_is_called() {
    let world = World::with_workflow(
        "on: push\njobs:\n  a:\n    uses: ./.github/workflows/called.yml\n    with: {colour: red}\n",
    );
    world.write(
        ".github/workflows/called.yml",
        "on:\n  workflow_call:\n    inputs:\n      size: {type: string, required: true}\njobs:\n  b:\n    runs-on: x\n    \
         steps:\n      - run: echo\n",
    );
    let said = world.run(&["check", ".github/workflows/ci.yml"]);
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.stdout.contains("colour") || said.stdout.contains("size"), "{said:?}");
}

#[test]
fn an_unreadable_file_is_named() {
    let world = World::new();
    world.run(&["check", "nope.yml"]).fails(2, &["cannot read nope.yml"]);
    world.run(&["check", "a.yml", "b.yml", "--as", "x"]).fails(2, &["--as"]);
}

#[test]
fn findings_are_printed_as_json_or_as_annotations() {
    let world = World::new();
    world.write("bad.yml", &GOOD.replace("runs-on", "runs-om"));
    world.write("odd.yml", &GOOD.replace("    runs-on", "    if: \"${{ github.ref }} == 'y'\"\n    runs-on"));
    let said = world.run(&["check", "bad.yml", "odd.yml", "--json"]);
    assert_eq!((said.code, said.stderr.as_str()), (2, ""), "{said:?}");
    let all: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    let found: Vec<_> = all.as_array().unwrap().iter().map(|it| (&it["file"], &it["severity"])).collect();
    assert!(found.contains(&(&"bad.yml".into(), &"error".into())), "{all}");
    assert!(found.contains(&(&"odd.yml".into(), &"warning".into())), "{all}");
    let said = world.run(&["check", "bad.yml", "odd.yml", "--format", "github"]);
    assert_eq!(said.code, 2, "{said:?}");
    let lines: Vec<&str> = said.stdout.lines().collect();
    assert!(lines.contains(&"::error file=bad.yml,line=4,col=5::Unexpected value 'runs-om'"), "{lines:#?}");
    assert!(lines.iter().any(|line| line.starts_with("::warning file=odd.yml,line=4,col=")), "{lines:#?}");
    let said = world.run(&["check", "odd.yml"]);
    said.prints(&["warning:", "odd.yml:4:"]);
}

#[test]
fn a_good_file_is_an_empty_list() {
    let world = World::new();
    world.write("w.yml", GOOD);
    assert_eq!(world.run(&["check", "w.yml", "--format", "json"]).stdout, "[]\n");
    assert_eq!(world.run(&["check", "w.yml", "--format", "github"]).stdout, "");
    world.run(&["check", "w.yml", "--json", "--emit", "template-json"]).fails(2, &["--emit"]);
}

#[test]
fn a_time_zone_that_does_not_exist_is_a_warning() {
    let world = World::new();
    let zoned = GOOD.replace("on: push", "on: {schedule: [{cron: '0 3 * * *', timezone: Europe/Berlni}]}");
    assert_ne!(zoned, GOOD);
    world.write("w.yml", &zoned);
    world.run(&["check", "w.yml"]).prints(&["warning: There is no time zone `Europe/Berlni`", "w.yml:1:"]);
    world.write("w.yml", &zoned.replace("Berlni", "Berlin"));
    assert_eq!(world.run(&["check", "w.yml"]).stdout, "");
}

#[test]
fn an_action_file_is_checked_as_one() {
    let world = World::new();
    let good = "name: a\ndescription: b\ninputs: {x: {default: '1'}}\nruns: {using: node24, main: m.js, post: p.js}\n";
    let file = world.write("action.yml", good);
    let said = world.run(&["check", file.to_str().unwrap()]);
    assert_eq!((said.code, said.stdout.as_str(), said.stderr.as_str()), (0, "", ""));
    let bad = "name: a\nruns:\n  using: composite\n  steps:\n    - run: echo ${{ secrets.A }}\n      shell: bash\n    - runn: x\n";
    let file = world.write("part/action.yaml", bad);
    let said = world.run(&["check", file.to_str().unwrap()]);
    assert_eq!(said.code, 2, "{said:?}");
    for part in [
        "Unrecognized named-value: 'secrets'",
        "action.yaml:5:",
        "Unexpected value 'runn'",
        "action.yaml:7:7",
    ] {
        assert!(said.stdout.contains(part), "{part}: {said:?}");
    }
}
