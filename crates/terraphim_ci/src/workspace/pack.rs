//! Entries become a tar stream.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read as _, Write},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use super::{Entry, IoContext as _, WorkspaceError};

/// Writes `entries` as a tar stream. A file that vanished since it was listed is left out, as if it had never been.
pub(crate) fn pack(entries: &[Entry], out: impl Write) -> Result<(), WorkspaceError> {
    let mut tar = tar::Builder::new(out);
    for entry in entries {
        append(&mut tar, entry)?;
    }
    tar.finish().io("write", Path::new("the archive"))
}

fn append(tar: &mut tar::Builder<impl Write>, entry: &Entry) -> Result<(), WorkspaceError> {
    let from = &entry.from;
    let metadata = match from.symlink_metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(WorkspaceError::Io { operation: "read", path: from.clone(), source }),
    };
    let kind = metadata.file_type();
    if kind.is_symlink() {
        let target = fs::read_link(from).io("read link", from)?;
        let mut header = header(&metadata, tar::EntryType::Symlink, 0);
        return tar.append_link(&mut header, &entry.to, target).io("send", from);
    }
    if kind.is_dir() {
        let mut header = header(&metadata, tar::EntryType::Directory, 0);
        return tar.append_data(&mut header, &entry.to, io::empty()).io("send", from);
    }
    if kind.is_file() { append_file(tar, entry) } else { Ok(()) }
}

fn append_file(tar: &mut tar::Builder<impl Write>, entry: &Entry) -> Result<(), WorkspaceError> {
    let from = &entry.from;
    let file = match File::open(from) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(WorkspaceError::Io { operation: "open", path: from.clone(), source }),
    };
    // The size of what was opened, not of what was listed; whatever is appended meanwhile is not part of it.
    let metadata = file.metadata().io("read", from)?;
    let size = metadata.len();
    let mut header = header(&metadata, tar::EntryType::Regular, size);
    let mut content = Counted { inner: file.take(size), count: 0 };
    tar.append_data(&mut header, &entry.to, &mut content).io("send", from)?;
    if content.count < size {
        return Err(WorkspaceError::Shrunk { path: from.clone() });
    }
    Ok(())
}

/// Mode and time of modification, which build tools look at; owners are the guest's business.
fn header(metadata: &Metadata, kind: tar::EntryType, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(metadata.mode() & 0o7777);
    header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or(0));
    header.set_uid(0);
    header.set_gid(0);
    header
}

struct Counted<R> {
    inner: R,
    count: u64,
}

impl<R: io::Read> io::Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.count += read as u64;
        Ok(read)
    }
}
