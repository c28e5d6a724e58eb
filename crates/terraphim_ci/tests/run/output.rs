//! Output without end.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    process::Stdio,
};

use crate::host::{World, peak_kib};

/// One line has 1 KiB: seven digits, filling, its end. The first of a block holds the block's number, the others
/// their own in the block.
const BLOCK: usize = 1024;

#[test]
fn output_arrives_complete_and_in_order_through_little_memory() {
    passes(256);
}

#[test]
#[ignore = "soak: a gibibyte takes an emulated guest most of a minute"]
fn soak_a_gibibyte_of_output_arrives_complete_and_in_order_through_little_memory() {
    passes(1024);
}

/// So many MiB: more than what any process may take on the way.
fn passes(mebibytes: usize) {
    let world = World::new();
    let workflow = r#"
on: push
jobs:
  a:
    runs-on: ubuntu-latest
    steps:
      - shell: python
        run: |
          import sys
          block = bytearray(b"".join(b"%07d" % n + b"x" * 1016 + b"\n" for n in range(1024)))
          for n in range(MEBIBYTES):
              block[:7] = b"%07d" % n
              sys.stdout.buffer.write(block)
      - run: |
          echo "the agent took $(sudo sed -n 's/VmHWM:[^0-9]*\([0-9]*\) kB/\1/p' /proc/1/status) KiB"; sleep 600
"#;
    world.workflow("output", &workflow.replace("MEBIBYTES", &mebibytes.to_string()));
    let mut running = world.start(&["run"]);
    let line = running.until(" the agent took ");
    let agent: u64 = line.split_whitespace().rev().nth(1).unwrap().parse().unwrap();
    let (tci, supervisor) = (peak_kib(running.pid()).unwrap(), world.supervisor_peak_kib());
    assert!(tci < 200 * 1024, "tci took {tci} KiB");
    assert!(supervisor < 64 * 1024, "the supervisor took {supervisor} KiB");
    assert!(agent < 64 * 1024, "the agent took {agent} KiB");
    running.signal(rustix::process::Signal::INT);
    assert_eq!(running.end().0, 130);
    // The stored log, as it was given to the terminal.
    let mut logs =
        world.tci().args(["runs", "logs", "1", "--step", "1"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut next = 0;
    for line in BufReader::new(logs.stdout.take().unwrap()).split(b'\n') {
        let line = line.unwrap();
        if line.len() == 1023 && line.ends_with(b"xxx") {
            let number = if next % BLOCK == 0 { next / BLOCK } else { next % BLOCK };
            assert_eq!(line[..7], *format!("{number:07}").as_bytes(), "line {next}");
            assert!(line[7..].iter().all(|byte| *byte == b'x'));
            next += 1;
        }
    }
    assert!(logs.wait().unwrap().success());
    assert_eq!(next, mebibytes * BLOCK);
    let log = File::open(world.data().join("runs/1/job-1.log")).unwrap();
    assert!(log.metadata().unwrap().len() > (mebibytes as u64) << 20);
}
