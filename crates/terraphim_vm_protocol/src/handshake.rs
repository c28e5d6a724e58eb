//! Opening a connection on a port that may still hold bytes of an earlier one.
//!
//! The host sends a hello of 32 bytes: [`HELLO`], its generation (u32 big-endian) and a random nonce. The agent skips
//! whatever comes before the hello and answers with [`READY`], its own generation and the same nonce. The host skips
//! whatever comes before *its* nonce. From then on the bytes are HTTP/2, the host being the client. A hello may come
//! at any time on a new connection; the agent then forgets the connection before it.

/// First bytes of the host's hello.
pub const HELLO: &[u8; 12] = b"\0TCI-HELLO\r\n";
/// First bytes of the agent's answer.
pub const READY: &[u8; 12] = b"\0TCI-READY\r\n";
/// Random bytes that tell this connection from every other.
pub type Nonce = [u8; 16];
/// Length of either message in bytes.
pub const LENGTH: usize = 32;

/// The message with this magic ([`HELLO`] or [`READY`]).
#[must_use]
pub fn message(magic: &[u8; 12], generation: u32, nonce: &Nonce) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    bytes[..12].copy_from_slice(magic);
    bytes[12..16].copy_from_slice(&generation.to_be_bytes());
    bytes[16..].copy_from_slice(nonce);
    bytes
}

/// Looks for a message in a stream, one byte at a time, keeping only the last 32.
#[derive(Debug)]
pub struct Scanner {
    magic: &'static [u8; 12],
    window: [u8; LENGTH],
    seen: usize,
}

impl Scanner {
    /// A scanner for [`HELLO`] or [`READY`].
    #[must_use]
    pub fn new(magic: &'static [u8; 12]) -> Scanner {
        Scanner { magic, window: [0xff; LENGTH], seen: 0 }
    }

    /// Takes one byte; the generation and nonce when it completes a message.
    pub fn push(&mut self, byte: u8) -> Option<(u32, Nonce)> {
        self.window.rotate_left(1);
        self.window[LENGTH - 1] = byte;
        self.seen = self.seen.saturating_add(1);
        if self.seen < LENGTH || &self.window[..12] != self.magic {
            return None;
        }
        let generation = u32::from_be_bytes(self.window[12..16].try_into().expect("four bytes"));
        let nonce = self.window[16..].try_into().expect("sixteen bytes");
        Some((generation, nonce))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_found_behind_stale_bytes() {
        let mut stream = b"\0TCI-HEL stale \0TCI-HELLO\r".to_vec();
        stream.extend_from_slice(&message(HELLO, 7, &[9; 16]));
        let mut scanner = Scanner::new(HELLO);
        let found: Vec<_> = stream.iter().filter_map(|byte| scanner.push(*byte)).collect();
        assert_eq!(found, [(7, [9; 16])]);
    }
}
