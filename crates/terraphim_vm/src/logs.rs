//! Logs with a bound: what a guest writes to its console must not fill the host's disk.
//!
//! A log that has grown over [`LIMIT`] is cut to its last [`KEPT`] bytes, below a line that says how many bytes were cut
//! from it in its whole life. The file stays the same, because its writers have it open; they must write with `O_APPEND`.
//! What is written in the very moment of a cut may be lost, or stand above the line.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
    time::Duration,
};

/// A log of more bytes than these is cut.
pub const LIMIT: u64 = 4 * 1024 * 1024;

/// What a cut leaves, in bytes, without the line that says so.
pub const KEPT: u64 = 1024 * 1024;

/// How long writes go unnoticed after one was: a guest that writes without end must not keep its supervisor busy. By so much
/// time's writing a log can be larger than [`LIMIT`].
pub(crate) const REST: Duration = Duration::from_millis(200);

const BEFORE: &str = "[tci: the first ";
const AFTER: &str = " bytes of this log were cut]\n";

/// Where the content of a log that may have been cut begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beginning {
    /// Bytes that were written and are gone.
    pub cut: u64,
    /// Where in the file the rest begins, in bytes: after the line about the cut, 0 without one.
    pub offset: u64,
}

/// Reads where the content of a log begins.
///
/// # Errors
/// The file cannot be read.
pub fn beginning(log: &File) -> io::Result<Beginning> {
    let mut start = [0; BEFORE.len() + 20 + AFTER.len()];
    let mut filled = 0;
    while filled < start.len() {
        match log.read_at(&mut start[filled..], filled as u64)? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(parse(&start[..filled]).unwrap_or_default())
}

fn parse(start: &[u8]) -> Option<Beginning> {
    let line = start.split_inclusive(|byte| *byte == b'\n').next()?;
    let number = std::str::from_utf8(line).ok()?.strip_prefix(BEFORE)?.strip_suffix(AFTER)?;
    Some(Beginning { cut: number.parse().ok()?, offset: line.len() as u64 })
}

/// Cuts the log at `path` when it has grown over [`LIMIT`]. One that is not there needs no cut.
///
/// # Errors
/// The file cannot be read or written; it is as it was, or lacks what was to be kept.
pub fn cut(path: &Path) -> io::Result<()> {
    let no_link = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let mut log = match OpenOptions::new().read(true).append(true).custom_flags(no_link).open(path) {
        Ok(log) => log,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let length = log.metadata()?.len();
    if length <= LIMIT {
        return Ok(());
    }
    let before = beginning(&log)?;
    let mut kept = Vec::new();
    // With the byte before, which may end a line: the rest begins with a whole line, where there is one.
    log.seek(SeekFrom::Start(length - KEPT - 1))?;
    (&log).take(KEPT + 1).read_to_end(&mut kept)?;
    let line = kept.iter().position(|byte| *byte == b'\n').unwrap_or(0) + 1;
    let kept = &kept[line..];
    // A guest may have written such a line itself, with any number.
    let cut = before.cut.saturating_add(length - before.offset - kept.len() as u64);
    log.set_len(0)?;
    let mut whole = format!("{BEFORE}{cut}{AFTER}").into_bytes();
    whole.extend_from_slice(kept);
    log.write_all(&whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(first: u64, last: u64) -> Vec<u8> {
        (first..last).flat_map(|line| format!("line {line:010}\n").into_bytes()).collect()
    }

    /// Each of the lines above.
    const LINE: u64 = 16;

    #[test]
    fn what_is_cut_is_counted_and_the_rest_begins_with_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console.log");
        let mut written = 0;
        let mut writer = create(&path);
        for round in 1..=3 {
            while writer.metadata().unwrap().len() <= LIMIT {
                writer.write_all(&lines(written, written + 10_000)).unwrap();
                written += 10_000;
            }
            cut(&path).unwrap();
            let log = File::open(&path).unwrap();
            let from = beginning(&log).unwrap();
            let content = std::fs::read(&path).unwrap()[usize::try_from(from.offset).unwrap()..].to_vec();
            assert_eq!(from.cut % LINE, 0, "round {round}");
            assert_eq!(from.cut + content.len() as u64, written * LINE, "round {round}");
            assert!(content == lines(from.cut / LINE, written), "round {round}");
            assert!(content.len() as u64 > KEPT - LINE && content.len() as u64 <= KEPT, "round {round}");
        }
    }

    fn create(path: &Path) -> File {
        OpenOptions::new().create(true).append(true).open(path).unwrap()
    }

    #[test]
    fn a_log_within_its_bound_and_one_that_is_absent_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console.log");
        cut(&path).unwrap();
        assert!(!path.exists());
        let whole = vec![b'x'; usize::try_from(LIMIT).unwrap()];
        std::fs::write(&path, &whole).unwrap();
        cut(&path).unwrap();
        assert!(std::fs::read(&path).unwrap() == whole);
        // Without a line's end in it, it is cut all the same.
        create(&path).write_all(b"x").unwrap();
        cut(&path).unwrap();
        let from = beginning(&File::open(&path).unwrap()).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), from.offset + KEPT);
        assert_eq!(from.cut, LIMIT + 1 - KEPT);
    }

    #[test]
    fn only_such_a_line_is_taken_for_one() {
        let line = format!("{BEFORE}{}{AFTER}", u64::MAX);
        assert_eq!(parse(line.as_bytes()), Some(Beginning { cut: u64::MAX, offset: line.len() as u64 }));
        assert_eq!(parse(b"[tci: the first x bytes of this log were cut]\n"), None);
        assert_eq!(parse(b""), None);
    }

    #[test]
    fn a_link_in_the_place_of_a_log_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (victim, link) = (dir.path().join("victim"), dir.path().join("console.log"));
        std::fs::write(&victim, vec![b'x'; usize::try_from(LIMIT + 1).unwrap()]).unwrap();
        std::os::unix::fs::symlink(&victim, &link).unwrap();
        assert!(cut(&link).is_err());
        assert_eq!(std::fs::metadata(&victim).unwrap().len(), LIMIT + 1);
    }
}
