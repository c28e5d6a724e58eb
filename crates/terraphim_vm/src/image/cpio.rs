//! Writes the archive format of the kernel's initial RAM disk: cpio, variant `newc`.
//!
//! Written here because the archive holds device nodes, which only root could create as files for `cpio` to read.
//! Format: kernel documentation, `driver-api/early-userspace/buffer-format.rst`.

use std::io::{self, Write};

const DIRECTORY: u32 = 0o040_000;
const CHARACTER_DEVICE: u32 = 0o020_000;
const REGULAR: u32 = 0o100_000;

/// Writes one archive. Every entry belongs to root and is dated 1970, so equal content gives equal bytes.
pub(super) struct Archive<W> {
    out: W,
    inode: u32,
}

/// What one header says; the fields left out are zero in every entry.
struct Header<'a> {
    name: &'a str,
    mode: u32,
    size: u32,
    device: (u32, u32),
}

impl<W: Write> Archive<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, inode: 0 }
    }

    pub(super) fn directory(&mut self, name: &str, permissions: u32) -> io::Result<()> {
        self.header(&Header { name, mode: DIRECTORY | permissions, size: 0, device: (0, 0) })
    }

    pub(super) fn character_device(
        &mut self,
        name: &str,
        permissions: u32,
        device: (u32, u32),
    ) -> io::Result<()> {
        self.header(&Header { name, mode: CHARACTER_DEVICE | permissions, size: 0, device })
    }

    pub(super) fn file(&mut self, name: &str, permissions: u32, content: &[u8]) -> io::Result<()> {
        let size = u32::try_from(content.len()).map_err(|_| {
            io::Error::new(io::ErrorKind::FileTooLarge, "a newc archive holds files below 4 GiB")
        })?;
        self.header(&Header { name, mode: REGULAR | permissions, size, device: (0, 0) })?;
        self.out.write_all(content)?;
        self.pad(content.len())
    }

    /// Writes the closing entry and returns the writer.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.inode = 0;
        self.write_header(&Header { name: "TRAILER!!!", mode: 0, size: 0, device: (0, 0) })?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn header(&mut self, header: &Header<'_>) -> io::Result<()> {
        self.inode += 1;
        self.write_header(header)
    }

    fn write_header(&mut self, header: &Header<'_>) -> io::Result<()> {
        let Header { name, mode, size, device: (major, minor) } = header;
        let (inode, name_size) = (self.inode, name.len() + 1);
        // magic, inode, mode, uid, gid, links, mtime, size, device of the file, device it is, name with its NUL, checksum
        write!(self.out, "070701{inode:08x}{mode:08x}{0:08x}{0:08x}{1:08x}{0:08x}{size:08x}", 0, 1)?;
        write!(self.out, "{0:08x}{0:08x}{major:08x}{minor:08x}{name_size:08x}{0:08x}{name}\0", 0)?;
        const FIXED: usize = 110;
        self.pad(FIXED + name_size)
    }

    /// Fills up to the next multiple of four, where headers and contents start.
    fn pad(&mut self, written: usize) -> io::Result<()> {
        let missing = written.next_multiple_of(4) - written;
        self.out.write_all(&[0; 4][..missing])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn sample() -> Vec<u8> {
        let mut archive = Archive::new(Vec::new());
        archive.directory("dev", 0o755).unwrap();
        archive.character_device("dev/console", 0o600, (5, 1)).unwrap();
        archive.file("init", 0o755, b"#!/bin/sh\n").unwrap();
        archive.file("empty", 0o644, b"").unwrap();
        archive.finish().unwrap()
    }

    #[test]
    fn the_real_cpio_reads_what_we_write() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.cpio");
        std::fs::write(&path, sample()).unwrap();
        let output = Command::new("cpio")
            .args(["--list", "--verbose", "--numeric-uid-gid", "--quiet"])
            .stdin(Stdio::from(std::fs::File::open(&path).unwrap()))
            .env("LC_ALL", "C")
            .env("TZ", "UTC")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        let listing = String::from_utf8(output.stdout).unwrap();
        let words: Vec<Vec<&str>> = listing.lines().map(|line| line.split_whitespace().collect()).collect();
        let shape: Vec<(&str, &str)> = words.iter().map(|line| (line[0], *line.last().unwrap())).collect();
        assert_eq!(
            shape,
            [
                ("drwxr-xr-x", "dev"),
                ("crw-------", "dev/console"),
                ("-rwxr-xr-x", "init"),
                ("-rw-r--r--", "empty")
            ]
        );
        assert_eq!(words[1][4..6], ["5,", "1"]);
    }

    #[test]
    fn equal_content_gives_equal_bytes() {
        assert_eq!(sample(), sample());
        assert_eq!(sample().len() % 4, 0);
    }
}
