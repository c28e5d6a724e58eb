//! Repository tasks: `cargo xtask arrows`, `cargo xtask compare`.

mod compare;

use std::{
    collections::{BTreeMap, BTreeSet},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// Which crate may use which, see ARCHITECTURE.md. Nothing else may.
const ARROWS: &[(&str, &[&str])] = &[
    ("terraphim_ci", &["terraphim_github_runner", "terraphim_vm", "terraphim_actions"]),
    ("terraphim_github_runner", &["terraphim_actions", "terraphim_vm"]),
    ("terraphim_actions", &[]),
    ("terraphim_vm", &["terraphim_vm_protocol"]),
    ("terraphim_vm_agent", &["terraphim_vm_protocol"]),
    ("terraphim_vm_protocol", &[]),
    ("xtask", &[]),
];

/// What a crate must never pull in, directly.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("terraphim_actions", &["tokio", "rand", "chrono", "jiff", "reqwest", "hyper"]),
    ("terraphim_vm_protocol", &["tokio", "h2", "hyper"]),
    ("terraphim_vm_agent", &["rustls", "native-tls", "openssl", "reqwest", "sqlx", "rusqlite"]),
    ("terraphim_vm", &["axum", "reqwest", "sqlx"]),
    ("terraphim_github_runner", &["axum", "clap"]),
    ("terraphim_ci", &["sqlx", "rusqlite"]),
];

fn main() -> Result<ExitCode> {
    match std::env::args().nth(1).as_deref() {
        Some("arrows") => arrows(),
        Some("compare") => compare::compare(&std::env::args().nth(2).unwrap_or_default()),
        _ => bail!("usage: cargo xtask arrows | compare [PART OF A NAME]"),
    }
}

/// Reads `cargo metadata` and prints every dependency that ARCHITECTURE.md forbids.
fn arrows() -> Result<ExitCode> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .output()
        .context("cannot run cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    }
    let found = dependencies(&serde_json::from_slice(&output.stdout).context("cannot read cargo metadata")?)?;
    let wrong = violations(&found);
    let mut out = String::new();
    for line in &wrong {
        out += &format!("{line}\n");
    }
    if wrong.is_empty() {
        out = format!("{} crates, every arrow is one of ARCHITECTURE.md\n", found.len());
    }
    std::io::Write::write_all(&mut std::io::stdout(), out.as_bytes())?;
    Ok(if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Normal dependencies of each member; tests may use more.
fn dependencies(metadata: &Value) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let mut all = BTreeMap::new();
    for package in packages {
        let name = package["name"].as_str().context("a package has no name")?;
        let dependencies = package["dependencies"].as_array().context("a package has no dependency list")?;
        let normal = dependencies
            .iter()
            .filter(|dependency| dependency["kind"].is_null())
            .filter_map(|dependency| dependency["name"].as_str().map(str::to_owned))
            .collect();
        all.insert(name.to_owned(), normal);
    }
    Ok(all)
}

fn violations(found: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, uses) in found {
        let Some((_, allowed)) = ARROWS.iter().find(|(crate_name, _)| crate_name == name) else {
            wrong.push(format!("{name}: ARCHITECTURE.md and xtask do not know this crate"));
            continue;
        };
        for used in uses.iter().filter(|used| found.contains_key(*used)) {
            if !allowed.contains(&used.as_str()) {
                wrong.push(format!("{name} -> {used}: there is no such arrow"));
            }
        }
        let never =
            FORBIDDEN.iter().find(|(crate_name, _)| crate_name == name).map_or(&[][..], |(_, never)| never);
        for used in never.iter().filter(|never| uses.contains(**never)) {
            wrong.push(format!("{name} must not use {used}"));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_arrow_and_a_forbidden_library_are_found() {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let found = BTreeMap::from([
            ("terraphim_actions".to_owned(), set(&["tokio"])),
            ("terraphim_vm".to_owned(), set(&["terraphim_actions", "terraphim_vm_protocol"])),
            ("terraphim_vm_protocol".to_owned(), set(&["serde"])),
            ("stranger".to_owned(), set(&[])),
        ]);
        assert_eq!(violations(&found).len(), 3);
    }
}
