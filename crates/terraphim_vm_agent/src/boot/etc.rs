//! The files in `/etc` that only a running guest can have.

use std::{fs, io, net::Ipv4Addr, os::unix::fs::PermissionsExt, path::Path};

pub(super) fn write_names(hostname: &str) -> io::Result<()> {
    // Clients of the services for jobs want a host of this form, and glibc alone does not know that `*.localhost` is here.
    let hosts = format!(
        "127.0.0.1\tlocalhost results.localhost\n127.0.1.1\t{hostname}\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
    );
    write("/etc/hostname", &format!("{hostname}\n"))?;
    write("/etc/hosts", &hosts)
}

pub(super) fn write_resolv_conf(dns: Ipv4Addr) -> io::Result<()> {
    write("/etc/resolv.conf", &format!("nameserver {dns}\n"))
}

/// Replaces the file, also when it is a link to one that a service would make which does not run here.
fn write(path: &str, content: &str) -> io::Result<()> {
    if let Some(parent) = Path::new(path).parent() {
        fs::create_dir_all(parent)?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::write(path, content)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
}
