//! `make bench`: what a VM costs, measured on this machine now. Prints a table and, as its last line, JSON.
//!
//! Nothing is asserted: a machine's load is not the program's fault. Each figure stands beside what was asked for, and
//! those that depend on the guest's own speed beside the guest's own part, measured in the same run.
#![expect(clippy::print_stdout, reason = "the table is the result")]

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use terraphim_vm::{
    ExecEvent, Host, Network, Paths, ProcessId, StopOptions, VmClient, VmSpec, protocol::message::ExecRequest,
};

const TCI: &str = env!("CARGO_BIN_EXE_tci");
/// The guest is not asked, so nothing waits for it.
const NOW: StopOptions = StopOptions { grace: Duration::ZERO };

#[derive(Default)]
struct Table(Vec<Value>);

impl Table {
    /// Adds the median of samples in milliseconds.
    fn time(&mut self, what: &str, mut samples: Vec<f64>, wanted: &str) {
        samples.sort_by(f64::total_cmp);
        let (median, least) = (samples[samples.len() / 2], samples[0]);
        self.row(what, median, "ms", wanted, json!({"min": least, "n": samples.len()}));
    }

    fn row(&mut self, what: &str, value: f64, unit: &str, wanted: &str, more: Value) {
        println!("{what:<58} {value:>10.2} {unit:<5} {wanted:<22} {more}");
        self.0.push(json!({"what": what, "value": value, "unit": unit, "wanted": wanted, "more": more}));
    }
}

fn main() {
    // `cargo test --benches` asks every benchmark whether it has tests.
    if std::env::args().any(|arg| arg == "--test" || arg == "--list") {
        return;
    }
    let images = std::env::var_os("TCI_TEST_IMAGES")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tci-test"), PathBuf::from);
    let directory = tempfile::Builder::new().prefix("tci-bench-").tempdir().expect("a temporary directory");
    for name in ["images", "cache"] {
        std::fs::create_dir_all(images.join(name)).expect("a directory for guest images");
        let shared = std::fs::canonicalize(images.join(name)).expect("the directory of the guest images");
        std::os::unix::fs::symlink(shared, directory.path().join(name)).expect("a link to the images");
    }
    let host = Host::open(Paths::new(directory.path()).expect("paths")).expect("a host");
    let host = host.with_supervisor_program(TCI.into());
    let mut table = Table::default();
    commands(&mut table, directory.path());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(machines(&mut table, &host));
    runs(&mut table, directory.path());
    println!("{}", Value::Array(table.0));
}

/// What every command costs before it does anything.
fn commands(table: &mut Table, data: &Path) {
    for (name, args, wanted) in
        [("tci --help", &["--help"][..], "under 15 ms"), ("tci vm ls", &["vm", "ls"], "under 15 ms")]
    {
        let once = || {
            let begun = Instant::now();
            let mut command = Command::new(TCI);
            command.arg("--data-dir").arg(data).args(args).stdout(Stdio::null());
            assert!(command.status().expect("tci runs").success());
            milliseconds(begun)
        };
        table.time(name, (0..21).map(|_| once()).collect(), wanted);
    }
}

async fn machines(table: &mut Table, host: &Host) {
    let spec = VmSpec {
        image: "busybox".to_owned(),
        vcpus: 1,
        memory_mib: 512,
        network: Network::None,
        ..VmSpec::default()
    };
    let (mut start, mut boot, mut stop) = (Vec::new(), Vec::new(), Vec::new());
    let me = ProcessId::current().expect("this process");
    for _ in 0..5 {
        let vm = host.create(&spec).expect("a VM");
        let begun = Instant::now();
        host.start_owned(&vm.id, &me).await.expect("it starts");
        start.push(milliseconds(begun));
        host.client(&vm.id).expect("a client").wait_agent().await.expect("it boots");
        boot.push(milliseconds(begun));
        let begun = Instant::now();
        host.stop(&vm.id, &NOW).await.expect("it stops");
        stop.push(milliseconds(begun));
    }
    table.time("start: until the hypervisor runs", start, "QEMU's own start + 60");
    table.time("start: until the guest's agent answers (cold boot)", boot, "kernel + agent 2400");
    table.time("stop, guest not asked", stop, "QEMU's own end + 40");
    let vm = host.create(&spec).expect("a VM");
    host.start_owned(&vm.id, &me).await.expect("it starts");
    let client = host.client(&vm.id).expect("a client");
    client.wait_agent().await.expect("it boots");
    exchanges(table, &client).await;
    host.stop(&vm.id, &NOW).await.expect("it stops");
}

async fn exchanges(table: &mut Table, client: &VmClient) {
    let mut supervisor = Vec::new();
    let mut agent = Vec::new();
    for _ in 0..200 {
        let begun = Instant::now();
        client.ping().await.expect("a supervisor");
        supervisor.push(milliseconds(begun));
        let begun = Instant::now();
        client.wait_agent().await.expect("an agent");
        agent.push(milliseconds(begun));
    }
    table.time("supervisor ping (connect, ask, answer)", supervisor, "under 0.3 ms");
    table.time("agent through the supervisor (connect, ask, answer)", agent, "p50 under 1 ms");
    let (mut whole, mut added) = (Vec::new(), Vec::new());
    for _ in 0..50 {
        let begun = Instant::now();
        let guest_us = run(client, &["true"]).await.1;
        whole.push(milliseconds(begun));
        added.push(milliseconds(begun) - guest_us / 1000.0);
    }
    table.time("exec of `true`, whole", whole, "-");
    table.time("exec of `true`, added to the guest's own fork, exec, exit", added, "under 3 ms");
    const BULK_MIB: u32 = 256;
    let begun = Instant::now();
    let script = format!("dd if=/dev/zero bs=256k count={} 2>/dev/null", BULK_MIB * 4);
    let (bytes, _) = run(client, &["sh", "-c", &script]).await;
    let seconds = begun.elapsed().as_secs_f64();
    assert_eq!(bytes, u64::from(BULK_MIB) << 20);
    table.row("output of a process", f64::from(BULK_MIB) / seconds, "MiB/s", "60 MB/s or more", json!({}));
}

/// Runs to the end: bytes of standard output, and the guest's own time in microseconds.
async fn run(client: &VmClient, argv: &[&str]) -> (u64, f64) {
    let argv = argv.iter().map(|arg| (*arg).to_owned()).collect();
    let request = ExecRequest { argv, inherit_env: true, ..ExecRequest::default() };
    let mut exec = client.exec(&request).await.expect("it runs");
    let mut bytes = 0;
    while let Some(event) = exec.next().await.expect("its output") {
        match event {
            ExecEvent::Stdout(more) => bytes += more.len() as u64,
            ExecEvent::Exited(exited) => {
                #[expect(clippy::cast_precision_loss, reason = "microseconds of one process")]
                return (bytes, exited.duration_us as f64);
            }
            ExecEvent::Failed(failed) => panic!("{failed:?}"),
            ExecEvent::Lost(why) => panic!("{why}"),
            _ => {}
        }
    }
    panic!("no last event")
}

/// From `tci run` to the first byte of the first step, and to the end.
fn runs(table: &mut Table, data: &Path) {
    let file = data.join("bench.yml");
    let text =
        "on: push\njobs:\n  one:\n    runs-on: ubuntu-latest\n    steps:\n      - run: echo first-byte\n";
    std::fs::write(&file, text).expect("a workflow");
    let (mut first, mut whole) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let begun = Instant::now();
        let mut command = Command::new(TCI);
        command.arg("--data-dir").arg(data).args(["run", "--image", "debian"]).arg(&file).current_dir(data);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("tci run starts");
        let output = std::io::BufReader::new(child.stdout.take().expect("its output"));
        for line in std::io::BufRead::lines(output) {
            let line = line.expect("a line");
            if line.ends_with("first-byte") && !line.contains("echo") {
                first.push(milliseconds(begun));
            }
        }
        assert!(child.wait().expect("its end").success());
        whole.push(milliseconds(begun));
    }
    assert_eq!(first.len(), 5, "every run printed its line");
    table.time("tci run: to the first byte of the first step", first, "under 5000 ms");
    table.time("tci run: to the end of a run of one step", whole, "-");
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}
