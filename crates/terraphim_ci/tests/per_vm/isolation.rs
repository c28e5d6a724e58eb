//! Who may talk to a supervisor.

use std::{
    fs,
    io::Read as _,
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
};

use crate::host::{NOW, TestHost};

/// Even when somebody has loosened every mode on the way. To be somebody else takes root.
#[tokio::test]
async fn another_user_is_refused_by_the_supervisor_itself() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: connecting as another user takes root");
        return;
    }
    let test = TestHost::new();
    let vm = test.running().await;
    let socket = vm.socket.clone().unwrap();
    for level in socket.ancestors().take_while(|level| level.starts_with(test.path())) {
        fs::set_permissions(level, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let path = socket.clone();
    let read = std::thread::spawn(move || {
        // Of this thread only: nobody.
        let nobody = rustix::process::Uid::from_raw(65534);
        rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
        let mut stream = UnixStream::connect(path).unwrap();
        let _ = std::io::Write::write_all(&mut stream, b"GET /v1/ping HTTP/1.1\r\nhost: vm\r\n\r\n");
        let mut answer = Vec::new();
        // The end may come as a reset, because what was written is never read.
        let _ = stream.read_to_end(&mut answer);
        answer
    });
    assert_eq!(read.join().unwrap(), b"", "not a word");
    let log = fs::read_to_string(test.host.paths().vm(&vm.id).join("supervisor.log")).unwrap();
    assert!(log.contains("another user"), "{log}");
    test.host.client(&vm.id).unwrap().ping().await.unwrap();
    for level in socket.ancestors().skip(1).take_while(|level| level.starts_with(test.path())) {
        fs::set_permissions(level, fs::Permissions::from_mode(0o700)).unwrap();
    }
    test.host.stop(&vm.id, &NOW).await.unwrap();
}
