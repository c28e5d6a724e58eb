//! The registry with many rows and many users.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    time::Instant,
};

use rusqlite::Connection;
use terraphim_vm::{Host, ProcessId, VmId, VmSpec, registry::Registry};

use crate::{
    World,
    measure::{milliseconds, repeat, run, tci},
    small,
    table::{Row, Sample, Table, ms},
};

/// The first argument of a process that only reads and writes, see [`work`].
pub(crate) const WORKER: &str = "--registry-worker";

pub(crate) fn measure(table: &mut Table) {
    table.group("the registry");
    let world = World::new();
    rows(table, &world);
    stale(table, &world);
    one_client(table);
    eight_processes(table);
    side_by_side(table);
    first_runs(table);
}

fn rate(what: &'static str, baseline: &'static str, wanted: &'static str) -> Row {
    Row { what, unit: "per s", baseline, wanted }
}

fn rows(table: &mut Table, world: &World) {
    let (host, data): (&Host, &Path) = (&world.host, world.data());
    let list = |_| {
        let begun = Instant::now();
        host.list().expect("the rows");
        milliseconds(begun)
    };
    let make = |count: u32| (0..count).for_each(|_| drop(host.create(&small(128)).expect("a VM")));
    make(100);
    let hundred: Vec<f64> = (0..15).map(list).collect();
    table.samples(ms("tci vm ls, 100 rows", "495 | 291", "10"), repeat(15, || tci(data, &["vm", "ls"])));
    let begun = Instant::now();
    make(900);
    let seconds = begun.elapsed().as_secs_f64();
    table.samples(ms("tci vm ls, 1000 rows", "391 | 299", "15"), repeat(15, || tci(data, &["vm", "ls"])));
    table.samples(ms("library: list, 100 rows", "2.6 | 6.1", "0.5"), hundred);
    table.samples(ms("library: list, 1000 rows", "30 | 75", "4"), (0..15).map(list).collect());
    table.value(rate("library: create", "480-1350", "5000"), 900.0 / seconds);
}

/// Rows that a crash of the whole host leaves: they say running, and nobody is there.
fn stale(table: &mut Table, world: &World) {
    let database = Connection::open(world.host.paths().registry()).expect("the registry");
    let me = ProcessId::current().expect("this process");
    let cases = [
        ms("first tci vm ls after a crash, 100 rows", "516 | 504", "50"),
        ms("first tci vm ls after a crash, 1000 rows", "1377 | 1272", "150"),
    ];
    for (row, count) in cases.into_iter().zip([100, 1000]) {
        let once = |_| {
            database
                .execute(
                    "UPDATE vms SET state = 'running', epoch = 1, runner_pid = 4194000, runner_start = 1, boot_id = ?1
                     WHERE id IN (SELECT id FROM vms ORDER BY id LIMIT ?2)",
                    rusqlite::params![me.boot_id, count],
                )
                .expect("rows as a crash leaves them");
            let (sample, good) = run(&mut tci(world.data(), &["vm", "ls"]));
            assert!(good, "tci vm ls fails");
            sample
        };
        table.samples(row, (0..3).map(once).collect::<Vec<Sample>>());
    }
}

/// Defines VMs, which waits for the disk; when standard input ends, records starts of them and reads them, one after another.
/// Prints the times in milliseconds: a line of definitions, then one of records and reads.
pub(crate) fn work(registry: &Path, count: u32) {
    let spec = VmSpec { image: "busybox".to_owned(), ..VmSpec::default() };
    let me = ProcessId::current().expect("this process");
    let registry = Registry::read_write(registry).expect("the registry");
    let timed = |action: &dyn Fn()| {
        let begun = Instant::now();
        action();
        milliseconds(begun)
    };
    let ids: Vec<VmId> = (0..count).map(|_| VmId::random()).collect();
    let define = |id: &VmId| registry.insert(id, &format!("vm-{id}"), &spec, None).expect("a row");
    let defined: Vec<f64> = ids.iter().map(|id| timed(&|| define(id))).collect();
    println!("{}", serde_json::to_string(&defined).expect("numbers are JSON"));
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).expect("an end of the wait");
    let claim =
        |id: &VmId| drop(registry.claim(id, &me, None, |_| PathBuf::from("socket")).expect("the row"));
    let get = |id: &VmId| drop(registry.get(id).expect("the registry").expect("the row"));
    let times: Vec<(f64, f64)> = ids.iter().map(|id| (timed(&|| claim(id)), timed(&|| get(id)))).collect();
    println!("{}", serde_json::to_string(&times).expect("numbers are JSON"));
}

/// A process that has defined its VMs and waits to go on; with the times that took.
fn worker(registry: &Path, count: u32) -> (Child, BufReader<ChildStdout>, Vec<f64>) {
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new(program);
    command.arg(WORKER).arg(registry).arg(count.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("a worker");
    let mut output = BufReader::new(child.stdout.take().expect("its output"));
    let mut line = String::new();
    output.read_line(&mut line).expect("its first times");
    (child, output, serde_json::from_str(&line).expect("its first times"))
}

/// Several processes at once: times of definitions of one of them alone, of writes, of reads, and the seconds of the last two.
fn workers(count: u32, each: u32) -> (Vec<f64>, Vec<f64>, Vec<f64>, f64) {
    let directory = tempfile::tempdir().expect("a directory");
    let registry = directory.path().join("vms.db");
    let (mut children, mut outputs, mut defined) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..count {
        let (child, output, times) = worker(&registry, each);
        children.push(child);
        outputs.push(output);
        defined.extend(times);
    }
    let begun = Instant::now();
    children.iter_mut().for_each(|child| drop(child.stdin.take()));
    let (mut writes, mut reads) = (Vec::new(), Vec::new());
    for (mut child, output) in children.into_iter().zip(outputs) {
        let times: Vec<(f64, f64)> = serde_json::from_reader(output).expect("its times");
        assert!(child.wait().expect("its end").success(), "a worker fails");
        writes.extend(times.iter().map(|(write, _)| write));
        reads.extend(times.iter().map(|(_, read)| read));
    }
    (defined, writes, reads, begun.elapsed().as_secs_f64())
}

fn one_client(table: &mut Table) {
    let (defined, writes, reads, _) = workers(1, 1000);
    table.samples(ms("database, one process: write", "0.67 | 0.36", "0.1"), writes);
    table.samples(ms("database, one process: a definition, fsync included", "", "-"), defined);
    table.samples(ms("database, one process: read", "0.16 | 0.08", "0.02"), reads);
}

fn eight_processes(table: &mut Table) {
    const EACH: u32 = 500;
    let (_, writes, reads, seconds) = workers(8, EACH);
    table.samples(ms("database, 8 processes: write", "0.89 | 0.59, p99 64 | 77", "p99 10"), writes);
    table.samples(ms("database, 8 processes: read", "0.21 | 0.14", "-"), reads);
    let all = rate("database, 8 processes: reads and writes", "1950 | 1316", "10000");
    table.value(all, f64::from(2 * 8 * EACH) / seconds);
}

/// Runs commands at the same time: their times, the time of all, and how many failed.
fn at_once(commands: Vec<Vec<Command>>) -> (Vec<Sample>, f64, u32) {
    let begun = Instant::now();
    let threads: Vec<_> = commands
        .into_iter()
        .map(|commands| {
            std::thread::spawn(move || {
                commands.into_iter().map(|mut command| run(&mut command)).collect::<Vec<_>>()
            })
        })
        .collect();
    let ended: Vec<(Sample, bool)> =
        threads.into_iter().flat_map(|thread| thread.join().expect("its end")).collect();
    let failed = ended.iter().filter(|(_, good)| !good).count();
    let samples = ended.into_iter().map(|(sample, _)| sample).collect();
    (samples, begun.elapsed().as_secs_f64(), u32::try_from(failed).unwrap_or(u32::MAX))
}

fn side_by_side(table: &mut Table) {
    let world = World::new();
    let lists = (0..8).map(|_| (0..4).map(|_| tci(world.data(), &["vm", "ls"])).collect()).collect();
    let (samples, seconds, failed) = at_once(lists);
    assert_eq!(failed, 0, "tci vm ls fails");
    table.samples(ms("8 tci vm ls at once: each", "1735 | 3612", "30"), samples);
    table.value(rate("8 tci vm ls at once: all together", "4.5 | 1.7", "300"), 32.0 / seconds);
    let create = ["vm", "create", "--image", "busybox", "--memory", "128"];
    let creates = (0..8).map(|_| vec![tci(world.data(), &create)]).collect();
    let (samples, _, failed) = at_once(creates);
    table.samples(ms("8 tci vm create at once: each", "1229 | 4200", "50"), samples);
    let row = Row { what: "8 tci vm create at once: failures", unit: "of 8", baseline: "0", wanted: "0" };
    table.value(row, f64::from(failed));
}

fn first_runs(table: &mut Table) {
    const ROUNDS: u32 = 40;
    let mut failures = 0;
    for _ in 0..ROUNDS {
        let world = World::new();
        let create = ["vm", "create", "--image", "busybox", "--memory", "128"];
        failures += at_once((0..8).map(|_| vec![tci(world.data(), &create)]).collect()).2;
    }
    let row = Row {
        what: "8 first commands on a new directory: failures",
        unit: "of 320",
        baseline: "7 | 10 of 24",
        wanted: "0",
    };
    table.value(row, f64::from(failures));
}
