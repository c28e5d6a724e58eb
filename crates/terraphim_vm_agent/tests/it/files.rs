//! Tar streams in and out.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::Path,
};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::{
    agent::{AgentClient, AgentError},
    protocol::call::FilesQuery,
    support::Agent,
};

fn query(path: &Path) -> String {
    let files = FilesQuery { path: path.to_str().unwrap().to_owned(), ..FilesQuery::default() };
    files.to_uri().split_once('?').unwrap().1.to_owned()
}

async fn upload(client: &AgentClient, path: &Path, archive: Vec<u8>) -> Result<(), AgentError> {
    let chunks: Vec<io::Result<Bytes>> =
        archive.chunks(70_001).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    client.upload(&query(path), stream::iter(chunks)).await
}

async fn download(client: &AgentClient, path: &Path) -> Result<Vec<u8>, AgentError> {
    let chunks: Vec<Bytes> = client.download(&query(path)).await?.boxed().try_collect().await?;
    Ok(chunks.concat())
}

fn archive(fill: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    fill(&mut builder);
    builder.into_inner().unwrap()
}

/// An entry whose name no polite writer would produce.
fn hostile(builder: &mut tar::Builder<Vec<u8>>, name: &str, kind: tar::EntryType, link: &str) {
    let mut header = tar::Header::new_gnu();
    header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_gnu_mut().unwrap().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    header.set_cksum();
    builder.append(&header, io::empty()).unwrap();
}

fn odd_tree(root: &Path) {
    let long = "long-".repeat(50);
    let deep = root.join("ä ö\n\"ü\"").join(&long[..200]).join(&long[..200]);
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("file"), vec![7; 1_000_000]).unwrap();
    fs::write(root.join("empty"), "").unwrap();
    fs::write(root.join("-rf"), "dash").unwrap();
    fs::set_permissions(root.join("-rf"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::hard_link(root.join("-rf"), root.join("z hard")).unwrap();
    symlink("-rf", root.join("link")).unwrap();
    symlink(format!("/nowhere/{long}"), root.join("dangling")).unwrap();
    fs::create_dir(root.join("closed")).unwrap();
    fs::write(root.join("closed/inside"), "x").unwrap();
    fs::set_permissions(root.join("closed"), fs::Permissions::from_mode(0o555)).unwrap();
}

/// What is compared: kind and mode, size of files, link targets, times.
fn describe(root: &Path) -> Vec<String> {
    fn walk(root: &Path, directory: &Path, out: &mut Vec<String>) {
        for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
            let metadata = entry.metadata().unwrap();
            let size = if metadata.is_file() { metadata.len() } else { 0 };
            let link = fs::read_link(entry.path()).ok();
            let name = entry.path().strip_prefix(root).unwrap().to_owned();
            out.push(format!("{name:?} {:o} {size} {link:?} {}", metadata.mode(), metadata.mtime()));
            if metadata.is_dir() {
                walk(root, &entry.path(), out);
            }
        }
    }
    let mut out = Vec::new();
    walk(root, root, &mut out);
    out.sort();
    out
}

#[tokio::test]
async fn an_odd_tree_survives_the_round_trip() {
    let (agent, client) = Agent::connected().await;
    let scratch = tempfile::tempdir().unwrap();
    let (from, to) = (scratch.path().join("from"), scratch.path().join("a b/größe"));
    odd_tree(&from);
    let bytes = download(&client, &from).await.unwrap();
    // Other readers understand it too.
    let names = tar::Archive::new(&bytes[..]).entries().unwrap().count();
    assert!(names >= 10, "{names}");
    upload(&client, &to, bytes.clone()).await.unwrap();
    assert_eq!(describe(&from), describe(&to));
    let inode = |name: &str| fs::metadata(to.join(name)).unwrap().ino();
    assert_eq!(inode("-rf"), inode("z hard"));
    // Once more over what is there; the read-only directory only lets root do that.
    if rustix::process::geteuid().is_root() {
        upload(&client, &to, bytes).await.unwrap();
        assert_eq!(describe(&from), describe(&to));
    }
    // So that the temporary directory can be removed.
    for root in [&from, &to] {
        fs::set_permissions(root.join("closed"), fs::Permissions::from_mode(0o755)).unwrap();
    }
    drop(client);
    agent.ended().await;
}

#[tokio::test]
async fn a_file_comes_under_its_last_name() {
    let (agent, client) = Agent::connected().await;
    let scratch = tempfile::tempdir().unwrap();
    fs::write(scratch.path().join("one"), "content").unwrap();
    let bytes = download(&client, &scratch.path().join("one")).await.unwrap();
    let mut archive = tar::Archive::new(&bytes[..]);
    let mut entries = archive.entries().unwrap();
    let mut entry = entries.next().unwrap().unwrap();
    assert_eq!(entry.path().unwrap(), Path::new("one"));
    assert_eq!(io::read_to_string(&mut entry).unwrap(), "content");
    assert!(entries.next().is_none());
    fs::create_dir(scratch.path().join("nothing")).unwrap();
    let bytes = download(&client, &scratch.path().join("nothing")).await.unwrap();
    assert_eq!(tar::Archive::new(&bytes[..]).entries().unwrap().count(), 0);
    drop(client);
    agent.ended().await;
}

#[tokio::test]
async fn entries_that_lead_outside_are_refused() {
    use tar::EntryType::{Link, Regular, Symlink};
    let (agent, client) = Agent::connected().await;
    let scratch = tempfile::tempdir().unwrap();
    let outside = scratch.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "kept").unwrap();
    let absolute = outside.to_str().unwrap();
    let cases: [&[(&str, tar::EntryType, &str)]; 5] = [
        &[("../outside/new", Regular, "")],
        &[("a/../../outside/new", Regular, "")],
        &[("door", Symlink, "../outside"), ("door/new", Regular, "")],
        &[("door", Symlink, absolute), ("door/new", Regular, "")],
        &[("steal", Link, "../outside/secret")],
    ];
    for (index, entries) in cases.iter().enumerate() {
        let bytes = archive(|builder| {
            for (name, kind, link) in *entries {
                hostile(builder, name, *kind, link);
            }
        });
        let target = scratch.path().join(format!("target-{index}"));
        let refused = upload(&client, &target, bytes).await.unwrap_err();
        assert!(matches!(refused, AgentError::Refused { status: 422, .. }), "{refused:?}");
    }
    // An absolute name is a relative one, as for tar(1).
    let target = scratch.path().join("target");
    upload(&client, &target, archive(|builder| hostile(builder, "/etc/inside", Regular, ""))).await.unwrap();
    assert!(target.join("etc/inside").exists());
    let names: Vec<_> = fs::read_dir(&outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["secret"]);
    drop(client);
    agent.ended().await;
}

#[tokio::test]
async fn a_broken_archive_is_refused_and_a_broken_source_reported() {
    let (agent, client) = Agent::connected().await;
    let scratch = tempfile::tempdir().unwrap();
    let target = scratch.path().join("target");
    let refused = upload(&client, &target, vec![b'x'; 5_000_000]).await.unwrap_err();
    assert!(matches!(refused, AgentError::Refused { status: 422, .. }), "{refused:?}");
    let whole = archive(|builder| {
        let mut header = tar::Header::new_gnu();
        header.set_size(100_000);
        header.set_mode(0o644);
        builder.append_data(&mut header, "file", io::repeat(1).take(100_000)).unwrap();
    });
    let refused = upload(&client, &target, whole[..50_000].to_vec()).await.unwrap_err();
    assert!(matches!(refused, AgentError::Refused { status: 422, .. }), "{refused:?}");
    let source = stream::iter([Ok(Bytes::from(whole[..600].to_vec())), Err(io::Error::other("gone"))]);
    let broken = client.upload(&query(&target), source).await.unwrap_err();
    assert!(matches!(broken, AgentError::Source(_)), "{broken:?}");
    client.ping().await.unwrap();
    drop(client);
    agent.ended().await;
}

#[tokio::test]
async fn why_a_download_breaks_off_is_told() {
    let (agent, client) = Agent::connected().await;
    // It can be opened, and nothing is mapped at its beginning. `EIO`, whatever the user.
    let failed = download(&client, Path::new("/proc/self/mem")).await.unwrap_err();
    let AgentError::BrokenOff { message, .. } = &failed else { panic!("{failed:?}") };
    assert!(message.contains("/proc/self/mem") && message.contains("os error 5"), "{message}");
    client.ping().await.unwrap();
    drop(client);
    agent.ended().await;
}

#[tokio::test]
async fn a_download_that_nobody_wants_any_more_ends() {
    let (agent, client) = Agent::connected().await;
    let scratch = tempfile::tempdir().unwrap();
    fs::File::create(scratch.path().join("sparse")).unwrap().set_len(10 << 30).unwrap();
    let mut chunks = client.download(&query(scratch.path())).await.unwrap().boxed();
    chunks.next().await.unwrap().unwrap();
    drop(chunks);
    client.ping().await.unwrap();
    drop(client);
    agent.ended().await;
}

use std::io::Read as _;
