//! `tci vm events`.

use clap::Args;
use terraphim_vm::{Host, VmEvent};

use crate::{
    exit::Exit,
    failure::{Context as _, Failure},
    output,
    signals::Interrupts,
};

#[derive(Debug, Args)]
#[command(after_help = "\
Every change of a VM's state is one JSON object on one line:

  {\"seq\":7,\"id\":\"2f0c1d3e4a5b\",\"name\":\"web\",\"state\":\"stopped\",\"epoch\":1,\"at_ms\":1767225600000,\"end\":{\"reason\":\"requested\"}}

States are created, starting, running, stopping, stopped, failed and removed. Whoever remembers the last `seq` that it saw \
continues with `--since`, and misses and repeats nothing.

Ends with 0 at the end of the list, 130 when a --follow is interrupted.

Example:
  tci vm events --follow | jq -r '.name + \" \" + .state'
  tci vm events --since 41 --follow web")]
pub(super) struct EventsArgs {
    /// Only of these VMs, by name, id, or the start of an id [default: of all].
    vms: Vec<String>,
    /// Go on with what happens from now on.
    #[arg(long, short)]
    follow: bool,
    /// Begin after this number [default: 0, or with --follow the newest].
    #[arg(long, value_name = "SEQ", value_parser = clap::value_parser!(i64).range(0..))]
    since: Option<i64>,
    /// The only form there is.
    #[arg(long, hide = true)]
    json: bool,
}

pub(super) async fn events(host: &Host, args: &EventsArgs) -> Result<Exit, Failure> {
    let mut ids = Vec::new();
    for name in &args.vms {
        // A VM that is gone has events too; only its whole id names it.
        ids.push(host.find(name).map(|record| record.id).or_else(|error| name.parse().map_err(|_| error))?);
    }
    let print = |event: &VmEvent| {
        if ids.is_empty() || ids.contains(&event.id) {
            let line = serde_json::to_string(event).expect("plain data is JSON");
            return output::data(&format!("{line}\n"));
        }
        Ok(())
    };
    if !args.follow {
        let mut events = host.events(Some(args.since.unwrap_or(0)))?;
        loop {
            let some = events.so_far()?;
            if some.is_empty() {
                return Ok(Exit::Success);
            }
            some.iter().try_for_each(print)?;
        }
    }
    let mut interrupts = Interrupts::listen().context("cannot listen for signals")?;
    let mut events = host.events(args.since)?;
    loop {
        tokio::select! {
            event = events.next() => print(&event?)?,
            () = interrupts.next() => return Ok(Exit::Cancelled),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_in_the_help_is_an_event() {
        let help = <EventsArgs as Args>::augment_args(clap::Command::new("events"));
        let text = help.get_after_help().unwrap().to_string();
        let line = text.lines().find(|line| line.trim_start().starts_with('{')).unwrap();
        let event: VmEvent = serde_json::from_str(line).unwrap();
        assert_eq!((event.seq, event.state.as_str()), (7, "stopped"));
    }
}
