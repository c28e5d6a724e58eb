//! `POST /v1/shutdown`: ask every process to end, kill the rest, write everything to disk, power off.

use std::{rc::Rc, time::Duration};

use h2::RecvStream;
use rustix::process::Signal;
use terraphim_vm_protocol::message::Shutdown;

use crate::{
    agent::{Agent, Role},
    body::{Refusal, read_json},
};

/// Killed processes are gone within milliseconds; one that hangs in a device does not stop the power from going off.
const DEATH_LIMIT: Duration = Duration::from_secs(5);

pub(crate) async fn prepare(body: &mut RecvStream) -> Result<Shutdown, Refusal> {
    read_json(body).await
}

/// Ends all processes, and then this one, from a task that outlives the connection: the host need not wait for the end.
pub(crate) fn shutdown(agent: Rc<Agent>, shutdown: Shutdown) {
    tokio::task::spawn_local(async move {
        // Otherwise its processes end with the connection.
        if agent.role == Role::Init {
            signal_all(Signal::TERM);
            let grace = Duration::from_millis(shutdown.grace_ms);
            let polite = tokio::time::timeout(grace, agent.reaper.wait_for_no_children()).await;
            if polite.is_err() {
                signal_all(Signal::KILL);
                let _ = tokio::time::timeout(DEATH_LIMIT, agent.reaper.wait_for_no_children()).await;
            }
        }
        agent.ending.send_replace(true);
    });
}

/// Every process but this one and the kernel's own.
fn signal_all(signal: Signal) {
    // A stopped process would not see SIGTERM.
    for signal in [signal, Signal::CONT] {
        // SAFETY: kill(2) takes numbers; -1 means everything for PID 1, as which alone this is called.
        unsafe { libc::kill(-1, signal.as_raw()) };
    }
}
