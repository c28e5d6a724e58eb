//! Steps of a job, by `tci run` as a user calls it.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::Stdio,
    time::Instant,
};

use serde_json::Value;

use crate::{
    World,
    measure::{cpu_ms_if_alive, milliseconds, run, tci},
    table::{Table, ms},
};

const STEPS: usize = 50;
const ROUNDS: usize = 3;

/// How often a step is measured beside the guest's own start of its shell.
const PAIRS: usize = 30;

/// Starts the shell of a step five times, in the guest itself, and tells how long each took.
const OWN: &str = r#"
          echo true > "$RUNNER_TEMP/own.sh"
          own=
          for i in {1..5}; do
            begun=$EPOCHREALTIME
            bash -e "$RUNNER_TEMP/own.sh"
            own+=" $(( ${EPOCHREALTIME/./} - ${begun/./} ))"
          done
          echo "own=$own" >> "$GITHUB_OUTPUT"
"#;

pub(crate) fn measure(table: &mut Table, world: &World) {
    table.group("tci run (debian image)");
    first_byte(table, world.data());
    steps(table, world);
}

/// From `tci run` to the first byte of the first step, and to the end.
fn first_byte(table: &mut Table, data: &Path) {
    let file = data.join("bench.yml");
    fs::write(
        &file,
        "on: push\njobs:\n  one:\n    runs-on: ubuntu-latest\n    steps:\n      - run: echo first-byte\n",
    )
    .expect("a workflow");
    let (mut first, mut whole) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let begun = Instant::now();
        let mut command = tci(data, &["run", "--image", "debian"]);
        command.arg(&file).current_dir(data);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("tci run starts");
        let output = BufReader::new(child.stdout.take().expect("its output"));
        for line in output.lines() {
            let line = line.expect("a line");
            if line.ends_with("first-byte") && !line.contains("echo") {
                first.push(milliseconds(begun));
            }
        }
        assert!(child.wait().expect("its end").success());
        whole.push(milliseconds(begun));
    }
    assert_eq!(first.len(), 5, "every run printed its line");
    table.samples(ms("tci run: to the first byte of the first step, cold VM", "", "5000"), first);
    table.samples(ms("tci run: to the end of a run of one step", "", "-"), whole);
}

fn steps(table: &mut Table, world: &World) {
    let (mut cpu, mut supervisor) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (many, few) = (job(world, &plain(STEPS)), job(world, &plain(1)));
        #[expect(clippy::cast_precision_loss, reason = "fifty")]
        let more = (STEPS - 1) as f64;
        cpu.push((many.cpu_ms - few.cpu_ms) / more);
        supervisor.extend(many.supervisor_ms);
    }
    let (own, whole, added) = pairs(world);
    table.samples(ms("guest's own start of a step's shell (bash -e)", "", "-"), own);
    table.samples(ms("a step `run: true`, whole", "", "-"), whole);
    table.samples(ms("a step, added to the guest's own just before it", "", "8"), added);
    table.samples(ms("a step: processor time of tci run", "", "1, with the supervisor's"), cpu);
    if supervisor.is_empty() {
        table.absent(ms("a step: processor time of the supervisor", "", ""), "no supervisor was seen");
    } else {
        table.samples(ms("a step: processor time of the supervisor", "", ""), supervisor);
    }
}

/// Steps in turn with the guest's own start of their shell: a machine that changes its speed changes both. The own times,
/// those of the steps, and how much longer each step took than the own times before it in the middle.
fn pairs(world: &World) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let pair = format!("      - shell: bash\n        run: |{OWN}        id: ID\n      - run: true\n");
    let steps: String = (0..PAIRS).map(|n| pair.replace("ID", &format!("own{n}"))).collect();
    let steps = job(world, &format!("{steps}      - run: true\n")).steps;
    let (mut own, mut whole, mut added) = (Vec::new(), Vec::new(), Vec::new());
    for three in steps.windows(3).step_by(2) {
        let mut times = three[0].own_ms.clone();
        times.sort_by(f64::total_cmp);
        let step = three[2].started_ms - three[1].started_ms;
        added.push(step - times[times.len() / 2]);
        whole.push(step);
        own.extend(times);
    }
    assert_eq!(added.len(), PAIRS);
    (own, whole, added)
}

fn plain(count: usize) -> String {
    "      - run: true\n".repeat(count)
}

/// What a job of many small steps took.
struct Job {
    steps: Vec<Step>,
    cpu_ms: f64,
    supervisor_ms: Option<f64>,
}

struct Step {
    started_ms: f64,
    /// The guest's own times, if the step is about them.
    own_ms: Vec<f64>,
}

impl Step {
    fn of(step: &Value) -> Step {
        let started = step["started_at"].as_str().expect("a time");
        let started = started.parse::<jiff::Timestamp>().expect("a time").as_microsecond();
        let own = step["outputs"]["own"].as_str().unwrap_or_default().split_whitespace();
        #[expect(clippy::cast_precision_loss, reason = "differences of some milliseconds are taken")]
        let started_ms = started as f64 / 1000.0;
        let own_ms = own.map(|micros| micros.parse::<f64>().expect("microseconds") / 1000.0).collect();
        Step { started_ms, own_ms }
    }
}

fn job(world: &World, steps: &str) -> Job {
    let data = world.data();
    let (file, result) = (data.join("steps.yml"), data.join("steps.json"));
    let head = "on: push\njobs:\n  one:\n    runs-on: ubuntu-latest\n    steps:\n";
    fs::write(&file, format!("{head}{steps}")).expect("a workflow");
    let mut command = tci(data, &["run", "--image", "debian", "--json"]);
    command.arg(&result).arg(&file).current_dir(data);
    let watch = SupervisorWatch::start(world);
    let (sample, good) = run(&mut command);
    assert!(good, "the run fails");
    let supervisor = watch.end();
    let report: Value = serde_json::from_slice(&fs::read(&result).expect("the result")).expect("JSON");
    let steps: Vec<Step> =
        report["jobs"][0]["steps"].as_array().expect("steps").iter().map(Step::of).collect();
    #[expect(clippy::cast_precision_loss, reason = "fifty")]
    let all = steps.len() as f64;
    Job {
        steps,
        cpu_ms: sample.cpu_ms.expect("the processor time"),
        supervisor_ms: supervisor.map(|total| total / all),
    }
}

/// Follows the processor time of the supervisor that comes next, from when its guest answers until it ends.
struct SupervisorWatch(std::thread::JoinHandle<Option<f64>>);

impl SupervisorWatch {
    fn start(world: &World) -> SupervisorWatch {
        let host = world.host.clone();
        SupervisorWatch(std::thread::spawn(move || {
            let pause = std::time::Duration::from_millis(20);
            let deadline = Instant::now() + std::time::Duration::from_secs(60);
            let pid = loop {
                let running = host.list().ok()?.into_iter().find_map(|vm| Some(vm.supervisor?.pid));
                match running {
                    Some(pid) => break pid,
                    None if Instant::now() > deadline => return None,
                    None => std::thread::sleep(pause),
                }
            };
            let read = || cpu_ms_if_alive(pid);
            let mut last = read()?;
            let first = last;
            while let Some(now) = read() {
                last = now;
                std::thread::sleep(pause);
            }
            Some(last - first)
        }))
    }

    fn end(self) -> Option<f64> {
        self.0.join().ok().flatten()
    }
}
