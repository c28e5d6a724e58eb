//! What only root may do: users and views. As another user these tests have nothing to try.

use std::{fs, os::unix::fs::MetadataExt};

use crate::{
    agent::AgentError,
    protocol::message::{ExecRequest, FileWrite, View, ViewMount},
    support::{Agent, run, shell},
};

const NOBODY: &str = "65534";

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[tokio::test]
async fn a_process_has_the_user_s_identity_and_files() {
    if !is_root() {
        return;
    }
    let (agent, client) = Agent::connected().await;
    let scratch = tempfile::tempdir().unwrap();
    fs::set_permissions(scratch.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let path = |name: &str| scratch.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("secret"), "root's").unwrap();
    fs::set_permissions(path("secret"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let mut request = shell("id -u; id -G | wc -w; cat \"$FILE\"; echo kept > \"$FILE\"");
    request.user = Some(NOBODY.into());
    request.env = vec![("FILE".into(), path("made/file"))];
    request.write_files = vec![FileWrite { path: path("made/file"), content: "in\n".into(), mode: 0o600 }];
    request.return_files = vec![path("made/file"), path("secret")];
    let output = run(&client, &request).await;
    assert_eq!(output.text(), "65534\n1\nin\n", "{output:?}");
    assert_eq!(fs::metadata(path("made/file")).unwrap().uid(), 65534);
    assert_eq!(fs::metadata(path("made")).unwrap().uid(), 65534);
    let [made, secret] = &output.files[..] else { panic!("{:?}", output.files) };
    assert_eq!(made.1, b"kept\n");
    assert!(secret.0.exists && secret.0.error.is_some(), "{secret:?}");
    // The thread that opened files as the user serves again, as root.
    let mut as_root = shell("true");
    as_root.return_files = vec![path("secret")];
    assert_eq!(run(&client, &as_root).await.files[0].1, b"root's");
    // The agent itself still is root.
    assert_eq!(run(&client, &shell("id -u")).await.text(), "0\n");
    drop(client);
    agent.ended().await;
}

#[tokio::test]
async fn a_view_shows_its_mounts_to_its_processes_only() {
    if !is_root() {
        return;
    }
    let (agent, client) = Agent::connected().await;
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name).to_str().unwrap().to_owned();
    let view = |name: &str| View {
        name: name.into(),
        mounts: vec![ViewMount::Bind {
            source: path(name),
            target: path("shown"),
            owner: Some(NOBODY.into()),
            mode: Some(0o750),
        }],
    };
    for name in ["one", "two"] {
        client.create_view(&view(name)).await.unwrap();
        let request = ExecRequest { view: Some(name.into()), ..shell("pwd; echo $0 > name") };
        let request = ExecRequest { cwd: Some(path("shown")), ..request };
        assert_eq!(run(&client, &request).await.text().trim(), path("shown"));
        assert_eq!(fs::read_to_string(path(&format!("{name}/name"))).unwrap(), "sh\n");
        let made = fs::metadata(path(name)).unwrap();
        assert_eq!((made.uid(), made.mode() & 0o7777), (65534, 0o750));
        // The thread that was in the view serves again, outside of it.
        let mut outside = shell(&format!("ls {}", path("shown")));
        outside.return_files = vec![path("shown/name")];
        let output = run(&client, &outside).await;
        assert_eq!((output.text(), output.files[0].0.exists), ("", false));
    }
    assert_eq!(fs::read_dir(path("shown")).unwrap().count(), 0);
    let taken = client.create_view(&view("one")).await.unwrap_err();
    assert!(matches!(taken, AgentError::Refused { status: 409, .. }), "{taken:?}");
    client.remove_view("one").await.unwrap();
    let request = ExecRequest { view: Some("one".into()), ..shell("true") };
    assert!(run(&client, &request).await.failed.is_some());
    drop(client);
    agent.ended().await;
}

/// Out of descriptors is what a test can make of "out of resources" as root.
#[tokio::test]
async fn a_lack_of_resources_fails_the_call_and_not_the_agent() {
    let (agent, client) = Agent::connected().await;
    let pid = rustix::process::Pid::from_child(&agent.0);
    let limit = |current| rustix::process::Rlimit { current: Some(current), maximum: Some(1024) };
    let open = fs::read_dir(format!("/proc/{}/fd", agent.0.id())).unwrap().count() as u64;
    let set = |limit| rustix::process::prlimit(Some(pid), rustix::process::Resource::Nofile, limit).unwrap();
    set(limit(open));
    let failed = run(&client, &shell("true")).await.failed.unwrap();
    assert_eq!(failed.reason, crate::protocol::message::ExecFailure::Resources, "{failed:?}");
    client.ping().await.unwrap();
    set(limit(1024));
    assert!(run(&client, &shell("true")).await.exited.is_some());
    drop(client);
    agent.ended().await;
}
