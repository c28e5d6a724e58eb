//! What a VM notices of another one that takes all it can.

use std::time::Instant;

use terraphim_vm::{Limits, ProcessId, VmClient, VmSpec, protocol::message::ExecRequest};

use crate::{
    World,
    guest::run,
    life::NOW,
    measure::milliseconds,
    small,
    table::{Row, Table, ms},
};

/// A command's round trip may take so many times as long beside a limited neighbour as alone, by medians.
const FACTOR: &str = "3";

/// Counts on every processor, and fills memory that it then reads again and again.
const GREED: &str = "for each in 1 2; do while :; do :; done & done
    dd if=/dev/zero of=/tmp/fill bs=1M count=96 2>/dev/null; while :; do cat /tmp/fill > /dev/null; done";

pub(crate) async fn measure(table: &mut Table, world: &World) {
    table.group("a VM whose neighbour burns two processors and fills its memory");
    let quiet = start(world, &small(256)).await;
    let alone = round_trips(&quiet).await;
    let greedy = VmSpec { vcpus: 2, ..small(256) };
    let unlimited = beside(world, &quiet, &greedy).await;
    let limits = Limits {
        cpu_percent: Some(100),
        cpu_weight: Some(10),
        memory_mib: Some(1024),
        disk_iops: Some(200),
        ..Limits::default()
    };
    let limited = beside(world, &quiet, &VmSpec { limits, ..greedy }).await;
    world.host.stop(quiet.id(), &NOW).await.expect("it stops");
    let times = |samples: &[f64]| median(samples) / median(&alone);
    let row = |what, wanted| Row { what, unit: "x", baseline: "", wanted };
    let (free, bound) = (times(&unlimited), times(&limited));
    table.samples(ms("exec of true, alone", "", "-"), alone);
    table.samples(ms("exec of true, neighbour without limits", "", "-"), unlimited);
    table.samples(ms("exec of true, neighbour with limits", "", "-"), limited);
    table.value(row("neighbour without limits: times as long as alone", "-"), free);
    table.value(row("neighbour with limits: times as long as alone", FACTOR), bound);
}

async fn start(world: &World, spec: &VmSpec) -> VmClient {
    let me = ProcessId::current().expect("this process");
    let vm = world.host.create(spec).expect("a VM");
    world.host.start_owned(&vm.id, &me).await.expect("it starts");
    let client = world.host.client(&vm.id).expect("a client");
    client.wait_agent().await.expect("it boots");
    client
}

async fn round_trips(client: &VmClient) -> Vec<f64> {
    let mut times = Vec::new();
    for _ in 0..100 {
        let begun = Instant::now();
        run(client, &["/bin/true"]).await;
        times.push(milliseconds(begun));
    }
    times
}

/// The same while another VM does its worst.
async fn beside(world: &World, quiet: &VmClient, greedy: &VmSpec) -> Vec<f64> {
    let neighbour = start(world, greedy).await;
    let argv = ["sh", "-c", GREED].map(str::to_owned).into();
    let request = ExecRequest { argv, inherit_env: true, ..ExecRequest::default() };
    let _greed = neighbour.exec(&request).await.expect("it runs");
    let times = round_trips(quiet).await;
    world.host.stop(neighbour.id(), &NOW).await.expect("it stops");
    times
}

fn median(samples: &[f64]) -> f64 {
    let mut samples = samples.to_vec();
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}
