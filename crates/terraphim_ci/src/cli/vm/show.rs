//! Commands that only look at VMs.

use std::time::Instant;

use clap::Args;
use serde_json::json;
use terraphim_vm::{Host, VmRecord};

use crate::{
    cli::vm::client,
    exit::Exit,
    failure::Failure,
    output::{self, one_line},
};

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tci vm ls --json | jq '.[].name'")]
pub(super) struct LsArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn ls(host: &Host, args: &LsArgs) -> Result<Exit, Failure> {
    let records = host.list()?;
    if args.json {
        let rows: Vec<_> = records.iter().map(as_json).collect();
        output::json(&rows)?;
        return Ok(Exit::Success);
    }
    let rows: Vec<Vec<String>> = records.iter().map(row).collect();
    output::data(&output::table(&["ID", "NAME", "STATE", "IMAGE", "CPUS", "MEMORY", "CREATED"], &rows))?;
    Ok(Exit::Success)
}

fn row(record: &VmRecord) -> Vec<String> {
    vec![
        record.id.to_string(),
        one_line(&record.name),
        record.effective_state().to_string(),
        one_line(&record.spec.image),
        record.spec.vcpus.to_string(),
        format!("{} MiB", record.spec.memory_mib),
        output::time(record.created_at_ms),
    ]
}

/// The row as it is, with the state as it really is.
fn as_json(record: &VmRecord) -> serde_json::Value {
    let mut value = serde_json::to_value(record).expect("plain data is JSON");
    value["state"] = json!(record.effective_state());
    value
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tci vm status web")]
pub(super) struct StatusArgs {
    /// A VM's name, id, or the start of its id.
    vm: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn status(host: &Host, args: &StatusArgs) -> Result<Exit, Failure> {
    let record = host.find(&args.vm)?;
    let state = record.effective_state();
    let live = match host.client(&record.id) {
        Ok(client) => Some(client.status().await?),
        Err(_) => None,
    };
    if args.json {
        output::json(
            &json!({"id": record.id, "name": record.name, "state": state, "end": record.end, "live": live}),
        )?;
        return Ok(Exit::Success);
    }
    let mut text = format!("{} ({}): {state}\n", one_line(&record.name), record.id);
    if let Some(live) = live {
        text += &format!("agent: {}\n", live.agent);
        if let Some(error) = live.agent_error {
            text += &format!("agent error: {}\n", one_line(&error));
        }
        text += &format!("running commands: {}\n", live.running_executions);
    } else if let Some(end) = &record.end {
        let end = serde_json::to_value(end).expect("plain data is JSON");
        text += &format!("ended: {}\n", end["reason"].as_str().unwrap_or_default().replace('_', " "));
        if let Some(detail) = end["detail"].as_str() {
            text += &format!("{}\n", detail.trim_end());
        }
    }
    output::data(&text)?;
    Ok(Exit::Success)
}

pub(super) async fn ping(host: &Host, name: &str) -> Result<Exit, Failure> {
    let client = client(host, name)?;
    let start = Instant::now();
    client.ping().await?;
    output::data(&format!("pong in {:.3} ms\n", start.elapsed().as_secs_f64() * 1000.0))?;
    Ok(Exit::Success)
}

pub(super) async fn inspect(host: &Host, name: &str) -> Result<Exit, Failure> {
    let record = host.find(name)?;
    let mut value = as_json(&record);
    value["directory"] = json!(host.paths().vm(&record.id));
    if let Ok(client) = host.client(&record.id) {
        value["status"] = json!(client.status().await?);
        value["executions"] = json!(client.executions().await?);
    }
    output::json(&value)?;
    Ok(Exit::Success)
}
