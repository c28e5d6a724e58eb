//! Messages for people, before and beside the connection: the kernel log as PID 1, standard error otherwise.

use std::{fs::OpenOptions, io::Write};

/// Writes one line. As PID 1 it goes to the kernel log at level "error", so that it shows on a quiet console.
pub(crate) fn say(message: &str) {
    let is_init = std::process::id() == 1;
    let line = format!("{}terraphim_vm_agent: {message}\n", if is_init { "<3>" } else { "" });
    // There is nowhere to report that reporting failed.
    let _ = if is_init {
        OpenOptions::new().write(true).open("/dev/kmsg").and_then(|mut kmsg| kmsg.write_all(line.as_bytes()))
    } else {
        std::io::stderr().write_all(line.as_bytes())
    };
}
