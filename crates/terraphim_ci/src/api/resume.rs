//! After a restart: every command that was running is followed again, with the time limit that it had.

use std::{sync::Arc, time::Duration};

use terraphim_vm::{VmError, VmId};
use tokio::time::Instant;

use super::{
    Api,
    calls::{Call, now_ms},
    error::ApiError,
    execute::{conclude, finish},
    running,
    state::{Entered, Running},
    vms::is_ours,
};

/// Takes up what an earlier server left; the commands themselves never noticed.
pub(super) fn resume(api: &Arc<Api>) -> Result<usize, ApiError> {
    let mut count = 0;
    for record in api.host.list()?.iter().filter(|record| is_ours(record)) {
        for call in Call::list(api.host.paths(), &record.id)? {
            if call.end.is_none() {
                let entered = Running::enter(api, &record.id, &call.execution_id);
                api.tasks.spawn(take_up(Arc::clone(api), record.id.clone(), call, entered));
                count += 1;
            }
        }
    }
    Ok(count)
}

async fn take_up(api: Arc<Api>, vm: VmId, mut call: Call, entered: Entered) {
    if let Err(error) = follow(&api, &vm, &mut call, &entered).await
        && call.end.is_none()
    {
        finish(&mut call, None, None, Some(error.message));
    }
    call.save_or_log(api.host.paths(), &vm);
}

async fn follow(api: &Api, vm: &VmId, call: &mut Call, entered: &Entered) -> Result<(), ApiError> {
    let since = call.started_at_ms.saturating_add(call.timeout_ms);
    let left = Duration::from_millis(since.saturating_sub(now_ms()));
    let attached = match api.host.client(vm) {
        Ok(client) => client.attach(&call.exec, 0).await,
        Err(error) => Err(error),
    };
    let ending = match attached {
        Ok(mut exec) => {
            let save = |call: &Call| call.save_or_log(api.host.paths(), vm);
            running::follow(&mut exec, Instant::now() + left, entered, call, save).await?.0
        }
        // The VM has ended, or the server before this one was killed in the moment before the start.
        Err(error @ (VmError::WrongState { .. } | VmError::Refused { status: 404, .. })) => {
            let stored = running::stored(api.host.paths(), vm, &call.exec);
            let stored = stored.map_err(|error| ApiError::unavailable(error.to_string()))?;
            stored.0.unwrap_or_else(|| running::Ending::Lost(error.to_string()))
        }
        Err(error) => return Err(error.into()),
    };
    conclude(call, ending)
}
