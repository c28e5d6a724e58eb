//! Writable disks: an empty file system made once per size, and a thin layer over it for every VM.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::error::{ImageError, IoContext};
use super::files::{self, Lock};
use super::progress::Silent;
use super::tool::Tool;

/// An empty ext4 file system of `size_mib` MiB as a raw, sparse file below `cache`, made when it is not there.
///
/// # Errors
/// `mkfs.ext4` is missing or refuses the size, or the file cannot be written.
pub fn scratch_base(cache: &Path, size_mib: u64) -> Result<PathBuf, ImageError> {
    let directory = cache.join("scratch");
    let path = directory.join(format!("{size_mib}.ext4"));
    if path.exists() {
        return Ok(path);
    }
    fs::create_dir_all(&directory).io("create", &directory)?;
    let _lock = Lock::take(&directory.join("lock"), &Silent)?;
    if path.exists() {
        return Ok(path);
    }
    files::remove_unfinished(&directory)?;
    let file = tempfile::Builder::new()
        .prefix(files::TEMPORARY)
        .tempfile_in(&directory)
        .io("create a file in", &directory)?;
    file.as_file().set_len(size_mib.saturating_mul(1 << 20)).io("set the size of", file.path())?;
    // A VM's scratch dies with it: no journal, no reserved blocks, no room to grow. mkfs discards the file's blocks, sees
    // that they read as zeros, and so neither writes the inode tables nor leaves that to the guest.
    Tool::new("mkfs.ext4", "e2fsprogs", "making a scratch disk")
        .args(["-q", "-F", "-m", "0", "-O", "^has_journal,^resize_inode"])
        .args(["-E", "discard,root_owner=0:0", "-L", "scratch"])
        .arg(file.path())
        .run()?;
    files::make_read_only(file.path())?;
    file.as_file().sync_all().io("write to disk", file.path())?;
    file.persist(&path).map_err(|error| error.error).io("create", &path)?;
    Ok(path)
}

/// Creates at `path` an empty qcow2 layer over the raw disk `base`, which must not change from then on.
///
/// # Errors
/// `path` exists, `base` cannot be read, or its name is too long to be recorded.
pub fn create_overlay(base: &Path, path: &Path) -> Result<(), ImageError> {
    let base = base.canonicalize().io("find", base)?;
    let size = fs::metadata(&base).io("look at", &base)?.len();
    let image = overlay(base.as_os_str().as_encoded_bytes(), size).io("describe", &base)?;
    let write = || File::create_new(path)?.write_all(&image);
    write().io("create", path)
}

/// 2^16 bytes, the usual size.
const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// What one entry of the first-level table covers: a cluster full of 8-byte entries, each for a cluster.
const LEVEL_1_REACH: u64 = CLUSTER / 8 * CLUSTER;

/// An empty qcow2 image, version 3: a cluster each for header, reference-count table and block, then the first-level table.
/// Format: QEMU, `docs/interop/qcow2.txt`. Written here because starting `qemu-img` takes longer than the rest of a VM's disk.
fn overlay(base: &[u8], size: u64) -> io::Result<Vec<u8>> {
    // The format's own limit.
    const LONGEST_NAME: usize = 1023;
    let name_length = u32::try_from(base.len()).ok().filter(|_| base.len() <= LONGEST_NAME);
    let name_length =
        name_length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidFilename, "its name is too long"))?;
    let entries = u32::try_from(size.div_ceil(LEVEL_1_REACH))
        .ok()
        .filter(|_| size.div_ceil(LEVEL_1_REACH) <= CLUSTER / 8);
    let entries =
        entries.ok_or_else(|| io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 4 TiB"))?;

    const HEADER: u32 = 104;
    /// Then one extension, which names the base's format, and the end of the extensions.
    const EXTENSIONS: [u8; 24] = *b"\xe2\x79\x2a\xca\0\0\0\x03raw\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let name_offset = u64::from(HEADER) + EXTENSIONS.len() as u64;

    let mut image = b"QFI\xfb".to_vec();
    let mut word = |value: u32| image.extend_from_slice(&value.to_be_bytes());
    word(3);
    long(&mut word, name_offset);
    word(name_length);
    word(CLUSTER_BITS);
    long(&mut word, size);
    word(0); // not encrypted
    word(entries);
    long(&mut word, 3 * CLUSTER); // the first-level table
    long(&mut word, CLUSTER); // the reference-count table
    word(1); // of one cluster
    word(0); // no snapshots
    long(&mut word, 0);
    long(&mut word, 0); // no features that a reader must know,
    long(&mut word, 0); // may ignore,
    long(&mut word, 0); // or must clear
    word(4); // reference counts of 2^4 bits
    word(HEADER);
    image.extend_from_slice(&EXTENSIONS);
    image.extend_from_slice(base);

    let mut at = |offset: u64, bytes: &[u8]| {
        image.resize(usize::try_from(offset).expect("four clusters fit into memory"), 0);
        image.extend_from_slice(bytes);
    };
    at(CLUSTER, &(2 * CLUSTER).to_be_bytes());
    // The four clusters so far are each used once.
    at(2 * CLUSTER, &[0, 1, 0, 1, 0, 1, 0, 1]);
    at(4 * CLUSTER, &[]);
    Ok(image)
}

/// Writes a 64-bit number, big end first.
fn long(word: &mut impl FnMut(u32), value: u64) {
    let [a, b, c, d, e, f, g, h] = value.to_be_bytes();
    word(u32::from_be_bytes([a, b, c, d]));
    word(u32::from_be_bytes([e, f, g, h]));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;
    use std::process::Command;

    fn run(program: &str, args: &[&str], path: &Path) -> String {
        let output = Command::new(program)
            .args(args)
            .arg(path)
            .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{program}: {text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }

    #[test]
    fn a_base_is_made_once_sparse_and_clean() {
        let cache = tempfile::tempdir().unwrap();
        let base = scratch_base(cache.path(), 20 * 1024).unwrap();
        let metadata = fs::metadata(&base).unwrap();
        assert_eq!(metadata.len(), 20 << 30);
        assert!(metadata.blocks() * 512 < 64 << 20, "{} KiB used", metadata.blocks() / 2);
        run("e2fsck", &["-f", "-n"], &base);
        assert_eq!(scratch_base(cache.path(), 20 * 1024).unwrap(), base);
        assert_eq!(fs::metadata(&base).unwrap().ino(), metadata.ino());
    }

    #[test]
    fn a_size_that_holds_no_file_system_is_refused() {
        let cache = tempfile::tempdir().unwrap();
        let error = scratch_base(cache.path(), 0).unwrap_err();
        assert!(matches!(error, ImageError::ToolFailed { program: "mkfs.ext4", .. }), "{error}");
        assert!(
            files::entries(&cache.path().join("scratch")).unwrap().iter().all(|path| path.ends_with("lock"))
        );
    }

    #[test]
    fn qemu_takes_the_overlay_for_its_own() {
        let directory = tempfile::tempdir().unwrap();
        for (size, name) in [(1_u64 << 20, "a"), (3 << 30, "b"), ((1 << 40) + 512, "c")] {
            let base = directory.path().join(format!("base {name}"));
            File::create_new(&base).unwrap().set_len(size).unwrap();
            let path = directory.path().join(format!("{name}.qcow2"));
            create_overlay(&base, &path).unwrap();
            run("qemu-img", &["check", "-q"], &path);
            let info: serde_json::Value =
                serde_json::from_str(&run("qemu-img", &["info", "--output=json"], &path)).unwrap();
            assert_eq!(info["virtual-size"], size);
            assert_eq!(info["backing-filename"], base.to_str().unwrap());
            assert_eq!(info["backing-filename-format"], "raw");
            run(
                "qemu-io",
                &["-c", "write -P 7 4096 65536", "-c", "read -P 7 4096 65536", "-c", "read -P 0 0 4096"],
                &path,
            );
            run("qemu-img", &["check", "-q"], &path);
            assert!(create_overlay(&base, &path).is_err(), "a disk in use must not be emptied");
        }
    }
}
