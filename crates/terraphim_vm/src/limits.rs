//! What a VM may take of its host.

use serde::{Deserialize, Serialize};

use crate::spec::SpecProblem;

/// The most that a VM's hypervisor may take of the host. What is absent is not limited.
///
/// Processor, memory and processes are limited by control groups (Linux, `Documentation/admin-guide/cgroup-v2.rst` and
/// `cgroup-v1/`), the disk by QEMU itself (QMP, `block_set_io_throttle`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Limits {
    /// Processor time in hundredths of one processor, 5 to 25600: 150 is one and a half.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_percent: Option<u32>,
    /// The share of the processors when they are scarce, 1 to 10000; everything else on the host has 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_weight: Option<u32>,
    /// Memory of the hypervisor in MiB: the guest's and what QEMU itself needs, at least [`QEMU_MEMORY_MIB`] more than
    /// the guest has. Beyond it the kernel kills the hypervisor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u32>,
    /// Processes and threads of the hypervisor, at least [`QEMU_THREADS`] more than the guest has vCPUs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes: Option<u32>,
    /// Bytes per second, in MiB, that the guest may read from its disks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_read_mib: Option<u32>,
    /// Bytes per second, in MiB, that the guest may write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_write_mib: Option<u32>,
    /// Reads and writes per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_iops: Option<u32>,
}

/// What QEMU needs beside the guest's memory. Under emulation, QEMU 7.2 with a guest of 128 MiB had taken 227 MiB in all
/// after the boot (`memory.max_usage_in_bytes`), kernel and RAM disk in the page cache included.
pub const QEMU_MEMORY_MIB: u32 = 128;
/// Main loop, RCU and the workers that a little disk traffic needs.
pub const QEMU_THREADS: u32 = 8;

impl Limits {
    /// Whether nothing is limited.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Limits::default()
    }

    /// Everything that `over` limits instead.
    #[must_use]
    pub fn overridden_by(&self, over: &Limits) -> Limits {
        Limits {
            cpu_percent: over.cpu_percent.or(self.cpu_percent),
            cpu_weight: over.cpu_weight.or(self.cpu_weight),
            memory_mib: over.memory_mib.or(self.memory_mib),
            processes: over.processes.or(self.processes),
            disk_read_mib: over.disk_read_mib.or(self.disk_read_mib),
            disk_write_mib: over.disk_write_mib.or(self.disk_write_mib),
            disk_iops: over.disk_iops.or(self.disk_iops),
        }
    }

    /// The arguments of QEMU's `block_set_io_throttle` for the device `id`; `None` when the disk is not limited. All
    /// devices are in one group: the limit is for the VM.
    pub(crate) fn throttle(&self, id: &str) -> Option<serde_json::Value> {
        let bytes = |mib: Option<u32>| u64::from(mib.unwrap_or(0)) << 20;
        let (read, write, iops) =
            (bytes(self.disk_read_mib), bytes(self.disk_write_mib), self.disk_iops.unwrap_or(0));
        (read > 0 || write > 0 || iops > 0).then(|| {
            serde_json::json!({
                "id": id, "group": "disks", "bps": 0, "bps_rd": read, "bps_wr": write,
                "iops": iops, "iops_rd": 0, "iops_wr": 0,
            })
        })
    }

    pub(crate) fn problems(&self, vcpus: u8, memory_mib: u32) -> Vec<SpecProblem> {
        let mut problems = Vec::new();
        let mut check = |key, value: Option<u32>, least: u32, most: u32| {
            if let Some(value) = value.filter(|value| !(least..=most).contains(value)) {
                let range =
                    if most == u32::MAX { format!("at least {least}") } else { format!("{least} to {most}") };
                problems.push(SpecProblem::new(key, format!("{value}: use {range}")));
            }
        };
        check("limits.cpu-percent", self.cpu_percent, 5, 25_600);
        check("limits.cpu-weight", self.cpu_weight, 1, 10_000);
        check("limits.memory", self.memory_mib, memory_mib.saturating_add(QEMU_MEMORY_MIB), u32::MAX);
        check("limits.processes", self.processes, u32::from(vcpus) + QEMU_THREADS, u32::MAX);
        check("limits.disk-read", self.disk_read_mib, 1, u32::MAX);
        check("limits.disk-write", self.disk_write_mib, 1, u32::MAX);
        check("limits.disk-iops", self.disk_iops, 1, u32::MAX);
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_has_its_range() {
        let none = Limits::default();
        assert!(none.is_none() && none.problems(1, 512).is_empty() && none.throttle("x").is_none());
        let bad = Limits {
            cpu_percent: Some(1),
            cpu_weight: Some(0),
            memory_mib: Some(512),
            processes: Some(1),
            disk_read_mib: Some(0),
            disk_write_mib: Some(0),
            disk_iops: Some(0),
        };
        let problems = bad.problems(1, 512);
        assert_eq!(problems.len(), 7);
        assert_eq!(problems[2].to_string(), "limits.memory 512: use at least 640");
    }

    #[test]
    fn the_disk_is_limited_in_bytes() {
        let limits = Limits { disk_write_mib: Some(2), ..Limits::default() };
        let arguments = limits.throttle("scratch").unwrap();
        assert_eq!((&arguments["bps_wr"], &arguments["bps_rd"]), (&(2 << 20).into(), &0.into()));
    }
}
