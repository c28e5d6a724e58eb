//! The only place that prints: data to standard output, everything else to standard error.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal as _, Write as _},
    sync::LazyLock,
};

use jiff::tz::TimeZone;
use serde::Serialize;

use crate::{exit::Exit, failure::Failure};

/// Colours, where they are wanted. Meaning is never by colour alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Paint {
    is_on: bool,
}

impl Paint {
    /// Colours for standard output: on a terminal that can, unless `NO_COLOR` is set (no-color.org).
    pub(crate) fn for_stdout() -> Paint {
        Paint { is_on: io::stdout().is_terminal() && wants_colour() }
    }

    /// The same for standard error.
    pub(crate) fn for_stderr() -> Paint {
        Paint { is_on: io::stderr().is_terminal() && wants_colour() }
    }

    /// Whether there are any.
    pub(crate) fn is_on(self) -> bool {
        self.is_on
    }

    /// No colours.
    #[cfg(test)]
    pub(crate) fn plain() -> Paint {
        Paint { is_on: false }
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.is_on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    pub(crate) fn red(self, text: &str) -> String {
        self.with("31", text)
    }

    pub(crate) fn green(self, text: &str) -> String {
        self.with("32", text)
    }

    pub(crate) fn yellow(self, text: &str) -> String {
        self.with("33", text)
    }

    pub(crate) fn cyan(self, text: &str) -> String {
        self.with("36", text)
    }
}

fn wants_colour() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Prints data. A reader that went away (`tci runs ls | head`) is no failure.
pub(crate) fn data(text: &str) -> Result<(), Failure> {
    bytes(text.as_bytes())
}

/// Prints data as it is.
pub(crate) fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(stdout_failure)
}

/// What a failed write to standard output ends the program with.
pub(crate) fn stdout_failure(error: io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        Failure::silent(Exit::Success)
    } else {
        Failure::io("write to", std::path::Path::new("standard output"), error)
    }
}

/// Prints a value as JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).expect("plain data is JSON");
    data(&format!("{text}\n"))
}

/// Tells people something.
pub(crate) fn note(text: &str) {
    // Nobody to tell when standard error is closed.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Tells people something while they wait; `line` replaces the line before it. Only for a terminal.
pub(crate) fn status(line: &str) {
    let mut stderr = io::stderr().lock();
    let _ = write!(stderr, "\r\x1b[2K{line}").and_then(|()| stderr.flush());
}

pub(crate) fn warning(text: &str) {
    note(&format!("{} {text}", Paint::for_stderr().yellow("warning:")));
}

pub(crate) fn error(text: &str) {
    note(&format!("{} {text}", Paint::for_stderr().red("error:")));
}

pub(crate) fn hint(text: &str) {
    note(&format!("{} {text}", Paint::for_stderr().cyan("hint:")));
}

/// Whether people watch standard error.
pub(crate) fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// Columns as wide as their widest cell; the last one is not padded. Cells may be painted after padding by `paint`.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(header.get(column).map(|cell| cell.chars().count())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let mut text = String::new();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut row = String::new();
        for (cell, width) in cells.zip(&widths) {
            let _ = write!(row, "{cell:<width$}  ");
        }
        text += row.trim_end();
        text.push('\n');
    };
    line(&mut header.iter().copied());
    for row in rows {
        line(&mut row.iter().map(String::as_str));
    }
    text
}

/// Makes a text fit for one line of a terminal: control characters (a name may hold any) become visible.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line
}

/// The beginning and the end of a text that nobody would read whole. What tells of a mistake begins with its place and ends with
/// what is expected; what it quotes in between may be of any length.
pub(crate) fn excerpt(text: &str) -> String {
    const EACH: usize = 300;
    let length = text.chars().count();
    if length <= 2 * EACH {
        return text.to_owned();
    }
    let beginning: String = text.chars().take(EACH).collect();
    let end: String = text.chars().skip(length - EACH).collect();
    format!("{beginning}[...]{end}")
}

/// `850 ms`, `12.3 s`, `4 m 05 s`, `2 h 03 m`.
pub(crate) fn duration(duration: std::time::Duration) -> String {
    let ms = duration.as_millis();
    match duration.as_secs() {
        0 => format!("{ms} ms"),
        1..60 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        seconds @ 60..3600 => format!("{} m {:02} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {:02} m", seconds / 3600, seconds % 3600 / 60),
    }
}

/// `2026-11-21 04:30:00` in the local time zone.
pub(crate) fn time(at_ms: i64) -> String {
    local(at_ms, "%Y-%m-%d %H:%M:%S")
}

/// `04:30:00` in the local time zone.
pub(crate) fn clock(at_ms: i64) -> String {
    local(at_ms, "%H:%M:%S")
}

/// The rules of `/etc/localtime` themselves, see localtime(5): to find what they are called, every directory of the system's
/// time zones would be read.
static ZONE: LazyLock<TimeZone> = LazyLock::new(|| {
    let rules = || TimeZone::tzif("local", &std::fs::read("/etc/localtime").ok()?).ok();
    let named = std::env::var_os("TZ").is_some();
    (!named).then(rules).flatten().unwrap_or_else(TimeZone::system)
});

fn local(at_ms: i64, format: &str) -> String {
    let at = jiff::Timestamp::from_millisecond(at_ms).map(|at| at.to_zoned(ZONE.clone()));
    at.map_or_else(|_| "-".to_owned(), |at| at.strftime(format).to_string())
}

/// `12 MiB`, `1.5 GiB`.
pub(crate) fn size(bytes: u64) -> String {
    const MIB: u64 = 1 << 20;
    match bytes {
        0..MIB => format!("{} KiB", bytes.div_ceil(1024)),
        _ if bytes < 1024 * MIB => format!("{} MiB", bytes / MIB),
        _ => format!("{}.{} GiB", bytes / (1024 * MIB), bytes % (1024 * MIB) * 10 / (1024 * MIB)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn durations_and_sizes_are_short() {
        let of = |ms| duration(Duration::from_millis(ms));
        assert_eq!([of(0), of(850), of(12_349)], ["0 ms", "850 ms", "12.3 s"]);
        assert_eq!([of(245_000), of(7_380_000)], ["4 m 05 s", "2 h 03 m"]);
        assert_eq!([size(1), size(12 << 20), size(3 << 29)], ["1 KiB", "12 MiB", "1.5 GiB"]);
    }

    #[test]
    fn a_name_with_control_characters_stays_on_its_line() {
        assert_eq!(one_line("a\nb\x1b[31mü"), "a\\nb\\u{1b}[31mü");
    }

    #[test]
    fn a_long_text_is_cut_in_its_middle() {
        assert_eq!(excerpt("short"), "short");
        let long = excerpt(&format!("x.toml:1: \"{}\": use less", "ü".repeat(9000)));
        assert_eq!(long.chars().count(), 605);
        assert!(
            long.starts_with("x.toml:1: \"ü") && long.contains("ü[...]ü") && long.ends_with("ü\": use less")
        );
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["1".to_owned(), "long".to_owned()], vec!["22".to_owned(), String::new()]];
        assert_eq!(table(&["A", "B"], &rows), "A   B\n1   long\n22\n");
    }

    #[test]
    fn no_paint_without_colours() {
        assert_eq!(Paint::plain().red("x"), "x");
    }
}
