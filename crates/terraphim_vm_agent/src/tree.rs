//! Everything that one execution started, and ending it.
//!
//! With control groups a process cannot leave its tree. Without (tests, a kernel without them) the tree is the session,
//! its descendants, and, when no other execution runs, every orphan that this process inherited.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use rustix::process::{Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open};
use tokio::io::Interest;

use crate::{reaper::Reaper, watch::watch};

/// How long killed processes get to die. They need milliseconds; one stuck in a device must not hold the answer for ever.
const DEATH_LIMIT: Duration = Duration::from_secs(30);
/// How many processes are awaited at a time, which bounds the descriptors that a fork bomb costs.
const AWAITED_AT_ONCE: usize = 256;

/// Where executions get their control groups.
#[derive(Debug)]
pub(crate) struct Groups {
    root: PathBuf,
    numbers: AtomicU64,
    /// Left by executions that have ended: making and removing a group is as much work as starting a process. Taken for
    /// a push or a pop at a time.
    empty: Mutex<Vec<Group>>,
}

/// Empty groups that are kept. More executions than this rarely begin at the same moment.
const KEPT: usize = 4;

/// One execution's control group, removed when dropped.
#[derive(Debug)]
pub(crate) struct Group {
    path: PathBuf,
    directory: OwnedFd,
    /// `cgroup.events`
    events: OwnedFd,
}

/// The processes of one execution.
#[derive(Debug)]
pub(crate) struct Tree {
    pid: i32,
    /// The pid may belong to another process by now.
    is_reaped: AtomicBool,
    /// Nothing of it is to live on.
    is_condemned: AtomicBool,
    group: Option<Group>,
    reaper: Arc<Reaper>,
}

impl Groups {
    /// Prepares `/sys/fs/cgroup/tci`, in which processes and memory are limited so that this agent always has some left,
    /// whatever a job does.
    pub(crate) fn prepare(hierarchy: &Path) -> io::Result<Groups> {
        let root = hierarchy.join("tci");
        fs::create_dir(&root)?;
        fs::write(hierarchy.join("cgroup.subtree_control"), "+pids +memory")?;
        let number = |path: &str| -> io::Result<u64> {
            fs::read_to_string(path)?.trim().parse().map_err(|_| io::ErrorKind::InvalidData.into())
        };
        let most = number("/proc/sys/kernel/threads-max")?.min(number("/proc/sys/kernel/pid_max")?);
        fs::write(root.join("pids.max"), (most - most / 8).to_string())?;
        let memory = crate::calls::info::memory_kib()? * 1024;
        fs::write(root.join("memory.max"), (memory - memory / 16).to_string())?;
        Ok(Groups { root, numbers: AtomicU64::new(0), empty: Mutex::default() })
    }

    /// A group without processes.
    pub(crate) fn take(&self) -> io::Result<Group> {
        let empty = self.empty().pop();
        empty.map_or_else(|| self.make(), Ok)
    }

    /// Takes a group back, or removes it when somebody may miss that it is not new.
    fn put_back(&self, group: Group) {
        if group.is_as_new() {
            let mut empty = self.empty();
            if empty.len() < KEPT {
                empty.push(group);
            }
        }
    }

    fn make(&self) -> io::Result<Group> {
        let path = self.root.join(format!("exec-{}", self.numbers.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&path)?;
        let open = || Ok((fs::File::open(&path)?.into(), fs::File::open(path.join("cgroup.events"))?.into()));
        match open() {
            Ok((directory, events)) => Ok(Group { path, directory, events }),
            Err(error) => {
                let _ = fs::remove_dir(&path);
                Err(error)
            }
        }
    }

    fn empty(&self) -> MutexGuard<'_, Vec<Group>> {
        self.empty.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Group {
    /// The directory, for `clone3`.
    pub(crate) fn directory(&self) -> &OwnedFd {
        &self.directory
    }

    /// Whether no process is in it or below it. Zombies do not count.
    fn is_empty(&self) -> bool {
        self.read_events(|events| events.starts_with(b"populated 0\n"))
    }

    /// Whether nothing tells it from a new one: no process, not frozen, and no group below it, which would count as a
    /// link of its directory. What root may change besides has no meaning for a group without controllers.
    fn is_as_new(&self) -> bool {
        self.read_events(|events| events == b"populated 0\nfrozen 0\n")
            && rustix::fs::fstat(&self.directory).is_ok_and(|stat| stat.st_nlink == 2)
    }

    fn read_events(&self, test: impl Fn(&[u8]) -> bool) -> bool {
        let mut text = [0; 64];
        let read = rustix::io::pread(&self.events, &mut text[..], 0);
        read.is_ok_and(|count| test(&text[..count]))
    }

    fn kill(&self) -> io::Result<()> {
        fs::write(self.path.join("cgroup.kill"), "1")
    }

    /// Live processes, those in groups that were made below this one too.
    fn members(&self) -> HashSet<i32> {
        let mut members = HashSet::new();
        if self.is_empty() {
            return members;
        }
        for_each_group(&self.path, &mut |path| {
            let text = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
            members.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
        });
        members
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for_each_group(&self.path, &mut |path| {
            if let Err(error) = fs::remove_dir(path) {
                crate::kmsg::say(&format!("cannot remove control group {}: {error}", path.display()));
            }
        });
    }
}

/// Visits the groups below `path`, then `path`.
fn for_each_group(path: &Path, visit: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            for_each_group(&entry.path(), visit);
        }
    }
    visit(path);
}

impl Tree {
    pub(crate) fn new(pid: i32, group: Option<Group>, reaper: Arc<Reaper>) -> Tree {
        Tree { pid, is_reaped: AtomicBool::new(false), is_condemned: AtomicBool::new(false), group, reaper }
    }

    /// Gives the group, which has become empty, to the next execution.
    pub(crate) fn give_back(self, groups: &Groups) {
        if let Some(group) = self.group {
            groups.put_back(group);
        }
    }

    /// The first process is about to be reaped: its pid means nothing from now on.
    pub(crate) fn forget_pid(&self) {
        self.is_reaped.store(true, Ordering::Relaxed);
    }

    /// Sends a signal to the process group of the first process.
    pub(crate) fn signal(&self, signal: Signal) {
        if self.is_reaped.load(Ordering::Relaxed) {
            return;
        }
        if let Some(pid) = Pid::from_raw(self.pid) {
            // The group may have ended by itself a moment ago.
            let _ = kill_process_group(pid, signal);
        }
    }

    /// What is left when the first process ends is not to live on.
    pub(crate) fn condemn(&self) {
        self.is_condemned.store(true, Ordering::Relaxed);
    }

    /// Begins to kill everything.
    pub(crate) fn kill(&self) {
        self.condemn();
        let killed = self.group.as_ref().is_some_and(|group| group.kill().is_ok());
        if !killed && !self.is_reaped.load(Ordering::Relaxed) {
            self.signal(Signal::KILL);
            for pid in self.members().into_iter().filter_map(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }

    /// Kills what is left after the first process ended, waits until it is dead, and counts it.
    pub(crate) async fn end(&self) -> u32 {
        let mut killed = HashSet::new();
        let all_dead = async {
            loop {
                let members = self.members();
                if members.is_empty() {
                    return;
                }
                self.kill();
                for pid in members.iter().take(AWAITED_AT_ONCE) {
                    wait_for_death(*pid).await;
                }
                killed.extend(members);
            }
        };
        if tokio::time::timeout(DEATH_LIMIT, all_dead).await.is_err() {
            crate::kmsg::say(&format!("processes left behind by process {} do not die", self.pid));
        }
        u32::try_from(killed.len()).unwrap_or(u32::MAX)
    }

    /// Whether something of it lives that may live on. Without a group nobody could tell what belongs to it when the first
    /// process has ended and its pid is gone.
    pub(crate) fn may_go_on(&self) -> bool {
        self.group.is_some() && !self.is_condemned.load(Ordering::Relaxed) && !self.has_ended()
    }

    /// Whether no process of it lives.
    pub(crate) fn has_ended(&self) -> bool {
        self.members().is_empty()
    }

    pub(crate) fn members(&self) -> HashSet<i32> {
        match &self.group {
            Some(group) => group.members(),
            None => self.session_members(),
        }
    }

    fn session_members(&self) -> HashSet<i32> {
        let all = processes();
        let own = std::process::id().cast_signed();
        let is_last = self.reaper.claimed() <= 1;
        let is_root = |pid: i32, process: &Process| {
            pid == self.pid
                || process.session == self.pid
                || (is_last && process.parent == own && !self.reaper.is_claimed(pid))
        };
        let mut members: HashSet<i32> =
            all.iter().filter(|(pid, process)| is_root(**pid, process)).map(|(pid, _)| *pid).collect();
        loop {
            let before = members.len();
            let children = all.iter().filter(|(_, process)| members.contains(&process.parent));
            let children: Vec<i32> = children.map(|(pid, _)| *pid).collect();
            members.extend(children);
            if members.len() == before {
                break;
            }
        }
        members.retain(|pid| all[pid].is_alive);
        members
    }
}

/// Returns when the process has ended, also when it is not there at all.
async fn wait_for_death(pid: i32) {
    let Some(pid) = Pid::from_raw(pid) else { return };
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    if let Ok(pidfd) = watch(pidfd, Interest::READABLE) {
        let _ = pidfd.readable().await;
    }
}

struct Process {
    parent: i32,
    session: i32,
    is_alive: bool,
}

fn processes() -> HashMap<i32, Process> {
    let mut all = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let stat = fs::read(entry.path().join("stat")).unwrap_or_default();
        if let Some(process) = parse_stat(&stat) {
            all.insert(pid, process);
        }
    }
    all
}

/// proc(5): `pid (name) state ppid pgrp session ...`; the name may hold any byte, so fields count from the last `)`.
fn parse_stat(stat: &[u8]) -> Option<Process> {
    let after = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let text = std::str::from_utf8(stat.get(after..)?).ok()?;
    let mut fields = text.split_ascii_whitespace();
    let is_alive = !matches!(fields.next()?, "Z" | "X");
    let parent = fields.next()?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    Some(Process { parent, session, is_alive })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_whatever_the_name_is() {
        let process = parse_stat(b"7 (a) Z 1 (b) S 3 4 5 0 -1").unwrap();
        assert_eq!((process.parent, process.session, process.is_alive), (3, 5, true));
        assert!(!parse_stat(b"7 (x) Z 3 4 5").unwrap().is_alive);
        assert!(parse_stat(b"7 (x").is_none());
    }
}
