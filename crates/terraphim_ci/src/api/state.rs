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

/// How to stop the commands that this process follows, by execution.
#[derive(Debug, Default)]
pub(super) struct Running {
    // Std mutex: looked up and inserted into, never held across an await.
    stops: Mutex<HashMap<(VmId, String), CancellationToken>>,
}

impl Running {
    /// Registers an execution until the guard is dropped.
    pub(super) fn enter(api: &Arc<Api>, vm: &VmId, execution: &str) -> Entered {
        let (key, stop) = ((vm.clone(), execution.to_owned()), CancellationToken::new());
        api.running.lock().insert(key.clone(), stop.clone());
        Entered { api: Arc::clone(api), key, stop }
    }

    /// Asks for the end of an execution; false when it is not running.
    pub(super) fn stop(&self, vm: &VmId, execution: &str) -> bool {
        let stop = self.lock().get(&(vm.clone(), execution.to_owned())).cloned();
        stop.inspect(CancellationToken::cancel).is_some()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(VmId, String), CancellationToken>> {
        self.stops.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An execution that is being followed.
pub(super) struct Entered {
    api: Arc<Api>,
    key: (VmId, String),
    pub(super) stop: CancellationToken,
}

impl Drop for Entered {
    fn drop(&mut self) {
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
