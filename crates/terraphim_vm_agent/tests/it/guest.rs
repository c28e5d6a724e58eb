//! A real guest: start one whose agent port is a Unix socket, name that in `TERRAPHIM_VM_AGENT_SOCKET`, and run
//! `cargo test -p terraphim_vm_agent --test it -- --ignored --nocapture guest`. Prints what it measured.

use std::time::{Duration, Instant};

use tokio::net::UnixStream;

use crate::{
    agent::AgentClient,
    protocol::{
        call::FilesQuery,
        message::{Configure, ExitStatus, View, ViewMount},
    },
    support::{Frames, LIMIT, command, run, shell},
};

async fn connect() -> AgentClient {
    let path = std::env::var("TERRAPHIM_VM_AGENT_SOCKET").expect("names the socket of a guest's agent");
    AgentClient::connect(UnixStream::connect(path).await.unwrap(), LIMIT).await.unwrap()
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    println!(
        "{what}: n {} min {:?} p50 {:?} max {:?}",
        times.len(),
        times[0],
        times[times.len() / 2],
        times[times.len() - 1]
    );
}

#[tokio::test]
#[ignore = "needs a guest"]
async fn guest_is_measured() {
    let begin = Instant::now();
    let client = connect().await;
    println!("connected after {:?}", begin.elapsed());
    println!("{:?}", client.info().await.unwrap());
    let mut times = Vec::new();
    for _ in 0..500 {
        let begin = Instant::now();
        client.ping().await.unwrap();
        times.push(begin.elapsed());
    }
    report("ping", times);
    let loops = async |count: u32| {
        let script = format!("i=0; while [ $i -lt {count} ]; do /bin/true; i=$((i+1)); done");
        Duration::from_micros(run(&client, &shell(&script)).await.exited.unwrap().duration_us)
    };
    let (short, long) = (loops(10).await, loops(210).await);
    println!("a shell's own fork, exec and wait of true: {:?}", (long - short) / 200);
    let (mut times, mut spawns, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..200 {
        let begin = Instant::now();
        let (exec, _input) = client.exec(&command(&["/bin/true"])).await.unwrap();
        let mut frames = Frames::new(exec);
        spawns.push(Duration::from_micros(frames.started().await.spawn_us));
        let exited = frames.rest().await.exited.unwrap();
        times.push(begin.elapsed());
        assert_eq!(exited.status, ExitStatus::Code(0));
        ends.push(Duration::from_micros(exited.duration_us));
    }
    report("exec true", times);
    report("  of it spawn", spawns);
    report("  of it until its end was seen", ends);
    for _ in 0..3 {
        let (mut exec, _input) =
            client.exec(&command(&["dd", "if=/dev/zero", "bs=256k", "count=256"])).await.unwrap();
        let (begin, mut total) = (Instant::now(), 0_u32);
        while let Some(chunk) = exec.next_chunk().await.unwrap() {
            total += u32::try_from(chunk.len()).unwrap();
        }
        let rate = f64::from(total) / 1e6 / begin.elapsed().as_secs_f64();
        println!("output: {total} bytes, {rate:.0} MB/s");
    }
    // What the guest itself can do, to compare with.
    for script in [
        "dd if=/dev/zero bs=256k count=256 | dd of=/dev/null bs=256k",
        "dd if=/dev/zero of=/root/disk bs=256k count=256",
    ] {
        let begin = Instant::now();
        run(&client, &shell(script)).await;
        println!("{script}: {:.0} MB/s", 64.0 * 1.048_576 / begin.elapsed().as_secs_f64());
    }
    let begin = Instant::now();
    let query = FilesQuery { path: "/root/upload".into(), ..FilesQuery::default() }.to_uri();
    let query = query.split_once('?').unwrap().1.to_owned();
    client.upload(&query, futures_util::stream::iter(tar_chunks())).await.unwrap();
    println!("upload: {:.0} MB/s", 64.0 * 1.048_576 / begin.elapsed().as_secs_f64());
    let begin = Instant::now();
    let mut chunks = Box::pin(client.download(&query).await.unwrap());
    while let Some(chunk) = futures_util::StreamExt::next(&mut chunks).await {
        chunk.unwrap();
    }
    println!("download: {:.0} MB/s", 64.0 * 1.048_576 / begin.elapsed().as_secs_f64());
}

fn tar_chunks() -> Vec<std::io::Result<bytes::Bytes>> {
    let mut header = tar::Header::new_gnu();
    header.set_size(64 << 20);
    header.set_mode(0o644);
    let mut builder = tar::Builder::new(Vec::new());
    let content = std::io::Read::take(std::io::repeat(7), 64 << 20);
    builder.append_data(&mut header, "file", content).unwrap();
    let bytes = bytes::Bytes::from(builder.into_inner().unwrap());
    (0..bytes.len()).step_by(1 << 18).map(|at| Ok(bytes.slice(at..bytes.len().min(at + (1 << 18))))).collect()
}

#[tokio::test]
#[ignore = "needs a guest"]
async fn guest_is_complete() {
    let client = connect().await;
    let settings = Configure {
        hostname: Some("guest-7".into()),
        realtime_ns: Some(1_900_000_000_000_000_000),
        entropy_hex: Some("5a".repeat(32)),
    };
    client.configure(&settings).await.unwrap();
    let script = "hostname; cat /etc/hostname; date +%Y; cat /proc/self/cgroup /proc/self/oom_score_adj; \
                  cat /etc/resolv.conf; mount; ip addr show eth0; ip route; df /; ulimit -n; ls -l /dev/fd /dev/vda /dev/ptmx";
    println!("{}", String::from_utf8_lossy(&run(&client, &shell(script)).await.stdout));
    let view = View {
        name: "job".into(),
        mounts: vec![ViewMount::Overlay {
            lower: "/etc".into(),
            upper: "/run/tci/scratch/job/etc".into(),
            target: "/workspace".into(),
            owner: Some("runner".into()),
        }],
    };
    let _ = client.remove_view("job").await;
    client.create_view(&view).await.unwrap();
    let mut request = shell("id; cd /workspace; echo new > new; ls; tty");
    request.user = Some("runner".into());
    request.view = Some("job".into());
    request.terminal = Some(crate::protocol::message::TerminalSize { rows: 10, columns: 20 });
    let output = run(&client, &request).await;
    println!("{} {:?}", String::from_utf8_lossy(&output.stdout), output.exited);
    client.remove_view("job").await.unwrap();
    let script = "sleep 1000 & setsid sh -c 'setsid sleep 1000 & setsid sleep 1000 &'; exit 3";
    let exited = run(&client, &shell(script)).await.exited.unwrap();
    assert_eq!((exited.status, exited.orphans_killed), (ExitStatus::Code(3), 3));
}

/// A fork bomb fills what it may; the agent answers meanwhile, and cancelling ends it.
#[tokio::test]
#[ignore = "needs a guest"]
async fn guest_survives_a_fork_bomb() {
    let client = connect().await;
    let bomb = "f() { f | f & }; f; sleep 1000";
    let (exec, _input) = client.exec(&shell(bomb)).await.unwrap();
    let mut frames = Frames::new(exec);
    frames.started().await;
    let mut times = Vec::new();
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(10) {
        let begin = Instant::now();
        client.ping().await.unwrap();
        times.push(begin.elapsed());
    }
    report("ping under a fork bomb", times);
    let begin = Instant::now();
    println!("{:?} {:?}", run(&client, &command(&["true"])).await, begin.elapsed());
    let begin = Instant::now();
    drop(frames);
    while run(&client, &command(&["true"])).await.exited.is_none() {}
    println!("usable again after {:?}", begin.elapsed());
}

#[tokio::test]
#[ignore = "needs a guest"]
async fn guest_powers_off() {
    connect().await.shutdown(Duration::from_secs(2)).await.unwrap();
}
