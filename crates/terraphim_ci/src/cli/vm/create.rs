//! `tci vm create`.

use std::path::PathBuf;

use clap::Args;
use terraphim_vm::Host;

use super::{manage::vm_types, show, spec::Draft};
use crate::{
    config::{Config, VmType},
    exit::Exit,
    failure::{Failure, chain},
    output,
};

#[derive(Debug, Args)]
#[command(after_help = "\
A file has the keys name, vm-type, image, cpus, memory, disk, network, labels, limits and mounts; docs/vm.md shows one. Of \
several files and flags the later one wins, flags after files; labels, limits and mounts add up.

Limits are cpu-percent (100 is one processor), cpu-weight (1 to 10000, everything else has 100), memory, processes, disk-read \
and disk-write (per second) and disk-iops.

Ends with 0 when the VM is defined, 2 when something is wrong with the definition (all mistakes are told), 3 when the host \
cannot keep it.

Example:
  tci vm create --name web --cpus 2 --memory 1G --limit cpu-percent=150
  tci vm create -f base.toml -f web.yaml --label team=ci
  tci vm start web")]
pub(super) struct CreateArgs {
    /// Take the definition from a TOML or YAML file; may be repeated.
    #[arg(long = "file", short, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Its name, unique on this host; made up when absent.
    #[arg(long)]
    name: Option<String>,
    /// A VM type of the configuration [default: default].
    #[arg(long, value_name = "TYPE", env = "TCI_VM_TYPE")]
    vm_type: Option<String>,
    /// The image, by name or digest (`tci image ls`).
    #[arg(long, value_name = "IMAGE", env = "TCI_IMAGE")]
    image: Option<String>,
    /// Virtual processors.
    #[arg(long, value_name = "N")]
    cpus: Option<String>,
    /// Memory, in MiB or with a unit: `2048`, `2G`.
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// Writable disk, in MiB or with a unit; takes room only as it fills.
    #[arg(long, value_name = "SIZE")]
    disk: Option<String>,
    /// What the guest can reach: `user` is outgoing connections through the host, `none` nothing.
    #[arg(long, value_name = "NETWORK")]
    network: Option<String>,
    /// An annotation; may be repeated.
    #[arg(long = "label", short, value_name = "KEY=VALUE")]
    labels: Vec<String>,
    /// Copy a directory of the host into the guest at every start; may be repeated.
    #[arg(long = "mount", value_name = "SOURCE:TARGET")]
    mounts: Vec<String>,
    /// What the VM may take of the host at most; may be repeated.
    #[arg(long = "limit", value_name = "KEY=VALUE")]
    limits: Vec<String>,
    /// Print the VM as JSON instead of its id.
    #[arg(long)]
    json: bool,
}

impl CreateArgs {
    fn draft(&self) -> Draft {
        let mut draft = Draft::default();
        self.files.iter().for_each(|file| draft.file(file));
        let flags = [
            ("--name", "name", &self.name),
            ("--vm-type", "vm-type", &self.vm_type),
            ("--image", "image", &self.image),
            ("--cpus", "cpus", &self.cpus),
            ("--memory", "memory", &self.memory),
            ("--disk", "disk", &self.disk),
            ("--network", "network", &self.network),
        ];
        for (flag, key, value) in flags {
            if let Some(value) = value {
                draft.flag(flag, key, value);
            }
        }
        self.labels.iter().for_each(|label| draft.flag("--label", "labels", label));
        self.mounts.iter().for_each(|mount| draft.flag("--mount", "mounts", mount));
        self.limits.iter().for_each(|limit| draft.limit_flag(limit));
        draft
    }
}

pub(super) fn create(host: &Host, args: &CreateArgs) -> Result<Exit, Failure> {
    let config = Config::load(None).map_err(|error| Failure::caused(Exit::Usage, error))?;
    let mut draft = args.draft();
    let name = draft.vm_type().unwrap_or("default").to_owned();
    let vm_type = config.vm_type(&name);
    if vm_type.is_none() {
        let message = format!("there is no VM type `{name}`; these exist: {}", vm_types(&config));
        draft.mistake("vm-type", &message);
    }
    check_host(host, &mut draft, vm_type.as_ref())?;
    let spec = draft.finish(&vm_type.unwrap_or_default()).map_err(|mistakes| {
        Failure::usage(format!("cannot create the VM, nothing was made:\n  {}", mistakes.join("\n  ")))
    })?;
    let record = host.create(&spec)?;
    if args.json {
        output::json(&show::as_json(&record))?;
    } else {
        output::data(&format!("{}\n", record.id))?;
    }
    Ok(Exit::Success)
}

/// What only the host knows, told with everything else. `Host::create` decides: others create VMs meanwhile.
fn check_host(host: &Host, draft: &mut Draft, vm_type: Option<&VmType>) -> Result<(), Failure> {
    // Which image a VM type has that does not exist, nobody knows.
    let default = vm_type.map_or_else(String::new, |vm_type| vm_type.spec().image);
    let image = draft.image().map_or(default, str::to_owned);
    if !image.is_empty()
        && let Err(error) = host.images()?.resolve(&image)
    {
        draft.mistake("image", &chain(&error));
    }
    let taken = match draft.name() {
        Some(name) => host.list()?.iter().any(|vm| vm.name == name),
        None => false,
    };
    if taken {
        draft.mistake("name", "there is already a VM of this name (`tci vm ls`)");
    }
    Ok(())
}
