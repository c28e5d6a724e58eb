//! Containers in real virtual machines: jobs in them, services, docker actions. `testdata/containers` is the repository.
//!
//! An image with an engine takes minutes to build and a run some more where VMs are emulated, so these are part of
//! `make soak`. The network of each VM is none: a first job makes the image that the others use.

use std::{fs, path::Path, process::Command};

use rustix::process::Signal;
use serde_json::Value;

use crate::host::World;

pub(crate) const HOW: [&str; 6] = ["--image", "debian-docker", "--network", "none", "--cpus", "2"];

/// A host with the repository.
pub(crate) fn world() -> World {
    let world = World::new();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/containers/.");
    let copied = Command::new("cp").arg("-a").arg(from).arg(world.repo()).status().unwrap();
    assert!(copied.success());
    world
}

pub(crate) fn job<'a>(report: &'a Value, id: &str) -> &'a Value {
    let jobs = report["jobs"].as_array().into_iter().flatten();
    jobs.into_iter().find(|job| job["id"] == id).unwrap_or_else(|| panic!("no job {id} in {report:#}"))
}

#[test]
#[ignore = "minutes: `make soak`"]
fn soak_jobs_run_in_containers_with_services_and_docker_actions() {
    let world = world();
    let (said, report) = world.run(&[&HOW[..], &[".github/workflows/containers.yml"]].concat());
    let log = world.tell(&["runs", "logs", "1"]).stdout;
    let has = |text: &str| assert!(log.contains(text), "no {text:?} in {log}\n{said:#?}");
    for id in ["image", "inside", "vm"] {
        assert_eq!(job(&report, id)["conclusion"], "success", "{log}\n{report:#}");
    }
    // What a step of the VM mounts.
    has("seen\n");
    has("/h\n");
    // A job in a container: shell, user, paths, variables, volumes, options.
    has("I am 0 in /__w/repo/repo of box, inside, from the workflow, yes, /github/home");
    has("paths /__w/repo/repo /__w/_temp /github/workflow/event.json");
    has("hello from db");
    has("tool runs\nLATER is here\nkept\n");
    has("has id has port 8080\n");
    assert!(log.contains("a sleep stays"), "what a step leaves running ends with its job: {log}");
    let step = &job(&report, "inside")["steps"][3];
    assert_eq!(
        (&step["annotations"][0]["file"], &step["outputs"]["word"]),
        (&"src/a.c".into(), &"fine".into())
    );
    assert_eq!(job(&report, "inside")["outputs"]["word"], "fine");
    // Actions in it.
    has("at /__e/node20/bin/node in /__w/repo/repo, child says 2");
    has("the services for jobs answer 4");
    has("js says hello container");
    has("node post: remembered");
    has("docker says hi /github/workspace/image.sh");
    // Services and docker actions of a job in the VM itself.
    has("VM hears hello from web");
    has("alone in /github/workspace with red");
    has("args: one world; for world; in /github/workspace; home /github/home; INPUT world");
    has("docker says hi world, set by the action");
    has("post: kept");
    let steps: Vec<&str> = job(&report, "vm")["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["name"].as_str().unwrap())
        .collect();
    assert_eq!((steps[0], steps[steps.len() - 1]), ("Initialize containers", "Stop containers"));
}

#[test]
#[ignore = "minutes: `make soak`"]
fn soak_containers_that_go_wrong_say_why_and_nothing_tells_a_secret() {
    let world = world();
    let secret = "hunter2hunter";
    fs::write(world.path().join("secrets"), format!("TOKEN={secret}\n")).unwrap();
    let file = world.path().join("secrets");
    let json = world.path().join("result.json");
    let (file, json) = (file.to_str().unwrap(), json.to_str().unwrap());
    let args = ["run", "--secret-file", file, "--json", json, ".github/workflows/wrong.yml"];
    let mut running = world.start(&[&args[..], &HOW].concat());
    running.until("ready to be stopped");
    running.signal(Signal::INT);
    let (code, said) = running.end();
    assert_eq!(code, 130, "{said}");
    let report: Value = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
    // Messages of the engine are no part of a log.
    let log = world.tell(&["runs", "logs", "1"]).stdout + &said;
    let has = |text: &str| assert!(log.contains(text), "no {text:?} in {log}");
    has("back off 2 seconds before retry");
    has("Docker pull of absent.invalid/image:1 failed with exit code 1");
    has("I feel sick");
    has("Failed to initialize, sick service is unhealthy.");
    for id in ["pull", "unhealthy"] {
        assert_eq!(job(&report, id)["conclusion"], "failure", "{log}");
        assert_eq!(job(&report, id)["steps"][1]["conclusion"], "skipped", "{log}");
    }
    assert_eq!(job(&report, "secrets")["conclusion"], "success", "{log}");
    has("token ***\na\n***\nall are given\nno argument tells\n");
    has("heard it\n");
    has("always, tail -f /dev/null");
    let last = job(&report, "cancelled")["steps"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["name"], &last["conclusion"]), (&"Stop containers".into(), &"success".into()));
    assert!(![&log, &report.to_string()].iter().any(|text| text.contains(secret)), "{log}");
}

#[test]
fn what_needs_an_engine_is_refused_without_one_before_any_vm_starts() {
    let world = world();
    let (said, _) = world.run(&["--network", "none", ".github/workflows/containers.yml"]);
    said.ends(
        2,
        &[
            ".github/workflows/containers.yml:19:7",
            "`container` needs a container engine",
            "`services` needs a container engine",
            "`uses: docker://tiny:1` needs a container engine",
            "--image debian-docker",
            "tci image build debian-docker",
        ],
    );
    assert!(!said.all().contains("ready in"), "{said:#?}");
}
