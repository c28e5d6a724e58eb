//! Files that users name, read up to a limit: a wrong one (`/dev/zero`, the image of a disk) must not fill the memory.
//!
//! Devices and pipes are read too: `/dev/null`, `/dev/stdin` and `<(command)` are common. The limit ends those that have no
//! end.

use std::{
    fs::File,
    io::{self, BufRead, Read},
    path::Path,
};

use crate::{exit::Exit, failure::Failure};

/// The most bytes of what people write by hand: definitions and configurations.
pub(crate) const MOST: u64 = 1 << 20;
/// The most bytes of what programs write, and of what has a limit of its own further on. GitHub cuts payloads at 25 MB
/// (docs "Webhook events and payloads").
pub(crate) const MOST_DATA: u64 = 32 << 20;
/// The name of standard input among files.
const STANDARD_INPUT: &str = "-";

/// Reads a file of at most so many bytes.
///
/// # Errors
/// It cannot be read, or is larger.
pub(crate) fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    all(File::open(path)?, most)
}

/// Reads a text file of at most so many bytes.
///
/// # Errors
/// It cannot be read, is larger, or is no UTF-8.
pub(crate) fn read_text(path: &Path, most: u64) -> io::Result<String> {
    text(File::open(path)?, most)
}

/// The same of what is open already.
///
/// # Errors
/// As [`read_text`].
pub(crate) fn text(from: impl Read, most: u64) -> io::Result<String> {
    String::from_utf8(all(from, most)?).map_err(|_| no_text())
}

/// The text of a file that an option names, of at most so many bytes; `-` is standard input.
///
/// # Errors
/// As [`read_text`], as a wrong use.
pub(crate) fn named(path: &Path, most: u64) -> Result<String, Failure> {
    let read = if path.as_os_str() == STANDARD_INPUT {
        text(io::stdin().lock(), most)
    } else {
        read_text(path, most)
    };
    read.map_err(|error| Failure::io("read", shown(path), error).ending(Exit::Usage))
}

/// What messages call such a file.
pub(crate) fn shown(path: &Path) -> &Path {
    if path.as_os_str() == STANDARD_INPUT { Path::new("standard input") } else { path }
}

/// The text of a file that people write; messages name it as `shown`.
///
/// # Errors
/// It is no UTF-8: the place is told, lines and columns from 1, columns in characters, as in other messages about such files.
pub(crate) fn utf8(bytes: Vec<u8>, shown: &str) -> Result<String, Failure> {
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
        let before = good.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        let column = 1 + String::from_utf8_lossy(before).chars().count();
        Failure::usage(format!("{shown}:{line}:{column}: the file is no UTF-8 text")).hint("save it as UTF-8")
    })
}

/// The lines of a text of any length, each of at most so many bytes. An error is not the end: stop there.
pub(crate) fn lines(mut from: impl BufRead, most: u64) -> impl Iterator<Item = io::Result<String>> {
    std::iter::from_fn(move || next_line(&mut from, most).transpose())
}

fn next_line(from: &mut impl BufRead, most: u64) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    if from.take(most + 1).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.ends_with(b"\n") {
        line.pop();
        if line.ends_with(b"\r") {
            line.pop();
        }
    } else if line.len() as u64 > most {
        return Err(too_large("a line", most));
    }
    String::from_utf8(line).map(Some).map_err(|_| no_text())
}

fn all(from: impl Read, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most { Err(too_large("it", most)) } else { Ok(bytes) }
}

fn too_large(what: &str, most: u64) -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, format!("{what} has more than {} MiB", most >> 20))
}

fn no_text() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it is no UTF-8 text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_end_is_refused_at_the_limit() {
        let zero = Path::new("/dev/zero");
        let error = read_text(zero, MOST).unwrap_err();
        assert_eq!(error.to_string(), "it has more than 1 MiB");
        assert_eq!(read(zero, MOST).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        let endless = io::BufReader::new(File::open(zero).unwrap());
        let error = lines(endless, MOST).next().unwrap().unwrap_err();
        assert_eq!(error.to_string(), "a line has more than 1 MiB");
        assert_eq!(read_text(Path::new("/dev/null"), MOST).unwrap(), "");
        assert!(read_text(Path::new("/"), MOST).is_err());
    }

    #[test]
    fn what_is_no_utf8_is_told_with_its_place() {
        assert_eq!(utf8("ä\n".into(), "w.yml").unwrap(), "ä\n");
        for (bytes, place) in [
            (&b"\xff\xfeo\0n\0"[..], "w.yml:1:1:"),
            (b"on: push\nname: gr\xfcn\n", "w.yml:2:9:"),
            // Columns are characters.
            (b"a\n\xc3\xa4\xc3\xa4\xe4", "w.yml:2:3:"),
            (b"a\n\n\xe4", "w.yml:3:1:"),
            (b"a\r\nb\xc3", "w.yml:2:2:"),
        ] {
            let failure = utf8(bytes.to_vec(), "w.yml").unwrap_err();
            let message = failure.message();
            assert!(message.starts_with(place), "{place} {message}");
            assert_eq!((failure.exit.code(), failure.remedy()), (2, Some("save it as UTF-8")));
        }
    }

    #[test]
    fn the_limit_itself_is_allowed_and_lines_end_as_everywhere() {
        assert_eq!(text(&b"abcd"[..], 4).unwrap(), "abcd");
        assert!(text(&b"abcde"[..], 4).is_err());
        assert_eq!(text(&b"\xff"[..], 4).unwrap_err().to_string(), "it is no UTF-8 text");
        let of = |text: &str| lines(text.as_bytes(), 4).map(Result::unwrap).collect::<Vec<_>>();
        assert_eq!(of("a\r\nabcd\n\nabcd"), ["a", "abcd", "", "abcd"]);
        assert_eq!(of(""), [""; 0]);
        assert!(lines(&b"abcde"[..], 4).next().unwrap().is_err());
    }
}
