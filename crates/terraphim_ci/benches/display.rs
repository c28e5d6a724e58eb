//! How a run of 1,000 jobs is shown on a terminal of 120 by 40: what is written, how long the run waits for it, what it
//! costs, and the same of the status line alone while all of them run.
//!
//! The program runs itself with a terminal as its standard output, and is that terminal. Nothing is asserted about times.

#[path = "../src/exit.rs"]
#[expect(dead_code, unused_imports, reason = "the program needs more of it, and so do its tests")]
mod exit;
#[path = "../src/failure.rs"]
#[expect(dead_code, unused_imports, reason = "the program needs more of it, and so do its tests")]
mod failure;
#[path = "../../terraphim_github_runner/benches/idle/mod.rs"]
#[expect(dead_code, reason = "the bench of the engine needs more of it")]
mod idle;
#[path = "../src/live/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the program needs more of it, and so do its tests")]
mod live;
#[path = "../src/output.rs"]
#[expect(dead_code, unused_imports, reason = "the program needs more of it, and so do its tests")]
mod output;

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::AsFd as _,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use chrono::Utc;
use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
    time::{ClockId, clock_gettime},
};
use terraphim_actions::workflow::Workflow;
use terraphim_github_runner::{
    RepositoryInfo, SessionManager, SessionManagerConfig, VmProvider,
    engine::{
        self, EmptyWorkspace, JobKey, Layout, RunConclusion, RunEvent, RunInputs, RunObserver, plan_workflow,
    },
};
use tokio_util::sync::CancellationToken;

use idle::{Idle, Longest};
use live::{Live, Screen, closing};

/// How long the status line is looked at.
const LOOK: Duration = Duration::from_secs(3);
const ALL: usize = idle::MATRICES * idle::MATRIX_JOBS;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.first().map(String::as_str) {
        // `cargo test --benches` asks every benchmark whether it has tests.
        Some("--test" | "--list") => {}
        Some("run") => shown(run),
        Some("status") => shown(status),
        _ => {
            for what in ["run", "status"] {
                terminal(what);
            }
        }
    }
}

/// Runs this program on a new terminal and reads what it writes there.
fn terminal(what: &str) {
    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&controller).expect("a terminal");
    unlockpt(&controller).expect("a terminal");
    let name = ptsname(&controller, Vec::new()).expect("its name");
    let size = Winsize { ws_row: 40, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(controller.as_fd(), size).expect("a size");
    let open =
        || File::options().read(true).write(true).open(name.to_str().expect("a path")).expect("a terminal");
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .arg(what)
        .stdin(Stdio::null())
        .stdout(open())
        .stderr(Stdio::piped())
        .env("TERM", "xterm")
        .env_remove("NO_COLOR")
        .spawn()
        .expect("this program");
    let (mut controller, mut buffer) = (File::from(controller), vec![0; 1 << 16]);
    let (mut bytes, mut redraws, mut widest) = (0, 0, 0);
    let mut line = Vec::new();
    // A terminal whose other end nobody has any more refuses to be read.
    while let Ok(count @ 1..) = controller.read(&mut buffer) {
        bytes += count;
        for byte in &buffer[..count] {
            match byte {
                b'\r' | b'\n' => {
                    let text = String::from_utf8_lossy(&line);
                    // Pictures of Braille are at the beginning of a status line only.
                    if text.starts_with(|c| ('\u{2800}'..='\u{28ff}').contains(&c)) {
                        redraws += 1;
                        widest = widest.max(text.trim_end_matches("\x1b[K").chars().count());
                    }
                    line.clear();
                }
                byte => line.push(*byte),
            }
        }
    }
    let mut said = String::new();
    child.stderr.take().expect("its words").read_to_string(&mut said).expect("its words");
    assert!(child.wait().expect("its end").success(), "{said}");
    let name = match what {
        "run" => format!("a run of {ALL} jobs on a terminal"),
        _ => format!("the status line while {ALL} jobs run"),
    };
    // Nobody to tell when standard output is closed.
    let _ = writeln!(
        std::io::stdout(),
        "{name:<58} {bytes} bytes, {redraws} status lines of at most {widest} characters; {}",
        said.trim()
    );
}

/// Runs with standard output as it is, and tells of it on standard error.
fn shown(what: impl AsyncFn(Arc<Screen>) -> String) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let said = runtime.block_on(async {
        let screen = Arc::new(Screen::start(false).expect("a screen"));
        assert!(screen.is_terminal());
        let said = what(Arc::clone(&screen)).await;
        screen.end().await;
        said
    });
    let _ = writeln!(std::io::stderr(), "{said}");
}

/// Processor time of this process so far, in milliseconds.
fn cpu_ms() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    #[expect(clippy::cast_precision_loss, reason = "seconds")]
    let milliseconds = time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6;
    milliseconds
}

/// Looks at the clock around what another observer does with an event.
struct Waited {
    of: Live,
    longest: Arc<Longest>,
    events: std::sync::atomic::AtomicU32,
}

#[async_trait]
impl RunObserver for Waited {
    async fn observe(&self, event: &RunEvent) {
        self.events.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let begun = Instant::now();
        self.of.observe(event).await;
        self.longest.add(begun.elapsed());
    }
}

struct Nowhere;

#[async_trait]
impl VmProvider for Nowhere {
    async fn allocate(&self, _: &str) -> terraphim_github_runner::Result<(String, Duration)> {
        Ok(("vm".to_owned(), Duration::ZERO))
    }

    async fn release(&self, _: &str) -> terraphim_github_runner::Result<()> {
        Ok(())
    }
}

/// Jobs that do nothing, two at a time, from the file to the closing table.
async fn run(screen: Arc<Screen>) -> String {
    let (begun, cpu) = (Instant::now(), cpu_ms());
    let plan = plan_workflow(&Workflow::parse(&idle::thousand_jobs(), "bench.yml").expect("a workflow"));
    let repository =
        RepositoryInfo { full_name: "acme/rocket".to_owned(), clone_url: None, default_branch: None };
    let mut inputs = RunInputs::new("push", repository, Arc::new(EmptyWorkspace));
    inputs.layout = Layout::default();
    inputs.parallelism = 2;
    let config = SessionManagerConfig { completed_linger: Duration::ZERO, ..SessionManagerConfig::default() };
    let sessions = SessionManager::with_provider(Arc::new(Nowhere), config);
    let longest = Arc::new(Longest::default());
    let observer = Arc::new(Waited {
        of: Live::new(Arc::clone(&screen), true),
        longest: Arc::clone(&longest),
        events: Default::default(),
    });
    let executor = Arc::new(Idle::writing(b"hello\n", 6));
    let told: Arc<dyn RunObserver> = observer.clone();
    let report =
        engine::run(plan.expect("a plan"), inputs, &sessions, executor, told, CancellationToken::new());
    let report = report.await.expect("a report");
    assert_eq!(report.conclusion, RunConclusion::Success);
    sessions.shutdown().await.expect("an end");
    let ran = begun.elapsed();
    let closed = Instant::now();
    screen.write(closing(&report, output::Paint::for_stdout())).await;
    format!(
        "{:.0} ms, {:.0} ms of processor time for {} events; the run waited {:.1} ms at most; the closing table {:.1} ms",
        ran.as_secs_f64() * 1e3,
        cpu_ms() - cpu,
        observer.events.load(std::sync::atomic::Ordering::Relaxed),
        longest.get().as_secs_f64() * 1e3,
        closed.elapsed().as_secs_f64() * 1e3,
    )
}

/// All jobs run, and nothing happens but the clock.
async fn status(screen: Arc<Screen>) -> String {
    let live = Live::new(Arc::clone(&screen), true);
    for number in 0..ALL {
        let job = JobKey::new(&format!("j{number:04}"), None);
        let name = format!("Step of job {number}");
        let event = RunEvent::StepStarted { job, name, number: 1, of: 1, background: false, at: Utc::now() };
        live.observe(&event).await;
    }
    let cpu = cpu_ms();
    tokio::time::sleep(LOOK).await;
    let ticks = LOOK.as_secs_f64() / 0.125;
    format!("{:.3} ms of processor time for each of {ticks:.0} redraws", (cpu_ms() - cpu) / ticks)
}
