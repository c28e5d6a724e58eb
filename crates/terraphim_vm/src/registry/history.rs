//! The history of all rows: every change is an event with a number.

use std::str::FromStr as _;

use rusqlite::{Connection, Row, params};

use super::{Registry, RegistryError, row::json};
use crate::{VmEvent, VmId};

/// Events that are kept, of all VMs together: a day of a busy host, a megabyte at most.
pub(super) const KEPT_EVENTS: i64 = 10_000;

impl Registry {
    /// At most `limit` events after number `after`, oldest first.
    ///
    /// # Errors
    /// The database cannot be read, or an event is damaged.
    pub fn events(&self, after: i64, limit: u32) -> Result<Vec<VmEvent>, RegistryError> {
        let sql = "SELECT seq, vm_id, coalesce(events.name, vms.name), events.state, events.epoch, at_ms, events.end FROM events
                   LEFT JOIN vms ON vms.id = vm_id WHERE seq > ?1 ORDER BY seq LIMIT ?2";
        let rows = self.read(|connection| {
            let mut statement = connection.prepare(sql)?;
            let read = |row: &Row<'_>| {
                let texts: (String, Option<String>) = (row.get(1)?, row.get(6)?);
                Ok((row.get(0)?, texts, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
            };
            statement.query_map(params![after, limit], read)?.collect::<rusqlite::Result<Vec<_>>>()
        })?;
        let event =
            |(seq, (id, end), name, state, epoch, at_ms): (_, (String, Option<String>), _, _, _, _)| {
                let damaged = |what| RegistryError::Row { path: self.path.clone(), id: id.clone(), what };
                Ok(VmEvent {
                    seq,
                    name,
                    state,
                    epoch,
                    at_ms,
                    end: json(end.as_deref()).map_err(|_| damaged("end"))?,
                    id: VmId::from_str(&id).map_err(|_| damaged("id"))?,
                })
            };
        rows.unwrap_or_default().into_iter().map(event).collect()
    }

    /// The number of the newest event; 0 when there is none.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn last_event(&self) -> Result<i64, RegistryError> {
        let last = self.read(|connection| {
            connection.query_row("SELECT coalesce(max(seq), 0) FROM events", [], |row| row.get(0))
        })?;
        Ok(last.unwrap_or(0))
    }
}

/// Copies the row's present state to the history.
pub(super) fn log_event(connection: &Connection, id: &VmId, now: i64) -> rusqlite::Result<()> {
    let sql = "INSERT INTO events (vm_id, at_ms, epoch, state, end, name)
               SELECT id, ?2, epoch, state, end, name FROM vms WHERE id = ?1";
    connection.prepare_cached(sql)?.execute(params![id.as_str(), now])?;
    prune_events(connection)
}

pub(super) fn prune_events(connection: &Connection) -> rusqlite::Result<()> {
    let sql = "DELETE FROM events WHERE seq <= (SELECT max(seq) FROM events) - ?1";
    connection.prepare_cached(sql)?.execute([KEPT_EVENTS])?;
    Ok(())
}
