//! What tests need must not be in what users get.

use std::process::Command;

/// The features of `terraphim_vm` in a build of `tci`, of this kind of dependencies.
fn features(edges: &str) -> String {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--package", "terraphim_ci", "--edges", edges])
        .args(["--prefix", "none", "--format", "{p} [{f}]"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).unwrap();
    let line = tree.lines().find(|line| line.starts_with("terraphim_vm v")).unwrap();
    line.to_owned()
}

#[test]
fn a_release_has_no_fault_points() {
    assert!(!features("normal,build").contains("failpoints"));
    // The same question about the tests, so that the answer above is one.
    assert!(features("normal,build,dev").contains("failpoints"));
}
