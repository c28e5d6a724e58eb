//! A real ssh, a real sshd, and no network between them.

use std::{fs, io::Write as _, process::Stdio};

use crate::host::{Said, World};

#[test]
fn ssh_enters_a_vm_with_keys_of_its_own() {
    let world = World::new();
    let shape = ["--image", "debian", "--memory", "256", "--cpus", "1", "--network", "none"];
    world.vm_ok(&[&["create", "--name", "deb"], &shape[..]].concat());
    let stopped = world.vm(&["ssh", "deb", "--", "true"]);
    stopped.ends(2, &["tci vm start deb"]);
    world.vm_ok(&["start", "deb"]);

    // The exit code, both outputs, and standard input come through.
    let mut child = world.tci();
    child.args(["vm", "ssh", "deb", "--", "cat; id -un; echo err >&2; exit 9"]);
    let mut child =
        child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"typed\n").unwrap();
    let said = Said::of(&child.wait_with_output().unwrap());
    assert_eq!(
        (said.code, said.stdout.as_str(), said.stderr.as_str()),
        (9, "typed\nroot\n", "err\n"),
        "{said:#?}"
    );
    let user = world.vm_ok(&["ssh", "deb", "--user", "runner", "--", "id -un"]);
    assert_eq!(user, "runner\n");

    // The way in for other programs.
    let settings = world.vm_json(&["ssh", "deb", "--json"]);
    assert!(settings["alias"].as_str().unwrap().starts_with("tci-"), "{settings}");
    assert!(
        std::path::Path::new(settings["options"]["IdentityFile"].as_str().unwrap().trim_matches('"'))
            .exists()
    );
    let config = world.vm_ok(&["ssh", "deb", "--config"]);
    let file = world.write("ssh.conf", &config);
    let mut scp = std::process::Command::new("scp");
    scp.env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("XDG_RUNTIME_DIR", world.path().join("run"));
    world.vm_ok(&["exec", "deb", "--", "sh", "-c", "echo deb > /tmp/name"]);
    let copied = scp.arg("-F").arg(&file).arg("tci-deb:/tmp/name").arg(world.path()).output().unwrap();
    assert!(copied.status.success(), "{copied:?}");
    assert_eq!(fs::read_to_string(world.path().join("name")).unwrap(), "deb\n");

    // The guest's key is known: another one in its place is refused.
    let vm = world.vm_ok(&["ls", "-q"]);
    let keys = world.data().join("vms").join(vm.trim()).join("ssh");
    let known = fs::read_to_string(keys.join("known_hosts")).unwrap();
    let (alias, _) = known.split_once(' ').unwrap();
    let wrong = fs::read_to_string(keys.join("id_ed25519.pub")).unwrap();
    fs::write(keys.join("known_hosts"), format!("{alias} {wrong}")).unwrap();
    world.vm(&["ssh", "deb", "--", "true"]).ends(255, &["verification failed"]);
    world.remove("deb");
    assert!(!keys.exists(), "the keys go with the VM");
}

#[test]
fn an_image_without_sshd_says_so() {
    let world = World::new();
    world.define("small", &[]);
    world.vm_ok(&["start", "small"]);
    world.vm(&["ssh", "small"]).ends(2, &["has no /usr/sbin/sshd", "openssh-server"]);
    world.remove("small");
}
