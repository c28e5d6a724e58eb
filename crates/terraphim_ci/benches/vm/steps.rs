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
    measure::{cpu_ms, milliseconds, run, tci},
    table::{Row, Table, ms},
};

const STEPS: usize = 50;
const ROUNDS: usize = 3;

/// Starts the shell of a step as often as there are steps, in the guest itself.
const OWN: &str = r#"
          echo true > "$RUNNER_TEMP/own.sh"
          begun=$EPOCHREALTIME
          for i in {1..50}; do bash -e "$RUNNER_TEMP/own.sh"; done
          echo "own=$(( ${EPOCHREALTIME/./} - ${begun/./} ))" >> "$GITHUB_OUTPUT"
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
    let (mut whole, mut own, mut cpu, mut supervisor) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let many = job(world, STEPS);
        let few = job(world, 1);
        own.push(many.own_ms);
        whole.extend(many.step_ms);
        #[expect(clippy::cast_precision_loss, reason = "fifty")]
        let more = (STEPS - 1) as f64;
        cpu.push((many.cpu_ms - few.cpu_ms) / more);
        supervisor.extend(many.supervisor_ms);
    }
    let least = |times: &[f64]| times.iter().copied().fold(f64::INFINITY, f64::min);
    let middle = |times: &[f64]| {
        let mut times = times.to_vec();
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let row = |what| Row { what, unit: "ms", baseline: "", wanted: "8" };
    let (least, middle) = (least(&whole) - least(&own), middle(&whole) - middle(&own));
    table.samples(ms("guest's own start of a step's shell (bash -e)", "", "-"), own);
    table.samples(ms("a step `run: true` of fifty, whole", "", "-"), whole);
    table.value(row("a step, added to the guest's own: minima"), least);
    table.value(row("a step, added to the guest's own: medians"), middle);
    table.samples(ms("a step: processor time of tci run", "", "1, with the supervisor's"), cpu);
    if supervisor.is_empty() {
        table.absent(ms("a step: processor time of the supervisor", "", ""), "no supervisor was seen");
    } else {
        table.samples(ms("a step: processor time of the supervisor", "", ""), supervisor);
    }
}

/// What a job of many small steps took.
struct Job {
    step_ms: Vec<f64>,
    own_ms: f64,
    cpu_ms: f64,
    supervisor_ms: Option<f64>,
}

fn job(world: &World, count: usize) -> Job {
    let data = world.data();
    let (file, result) = (data.join("steps.yml"), data.join("steps.json"));
    let head = "on: push\njobs:\n  one:\n    runs-on: ubuntu-latest\n    steps:\n      - run: true\n      - id: own\n        \
                shell: bash\n        run: |";
    fs::write(&file, format!("{head}{OWN}{}", "      - run: true\n".repeat(count))).expect("a workflow");
    let mut command = tci(data, &["run", "--image", "debian", "--json"]);
    command.arg(&result).arg(&file).current_dir(data);
    let watch = SupervisorWatch::start(world);
    let (sample, good) = run(&mut command);
    assert!(good, "the run fails");
    let supervisor = watch.end();
    let report: Value = serde_json::from_slice(&fs::read(&result).expect("the result")).expect("JSON");
    let steps = report["jobs"][0]["steps"].as_array().expect("steps");
    let started = |step: &Value| {
        let text = step["started_at"].as_str().expect("a time");
        let time = text.parse::<jiff::Timestamp>().expect("a time");
        #[expect(clippy::cast_precision_loss, reason = "differences of some milliseconds are taken")]
        let micros = time.as_microsecond() as f64;
        micros / 1000.0
    };
    let times: Vec<f64> = steps[2..].iter().map(started).collect();
    let own = steps[1]["outputs"]["own"].as_str().and_then(|own| own.parse::<f64>().ok());
    #[expect(clippy::cast_precision_loss, reason = "fifty")]
    let all = steps.len() as f64;
    Job {
        step_ms: times.windows(2).map(|pair| pair[1] - pair[0]).collect(),
        own_ms: own.expect("the guest's own time") / 50.0 / 1000.0,
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
            let read = || {
                let alive =
                    fs::read_to_string(format!("/proc/{pid}/schedstat")).is_ok_and(|text| !text.is_empty());
                alive.then(|| std::panic::catch_unwind(|| cpu_ms(pid)).ok()).flatten()
            };
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
