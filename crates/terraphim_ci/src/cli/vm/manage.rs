//! Commands that change VMs.

use std::time::Duration;

use clap::Args;
use serde_json::Value;
use terraphim_vm::{Host, Network, StopOptions, VmState};

use crate::{
    cli::vm::client,
    config::{Config, VmType},
    exit::Exit,
    failure::Failure,
    output,
};

/// The options that say what a VM is, shared by `tci run` and `tci vm create`.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct SpecArgs {
    /// The image, by name or digest (`tci image ls`).
    #[arg(long, value_name = "IMAGE", env = "TCI_IMAGE")]
    pub(crate) image: Option<String>,
    /// Virtual processors.
    #[arg(long, value_name = "N")]
    pub(crate) cpus: Option<u8>,
    /// Memory, in MiB or with a unit: `2048`, `2G`.
    #[arg(long, value_name = "SIZE", value_parser = mebibytes)]
    pub(crate) memory: Option<u32>,
    /// Writable disk, in MiB or with a unit; takes room only as it fills.
    #[arg(long, value_name = "SIZE", value_parser = mebibytes)]
    pub(crate) disk: Option<u32>,
    /// What the guest can reach: `user` is outgoing connections through the host.
    #[arg(long, value_name = "NETWORK", value_parser = network)]
    pub(crate) network: Option<Network>,
}

impl SpecArgs {
    /// What the flags say over a VM type.
    pub(crate) fn as_type(&self) -> VmType {
        VmType {
            image: self.image.clone(),
            cpus: self.cpus,
            memory_mib: self.memory,
            disk_mib: self.disk,
            network: self.network,
        }
    }
}

/// `512`, `512M`, `512MiB`, `2G`, `2GiB`.
fn mebibytes(text: &str) -> Result<u32, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "" | "M" | "MiB" => 1,
        "G" | "GiB" => 1024,
        _ => return Err("give a number of MiB, or a number with M, MiB, G or GiB".to_owned()),
    };
    let number: u32 = digits.parse().map_err(|_| "this is no number".to_owned())?;
    number.checked_mul(factor).ok_or_else(|| "this is too large".to_owned())
}

fn network(text: &str) -> Result<Network, String> {
    match text {
        "none" => Ok(Network::None),
        "user" => Ok(Network::User),
        _ => Err("use `none` or `user`".to_owned()),
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tci vm create --name web --cpus 2 --memory 1G\n  tci vm start web")]
pub(super) struct CreateArgs {
    /// Its name, unique on this host; made up when absent.
    #[arg(long)]
    name: Option<String>,
    /// A VM type of the configuration.
    #[arg(long, value_name = "TYPE", default_value = "default", env = "TCI_VM_TYPE")]
    vm_type: String,
    #[command(flatten)]
    spec: SpecArgs,
}

pub(super) fn create(host: &Host, args: &CreateArgs) -> Result<Exit, Failure> {
    let config = Config::load(None).map_err(|error| Failure::caused(Exit::Usage, error))?;
    let vm_type = config.vm_type(&args.vm_type).ok_or_else(|| no_vm_type(&config, &args.vm_type))?;
    let mut spec = vm_type.overridden_by(&args.spec.as_type()).spec();
    spec.name.clone_from(&args.name);
    let record = host.create(&spec)?;
    output::data(&format!("{}\n", record.id))?;
    Ok(Exit::Success)
}

/// There is no such type; these exist.
pub(crate) fn no_vm_type(config: &Config, name: &str) -> Failure {
    let known: Vec<&str> = config.vm_types.keys().map(String::as_str).collect();
    Failure::usage(format!("there is no VM type `{name}`")).hint(format!("these exist: {}", known.join(", ")))
}

pub(super) async fn start(host: &Host, name: &str) -> Result<Exit, Failure> {
    let record = host.find(name)?;
    let record = host.start(&record.id).await?;
    host.client(&record.id)?.wait_agent().await?;
    output::note(&format!("VM {} ({}) runs", record.name, record.id));
    Ok(Exit::Success)
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tci vm stop web --grace 30")]
pub(super) struct StopArgs {
    /// VMs by name, id, or the start of an id.
    #[arg(required = true)]
    vms: Vec<String>,
    /// How many seconds the guest gets to shut down; 0 does not ask it.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    grace: u64,
}

pub(super) async fn stop(host: &Host, args: &StopArgs) -> Result<Exit, Failure> {
    for name in &args.vms {
        let record = host.find(name)?;
        let report = host.stop(&record.id, &StopOptions { grace: Duration::from_secs(args.grace) }).await?;
        let step = serde_json::to_value(report.step).expect("plain data is JSON");
        output::note(&format!("VM {name}: {}", step.as_str().unwrap_or_default().replace('_', " ")));
    }
    Ok(Exit::Success)
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tci vm rm --force web")]
pub(super) struct RmArgs {
    /// VMs by name, id, or the start of an id.
    #[arg(required = true)]
    vms: Vec<String>,
    /// Also VMs that run.
    #[arg(long, short)]
    force: bool,
}

pub(super) async fn rm(host: &Host, args: &RmArgs) -> Result<Exit, Failure> {
    for name in &args.vms {
        let record = host.find(name)?;
        host.remove(&record.id, args.force).await.map_err(|error| {
            let failure = Failure::from(error);
            if failure.exit == Exit::Usage { failure.hint("stop it first, or use --force") } else { failure }
        })?;
        output::data(&format!("{}\n", record.id))?;
    }
    Ok(Exit::Success)
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tci vm qmp web query-status\n  tci vm qmp web human-monitor-command \
                        '{\"command-line\": \"info registers\"}'")]
pub(super) struct QmpArgs {
    /// A VM's name, id, or the start of its id.
    vm: String,
    /// The command.
    command: String,
    /// Its arguments, a JSON object.
    #[arg(value_parser = json_value)]
    arguments: Option<Value>,
}

fn json_value(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

pub(super) async fn qmp(host: &Host, args: &QmpArgs) -> Result<Exit, Failure> {
    let answer = client(host, &args.vm)?.qmp(&args.command, args.arguments.clone()).await?;
    output::json(&answer)?;
    Ok(Exit::Success)
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tci vm prune")]
pub(super) struct PruneArgs {
    /// Also VMs that were never started.
    #[arg(long)]
    all: bool,
}

pub(super) async fn prune(host: &Host, args: &PruneArgs) -> Result<Exit, Failure> {
    host.repair_all()?;
    for record in host.list()? {
        let is_over = match record.state {
            VmState::Stopped | VmState::Failed => true,
            VmState::Created => args.all,
            VmState::Starting | VmState::Running | VmState::Stopping => false,
        };
        if is_over {
            host.remove(&record.id, false).await?;
            output::data(&format!("{}\n", record.id))?;
        }
    }
    Ok(Exit::Success)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        let good = [("512", 512), ("512M", 512), ("2G", 2048), ("2GiB", 2048)];
        assert!(good.iter().all(|(text, want)| mebibytes(text) == Ok(*want)));
        assert!(["", "G", "2T", "-1", "1.5G", "9999999G", "ü"].iter().all(|text| mebibytes(text).is_err()));
    }
}
