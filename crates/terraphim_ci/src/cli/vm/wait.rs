//! `tci vm wait`.

use std::{cell::Cell, time::Duration};

use clap::{Args, ValueEnum};
use serde_json::json;
use terraphim_vm::{Host, VmId, VmRecord, VmState};

use crate::{exit::Exit, failure::Failure, output};

#[derive(Debug, Args)]
#[command(after_help = "\
Ends with 0 when all are so, 124 when the time is over, 2 when there is no such VM, 3 when it cannot come true any more (a \
start failed, the guest does not come up, the VM was removed).

Example:
  tci vm wait web --for agent --timeout 60")]
pub(super) struct WaitArgs {
    /// VMs by name, id, or the start of an id.
    #[arg(required = true)]
    vms: Vec<String>,
    /// For what.
    #[arg(long = "for", value_enum, default_value_t = Goal::Agent, value_name = "STATE")]
    goal: Goal,
    /// How many seconds at most [default: as long as it takes].
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Goal {
    /// The hypervisor runs.
    Running,
    /// Nothing runs.
    Stopped,
    /// The guest has booted and takes commands.
    Agent,
}

pub(super) async fn wait(host: &Host, args: &WaitArgs) -> Result<Exit, Failure> {
    let ids = args.vms.iter().map(|name| host.find(name).map(|vm| vm.id)).collect::<Result<Vec<_>, _>>()?;
    // Which one is waited for when the time is over.
    let present = Cell::new(0);
    let all = async {
        for (n, id) in ids.iter().enumerate() {
            present.set(n);
            wait_for(host, id, args.goal).await?;
        }
        Ok::<_, Failure>(())
    };
    match args.timeout {
        None => all.await?,
        Some(seconds) => match tokio::time::timeout(Duration::from_secs(seconds), all).await {
            Ok(waited) => waited?,
            Err(_) => return Err(timed_out(host, &ids[present.get()], args.goal, seconds)?),
        },
    }
    if args.json {
        let state =
            |id: &VmId| find(host, id).map(|record| json!({"id": id, "state": state_of(record.as_ref())}));
        output::json(&ids.iter().map(state).collect::<Result<Vec<_>, _>>()?)?;
    }
    Ok(Exit::Success)
}

/// Names the VM, what was waited for, and how it is instead.
fn timed_out(host: &Host, id: &VmId, goal: Goal, seconds: u64) -> Result<Failure, Failure> {
    let record = find(host, id)?;
    let name = record.as_ref().map_or_else(|| id.to_string(), |record| format!("{} ({id})", record.name));
    let what = match goal {
        Goal::Running => "run",
        Goal::Stopped => "stop",
        Goal::Agent => "take commands",
    };
    let seconds = if seconds == 1 { "1 second".to_owned() } else { format!("{seconds} seconds") };
    let message = format!("VM {name} did not {what} within {seconds}: it is {}", state_of(record.as_ref()));
    Ok(Failure::usage(message).ending(Exit::TimedOut))
}

fn find(host: &Host, id: &VmId) -> Result<Option<VmRecord>, Failure> {
    Ok(host.list()?.into_iter().find(|record| record.id == *id))
}

fn state_of(record: Option<&VmRecord>) -> String {
    record.map_or_else(|| "removed".to_owned(), |record| record.effective_state().to_string())
}

/// Looks after every event; the events were opened before the first look, so that no change falls in between.
async fn wait_for(host: &Host, id: &VmId, goal: Goal) -> Result<(), Failure> {
    let mut events = host.events(None)?;
    let mut first_epoch = None;
    loop {
        let Some(record) = find(host, id)? else {
            return if goal == Goal::Stopped {
                Ok(())
            } else {
                Err(Failure::fault(format!("VM {id} was removed")))
            };
        };
        let before = *first_epoch.get_or_insert(record.epoch);
        let state = record.effective_state();
        match goal {
            Goal::Stopped if !state.is_owned() => return Ok(()),
            Goal::Running if state == VmState::Running => return Ok(()),
            Goal::Agent if state == VmState::Running => {
                let answer = host.client(id)?.wait_agent().await;
                let still = find(host, id)?.is_some_and(|now| now.effective_state() == VmState::Running);
                match answer {
                    Ok(_) => return Ok(()),
                    Err(error) if still => return Err(error.into()),
                    // It has ended meanwhile, and may be started again.
                    Err(_) => continue,
                }
            }
            // One that failed before we came may be started again; one that fails now was what we waited for.
            Goal::Running | Goal::Agent if state == VmState::Failed && record.epoch > before => {
                let why = record.end.map(|end| end.detail).unwrap_or_default();
                return Err(Failure::fault(format!("VM {id} did not start: {why}")));
            }
            _ => {}
        }
        events.next().await?;
    }
}
