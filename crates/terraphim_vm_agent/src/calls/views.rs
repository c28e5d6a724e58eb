//! `POST /v1/views` and `DELETE /v1/views/{name}`.

use h2::RecvStream;
use terraphim_vm_protocol::call::VIEWS;

use crate::{
    agent::Agent,
    body::{Refusal, read_json},
};

pub(crate) async fn create(agent: &Agent, body: &mut RecvStream) -> Result<Vec<u8>, Refusal> {
    agent.views.create(read_json(body).await?).await?;
    Ok(Vec::new())
}

pub(crate) fn remove(agent: &Agent, path: &str) -> Result<Vec<u8>, Refusal> {
    let name = path.strip_prefix(VIEWS).and_then(|rest| rest.strip_prefix('/')).unwrap_or_default();
    agent.views.remove(name)?;
    Ok(Vec::new())
}
