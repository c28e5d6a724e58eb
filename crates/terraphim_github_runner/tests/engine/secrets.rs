//! No secret is in anything that the engine tells: whatever the secret is, however it is encoded, wherever a step puts it.

use std::sync::Arc;

use proptest::prelude::*;
use terraphim_github_runner::engine::{RunEvent, Secret, plan_workflow};

use crate::secret_texts::{self, ENCODINGS, forbidden, text};
use crate::world::{Files, World, parse};

/// Everywhere a step can put a text: both outputs in small pieces, commands, files, names, values that later steps and
/// jobs see, and things that go wrong with a text in their message.
const WORKFLOW: &str = r#"
on: push
run-name: 'run of IN-TEXT'
jobs:
  tells:
    name: 'job of IN-TEXT'
    runs-on: linux
    environment: {name: 'place of IN-TEXT', url: 'https://example.org/${{ steps.all.outputs.o }}'}
    outputs: {o: '${{ steps.all.outputs.o }}', plain: fine}
    steps:
      - id: all
        name: 'step of ${{ secrets.S0 }}'
        env: {GIVEN: '${{ secrets.S0 }}'}
        run: |
          printf '::add-mask::%s\n' "$(cat late)"
          dd if=text bs=7 status=none
          cat text >&2
          cat text >> "$GITHUB_STEP_SUMMARY"
          { echo 'o<<END-OF-TEXT'; cat text; echo END-OF-TEXT; } >> "$GITHUB_OUTPUT"
          { echo 'E<<END-OF-TEXT'; cat text; echo END-OF-TEXT; } >> "$GITHUB_ENV"
          printf '%s\n' "$GIVEN"
      - {run: 'printf "%s\n" "$E" "${{ env.E }}" > /dev/null; printf "%s\n" "$E"'}
      - {id: nowhere, continue-on-error: true, working-directory: 'no/${{ secrets.S0 }}', run: 'true'}
      - {id: wrong, continue-on-error: true, env: {X: '${{ fromJSON(secrets.S0) }}'}, run: 'true'}
      - {id: limit, continue-on-error: true, timeout-minutes: '${{ fromJSON(secrets.S0) }}', run: 'true'}
      - {continue-on-error: true, run: 'cat text > "$GITHUB_ENV"; echo "=" >> "$GITHUB_ENV"'}
      - {if: always(), run: 'cat "$(cat late)" no-such-file'}
  sees:
    needs: tells
    if: always()
    runs-on: linux
    steps:
      - {run: 'printf "%s\n" "[${{ needs.tells.outputs.o }}] ${{ needs.tells.outputs.plain }}"'}
"#;

/// What a secret may stand behind.
const BEFORE: [&str; 7] =
    ["", "word ", "::notice title=", "::error file=a,line=3::", "::group::", "\n", "##[warning]"];

/// Without quotes and braces, which would end the text of the workflow that it is put into.
fn secret() -> impl Strategy<Value = String> {
    secret_texts::secret(r#"A-Za-z0-9+/=&<>%" \-"#, "!-&(-z")
}

/// Everything that is told of a run: its events as values and as JSON, its log, its report, its error.
async fn told(secrets: &[String], late: &str, text: &str) -> String {
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("text"), text).unwrap();
    // As a workflow command has it.
    let escaped = late.replace('%', "%25").replace('\n', "%0A");
    std::fs::write(files.path().join("late"), escaped).unwrap();
    let mut world = World::new();
    world.inputs.workspace = Arc::new(Files(files.path().to_owned()));
    let named = |(index, secret): (usize, &String)| (format!("S{index}"), Secret::from(secret.clone()));
    world.inputs.secrets = secrets.iter().enumerate().map(named).collect();
    let line = secrets[0].lines().next().unwrap().trim().to_owned();
    // A backslash, a dollar and two braces: none of them is in a secret's alphabet at once.
    let workflow = parse(&WORKFLOW.replace("IN-TEXT", &line.replace("${{", "")));
    let result = world.run_plan(plan_workflow(&workflow).unwrap()).await;
    let mut all = world.recorder.output() + &unquoted(&world.recorder.everything());
    for event in world.recorder.events.lock().unwrap().iter() {
        all += &unquoted(&format!("{event:?}\n"));
        if let RunEvent::GroupStart { name, .. } = event {
            all += name;
        }
    }
    match result {
        Ok(report) => all += &unquoted(&serde_json::to_string(&report).unwrap()),
        Err(error) => all += &format!("{error} {}", unquoted(&format!("{error:?}"))),
    }
    all
}

/// JSON and `Debug` without the marks around texts: a shell takes the mark off a secret that begins with one, and what is left
/// would be the whole again behind theirs. Marks within texts have a backslash before them.
fn unquoted(text: &str) -> String {
    let mut is_escaped = false;
    let outer = |mark: char| {
        let is_outer = mark == '"' && !is_escaped;
        is_escaped = mark == '\\' && !is_escaped;
        if is_outer { '\u{1}' } else { mark }
    };
    text.chars().map(outer).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 20, ..ProptestConfig::with_cases(16) })]
    #[test]
    fn no_secret_is_in_anything_that_is_told_of_a_run(
        secrets in proptest::collection::vec(secret(), 1..4),
        late in secret(),
        pieces in proptest::collection::vec((0usize..9, 0..ENCODINGS, 0usize..8), 1..12),
    ) {
        let mut every = secrets.clone();
        every.push(late.clone());
        let text = text(&every, &pieces, &BEFORE) + "\n";
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let told = runtime.block_on(told(&secrets, &late, &text));
        prop_assert!(told.contains("] fine"), "the run came to its end: {told}");
        for secret in &every {
            for part in forbidden(secret) {
                prop_assert!(!told.contains(&part), "{part:?} shows in {told}");
            }
        }
    }
}
