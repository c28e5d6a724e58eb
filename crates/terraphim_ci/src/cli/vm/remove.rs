//! `tci vm rm` and `tci vm prune`.

use clap::Args;
use serde_json::{Value, json};
use terraphim_vm::{Host, VmError, VmState};

use super::{each, filter::Filter};
use crate::{exit::Exit, failure::Failure, output};

#[derive(Debug, Args)]
#[command(
    after_help = "Ends with 0 when they are gone, 2 when there is no such VM or one runs (use --force).\n\n\
                        Example:\n  tci vm rm --force web"
)]
pub(super) struct RmArgs {
    /// VMs by name, id, or the start of an id.
    #[arg(required = true)]
    vms: Vec<String>,
    /// Also VMs that run.
    #[arg(long, short)]
    force: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn rm(host: &Host, args: &RmArgs) -> Result<Exit, Failure> {
    let remove = async |name: &str| {
        let record = host.find(name)?;
        host.remove(&record.id, args.force).await.map_err(|error| {
            let runs = matches!(error, VmError::WrongState { .. });
            let failure = Failure::from(error);
            if runs { failure.hint("stop it first, or use --force") } else { failure }
        })?;
        if !args.json {
            output::data(&format!("{}\n", record.id))?;
        }
        Ok::<_, Failure>(json!({"id": record.id, "name": record.name}))
    };
    each(&args.vms, args.json, remove).await
}

#[derive(Debug, Args)]
#[command(after_help = "Ends with 0 also when there was nothing to remove.\n\n\
                        Example:\n  tci vm prune --filter label=tci.workflow")]
pub(super) struct PruneArgs {
    /// Also VMs that were never started.
    #[arg(long)]
    all: bool,
    /// Only those that are so: state=, name=, id=, image=, label=KEY or label=KEY=VALUE; may be repeated.
    #[arg(long = "filter", value_name = "KEY=VALUE", value_parser = Filter::parse)]
    filters: Vec<Filter>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn prune(host: &Host, args: &PruneArgs) -> Result<Exit, Failure> {
    let mut removed: Vec<Value> = Vec::new();
    for record in host.list()? {
        let is_over = match record.effective_state() {
            VmState::Stopped | VmState::Failed => true,
            VmState::Created => args.all,
            VmState::Starting | VmState::Running | VmState::Stopping => false,
        };
        if !is_over || !Filter::all(&args.filters, &record) {
            continue;
        }
        match host.remove(&record.id, false).await {
            // Somebody started or removed it a moment ago.
            Err(VmError::WrongState { .. } | VmError::NotFound(_)) => continue,
            done => done?,
        }
        if !args.json {
            output::data(&format!("{}\n", record.id))?;
        }
        removed.push(json!({"id": record.id, "name": record.name}));
    }
    if args.json {
        output::json(&removed)?;
    }
    Ok(Exit::Success)
}
