//! QEMU alone: what nobody who starts it can be faster than.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
    time::Instant,
};

use crate::{
    World,
    measure::milliseconds,
    table::{Table, ms},
};

pub(crate) fn measure(table: &mut Table, world: &World) {
    table.group("QEMU alone (the machine of our VMs with its kernel, without its disks)");
    let image = world.host.images().and_then(|images| Ok(images.resolve("busybox")?)).expect("the image");
    let (mut answered, mut ended) = (Vec::new(), Vec::new());
    for _ in 0..15 {
        let begun = Instant::now();
        let mut qemu = Command::new("qemu-system-x86_64")
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-M"])
            .args(["microvm,x-option-roms=off,isa-serial=on,acpi=on", "-bios", "qboot.rom"])
            .args(["-accel", "tcg", "-cpu", "max", "-m", "128", "-qmp", "stdio", "-kernel"])
            .arg(&image.kernel)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("QEMU starts");
        let mut input = qemu.stdin.take().expect("its input");
        let mut lines = BufReader::new(qemu.stdout.take().expect("its output")).lines();
        let mut ask = |command: &str| {
            writeln!(input, "{{\"execute\": \"{command}\"}}").expect("it reads");
            // Events may come in between.
            lines.by_ref().map(|line| line.expect("it answers")).find(|line| line.contains("\"return\""))
        };
        ask("qmp_capabilities").expect("an answer");
        answered.push(milliseconds(begun));
        let begun = Instant::now();
        ask("quit").expect("an answer");
        assert!(qemu.wait().expect("its end").success());
        ended.push(milliseconds(begun));
    }
    table.samples(ms("QEMU: from spawn to its first answer", "50 | 50", "-"), answered);
    table.samples(ms("QEMU: from `quit` to its end", "2.5 | 4.6", "-"), ended);
}
