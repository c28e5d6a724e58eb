//! Concurrency groups of one host: at most one run or job of a group runs, the others wait or are cancelled.
//!
//! A group is a directory with a *ticket* for everyone who is in it: a file that its owner holds locked for as long as
//! it lives, so that the kernel gives up the ticket of a process that is gone. The oldest ticket runs. A file beside
//! the ticket (`.cancel`) asks its owner to go. Whoever waits is woken by changes to the directory; a lock file makes
//! looking and changing one step.
//!
//! ```text
//! join -> Waiting --oldest--> Running -> (dropped)
//!            `----- a newer one came (queue: single) -----> Replaced
//!                           Running --cancel-in-progress--> Replaced
//! ```
//!
//! GitHub: docs "Control the concurrency of workflows and jobs".

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use terraphim_actions::resolve::{Concurrency, Queue};
use terraphim_vm::DirectoryWatch;
use uuid::Uuid;

/// GitHub: as many may wait with `queue: max`.
const MOST_WAITING: usize = 100;

/// The concurrency groups below one directory. All processes of a host that share it share the groups.
#[derive(Clone, Debug)]
pub struct Groups {
    directory: Arc<Path>,
}

/// What one ticket is, for those who wait behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It is ours.
    Running,
    /// Somebody else runs.
    Waiting {
        /// Who.
        behind: String,
    },
    /// A newer one took our place.
    Replaced,
}

/// A place in a group, given up when it is dropped.
pub(super) struct Ticket {
    groups: Groups,
    group: PathBuf,
    path: PathBuf,
    /// Holds the lock.
    _file: File,
    watch: DirectoryWatch,
}

impl Groups {
    /// The groups below `directory`, which is made when it is needed.
    pub fn new(directory: impl Into<PathBuf>) -> Groups {
        Groups { directory: Arc::from(directory.into()) }
    }

    /// Takes a place in a group of a repository; `who` is shown to those who wait.
    pub(super) async fn join(
        &self,
        repository: &str,
        concurrency: &Concurrency,
        who: String,
    ) -> io::Result<Ticket> {
        let (groups, group) = (self.clone(), self.group(repository, &concurrency.group));
        let concurrency = concurrency.clone();
        blocking(move || groups.join_now(&group, &concurrency, &who)).await
    }

    /// GitHub compares names of groups without regard to case; within one repository.
    fn group(&self, repository: &str, name: &str) -> PathBuf {
        let text = format!("{}\n{}", repository.to_lowercase(), name.to_lowercase());
        let hash = Sha256::digest(text.as_bytes());
        let name: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        self.directory.join(name)
    }

    fn join_now(&self, group: &Path, concurrency: &Concurrency, who: &str) -> io::Result<Ticket> {
        let _lock = self.lock()?;
        fs::create_dir_all(group)?;
        // Watched before anybody can change it.
        let watch = DirectoryWatch::new(group)?;
        let others = tickets(group)?;
        let number = others.last().map_or(1, |last| last.number + 1);
        let path = group.join(format!("{number:020}-{}.ticket", Uuid::new_v4().simple()));
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        file.lock()?;
        let ticket = Ticket { groups: self.clone(), group: group.to_owned(), path, _file: file, watch };
        fs::write(&ticket.path, who)?;
        let waiting = others.get(1..).unwrap_or_default();
        match concurrency.queue {
            Queue::Single => waiting.iter().try_for_each(Other::replace)?,
            Queue::Max if waiting.len() >= MOST_WAITING => replace(&ticket.path)?,
            Queue::Max => {}
        }
        if concurrency.cancel_in_progress {
            others.first().map_or(Ok(()), Other::replace)?;
        }
        Ok(ticket)
    }

    fn lock(&self) -> io::Result<File> {
        fs::create_dir_all(&*self.directory)?;
        let path = self.directory.join("lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        // Held for a few system calls at a time.
        file.lock()?;
        Ok(file)
    }
}

impl Ticket {
    /// Whose turn it is now.
    async fn look(&self) -> io::Result<Turn> {
        let (groups, group, path) = (self.groups.clone(), self.group.clone(), self.path.clone());
        blocking(move || {
            let _lock = groups.lock()?;
            if mark_of(&path).exists() {
                return Ok(Turn::Replaced);
            }
            Ok(match tickets(&group)?.first() {
                Some(first) if first.path != path => {
                    Turn::Waiting { behind: fs::read_to_string(&first.path).unwrap_or_default() }
                }
                _ => Turn::Running,
            })
        })
        .await
    }

    /// Waits until the turn is another one than `known`.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub(super) async fn turn(&mut self, known: Option<&Turn>) -> io::Result<Turn> {
        loop {
            let turn = self.look().await?;
            if known != Some(&turn) {
                return Ok(turn);
            }
            self.watch.changed().await?;
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // Without the lock somebody could count the ticket while it goes; that is put right at the next change. The
        // last one out removes the directory, which fails as long as somebody is in it.
        let lock = self.groups.lock();
        let _ = fs::remove_file(mark_of(&self.path));
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_dir(&self.group);
        drop(lock);
    }
}

/// A ticket of somebody who lives.
struct Other {
    number: u64,
    path: PathBuf,
}

impl Other {
    fn replace(&self) -> io::Result<()> {
        replace(&self.path)
    }
}

/// Asks the owner of a ticket to go.
fn replace(ticket: &Path) -> io::Result<()> {
    fs::write(mark_of(ticket), "")
}

fn mark_of(ticket: &Path) -> PathBuf {
    ticket.with_extension("cancel")
}

/// The tickets of a group, the oldest first. Those whose owner is gone are removed. Called under the lock.
fn tickets(group: &Path) -> io::Result<Vec<Other>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(group)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let number = name.strip_suffix(".ticket").and_then(|name| name.split('-').next()?.parse().ok());
        let Some(number) = number else { continue };
        match File::open(&path)?.try_lock() {
            Err(TryLockError::WouldBlock) => all.push(Other { number, path }),
            Err(TryLockError::Error(error)) => return Err(error),
            Ok(()) => {
                let _ = fs::remove_file(mark_of(&path));
                fs::remove_file(&path)?;
            }
        }
    }
    all.sort_by_key(|other| other.number);
    Ok(all)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => Err(io::Error::other(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn how(queue: Queue, cancel_in_progress: bool) -> Concurrency {
        Concurrency { group: "Deploy".to_owned(), cancel_in_progress, queue }
    }

    async fn join(groups: &Groups, how: &Concurrency, who: &str) -> Ticket {
        groups.join("a/b", how, who.to_owned()).await.unwrap()
    }

    fn behind(who: &str) -> Turn {
        Turn::Waiting { behind: who.to_owned() }
    }

    #[tokio::test]
    async fn one_runs_one_waits_and_a_newer_one_takes_its_place() {
        let directory = tempfile::tempdir().unwrap();
        let groups = Groups::new(directory.path().join("groups"));
        let how = how(Queue::Single, false);
        let mut first = join(&groups, &how, "first").await;
        assert_eq!(first.turn(None).await.unwrap(), Turn::Running);
        let mut second = join(&groups, &how, "second").await;
        assert_eq!(second.turn(None).await.unwrap(), behind("first"));
        let other = Concurrency { group: "other".into(), ..how.clone() };
        assert_eq!(join(&groups, &other, "x").await.turn(None).await.unwrap(), Turn::Running);
        let mut third =
            groups.join("A/B", &Concurrency { group: "DEPLOY".into(), ..how }, "3".into()).await.unwrap();
        assert_eq!(second.turn(Some(&behind("first"))).await.unwrap(), Turn::Replaced);
        drop(second);
        let waiting = third.turn(None).await.unwrap();
        let (turn, ()) = tokio::join!(third.turn(Some(&waiting)), async { drop(first) });
        assert_eq!(turn.unwrap(), Turn::Running);
        drop(third);
        let left: Vec<_> = fs::read_dir(directory.path().join("groups")).unwrap().collect();
        assert_eq!(left.len(), 1, "only the lock file is left: {left:?}");
    }

    #[tokio::test]
    async fn a_newer_one_may_cancel_the_running_one() {
        let directory = tempfile::tempdir().unwrap();
        let groups = Groups::new(directory.path());
        let mut first = join(&groups, &how(Queue::Single, false), "first").await;
        assert_eq!(first.turn(None).await.unwrap(), Turn::Running);
        let mut second = join(&groups, &how(Queue::Single, true), "second").await;
        assert_eq!(first.turn(Some(&Turn::Running)).await.unwrap(), Turn::Replaced);
        assert_eq!(second.turn(None).await.unwrap(), behind("first"));
        drop(first);
        assert_eq!(second.turn(Some(&behind("first"))).await.unwrap(), Turn::Running);
    }

    #[tokio::test]
    async fn with_queue_max_all_wait_in_order_up_to_a_hundred() {
        let directory = tempfile::tempdir().unwrap();
        let groups = Groups::new(directory.path());
        let how = how(Queue::Max, false);
        let mut all = Vec::new();
        for number in 0..=MOST_WAITING {
            all.push(join(&groups, &how, &number.to_string()).await);
        }
        let mut last = join(&groups, &how, "too many").await;
        assert_eq!(last.turn(None).await.unwrap(), Turn::Replaced);
        drop(last);
        for _ in 0..3 {
            all.remove(0);
            assert_eq!(all[0].turn(None).await.unwrap(), Turn::Running);
            assert!(matches!(all[1].turn(None).await.unwrap(), Turn::Waiting { .. }));
        }
    }

    #[tokio::test]
    async fn the_ticket_of_a_process_that_is_gone_counts_no_more() {
        let directory = tempfile::tempdir().unwrap();
        let groups = Groups::new(directory.path());
        let how = how(Queue::Single, false);
        let group = groups.group("a/b", "deploy");
        fs::create_dir_all(&group).unwrap();
        let path = group.join(format!("{:020}-dead.ticket", 1));
        // Another process holds it until its input ends.
        let script = format!("exec 9>'{0}'; flock 9; echo held; read -r line", path.display());
        let mut child = std::process::Command::new("bash")
            .args(["-c", &script])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        io::BufRead::read_line(&mut io::BufReader::new(child.stdout.take().unwrap()), &mut line).unwrap();
        let mut ours = join(&groups, &how, "ours").await;
        let waiting = ours.turn(None).await.unwrap();
        assert_eq!(waiting, behind(""));
        let (turn, ()) = tokio::join!(ours.turn(Some(&waiting)), async {
            child.kill().unwrap();
            child.wait().unwrap();
        });
        assert_eq!(turn.unwrap(), Turn::Running);
    }
}
