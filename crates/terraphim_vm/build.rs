//! Builds the guest agent as a static program, so that `image::AGENT` can carry it inside this crate.
//!
//! The agent is another program for another machine: its build must not see how this crate is built (flags, wrappers,
//! profile, target directory), or `cargo clippy` would lint it, and a coverage or sanitizer run would put host code in the guest.

use std::env;
use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Guests are x86_64: their kernel and packages are.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Names a finished agent to carry instead: for who builds it elsewhere, or works on this crate while the agent is in pieces.
const PREBUILT: &str = "TERRAPHIM_VM_AGENT_PREBUILT";

/// Everything the agent's program is made from, relative to the workspace.
const SOURCES: [&str; 6] = [
    "crates/terraphim_vm_agent/src",
    "crates/terraphim_vm_agent/Cargo.toml",
    "crates/terraphim_vm_protocol/src",
    "crates/terraphim_vm_protocol/Cargo.toml",
    "Cargo.toml",
    "Cargo.lock",
];

fn main() {
    let workspace = variable("CARGO_MANIFEST_DIR").join("../..");
    for source in SOURCES {
        println!("cargo:rerun-if-changed={}", workspace.join(source).display());
    }
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed={PREBUILT}");
    let agent = match env::var_os(PREBUILT) {
        Some(finished) => {
            let finished = PathBuf::from(finished);
            println!("cargo:rerun-if-changed={}", finished.display());
            finished
        }
        // Not watched: it is newer than the start of this script, so cargo would think it changed and build for ever.
        None => build(&workspace),
    };
    println!("cargo:rustc-env=TERRAPHIM_VM_AGENT={}", agent.display());
    println!("cargo:rustc-env=TERRAPHIM_VM_AGENT_KEY={}", key(&agent));
}

fn build(workspace: &Path) -> PathBuf {
    let target_dir = variable("OUT_DIR").join("agent");
    let mut cargo = Command::new(variable("CARGO"));
    cargo.current_dir(workspace).args(["build", "--package", "terraphim_vm_agent", "--profile", "agent"]);
    cargo.args(["--target", TARGET, "--target-dir"]).arg(&target_dir);
    // A developer changes the agent often and waits for this; a release is built once and is copied into every guest.
    if env::var("PROFILE").is_ok_and(|profile| profile == "debug") {
        cargo.args(["--config", "profile.agent.lto=false", "--config", "profile.agent.codegen-units=16"]);
    }
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(belongs_to_outer_build) {
            cargo.env_remove(name);
        }
    }
    // Not position independent: PID 1 then needs no relocation pass when it starts.
    cargo.env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static\x1f-Crelocation-model=static");
    let status = cargo.status().expect("cargo runs: it is running this script");
    assert!(status.success(), "cannot build the guest agent (terraphim_vm_agent) for {TARGET}: {status}");
    target_dir.join(TARGET).join("agent/terraphim_vm_agent")
}

/// Whether an environment variable describes the build of this crate rather than the machine it runs on.
fn belongs_to_outer_build(name: &str) -> bool {
    const OUTER: [&str; 14] = [
        "RUSTFLAGS",
        "RUSTDOCFLAGS",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_LINKER",
        "CLIPPY_ARGS",
        "CLIPPY_CONF_DIR",
        "OUT_DIR",
        "TARGET",
        "HOST",
        "PROFILE",
        "OPT_LEVEL",
        "DEBUG",
        "NUM_JOBS",
    ];
    // Where cargo finds its caches and registries, and the job slots it shares with us, are facts of the machine.
    const MACHINE: [&str; 6] = [
        "CARGO_HOME",
        "CARGO_MAKEFLAGS",
        "CARGO_NET_",
        "CARGO_HTTP_",
        "CARGO_REGISTRIES_",
        "CARGO_REGISTRY_",
    ];
    OUTER.contains(&name)
        || name.starts_with("DEP_")
        || (name.starts_with("CARGO") && !MACHINE.iter().any(|kept| name.starts_with(kept)))
}

/// Names the agent's content. It only has to tell one build from another, not to resist an attacker.
fn key(agent: &Path) -> String {
    let content = std::fs::read(agent).expect("the agent can be read: it was just built or chosen");
    let mut hasher = DefaultHasher::new();
    hasher.write(&content);
    format!("{:016x}", hasher.finish())
}

fn variable(name: &str) -> PathBuf {
    PathBuf::from(env::var_os(name).expect("cargo sets it for every build script"))
}
