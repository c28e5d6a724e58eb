//! A row as it is stored, and as it is understood.

use std::{
    path::{Path, PathBuf},
    str::FromStr as _,
};

use rusqlite::Row;

use super::{RegistryError, VmRecord};
use crate::{ProcessId, VmId, VmState};

/// What [`RawRow::read`] reads, in this order.
pub(super) const COLUMNS: &str = "id, name, spec, state, epoch, runner_pid, runner_start, qemu_pid, qemu_start, boot_id, \
                       socket_path, owner, end, created_at_ms, updated_at_ms";

/// The values of one row, of which none is checked yet.
pub(super) struct RawRow {
    id: String,
    name: String,
    spec: String,
    state: String,
    epoch: i64,
    runner: Option<(i32, i64)>,
    qemu: Option<(i32, i64)>,
    boot_id: Option<String>,
    socket: Option<String>,
    owner: Option<String>,
    end: Option<String>,
    created_at_ms: i64,
    updated_at_ms: i64,
}

impl RawRow {
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<RawRow> {
        let pair = |pid: Option<i32>, start: Option<i64>| pid.zip(start);
        Ok(RawRow {
            id: row.get(0)?,
            name: row.get(1)?,
            spec: row.get(2)?,
            state: row.get(3)?,
            epoch: row.get(4)?,
            runner: pair(row.get(5)?, row.get(6)?),
            qemu: pair(row.get(7)?, row.get(8)?),
            boot_id: row.get(9)?,
            socket: row.get(10)?,
            owner: row.get(11)?,
            end: row.get(12)?,
            created_at_ms: row.get(13)?,
            updated_at_ms: row.get(14)?,
        })
    }

    /// # Errors
    /// Some value is none that this program writes.
    pub(super) fn into_record(self, path: &Path) -> Result<VmRecord, RegistryError> {
        let damaged = |what| RegistryError::Row { path: path.to_owned(), id: self.id.clone(), what };
        let process = |pair: Option<(i32, i64)>| {
            pair.zip(self.boot_id.clone()).map(|((pid, start), boot_id)| ProcessId {
                pid,
                start_time: start.cast_unsigned(),
                boot_id,
            })
        };
        Ok(VmRecord {
            id: VmId::from_str(&self.id).map_err(|_| damaged("id"))?,
            spec: serde_json::from_str(&self.spec).map_err(|_| damaged("spec"))?,
            state: VmState::from_word(&self.state).ok_or_else(|| damaged("state"))?,
            supervisor: process(self.runner),
            hypervisor: process(self.qemu),
            socket: self.socket.as_ref().map(PathBuf::from),
            owner: json(self.owner.as_deref()).map_err(|_| damaged("owner"))?,
            end: json(self.end.as_deref()).map_err(|_| damaged("end"))?,
            name: self.name,
            epoch: self.epoch,
            created_at_ms: self.created_at_ms,
            updated_at_ms: self.updated_at_ms,
        })
    }
}

/// A value that is kept as JSON.
pub(super) fn json<T: serde::de::DeserializeOwned>(text: Option<&str>) -> serde_json::Result<Option<T>> {
    text.map(serde_json::from_str).transpose()
}
