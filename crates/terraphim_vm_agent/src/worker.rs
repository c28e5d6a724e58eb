//! Threads for work that blocks, or that changes what belongs to a thread: its mounts and whose files it may open.
//!
//! Starting a thread costs an emulated guest about as much as the rest of an execution, so a thread that has done its
//! work waits for more. One that cannot be brought back to where it began ends instead.

use std::{
    fs, io,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
};

use rustix::{
    fs::Mode,
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use crate::{
    body::Refusal,
    priority,
    users::{self, User},
    view::{Namespace, no_thread},
};

/// Idle threads that are kept. More executions than this rarely begin at the same moment; a thread holds 16 KiB.
const KEPT: usize = 4;
const STACK_SIZE: usize = 256 * 1024;

type Work = Box<dyn FnOnce(&mut Seat) + Send>;

/// The threads.
#[derive(Debug)]
pub(crate) struct Workers {
    /// Taken for a push or a pop at a time, by the threads too.
    idle: Mutex<Vec<mpsc::Sender<Work>>>,
    /// The mount namespace of the agent itself.
    home: OwnedFd,
}

/// What a piece of work may change about its thread; put back afterwards.
pub(crate) struct Seat {
    is_away: bool,
    acts_as_user: bool,
}

impl Workers {
    /// No threads yet.
    ///
    /// # Errors
    /// There is no `/proc`.
    pub(crate) fn new() -> io::Result<Workers> {
        let home = fs::File::open("/proc/self/ns/mnt")?.into();
        Ok(Workers { idle: Mutex::default(), home })
    }

    /// Does `work` on a thread.
    pub(crate) async fn run<T: Send + 'static>(
        self: &Arc<Workers>,
        work: impl FnOnce(&mut Seat) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.start(move |seat| {
            // The receiver leaves only with its call.
            let _ = sender.send(work(seat));
        })?;
        receiver.await.map_err(|_| no_thread(&"it ended early"))
    }

    /// Begins `work` on a thread; nobody waits for it.
    pub(crate) fn start(
        self: &Arc<Workers>,
        work: impl FnOnce(&mut Seat) + Send + 'static,
    ) -> Result<(), Refusal> {
        let mut work: Work = Box::new(work);
        loop {
            let Some(idle) = self.lock().pop() else { return self.spawn(work) };
            match idle.send(work) {
                Ok(()) => return Ok(()),
                // It could not start again after its last work; the next one may.
                Err(mpsc::SendError(unsent)) => work = unsent,
            }
        }
    }

    fn spawn(self: &Arc<Workers>, work: Work) -> Result<(), Refusal> {
        let this = Arc::clone(self);
        let thread = std::thread::Builder::new().stack_size(STACK_SIZE).spawn(move || this.serve(work));
        thread.map(drop).map_err(|error| no_thread(&error))
    }

    fn serve(&self, mut work: Work) {
        priority::follow();
        let (sender, more) = mpsc::channel();
        let mut seat = Seat { is_away: false, acts_as_user: false };
        loop {
            work(&mut seat);
            if seat.restore(&self.home).is_err() {
                return;
            }
            {
                let mut idle = self.lock();
                if idle.len() >= KEPT {
                    return;
                }
                idle.push(sender.clone());
            }
            let Ok(next) = more.recv() else { return };
            work = next;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<mpsc::Sender<Work>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Moves the thread into a view.
    pub(crate) fn enter(&mut self, view: &Namespace) -> io::Result<()> {
        self.is_away = true;
        view.enter()
    }

    /// Makes the thread open files as this user.
    pub(crate) fn act_as(&mut self, user: &User) -> io::Result<()> {
        self.acts_as_user = true;
        users::open_files_as(user)
    }

    /// Gives the thread root's powers back.
    pub(crate) fn act_as_root(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.acts_as_user) {
            users::open_files_as_root()?;
        }
        Ok(())
    }

    /// Does `work`, which is told which permissions the thread's mask may take from new files: none in a view, as a thread
    /// that entered one shares its mask with no other.
    pub(crate) fn without_mask<T>(&self, work: impl FnOnce(u32) -> T) -> T {
        if !self.is_away {
            return work(0o777);
        }
        let before = rustix::process::umask(Mode::empty());
        let done = work(0);
        rustix::process::umask(before);
        done
    }

    fn restore(&mut self, home: &OwnedFd) -> io::Result<()> {
        self.act_as_root()?;
        if std::mem::take(&mut self.is_away) {
            move_into_link_name_space(home.as_fd(), Some(LinkNameSpaceType::Mount))?;
        }
        Ok(())
    }
}
