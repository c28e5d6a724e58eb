//! What was run in a VM, and how far its output was shown: `tci vm exec --list` and `--attach`.

use std::{fs::File, os::unix::fs::FileExt as _, path::PathBuf};

use terraphim_vm::{Execution, ExecutionEnd, Host, VmId};

use crate::{exit::Exit, failure::Failure, output};

/// Remembers beside an execution how much of its output a client has shown, so that the next one goes on there.
#[derive(Debug)]
pub(super) struct Seen {
    path: PathBuf,
    file: Option<File>,
}

impl Seen {
    pub(super) fn of(host: &Host, vm: &VmId, exec: &str) -> Seen {
        Seen { path: host.paths().exec_output(vm, exec).with_extension("seen"), file: None }
    }

    /// The offset that was shown last; 0 when nobody has shown anything.
    pub(super) fn offset(&self) -> u64 {
        std::fs::read_to_string(&self.path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    }

    /// Called after output was written: a client that is killed in between shows a little twice, but loses nothing.
    pub(super) fn record(&mut self, offset: u64) {
        if self.file.is_none() {
            self.file = File::options().create(true).truncate(false).write(true).open(&self.path).ok();
        }
        if let Some(file) = &self.file {
            // Always of the same length, so that a shorter number leaves nothing of a longer one. What cannot be
            // remembered is shown again.
            let _ = file.write_all_at(format!("{offset:>20}").as_bytes(), 0);
        }
    }
}

pub(super) fn list(host: &Host, vm: &str, as_json: bool) -> Result<Exit, Failure> {
    let all = host.executions(&host.find(vm)?.id)?;
    if as_json {
        output::json(&all)?;
        return Ok(Exit::Success);
    }
    let rows: Vec<Vec<String>> = all.iter().map(row).collect();
    output::data(&output::table(&["EXECUTION", "STARTED", "STATE", "OUTPUT", "COMMAND"], &rows))?;
    Ok(Exit::Success)
}

fn row(execution: &Execution) -> Vec<String> {
    let state = match &execution.end {
        None => "running".to_owned(),
        Some(ExecutionEnd::Exited { code }) => format!("exit {code}"),
        Some(ExecutionEnd::Failed { .. }) => "not started".to_owned(),
        Some(ExecutionEnd::Lost { .. }) => "lost".to_owned(),
    };
    vec![
        execution.id.clone(),
        output::time(i64::try_from(execution.started_at_ms).unwrap_or_default()),
        state,
        output::size(execution.output_bytes),
        output::one_line(&execution.argv.join(" ")),
    ]
}

#[cfg(test)]
mod tests {
    use terraphim_vm::Paths;

    use super::*;

    #[test]
    fn a_shorter_offset_replaces_a_longer_one() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::open(Paths::new(dir.path()).unwrap()).unwrap();
        let vm = VmId::random();
        let mut seen = Seen::of(&host, &vm, "aa");
        std::fs::create_dir_all(seen.path.parent().unwrap()).unwrap();
        assert_eq!(seen.offset(), 0);
        seen.record(1_000_000);
        seen.record(7);
        assert_eq!(Seen::of(&host, &vm, "aa").offset(), 7);
    }
}
