//! Real repositories, packed and unpacked.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;

use super::*;

struct Sandbox {
    directory: TempDir,
}

impl Sandbox {
    fn new() -> Sandbox {
        Sandbox { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A repository with one commit of `files`.
    fn repository(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let root = self.path(name);
        fs::create_dir_all(&root).unwrap();
        git(&root, &["init", "-q", "-b", "main", "."]);
        for (file, text) in files {
            write(&root.join(file), text);
        }
        git(&root, &["add", "-A"]);
        git(&root, &["commit", "-q", "--allow-empty", "-m", "first"]);
        root
    }

    fn tree(&self, root: &Path) -> Tree {
        Tree {
            root: root.to_owned(),
            git: Repository::discover(root).unwrap(),
            without: self.path("nothing is here"),
        }
    }

    /// Packs and unpacks.
    fn copied(&self, tree: &Tree) -> PathBuf {
        let mut archive = Vec::new();
        pack(&tree.entries().unwrap(), &mut archive).unwrap();
        let copy = self.path("copy");
        let mut archive = tar::Archive::new(archive.as_slice());
        archive.set_preserve_permissions(true);
        archive.unpack(&copy).unwrap();
        copy
    }
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn git(root: &Path, args: &[&str]) -> String {
    let mut command = Command::new("git");
    command.arg("-C").arg(root).args(["-c", "protocol.file.allow=always"]).args(args);
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "n").env(format!("GIT_{who}_EMAIL"), "n@example.org");
    }
    let output = command.env("GIT_CONFIG_GLOBAL", "/dev/null").env_remove("GIT_DIR").output().unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Names and what they are, without `.git`.
fn content(root: &Path) -> BTreeMap<String, String> {
    fn walk(root: &Path, directory: &Path, all: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(directory).unwrap().flatten() {
            let path = entry.path();
            let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            let kind = path.symlink_metadata().unwrap();
            if entry.file_name() == ".git" {
                continue;
            }
            if kind.is_symlink() {
                all.insert(name, format!("-> {}", fs::read_link(&path).unwrap().display()));
            } else if kind.is_dir() {
                all.insert(name, "directory".to_owned());
                walk(root, &path, all);
            } else {
                all.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut all = BTreeMap::new();
    walk(root, root, &mut all);
    all
}

#[test]
fn tracked_and_untracked_files_are_sent_ignored_and_deleted_ones_are_not() {
    let sandbox = Sandbox::new();
    let root = sandbox.repository(
        "it",
        &[("a", "1"), ("gone", "x"), (".gitignore", "*.o\n/out/\n"), ("odd \n name/ü", "2"), ("-dash", "3")],
    );
    fs::remove_file(root.join("gone")).unwrap();
    write(&root.join("new/file"), "4");
    write(&root.join("a.o"), "no");
    write(&root.join("out/x"), "no");
    symlink("../a", root.join("new/link")).unwrap();
    symlink("/nowhere/at/all", root.join("dangling")).unwrap();
    fs::set_permissions(root.join("a"), fs::Permissions::from_mode(0o751)).unwrap();
    let copy = sandbox.copied(&sandbox.tree(&root));
    let want = [
        ("-dash", "3"),
        (".gitignore", "*.o\n/out/\n"),
        ("a", "1"),
        ("dangling", "-> /nowhere/at/all"),
        ("new", "directory"),
        ("new/file", "4"),
        ("new/link", "-> ../a"),
        ("odd \n name", "directory"),
        ("odd \n name/ü", "2"),
    ];
    let want = want.map(|(name, text)| (name.to_owned(), text.to_owned()));
    assert_eq!(content(&copy), BTreeMap::from(want));
    let (before, after) = (root.join("a").metadata().unwrap(), copy.join("a").metadata().unwrap());
    assert_eq!((after.mode() & 0o7777, after.mtime()), (0o751, before.mtime()));
    assert_eq!(git(&copy, &["log", "--format=%s"]), "first\n");
    assert_eq!(git(&copy, &["status", "--short", "gone"]), " D gone\n");
}

#[test]
fn git_works_in_the_copy_of_a_linked_worktree() {
    let sandbox = Sandbox::new();
    let main = sandbox.repository("main", &[("a", "1")]);
    let linked = sandbox.path("linked");
    git(&main, &["worktree", "add", "-q", "-b", "side", linked.to_str().unwrap()]);
    write(&linked.join("b"), "2");
    git(&linked, &["add", "b"]);
    git(&linked, &["commit", "-q", "-m", "second"]);
    let tree = sandbox.tree(&linked);
    assert_eq!(tree.git.as_ref().unwrap().info().git_ref, "refs/heads/side");
    let copy = sandbox.copied(&tree);
    assert_eq!(git(&copy, &["log", "--format=%s"]), "second\nfirst\n");
    assert_eq!(git(&copy, &["status", "--short"]), "");
    assert_eq!(git(&copy, &["branch", "--show-current"]), "side\n");
}

#[test]
fn submodules_and_repositories_within_are_sent_with_their_git() {
    let sandbox = Sandbox::new();
    let other = sandbox.repository("other", &[("lib", "1")]);
    let root = sandbox.repository("it", &[("a", "1")]);
    git(&root, &["submodule", "--quiet", "add", other.to_str().unwrap(), "deep/sub"]);
    git(&root, &["commit", "-q", "-m", "with submodule"]);
    write(&root.join("deep/sub/untracked"), "2");
    sandbox.repository("it/nested", &[("n", "3")]);
    let copy = sandbox.copied(&sandbox.tree(&root));
    let content = content(&copy);
    for name in ["deep/sub/lib", "deep/sub/untracked", "nested/n"] {
        assert!(content.contains_key(name), "{name} is not in {content:?}");
    }
    assert_eq!(git(&copy.join("deep/sub"), &["log", "--format=%s"]), "first\n");
    assert_eq!(git(&copy.join("nested"), &["log", "--format=%s"]), "first\n");
}

#[test]
fn a_submodule_that_was_never_checked_out_is_an_empty_directory() {
    let sandbox = Sandbox::new();
    let other = sandbox.repository("other", &[("lib", "1")]);
    let root = sandbox.repository("it", &[]);
    git(&root, &["submodule", "--quiet", "add", other.to_str().unwrap(), "sub"]);
    git(&root, &["commit", "-q", "-m", "with submodule"]);
    let clone = sandbox.path("clone");
    git(&sandbox.path(""), &["clone", "-q", root.to_str().unwrap(), clone.to_str().unwrap()]);
    let copy = sandbox.copied(&sandbox.tree(&clone));
    assert_eq!(content(&copy).get("sub").map(String::as_str), Some("directory"));
    assert_eq!(fs::read_dir(copy.join("sub")).unwrap().count(), 0);
}

#[test]
fn outside_git_the_directory_is_sent_but_not_what_is_ours() {
    let sandbox = Sandbox::new();
    let root = sandbox.path("plain");
    for file in ["a", "empty/../b/c", "data/images/huge"] {
        write(&root.join(file), "1");
    }
    fs::create_dir(root.join("empty dir")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, root.join("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
        .unwrap();
    let tree =
        Tree { root: root.clone(), git: Repository::discover(&root).unwrap(), without: root.join("data") };
    assert!(tree.git.is_none());
    let names: Vec<String> = content(&sandbox.copied(&tree)).into_keys().collect();
    assert_eq!(names, ["a", "b", "b/c", "empty", "empty dir"]);
    let everything = tree.everything().unwrap();
    assert_eq!(everything.left_out, [Path::new("pipe")]);
    assert!(everything.entries.iter().all(|entry| entry.to != Path::new("pipe")));
}

#[test]
fn a_repository_tells_where_it_is_from() {
    let sandbox = Sandbox::new();
    let root = sandbox.repository("it", &[("a", "1")]);
    let info = Repository::discover(&root.join(".git/..")).unwrap().unwrap().info();
    assert_eq!((info.repository.full_name.as_str(), info.git_ref.as_str()), ("local/it", "refs/heads/main"));
    git(&root, &["remote", "add", "origin", "https://x:secret@example.org/me/it.git"]);
    git(&root, &["tag", "v1"]);
    git(&root, &["checkout", "-q", "--detach"]);
    let info = Repository::discover(&root).unwrap().unwrap().info();
    assert_eq!((info.repository.full_name.as_str(), info.git_ref.as_str()), ("me/it", "refs/tags/v1"));
    assert_eq!(info.repository.clone_url.as_deref(), Some("https://example.org/me/it.git"));
    assert_eq!(info.sha.len(), 40);
}

#[test]
fn the_default_branch_is_what_origin_says_or_one_with_a_usual_name() {
    let sandbox = Sandbox::new();
    let root = sandbox.repository("it", &[("a", "1")]);
    let repository = Repository::discover(&root).unwrap().unwrap();
    let default = || repository.info().repository.default_branch.unwrap();
    let first = repository.info().sha;
    git(&root, &["checkout", "-q", "-b", "feat/x"]);
    git(&root, &["commit", "-q", "--allow-empty", "-m", "second"]);
    assert_eq!((default().as_str(), repository.info().git_ref.as_str()), ("main", "refs/heads/feat/x"));
    assert_eq!(repository.commit("refs/heads/main").as_ref(), Some(&first));
    assert_ne!(repository.info().sha, first);
    git(&root, &["branch", "-q", "-m", "main", "master"]);
    assert_eq!(default(), "master");
    git(&root, &["update-ref", "refs/remotes/origin/trunk", &first]);
    git(&root, &["symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/trunk"]);
    assert_eq!(default(), "trunk");
    assert_eq!(repository.commit("refs/heads/trunk"), Some(first), "as it was last seen");
    git(&root, &["symbolic-ref", "-d", "refs/remotes/origin/HEAD"]);
    git(&root, &["branch", "-q", "-m", "master", "other"]);
    assert_eq!((default().as_str(), repository.commit("refs/heads/none")), ("feat/x", None));
}

#[test]
fn a_repository_without_a_commit_is_a_repository() {
    let sandbox = Sandbox::new();
    let root = sandbox.path("fresh");
    fs::create_dir(&root).unwrap();
    git(&root, &["init", "-q", "-b", "main", "."]);
    write(&root.join("a"), "1");
    let tree = sandbox.tree(&root);
    let info = tree.git.as_ref().unwrap().info();
    assert_eq!((info.sha.as_str(), info.git_ref.as_str()), ("", "refs/heads/main"));
    assert_eq!(content(&sandbox.copied(&tree)).len(), 1);
}

#[tokio::test]
async fn a_large_file_streams_whole() {
    // Sparse on disk, whole in the stream: more than all that may wait in memory.
    const SIZE: u64 = 300 << 20;
    let sandbox = Sandbox::new();
    let path = sandbox.path("large");
    fs::File::create(&path).unwrap().set_len(SIZE).unwrap();
    let mut stream = tar_stream(vec![Entry { from: path, to: "large".into() }]);
    let (mut buffer, mut total) = (vec![0; 1 << 20], 0u64);
    loop {
        let read = stream.read(&mut buffer).await.unwrap();
        if read == 0 {
            break;
        }
        total += read as u64;
    }
    assert!(total > SIZE && total < SIZE + 100_000, "{total}");
}

#[tokio::test]
async fn an_archive_that_breaks_off_never_looks_whole() {
    let sandbox = Sandbox::new();
    let good = sandbox.path("good");
    write(&good, "1");
    let bad = sandbox.path("bad");
    fs::create_dir(&bad).unwrap();
    // A directory in the place of a file's parent: reading it fails in the middle of the archive.
    let entries = vec![
        Entry { from: good.clone(), to: "good".into() },
        Entry { from: good.join("below a file"), to: "bad".into() },
    ];
    let mut archive = Vec::new();
    let error = tar_stream(entries).read_to_end(&mut archive).await.unwrap_err();
    assert!(error.to_string().contains("cannot read"), "{error}");
}
