//! What the calls share. Nothing here survives the process, and nothing here has to.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use terraphim_vm::{Host, VmId};
use tokio::sync::Mutex as AsyncMutex;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Secret, Settings, Tokens};
use crate::config::Config;

/// The server's state.
#[derive(Debug)]
pub(crate) struct Api {
    pub(super) host: Host,
    pub(super) config: Config,
    pub(super) settings: Settings,
    pub(super) secret: Secret,
    pub(super) tokens: Tokens,
    /// Held while a user's VMs are counted and one is added: the quota holds under a race.
    pub(super) creating: AsyncMutex<()>,
    pub(super) running: Running,
    /// Commands that are being followed, whether or not a client waits.
    pub(super) tasks: TaskTracker,
    /// The server leaves; the commands stay.
    pub(super) leaving: CancellationToken,
}

/// The commands that this process follows, by VM and execution.
#[derive(Debug, Default)]
pub(super) struct Running {
    // Std mutex: looked up and inserted into, never held across an await.
    all: Mutex<HashMap<(VmId, String), Signals>>,
}

/// What is said to and by whoever follows a command.
#[derive(Clone, Debug, Default)]
struct Signals {
    stop: CancellationToken,
    begun: CancellationToken,
}

impl Running {
    /// Registers an execution until the guard is dropped.
    pub(super) fn enter(api: &Arc<Api>, vm: &VmId, execution: &str) -> Entered {
        let (key, signals) = ((vm.clone(), execution.to_owned()), Signals::default());
        api.running.lock().insert(key.clone(), signals.clone());
        let Signals { stop, begun } = signals;
        Entered { api: Arc::clone(api), key, stop, begun }
    }

    /// Asks for the end of an execution; false when it is not running.
    pub(super) fn stop(&self, vm: &VmId, execution: &str) -> bool {
        let signals = self.lock().get(&(vm.clone(), execution.to_owned())).cloned();
        signals.inspect(|signals| signals.stop.cancel()).is_some()
    }

    /// Returns when an execution has begun, or will not any more.
    pub(super) async fn begun(&self, vm: &VmId, execution: &str) {
        let signals = self.lock().get(&(vm.clone(), execution.to_owned())).cloned();
        if let Some(signals) = signals {
            signals.begun.cancelled().await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(VmId, String), Signals>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An execution that is being followed.
pub(super) struct Entered {
    api: Arc<Api>,
    key: (VmId, String),
    pub(super) stop: CancellationToken,
    pub(super) begun: CancellationToken,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.begun.cancel();
        self.api.running.lock().remove(&self.key);
    }
}

impl Api {
    pub(crate) fn new(host: Host, config: Config, secret: Secret, tokens: Tokens) -> Arc<Api> {
        let settings = config.serve.clone();
        Arc::new(Api {
            host,
            config,
            settings,
            secret,
            tokens,
            creating: AsyncMutex::new(()),
            running: Running::default(),
            tasks: TaskTracker::new(),
            leaving: CancellationToken::new(),
        })
    }
}
