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
    let (mut own, mut whole, mut added) = (Vec::new(), Vec::new(), Vec::new());
    let cpu = cpu_ms(supervisor);
    for _ in 0..10 {
        own.push(own_true(client).await);
        for _ in 0..20 {
            let begun = Instant::now();
            let (_, guest_us) = run(client, &["/bin/true"]).await;
            let took = milliseconds(begun);
            whole.push(took);
            added.push(took - guest_us / 1000.0);
        }
    }
    table.samples(ms("guest's own fork, exec and wait of true, by its shell", "", "-"), own);
    table.samples(ms("exec of true, whole", "", "-"), whole);
    table.samples(ms("exec of true, added to its own fork to end as the guest measures it", "", "3"), added);
    let row =
        Row { what: "exec of true: processor time of the supervisor", unit: "ms", baseline: "", wanted: "1" };
    table.value(row, (cpu_ms(supervisor) - cpu) / 210.0);
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

/// Output of a process, in turn with what the guest's own pipe carries between two of its processes: the host cannot get
/// more than that.
async fn bulk(table: &mut Table, client: &VmClient) {
    const BULK_MIB: u32 = 128;
    let blocks = BULK_MIB * 4;
    let rate = |seconds: f64| f64::from(BULK_MIB) * 1.048_576 / seconds;
    let (mut own, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let script = format!("dd if=/dev/zero bs=256k count={blocks} 2>/dev/null | cat > /dev/null");
        own.push(rate(run(client, &["sh", "-c", &script]).await.1 / 1e6));
        let begun = Instant::now();
        let script = format!("dd if=/dev/zero bs=256k count={blocks} 2>/dev/null");
        let (bytes, _) = run(client, &["sh", "-c", &script]).await;
        ours.push(rate(begun.elapsed().as_secs_f64()));
        assert_eq!(bytes, u64::from(BULK_MIB) << 20);
    }
    let middle = |rates: &mut Vec<f64>| {
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    };
    let row = |what, unit, wanted| Row { what, unit, baseline: "", wanted };
    let (own, ours) = (middle(&mut own), middle(&mut ours));
    table.value(row("a pipe of the guest's own (dd | cat)", "MB/s", "-"), own);
    table.value(row("output of a process", "MB/s", "60"), ours);
    table.value(row("output of a process, as a part of the guest's own pipe", "x", ""), ours / own);
}

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
