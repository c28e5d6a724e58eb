//! Commands that only look at VMs.

use std::time::Instant;

use clap::Args;
use serde_json::json;
use terraphim_vm::{Host, VmRecord};

use crate::{
    cli::vm::{client, filter::Filter, format::Format},
    exit::Exit,
    failure::Failure,
    output::{self, one_line},
};

#[derive(Debug, Args)]
#[command(after_help = "\
Filters: state=STATE, name=PART, id=START, image=NAME, label=KEY, label=KEY=VALUE. Several about the same key are alternatives \
(labels: all must be there), different keys must all hold.

Fields of a format: {id} {name} {state} {image} {cpus} {memory} {disk} (MiB) {network} {created} {labels} {label:KEY} {reason} \
(why it ended) {pid} (the hypervisor's); `{{` is a brace, `\\t` a tab, `\\n` a line break.

Ends with 0 also when there is none.

Example:
  tci vm ls --filter state=running --filter label=team=ci
  tci vm ls --format '{name}\\t{state}\\t{label:team}'
  tci vm rm --force $(tci vm ls -q --filter name=test-)
  tci vm ls --json | jq '.[].name'")]
pub(super) struct LsArgs {
    /// Only those that are so; may be repeated.
    #[arg(long = "filter", value_name = "KEY=VALUE", value_parser = Filter::parse)]
    filters: Vec<Filter>,
    /// Print ids only.
    #[arg(long, short)]
    quiet: bool,
    /// Print a line of this form for each.
    #[arg(long, value_name = "FORMAT", value_parser = Format::parse, conflicts_with = "quiet")]
    format: Option<Format>,
    /// Print JSON.
    #[arg(long, conflicts_with_all = ["quiet", "format"])]
    json: bool,
}

pub(super) fn ls(host: &Host, args: &LsArgs) -> Result<Exit, Failure> {
    let mut records = host.list()?;
    records.retain(|record| Filter::all(&args.filters, record));
    if args.json {
        let rows: Vec<_> = records.iter().map(as_json).collect();
        output::json(&rows)?;
    } else if args.quiet {
        output::data(&records.iter().map(|record| format!("{}\n", record.id)).collect::<String>())?;
    } else if let Some(format) = &args.format {
        output::data(&records.iter().map(|record| format.line(record)).collect::<String>())?;
    } else {
        let rows: Vec<Vec<String>> = records.iter().map(row).collect();
        output::data(&output::table(&["ID", "NAME", "STATE", "IMAGE", "CPUS", "MEMORY", "CREATED"], &rows))?;
    }
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
pub(super) fn as_json(record: &VmRecord) -> serde_json::Value {
    let mut value = serde_json::to_value(record).expect("plain data is JSON");
    value["state"] = json!(record.effective_state());
    value
}

#[derive(Debug, Args)]
#[command(after_help = "Ends with 0 whatever the state is, 2 when there is no such VM.\n\n\
                        Example:\n  tci vm status web")]
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
        for sentence in &live.limits.unenforced {
            text += &format!("limits: {sentence}\n");
        }
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

#[derive(Debug, Args)]
#[command(
    after_help = "Ends with 0 when the supervisor answers, 2 when the VM does not run, 3 when there is no answer.\n\n\
                        Example:\n  tci vm ping web"
)]
pub(super) struct PingArgs {
    /// A VM's name, id, or the start of its id.
    vm: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn ping(host: &Host, args: &PingArgs) -> Result<Exit, Failure> {
    let client = client(host, &args.vm)?;
    let start = Instant::now();
    client.ping().await?;
    // To the microsecond: what is beyond is noise.
    let ms = (start.elapsed().as_secs_f64() * 1e6).round() / 1e3;
    if args.json {
        output::json(&json!({"id": client.id(), "ms": ms}))?;
    } else {
        output::data(&format!("pong in {ms:.3} ms\n"))?;
    }
    Ok(Exit::Success)
}

#[derive(Debug, Args)]
#[command(
    after_help = "Ends with 0 whatever the state is, 2 when there is no such VM, 3 when its supervisor does not answer.\n\n\
                        Example:\n  tci vm inspect web | jq .spec"
)]
pub(super) struct InspectArgs {
    /// A VM's name, id, or the start of its id.
    vm: String,
    /// The only form there is.
    #[arg(long, hide = true)]
    json: bool,
}

pub(super) async fn inspect(host: &Host, args: &InspectArgs) -> Result<Exit, Failure> {
    let record = host.find(&args.vm)?;
    let mut value = as_json(&record);
    value["directory"] = json!(host.paths().vm(&record.id));
    value["executions"] = json!(host.executions(&record.id)?);
    if let Ok(client) = host.client(&record.id) {
        value["status"] = json!(client.status().await?);
    }
    output::json(&value)?;
    Ok(Exit::Success)
}
