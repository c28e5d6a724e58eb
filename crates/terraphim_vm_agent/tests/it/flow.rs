//! Flow control: a slow reader holds up nobody but its own process, and costs no memory.

use std::fs;

use crate::{
    protocol::{
        frame::{Decoder, HEADER, Tag},
        message::ExitStatus,
    },
    support::{Agent, Frames, command, run, shell},
};

#[tokio::test]
async fn a_gibibyte_of_output_needs_little_memory() {
    const SIZE: usize = 1 << 30;
    let (agent, client) = Agent::connected().await;
    let (mut exec, input) = client.exec(&command(&["head", "-c", "1073741824", "/dev/zero"])).await.unwrap();
    let (mut total, mut frames) = (0, 0);
    let mut decoder = Decoder::new();
    while let Some(chunk) = exec.next_chunk().await.unwrap() {
        decoder.push(&chunk);
        while let Some((tag, payload)) = decoder.next().unwrap() {
            if tag == Tag::Stdout {
                total += payload.len();
                frames += HEADER;
            }
        }
    }
    assert_eq!(total, SIZE);
    assert!(frames > 0);
    let status = fs::read_to_string(format!("/proc/{}/status", agent.0.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim().to_owned();
    let peak: u64 = peak.strip_suffix(" kB").unwrap().parse().unwrap();
    assert!(peak < 48 * 1024, "{peak} KiB");
    drop((client, exec, input));
    agent.ended().await;
}

#[tokio::test]
async fn stalled_readers_stall_nobody_else() {
    let (agent, client) = Agent::connected().await;
    let mut stalled = Vec::new();
    for _ in 0..20 {
        let (exec, input) = client.exec(&command(&["head", "-c", "10000000", "/dev/zero"])).await.unwrap();
        let mut frames = Frames::new(exec);
        frames.started().await;
        stalled.push((frames, input));
    }
    for _ in 0..50 {
        client.ping().await.unwrap();
    }
    let output = run(&client, &shell("head -c 20000000 /dev/zero; echo done >&2")).await;
    assert_eq!((output.stdout.len(), &*output.stderr), (20_000_000, &b"done\n"[..]));
    // They were only waiting.
    for (frames, _input) in stalled {
        let output = frames.rest().await;
        assert_eq!((output.stdout.len(), output.status()), (10_000_000, ExitStatus::Code(0)));
    }
    drop(client);
    agent.ended().await;
}

#[tokio::test]
async fn many_small_writes_that_nobody_reads_need_little_memory() {
    let (agent, client) = Agent::connected().await;
    let (exec, input) = client.exec(&shell("yes | head -c 3000000")).await.unwrap();
    let mut frames = Frames::new(exec);
    frames.started().await;
    client.ping().await.unwrap();
    assert_eq!(frames.rest().await.stdout.len(), 3_000_000);
    drop((client, input));
    agent.ended().await;
}
