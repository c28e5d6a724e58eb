//! Names, users and networks that every guest has.

/// The user id that GitHub's hosted runners use for the user `runner`.
pub(super) const RUNNER_ID: u32 = 1001;

/// The guest's name until it is given another one.
pub(super) const HOSTNAME: &str = "tci\n";

pub(super) const HOSTS: &str =
    "127.0.0.1\tlocalhost\n127.0.1.1\ttci\n::1\tlocalhost ip6-localhost ip6-loopback\n";

/// QEMU's user network answers DNS at this address.
pub(super) const RESOLV_CONF: &str = "nameserver 10.0.2.3\n";
