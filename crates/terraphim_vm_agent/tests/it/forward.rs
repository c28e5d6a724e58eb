//! Connections from processes of the guest to the host. The "process of the guest" is the test: the agent shares its
//! loopback interface.

use std::io::ErrorKind;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    net::TcpStream,
};

use crate::{
    agent::{AgentClient, AgentConnection, AgentError, AgentForward},
    protocol::message::{Forward, ForwardAccepted},
    support::{Agent, LIMIT},
};

async fn connect(forward: &AgentForward) -> TcpStream {
    TcpStream::connect(("127.0.0.1", forward.port())).await.unwrap()
}

async fn take_up(client: &AgentClient, forward: &mut AgentForward) -> AgentConnection {
    let accepted = tokio::time::timeout(LIMIT, forward.accepted()).await.expect("it is announced");
    client.forwarded(accepted.unwrap()).await.unwrap()
}

#[tokio::test]
async fn bytes_pass_in_both_directions_and_each_ends_by_itself() {
    const SIZE: usize = 20_000_000;
    let (agent, client) = Agent::connected().await;
    let mut forward = client.forward(Forward::default()).await.unwrap();
    let mut process = connect(&forward).await;
    let connection = take_up(&client, &mut forward).await;
    let (mut host, far) = duplex(64 * 1024);
    let relay = tokio::spawn(connection.relay(far));
    let asking = tokio::spawn(async move {
        process.write_all(&vec![7; SIZE]).await.unwrap();
        process.shutdown().await.unwrap();
        // The answer comes after the question has ended.
        let mut answer = Vec::new();
        process.read_to_end(&mut answer).await.unwrap();
        answer
    });
    let mut asked = Vec::new();
    host.read_to_end(&mut asked).await.unwrap();
    assert!(asked.len() == SIZE && asked.iter().all(|byte| *byte == 7));
    host.write_all(&vec![9; SIZE]).await.unwrap();
    host.shutdown().await.unwrap();
    let answer = asking.await.unwrap();
    assert!(answer.len() == SIZE && answer.iter().all(|byte| *byte == 9));
    relay.await.unwrap().unwrap();
    drop((forward, client));
    agent.ended().await;
}

#[tokio::test]
async fn a_connection_that_nobody_reads_stalls_nobody_else() {
    let (agent, client) = Agent::connected().await;
    let mut forward = client.forward(Forward::default()).await.unwrap();
    let mut stalled = connect(&forward).await;
    let held = take_up(&client, &mut forward).await;
    // More than every buffer on the way holds, so this never ends.
    let filling = tokio::spawn(async move { stalled.write_all(&vec![1; 64 << 20]).await });
    for _ in 0..50 {
        let mut process = connect(&forward).await;
        let connection = take_up(&client, &mut forward).await;
        let (mut host, far) = duplex(1024);
        let relay = tokio::spawn(connection.relay(far));
        process.write_all(b"ping").await.unwrap();
        let mut text = [0; 4];
        host.read_exact(&mut text).await.unwrap();
        host.write_all(b"pong").await.unwrap();
        process.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"pong");
        drop((process, host));
        relay.await.unwrap().unwrap();
    }
    assert!(!filling.is_finished());
    drop(held);
    assert!(filling.await.unwrap().is_err(), "the host broke the connection off");
    drop((forward, client));
    agent.ended().await;
}

#[tokio::test]
async fn what_the_host_breaks_off_does_not_look_complete() {
    let (agent, client) = Agent::connected().await;
    let mut forward = client.forward(Forward::default()).await.unwrap();
    let mut process = connect(&forward).await;
    let connection = take_up(&client, &mut forward).await;
    let (mut host, far) = duplex(1024);
    let relay = tokio::spawn(connection.relay(far));
    host.write_all(b"half of").await.unwrap();
    let mut text = [0; 7];
    process.read_exact(&mut text).await.unwrap();
    relay.abort();
    let error = process.read(&mut text).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    // And the other way round: a process that is killed in the middle.
    let process = connect(&forward).await;
    let connection = take_up(&client, &mut forward).await;
    let (_host, far) = duplex(1024);
    let relay = tokio::spawn(connection.relay(far));
    process.set_zero_linger().unwrap();
    drop(process);
    assert!(relay.await.unwrap().is_err());
    drop((forward, client, host));
    agent.ended().await;
}

#[tokio::test]
async fn a_port_ends_with_its_forward_and_so_do_connections_that_wait() {
    let (agent, client) = Agent::connected().await;
    let mut forward = client.forward(Forward::default()).await.unwrap();
    let port = forward.port();
    let mut waiting = connect(&forward).await;
    let accepted = forward.accepted().await.unwrap();
    let taken = client.forward(Forward { port }).await.unwrap_err();
    assert!(matches!(taken, AgentError::Refused { status: 409, .. }), "{taken:?}");
    drop(forward);
    let read = waiting.read(&mut [0]).await;
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    let gone = client.forwarded(accepted).await.unwrap_err();
    assert!(matches!(gone, AgentError::Refused { status: 404, .. }), "{gone:?}");
    let unknown = client.forwarded(ForwardAccepted { connection: u64::MAX }).await.unwrap_err();
    assert!(matches!(unknown, AgentError::Refused { status: 404, .. }), "{unknown:?}");
    // The port can be used again.
    let again = client.forward(Forward { port }).await.unwrap();
    assert_eq!(again.port(), port);
    drop((again, client));
    agent.ended().await;
}

#[tokio::test]
async fn more_connections_than_the_host_takes_up_wait_for_their_turn() {
    let (agent, client) = Agent::connected().await;
    let mut forward = client.forward(Forward::default()).await.unwrap();
    let mut processes = Vec::new();
    for number in 0..100_u8 {
        let mut process = connect(&forward).await;
        process.write_all(&[number]).await.unwrap();
        process.shutdown().await.unwrap();
        processes.push(process);
    }
    for number in 0..100_u8 {
        let connection = take_up(&client, &mut forward).await;
        let (mut host, far) = duplex(1024);
        let relay = tokio::spawn(connection.relay(far));
        assert_eq!(host.read_u8().await.unwrap(), number);
        drop(host);
        relay.await.unwrap().unwrap();
    }
    drop((forward, client, processes));
    agent.ended().await;
}
