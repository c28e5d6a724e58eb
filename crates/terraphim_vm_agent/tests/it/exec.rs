//! Processes: output, status, input, terminals, what they leave behind.

use bytes::Bytes;

use crate::{
    protocol::{
        frame::Tag,
        message::{ExecFailure, ExecRequest, ExitStatus, FileWrite, TerminalSize},
    },
    support::{Agent, Frames, command, gone, run, shell},
};

#[tokio::test]
async fn output_is_tagged_and_comes_as_it_is_written() {
    let (agent, client) = Agent::connected().await;
    let mut request = shell("echo a; read x; echo b >&2; read x; echo c; read x; echo d >&2");
    request.stdin = true;
    let (exec, input) = client.exec(&request).await.unwrap();
    let mut frames = Frames::new(exec);
    frames.started().await;
    for expected in [(Tag::Stdout, "a"), (Tag::Stderr, "b"), (Tag::Stdout, "c"), (Tag::Stderr, "d")] {
        let (tag, line) = frames.line().await;
        assert_eq!((tag, &*line), expected);
        // The last one finds nobody reading, and may find the process gone.
        let _ = input.write_stdin(Bytes::from_static(b"\n")).await;
    }
    assert_eq!(frames.rest().await.status(), ExitStatus::Code(0));
    drop((client, input));
    agent.ended().await;
}

#[tokio::test]
async fn the_status_is_the_process_s_own() {
    let (agent, client) = Agent::connected().await;
    for code in [0, 1, 127, 255] {
        assert_eq!(run(&client, &shell(&format!("exit {code}"))).await.status(), ExitStatus::Code(code));
    }
    let killed = run(&client, &shell("kill -SEGV $$")).await;
    assert_eq!(killed.status(), ExitStatus::Signal(11));
    drop(client);
    agent.ended().await;
}

#[tokio::test]
async fn signals_reach_the_whole_group() {
    let (agent, client) = Agent::connected().await;
    let request = shell(
        "trap 'echo parent; wait; exit 7' TERM; sh -c 'trap \"echo child; exit\" TERM; echo up; \
                         while :; do sleep 0.05; done' & wait",
    );
    let (exec, input) = client.exec(&request).await.unwrap();
    let mut frames = Frames::new(exec);
    frames.started().await;
    assert_eq!(frames.line().await.1, "up");
    input.signal(15).await.unwrap();
    let output = frames.rest().await;
    let mut lines: Vec<&str> = output.text().lines().collect();
    lines.sort_unstable();
    assert_eq!((lines, output.status()), (vec!["child", "parent"], ExitStatus::Code(7)));
    drop((client, input));
    agent.ended().await;
}

#[tokio::test]
async fn what_a_process_leaves_behind_is_killed_and_counted() {
    let (agent, client) = Agent::connected().await;
    // One in the session, one in a session of its own whose parent is gone; both hold the output open.
    let script = "sleep 1000 & echo $!; setsid sh -c 'sleep 1000 & echo $!'; exit 3";
    let output = run(&client, &shell(script)).await;
    let exited = output.exited.unwrap();
    assert_eq!((exited.status, exited.orphans_killed), (ExitStatus::Code(3), 2));
    for pid in output.text().lines() {
        gone(pid.parse().unwrap()).await;
    }
    drop(client);
    agent.ended().await;
}

#[tokio::test]
async fn cancelling_kills_the_tree() {
    let (agent, client) = Agent::connected().await;
    let (exec, _input) =
        client.exec(&shell("trap '' TERM HUP; sleep 1000 & echo $! $$; wait")).await.unwrap();
    let mut frames = Frames::new(exec);
    frames.started().await;
    let (_, line) = frames.line().await;
    drop(frames);
    for pid in line.split(' ') {
        gone(pid.parse().unwrap()).await;
    }
    client.ping().await.unwrap();
    drop((client, _input));
    agent.ended().await;
}

#[tokio::test]
async fn the_end_of_the_connection_kills_everything() {
    let (agent, client) = Agent::connected().await;
    let (exec, input) = client.exec(&shell("sleep 1000 & echo $! $$; wait")).await.unwrap();
    let mut frames = Frames::new(exec);
    frames.started().await;
    let (_, line) = frames.line().await;
    drop((frames, input, client));
    agent.ended().await;
    for pid in line.split(' ') {
        gone(pid.parse().unwrap()).await;
    }
}

#[tokio::test]
async fn standard_input_arrives_whole_and_ends() {
    let (agent, client) = Agent::connected().await;
    let content: Vec<u8> = (0..5_000_000_u32).map(|n| n.to_le_bytes()[(n % 3) as usize]).collect();
    let (exec, input) = client.exec(&ExecRequest { stdin: true, ..command(&["cat"]) }).await.unwrap();
    let send = async {
        input.write_stdin(content.clone().into()).await.unwrap();
        input.close_stdin().await.unwrap();
    };
    let (output, ()) = tokio::join!(Frames::new(exec).rest(), send);
    assert!(output.stdout == content);
    assert_eq!(output.status(), ExitStatus::Code(0));
    let output = run(&client, &command(&["cat"])).await;
    assert_eq!((output.text(), output.status()), ("", ExitStatus::Code(0)));
    drop((client, input));
    agent.ended().await;
}

#[tokio::test]
async fn a_signal_passes_input_that_nobody_reads() {
    let (agent, client) = Agent::connected().await;
    let (exec, input) =
        client.exec(&ExecRequest { stdin: true, ..command(&["sleep", "1000"]) }).await.unwrap();
    let mut frames = Frames::new(exec);
    frames.started().await;
    let (sent, mut total) = tokio::sync::watch::channel(0);
    let flood = tokio::spawn({
        let input = input.clone();
        async move {
            while input.write_stdin(vec![0; 1 << 16].into()).await.is_ok() {
                sent.send_modify(|total| *total += 1);
            }
        }
    });
    // The pipe takes one piece, the stream's window 32.
    total.wait_for(|total| *total > 20).await.unwrap();
    input.signal(9).await.unwrap();
    assert_eq!(frames.rest().await.status(), ExitStatus::Signal(9));
    flood.await.unwrap();
    drop((client, input));
    agent.ended().await;
}

#[tokio::test]
async fn a_terminal_is_one() {
    let (agent, client) = Agent::connected().await;
    let mut request = shell(
        "test -t 0 -a -t 1 -a -t 2 && stty size; trap 'stty size' WINCH; echo ready; \
                             until read line; do :; done; echo \"got $line $TERM\"; cat; exit 5",
    );
    request.terminal = Some(TerminalSize { rows: 31, columns: 117 });
    request.stdin = true;
    let (exec, input) = client.exec(&request).await.unwrap();
    let mut frames = Frames::new(exec);
    frames.started().await;
    let mut seen = String::new();
    while !seen.contains("ready") {
        seen += &frames.line().await.1;
    }
    assert!(seen.contains("31 117"), "{seen}");
    input.resize(TerminalSize { rows: 50, columns: 60 }).await.unwrap();
    while !seen.contains("50 60") {
        input.write_stdin(Bytes::new()).await.unwrap();
        seen += &frames.line().await.1;
    }
    input.write_stdin(Bytes::from_static(b"hello\n")).await.unwrap();
    input.close_stdin().await.unwrap();
    let output = frames.rest().await;
    assert!(output.text().contains("got hello xterm-256color"), "{}", output.text());
    assert_eq!((output.stderr.len(), output.status()), (0, ExitStatus::Code(5)));
    drop((client, input));
    agent.ended().await;
}

#[tokio::test]
async fn the_process_has_a_session_a_group_and_a_plain_state() {
    let (agent, client) = Agent::connected().await;
    let mut request = shell("cut -d' ' -f1,5,6 /proc/$$/stat; umask; pwd; echo $EXTRA");
    request.env = vec![("EXTRA".into(), "yes".into())];
    let output = run(&client, &request).await;
    let lines: Vec<&str> = output.text().lines().collect();
    let ids: Vec<&str> = lines[0].split(' ').collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{}", lines[0]);
    assert_eq!(lines[1..], ["0022", "/", "yes"]);
    // Not by a shell: it blocks signals while it starts what looks.
    let output = run(&client, &command(&["grep", "-E", "SigBlk|SigIgn", "/proc/self/status"])).await;
    let masks = output.text().lines().map(|line| line.split_ascii_whitespace().nth(1).unwrap());
    let masks: Vec<u64> = masks.map(|mask| u64::from_str_radix(mask, 16).unwrap()).collect();
    assert_eq!((masks[0], masks[1] & 1 << (libc::SIGPIPE - 1)), (0, 0));
    // The last one is `ls` reading the directory.
    assert_eq!(run(&client, &command(&["ls", "/proc/self/fd"])).await.text(), "0\n1\n2\n3\n");
    drop(client);
    agent.ended().await;
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let (agent, client) = Agent::connected().await;
    let scratch = tempfile::tempdir().unwrap();
    let plain = scratch.path().join("plain");
    std::fs::write(&plain, "no program").unwrap();
    let with = |change: &dyn Fn(&mut ExecRequest)| {
        let mut request = command(&["true"]);
        change(&mut request);
        request
    };
    let cases = [
        (command(&["no-such-program"]), ExecFailure::NotFound),
        (command(&["/no/such/program"]), ExecFailure::NotFound),
        (command(&[plain.to_str().unwrap()]), ExecFailure::NotExecutable),
        (command(&["/"]), ExecFailure::NotExecutable),
        (command(&[]), ExecFailure::BadRequest),
        (command(&["a\0b"]), ExecFailure::BadRequest),
        (with(&|request| request.cwd = Some("/no/such/directory".into())), ExecFailure::WorkingDirectory),
        (with(&|request| request.user = Some("nobody-of-this-name".into())), ExecFailure::BadRequest),
        (with(&|request| request.view = Some("no-view".into())), ExecFailure::BadRequest),
        (
            with(&|request| {
                let path = "/proc/no/file".into();
                request.write_files = vec![FileWrite { path, content: String::new(), mode: 0o600 }];
            }),
            ExecFailure::WriteFile,
        ),
    ];
    for (request, reason) in cases {
        let failed = run(&client, &request).await.failed.unwrap_or_else(|| panic!("{request:?}"));
        assert_eq!(failed.reason, reason, "{failed:?}");
    }
    drop(client);
    agent.ended().await;
}

#[tokio::test]
async fn files_are_written_before_and_returned_after() {
    let (agent, client) = Agent::connected().await;
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name).to_str().unwrap().to_owned();
    let mut request = shell(
        "cat \"$DIR/deep/in\"; stat -c %a \"$DIR/deep/in\"; printf '\\0\\377' > \"$DIR/out\"; \
                             head -c 3000000 /dev/zero > \"$DIR/large\"",
    );
    request.env = vec![("DIR".into(), scratch.path().to_str().unwrap().into())];
    request.write_files = vec![FileWrite { path: path("deep/in"), content: "größe\n".into(), mode: 0o640 }];
    request.return_files = [path("out"), path("missing"), path("deep"), path("large")].into();
    let output = run(&client, &request).await;
    assert_eq!(output.text(), "größe\n640\n");
    let [out, missing, directory, large] = &output.files[..] else { panic!("{:?}", output.files) };
    assert_eq!((out.0.index, out.0.exists, &*out.1), (0, true, &[0, 255][..]));
    assert_eq!((missing.0.index, missing.0.exists, missing.0.error.is_some()), (1, false, false));
    assert_eq!((directory.0.index, directory.0.exists, directory.0.error.is_some()), (2, true, true));
    assert_eq!((large.0.index, large.0.size, large.1.len()), (3, 3_000_000, 3_000_000));
    drop(client);
    agent.ended().await;
}
