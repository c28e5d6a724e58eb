//! `tci vm` as a user calls it: definitions, lists, events, executions, terminals, SSH and limits, with real VMs.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../run/host.rs"]
#[expect(dead_code, reason = "shared with the tests of `tci run`, which need more of it")]
mod host;

mod define;
mod life;
mod ssh;
mod terminal;

use host::{Said, World};
use serde_json::Value;

/// A small VM that starts quickly.
const SMALL: [&str; 10] =
    ["--image", "busybox", "--cpus", "1", "--memory", "128", "--disk", "64", "--network", "none"];

impl World {
    /// `tci vm ARGS`.
    pub(crate) fn vm(&self, args: &[&str]) -> Said {
        self.tell(&[&["vm"], args].concat())
    }

    /// The same, which must succeed; what it printed.
    #[track_caller]
    pub(crate) fn vm_ok(&self, args: &[&str]) -> String {
        let said = self.vm(args);
        assert_eq!(said.code, 0, "{args:?}: {said:#?}");
        said.stdout
    }

    #[track_caller]
    pub(crate) fn vm_json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.vm_ok(args)).unwrap()
    }

    /// Defines a small VM and returns its id.
    #[track_caller]
    pub(crate) fn define(&self, name: &str, more: &[&str]) -> String {
        let args = [&["create", "--name", name], &SMALL[..], more].concat();
        self.vm_ok(&args).trim().to_owned()
    }

    /// Removes a VM and everything that it has.
    #[track_caller]
    pub(crate) fn remove(&self, name: &str) {
        self.vm_ok(&["rm", "--force", name]);
    }
}
