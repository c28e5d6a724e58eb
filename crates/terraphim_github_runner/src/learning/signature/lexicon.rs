//! The phrases with which programs say what went wrong, in one automaton.

use std::sync::OnceLock;

use aho_corasick::{AhoCorasick, MatchKind};

use super::cause::Cause;

/// How telling a phrase is; a line counts by its most telling one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// Follows from something said before (`make: *** Error 2`).
    Consequence,
    /// Says that something failed, not what.
    General,
    /// Says what failed.
    Telling,
    /// Names the cause itself, as a compiler's code does.
    Precise,
    /// The machine: whatever else is said follows from it.
    Machine,
}

/// Where the text of a signature begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// At the beginning of the line.
    Line,
    /// At the phrase: what stands before it names a place.
    Phrase,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    phrase: &'static str,
    pub(super) cause: Cause,
    pub(super) rank: Rank,
    pub(super) from: From,
}

const fn line(phrase: &'static str, cause: Cause, rank: Rank) -> Entry {
    Entry { phrase, cause, rank, from: From::Line }
}

const fn at(phrase: &'static str, cause: Cause, rank: Rank) -> Entry {
    Entry { phrase, cause, rank, from: From::Phrase }
}

/// In lower case; matched without regard to case.
const ENTRIES: &[Entry] = &[
    // The machine.
    at("out of memory", Cause::OutOfMemory, Rank::Machine),
    at("cannot allocate memory", Cause::OutOfMemory, Rank::Machine),
    at("oom-kill", Cause::OutOfMemory, Rank::Machine),
    at("oomkilled", Cause::OutOfMemory, Rank::Machine),
    at("memory allocation of", Cause::OutOfMemory, Rank::Machine),
    at("std::bad_alloc", Cause::OutOfMemory, Rank::Machine),
    at("java.lang.outofmemoryerror", Cause::OutOfMemory, Rank::Machine),
    at("javascript heap out of memory", Cause::OutOfMemory, Rank::Machine),
    at("virtual memory exhausted", Cause::OutOfMemory, Rank::Machine),
    at("(signal: 9, sigkill", Cause::OutOfMemory, Rank::Machine),
    at("no space left on device", Cause::DiskFull, Rank::Machine),
    at("disk quota exceeded", Cause::DiskFull, Rank::Machine),
    at("enospc", Cause::DiskFull, Rank::Machine),
    at("could not resolve host", Cause::Dns, Rank::Machine),
    at("temporary failure in name resolution", Cause::Dns, Rank::Machine),
    at("temporary failure resolving", Cause::Dns, Rank::Machine),
    at("name or service not known", Cause::Dns, Rank::Machine),
    at("getaddrinfo enotfound", Cause::Dns, Rank::Machine),
    at("eai_again", Cause::Dns, Rank::Machine),
    at("no such host", Cause::Dns, Rank::Machine),
    at("failed to lookup address", Cause::Dns, Rank::Machine),
    at("unknownhostexception", Cause::Dns, Rank::Machine),
    at("429 too many requests", Cause::RateLimit, Rank::Machine),
    at("too many requests", Cause::RateLimit, Rank::Machine),
    at("rate limit exceeded", Cause::RateLimit, Rank::Machine),
    at("rate limited", Cause::RateLimit, Rank::Machine),
    at("toomanyrequests", Cause::RateLimit, Rank::Machine),
    at("status code 429", Cause::RateLimit, Rank::Machine),
    at(" error: 429", Cause::RateLimit, Rank::Machine),
    at("http 429", Cause::RateLimit, Rank::Machine),
    at("connection refused", Cause::Network, Rank::Machine),
    at("connection reset", Cause::Network, Rank::Machine),
    at("econnreset", Cause::Network, Rank::Machine),
    at("econnrefused", Cause::Network, Rank::Machine),
    at("etimedout", Cause::Network, Rank::Machine),
    at("connection timed out", Cause::Network, Rank::Machine),
    at("connect timeout", Cause::Network, Rank::Machine),
    at("i/o timeout", Cause::Network, Rank::Machine),
    at("tls handshake", Cause::Network, Rank::Machine),
    at("network is unreachable", Cause::Network, Rank::Machine),
    at("no route to host", Cause::Network, Rank::Machine),
    at("socket hang up", Cause::Network, Rank::Machine),
    at("502 bad gateway", Cause::Network, Rank::Machine),
    at("503 service unavailable", Cause::Network, Rank::Machine),
    at("504 gateway", Cause::Network, Rank::Machine),
    at("could not connect to", Cause::Network, Rank::Machine),
    at("the remote end hung up", Cause::Network, Rank::Machine),
    // Precise causes of code.
    line("error[e", Cause::Compile, Rank::Precise),
    at("error ts", Cause::Compile, Rank::Precise),
    at("undefined reference to", Cause::Link, Rank::Precise),
    at("cannot find -l", Cause::Link, Rank::Precise),
    at("undefined symbol", Cause::Link, Rank::Precise),
    at("multiple definition of", Cause::Link, Rank::Precise),
    at("fatal error:", Cause::Compile, Rank::Precise),
    at("cannot find symbol", Cause::Compile, Rank::Precise),
    at("syntaxerror", Cause::Compile, Rank::Precise),
    at("indentationerror", Cause::Compile, Rank::Precise),
    line("eresolve", Cause::Dependency, Rank::Precise),
    at("no matching distribution", Cause::Dependency, Rank::Precise),
    at("could not find a version", Cause::Dependency, Rank::Precise),
    at("failed to select a version", Cause::Dependency, Rank::Precise),
    at("version solving failed", Cause::Dependency, Rank::Precise),
    at("could not resolve dependencies", Cause::Dependency, Rank::Precise),
    at("could not find artifact", Cause::Dependency, Rank::Precise),
    at("unable to locate package", Cause::Dependency, Rank::Precise),
    at("no matching package named", Cause::Dependency, Rank::Precise),
    at("is not in the npm registry", Cause::Dependency, Rank::Precise),
    at("the lock file", Cause::Dependency, Rank::Precise),
    at("modulenotfounderror", Cause::NotFound, Rank::Precise),
    at("cannot find module", Cause::NotFound, Rank::Precise),
    at("command not found", Cause::NotFound, Rank::Precise),
    at("caused by:", Cause::Crash, Rank::Telling),
    at("exception in thread", Cause::Crash, Rank::Precise),
    at("traceback (most recent call last)", Cause::Crash, Rank::General),
    at("segmentation fault", Cause::Crash, Rank::Precise),
    at("core dumped", Cause::Crash, Rank::Precise),
    at("panicked at", Cause::Crash, Rank::Telling),
    at("panic:", Cause::Crash, Rank::Precise),
    at("assertion", Cause::Test, Rank::Telling),
    at("addresssanitizer", Cause::Crash, Rank::Precise),
    at("warning as error", Cause::Compile, Rank::Precise),
    // Tests by name are found by their own readers; these are what is left.
    line("--- fail:", Cause::Test, Rank::Precise),
    line("failed tests/", Cause::Test, Rank::Precise),
    // What failed.
    line(": error:", Cause::Compile, Rank::Precise),
    line("linker `", Cause::Link, Rank::Telling),
    line("ld returned", Cause::Link, Rank::Consequence),
    line("permission denied", Cause::Permission, Rank::Telling),
    line("operation not permitted", Cause::Permission, Rank::Telling),
    line("access denied", Cause::Permission, Rank::Telling),
    line("eacces", Cause::Permission, Rank::Telling),
    line("authentication failed", Cause::Permission, Rank::Telling),
    line("401 unauthorized", Cause::Permission, Rank::Telling),
    line("403 forbidden", Cause::Permission, Rank::Telling),
    line("no such file or directory", Cause::NotFound, Rank::Telling),
    line("enoent", Cause::NotFound, Rank::Telling),
    line("not found", Cause::NotFound, Rank::Telling),
    line("no rule to make target", Cause::NotFound, Rank::Precise),
    at("timed out", Cause::Timeout, Rank::Telling),
    at("timeout", Cause::Timeout, Rank::Telling),
    at("deadline exceeded", Cause::Timeout, Rank::Telling),
    at("ran longer than its limit", Cause::Timeout, Rank::Precise),
    at("took too long", Cause::Timeout, Rank::Telling),
    line("undefined: ", Cause::Compile, Rank::Precise),
    line("npm err!", Cause::Dependency, Rank::Consequence),
    line("npm error", Cause::Dependency, Rank::Consequence),
    line("fatal:", Cause::Other, Rank::Telling),
    line("error:", Cause::Other, Rank::Telling),
    line("error ", Cause::Other, Rank::General),
    line("error", Cause::Other, Rank::General),
    line("fatal", Cause::Other, Rank::General),
    line("exception", Cause::Crash, Rank::General),
    line("failed", Cause::Other, Rank::General),
    line("failure", Cause::Other, Rank::General),
    line("cannot", Cause::Other, Rank::General),
    line("abort", Cause::Crash, Rank::General),
    // What only follows.
    line("aborting due to", Cause::Compile, Rank::Consequence),
    line("could not compile", Cause::Compile, Rank::Consequence),
    line("error: test failed, to rerun", Cause::Test, Rank::Consequence),
    line("test result: failed", Cause::Test, Rank::Consequence),
    line("make: ***", Cause::Other, Rank::Consequence),
    line("]: ***", Cause::Other, Rank::Consequence),
    line("ninja: build stopped", Cause::Other, Rank::Consequence),
    line("process completed with exit code", Cause::Other, Rank::Consequence),
    line("collect2: error", Cause::Link, Rank::Consequence),
    line("error: process didn't exit successfully", Cause::Other, Rank::Consequence),
    line("build failed with an exception", Cause::Other, Rank::Consequence),
    line("for more information about this error", Cause::Other, Rank::Consequence),
    line("a complete log of this run", Cause::Other, Rank::Consequence),
    line("command failed", Cause::Other, Rank::Consequence),
    line("0 errors", Cause::Other, Rank::Consequence),
    line("0 failed", Cause::Other, Rank::Consequence),
    line("error(s)", Cause::Other, Rank::Consequence),
];

/// What ends the line of a test that passed; nothing in it is a cause.
const PASSED: [&str; 5] = [" ... ok", " PASSED", " ... ignored", " (passed)", ": ok"];

fn automaton() -> &'static AhoCorasick {
    static AUTOMATON: OnceLock<AhoCorasick> = OnceLock::new();
    AUTOMATON.get_or_init(|| {
        AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::Standard)
            .build(ENTRIES.iter().map(|entry| entry.phrase))
            .expect("a hundred short phrases make an automaton")
    })
}

/// The most telling phrase of a line and where it begins. A phrase that makes its line a mere consequence wins over
/// general ones.
pub(super) fn look_up(line: &str) -> Option<(Entry, usize)> {
    if is_of_a_passed_test(line) {
        return None;
    }
    let mut best: Option<(Entry, usize)> = None;
    let mut is_consequence = false;
    for found in automaton().find_overlapping_iter(line) {
        let entry = ENTRIES[found.pattern().as_usize()];
        // `429` is not the beginning of `42919`.
        let next = line.as_bytes().get(found.end());
        if entry.phrase.ends_with(|c: char| c.is_ascii_digit()) && next.is_some_and(u8::is_ascii_digit) {
            continue;
        }
        is_consequence |= entry.rank == Rank::Consequence;
        let is_better =
            |known: Entry| entry.rank > known.rank || entry.rank == known.rank && known.cause == Cause::Other;
        if best.is_none_or(|(known, _)| is_better(known)) {
            best = Some((entry, found.start()));
        }
    }
    let (entry, at) = best?;
    if is_consequence && entry.rank < Rank::Precise {
        return Some((Entry { rank: Rank::Consequence, from: From::Line, ..entry }, at));
    }
    Some((entry, at))
}

fn is_of_a_passed_test(line: &str) -> bool {
    let line = line.trim();
    PASSED.iter().any(|end| line.ends_with(end))
        || ["✓", "✔", "--- PASS", "ok  \t", "PASS ", "warning:", "note:", "info:", "+ ", "##[group]"]
            .iter()
            .any(|start| line.starts_with(start))
}
