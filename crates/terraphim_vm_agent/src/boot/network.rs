//! Network interfaces by ioctl (netdevice(7), rtnetlink would take a library).

use std::{
    io,
    net::Ipv4Addr,
    os::fd::{AsRawFd, OwnedFd},
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::cmdline::Net;

const INTERFACE: &str = "eth0";

pub(super) fn start_loopback() -> io::Result<()> {
    bring_up(&control_socket()?, "lo")
}

/// Gives the first network card its address and the default route.
pub(super) fn start(net: &Net) -> io::Result<()> {
    let socket = control_socket()?;
    set_address(&socket, libc::SIOCSIFADDR, net.address)?;
    set_address(&socket, libc::SIOCSIFNETMASK, net.mask)?;
    bring_up(&socket, INTERFACE)?;
    add_default_route(&socket, net.gateway)
}

fn control_socket() -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?)
}

fn request(name: &str) -> libc::ifreq {
    // SAFETY: all-zero bytes are a valid ifreq: a C structure of numbers and bytes.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    request
}

fn call<T>(socket: &OwnedFd, number: libc::Ioctl, argument: &mut T) -> io::Result<()> {
    // SAFETY: each caller pairs the number with the structure that netdevice(7) and route(7) name for it.
    match unsafe { libc::ioctl(socket.as_raw_fd(), number, std::ptr::from_mut(argument)) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn socket_address(address: Ipv4Addr) -> libc::sockaddr {
    let mut data = [0; 14];
    for (to, from) in data[2..6].iter_mut().zip(address.octets()) {
        *to = from.cast_signed();
    }
    libc::sockaddr { sa_family: libc::AF_INET.cast_unsigned().try_into().unwrap_or_default(), sa_data: data }
}

fn set_address(socket: &OwnedFd, number: libc::Ioctl, address: Ipv4Addr) -> io::Result<()> {
    let mut request = request(INTERFACE);
    request.ifr_ifru.ifru_addr = socket_address(address);
    call(socket, number, &mut request)
}

fn bring_up(socket: &OwnedFd, name: &str) -> io::Result<()> {
    let mut request = request(name);
    call(socket, libc::SIOCGIFFLAGS, &mut request)?;
    // SAFETY: SIOCGIFFLAGS filled this member.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    let up = i16::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or_default();
    request.ifr_ifru.ifru_flags = flags | up;
    call(socket, libc::SIOCSIFFLAGS, &mut request)
}

fn add_default_route(socket: &OwnedFd, gateway: Ipv4Addr) -> io::Result<()> {
    // SAFETY: all-zero bytes are a valid rtentry: numbers, and pointers that may be null.
    let mut route: libc::rtentry = unsafe { std::mem::zeroed() };
    let any = Ipv4Addr::UNSPECIFIED;
    route.rt_dst = socket_address(any);
    route.rt_genmask = socket_address(any);
    route.rt_gateway = socket_address(gateway);
    route.rt_flags = libc::RTF_UP | libc::RTF_GATEWAY;
    call(socket, libc::SIOCADDRT, &mut route)
}
