//! The user's terminal while a program in a VM has it.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::AsFd as _,
};

use bytes::Bytes;
use rustix::{
    process::Signal,
    termios::{self, OptionalActions, Termios},
};
use terraphim_vm::protocol::message::TerminalSize;
use tokio::sync::mpsc;

/// Read at once from standard input.
const CHUNK: usize = 64 * 1024;

/// The terminal in raw mode: every key goes to the guest. Dropping it restores the mode, whatever happened.
pub(super) struct RawMode {
    before: Termios,
    raw: Termios,
}

impl RawMode {
    /// `None` when standard input is no terminal.
    pub(super) fn enter() -> io::Result<Option<RawMode>> {
        let stdin = io::stdin();
        if !termios::isatty(&stdin) {
            return Ok(None);
        }
        let before = termios::tcgetattr(&stdin)?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(&stdin, OptionalActions::Now, &raw)?;
        Ok(Some(RawMode { before, raw }))
    }

    /// Stops this process as `SIGTSTP` would, with the terminal as it was before. Whoever lets it go on calls [`RawMode::again`].
    pub(super) fn stop(&self) -> io::Result<()> {
        self.restore();
        // The default action cannot be had any more: its handler stays, once there is one.
        Ok(rustix::process::kill_process(rustix::process::getpid(), Signal::STOP)?)
    }

    /// Sets the mode again, after somebody else had the terminal.
    pub(super) fn again(&self) -> io::Result<()> {
        Ok(termios::tcsetattr(io::stdin(), OptionalActions::Now, &self.raw)?)
    }

    fn restore(&self) {
        // There is nobody left to tell when the terminal has gone away.
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        self.restore();
    }
}

/// The size of the terminal, or the usual one.
pub(super) fn size() -> TerminalSize {
    let of = termios::tcgetwinsize(io::stdin()).or_else(|_| termios::tcgetwinsize(io::stdout()));
    match of {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => {
            TerminalSize { rows: size.ws_row, columns: size.ws_col }
        }
        _ => TerminalSize { rows: 24, columns: 80 },
    }
}

/// Standard input piece by piece; the channel closes at its end. A thread of its own reads, because a terminal cannot
/// be read in any other way without changing it for everyone who shares it; the thread ends with the program.
pub(super) fn input() -> io::Result<mpsc::Receiver<Bytes>> {
    // A descriptor of its own: the standard library's has a buffer that would hold keys back.
    let mut stdin = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let (sender, receiver) = mpsc::channel(8);
    std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        let mut buffer = vec![0; CHUNK];
        while let Ok(read @ 1..) = stdin.read(&mut buffer) {
            if sender.blocking_send(Bytes::copy_from_slice(&buffer[..read])).is_err() {
                return;
            }
        }
    })?;
    Ok(receiver)
}
