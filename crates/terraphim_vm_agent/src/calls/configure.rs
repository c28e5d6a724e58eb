//! `POST /v1/configure`: what the host knows and the guest does not.

use std::{fs, io};

use h2::RecvStream;
use http::StatusCode;
use rustix::time::{ClockId, Timespec, clock_settime};
use terraphim_vm_protocol::message::Configure;

use crate::{
    agent::{Agent, Role},
    body::{Refusal, read_json},
    boot,
};

/// random(4): `_IOW('R', 3, int[2])` and `_IO('R', 7)`.
const RNDADDENTROPY: libc::Ioctl = 0x4008_5203;
const RNDRESEEDCRNG: libc::Ioctl = 0x5207;
/// More than the kernel's pool has use for.
const ENTROPY_MAX: usize = 512;

pub(crate) async fn configure(agent: &Agent, body: &mut RecvStream) -> Result<Vec<u8>, Refusal> {
    let settings: Configure = read_json(body).await?;
    if agent.role != Role::Init {
        return Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "only PID 1 of a guest changes the machine it is on",
        ));
    }
    let failed = |what: &str, error: io::Error| Refusal::internal(format!("cannot {what}: {error}"));
    if let Some(ns) = settings.realtime_ns {
        set_clock(ns).map_err(|error| failed("set the clock", error))?;
    }
    if let Some(hex) = &settings.entropy_hex {
        let bytes = parse_hex(hex).ok_or_else(|| {
            Refusal::bad_request(format!("entropy_hex is not 1 to {ENTROPY_MAX} bytes in hexadecimal"))
        })?;
        add_entropy(&bytes).map_err(|error| failed("add entropy", error))?;
    }
    if let Some(name) = &settings.hostname {
        boot::set_hostname(name).map_err(|error| failed("set the host name", error))?;
    }
    Ok(Vec::new())
}

fn set_clock(ns: u64) -> io::Result<()> {
    let out_of_range = |_| io::ErrorKind::InvalidInput;
    let time = Timespec {
        tv_sec: i64::try_from(ns / 1_000_000_000).map_err(out_of_range)?,
        tv_nsec: i64::try_from(ns % 1_000_000_000).map_err(out_of_range)?,
    };
    Ok(clock_settime(ClockId::Realtime, time)?)
}

fn parse_hex(hex: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        hex.chars().map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let digits =
        digits.filter(|digits| digits.len() % 2 == 0 && (2..=2 * ENTROPY_MAX).contains(&digits.len()))?;
    Some(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// Credits `bytes` to the pool and makes the generator use them now: clones of a snapshot must differ at their next read.
fn add_entropy(bytes: &[u8]) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let random = fs::OpenOptions::new().write(true).open("/dev/urandom")?;
    let length = i32::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // struct rand_pool_info: bits, bytes, then the content as whole words.
    let mut request = Vec::with_capacity(8 + bytes.len().next_multiple_of(4));
    request.extend_from_slice(&(length * 8).to_ne_bytes());
    request.extend_from_slice(&length.to_ne_bytes());
    request.extend_from_slice(bytes);
    request.resize(request.len().next_multiple_of(4), 0);
    // SAFETY: the kernel reads the two numbers and then as many bytes as the second says, all within `request`.
    if unsafe { libc::ioctl(random.as_raw_fd(), RNDADDENTROPY, request.as_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: takes no argument.
    if unsafe { libc::ioctl(random.as_raw_fd(), RNDRESEEDCRNG) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_is_read_strictly() {
        assert_eq!(parse_hex("00fFa1"), Some(vec![0, 255, 0xa1]));
        for bad in ["", "0", "0g", "ü0", &"00".repeat(513)] {
            assert_eq!(parse_hex(bad), None);
        }
    }
}
