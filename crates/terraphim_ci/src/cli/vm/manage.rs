//! What is shared by commands about VMs, and `tci vm qmp`.

use clap::Args;
use serde_json::Value;
use terraphim_vm::{Host, Limits, Network};

use crate::{
    cli::vm::client,
    config::{Config, VmType},
    exit::Exit,
    failure::Failure,
    output,
};

/// The options that say what a VM of `tci run` is.
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
            limits: Limits::default(),
        }
    }
}

/// `512`, `512M`, `512MiB`, `2G`, `2GiB`.
pub(super) fn mebibytes(text: &str) -> Result<u32, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "" | "M" | "MiB" => 1,
        "G" | "GiB" => 1024,
        _ => return Err("give a number of MiB, or a number with M, MiB, G or GiB".to_owned()),
    };
    let number: u32 = digits.parse().map_err(|_| "this is no number".to_owned())?;
    number.checked_mul(factor).ok_or_else(|| "this is too large".to_owned())
}

pub(super) fn network(text: &str) -> Result<Network, String> {
    match text {
        "none" => Ok(Network::None),
        "user" => Ok(Network::User),
        _ => Err("use `none` or `user`".to_owned()),
    }
}

/// There is no such type; these exist.
pub(crate) fn no_vm_type(config: &Config, name: &str) -> Failure {
    Failure::usage(format!("there is no VM type `{name}`")).hint(format!("these exist: {}", vm_types(config)))
}

/// The names of the VM types.
pub(super) fn vm_types(config: &Config) -> String {
    config.vm_types.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
}

#[derive(Debug, Args)]
#[command(after_help = "\
Ends with 0 when QEMU did it, 2 on wrong usage, when there is no such VM or it does not run, 3 when QEMU refuses or does not \
answer.

Example:
  tci vm qmp web query-status
  tci vm qmp web human-monitor-command '{\"command-line\": \"info registers\"}'")]
pub(super) struct QmpArgs {
    /// A VM's name, id, or the start of its id.
    vm: String,
    /// The name of the command.
    #[arg(value_parser = qmp_name)]
    command: String,
    /// Its arguments, a JSON object.
    #[arg(value_parser = qmp_arguments)]
    arguments: Option<Value>,
    /// The only form there is.
    #[arg(long, hide = true)]
    json: bool,
}

/// What QMP allows in names (QEMU, docs "How to use the QAPI code generator", section "Naming rules and reserved names"). A
/// whole message in place of the name QEMU would only call unknown.
fn qmp_name(text: &str) -> Result<String, String> {
    let is_name = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    let expected = "the name of a QMP command is expected, such as query-status; its arguments are a JSON object \
                    behind it";
    if is_name { Ok(text.to_owned()) } else { Err(expected.to_owned()) }
}

fn qmp_arguments(text: &str) -> Result<Value, String> {
    let expected = r#"a JSON object is expected, such as {"command-line": "info registers"}"#;
    match serde_json::from_str(text) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err(expected.to_owned()),
        Err(error) => Err(format!("{expected}: {error}")),
    }
}

pub(super) async fn qmp(host: &Host, args: &QmpArgs) -> Result<Exit, Failure> {
    let answer = client(host, &args.vm)?.qmp(&args.command, args.arguments.clone()).await?;
    output::json(&answer)?;
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

    #[test]
    fn a_qmp_command_is_a_name_and_an_object() {
        for good in ["query-status", "__com.redhat_command", "x-query-opcount", "device_add"] {
            assert_eq!(qmp_name(good).as_deref(), Ok(good));
        }
        for bad in ["", "[]", "{}", r#"{"execute": "query-status"}"#, "query status", "-x", "\u{fc}"] {
            assert!(qmp_name(bad).unwrap_err().contains("such as query-status"), "{bad}");
        }
        assert_eq!(qmp_arguments(r#"{"a": 1}"#).unwrap()["a"], 1);
        for bad in ["[]", "null", "1", "\"x\"", "{", ""] {
            assert!(qmp_arguments(bad).unwrap_err().contains("a JSON object is expected"), "{bad}");
        }
    }
}
