//! What a job proves with its identity token, and what it may not show: secrets.

use std::{fs, path::Path};

use serde_json::Value;

use crate::host::World;

/// Asks for a token as `core.getIDToken` does and verifies it as a cloud does: with the published key.
const ASKS: &str = r"
import assert from 'node:assert/strict'
import crypto from 'node:crypto'
const { ACTIONS_ID_TOKEN_REQUEST_URL: url, ACTIONS_ID_TOKEN_REQUEST_TOKEN: bearer } = process.env
const ask = async authorization => fetch(`${url}&audience=sts.example.org`, { headers: { authorization } })
assert.equal((await ask('Bearer nonsense')).status, 401)
const { value } = await (await ask(`Bearer ${bearer}`)).json()
const [head, payload, signature] = value.split('.')
const part = text => JSON.parse(Buffer.from(text, 'base64url'))
const claims = part(payload)
const said = await (await fetch(`${claims.iss}/.well-known/openid-configuration`)).json()
assert.equal(said.issuer, claims.iss)
const { keys } = await (await fetch(said.jwks_uri)).json()
const key = crypto.createPublicKey({ key: keys.find(key => key.kid === part(head).kid), format: 'jwk' })
const verified = (text, signature) =>
  crypto.verify('sha256', Buffer.from(text), { key, dsaEncoding: 'ieee-p1363' }, Buffer.from(signature, 'base64url'))
assert(verified(`${head}.${payload}`, signature))
const forged = Buffer.from(JSON.stringify({ ...claims, sub: 'other' })).toString('base64url')
assert(!verified(`${head}.${forged}`, signature))
assert(claims.exp > Date.now() / 1000 && claims.exp - claims.iat <= 300)
const { sub, aud, repository, environment, event_name, runner_environment, workflow_ref, job_workflow_ref } = claims
console.log(JSON.stringify({
  sub, aud, repository, environment, event_name, runner_environment, workflow_ref, job_workflow_ref,
}))
";

const WORKFLOW: &str = r##"
on: push
permissions: {}
jobs:
  proves:
    runs-on: ubuntu-latest
    environment: prod
    permissions: {id-token: write}
    steps:
      - run: node token.mjs > claims.json && cat claims.json
      - run: test -z "$ACTIONS_RUNTIME_TOKEN"
  may-not:
    runs-on: ubuntu-latest
    steps:
      - run: test -z "$ACTIONS_ID_TOKEN_REQUEST_URL$ACTIONS_ID_TOKEN_REQUEST_TOKEN"
  called:
    permissions: {id-token: write}
    uses: ./.github/workflows/called.yml
  tells:
    runs-on: ubuntu-latest
    env:
      S: ${{ secrets.S }}
    steps:
      - name: "Say ${{ env.S }} twice"
        id: say
        run: |
          echo "::warning file=a.rs,line=3,title=of $S::bad $S"
          echo "# Summary with $S" >> "$GITHUB_STEP_SUMMARY"
          echo "out=$S" >> "$GITHUB_OUTPUT"
          printf '%s\n' "$S"; printf %s "$S" | base64 -w0; echo; printf %s "x$S" | base64 -w0; echo
          for c in $(printf %s "$S" | sed 's/./& /g'); do printf %s "$c"; done; echo
      - run: exit 1
        name: "Fail ${{ steps.say.outputs.out }}"
"##;

#[test]
fn a_job_proves_who_it_is_and_no_secret_is_told_or_kept() {
    const SECRET: &str = "q8ZtW3rVn5KxLp";
    // The same in base64, and after one byte more: what does not depend on the bytes around it.
    const ENCODED: [&str; 2] = ["cThadFczclZuNUt4TH", "E4WnRXM3JWbjVLeExw"];
    let world = World::new();
    world.git(&["remote", "add", "origin", "https://github.com/acme/tool.git"]);
    world.write("token.mjs", ASKS);
    world.workflow("ci", WORKFLOW);
    let prove = "{runs-on: ubuntu-latest, steps: [run: node token.mjs]}";
    world.workflow("called", &format!("on: workflow_call\njobs: {{too: {prove}}}\n"));
    let secrets = world.write("../secrets.env", &format!("S={SECRET}\n"));
    let (said, report) = world.run(&["--secret-file", secrets.to_str().unwrap()]);
    said.ends(1, &["Say *** twice"]);
    let conclusion = |name: &str| {
        let jobs = report["jobs"].as_array().unwrap();
        jobs.iter().find(|job| job["id"] == name).map(|job| job["conclusion"].clone()).unwrap()
    };
    assert_eq!(conclusion("proves"), "success", "{said:#?}");
    assert_eq!(conclusion("may-not"), "success", "{said:#?}");
    assert_eq!(conclusion("tells"), "failure", "{said:#?}");
    let claims = |job: &str| {
        let logs = world.tell(&["runs", "logs", "1", "-j", job]).stdout;
        let found = logs
            .lines()
            .find_map(|line| line.find('{').filter(|_| line.contains("aud")).map(|at| &line[at..]));
        let found = found.unwrap_or_else(|| panic!("no claims in {logs}"));
        serde_json::from_str::<Value>(found).unwrap()
    };
    // The job of the called workflow is of that file, and of the run of the one that calls it.
    let called = claims("called.too");
    let file = |name: &str| format!("acme/tool/.github/workflows/{name}.yml@refs/heads/main");
    assert_eq!(
        (&called["workflow_ref"], &called["job_workflow_ref"]),
        (&file("ci").into(), &file("called").into())
    );
    let claims = claims("proves");
    assert_eq!(claims["workflow_ref"], claims["job_workflow_ref"]);
    let logs = world.tell(&["runs", "logs", "1"]).stdout;
    assert_eq!(claims["sub"], "repo:acme/tool:environment:prod");
    for (claim, want) in [
        ("aud", "sts.example.org"),
        ("repository", "acme/tool"),
        ("environment", "prod"),
        ("event_name", "push"),
        ("runner_environment", "self-hosted"),
    ] {
        assert_eq!(claims[claim], want, "{claim}");
    }

    // The store tells the same as the report: what jobs are for and may do, the message, its place, the summary.
    let stored: Value = serde_json::from_str(&world.tell(&["runs", "show", "1", "--json"]).stdout).unwrap();
    let job = |name: &str| stored["jobs"].as_array().unwrap().iter().find(|job| job["name"] == name).unwrap();
    assert_eq!(job("proves")["environment"]["name"], "prod");
    assert_eq!(job("proves")["permissions"], serde_json::json!({"id-token": "write"}));
    let nothing = (&Value::Null, &serde_json::json!({}));
    assert_eq!((&job("may-not")["environment"], &job("may-not")["permissions"]), nothing);
    let job = job("tells");
    let warning = &job["annotations"][0];
    assert_eq!((warning["message"].as_str(), warning["title"].as_str()), (Some("bad ***"), Some("of ***")));
    assert_eq!((warning["file"].as_str(), warning["line"].as_u64()), (Some("a.rs"), Some(3)));
    assert_eq!(job["steps"][0]["summary"], "# Summary with ***\n");
    assert_eq!(job["steps"][1]["name"], "Fail ***");

    let shown = world.tell(&["runs", "show", "1"]).stdout;
    for text in [&said.all(), &report.to_string(), &stored.to_string(), &shown, &logs] {
        none_of(text.as_bytes(), SECRET, &ENCODED, "what is told");
    }
    // Nor in any file that is kept: log, database, what was learned.
    let mut kept = 0;
    each_file(&world.data(), &mut |path| {
        kept += 1;
        none_of(&fs::read(path).unwrap(), SECRET, &ENCODED, &path.display().to_string());
    });
    assert!(kept >= 2, "a database and a log are kept");
}

#[track_caller]
fn none_of(bytes: &[u8], secret: &str, encoded: &[&str], place: &str) {
    for text in encoded.iter().chain([&secret]) {
        assert!(!bytes.windows(text.len()).any(|part| part == text.as_bytes()), "{text} is in {place}");
    }
}

/// Calls with every file below; does not follow the links to the shared images.
fn each_file(directory: &Path, call: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            each_file(&entry.path(), call);
        } else if kind.is_file() {
            call(&entry.path());
        }
    }
}
