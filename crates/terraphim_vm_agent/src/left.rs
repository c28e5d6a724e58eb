//! Processes that outlive the execution which started them, until whoever asked for that has them ended.
//!
//! A step of a job may start a server for the steps after it: the runner of GitHub ends such processes with their job.

use std::{cell::RefCell, collections::HashMap, fs, sync::Arc};

use rustix::process::Pid;
use terraphim_vm_protocol::message::{Ended, EndedProcess};

use crate::tree::Tree;

/// The trees that go on, by the name they are kept under.
#[derive(Debug, Default)]
pub(crate) struct Left {
    by_name: RefCell<HashMap<String, Vec<Arc<Tree>>>>,
}

impl Left {
    /// Keeps what is left of an execution.
    pub(crate) fn keep(&self, name: String, tree: Arc<Tree>) {
        let mut all = self.by_name.borrow_mut();
        let trees = all.entry(name).or_default();
        // What has ended by itself since needs no place any more.
        trees.retain(|tree| !tree.has_ended());
        trees.push(tree);
    }

    /// Kills everything that is kept under a name, and says what that was.
    pub(crate) async fn end(&self, name: &str) -> Ended {
        let trees = self.by_name.borrow_mut().remove(name).unwrap_or_default();
        let mut processes = Vec::new();
        for tree in trees {
            let members = tree.members().into_iter();
            processes.extend(members.map(|pid| EndedProcess { pid, name: name_of(pid) }));
            tree.end().await;
        }
        processes.sort_by_key(|process| process.pid);
        Ended { processes }
    }
}

/// The name of a program, as proc(5) has it in `comm`; empty when it has ended.
fn name_of(pid: i32) -> String {
    let is_process = Pid::from_raw(pid).is_some();
    let comm = is_process.then(|| fs::read(format!("/proc/{pid}/comm")).ok()).flatten().unwrap_or_default();
    String::from_utf8_lossy(&comm).trim_end_matches('\n').to_owned()
}
