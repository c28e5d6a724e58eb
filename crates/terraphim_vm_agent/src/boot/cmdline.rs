//! What the host tells the guest before there is a connection: `tci.*` on the kernel command line.

use std::{fmt, net::Ipv4Addr};

/// The `tci.*` options.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CommandLine {
    pub(super) rootfs: RootFormat,
    pub(super) net: Option<Net>,
}

/// How the base disk is formatted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RootFormat {
    Squashfs,
    Erofs,
    Ext4,
}

/// `tci.net=ADDRESS/PREFIX,GATEWAY,DNS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Net {
    pub(super) address: Ipv4Addr,
    pub(super) mask: Ipv4Addr,
    pub(super) gateway: Ipv4Addr,
    pub(super) dns: Ipv4Addr,
}

/// An option that is missing, unknown or malformed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BadCommandLine {
    NoRootfs,
    Bad(String),
}

impl fmt::Display for BadCommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadCommandLine::NoRootfs => f.write_str("tci.rootfs is missing"),
            BadCommandLine::Bad(option) => write!(f, "{option} is unknown or malformed"),
        }
    }
}

impl RootFormat {
    pub(super) fn name(self) -> &'static str {
        match self {
            RootFormat::Squashfs => "squashfs",
            RootFormat::Erofs => "erofs",
            RootFormat::Ext4 => "ext4",
        }
    }
}

impl CommandLine {
    pub(super) fn parse(line: &str) -> Result<CommandLine, BadCommandLine> {
        let mut rootfs = None;
        let mut net = None;
        for option in line.split_ascii_whitespace().filter(|option| option.starts_with("tci.")) {
            let bad = || BadCommandLine::Bad(option.to_owned());
            match option.split_once('=') {
                Some(("tci.rootfs", "squashfs")) => rootfs = Some(RootFormat::Squashfs),
                Some(("tci.rootfs", "erofs")) => rootfs = Some(RootFormat::Erofs),
                Some(("tci.rootfs", "ext4")) => rootfs = Some(RootFormat::Ext4),
                Some(("tci.net", value)) => net = Some(parse_net(value).ok_or_else(bad)?),
                _ => return Err(bad()),
            }
        }
        Ok(CommandLine { rootfs: rootfs.ok_or(BadCommandLine::NoRootfs)?, net })
    }
}

fn parse_net(value: &str) -> Option<Net> {
    let parts: Vec<&str> = value.split(',').collect();
    let [interface, gateway, dns] = parts[..] else { return None };
    let (address, prefix) = interface.split_once('/')?;
    let prefix: u32 = prefix.parse().ok().filter(|prefix| *prefix <= 32)?;
    let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
    Some(Net {
        address: address.parse().ok()?,
        mask: mask.into(),
        gateway: gateway.parse().ok()?,
        dns: dns.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_understood() {
        let line = "quiet panic=-1 tci.rootfs=erofs tci.net=10.0.2.15/24,10.0.2.2,10.0.2.3\n";
        let parsed = CommandLine::parse(line).unwrap();
        assert_eq!(parsed.rootfs, RootFormat::Erofs);
        let net = parsed.net.unwrap();
        assert_eq!(net.mask, Ipv4Addr::new(255, 255, 255, 0));
        assert_eq!(net.dns, Ipv4Addr::new(10, 0, 2, 3));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        assert_eq!(CommandLine::parse("quiet"), Err(BadCommandLine::NoRootfs));
        for bad in
            ["tci.rootfs=zfs", "tci.net=10.0.2.15/33,10.0.2.2,10.0.2.3", "tci.net=10.0.2.15/24", "tci.x=1"]
        {
            assert!(CommandLine::parse(&format!("tci.rootfs=ext4 {bad}")).is_err(), "{bad}");
        }
    }
}
