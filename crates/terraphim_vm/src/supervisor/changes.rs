//! News of the files that concern a supervisor: the registry, and the logs that others write.

use std::{path::PathBuf, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::start::Started;
use crate::{logs, watch::Watch};

/// The registry and the control socket say at once when they change; this is for file systems on which such notices get
/// lost.
const SAFETY_NET: Duration = Duration::from_secs(30);
/// The same where there are no notices: a user has so many (inotify(7)), and this host more VMs.
const WITHOUT_NOTICES: Duration = Duration::from_secs(1);

pub(super) struct Changes {
    /// Absent when notices cannot be had, or not any more.
    watch: Option<Watch>,
    logs: [PathBuf; 2],
    /// When the logs, which were written to, are looked at.
    look: Option<Instant>,
}

impl Changes {
    /// Watches from now on, where that can be had.
    pub(super) fn new(started: &Started) -> Changes {
        let directory = started.paths.vm(&started.claim.id);
        let watch = Watch::new(&started.paths.registry());
        let mut changes = Changes {
            watch: None,
            logs: ["console.log", "qemu.log"].map(|name| directory.join(name)),
            look: Some(Instant::now()),
        };
        match watch {
            Ok(watch) => changes.watch = Some(watch),
            Err(error) => changes.give_up(&error),
        }
        changes
    }

    fn give_up(&mut self, error: &dyn std::error::Error) {
        tracing::warn!("{error}: no notices of changes, they are looked for every {WITHOUT_NOTICES:?}");
        self.watch = None;
    }

    /// How long to wait at most until everything is looked at.
    pub(super) fn safety_net(&mut self) -> Duration {
        if self.watch.is_some() {
            return SAFETY_NET;
        }
        self.look = Some(Instant::now());
        WITHOUT_NOTICES
    }

    /// Returns when the registry may have changed. Cuts logs meanwhile.
    ///
    /// # Cancel safety
    /// No change is lost.
    pub(super) async fn registry(&mut self) {
        loop {
            let changed = async {
                match &mut self.watch {
                    Some(watch) => watch.changed().await,
                    None => std::future::pending().await,
                }
            };
            let look = async {
                match self.look {
                    Some(time) => sleep_until(time).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = changed => match changed {
                    Ok(change) => {
                        if change.beside {
                            self.look.get_or_insert(Instant::now() + logs::REST);
                        }
                        if change.file {
                            return;
                        }
                    }
                    Err(error) => self.give_up(&error),
                },
                () = look => self.cut(),
            }
        }
    }

    /// Bounds the logs, and asks for news of the next write to them.
    fn cut(&mut self) {
        self.look = None;
        // Asked before it is looked at: what is written in between is news.
        let asked = self.watch.as_mut().map_or(Ok(()), |watch| watch.once(&self.logs));
        let cut = self.logs.iter().try_for_each(|log| logs::cut(log));
        if let Err(error) = asked.and(cut) {
            tracing::error!("the logs of the guest and of the hypervisor are not bounded: {error}");
        }
    }
}
