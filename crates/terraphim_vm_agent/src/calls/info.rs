//! `GET /v1/info`.

use std::{fs, io};

use rustix::time::{ClockId, clock_gettime};
use terraphim_vm_protocol::{GENERATION, message::AgentInfo};

use crate::{
    agent::{self, Agent},
    body::Refusal,
};

/// What stays the same until the next boot. Reading it costs an emulated guest as much as the rest of the call.
#[derive(Clone)]
pub(crate) struct Machine {
    boot_id: String,
    memory_kib: u64,
}

pub(crate) fn info(agent: &Agent) -> Result<Vec<u8>, Refusal> {
    let machine = match agent.machine.get() {
        Some(machine) => machine,
        None => {
            let read = Machine::read();
            let read = read.map_err(|error| Refusal::internal(format!("cannot read /proc: {error}")))?;
            agent.machine.get_or_init(|| read)
        }
    };
    let Machine { boot_id, memory_kib } = machine.clone();
    let info = AgentInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        generation: GENERATION,
        boot_id,
        uptime_ns: uptime_ns(),
        memory_kib,
        warnings: agent.warnings.clone(),
    };
    serde_json::to_vec(&info).map_err(|error| Refusal::internal(error.to_string()))
}

impl Machine {
    fn read() -> io::Result<Machine> {
        Ok(Machine { boot_id: agent::boot_id()?, memory_kib: memory_kib()? })
    }
}

fn uptime_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    // The clock counts from the boot: both parts are never negative.
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// `MemTotal` of the machine.
pub(crate) fn memory_kib() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    text.lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse().ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/meminfo has no MemTotal"))
}
