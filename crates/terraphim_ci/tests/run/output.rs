//! Output without end.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    process::Stdio,
};

use crate::host::{World, peak_kib};

/// One line: seven digits, then filling, 1 KiB with its end.
const LINES: usize = 1 << 20;

#[test]
fn a_gibibyte_of_output_arrives_complete_and_in_order_through_little_memory() {
    let world = World::new();
    world.workflow(
        "output",
        r#"
on: push
jobs:
  a:
    runs-on: ubuntu-latest
    steps:
      - shell: python
        run: |
          import sys
          fill = b"x" * 1016 + b"\n"
          for block in range(0, 1 << 20, 1024):
              sys.stdout.buffer.write(b"".join(b"%07d" % n + fill for n in range(block, block + 1024)))
      - run: |
          echo "the agent took $(sudo sed -n 's/VmHWM:[^0-9]*\([0-9]*\) kB/\1/p' /proc/1/status) KiB"; sleep 600
"#,
    );
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
            assert_eq!(line[..7], *format!("{next:07}").as_bytes(), "line {next}");
            assert!(line[7..].iter().all(|byte| *byte == b'x'));
            next += 1;
        }
    }
    assert!(logs.wait().unwrap().success());
    assert_eq!(next, LINES);
    let log = File::open(world.data().join("runs/1/job-1.log")).unwrap();
    assert!(log.metadata().unwrap().len() > 1 << 30);
}
