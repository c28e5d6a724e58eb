//! The one who writes to standard output while runs go on.
//!
//! A thread of its own writes, so that a slow terminal slows the runs down (its queue is bounded) but blocks nothing
//! else. On a terminal the last line says what is going on; it is erased before text and drawn after it. When the reader
//! goes away (`tci run | head`) the runs go on and end as they would, and nothing more is written.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, IsTerminal as _},
    os::fd::AsFd as _,
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

enum Message {
    Text(Bytes),
    Tick,
    End,
}

/// What goes on, by whatever names it: the status line.
type Activities = Arc<Mutex<BTreeMap<String, Activity>>>;

struct Activity {
    text: String,
    since: Instant,
}

/// Standard output while runs go on.
pub(crate) struct Screen {
    sender: mpsc::Sender<Message>,
    activities: Activities,
    is_terminal: bool,
    ticker: Option<AbortHandle>,
    /// Taken by the one who waits for its end.
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Screen {
    /// Starts the writer, to standard output or aside to standard error. Needs the runtime on a terminal, for the clock
    /// of the status line.
    pub(crate) fn start(is_aside: bool) -> io::Result<Screen> {
        let (out, is_terminal): (Box<dyn io::Write + Send>, bool) = if is_aside {
            (Box::new(io::stderr()), io::stderr().is_terminal())
        } else {
            // Without the standard library's line buffer, which would split what we have put together.
            (Box::new(File::from(io::stdout().as_fd().try_clone_to_owned()?)), io::stdout().is_terminal())
        };
        let (sender, receiver) = mpsc::channel(WAITING);
        let activities = Activities::default();
        let status = is_terminal.then(|| Arc::clone(&activities));
        let writer = Writer { out, status, frame: 0, is_drawn: false };
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
    out: Box<dyn io::Write + Send>,
    /// Present on a terminal.
    status: Option<Activities>,
    frame: usize,
    is_drawn: bool,
}

impl Writer {
    fn run(mut self, mut receiver: mpsc::Receiver<Message>) {
        while let Some(message) = receiver.blocking_recv() {
            let written = match message {
                Message::Text(text) => self.text(&text),
                Message::Tick => self.draw(),
                Message::End => {
                    let _ = self.erase();
                    return;
                }
            };
            if written.is_err() {
                // Whoever still sends must not wait.
                while !matches!(receiver.blocking_recv(), None | Some(Message::End)) {}
                return;
            }
        }
    }

    fn text(&mut self, text: &[u8]) -> io::Result<()> {
        self.erase()?;
        self.out.write_all(text)?;
        self.out.flush()
    }

    fn erase(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.is_drawn) {
            self.out.write_all(b"\r\x1b[2K")?;
        }
        Ok(())
    }

    fn draw(&mut self) -> io::Result<()> {
        let Some(status) = &self.status else { return Ok(()) };
        let line = {
            let activities = status.lock().unwrap_or_else(PoisonError::into_inner);
            let parts: Vec<String> = activities
                .values()
                .map(|activity| format!("{} ({})", activity.text, output::duration(activity.since.elapsed())))
                .collect();
            parts.join(", ")
        };
        self.erase()?;
        if line.is_empty() {
            return Ok(());
        }
        self.frame = (self.frame + 1) % FRAMES.len();
        // A terminal that does not know its width says 0.
        let size = rustix::termios::tcgetwinsize(io::stdout()).ok().filter(|size| size.ws_col > 0);
        let width = size.map_or(80, |size| usize::from(size.ws_col));
        // One column is left free: a full line would wrap and could not be erased.
        let line: String =
            format!("{} {line}", FRAMES[self.frame]).chars().take(width.saturating_sub(1)).collect();
        self.out.write_all(line.as_bytes())?;
        self.is_drawn = true;
        self.out.flush()
    }
}
