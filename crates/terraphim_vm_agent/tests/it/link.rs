//! The handshake, and hosts that come and go.

use std::os::unix::net::{UnixListener, UnixStream as StdStream};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

use crate::{
    agent::AgentClient,
    protocol::{
        GENERATION,
        handshake::{HELLO, LENGTH, READY, message},
    },
    support::{Agent, Frames, LIMIT, command, gone, run, shell, stream},
};

#[tokio::test]
async fn stale_bytes_before_the_hello_are_skipped() {
    let (agent, mut socket) = Agent::pair();
    let mut stale = message(HELLO, GENERATION, &[1; 16]).to_vec();
    stale.truncate(20);
    stale.extend_from_slice(&[0; 100_000]);
    socket.write_all(&stale).await.unwrap();
    let client = AgentClient::connect(socket, LIMIT).await.unwrap();
    client.ping().await.unwrap();
    drop(client);
    agent.ended().await;
}

#[tokio::test]
async fn a_host_of_another_generation_is_told_ours_and_not_served() {
    let (agent, mut socket) = Agent::pair();
    socket.write_all(&message(HELLO, GENERATION + 1, &[9; 16])).await.unwrap();
    let mut answer = [0; LENGTH];
    socket.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, message(READY, GENERATION, &[9; 16]));
    // It goes on listening for one that it understands.
    let client = AgentClient::connect(socket, LIMIT).await.unwrap();
    client.ping().await.unwrap();
    drop(client);
    agent.ended().await;
}

#[tokio::test]
async fn a_host_may_come_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let agent = Agent::start(UnixListener::bind(&path).unwrap().into());
    let mut pids = Vec::new();
    for _ in 0..3 {
        let client = AgentClient::connect(UnixStream::connect(&path).await.unwrap(), LIMIT).await.unwrap();
        let (exec, _input) = client.exec(&shell("echo $$; sleep 1000")).await.unwrap();
        let mut frames = Frames::new(exec);
        frames.started().await;
        pids.push(frames.line().await.1.parse().unwrap());
    }
    for pid in pids {
        gone(pid).await;
    }
    let client = AgentClient::connect(UnixStream::connect(&path).await.unwrap(), LIMIT).await.unwrap();
    client.shutdown(LIMIT).await.unwrap();
    drop(client);
    agent.ended().await;
}

/// What a guest sees when its host vanished without a hang-up: the same stream, another hello.
#[tokio::test]
async fn a_new_hello_ends_the_connection_before_it() {
    let (ours, theirs) = StdStream::pair().unwrap();
    let agent = Agent::start(theirs.into());
    let mut last = None;
    for _ in 0..3 {
        let client = AgentClient::connect(stream(ours.try_clone().unwrap()), LIMIT).await.unwrap();
        let (exec, input) = client.exec(&shell("echo $$; exec sleep 1000")).await.unwrap();
        let mut frames = Frames::new(exec);
        frames.started().await;
        let pid = frames.line().await.1.parse().unwrap();
        if let Some(before) = last.replace(pid) {
            gone(before).await;
        }
        // The host dies: nothing is sent any more, and its socket stays open in `ours`.
        std::mem::forget((frames, input));
        drop(client);
    }
    let client = AgentClient::connect(stream(ours), LIMIT).await.unwrap();
    assert_eq!(run(&client, &command(&["echo", "still", "here"])).await.text(), "still here\n");
    gone(last.unwrap()).await;
    drop(client);
    agent.ended().await;
}
