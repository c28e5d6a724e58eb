//! Signals to what was run in a VM: `tci vm exec --attach --signal`.

use rustix::process::Signal;
use terraphim_vm::{Host, VmError};

use super::client;
use crate::{exit::Exit, failure::Failure};

/// For what outlived its client: a `shell` that was killed, a command that was detached.
pub(super) async fn send(host: &Host, vm: &str, exec: &str, name: &str) -> Result<Exit, Failure> {
    let number = signal_number(name).ok_or_else(|| {
        Failure::usage(format!("--signal: {name}: there is no such signal"))
            .hint("use a name as TERM or KILL, or 1 to 64")
    })?;
    match client(host, vm)?.signal(exec, number).await {
        Err(VmError::Refused { status: 404 | 409, .. }) => {
            Err(Failure::usage(format!("execution {exec} has ended")))
        }
        sent => Ok(sent.map(|()| Exit::Success)?),
    }
}

/// As kill(1) names them, of those that are of use here.
fn signal_number(text: &str) -> Option<i32> {
    const NAMES: [(&str, Signal); 10] = [
        ("HUP", Signal::HUP),
        ("INT", Signal::INT),
        ("QUIT", Signal::QUIT),
        ("KILL", Signal::KILL),
        ("USR1", Signal::USR1),
        ("USR2", Signal::USR2),
        ("TERM", Signal::TERM),
        ("CONT", Signal::CONT),
        ("STOP", Signal::STOP),
        ("TSTP", Signal::TSTP),
    ];
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let named = NAMES.iter().find(|(known, _)| *known == name).map(|(_, signal)| signal.as_raw());
    named.or_else(|| text.parse().ok().filter(|number| (1..=64).contains(number)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_has_a_name_or_a_number() {
        let numbers = ["TERM", "sigkill", "10", "64", "0", "65", "SIGNOTHING", ""].map(signal_number);
        assert_eq!(numbers, [Some(15), Some(9), Some(10), Some(64), None, None, None, None]);
    }
}
