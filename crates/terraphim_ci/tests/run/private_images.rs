//! Containers of images that a registry gives for a password, in real virtual machines without a network: the registry is a
//! port of the guest's loopback interface. Also what is stopped in them, and docker actions of another repository.
//! `testdata/containers` is the repository, `testdata/docker-actions` has the other one.

use std::{fs, io::Write as _, net::TcpListener, path::Path};

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    containers::{HOW, job, world},
    git_server::{GitServer, Habits, make_repositories},
    host::{Running, World},
    registry::{Forward, PASSWORD, Registry},
};

/// The ports of the guest that the workflows know.
const REGISTRY: u16 = 5000;
const MEETING: u16 = 5001;

/// A host with the repository and the password, and a registry.
fn world_with_registry() -> (World, Registry) {
    let world = world();
    fs::write(world.path().join("secrets"), format!("PASSWORD={PASSWORD}\n")).unwrap();
    let registry = Registry::start(&world.repo().join("image.sh"));
    (world, registry)
}

/// Starts `tci run` of a workflow with the password.
fn start(world: &World, workflow: &str, args: &[&str]) -> Running {
    let path = |name: &str| world.path().join(name).to_str().unwrap().to_owned();
    let workflow = format!(".github/workflows/{workflow}.yml");
    let (secrets, json) = (path("secrets"), path("result.json"));
    let fixed = ["run", "--secret-file", &secrets, "--json", &json, &workflow];
    world.start(&[&fixed[..], &HOW, args].concat())
}

/// The VM that is ready next.
fn next_vm(running: &mut Running) -> String {
    let line = running.until(" ready in ");
    let vm = line.split_once("VM ").and_then(|(_, rest)| rest.split(' ').next());
    vm.unwrap_or_else(|| panic!("no VM in {line:?}")).to_owned()
}

fn report(world: &World) -> Value {
    serde_json::from_str(&fs::read_to_string(world.path().join("result.json")).unwrap()).unwrap()
}

#[test]
#[ignore = "minutes: `make soak`"]
fn soak_private_images_docker_actions_of_others_and_what_is_stopped_in_containers() {
    let (world, registry) = world_with_registry();
    let repositories = world.path().join("repositories");
    make_repositories(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/docker-actions"),
        &repositories,
    );
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(GitServer::start(&repositories, Habits::default()));
    let mut running = start(&world, "private", &["--action-mirror", &server.url]);
    let vm = next_vm(&mut running);
    let forward = Forward::open(&world, &vm, REGISTRY, registry.port);
    running.until("ready to be stopped");
    running.signal(Signal::INT);
    let (code, said) = running.end();
    assert_eq!(code, 130, "{said}");
    drop((forward, registry));

    let report = report(&world);
    let log = world.tell(&["runs", "logs", "1"]).stdout;
    let all = log.clone() + &said + &report.to_string();
    let has = |text: &str| assert!(all.contains(text), "no {text:?} in {all}");
    let conclusion = |id: &str| job(&report, id)["conclusion"].clone();

    // Credentials of a container and of a service; they leave nothing behind, and a wrong password is told of.
    assert_eq!(conclusion("credentials"), "success", "{all}");
    has("Login Succeeded");
    has("of a private image, yes\n");
    has("hello from a private db\n");
    has("the first step; kept: 0\n");
    assert_eq!(conclusion("refused"), "failure", "{all}");
    has("Docker login for '127.0.0.1:5000' failed");
    assert_eq!(job(&report, "refused")["steps"][1]["conclusion"], "skipped", "{all}");
    assert!(!log.contains("they are kept") && !all.contains(PASSWORD), "{all}");

    // A step that is out of time: it was asked first, and nothing of it goes on.
    assert_eq!(conclusion("time"), "success", "{all}");
    let slow = &job(&report, "time")["steps"][2];
    assert_eq!((&slow["outcome"], &slow["conclusion"]), (&"failure".into(), &"success".into()), "{all}");
    has("The step ran longer than its limit of 60s and was stopped.");
    has("it was asked\n");
    has("looked after failure\n");
    assert!(!log.contains("a process stays"), "{log}");
    // What a step has set stays when a docker action is made ready.
    assert!(log.contains("[user] name = set by a step\n"), "{log}");

    // A docker action of another repository, with all its stages in their order.
    assert_eq!(conclusion("remote"), "success", "{all}");
    let places: Vec<usize> = [
        "before the steps, with world\n",
        "the first step; kept",
        "during the step, for world, state seen\n",
        "it says hello world\n",
        "after the steps, state seen too\n",
    ]
    .iter()
    .map(|text| log.find(text).unwrap_or_else(|| panic!("no {text:?} in {log}")))
    .collect();
    assert!(places.is_sorted(), "{places:?} in {log}");
    assert!(server.count() > 0, "it came from the server");

    // A docker action that does not end by itself.
    assert_eq!(conclusion("cancelled"), "cancelled", "{all}");
    has("containers that stay 0\n");
}

#[test]
#[ignore = "minutes: `make soak`"]
fn soak_jobs_in_containers_run_side_by_side_in_vms_of_their_own() {
    let (world, registry) = world_with_registry();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let meeting = listener.local_addr().unwrap().port();
    let host = std::thread::spawn(move || {
        // None is answered before both are there: jobs that take turns would wait until their time is up.
        let met = [listener.accept().unwrap().0, listener.accept().unwrap().0];
        for mut guest in met {
            guest.write_all(b"both are here\n").unwrap();
        }
    });
    let mut running = start(&world, "apart", &["--isolation", "job"]);
    let vms = [next_vm(&mut running), next_vm(&mut running)];
    assert_ne!(vms[0], vms[1]);
    let forwards = vms.each_ref().map(|vm| {
        (Forward::open(&world, vm, REGISTRY, registry.port), Forward::open(&world, vm, MEETING, meeting))
    });
    let (code, said) = running.end();
    assert_eq!(code, 0, "{said}");
    drop((forwards, registry));
    host.join().unwrap();
    let log = world.tell(&["runs", "logs", "1"]).stdout;
    assert_eq!(log.matches("both are here\n").count(), 2, "{log}");
    for who in ["one", "two"] {
        assert!(log.contains(&format!("{who} has met the other\n")), "{log}");
    }
}
