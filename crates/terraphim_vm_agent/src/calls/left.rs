//! `DELETE /v1/left/{name}`.

use terraphim_vm_protocol::call::LEFT;

use crate::{agent::Agent, body::Refusal};

pub(crate) async fn end(agent: &Agent, path: &str) -> Result<Vec<u8>, Refusal> {
    let name = path.strip_prefix(LEFT).and_then(|rest| rest.strip_prefix('/')).unwrap_or_default();
    let ended = agent.left.end(name).await;
    serde_json::to_vec(&ended).map_err(|error| Refusal::internal(error.to_string()))
}
