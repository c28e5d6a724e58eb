//! Kills at named points of every operation: whatever was killed, one command of any kind brings registry and reality
//! together, and the VM can be started or is gone.

use std::{
    fs,
    process::{Child, Command, Stdio},
};

use rustix::process::Signal;
use terraphim_vm::{
    VmRecord, VmState,
    fault::{Action, Point},
};

use crate::{
    host::{NOW, TestHost, finish},
    processes::{Process, Role},
};

/// What is done when a point is passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Start,
    Exec,
    Snapshot,
    Rollback,
    Stop,
    Remove,
    /// The supervisor was killed and its keeper clears up.
    Crash,
}

impl Operation {
    pub(crate) fn of(point: Point) -> Operation {
        let name = point.name();
        let is = |part: &str| name.contains(part);
        match () {
            () if is("create") => Operation::Create,
            // Before the starts: an execution has one too.
            () if is("exec") => Operation::Exec,
            () if is("start") => Operation::Start,
            () if is("snapshot") => Operation::Snapshot,
            () if is("rollback") => Operation::Rollback,
            () if is("remove") => Operation::Remove,
            () if is("keeper") || is("repair") => Operation::Crash,
            () if is("stop") || is("supervisor.end") => Operation::Stop,
            () => panic!("{name}: to which operation does it belong?"),
        }
    }

    /// Whether the guest has to answer for it.
    pub(crate) fn needs_guest(self) -> bool {
        matches!(self, Operation::Exec | Operation::Snapshot | Operation::Rollback)
    }
}

/// One VM on its way to a point.
pub(crate) struct Case {
    pub(crate) test: TestHost,
    point: Point,
    action: Action,
    runtime: tokio::runtime::Runtime,
}

impl Case {
    pub(crate) fn new(point: Point, action: Action) -> Case {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Case { test: TestHost::new(), point, action, runtime }
    }

    fn faulty(&self, args: &[&str]) -> Command {
        let mut command = self.test.faulty(args, self.point, self.action);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Begins the operation that passes the point: the command, where it is one.
    pub(crate) fn begin(&self) -> Option<Child> {
        let operation = Operation::of(self.point);
        if operation == Operation::Create {
            let args = ["vm", "create", "--image", "busybox", "--memory", "128", "--disk", "256"];
            return Some(self.faulty(&args).spawn().unwrap());
        }
        let vm = self.test.create();
        let id = vm.id.as_str();
        let mut start = self.faulty(&["vm", "start", id]).spawn().unwrap();
        if operation == Operation::Start {
            return Some(start);
        }
        if operation.needs_guest() {
            assert!(start.wait().unwrap().success());
        } else {
            self.test.wait_until("the start", || self.row().is_some_and(|row| row.state == VmState::Running));
            start.kill().unwrap();
            start.wait().unwrap();
        }
        let curl = |path: &str, body: String| self.curl(path, &body);
        match operation {
            Operation::Exec => Some(self.faulty(&["vm", "exec", id, "--", "echo", "hello"]).spawn().unwrap()),
            Operation::Snapshot => Some(curl("snapshots", r#"{"name": "one"}"#.to_owned())),
            Operation::Rollback => {
                let client = self.test.host.client(&vm.id).unwrap();
                let snapshot = self.runtime.block_on(client.snapshot("one", None)).unwrap();
                Some(curl("rollback", format!(r#"{{"id": "{}"}}"#, snapshot.id)))
            }
            Operation::Stop => Some(self.faulty(&["vm", "stop", "--grace", "0", id]).spawn().unwrap()),
            Operation::Remove => Some(self.faulty(&["vm", "rm", "--force", id]).spawn().unwrap()),
            _ => {
                self.test.process(Role::Supervisor).unwrap().kill();
                if self.action != Action::Stop {
                    self.test.wait_until("the keeper's end", || self.test.process(Role::Keeper).is_none());
                }
                None
            }
        }
    }

    /// A client of the control socket: there is no command for this call.
    fn curl(&self, call: &str, body: &str) -> Child {
        let socket = self.row().unwrap().socket.unwrap();
        let mut curl = Command::new("curl");
        self.test.hermetic(&mut curl);
        curl.args(["-sS", "--unix-socket", socket.to_str().unwrap(), "-d", body]);
        curl.arg(format!("http://vm/v1/{call}"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// The only VM.
    pub(crate) fn row(&self) -> Option<VmRecord> {
        self.test.rows().into_iter().next()
    }

    /// One command, then registry and reality agree and stay so; the VM can be started.
    pub(crate) fn settle(&self, command: &[&str]) {
        let id = self.row().map(|row| row.id.to_string());
        let args: Vec<&str> = command
            .iter()
            .map(|arg| if *arg == "VM" { id.as_deref().unwrap_or("none") } else { arg })
            .collect();
        let said = self.test.tell(&args);
        assert!(!said.stderr.contains("panicked"), "{said:#?}");
        // A supervisor that fails gives up its socket before its row: for a moment the row says that it runs, and all are there.
        let answers = |row: &VmRecord| {
            row.state != VmState::Running || self.test.tell(&["vm", "ping", row.id.as_str()]).code == Some(0)
        };
        self.test.wait_until(&format!("peace after {} and {args:?}", self.point.name()), || {
            disagreement(&self.test).is_none() && self.row().is_none_or(|row| answers(&row))
        });
        let Some(row) = self.row() else { return };
        if row.state != VmState::Running {
            let again = self.runtime.block_on(self.test.host.start(&row.id)).unwrap();
            assert_eq!((again.state, again.epoch), (VmState::Running, row.epoch + 1));
        }
        let snapshots = self.test.host.paths().vm(&row.id).join("snapshots");
        let unfinished = || {
            let all = fs::read_dir(&snapshots).into_iter().flatten().flatten();
            all.filter(|entry| !entry.file_name().to_string_lossy().ends_with(".json")).count()
        };
        self.test.wait_until("the end of unfinished snapshots", || unfinished() == 0);
        self.runtime.block_on(self.test.host.stop(&row.id, &NOW)).unwrap();
    }
}

/// What is not as it should be; `None` when every row is true and everything belongs to a row.
fn disagreement(test: &TestHost) -> Option<String> {
    let (rows, processes) = (test.rows(), test.processes());
    let count = |role| processes.iter().filter(|process| process.role == role).count();
    let running = rows.iter().filter(|row| row.state == VmState::Running).count();
    for row in &rows {
        let is_alive = |it: &Option<_>| it.as_ref().is_some_and(terraphim_vm::ProcessId::is_alive);
        match row.state {
            VmState::Starting | VmState::Stopping => return Some(format!("{row:?} is on its way")),
            VmState::Running if !is_alive(&row.supervisor) || !is_alive(&row.hypervisor) => {
                return Some(format!("{row:?} does not run"));
            }
            VmState::Stopped | VmState::Failed if row.end.is_none() => {
                return Some(format!("{row:?} has no end"));
            }
            _ => {}
        }
    }
    let others = count(Role::Cli) + count(Role::Other);
    let keepers = count(Role::Keeper);
    if (count(Role::Supervisor), count(Role::Qemu), others) != (running, running, 0) || keepers > running {
        return Some(format!("{running} running, but {processes:#?}"));
    }
    let paths = test.host.paths();
    let names = |directory: &std::path::Path| fs::read_dir(directory).into_iter().flatten().flatten();
    let stray = names(&paths.vms()).chain(names(&paths.locks())).chain(names(paths.runtime()));
    let known = |name: &str| rows.iter().any(|row| row.id.as_str() == name);
    let stray = stray.map(|entry| entry.path()).find(|path| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        !known(&name)
    });
    stray.map(|path| format!("{} is nobody's", path.display()))
}

/// The process that passes `point` is killed there.
fn kill_at(point: Point, command: &[&str]) {
    let case = Case::new(point, Action::Kill);
    let starter = case.begin();
    if let Some(child) = starter {
        finish(child);
    }
    case.settle(command);
}

/// Any command will do; not always the same.
pub(crate) const COMMANDS: &[&[&str]] = &[
    &["vm", "ls"],
    &["vm", "inspect", "VM"],
    &["vm", "status", "VM"],
    &["vm", "stop", "--grace", "0", "VM"],
    &["vm", "ping", "VM"],
];

fn kill_at_all(operation: Operation) {
    let points: Vec<_> = Point::ALL.iter().filter(|point| Operation::of(**point) == operation).collect();
    assert!(points.len() > 1, "{operation:?}: {points:?}");
    for (n, point) in points.into_iter().enumerate() {
        kill_at(*point, COMMANDS[n % COMMANDS.len()]);
    }
}

#[test]
fn a_kill_at_any_point_of_a_creation_leaves_a_vm_or_none() {
    kill_at_all(Operation::Create);
}

#[test]
fn a_kill_at_any_point_of_a_start_is_repaired() {
    kill_at_all(Operation::Start);
}

#[test]
fn a_kill_at_any_point_of_a_stop_is_repaired() {
    kill_at_all(Operation::Stop);
}

#[test]
fn a_kill_at_any_point_of_a_removal_ends_in_the_removal() {
    kill_at_all(Operation::Remove);
}

#[test]
fn a_kill_at_any_point_of_a_repair_is_repaired() {
    kill_at_all(Operation::Crash);
}

#[test]
fn a_kill_in_the_middle_of_an_execution_is_repaired() {
    kill_at(Point::ExecWritten, &["vm", "ls"]);
}

#[test]
fn a_kill_in_the_middle_of_a_snapshot_is_repaired_and_leaves_none() {
    kill_at(Point::SnapshotSaved, &["vm", "ls"]);
}

/// Who else is killed while the process that passed the point stands still there.
const VICTIMS: &[&[Role]] = &[
    &[Role::Cli],
    &[Role::Supervisor],
    &[Role::Qemu],
    &[Role::Keeper],
    &[Role::Cli, Role::Supervisor],
    &[Role::Cli, Role::Qemu],
    &[Role::Supervisor, Role::Qemu],
    &[Role::Supervisor, Role::Keeper],
];

/// Kills `victims` while somebody stands at `point`; false when one of them does not exist then.
fn kill_others_at(point: Point, victims: &[Role], command: &[&str]) -> bool {
    let case = Case::new(point, Action::Stop);
    let child = case.begin();
    let held = || case.test.processes().into_iter().filter(|process| process.state == 'T');
    case.test.wait_until(&format!("{} being passed", point.name()), || held().count() > 0);
    let there = case.test.processes();
    let found: Vec<&Process> =
        victims.iter().filter_map(|role| there.iter().find(|it| it.role == *role)).collect();
    let all = found.len() == victims.len();
    for victim in found {
        victim.kill();
    }
    for process in held() {
        process.signal(Signal::CONT);
    }
    if let Some(child) = child {
        finish(child);
    }
    case.settle(command);
    all
}

/// The whole matrix of one operation; says what did not apply.
fn kill_matrix(operation: Operation) -> String {
    let points = Point::ALL.iter().filter(|point| Operation::of(**point) == operation);
    let (mut done, mut absent) = (0, Vec::new());
    for (n, (point, victims)) in
        points.flat_map(|point| VICTIMS.iter().map(move |victims| (*point, *victims))).enumerate()
    {
        if kill_others_at(point, victims, COMMANDS[n % COMMANDS.len()]) {
            done += 1;
        } else {
            absent.push(format!("{} {victims:?}", point.name()));
        }
    }
    assert!(done > 0);
    format!("{operation:?}: {done} cases; somebody did not exist in {}: {absent:?}", absent.len())
}

macro_rules! soak_matrix {
    ($($name:ident: $operation:ident,)+) => {
        $(
            #[test]
            #[ignore = "soak: every point, every victim"]
            fn $name() {
                println!("{}", kill_matrix(Operation::$operation));
            }
        )+
    };
}

soak_matrix! {
    soak_kill_matrix_of_a_creation: Create,
    soak_kill_matrix_of_a_start: Start,
    soak_kill_matrix_of_an_execution: Exec,
    soak_kill_matrix_of_a_snapshot: Snapshot,
    soak_kill_matrix_of_a_rollback: Rollback,
    soak_kill_matrix_of_a_stop: Stop,
    soak_kill_matrix_of_a_removal: Remove,
    soak_kill_matrix_of_a_repair: Crash,
}

#[test]
#[ignore = "soak: every point, every other action"]
fn soak_a_step_that_fails_ends_or_is_late_is_survived() {
    for point in Point::ALL {
        for action in [Action::Kill, Action::Exit, Action::Error, Action::Sleep] {
            let case = Case::new(*point, action);
            if let Some(child) = case.begin() {
                finish(child);
            }
            case.settle(&["vm", "ls"]);
        }
    }
}
