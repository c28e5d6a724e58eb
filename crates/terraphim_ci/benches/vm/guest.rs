//! The guest: its start, and what it takes to run something in it.

use std::time::Instant;

use terraphim_vm::{ExecEvent, ProcessId, VmClient, protocol::message::ExecRequest};

use crate::{
    World,
    life::NOW,
    measure::{cpu_ms, milliseconds},
    small,
    table::{Row, Table, ms},
};

pub(crate) async fn measure(table: &mut Table, world: &World) {
    table.group("a guest (busybox, one processor)");
    let host = &world.host;
    let me = ProcessId::current().expect("this process");
    let (mut boot, mut first) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let begun = Instant::now();
        let vm = host.create(&small(512)).expect("a VM");
        host.start_owned(&vm.id, &me).await.expect("it starts");
        let client = host.client(&vm.id).expect("a client");
        client.wait_agent().await.expect("it boots");
        boot.push(milliseconds(begun));
        run(&client, &["true"]).await;
        first.push(milliseconds(begun));
        host.stop(&vm.id, &NOW).await.expect("it stops");
    }
    let allocation = "N2: 50 was promised; there is no pool yet, so this is a cold boot";
    table.samples(ms("create to the agent's answer (an allocation)", "", allocation), boot);
    table.samples(ms("create to the end of the first command", "", "N1: 5000-10000"), first);
    let vm = host.create(&small(512)).expect("a VM");
    let vm = host.start_owned(&vm.id, &me).await.expect("it starts");
    let client = host.client(&vm.id).expect("a client");
    client.wait_agent().await.expect("it boots");
    exchanges(table, &client, vm.supervisor.expect("a supervisor").pid).await;
    bulk(table, &client).await;
    host.stop(&vm.id, &NOW).await.expect("it stops");
}

async fn exchanges(table: &mut Table, client: &VmClient, supervisor: i32) {
    let mut agent = Vec::new();
    for _ in 0..500 {
        let begun = Instant::now();
        client.wait_agent().await.expect("an agent");
        agent.push(milliseconds(begun));
    }
    table.samples(ms("agent through the supervisor (connect, ask, answer)", "", "1"), agent);
    // In turn with the guest's own, so that both see the same load of this machine.
    let (mut own, mut whole) = (Vec::new(), Vec::new());
    let cpu = cpu_ms(supervisor);
    for _ in 0..10 {
        own.push(own_true(client).await);
        for _ in 0..20 {
            let begun = Instant::now();
            run(client, &["/bin/true"]).await;
            whole.push(milliseconds(begun));
        }
    }
    let added = least(&whole) - least(&own);
    table.samples(ms("guest's own fork, exec and wait of true, by its shell", "", "-"), own.clone());
    table.samples(ms("exec of true, whole", "", "-"), whole.clone());
    let row =
        Row { what: "exec of true, added to the guest's own: minima", unit: "ms", baseline: "", wanted: "3" };
    table.value(row, added);
    let row = Row {
        what: "exec of true, added to the guest's own: medians",
        unit: "ms",
        baseline: "",
        wanted: "3",
    };
    table.value(row, median(&whole) - median(&own));
    let row =
        Row { what: "exec of true: processor time of the supervisor", unit: "ms", baseline: "", wanted: "1" };
    table.value(row, (cpu_ms(supervisor) - cpu) / 210.0);
}

fn least(samples: &[f64]) -> f64 {
    samples.iter().copied().fold(f64::INFINITY, f64::min)
}

fn median(samples: &[f64]) -> f64 {
    let mut samples = samples.to_vec();
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

/// What the guest needs for one `true` when nobody outside is asked: a shell's loop, measured by the guest, without what
/// the shell itself needs.
pub(crate) async fn own_true(client: &VmClient) -> f64 {
    const MORE: f64 = 25.0;
    let loops = async |count: u32| {
        let script = format!("i=0; while [ $i -lt {count} ]; do /bin/true; i=$((i+1)); done");
        run(client, &["sh", "-c", &script]).await.1
    };
    (loops(30).await - loops(5).await) / MORE / 1000.0
}

async fn bulk(table: &mut Table, client: &VmClient) {
    const BULK_MIB: u32 = 256;
    let begun = Instant::now();
    let script = format!("dd if=/dev/zero bs=256k count={} 2>/dev/null", BULK_MIB * 4);
    let (bytes, _) = run(client, &["sh", "-c", &script]).await;
    let seconds = begun.elapsed().as_secs_f64();
    assert_eq!(bytes, u64::from(BULK_MIB) << 20);
    let row = Row { what: "output of a process", unit: "MB/s", baseline: "", wanted: "60" };
    table.value(row, f64::from(BULK_MIB) * 1.048_576 / seconds);
}

/// Runs to the end: bytes of standard output, and the guest's own time in microseconds.
pub(crate) async fn run(client: &VmClient, argv: &[&str]) -> (u64, f64) {
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
