//! Actions of other repositories: what is fetched, from where, and which commit it is. Over a real git server.

use std::path::Path;

use terraphim_github_runner::action::{
    ActionError, ActionReference, ActionStore, Checkout, Fetched, LOCK_FILE, Lock, Manifest, Source,
    Submodules,
};
use terraphim_github_runner::engine::Secret;

use crate::git_server::{GitServer, Habits, commit, git};
use crate::world::World;

const ACTION: &str = "runs: {using: node20, main: main.js}\n";

/// A repository `acme/tool` with two commits, served; and a directory for the cache.
struct Served {
    directory: tempfile::TempDir,
    server: GitServer,
    first: String,
    second: String,
}

impl Served {
    async fn new(habits: Habits) -> Served {
        let directory = tempfile::tempdir().unwrap();
        let repository = directory.path().join("repositories/acme/tool");
        std::fs::create_dir_all(repository.join("deep/er")).unwrap();
        git(&repository, &["init", "--quiet"]);
        std::fs::write(repository.join("action.yml"), ACTION).unwrap();
        std::fs::write(repository.join("main.js"), "console.log('first');\n").unwrap();
        let first = commit(&repository, "v1");
        std::fs::write(repository.join("deep/er/action.yaml"), "name: deep\n").unwrap();
        std::fs::write(repository.join("main.js"), "console.log('second');\n").unwrap();
        let second = commit(&repository, "v2");
        git(&repository, &["tag", "-a", "-m", "annotated", "v1.0", &first]);
        git(&repository, &["branch", "feature/x", &first]);
        let server = GitServer::start(&directory.path().join("repositories"), habits).await;
        Served { directory, server, first, second }
    }

    fn repository(&self) -> std::path::PathBuf {
        self.directory.path().join("repositories/acme/tool")
    }

    fn store(&self) -> ActionStore {
        ActionStore::new(self.directory.path().join("cache"))
            .with_sources(vec![Source::Url(self.server.url.clone())])
    }

    async fn commit(&self, uses: &str) -> Result<String, ActionError> {
        Ok(self.store().fetch(&action(uses)).await?.commit)
    }
}

fn action(uses: &str) -> ActionReference {
    uses.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ref_is_a_tag_a_branch_or_a_commit() {
    let served = Served::new(Habits::default()).await;
    for (reference, want) in [
        ("v1", &served.first),
        ("v1.0", &served.first),
        ("feature/x", &served.first),
        ("main", &served.second),
        ("refs/heads/main", &served.second),
        (served.first.as_str(), &served.first),
    ] {
        assert_eq!(&served.commit(&format!("acme/tool@{reference}")).await.unwrap(), want, "{reference}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ref_is_known_in_full_by_those_who_were_told() {
    let served = Served::new(Habits::default()).await;
    let store = served.store();
    for (reference, want) in [
        ("v1", "refs/tags/v1"),
        ("feature/x", "refs/heads/feature/x"),
        ("refs/heads/main", "refs/heads/main"),
        (served.first.as_str(), served.first.as_str()),
    ] {
        let action = action(&format!("acme/tool@{reference}"));
        let fetched = store.fetch(&action).await.unwrap();
        assert_eq!(store.full_reference(&action, &fetched).await, want);
        // A commit that the ref was not when it was asked for.
        let other = Fetched { commit: "0".repeat(40), ..fetched };
        assert_eq!(store.full_reference(&action, &other).await, reference);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_is_fetched_once_and_serves_offline() {
    let served = Served::new(Habits::default()).await;
    let store = served.store();
    let fetched = store.fetch(&action("acme/tool@v1")).await.unwrap();
    let asked = served.server.count();
    assert_eq!(store.fetch(&action(&format!("acme/tool@{}", served.first))).await.unwrap(), fetched);
    assert_eq!(served.server.count(), asked, "a commit that is here needs nobody");
    let offline = store.clone().offline(true);
    assert_eq!(offline.fetch(&action("acme/tool@v1")).await.unwrap(), fetched);
    let error = offline.fetch(&action("acme/tool@v2")).await.unwrap_err();
    assert!(matches!(error, ActionError::Offline { .. }), "{error}");
    assert_eq!(served.server.count(), asked);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_said() {
    let served = Served::new(Habits::default()).await;
    let error = served.commit("acme/none@v1").await.unwrap_err();
    assert!(matches!(&error, ActionError::NoRepository { tried, .. } if tried.len() == 2), "{error}");
    let error = served.commit("acme/tool@v9").await.unwrap_err();
    assert!(matches!(error, ActionError::NoRef { is_short_commit: false, .. }), "{error}");
    let error = served.commit(&format!("acme/tool@{}", &served.first[..7])).await.unwrap_err();
    assert!(matches!(error, ActionError::NoRef { is_short_commit: true, .. }), "{error}");
    let error = served.commit(&format!("acme/tool@{}", "0".repeat(40))).await.unwrap_err();
    assert!(matches!(error, ActionError::NoRepository { .. } | ActionError::NoCommit { .. }), "{error}");
    let nobody = served.store().with_sources(vec!["http://127.0.0.1:9".parse().unwrap()]);
    let error = nobody.fetch(&action("acme/tool@v1")).await.unwrap_err();
    assert!(error.to_string().contains("http://127.0.0.1:9/acme/tool: "), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_server_gives_commits_by_the_name_of_a_ref() {
    let served = Served::new(Habits { is_old: true, ..Habits::default() }).await;
    git(&served.repository(), &["config", "uploadpack.allowAnySHA1InWant", "false"]);
    assert_eq!(served.commit("acme/tool@v1").await.unwrap(), served.first);
    let by_commit = served.commit(&format!("acme/tool@{}", served.second)).await.unwrap();
    assert_eq!(by_commit, served.second);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_repository_needs_the_token() {
    // `x-access-token:s3cret` in base64.
    let authorization = "basic eC1hY2Nlc3MtdG9rZW46czNjcmV0".to_owned();
    let served = Served::new(Habits { authorization: Some(authorization), is_old: false }).await;
    let error = served.commit("acme/tool@v1").await.unwrap_err();
    assert!(matches!(error, ActionError::NoRepository { .. }), "{error}");
    let store = served.store().with_token(Secret::from("s3cret"));
    assert_eq!(store.fetch(&action("acme/tool@v1")).await.unwrap().commit, served.first);
    let wrong = served.store().with_token(Secret::from("other"));
    let error = wrong.fetch(&action("acme/tool@v2")).await.unwrap_err().to_string();
    assert!(!error.contains("other") && !error.contains("b3RoZXI"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fetches_at_the_same_time_do_no_harm() {
    let served = Served::new(Habits::default()).await;
    let fetches = (0..8).map(|index| {
        let (store, reference) = (served.store(), action(["acme/tool@v1", "acme/tool@v2"][index % 2]));
        tokio::spawn(async move { store.fetch(&reference).await.unwrap().commit })
    });
    for (index, fetch) in fetches.collect::<Vec<_>>().into_iter().enumerate() {
        assert_eq!(fetch.await.unwrap(), *[&served.first, &served.second][index % 2]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_copy_is_found_and_named() {
    let served = Served::new(Habits::default()).await;
    let store = served.store();
    let fetched = store.fetch(&action("acme/tool@v1")).await.unwrap();
    let mut damaged = 0;
    for path in files(&fetched.repository.join("objects")) {
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle..].iter_mut().for_each(|byte| *byte ^= 0x55);
        Command::make_writable(&path);
        std::fs::write(&path, bytes).unwrap();
        damaged += 1;
    }
    assert!(damaged > 0);
    let error = match store.manifest(&action("acme/tool@v1"), &fetched).await {
        Ok(_) => store.archive(&fetched).await.map(drop).unwrap_err(),
        Err(error) => error,
    };
    assert!(matches!(error, ActionError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("cache/acme/tool.git"), "{error}");
}

struct Command;

impl Command {
    /// Git makes its objects read-only.
    fn make_writable(path: &Path) {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
}

fn files(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { all.extend(files(&path)) } else { all.push(path) }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_is_read_at_its_path() {
    let served = Served::new(Habits::default()).await;
    let store = served.store();
    let at = store.fetch(&action("acme/tool@v2")).await.unwrap();
    let manifest = store.manifest(&action("acme/tool@v2"), &at).await.unwrap();
    assert_eq!(manifest, Manifest::File { name: "action.yml", text: ACTION.to_owned() });
    let deep = store.manifest(&action("acme/tool/deep/er@v2"), &at).await.unwrap();
    assert!(matches!(deep, Manifest::File { name: "action.yaml", .. }));
    let error = store.manifest(&action("acme/tool/deep@v2"), &at).await.unwrap_err();
    assert!(matches!(error, ActionError::NoManifest { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_is_a_source_too() {
    let served = Served::new(Habits::default()).await;
    let mirror = Source::Directory(served.directory.path().join("repositories"));
    let store = served.store().with_sources(vec![mirror]).offline(true);
    assert_eq!(store.fetch(&action("acme/tool@main")).await.unwrap().commit, served.second);
    let error = store.fetch(&action("acme/none@main")).await.unwrap_err();
    assert!(error.to_string().contains("there is no acme/none in it"), "{error}");
    let none = Checkout {
        repository: "acme/none".to_owned(),
        from: None,
        reference: String::new(),
        depth: 1,
        tags: false,
        submodules: Submodules::None,
        sparse: Vec::new(),
        cone: true,
        token: Secret::default(),
        origin: "https://github.com/acme/none".to_owned(),
    };
    let error = store.offline(false).check_out(&none).await.unwrap_err();
    assert!(error.to_string().contains("there is no acme/none in it"), "{error}");
    assert_eq!(served.server.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_file_decides_which_commit() {
    let served = Served::new(Habits::default()).await;
    let mut lock = Lock::new(served.directory.path().join(LOCK_FILE));
    lock.set(&action("acme/tool@main"), &served.first);
    let store = served.store().with_lock(Some(lock));
    assert_eq!(store.fetch(&action("acme/tool@main")).await.unwrap().commit, served.first);
    assert_eq!(store.resolve(&action("acme/tool@main")).await.unwrap().commit, served.second);
    let error = store.fetch(&action("acme/tool@v1")).await.unwrap_err();
    assert!(matches!(error, ActionError::NotLocked { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_fetched_is_said_before_anything_starts() {
    let served = Served::new(Habits::default()).await;
    let mut world = World::new();
    world.inputs.actions = Some(std::sync::Arc::new(served.store()));
    let error = world
        .run("on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - uses: acme/tool@v9\n      - uses: acme/none@v1\n")
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("test.yml (Line: 6, Col: 15)") && error.contains("has no branch or tag"),
        "{error}"
    );
    assert!(error.contains("test.yml (Line: 7, Col: 15)") && error.contains("acme/none"), "{error}");
    assert!(world.provider.given.lock().unwrap().is_empty(), "no VM was asked for");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_commit_of_the_own_repository_comes_from_the_host() {
    let served = Served::new(Habits::default()).await;
    let mut world = World::new();
    world.inputs.repository.full_name = "acme/tool".to_owned();
    world.inputs.actions = Some(std::sync::Arc::new(served.store().offline(true)));
    world.inputs.repository_directory = Some(served.repository());
    std::fs::create_dir_all(world.inputs.layout.workspace_of("tool")).unwrap();
    let steps = "[{uses: actions/checkout@v4, with: {ref: feature/x, path: old}}, {run: 'cd old && cat main.js && git log -1 --format=%H:%D'}]";
    let workflow = format!("on: push\njobs:\n  a: {{runs-on: linux, steps: {steps}}}\n");
    let report = world.run(&workflow).await.unwrap();
    let output = world.recorder.output();
    assert_eq!(report.conclusion, terraphim_github_runner::engine::RunConclusion::Success, "{output}");
    assert!(output.contains("console.log('first');\n"), "{output}");
    // Fetched with a depth of one, as the action does, so the commit may be marked as grafted.
    let at = output.lines().find_map(|line| line.strip_prefix(&format!("{}:", served.first)));
    assert!(at.is_some_and(|at| at.ends_with("HEAD -> feature/x, origin/feature/x")), "{output}");
    assert_eq!(served.server.count(), 0, "the network was not asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_checkout_runs_when_it_is_wanted() {
    let served = Served::new(Habits::default()).await;
    let real = served.directory.path().join("repositories/actions/checkout");
    std::fs::create_dir_all(&real).unwrap();
    git(&real, &["init", "--quiet"]);
    std::fs::write(real.join("action.yml"), "inputs: {lfs: {}}\nruns: {using: node20, main: main.js}\n")
        .unwrap();
    std::fs::write(real.join("main.js"), "console.log('really ' + process.env.INPUT_LFS);\n").unwrap();
    commit(&real, "v4");
    let mut world = World::new();
    world.inputs.actions = Some(std::sync::Arc::new(served.store()));
    world.inputs.real_checkout = true;
    let workflow =
        "on: push\njobs:\n  a: {runs-on: linux, steps: [{uses: actions/checkout@v4, with: {lfs: true}}]}\n";
    world.run(workflow).await.unwrap();
    assert!(world.recorder.output().contains("really true\n"), "{}", world.recorder.everything());
}
