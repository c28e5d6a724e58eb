//! A tree as a tar stream: modes, owners, times, symbolic and hard links, names of any length.

use std::{
    collections::HashMap,
    fs::{self, File, Metadata},
    io::{self, Read, Write},
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;
use tar::{Builder, EntryType, Header};

/// What is to be packed; it exists.
pub(super) struct Source {
    path: PathBuf,
    metadata: Metadata,
}

/// First names of files with several, by device and inode.
type Links = HashMap<(u64, u64), PathBuf>;

impl Source {
    /// `path` itself may be a symbolic link to what is meant.
    pub(super) fn open(path: &Path) -> io::Result<Source> {
        let metadata = fs::metadata(path)?;
        if metadata.is_dir() {
            fs::read_dir(path)?;
        } else {
            open_file(path)?;
        }
        Ok(Source { path: path.to_owned(), metadata })
    }

    /// A directory's content with names relative to it; a file under its last name.
    pub(super) fn pack(&self, out: &mut impl Write) -> io::Result<()> {
        let mut builder = Builder::new(out);
        let mut links = Links::new();
        if self.metadata.is_dir() {
            pack_content(&mut builder, &mut links, &self.path, Path::new(""))?;
        } else {
            let name = self.path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
            pack_one(&mut builder, &mut links, &self.path, Path::new(name), &self.metadata)?;
        }
        builder.finish()
    }
}

fn pack_content(
    builder: &mut Builder<impl Write>,
    links: &mut Links,
    directory: &Path,
    name: &Path,
) -> io::Result<()> {
    let mut entries = fs::read_dir(directory)
        .and_then(|entries| entries.collect::<io::Result<Vec<_>>>())
        .map_err(named(directory))?;
    // In one order whatever the file system's is: the same tree is the same stream.
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let metadata = match entry.metadata() {
            // Removed since the directory was read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other.map_err(named(&entry.path()))?,
        };
        let name = name.join(entry.file_name());
        pack_one(builder, links, &entry.path(), &name, &metadata).map_err(named(&entry.path()))?;
        if metadata.is_dir() {
            pack_content(builder, links, &entry.path(), &name)?;
        }
    }
    Ok(())
}

/// Says of an error which entry it is about: only the whole tree is known to whoever asked.
fn named(path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// The most that is read of a file that says it is empty.
const UNKNOWN_LENGTH_MAX: u64 = 1 << 20;

fn pack_one(
    builder: &mut Builder<impl Write>,
    links: &mut Links,
    path: &Path,
    name: &Path,
    metadata: &Metadata,
) -> io::Result<()> {
    let kind = metadata.file_type();
    // A socket is nothing without the process behind it.
    if kind.is_socket() {
        return Ok(());
    }
    let mut header = Header::new_gnu();
    header.set_metadata(metadata);
    if !kind.is_dir() && metadata.nlink() > 1 {
        let first = links.entry((metadata.dev(), metadata.ino())).or_insert_with(|| name.to_owned());
        if first.as_path() != name {
            header.set_entry_type(EntryType::Link);
            header.set_size(0);
            return builder.append_link(&mut header, name, first);
        }
    }
    if kind.is_symlink() {
        header.set_size(0);
        return builder.append_link(&mut header, name, fs::read_link(path)?);
    }
    if !kind.is_file() {
        header.set_size(0);
        return builder.append_data(&mut header, name, io::empty());
    }
    let file = open_file(path)?;
    if metadata.len() == 0 {
        // The kernel's own files (/proc, /sys) have no length but what can be read.
        let mut content = Vec::new();
        file.take(UNKNOWN_LENGTH_MAX).read_to_end(&mut content)?;
        header.set_size(content.len() as u64);
        return builder.append_data(&mut header, name, content.as_slice());
    }
    header.set_size(metadata.len());
    builder.append_data(&mut header, name, Exactly { file, left: metadata.len() })
}

fn open_file(path: &Path) -> io::Result<File> {
    // Without waiting for a writer, should it have become a named pipe.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    File::options().read(true).custom_flags(flags.bits().cast_signed()).open(path)
}

/// As many bytes as the header says: a file that grows is cut, one that shrinks is filled up with zeros, as tar(1) does.
struct Exactly {
    file: File,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let mut count = self.file.read(&mut buffer[..room])?;
        if count == 0 {
            buffer[..room].fill(0);
            count = room;
        }
        self.left -= count as u64;
        Ok(count)
    }
}
