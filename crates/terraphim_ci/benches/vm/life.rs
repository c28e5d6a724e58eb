//! Starting, stopping and losing VMs. No guest is waited for.

use std::time::{Duration, Instant};

use rusqlite::Connection;
use rustix::process::Signal;
use terraphim_vm::{ProcessId, StopOptions, VmId};

use crate::{
    World,
    measure::{RowWatch, death, files_below, milliseconds},
    small,
    table::{Row, Table, ms},
};

/// The guest is not asked, so nothing waits for it.
pub(crate) const NOW: StopOptions = StopOptions { grace: Duration::ZERO };

pub(crate) async fn measure(table: &mut Table, world: &World) {
    table.group("life of a VM (library calls; the supervisor is a process of its own)");
    start_and_stop(table, world).await;
    crashes(table, world).await;
    by_database(table, world).await;
}

/// A new VM that runs: its id, its supervisor, its hypervisor.
async fn running(world: &World) -> (VmId, ProcessId, ProcessId) {
    let vm = world.host.create(&small(128)).expect("a VM");
    let vm = world.host.start(&vm.id).await.expect("it starts");
    (vm.id, vm.supervisor.expect("a supervisor"), vm.hypervisor.expect("a hypervisor"))
}

fn between(begun: Instant, end: Instant) -> f64 {
    end.saturating_duration_since(begun).as_secs_f64() * 1000.0
}

async fn start_and_stop(table: &mut Table, world: &World) {
    let (host, registry) = (&world.host, world.host.paths().registry());
    let (mut started, mut row, mut stopped) = (Vec::new(), Vec::new(), Vec::new());
    let (mut hypervisor_dead, mut supervisor_dead, mut forced) = (Vec::new(), Vec::new(), Vec::new());
    let mut too_early = 0.0;
    for _ in 0..15 {
        let vm = host.create(&small(128)).expect("a VM");
        let watch = RowWatch::start(registry.clone(), &vm.id, "running");
        let begun = Instant::now();
        let vm = host.start(&vm.id).await.expect("it starts");
        started.push(milliseconds(begun));
        row.push(between(begun, watch.seen()));
        let hypervisor = death(vm.hypervisor.as_ref().expect("a hypervisor"));
        let supervisor = death(vm.supervisor.as_ref().expect("a supervisor"));
        let watch = RowWatch::beside(registry.clone(), &vm.id, "stopped", vm.hypervisor.clone());
        let begun = Instant::now();
        host.stop(&vm.id, &NOW).await.expect("it stops");
        stopped.push(milliseconds(begun));
        hypervisor_dead.push(between(begun, hypervisor.join().expect("the watcher")));
        supervisor_dead.push(between(begun, supervisor.join().expect("the watcher")));
        too_early += f64::from(u8::from(watch.seen_while_alive()));
        host.start(&vm.id).await.expect("it starts");
        let begun = Instant::now();
        host.remove(&vm.id, true).await.expect("it goes");
        forced.push(milliseconds(begun));
    }
    table.samples(ms("start until it returns", "935 | 1014", "QEMU + 60"), started);
    table.samples(ms("start until the row says running", "710 | 795", "QEMU + 40"), row);
    table.samples(ms("stop until it returns", "1339 | 1382", "QEMU + 40"), stopped);
    table.samples(ms("stop until QEMU is dead", "298 | 328", "20"), hypervisor_dead);
    table.samples(ms("stop until the supervisor is dead", "353 | 423", "40"), supervisor_dead);
    let early =
        Row { what: "row says stopped before QEMU is dead", unit: "of 15", baseline: "12", wanted: "0" };
    table.value(early, too_early);
    table.samples(ms("forced removal of a running VM", "1335 | 1367 (stop --force)", "50"), forced);
}

async fn crashes(table: &mut Table, world: &World) {
    let host = &world.host;
    let (mut row, mut gone, mut leaves, mut dies) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut left_by_qemu, mut left_by_supervisor) = (0.0, 0.0);
    for _ in 0..7 {
        let (id, supervisor, hypervisor) = running(world).await;
        let watch = RowWatch::start(host.paths().registry(), &id, "stopped");
        let (own_end, end) = (death(&hypervisor), death(&supervisor));
        let begun = Instant::now();
        hypervisor.signal(Signal::KILL).expect("a signal");
        row.push(between(begun, watch.seen()));
        gone.push(between(begun, own_end.join().expect("the watcher")));
        leaves.push(between(begun, end.join().expect("the watcher")));
        left_by_qemu += files_below(&host.paths().vm_runtime(&id));
        host.remove(&id, true).await.expect("it goes");

        let (id, supervisor, hypervisor) = running(world).await;
        let end = death(&hypervisor);
        let begun = Instant::now();
        supervisor.signal(Signal::KILL).expect("a signal");
        dies.push(between(begun, end.join().expect("the watcher")));
        // The next command brings everything in line.
        host.stop(&id, &NOW).await.expect("it is seen to have ended");
        left_by_supervisor += files_below(&host.paths().vm_runtime(&id));
        host.remove(&id, true).await.expect("it goes");
    }
    table.samples(ms("kill -9 QEMU: until the kernel has ended it", "", "-"), gone);
    table.samples(ms("kill -9 QEMU: until the row says stopped", "28 | 40", "10"), row);
    table.samples(ms("kill -9 QEMU: until the supervisor is dead", "131 | 146", "30"), leaves);
    table.samples(ms("kill -9 supervisor: until QEMU is dead", "0.3 | 5.4", "the same"), dies);
    let left = |what| Row { what, unit: "of 7", baseline: "7", wanted: "0" };
    table.value(left("files left by a crash of QEMU"), left_by_qemu);
    table.value(left("files left by a crash of the supervisor + 1 command"), left_by_supervisor);
}

/// What an operator's SQLite shell does.
async fn by_database(table: &mut Table, world: &World) {
    let statements = [
        (
            "UPDATE vms SET desired = 'stopped' WHERE id = ?1",
            ms("row says stop: until all is dead", "5015 | 4993", "1000"),
        ),
        ("DELETE FROM vms WHERE id = ?1", ms("row deleted: until all is dead", "4997 | 5063", "1000")),
    ];
    let database = Connection::open(world.host.paths().registry()).expect("the registry");
    database.busy_timeout(Duration::from_secs(10)).expect("a setting");
    for (statement, row) in statements {
        let mut times = Vec::new();
        for _ in 0..5 {
            let (id, supervisor, hypervisor) = running(world).await;
            // Stopping through the database asks the guest too, which is still booting: it is not waited for here.
            let (supervisor, hypervisor) = (death(&supervisor), death(&hypervisor));
            let begun = Instant::now();
            database.execute(statement, [id.as_str()]).expect("a statement");
            let ends = [supervisor, hypervisor].map(|end| between(begun, end.join().expect("the watcher")));
            times.push(ends[0].max(ends[1]));
            let _ = world.host.remove(&id, true).await;
        }
        table.samples(row, times);
    }
}
