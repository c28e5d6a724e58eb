//! What a VM is to be.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::Limits;

/// The most vCPUs that the microvm machine takes.
pub const MAX_VCPUS: u8 = 64;
/// The least memory in MiB with which the Debian kernel and a shell start.
pub const MIN_MEMORY_MIB: u32 = 128;

/// What a guest can reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// No network device.
    None,
    /// Outgoing connections through the host's own (QEMU user networking).
    #[default]
    User,
}

/// A directory of the host that is copied into the guest.
///
/// It is a copy, made by `tci vm start` as soon as the guest has booted; what either side changes later the other does
/// not see. QEMU's microvm machine could share a directory through 9p only, which Debian's cloud kernel does not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// An absolute path on the host.
    pub source: PathBuf,
    /// An absolute path in the guest; made when it is not there.
    pub target: String,
}

/// One mistake in a definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecProblem {
    /// Which key, as it is written in a file.
    pub key: &'static str,
    /// Its value and what it should be.
    pub message: String,
}

impl SpecProblem {
    pub(crate) fn new(key: &'static str, message: String) -> SpecProblem {
        SpecProblem { key, message }
    }
}

impl fmt::Display for SpecProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.key, self.message)
    }
}

/// The definition of a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VmSpec {
    /// Its name, unique on the host; made from the id when absent. `[A-Za-z0-9][A-Za-z0-9_.-]{0,62}`.
    pub name: Option<String>,
    /// An image's name or digest.
    pub image: String,
    /// Virtual processors, 1 to [`MAX_VCPUS`].
    pub vcpus: u8,
    /// Memory in MiB, at least [`MIN_MEMORY_MIB`].
    pub memory_mib: u32,
    /// Size of the writable disk in MiB, at least 64. It takes room on the host only as it fills.
    pub disk_mib: u32,
    /// What the guest can reach.
    pub network: Network,
    /// Free annotations.
    pub labels: BTreeMap<String, String>,
    /// What it may take of the host.
    #[serde(skip_serializing_if = "Limits::is_none")]
    pub limits: Limits,
    /// Directories that are copied into the guest.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
}

impl Default for VmSpec {
    fn default() -> VmSpec {
        VmSpec {
            name: None,
            image: "debian".to_owned(),
            vcpus: 2,
            memory_mib: 512,
            disk_mib: 10_240,
            network: Network::default(),
            labels: BTreeMap::new(),
            limits: Limits::default(),
            mounts: Vec::new(),
        }
    }
}

impl VmSpec {
    /// Everything that is wrong with the definition; `host_memory_mib` is what the host has in all.
    #[must_use]
    pub fn problems(&self, host_memory_mib: u64) -> Vec<SpecProblem> {
        let mut problems = Vec::new();
        let mut add = |key, message: String| problems.push(SpecProblem::new(key, message));
        if let Some(name) = &self.name
            && !is_name(name)
        {
            let rule = "use up to 63 letters, digits, `_`, `.` and `-`, the first a letter or digit";
            add("name", format!("{name:?}: {rule}"));
        }
        if self.image.is_empty() {
            add("image", "\"\": name one (`tci image ls` shows them)".to_owned());
        }
        if !(1..=MAX_VCPUS).contains(&self.vcpus) {
            add("cpus", format!("{}: use 1 to {MAX_VCPUS}", self.vcpus));
        }
        if self.memory_mib < MIN_MEMORY_MIB {
            add("memory", format!("{} MiB: use at least {MIN_MEMORY_MIB}", self.memory_mib));
        }
        if u64::from(self.memory_mib) > host_memory_mib {
            add("memory", format!("{} MiB: the host has {host_memory_mib} MiB in all", self.memory_mib));
        }
        if self.disk_mib < 64 {
            add("disk", format!("{} MiB: use at least 64", self.disk_mib));
        }
        for key in self.labels.keys().filter(|key| !is_name(key)) {
            let rule = "use up to 63 letters, digits, `_`, `.` and `-`, the first a letter or digit";
            add("labels", format!("{key:?}: {rule}"));
        }
        for mount in &self.mounts {
            if !mount.source.is_dir() {
                let source = mount.source.display();
                add("mounts", format!("{source}: the source must be a directory that exists"));
            }
            if !mount.target.starts_with('/') || mount.target.split('/').any(|part| part == "..") {
                let target = &mount.target;
                add("mounts", format!("{target:?}: the target must be an absolute path without `..`"));
            }
        }
        problems.extend(self.limits.problems(self.vcpus, self.memory_mib));
        problems
    }
}

fn is_name(name: &str) -> bool {
    let ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    (1..=63).contains(&name.len()) && name.bytes().all(ok) && name.as_bytes()[0].is_ascii_alphanumeric()
}

/// `MemTotal` of this host in MiB; 0 when `/proc/meminfo` cannot be read, which refuses every VM.
#[must_use]
pub fn host_memory_mib() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse().ok());
    kib.unwrap_or(0u64) / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_good_and_each_mistake_is_named() {
        assert_eq!(VmSpec::default().problems(4096), []);
        let bad = VmSpec {
            name: Some("../x".into()),
            image: String::new(),
            vcpus: 0,
            memory_mib: 1,
            disk_mib: 0,
            ..VmSpec::default()
        };
        assert_eq!(bad.problems(4096).len(), 5);
        let greedy = VmSpec { memory_mib: 8192, ..VmSpec::default() };
        assert_eq!(greedy.problems(4096)[0].to_string(), "memory 8192 MiB: the host has 4096 MiB in all");
        let lost = Mount { source: "/nowhere".into(), target: "a/../b".into() };
        let spec =
            VmSpec { mounts: vec![lost], labels: [("a b".into(), "c".into())].into(), ..VmSpec::default() };
        assert_eq!(spec.problems(4096).len(), 3);
    }

    #[test]
    fn the_host_has_memory() {
        assert!(host_memory_mib() > 0);
    }
}
