//! What a VM is to be.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

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
        }
    }
}

impl VmSpec {
    /// Everything that is wrong with the definition, one sentence each; `host_memory_mib` is what the host has in all.
    #[must_use]
    pub fn problems(&self, host_memory_mib: u64) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(name) = &self.name
            && !is_name(name)
        {
            problems.push(format!(
                "name {name:?}: use up to 63 letters, digits, `_`, `.` and `-`, the first a letter or digit"
            ));
        }
        if self.image.is_empty() {
            problems.push("image: name one (`tci image ls` shows them)".to_owned());
        }
        if !(1..=MAX_VCPUS).contains(&self.vcpus) {
            problems.push(format!("vcpus {}: use 1 to {MAX_VCPUS}", self.vcpus));
        }
        if self.memory_mib < MIN_MEMORY_MIB {
            problems.push(format!("memory {} MiB: use at least {MIN_MEMORY_MIB}", self.memory_mib));
        }
        if u64::from(self.memory_mib) > host_memory_mib {
            problems
                .push(format!("memory {} MiB: the host has {host_memory_mib} MiB in all", self.memory_mib));
        }
        if self.disk_mib < 64 {
            problems.push(format!("disk {} MiB: use at least 64", self.disk_mib));
        }
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
        assert_eq!(VmSpec::default().problems(4096), Vec::<String>::new());
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
        assert_eq!(greedy.problems(4096), ["memory 8192 MiB: the host has 4096 MiB in all"]);
    }

    #[test]
    fn the_host_has_memory() {
        assert!(host_memory_mib() > 0);
    }
}
