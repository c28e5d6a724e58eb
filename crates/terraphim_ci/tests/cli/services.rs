//! Artifacts and caches that jobs left. They are laid down here as the services lay them down.

use std::{fs, io::Write as _, path::Path};

use serde_json::{Value, json};
use zip::{ZipWriter, write::SimpleFileOptions};

use crate::fixture::World;

/// The name of an entry's directory, see docs/services.md: what is unique, by digest.
fn name_of(texts: &[&str]) -> String {
    let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
    for text in texts {
        digest.update(&(text.len() as u64).to_be_bytes());
        digest.update(text.as_bytes());
    }
    digest.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn lay(directory: &Path, meta: &Value, content: &[u8]) {
    fs::create_dir_all(directory).unwrap();
    fs::write(directory.join("content"), content).unwrap();
    fs::write(directory.join("meta.json"), meta.to_string()).unwrap();
}

fn artifact(world: &World, id: u64, run: i64, name: &str, content_type: &str, content: &[u8]) {
    let directory = world.data().join(format!("services/artifacts/{run}/{}", name_of(&[name])));
    let meta = json!({
        "id": id, "run": run, "repository": "me/it", "job": "build", "job_backend_id": "x", "name": name,
        "size": content.len(), "digest": "sha256:00", "content_type": content_type,
        "created_at_ms": 1_700_000_000_000_i64, "expires_at_ms": 9_000_000_000_000_i64,
    });
    lay(&directory, &meta, content);
}

fn cache(world: &World, id: u64, scope: &str, key: &str) {
    let entry = name_of(&[scope, key, "v"]);
    let directory = world.data().join(format!("services/caches/{}/{entry}", name_of(&["me/it"])));
    let meta = json!({
        "id": id, "repository": "me/it", "scope": scope, "key": key, "version": "v", "size": 3 << 20,
        "digest": "sha256:00", "created_at_ms": 1_700_000_000_000_i64,
    });
    lay(&directory, &meta, b"x");
}

fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut zip = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, text) in files {
        zip.start_file(*name, SimpleFileOptions::default()).unwrap();
        zip.write_all(text.as_bytes()).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

#[test]
fn artifacts_are_listed_unpacked_and_removed() {
    let world = World::new();
    let files = archive(&[("a.txt", "one"), ("deep/b.txt", "two")]);
    artifact(&world, 11, 1, "coverage", "application/zip", &files);
    artifact(&world, 12, 2, "coverage", "application/zip", &archive(&[("a.txt", "newer")]));
    artifact(&world, 13, 2, "log.txt", "text/plain", b"raw");
    world.run(&["artifact", "ls"]).prints(&["ID", "EXPIRES", "coverage", "log.txt"]);
    let listed = world.run(&["artifact", "ls", "--run", "2", "--json"]);
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
    assert_eq!((listed[0]["id"].as_u64(), listed[1]["id"].as_u64()), (Some(13), Some(12)));
    world
        .run(&["artifact", "get", "coverage", "--run", "1"])
        .prints(&["coverage/a.txt", "coverage/deep/b.txt"]);
    assert_eq!(fs::read_to_string(world.repo().join("coverage/deep/b.txt")).unwrap(), "two");
    // Nothing is written over.
    world.run(&["artifact", "get", "coverage"]).fails(2, &["coverage/a.txt exists", "--output"]);
    world.run(&["artifact", "get", "coverage", "-o", "new"]).prints(&["new/a.txt"]);
    assert_eq!(fs::read_to_string(world.repo().join("new/a.txt")).unwrap(), "newer");
    world.run(&["artifact", "get", "11", "--raw"]).prints(&["coverage.zip"]);
    assert_eq!(fs::read(world.repo().join("coverage.zip")).unwrap(), files);
    world.run(&["artifact", "get", "log.txt"]).prints(&["log.txt"]);
    world.run(&["artifact", "rm", "coverage", "none"]).fails(2, &["no artifact `none`"]);
    world.run(&["artifact", "rm", "coverage", "log.txt"]).prints(&["12", "13"]);
    assert!(!world.data().join("services/artifacts/2").exists());
    world.run(&["artifact", "get", "coverage", "--run", "2"]).fails(2, &["no artifact `coverage` of run 2"]);
}

#[test]
fn an_archive_writes_nothing_outside_its_directory() {
    let world = World::new();
    artifact(&world, 1, 1, "evil", "application/zip", &archive(&[("../../out.txt", "x")]));
    artifact(&world, 2, 1, "broken", "application/zip", b"PK nonsense");
    world.run(&["artifact", "get", "evil"]).fails(3, &["leads outside"]);
    world.run(&["artifact", "get", "broken"]).fails(3, &["is damaged"]);
    assert!(!world.repo().join("../out.txt").exists() && !world.repo().join("out.txt").exists());
}

#[test]
fn caches_are_listed_counted_and_removed() {
    let world = World::new();
    cache(&world, 1, "refs/heads/main", "npm-1");
    cache(&world, 2, "refs/heads/main", "cargo-1");
    cache(&world, 3, "refs/heads/feature", "npm-1");
    world.run(&["cache", "ls"]).prints(&["KEY", "npm-1", "cargo-1", "feature"]);
    let of = |args: &[&str]| {
        let listed: Value =
            serde_json::from_str(&world.run(&[&["cache", "ls", "--json"], args].concat()).stdout).unwrap();
        let mut ids: Vec<u64> =
            listed.as_array().unwrap().iter().map(|entry| entry["id"].as_u64().unwrap()).collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(of(&["--key", "npm-"]), [1, 3]);
    assert_eq!(of(&["--ref", "feature", "-R", "Me/It"]), [3]);
    assert_eq!(of(&["-R", "other/it"]), [0_u64; 0]);
    world.run(&["cache", "stats"]).prints(&["me/it", "9 MiB", "10.0 GiB"]);
    let stats: Value = serde_json::from_str(&world.run(&["cache", "stats", "--json"]).stdout).unwrap();
    assert_eq!(
        stats[0],
        json!({"repository": "me/it", "entries": 3, "bytes": 9 << 20, "quota_bytes": 10_u64 << 30})
    );
    world.run(&["cache", "rm", "none"]).fails(2, &["no cache entry `none`"]);
    world.run(&["cache", "rm"]).fails(2, &["<ENTRIES>"]);
    world.run(&["cache", "rm", "npm-1", "--ref", "feature"]).prints(&["3"]);
    world.run(&["cache", "rm", "--all"]).prints(&["1", "2"]);
    assert_eq!(of(&[]), [0_u64; 0]);
}
