//! The VM as its containers reach it: the services of a job listen on the VM's loopback interface, which no container has.

use super::launch::words;
use super::tool::Call;
use crate::engine::services::SERVICES_HOST;

/// Carries connections of containers to the address that the engine calls `host-gateway` on to the loopback interface.
/// They are of processes of the same job, which may do in the VM what they like.
const LET_IN: &str = r#"address=$(ip -4 -oneline address show docker0 | sed 's/.* inet \([0-9.]*\).*/\1/')
[ -n "$address" ] || { echo 'there is no docker0' >&2; exit 1; }
rule="PREROUTING --destination $address --protocol tcp --jump DNAT --to-destination 127.0.0.1"
iptables --wait --table nat --check $rule 2>/dev/null && exit
echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet && iptables --wait --table nat --insert $rule"#;

/// The command that lets containers in, once the daemon runs.
pub(in crate::engine) fn let_in() -> Call {
    Call::new(&["sh", "-c", LET_IN])
}

/// The options that tell a container the name of the VM.
pub(super) fn options() -> Vec<String> {
    words(&["--add-host", &format!("{SERVICES_HOST}:host-gateway")])
}
