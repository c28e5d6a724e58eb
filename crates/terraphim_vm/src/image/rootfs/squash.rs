//! Makes a squashfs from a tar file.
//!
//! Owners, modes and devices come from the tar, so no privilege is needed. Only the root directory does not: `sqfstar` 4.5
//! passes over the tar's entry for it, gives it to the calling user at the current time, and ignores the options that should
//! change that. So its entry is put right afterwards. Format: kernel documentation, `filesystems/squashfs.rst`, and
//! `fs/squashfs/squashfs_fs.h`.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::image::error::{ImageError, IoContext};
use crate::image::files;
use crate::image::tool::Tool;

/// Packs `tar` into `target`. Equal tar files give equal images.
pub(super) fn squash(tar: File, target: &Path) -> Result<(), ImageError> {
    // The table of inodes stays uncompressed so that one can be changed; it is small, and quicker to read.
    Tool::new("sqfstar", "squashfs-tools", "packing the root file system")
        .args(["-comp", "lz4", "-noI", "-quiet", "-no-progress", "-mkfs-time", "0", "-root-mode", "755"])
        .arg(target)
        .stdin(tar)
        .run()?;
    let image = OpenOptions::new().read(true).write(true).open(target).io("open", target)?;
    give_root_directory_to_root(&image).io("change the root directory of", target)?;
    files::make_read_only(target)?;
    image.sync_all().io("write to disk", target)
}

/// Where the super block says what is.
const ROOT_INODE: u64 = 32;
const ID_TABLE: u64 = 48;
const INODE_TABLE: u64 = 64;
/// A block of metadata has this many bytes, after two bytes with its length, whose highest bit says `not compressed`.
const METADATA: u64 = 8192;
const UNCOMPRESSED: u16 = 0x8000;

/// Makes root the owner of the root directory, and 1970 its date.
fn give_root_directory_to_root(image: &File) -> io::Result<()> {
    if &read::<4>(image, 0)? != b"hsqs" {
        return Err(invalid("it is not a squashfs"));
    }
    let root_id = position_of_root_id(image)?.to_le_bytes();
    let reference = read_u64(image, ROOT_INODE)?;
    let table = read_u64(image, INODE_TABLE)?;
    let inode = Metadata { image, block: table + (reference >> 16), offset: reference & 0xffff };
    // After type and mode: places of the user's and the group's id in the table of ids, then the time.
    for (field, value) in [(4, &root_id[..]), (6, &root_id), (8, &[0; 4])] {
        inode.write(field, value)?;
    }
    Ok(())
}

/// The place of id 0 in the table of ids.
fn position_of_root_id(image: &File) -> io::Result<u16> {
    let block = read_u64(image, read_u64(image, ID_TABLE)?)?;
    let count = metadata_length(image, block)? / 4;
    for position in 0..count {
        if read::<4>(image, block + 2 + u64::from(position) * 4)? == [0; 4] {
            return Ok(position);
        }
    }
    Err(invalid("no file in it belongs to root"))
}

/// A place in a table of metadata: a block and an offset in its content.
struct Metadata<'a> {
    image: &'a File,
    block: u64,
    offset: u64,
}

impl Metadata<'_> {
    /// Writes `bytes` at `field`, byte by byte because an entry may begin in one block and end in the next.
    fn write(&self, field: u64, bytes: &[u8]) -> io::Result<()> {
        for (at, byte) in (self.offset + field..).zip(bytes) {
            let mut block = self.block;
            for _ in 0..at / METADATA {
                block += 2 + u64::from(metadata_length(self.image, block)?);
            }
            if at % METADATA >= u64::from(metadata_length(self.image, block)?) {
                return Err(invalid("its root directory lies outside of the table of inodes"));
            }
            self.image.write_all_at(&[*byte], block + 2 + at % METADATA)?;
        }
        Ok(())
    }
}

fn metadata_length(image: &File, block: u64) -> io::Result<u16> {
    let header = u16::from_le_bytes(read(image, block)?);
    if header & UNCOMPRESSED == 0 {
        return Err(invalid("its tables are compressed"));
    }
    Ok(header & !UNCOMPRESSED)
}

fn read_u64(image: &File, at: u64) -> io::Result<u64> {
    read(image, at).map(u64::from_le_bytes)
}

fn read<const N: usize>(image: &File, at: u64) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    image.read_exact_at(&mut bytes, at)?;
    Ok(bytes)
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Packs `count` empty files of root's and returns what unsquashfs lists.
    fn listing(count: u32) -> Vec<String> {
        let directory = tempfile::tempdir().unwrap();
        let (tar, image) = (directory.path().join("a.tar"), directory.path().join("a.squashfs"));
        let mut builder = tar::Builder::new(File::create(&tar).unwrap());
        for number in 0..count {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o640);
            header.set_uid(if number % 2 == 0 { 0 } else { 7 });
            header.set_gid(5);
            header.set_mtime(1_000_000_000);
            header.set_size(0);
            builder.append_data(&mut header, format!("file-{number}"), io::empty()).unwrap();
        }
        builder.finish().unwrap();
        squash(File::open(&tar).unwrap(), &image).unwrap();
        let output = Command::new("unsquashfs").arg("-lln").arg(&image).env("TZ", "UTC").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn the_root_directory_is_roots_whoever_packs() {
        // With many files the table of inodes has many blocks, and the root directory, last in it, lies in one of the last.
        for count in [1, 255, 256, 3000, 3001, 3002] {
            let listing = listing(count);
            let words: Vec<&str> = listing[0].split_whitespace().collect();
            assert_eq!((words[0], words[1], words[3]), ("drwxr-xr-x", "0/0", "1970-01-01"), "{}", listing[0]);
            assert_eq!(listing.len(), count as usize + 1);
            assert!(listing[1].starts_with("-rw-r----- 0/5 "), "{}", listing[1]);
        }
    }

    #[test]
    fn what_is_no_squashfs_is_refused() {
        let mut file = tempfile::tempfile().unwrap();
        assert!(give_root_directory_to_root(&file).is_err());
        io::Write::write_all(&mut file, &[b"hsqs".to_vec(), vec![0; 200]].concat()).unwrap();
        assert!(give_root_directory_to_root(&file).is_err());
    }
}
