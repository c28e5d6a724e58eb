//! `tci actions`: which commit each action is, over a real git server and from directories.

use std::{fs, path::PathBuf};

use serde_json::Value;

use crate::fixture::{Said, World};
use crate::git_server::{GitServer, Habits, commit, git, make_repositories};

const WORKFLOW: &str = "on: push
jobs:
  a:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - uses: acme/outer@v1
      - uses: ./here
";

/// A repository whose workflow uses `acme/outer`, which uses `acme/inner` and a part of itself, and a local action that
/// uses `acme/inner` at another tag. The repositories are made from directories, as those of the engine's tests.
struct Setting {
    world: World,
    /// What the server runs on.
    _runtime: tokio::runtime::Runtime,
    server: GitServer,
}

impl Setting {
    fn new(habits: Habits) -> Setting {
        let world = World::with_workflow(WORKFLOW);
        world.write("here/action.yml", &composite(&["acme/inner@v2"]));
        let tree = |path: &str, text: &str| {
            let path = world.home().join("tree").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        tree("acme/outer/v1/action.yml", &composite(&["acme/inner@v1", "$/part", "actions/checkout@v4"]));
        tree("acme/outer/v1/part/action.yml", "runs: {using: node20, main: main.js}\n");
        tree("acme/inner/v1/action.yml", "runs: {using: node20, main: main.js}\n");
        tree("acme/inner/v2/action.yml", "runs: {using: node20, main: other.js}\n");
        tree("actions/checkout/v4/action.yml", "runs: {using: node20, main: main.js}\n");
        make_repositories(&world.home().join("tree"), &world.home().join("served"));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let server = runtime.block_on(GitServer::start(&world.home().join("served"), habits));
        Setting { world, _runtime: runtime, server }
    }

    /// `tci actions ARGS` with the server as the mirror.
    fn tell(&self, args: &[&str]) -> Said {
        self.tell_with(args, None)
    }

    fn tell_with(&self, args: &[&str], token: Option<&str>) -> Said {
        let mut command = self.world.tci();
        command.arg("actions").args(args).args(["--action-mirror", &self.server.url]);
        command.envs(token.map(|token| ("TCI_ACTION_TOKEN", token)));
        Said::of(&command.output().unwrap())
    }

    fn served(&self, repository: &str) -> PathBuf {
        self.world.home().join("served/acme").join(repository)
    }

    fn commit_of(&self, repository: &str, tag: &str) -> String {
        git(&self.served(repository), &["rev-parse", tag])
    }

    fn lock(&self) -> String {
        fs::read_to_string(self.world.repo().join(".github/workflows/tci.lock")).unwrap_or_default()
    }

    /// What `ls --json` says: use, commit, in the lock file, in the cache.
    fn listed(&self) -> Vec<(String, Option<String>, bool, bool)> {
        let said = self.tell(&["ls", "--json"]);
        said.prints(&[]);
        let lines: Vec<Value> = serde_json::from_str(&said.stdout).unwrap();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let line = |line: &Value| {
            let (locked, cached) = (line["locked"].as_bool().unwrap(), line["cached"].as_bool().unwrap());
            (text(&line["uses"]).unwrap(), text(&line["commit"]), locked, cached)
        };
        lines.iter().map(line).collect()
    }
}

fn composite(uses: &[&str]) -> String {
    let steps: String = uses.iter().map(|uses| format!("    - uses: {uses}\n")).collect();
    format!("name: x\nruns:\n  using: composite\n  steps:\n{steps}")
}

#[test]
fn actions_are_listed_locked_and_renewed() {
    let setting = Setting::new(Habits::default());
    let none = |uses: &str| (uses.to_owned(), None, false, false);
    assert_eq!(
        setting.listed(),
        [none("acme/inner@v2"), none("acme/outer@v1")],
        "nothing is fetched to be listed"
    );
    assert_eq!(setting.server.count(), 0);
    setting.tell(&["lock"]).prints(&[".github/workflows/tci.lock\n"]);
    let (v1, v2) = (setting.commit_of("inner", "v1"), setting.commit_of("inner", "v2"));
    let outer = setting.commit_of("outer", "v1");
    let locked = |uses: &str, commit: &str| (uses.to_owned(), Some(commit.to_owned()), true, true);
    let all = [
        locked("acme/inner@v1", &v1),
        locked("acme/inner@v2", &v2),
        locked("acme/outer/part@v1", &outer),
        locked("acme/outer@v1", &outer),
    ];
    assert_eq!(setting.listed(), all, "also what actions use, and what is in the same repository");
    assert!(!setting.lock().contains("actions/checkout"), "it is answered from the host");
    setting.tell(&["ls"]).prints(&["USES", "COMMIT", "LOCKED", "CACHED", &outer]);

    // A tag moves: the lock file stays until it is renewed, and then only what was named.
    let lock = setting.lock();
    for repository in ["inner", "outer"] {
        commit(&setting.served(repository), "moved");
        git(&setting.served(repository), &["tag", "-f", "v1"]);
    }
    setting.tell(&["lock"]).prints(&[]);
    assert_eq!(setting.lock(), lock);
    let said = setting.tell(&["update", "acme/inner@v1"]);
    let moved = setting.commit_of("inner", "v1");
    assert!(said.stderr.contains(&format!("acme/inner@v1: {v1} -> {moved}")), "{said:#?}");
    assert_eq!(setting.lock(), lock.replace(&v1, &moved));
    setting.tell(&["update"]).prints(&[]);
    assert_eq!(setting.lock(), lock.replace(&v1, &moved).replace(&outer, &setting.commit_of("outer", "v1")));

    // What is used no more goes; what is not used cannot be renewed.
    setting.world.write("here/action.yml", &composite(&[]));
    setting.tell(&["lock"]).prints(&[]);
    assert!(!setting.lock().contains("acme/inner@v2"), "{}", setting.lock());
    let lock = setting.lock();
    setting.tell(&["update", "acme/iner@v1"]).fails(2, &["no workflow uses acme/iner@v1", "tci actions ls"]);
    setting.tell(&["update", "nonsense"]).fails(2, &["nonsense", "owner/repository@ref"]);
    assert_eq!(setting.lock(), lock);
}

#[test]
fn workflows_of_other_repositories_are_locked() {
    let setting = Setting::new(Habits::default());
    let calls = "on: push\njobs:\n  call: {uses: acme/flows/.github/workflows/a.yml@v1}\n";
    setting.world.write(".github/workflows/ci.yml", calls);
    let flows = setting.served("flows");
    let workflow = |name: &str, jobs: &str| {
        let path = flows.join(".github/workflows").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("on: workflow_call\njobs:\n{jobs}")).unwrap();
    };
    let job = |uses: &str| format!("  a: {{runs-on: x, steps: [{{uses: {uses}}}]}}\n");
    workflow("a.yml", &(job("$/part") + "  deep: {uses: ./.github/workflows/b.yml}\n"));
    workflow("b.yml", &job("acme/inner@v2"));
    fs::create_dir_all(flows.join("part")).unwrap();
    fs::write(flows.join("part/action.yml"), composite(&["acme/inner@v1"])).unwrap();
    git(&flows, &["init", "--quiet"]);
    let v1 = commit(&flows, "v1");
    setting.tell(&["lock"]).prints(&[]);
    let uses: Vec<String> = setting.listed().into_iter().map(|(uses, ..)| uses).collect();
    let all = [
        "acme/flows/.github/workflows/a.yml@v1",
        "acme/flows/.github/workflows/b.yml@v1",
        "acme/flows/part@v1",
        "acme/inner@v1",
        "acme/inner@v2",
    ];
    assert_eq!(uses, all);
    assert!(
        setting.lock().contains(&format!("uses = \"acme/flows@v1\"\ncommit = \"{v1}\"")),
        "{}",
        setting.lock()
    );

    // A run obeys it: what is not in it is an error at its `uses`, before anything starts.
    setting.world.write(".github/workflows/ci.yml", &calls.replace("@v1", "@main"));
    let mut command = setting.world.tci();
    command.args(["run", "--dryrun", "--action-mirror", &setting.server.url]);
    let said = Said::of(&command.output().unwrap());
    said.fails(
        2,
        &["`uses`: acme/flows/.github/workflows/a.yml@main is not in", "ci.yml", "tci actions lock"],
    );
    setting.world.write(".github/workflows/ci.yml", calls);
    let said = Said::of(&command.output().unwrap());
    said.prints(&[
        "job call calls acme/flows/.github/workflows/a.yml@v1",
        "job deep calls ./.github/workflows/b.yml",
    ]);
}

#[test]
fn the_real_checkout_is_locked_when_it_is_wanted() {
    let setting = Setting::new(Habits::default());
    setting.world.write("tci.toml", "[actions]\nreal-checkout = true\n");
    setting.tell(&["lock"]).prints(&[]);
    assert!(setting.lock().contains("actions/checkout@v4"), "{}", setting.lock());
    // Also one that only another action uses.
    let only_nested = WORKFLOW.replace("      - uses: actions/checkout@v4\n", "");
    setting.world.write(".github/workflows/ci.yml", &only_nested);
    setting.tell(&["lock"]).prints(&[]);
    assert!(setting.lock().contains("actions/checkout@v4"), "{}", setting.lock());
}

#[test]
fn mirrors_may_be_directories_private_or_wrong() {
    // `x-access-token:s3cret` in base64.
    let authorization = "basic eC1hY2Nlc3MtdG9rZW46czNjcmV0".to_owned();
    let setting = Setting::new(Habits { authorization: Some(authorization), is_old: false });
    let world = &setting.world;
    setting.tell(&["lock"]).fails(2, &["acme/", "cannot be reached", "TCI_ACTION_TOKEN"]);
    let said = setting.tell_with(&["lock"], Some("wr0ng"));
    said.fails(2, &["cannot be reached"]);
    assert!(!said.stderr.contains("wr0ng") && !said.stderr.contains("d3Iwbmc"), "{said:#?}");
    assert_eq!(setting.lock(), "", "a failure writes no lock file");
    setting.tell_with(&["lock"], Some("s3cret")).prints(&[]);
    assert!(!setting.lock().contains("s3cret"));

    // A directory needs neither server nor token; what is nowhere is said with all that was asked.
    fs::remove_file(world.repo().join(".github/workflows/tci.lock")).unwrap();
    let served = world.home().join("served").display().to_string();
    world.run(&["actions", "lock", "--offline", "--action-mirror", &served]).prints(&[]);
    let lock = setting.lock();
    world
        .run(&["actions", "update", "--action-mirror", "http://127.0.0.1:9"])
        .fails(2, &["http://127.0.0.1:9/acme/"]);
    world
        .run(&["actions", "update", "--action-mirror", "/nowhere"])
        .fails(2, &["/nowhere is no directory", "OWNER/NAME"]);
    world.run(&["actions", "update", "--action-mirror", &format!("http://127.0.0.1:9,{served}")]).prints(&[]);
    assert_eq!(setting.lock(), lock);
    let text = WORKFLOW.replace("outer@v1", "outer@v9");
    world.write(".github/workflows/ci.yml", &text);
    world
        .run(&["actions", "lock", "--action-mirror", &served])
        .fails(2, &["has no branch or tag \"v9\"", "check the branch or tag"]);
    world.write(".github/workflows/tci.lock", "version = 9\n");
    world.run(&["actions", "ls"]).fails(2, &["tci.lock has version 9"]);
}
