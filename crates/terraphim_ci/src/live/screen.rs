//! The one who writes to standard output while runs go on.
//!
//! A thread of its own writes, so that a slow terminal slows the runs down (its queue is bounded) but blocks nothing
//! else. On a terminal the last line says what is going on; it is erased before text and drawn after it, in one write for
//! all that waits. When the reader goes away (`tci run | head`) the runs go on and end as they would, and nothing more is
//! written.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufWriter, IsTerminal as _, Write as _},
    os::fd::{AsFd as _, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{sync::mpsc, task::AbortHandle, time::MissedTickBehavior};

use crate::output;

/// Texts that wait to be written, of up to 64 KiB and their prefixes each.
const WAITING: usize = 32;
/// Often enough to look alive, seldom enough to cost nothing.
const TICK: Duration = Duration::from_millis(125);
const FRAMES: [char; 8] = ['⣷', '⣯', '⣟', '⡿', '⢿', '⣻', '⣽', '⣾'];
/// Small texts go to the terminal together, large ones as they are.
const TOGETHER: usize = 64 * 1024;

enum Message {
    Text(Bytes),
    Tick,
    End,
}

/// What goes on, by whatever names it: the status line.
type Activities = BTreeMap<String, Activity>;

struct Activity {
    text: String,
    since: Instant,
}

/// Standard output while runs go on.
pub(crate) struct Screen {
    sender: mpsc::Sender<Message>,
    activities: Arc<Mutex<Activities>>,
    is_terminal: bool,
    ticker: Option<AbortHandle>,
    /// Taken by the one who waits for its end.
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Screen {
    /// Starts the writer, to standard output or aside to standard error. Needs the runtime on a terminal, for the clock
    /// of the status line.
    pub(crate) fn start(is_aside: bool) -> io::Result<Screen> {
        // Not by the standard library's handle, whose line buffer would split what we have put together.
        let (out, is_terminal) = if is_aside {
            (io::stderr().as_fd().try_clone_to_owned()?, io::stderr().is_terminal())
        } else {
            (io::stdout().as_fd().try_clone_to_owned()?, io::stdout().is_terminal())
        };
        let (sender, receiver) = mpsc::channel(WAITING);
        let activities = Arc::new(Mutex::new(Activities::new()));
        let status = match is_terminal {
            true => Some(Status { of: Arc::clone(&activities), terminal: out.try_clone()?, frame: 0 }),
            false => None,
        };
        let out = BufWriter::with_capacity(TOGETHER, File::from(out));
        let writer = Writer { out, status, is_drawn: false };
        let writer =
            std::thread::Builder::new().name("screen".to_owned()).spawn(move || writer.run(receiver))?;
        let ticker = is_terminal.then(|| tokio::spawn(tick(sender.clone())).abort_handle());
        Ok(Screen { sender, activities, is_terminal, ticker, writer: Mutex::new(Some(writer)) })
    }

    /// Whether people watch.
    pub(crate) fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Writes text; waits while the terminal is behind.
    pub(crate) async fn write(&self, text: impl Into<Bytes>) {
        // The writer ends only after us.
        let _ = self.sender.send(Message::Text(text.into())).await;
    }

    /// `who` does `text` from now on; `None` when it is done.
    pub(crate) fn set_activity(&self, who: &str, text: Option<String>) {
        let mut activities = self.activities.lock().unwrap_or_else(PoisonError::into_inner);
        match text {
            Some(text) => {
                activities.insert(who.to_owned(), Activity { text, since: Instant::now() });
            }
            None => {
                activities.remove(who);
            }
        }
    }

    /// Returns when everything is written and the status line is gone. What is written later is dropped.
    pub(crate) async fn end(&self) {
        if let Some(ticker) = &self.ticker {
            ticker.abort();
        }
        let _ = self.sender.send(Message::End).await;
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            let _ = tokio::task::spawn_blocking(move || writer.join()).await;
        }
    }
}

impl Drop for Screen {
    /// Only when [`Screen::end`] was not reached; the terminal's line is then whatever it was.
    fn drop(&mut self) {
        if let Some(ticker) = &self.ticker {
            ticker.abort();
        }
    }
}

async fn tick(sender: mpsc::Sender<Message>) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        interval.tick().await;
        // A full queue has text in it, which matters more.
        let _ = sender.try_send(Message::Tick);
    }
}

struct Writer {
    out: BufWriter<File>,
    /// Present on a terminal.
    status: Option<Status>,
    is_drawn: bool,
}

/// The last line of a terminal.
struct Status {
    of: Arc<Mutex<Activities>>,
    terminal: OwnedFd,
    frame: usize,
}

impl Writer {
    fn run(mut self, mut receiver: mpsc::Receiver<Message>) {
        while let Some(first) = receiver.blocking_recv() {
            let rest = std::iter::from_fn(|| receiver.try_recv().ok());
            match self.write(std::iter::once(first).chain(rest.take(WAITING))) {
                Ok(false) => {}
                Ok(true) => return,
                Err(_) => {
                    // Whoever still sends must not wait.
                    while !matches!(receiver.blocking_recv(), None | Some(Message::End)) {}
                    return;
                }
            }
        }
    }

    /// Writes what waits; says whether that was the end.
    fn write(&mut self, messages: impl Iterator<Item = Message>) -> io::Result<bool> {
        let mut is_end = false;
        for message in messages {
            match message {
                Message::Text(text) => {
                    self.erase()?;
                    self.out.write_all(&text)?;
                }
                Message::Tick => {
                    if let Some(status) = &mut self.status {
                        status.frame = (status.frame + 1) % FRAMES.len();
                    }
                }
                Message::End => is_end = true,
            }
        }
        if is_end {
            self.erase()?
        } else {
            self.draw()?
        }
        self.out.flush()?;
        Ok(is_end)
    }

    fn erase(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.is_drawn) {
            self.out.write_all(b"\r\x1b[2K")?;
        }
        Ok(())
    }

    fn draw(&mut self) -> io::Result<()> {
        let Some(line) = self.status.as_ref().and_then(Status::line) else { return self.erase() };
        // What was longer is erased behind it, so that nothing is blank in between.
        write!(self.out, "\r{line}\x1b[K")?;
        self.is_drawn = true;
        Ok(())
    }
}

impl Status {
    /// None when nothing goes on.
    fn line(&self) -> Option<String> {
        // A terminal that does not know its width says 0.
        let size = rustix::termios::tcgetwinsize(&self.terminal).ok().filter(|size| size.ws_col > 0);
        let width = size.map_or(80, |size| usize::from(size.ws_col));
        let activities = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        let parts = activities.values();
        let parts = parts.map(|it| format!("{} ({})", it.text, output::duration(it.since.elapsed())));
        // One column is left free: a full line would wrap and could not be erased.
        let room = width.saturating_sub(1);
        (!activities.is_empty()).then(|| fitted(FRAMES[self.frame], parts, activities.len(), room))
    }
}

/// As many of `count` parts as have room in one line, and how many more there are.
fn fitted(frame: char, parts: impl Iterator<Item = String>, count: usize, room: usize) -> String {
    let mut line = format!("{frame} ");
    let note = |more: usize| if more > 0 { format!(", {more} more") } else { String::new() };
    for (index, part) in parts.enumerate() {
        let more = note(count - index - 1);
        let before = if index == 0 { "" } else { ", " };
        if columns(&line) + before.len() + columns(&part) + more.len() > room {
            let rest = if index == 0 {
                cut(&part, room.saturating_sub(columns(&line) + more.len())) + &more
            } else {
                note(count - index)
            };
            return cut(&(line + &rest), room);
        }
        line = line + before + &part;
    }
    line
}

/// The columns of a terminal that a text takes at most: some characters beyond ASCII take two.
fn columns(text: &str) -> usize {
    text.chars().map(|c| 1 + usize::from(!c.is_ascii())).sum()
}

/// The beginning that has room.
fn cut(text: &str, room: usize) -> String {
    let mut used = 0;
    let fits = |c: &char| {
        used += 1 + usize::from(!c.is_ascii());
        used <= room
    };
    text.chars().take_while(fits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(parts: &[&str], count: usize, room: usize) -> String {
        let line = fitted('⣷', parts.iter().map(|part| (*part).to_owned()), count, room);
        assert!(columns(&line) <= room, "{line:?} is too long for {room}");
        line
    }

    #[test]
    fn the_status_line_fits_and_says_what_it_leaves_out() {
        assert_eq!(
            line(&["a: Build (1.2 s)", "b: Test (3 ms)"], 2, 79),
            "⣷ a: Build (1.2 s), b: Test (3 ms)"
        );
        assert_eq!(line(&["a: Build (1.2 s)", "b: Test (3 ms)"], 2, 30), "⣷ a: Build (1.2 s), 1 more");
        assert_eq!(line(&["a: a long name of a step (3 ms)"], 1, 20), "⣷ a: a long name of");
        assert_eq!(line(&["a: a long name of a step (3 ms)", "b"], 2, 20), "⣷ a: a long, 1 more");
        // Wide characters count twice.
        assert_eq!(line(&["構築 (3 ms)"], 1, 9), "⣷ 構築 (");
        for room in 0..40 {
            line(&["a: a long name of a step (3 ms)", "構築 (3 ms)", "c"], 1000, room);
        }
    }

    #[test]
    fn what_waits_is_written_at_once_and_the_end_leaves_no_line() {
        let file = tempfile::tempfile().unwrap();
        let mut writer =
            Writer { out: BufWriter::new(file.try_clone().unwrap()), status: None, is_drawn: true };
        let text = |text: &'static str| Message::Text(Bytes::from_static(text.as_bytes()));
        assert!(!writer.write([text("one\n"), Message::Tick, text("two\n")].into_iter()).unwrap());
        assert!(writer.write([text("three\n"), Message::End].into_iter()).unwrap());
        let mut written = String::new();
        let mut file = file;
        io::Seek::rewind(&mut file).unwrap();
        io::Read::read_to_string(&mut file, &mut written).unwrap();
        assert_eq!(written, "\r\u{1b}[2Kone\ntwo\nthree\n");
    }
}
