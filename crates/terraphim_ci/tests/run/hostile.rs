//! Steps that do their worst to the guest.

use rustix::process::{Pid, Signal, kill_process};

use crate::host::{Said, World};

fn job(steps: &str) -> String {
    format!("on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n{steps}")
}

/// The VM is lost: nobody knows how the workflow would have ended.
fn loses_the_vm(command: &str, why: &str) {
    let world = World::new();
    let step = format!(
        "      - run: echo before; {command}; sleep 600\n      - if: always()\n        run: echo after\n"
    );
    world.workflow("lost", &job(&step));
    let (said, report) = world.run(&["--memory", "256"]);
    said.ends(3, &["before\n", "infrastructure fault", "the VM was lost: ", why]);
    assert_eq!(said.errors(), 1, "{said:#?}");
    assert!(!said.stdout.contains("after\n"), "{said:#?}");
    assert_eq!(report["conclusion"], "infrastructure_fault");
    assert!(report["message"].as_str().unwrap().contains(why), "{report}");
    world.tell(&["runs", "show", "1"]).ends(0, &[why]);
    world.assert_clean();
}

#[test]
fn a_crash_of_the_kernel_is_an_infrastructure_fault() {
    loses_the_vm("sudo sh -c 'echo c > /proc/sysrq-trigger'", "the guest rebooted or its kernel panicked");
}

#[test]
fn a_guest_that_powers_off_is_an_infrastructure_fault() {
    loses_the_vm("sudo sh -c 'echo o > /proc/sysrq-trigger'", "the guest powered itself off");
}

#[test]
fn a_hypervisor_or_supervisor_that_dies_is_an_infrastructure_fault() {
    let cases = [
        // While a process is being started, while one runs, and in the middle of its output.
        ("1/1 Work", "sleep 600", "qemu-system", "the VM was lost: the hypervisor died"),
        (" started", "sleep 600", "qemu-system", "the VM was lost: the hypervisor died"),
        (" output", "yes output", "qemu-system", "the VM was lost: the hypervisor died"),
        (
            " started",
            "sleep 600",
            " vm-supervisor ",
            "the VM was lost: the VM ended and its supervisor with it",
        ),
    ];
    for (moment, command, program, why) in cases {
        let world = World::new();
        world.workflow("lost", &job(&format!("      - name: Work\n        run: echo started; {command}\n")));
        let mut running = world.start(&["run"]);
        running.until(moment);
        // The supervisor's keeper, which has the same arguments, is the older one.
        let victim = world.processes().into_iter().rfind(|(_, line)| line.contains(program)).unwrap().0;
        kill_process(Pid::from_raw(victim).unwrap(), Signal::KILL).unwrap();
        let (code, said) = running.end();
        assert_eq!(code, 3, "{said}");
        assert!(said.contains(why), "{said}");
    }
}

#[test]
fn the_guest_survives_a_full_disk_no_memory_and_the_killing_of_init() {
    let world = World::new();
    world.workflow(
        "worst",
        &job(r#"
      - name: Kill init
        run: sudo kill -KILL 1; sudo kill -TERM 1; sudo kill -SEGV 1; echo "init lives"
      - name: Kill everything
        run: sudo python3 -c 'import os; os.kill(-1, 9)'; sleep 600
      - name: Fill the disk
        if: always()
        run: dd if=/dev/zero of=big bs=1M
      - name: Still there with a full disk
        if: always()
        run: df . | grep 100%; rm big
      - name: Take all memory
        if: always()
        run: python3 -c 'all = [bytearray(10 << 20) for _ in range(1000)]'
      - name: Still there without memory
        if: always()
        run: echo "last step ran"
"#),
    );
    let (said, report) = world.run(&["--disk", "64", "--memory", "192"]);
    said.ends(1, &["init lives", "No space left on device", "100%", "Killed", "last step ran"]);
    let steps = report["jobs"][0]["steps"].as_array().unwrap();
    let codes: Vec<i64> = steps.iter().map(|step| step["exit_code"].as_i64().unwrap()).collect();
    assert_eq!(codes, [0, 137, 1, 0, 137, 0]);
}

#[test]
fn a_host_without_room_for_output_is_an_infrastructure_fault() {
    let world = World::new();
    world.workflow("room", &job("      - run: yes output\n"));
    // Files of tci and of the supervisor may have 8 MiB; as on a full disk, the write that crosses it fails.
    let mut limited = world.limited_to(8 << 20, &["run"]);
    let said = Said::of(&limited.output().unwrap());
    assert_eq!(said.code, 3, "{}", said.stderr);
    let reason = ["cannot store its output", "the run could not be recorded"];
    assert!(reason.iter().any(|reason| said.stderr.contains(reason)), "{}", said.stderr);
}

#[test]
fn a_host_without_room_for_a_vm_is_an_infrastructure_fault() {
    let world = World::new();
    world.workflow("room", &job("      - run: echo never\n"));
    // Not even a registry or a disk's header fits.
    let said = Said::of(&world.limited_to(16 << 10, &["run"]).output().unwrap());
    assert_eq!(said.code, 3, "{said:#?}");
    assert_eq!(said.errors(), 1, "{said:#?}");
    assert!(!said.all().contains("panicked at"), "{said:#?}");
}

#[test]
fn a_step_that_forks_without_end_can_be_cancelled_and_cleaned_up_after() {
    let world = World::new();
    world.workflow(
        "bomb",
        &job(r#"
      - shell: bash
        run: |
          bomb() { bomb | bomb & }
          bomb
          sleep 600
      - if: always()
        run: echo cleaned up
"#),
    );
    let mut running = world.start(&["run", "--memory", "192", "--cpus", "1"]);
    running.until("fork: retry");
    running.signal(Signal::INT);
    let (code, said) = running.end();
    assert_eq!(code, 130);
    assert!(said.contains("cleaned up"), "the last step did not run");
}
