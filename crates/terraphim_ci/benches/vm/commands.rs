//! What the commands cost as a user calls them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tokio::runtime::Runtime;

use crate::{
    World,
    measure::{repeat, tci},
    small,
    table::{Table, ms},
};

const COUNT: usize = 15;

pub(crate) fn measure(table: &mut Table, world: &World, runtime: &Runtime) {
    table.group("commands (the processor time is that of the process)");
    let data = world.data();
    table.samples(ms("tci --help", "", "under 15"), repeat(COUNT, || tci(data, &["--help"])));
    let listed = repeat(COUNT, || tci(data, &["vm", "ls"]));
    table.samples(ms("tci vm ls, no VM", "336 | 279, cpu 290 | 278", "10, cpu 5"), listed);
    let file = matrices(data);
    let plan = ["plan", "--event", "push"];
    let planned = repeat(COUNT, || {
        let mut command = tci(data, &plan);
        command.arg(&file);
        command
    });
    table.samples(ms("tci plan, a workflow of 1,000 jobs of matrices", "", "100"), planned);
    let create = ["vm", "create", "--name", "one", "--image", "busybox", "--memory", "128"];
    let (mut created, mut removed) = (Vec::new(), Vec::new());
    for _ in 0..COUNT {
        created.extend(repeat(1, || tci(data, &create)));
        removed.extend(repeat(1, || tci(data, &["vm", "rm", "one"])));
    }
    table.samples(ms("tci vm create", "389 | 291", "15"), created);
    table.samples(ms("tci vm rm, stopped", "417 | 310", "15"), removed);
    let mut spec = small(128);
    spec.name = Some("running".to_owned());
    let vm = world.host.create(&spec).expect("a VM");
    runtime.block_on(world.host.start(&vm.id)).expect("it starts");
    let status = repeat(COUNT, || tci(data, &["vm", "status", "running"]));
    table.samples(ms("tci vm status, running", "256 | 236", "10"), status);
    let qmp = repeat(COUNT, || tci(data, &["vm", "qmp", "running", "query-status"]));
    table.samples(ms("tci vm qmp query-status", "340 | 333", "15"), qmp);
    let ping = repeat(COUNT, || tci(data, &["vm", "ping", "running"]));
    table.samples(ms("tci vm ping", "", "10"), ping);
    runtime.block_on(world.host.remove(&vm.id, true)).expect("it goes");
}

/// A workflow of four matrices of 250 jobs; one has 256 at most.
fn matrices(data: &Path) -> PathBuf {
    let values = (0..250).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
    let job = |n: u8| {
        let strategy = format!("strategy: {{matrix: {{n: [{values}]}}}}");
        format!("  j{n}:\n    runs-on: ubuntu-latest\n    {strategy}\n    steps: [run: 'true']\n")
    };
    let text = format!("on: push\njobs:\n{}", (0..4).map(job).collect::<String>());
    let file = data.join("matrices.yml");
    fs::write(&file, text).expect("a workflow");
    file
}
