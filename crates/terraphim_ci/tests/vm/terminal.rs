//! A terminal of ours, a program in a VM that has it, and what is left of it afterwards.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::unix::process::CommandExt as _,
    process::{Child, Stdio},
    time::Instant,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, OFlags},
    process::{Pid, Signal, WaitOptions, kill_process, waitpid},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};

use crate::host::{LIMIT, World, code};

/// A pseudo-terminal with a `tci` that has it for its controlling terminal.
struct Session {
    screen: File,
    terminal: File,
    child: Child,
    seen: Vec<u8>,
    before: String,
}

impl Session {
    fn open(world: &World, args: &[&str]) -> Session {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let screen = openpt(flags).unwrap();
        grantpt(&screen).unwrap();
        unlockpt(&screen).unwrap();
        let name = ptsname(&screen, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let terminal = File::from(rustix::fs::open(name, flags, Mode::empty()).unwrap());
        tcsetwinsize(&terminal, Winsize { ws_row: 33, ws_col: 101, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let before = modes(&terminal);
        let stdio = || Stdio::from(terminal.try_clone().unwrap());
        let mut command = world.tci();
        command.args(args).stdin(stdio()).stdout(stdio()).stderr(stdio());
        let lead = || {
            rustix::process::setsid()?;
            Ok(rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?)
        };
        // SAFETY: between fork and exec the closure makes two system calls and allocates nothing.
        unsafe { command.pre_exec(lead) };
        let child = command.spawn().unwrap();
        Session { screen: screen.into(), terminal, child, seen: Vec::new(), before }
    }

    fn write(&mut self, text: &str) {
        self.screen.write_all(text.as_bytes()).unwrap();
    }

    /// Waits until the screen shows `text`.
    #[track_caller]
    fn until(&mut self, text: &str) {
        let deadline = Instant::now() + LIMIT;
        while !self.seen.windows(text.len()).any(|window| window == text.as_bytes()) {
            let shown = || String::from_utf8_lossy(&self.seen).into_owned();
            let left = deadline.saturating_duration_since(Instant::now());
            let limit = Timespec::try_from(left).unwrap();
            let mut wait = [PollFd::new(&self.screen, PollFlags::IN)];
            let ready = poll(&mut wait, Some(&limit)).unwrap();
            assert!(ready > 0, "never showed {text:?}, but: {}", shown());
            let mut buffer = [0; 4096];
            let read = self.screen.read(&mut buffer).unwrap_or_else(|error| panic!("{error}: {}", shown()));
            self.seen.extend_from_slice(&buffer[..read]);
        }
        self.seen.clear();
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(&self.terminal).unwrap().local_modes.contains(LocalModes::ICANON)
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end of `tci`; the terminal must be as it was.
    #[track_caller]
    fn end(mut self) -> i32 {
        let status = self.child.wait().unwrap();
        assert_eq!(modes(&self.terminal), self.before, "the terminal is not as it was");
        code(status)
    }
}

fn modes(terminal: &File) -> String {
    let modes = tcgetattr(terminal).unwrap();
    format!(
        "{:?} {:?} {:?} {:?}",
        modes.input_modes, modes.output_modes, modes.control_modes, modes.local_modes
    )
}

/// Stopped by another process, as Ctrl-Z is a key; and ended by an alarm of its own.
fn a_stopped_client_gives_the_terminal_back(world: &World) {
    let mut shell = Session::open(world, &["vm", "shell", "web"]);
    shell.write("echo re\"\"ady\n");
    shell.until("ready");
    assert!(shell.is_raw());
    shell.signal(Signal::TSTP);
    let stopped = waitpid(Some(Pid::from_child(&shell.child)), WaitOptions::UNTRACED).unwrap();
    assert!(stopped.unwrap().1.stopped());
    assert_eq!(modes(&shell.terminal), shell.before);
    let size = Winsize { ws_row: 50, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&shell.terminal, size).unwrap();
    shell.signal(Signal::CONT);
    let deadline = Instant::now() + LIMIT;
    while !shell.is_raw() {
        assert!(Instant::now() < deadline, "it is not raw again");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    shell.write("until [ \"$(stty size)\" = '50 80' ]; do sleep 0.1; done; echo aga\"\"in\n");
    shell.until("again");
    shell.signal(Signal::ALARM);
    assert_eq!(shell.end(), 128 + Signal::ALARM.as_raw());
}

#[test]
fn the_terminal_is_restored_however_a_shell_ends() {
    let world = World::new();
    world.define("web", &[]);
    world.vm_ok(&["start", "web"]);

    let mut shell = Session::open(&world, &["vm", "shell", "web"]);
    // The echo shows what was typed; only the shell puts the two halves together.
    shell.write("echo re\"\"ady $(stty size)\n");
    shell.until("ready 33 101");
    assert!(shell.is_raw());
    let size = Winsize { ws_row: 40, ws_col: 90, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&shell.terminal, size).unwrap();
    shell.write("until [ \"$(stty size)\" = '40 90' ]; do sleep 0.1; done; echo re\"\"sized\n");
    shell.until("resized");
    // Ctrl-C is a key: it ends what runs in the guest, not us. One program says that it waits and waits: between an `echo`
    // of the shell's own and a program after it the key would reach the shell alone, and the program would go on.
    shell.write("sh -c 'echo wa\"\"iting; exec sleep 1000'\n");
    shell.until("waiting");
    shell.write("\x03");
    shell.write("echo st\"\"ill\n");
    shell.until("still");
    shell.write("exit 5\n");
    assert_eq!(shell.end(), 5);

    a_stopped_client_gives_the_terminal_back(&world);

    // What does not care about signals is left to itself at the second one.
    let stubborn = "trap '' TERM; echo ru''ns; while :; do sleep 1; done";
    let mut exec = Session::open(&world, &["vm", "exec", "-it", "web", "--", "sh", "-c", stubborn]);
    exec.until("runs");
    assert!(exec.is_raw());
    exec.signal(Signal::TERM);
    exec.signal(Signal::TERM);
    // Two of a kind may have become one before they were looked at.
    exec.signal(Signal::HUP);
    assert!([129, 143].contains(&exec.end()));

    // The VM goes away under it.
    let mut shell = Session::open(&world, &["vm", "shell", "web"]);
    shell.write("echo re\"\"ady\n");
    shell.until("ready");
    world.vm_ok(&["stop", "web", "--grace", "0"]);
    assert_eq!(shell.end(), 3);

    let shell = Session::open(&world, &["vm", "shell", "web"]);
    assert_eq!(shell.end(), 2, "it does not run");
    world.remove("web");
}
