//! `POST /v1/forwards`: connections from the guest to a listener of the host.
//!
//! The answer is one line, and then silence for as long as the guest's port is open. The port is closed when the caller
//! closes its connection. Whoever may call the supervisor is the VM's own user and could connect to the target as well.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc};

use bytes::Bytes;
use futures_util::Stream;
use serde::{Deserialize, Serialize};
use tokio::{
    net::{TcpStream, UnixStream},
    sync::{Semaphore, mpsc},
    task::JoinSet,
};
use tokio_util::task::TaskTracker;

use crate::{
    VmError,
    agent::{AgentClient, AgentForward},
    protocol::message::{Forward, ForwardAccepted, ForwardListening},
};

/// Connections of one port that are carried at the same time; more wait. Clients keep some ten open, and each may hold
/// some MiB in the guest while its process does not read.
const MAX_CONNECTIONS: usize = 32;

/// Where connections of the guest go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ForwardTarget {
    /// A Unix socket.
    Unix(PathBuf),
    /// A port of the host's own loopback interface.
    Tcp(SocketAddr),
}

/// What a caller asks for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NewForward {
    /// In the guest; 0 for any.
    #[serde(default)]
    pub(crate) port: u16,
    pub(crate) target: ForwardTarget,
}

/// Opens the port; the stream of lines ends with it, and it with the stream.
pub(super) async fn start(
    agent: AgentClient,
    new: NewForward,
    tasks: &TaskTracker,
) -> Result<impl Stream<Item = io::Result<Bytes>> + Send + Sync + 'static, VmError> {
    if let ForwardTarget::Tcp(address) = &new.target
        && !address.ip().is_loopback()
    {
        let message = format!("{address} is not an address of this host's loopback interface");
        return Err(VmError::Refused { status: 400, message });
    }
    let forward = agent.forward(Forward { port: new.port }).await?;
    let listening = ForwardListening { port: forward.port() };
    let mut line = serde_json::to_vec(&listening).expect("plain data is JSON");
    line.push(b'\n');
    let (sender, receiver) = mpsc::channel(1);
    // The one place is free.
    let _ = sender.try_send(Bytes::from(line));
    tasks.spawn(carry_all(agent, forward, new.target, sender));
    Ok(futures_util::stream::unfold(receiver, |mut receiver| async move {
        let line = receiver.recv().await?;
        Some((Ok(line), receiver))
    }))
}

/// Takes up every connection until the caller leaves or the guest's port closes; then the open ones are broken off.
async fn carry_all(
    agent: AgentClient,
    mut forward: AgentForward,
    target: ForwardTarget,
    caller: mpsc::Sender<Bytes>,
) {
    let target = Arc::new(target);
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let taken = async {
            let permit = Arc::clone(&room).acquire_owned().await.expect("nobody closes it");
            (permit, forward.accepted().await)
        };
        let (permit, accepted) = tokio::select! {
            () = caller.closed() => return,
            Some(_) = connections.join_next() => continue,
            taken = taken => taken,
        };
        let accepted = match accepted {
            Ok(accepted) => accepted,
            Err(error) => return tracing::debug!("the guest's port {} is closed: {error}", forward.port()),
        };
        let (agent, target) = (agent.clone(), Arc::clone(&target));
        connections.spawn(async move {
            let _permit = permit;
            if let Err(error) = carry(&agent, accepted, &target).await {
                tracing::debug!("connection {} of the guest: {error}", accepted.connection);
            }
        });
    }
}

async fn carry(agent: &AgentClient, accepted: ForwardAccepted, target: &ForwardTarget) -> io::Result<()> {
    // Taken up also when nobody listens: it is broken off by dropping it.
    let connection = agent.forwarded(accepted).await.map_err(io::Error::other)?;
    match target {
        ForwardTarget::Unix(path) => connection.relay(UnixStream::connect(path).await?).await,
        ForwardTarget::Tcp(address) => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            connection.relay(stream).await
        }
    }
}
