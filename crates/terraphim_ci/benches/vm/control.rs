//! A supervisor's answers, and what it costs while nothing happens.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::{
    World,
    measure::{cpu_ms, milliseconds, proc_count, proc_number},
    small,
    table::{Row, Table, ms},
};

const QUIET: Duration = Duration::from_secs(20);

pub(crate) async fn measure(table: &mut Table, world: &World) {
    table.group("a supervisor (three VMs run)");
    let host = &world.host;
    let mut vms = Vec::new();
    for _ in 0..3 {
        let vm = host.create(&small(128)).expect("a VM");
        vms.push(host.start(&vm.id).await.expect("it starts"));
    }
    let client = host.client(&vms[0].id).expect("a client");
    let socket = vms[0].socket.clone().expect("a socket");
    let pid = vms[0].supervisor.as_ref().expect("a supervisor").pid;
    // Not until the guests have booted, which keeps the processors busy.
    for vm in &vms {
        host.client(&vm.id).expect("a client").wait_agent().await.expect("it boots");
    }
    let (mut pings, mut states, mut qmp) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..200 {
        let begun = Instant::now();
        client.ping().await.expect("an answer");
        pings.push(milliseconds(begun));
        let begun = Instant::now();
        client.status().await.expect("an answer");
        states.push(milliseconds(begun));
        let begun = Instant::now();
        client.qmp("query-status", None).await.expect("an answer");
        qmp.push(milliseconds(begun));
    }
    table.samples(ms("library: ping (connect, ask, answer)", "1.63 | 2.62", "0.3"), pings);
    table.samples(ms("library: status", "1.77 | 2.49", "0.3"), states);
    table.samples(ms("library: qmp query-status", "6.0 | 5.0", "0.5"), qmp);
    let raw: Vec<f64> = (0..200).map(|_| raw_ping(&socket)).collect();
    table.samples(ms("raw socket: connect and ping", "0.79 | 0.63", "0.1"), raw);
    eight_clients(table, &socket);
    memory(table, pid);
    quiet(table, pid).await;
    for vm in vms {
        host.remove(&vm.id, true).await.expect("it goes");
    }
}

fn raw_ping(socket: &Path) -> f64 {
    let begun = Instant::now();
    let mut stream = UnixStream::connect(socket).expect("a connection");
    stream.write_all(b"GET /v1/ping HTTP/1.1\r\nHost: vm\r\n\r\n").expect("it is sent");
    let mut answer = [0; 256];
    let count = stream.read(&mut answer).expect("an answer");
    assert!(answer[..count].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..count]));
    milliseconds(begun)
}

fn eight_clients(table: &mut Table, socket: &Path) {
    const EACH: u32 = 1000;
    let begun = Instant::now();
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let socket: PathBuf = socket.to_owned();
            std::thread::spawn(move || (0..EACH).map(|_| raw_ping(&socket)).collect::<Vec<f64>>())
        })
        .collect();
    let times: Vec<f64> = clients.into_iter().flat_map(|client| client.join().expect("a client")).collect();
    let rate = f64::from(8 * EACH) / begun.elapsed().as_secs_f64();
    table.samples(ms("raw socket, 8 clients at once", "3.3 | 2.3", "0.5"), times);
    let row = Row {
        what: "raw socket, 8 clients: all together",
        unit: "per s",
        baseline: "1663 | 3040",
        wanted: "20000",
    };
    table.value(row, rate);
}

/// What it has of its own, and where that lies.
fn memory(table: &mut Table, pid: i32) {
    let mib = |what, baseline, wanted| Row { what, unit: "MiB", baseline, wanted };
    let of = |name: &str| proc_number(pid, "smaps_rollup", name) / 1024.0;
    table.value(mib("supervisor: RSS", "30.6", "-"), of("Rss"));
    table.value(mib("supervisor: PSS", "20.4", "2 beyond what is shared"), of("Pss"));
    table.value(mib("supervisor: private, dirty", "17.6", "2"), of("Private_Dirty"));
    table.value(mib("supervisor: private, clean", "", "-"), of("Private_Clean"));
    for (name, size) in dirty_parts(pid) {
        println!("    of it private and dirty: {size:>6} KiB {name}");
    }
    let count = |what, baseline, wanted| Row { what, unit: "", baseline, wanted };
    table.value(count("supervisor: threads", "2", "2"), proc_count(pid, "task"));
    table.value(count("supervisor: descriptors", "26", "16"), proc_count(pid, "fd"));
}

/// Mappings by name with their private dirty memory in KiB, the largest first.
fn dirty_parts(pid: i32) -> Vec<(String, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps")).expect("the process lives");
    let mut parts: std::collections::BTreeMap<String, u64> = std::collections::BTreeMap::new();
    let mut current = String::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        if words.first().is_some_and(|word| word.contains('-') && !word.ends_with(':')) {
            let name = words.get(5).copied().unwrap_or("[anonymous]");
            let name = name.rsplit('/').next().unwrap_or(name);
            current = format!("{name} {}", words.get(1).copied().unwrap_or_default());
        } else if words.first() == Some(&"Private_Dirty:") {
            *parts.entry(current.clone()).or_default() += words[1].parse::<u64>().unwrap_or(0);
        }
    }
    let mut parts: Vec<(String, u64)> = parts.into_iter().filter(|(_, size)| *size > 0).collect();
    parts.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
    parts
}

async fn quiet(table: &mut Table, pid: i32) {
    let switches = || {
        proc_number(pid, "status", "voluntary_ctxt_switches")
            + proc_number(pid, "status", "nonvoluntary_ctxt_switches")
    };
    let before = (cpu_ms(pid), switches());
    tokio::time::sleep(QUIET).await;
    let seconds = QUIET.as_secs_f64();
    let row = |what, unit, baseline, wanted| Row { what, unit, baseline, wanted };
    let cpu = row("supervisor, nothing to do: processor", "ms/s", "5.5 | 5.5", "0.05");
    table.value(cpu, (cpu_ms(pid) - before.0) / seconds);
    let switched = row("supervisor, nothing to do: context switches", "per s", "20.8 | 20.5", "1");
    table.value(switched, (switches() - before.1) / seconds);
}
