//! Real images in real stores. Downloads are kept in the target directory, so only the first run needs the network.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use tempfile::TempDir;
use terraphim_vm::image::{Damage, Image, ImageError, ImageStore, Progress, Recipe, Silent};

/// Names the directory of the store in the process that is meant to die; see [`a_build_that_was_killed_is_done_again`].
const VICTIM: &str = "IMAGE_STORE_VICTIM";

fn open(directory: &Path) -> ImageStore {
    ImageStore::open_with_cache(directory, &Path::new(env!("CARGO_TARGET_TMPDIR")).join("image-cache"))
        .unwrap()
}

fn store() -> (TempDir, ImageStore) {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    (directory, store)
}

fn busybox() -> Recipe {
    Recipe::named("busybox").unwrap()
}

/// Fails the test when anything is built.
struct Nothing;

impl Progress for Nothing {
    fn stage(&self, name: &str) {
        panic!("nothing was to be done, but: {name}");
    }
}

fn unfinished(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory.join("images")).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with('.')).collect()
}

#[test]
fn an_image_is_built_once_and_found_by_name_and_digest() {
    let (directory, store) = store();
    assert!(matches!(store.resolve("busybox"), Err(ImageError::NotFound(_))));
    let image = store.build(&busybox(), &Silent).unwrap();
    assert_eq!((image.name.as_str(), image.default_user.as_str()), ("busybox", "root"));
    assert!(fs::read(&image.kernel).unwrap().starts_with(b"\x7fELF"));
    assert_eq!(store.build(&busybox(), &Nothing).unwrap().digest, image.digest);
    for name in ["busybox", &image.digest.to_string(), &image.digest.short()] {
        assert_eq!(store.resolve(name).unwrap().digest, image.digest, "{name}");
    }
    assert!(matches!(store.resolve("../refs/busybox"), Err(ImageError::NotFound(_))));
    assert_eq!(store.verify("busybox").unwrap().digest, image.digest);
    assert_eq!(store.inspect("busybox").unwrap().content.recipe, busybox());
    let listed = store.list().unwrap();
    assert_eq!((listed.len(), listed[0].name.as_deref()), (1, Some("busybox")));

    assert_eq!(store.remove("busybox").unwrap(), image.digest);
    assert!(store.list().unwrap().is_empty());
    assert!(matches!(store.remove("busybox"), Err(ImageError::NotFound(_))));
    assert!(unfinished(directory.path()).is_empty());
}

#[test]
fn equal_content_has_equal_digests() {
    let ((_one, first), (_two, second)) = (store(), store());
    let first = first.build(&busybox(), &Silent).unwrap();
    assert_eq!(second.build(&busybox(), &Silent).unwrap().digest, first.digest);
    assert_eq!(second.rebuild(&busybox(), &Silent).unwrap().digest, first.digest);
}

#[test]
fn another_recipe_of_the_same_name_is_built_and_the_old_image_stays_until_pruned() {
    let (_directory, store) = store();
    let old = store.build(&busybox(), &Silent).unwrap();
    let new = store.build(&Recipe { user: "runner".into(), ..busybox() }, &Silent).unwrap();
    assert_ne!(old.digest, new.digest);
    assert_eq!(store.resolve("busybox").unwrap().default_user, "runner");
    assert_eq!(store.resolve(&old.digest.short()).unwrap().digest, old.digest);
    assert_eq!(store.prune().unwrap(), [old.digest]);
    assert!(matches!(store.resolve(&old.digest.short()), Err(ImageError::NotFound(_))));
    store.verify("busybox").unwrap();
}

#[test]
fn the_root_file_system_has_the_owners_and_modes_of_a_system() {
    let (_directory, store) = store();
    let image = store.build(&busybox(), &Silent).unwrap();
    let output = Command::new("unsquashfs").arg("-lln").arg(&image.rootfs).output().unwrap();
    assert!(output.status.success());
    let listing = String::from_utf8(output.stdout).unwrap();
    let entry = |path: &str| {
        let name = format!("squashfs-root{path}");
        let line = listing.lines().find(|line| line.split_whitespace().any(|word| word == name));
        let mut words = line.unwrap_or_else(|| panic!("{path} is missing")).split_whitespace();
        (words.next().unwrap(), words.next().unwrap())
    };
    assert_eq!(entry(""), ("drwxr-xr-x", "0/0"));
    assert_eq!(entry("/tmp"), ("drwxrwxrwt", "0/0"));
    assert_eq!(entry("/root"), ("drwx------", "0/0"));
    assert_eq!(entry("/home/runner"), ("drwxr-xr-x", "1001/1001"));
    assert_eq!(entry("/bin/busybox"), ("-rwxr-xr-x", "0/0"));
    assert_eq!(entry("/bin/sh").0, "lrwxrwxrwx");
    assert_eq!(entry("/dev/null").0, "crw-rw-rw-");
}

fn modules(image: &Image) -> Vec<&str> {
    image.modules.iter().map(|path| path.file_stem().unwrap().to_str().unwrap()).collect()
}

#[test]
fn the_initial_ram_disk_has_the_agent_and_the_modules_in_order() {
    let (directory, store) = store();
    let image = store.build(&busybox(), &Silent).unwrap();
    let modules = modules(&image);
    let place = |name: &str| modules.iter().position(|module| *module == name).unwrap();
    assert!(place("virtio_ring") < place("virtio") && place("virtio") < place("virtio_mmio"));
    assert!(place("net_failover") < place("virtio_net"));

    let initrd = image.initrd().unwrap();
    assert_eq!(image.initrd().unwrap(), initrd);
    let unpacked = directory.path().join("unpacked");
    fs::create_dir(&unpacked).unwrap();
    let status = Command::new("cpio")
        .args(["--extract", "--quiet", "--make-directories", "--nonmatching", "dev/*"])
        .current_dir(&unpacked)
        .stdin(fs::File::open(&initrd).unwrap())
        .status()
        .unwrap();
    assert!(status.success());
    let init = unpacked.join("init");
    assert!(fs::read(&init).unwrap() == terraphim_vm::image::AGENT);
    assert_eq!(fs::metadata(&init).unwrap().permissions().mode() & 0o777, 0o755);
    let order = fs::read_to_string(unpacked.join("modules/order")).unwrap();
    let expected: Vec<String> = modules.iter().map(|name| format!("{name}.ko")).collect();
    assert_eq!(order.lines().collect::<Vec<_>>(), expected);
    for module in order.lines() {
        let content = fs::read(unpacked.join("modules").join(module)).unwrap();
        assert!(
            content.starts_with(b"\x7fELF") && !content.ends_with(b"~Module signature appended~\n"),
            "{module}"
        );
    }
    fs::remove_file(&initrd).unwrap();
    assert_eq!(image.initrd().unwrap(), initrd, "it is made again when it is gone");
    assert!(initrd.exists());
}

#[test]
fn damage_is_seen_and_repaired_by_a_build() {
    let (_directory, store) = store();
    let image = store.build(&busybox(), &Silent).unwrap();
    let rootfs = writable(&image.rootfs);
    let length = rootfs.metadata().unwrap().len();
    rootfs.write_at(b"x", length / 2).unwrap();
    store.resolve("busybox").unwrap();
    let error = store.verify("busybox").unwrap_err();
    assert!(matches!(error, ImageError::Damaged { damage: Damage::Content(_), .. }), "{error}");

    rootfs.set_len(length - 1).unwrap();
    let error = store.resolve("busybox").unwrap_err();
    assert!(matches!(error, ImageError::Damaged { damage: Damage::Size { .. }, .. }), "{error}");
    assert!(store.list().unwrap()[0].image.is_err());
    assert_eq!(store.build(&busybox(), &Silent).unwrap().digest, image.digest);
    store.verify("busybox").unwrap();

    let manifest = image.kernel.with_file_name("manifest.json");
    fs::write(&manifest, "{").unwrap();
    assert!(matches!(store.resolve("busybox"), Err(ImageError::Manifest { .. })));
    store.build(&busybox(), &Silent).unwrap();
    store.verify("busybox").unwrap();

    fs::remove_file(manifest).unwrap();
    assert!(matches!(store.resolve("busybox"), Err(ImageError::Damaged { .. })));
    store.remove("busybox").unwrap();
    assert!(store.list().unwrap().is_empty());
}

fn writable(path: &Path) -> fs::File {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::OpenOptions::new().write(true).open(path).unwrap()
}

/// Kills its own process in the middle of a build.
struct Death;

impl Progress for Death {
    fn stage(&self, name: &str) {
        if name == "building the root file system" {
            std::process::abort();
        }
    }
}

#[test]
fn a_build_that_was_killed_is_done_again() {
    let (directory, store) = store();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "victim", "--ignored"])
        .env(VICTIM, directory.path())
        .output()
        .unwrap()
        .status;
    assert!(!status.success());
    assert!(!unfinished(directory.path()).is_empty(), "the victim died before or after its build");
    assert!(store.list().unwrap().is_empty());
    store.build(&busybox(), &Silent).unwrap();
    assert!(unfinished(directory.path()).is_empty());
    store.verify("busybox").unwrap();
}

#[test]
#[ignore = "dies; run by a_build_that_was_killed_is_done_again"]
fn victim() {
    if let Some(directory) = std::env::var_os(VICTIM) {
        let _ = open(Path::new(&directory)).build(&busybox(), &Death);
    }
}

/// Stops the first build until the second says that it waits.
struct First {
    begun: SyncSender<()>,
    waiting: Mutex<Receiver<()>>,
}

impl Progress for First {
    fn stage(&self, name: &str) {
        if name == "building the root file system" {
            self.begun.send(()).unwrap();
            self.waiting.lock().unwrap().recv().unwrap();
        }
    }
}

struct Second(SyncSender<()>);

impl Progress for Second {
    fn stage(&self, name: &str) {
        panic!("the first build has made the image, but: {name}");
    }

    fn note(&self, text: &str) {
        assert!(text.contains("another build"), "{text}");
        self.0.send(()).unwrap();
    }
}

#[test]
fn of_two_builds_at_once_one_waits_and_says_so() {
    let (_directory, store) = store();
    let (begun, has_begun) = sync_channel(1);
    let (waits, waiting) = sync_channel(1);
    let progress = First { begun, waiting: Mutex::new(waiting) };
    let (first, second) = std::thread::scope(|scope| {
        let first = scope.spawn(|| store.build(&busybox(), &progress).unwrap().digest);
        has_begun.recv().unwrap();
        let second = store.build(&busybox(), &Second(waits)).unwrap().digest;
        (first.join().unwrap(), second)
    });
    assert_eq!(first, second);
}

#[test]
fn a_recipe_that_cannot_be_is_refused_before_anything_is_built() {
    let (_directory, store) = store();
    let wrong = Recipe { packages: vec!["git".into()], ..busybox() };
    assert!(matches!(store.build(&wrong, &Nothing), Err(ImageError::Recipe(_))));
    let mut missing = busybox();
    missing.kernel.package = "no-such-kernel-anywhere".into();
    let error = store.build(&missing, &Silent).unwrap_err();
    assert_eq!(error.to_string(), "suite `bookworm` has no package `no-such-kernel-anywhere`");
}
