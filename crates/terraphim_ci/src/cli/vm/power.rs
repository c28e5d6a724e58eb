//! `tci vm start`, `stop` and `restart`.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use serde_json::{Value, json};
use terraphim_vm::{Host, Mount, StopOptions, VmClient};

use super::each;
use crate::{
    exit::Exit,
    failure::Failure,
    output,
    workspace::{Tree, tar_stream},
};

#[derive(Debug, Args)]
#[command(
    after_help = "Ends with 0 when the guests have booted, 2 when there is no such VM, 3 when one does not start.\n\n\
                        Example:\n  tci vm start web db"
)]
pub(super) struct StartArgs {
    /// VMs by name, id, or the start of an id.
    #[arg(required = true)]
    vms: Vec<String>,
    /// Do not wait for the guest to boot; nothing is copied into it then.
    #[arg(long)]
    no_wait: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Ends with 0 when the VMs have stopped, also those that did not run.\n\n\
                        Example:\n  tci vm stop web --grace 30")]
pub(super) struct StopArgs {
    /// VMs by name, id, or the start of an id.
    #[arg(required = true)]
    vms: Vec<String>,
    /// How many seconds the guest gets to shut down; 0 does not ask it.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    grace: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "The disk is kept.\n\nEnds like `tci vm start`.\n\nExample:\n  tci vm restart web")]
pub(super) struct RestartArgs {
    /// VMs by name, id, or the start of an id.
    #[arg(required = true)]
    vms: Vec<String>,
    /// How many seconds the guest gets to shut down; 0 does not ask it.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    grace: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn start(host: &Host, args: &StartArgs) -> Result<Exit, Failure> {
    each(&args.vms, args.json, async |name| start_one(host, name, !args.no_wait, args.json).await).await
}

pub(super) async fn stop(host: &Host, args: &StopArgs) -> Result<Exit, Failure> {
    each(&args.vms, args.json, async |name| stop_one(host, name, args.grace, args.json).await).await
}

pub(super) async fn restart(host: &Host, args: &RestartArgs) -> Result<Exit, Failure> {
    let restart = async |name: &str| {
        stop_one(host, name, args.grace, true).await?;
        start_one(host, name, true, args.json).await
    };
    each(&args.vms, args.json, restart).await
}

async fn start_one(host: &Host, name: &str, wait: bool, quiet: bool) -> Result<Value, Failure> {
    let record = host.find(name)?;
    let record = host.start(&record.id).await?;
    // Another process may have ended it by now.
    let booting = |error| host.boot_error(&record, error);
    let client = host.client(&record.id).map_err(booting)?;
    let limits = client.status().await.map_err(booting)?.limits;
    for sentence in &limits.unenforced {
        output::warning(&format!("VM {}: {sentence}", record.name));
    }
    if wait {
        client.wait_agent().await.map_err(booting)?;
        for mount in &record.spec.mounts {
            for left_out in copy_in(&client, mount).await? {
                output::warning(&format!(
                    "VM {}: {} is no directory and no regular file, it was not copied",
                    record.name,
                    left_out.display()
                ));
            }
        }
    }
    if !quiet {
        let what = if wait { "runs" } else { "boots" };
        output::note(&format!("VM {} ({}) {what}", record.name, record.id));
    }
    Ok(json!({"id": record.id, "name": record.name, "state": record.state, "limits": limits}))
}

/// What is in the directory goes below the target; what the guest has there already stays unless it has the same name.
/// Returns what was left out.
async fn copy_in(client: &VmClient, mount: &Mount) -> Result<Vec<PathBuf>, Failure> {
    let tree = Tree { root: mount.source.clone(), git: None, without: PathBuf::from("/nowhere") };
    let all = tree.everything().map_err(|error| Failure::caused(Exit::Infrastructure, error))?;
    client.upload(&mount.target, None, tar_stream(all.entries)).await?;
    Ok(all.left_out.iter().map(|name| mount.source.join(name)).collect())
}

async fn stop_one(host: &Host, name: &str, grace: u64, quiet: bool) -> Result<Value, Failure> {
    let record = host.find(name)?;
    let report = host.stop(&record.id, &StopOptions { grace: Duration::from_secs(grace) }).await?;
    if report.is_unrecorded {
        output::warning(&format!("VM {name} has ended, which cannot be recorded: no space left on device"));
        let data = host.paths().data().display();
        output::hint(&format!(
            "make room on the file system of {data}; the first command that finds some records it"
        ));
    }
    let step = serde_json::to_value(report.step).expect("plain data is JSON");
    if !quiet {
        output::note(&format!("VM {name}: {}", step.as_str().unwrap_or_default().replace('_', " ")));
    }
    Ok(json!({"id": record.id, "name": record.name, "step": step}))
}
