//! `hashFiles`: the guest lists and hashes, the host decides which files match.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use indexmap::IndexMap;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::glob::Globs;
use super::job::Job;
use super::level::Holder;
use crate::error::Result;
use crate::workflow::{FileToWrite, OutputSink, ProcessSpec, Stream};

/// Prints the paths of all files of a directory, each with a NUL after it. A link counts if it leads to a file.
const LIST: &str = r"find . \( -type f -o -type l -exec test -f {} \; \) -print0";
/// The same, and goes into directories that links lead to.
const LIST_FOLLOWING: &str = "find -L . -type f -print0";
/// Prints the SHA-256 of each file of a list.
const HASH: &str = "xargs -0 sha256sum <\"$0\"";
/// The option that [`LIST_FOLLOWING`] is for.
const FOLLOW: &str = "--follow-symbolic-links";
/// GitHub: 120 s.
const LIMIT: Duration = Duration::from_secs(120);
/// The most bytes of paths that match.
const MAX_LIST: usize = 32 << 20;

impl Job {
    /// The hash of the files of the workspace that match; empty if none does. The inner error is one of the step.
    pub(super) async fn hash_files(&mut self, patterns: &[String]) -> Result<Result<String, String>> {
        let follows = patterns.first().is_some_and(|first| first.eq_ignore_ascii_case(FOLLOW));
        let globs = match Globs::new(&patterns[usize::from(follows)..], &self.shared.workspace()) {
            Ok(globs) => globs,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let list = if follows { LIST_FOLLOWING } else { LIST };
        let mut matching = Matching { globs, path: Vec::new(), found: Vec::new(), bytes: 0, problem: None };
        if let Err(problem) = self.tool(&["sh", "-c", list], Vec::new(), &mut matching).await? {
            return Ok(Err(problem));
        }
        if let Some(problem) = matching.problem {
            return Ok(Err(problem.to_owned()));
        }
        let mut files = matching.found;
        if files.is_empty() {
            return Ok(Ok(String::new()));
        }
        matching.globs.sort(&mut files);
        let path = format!("{}/{}.files", self.shared.inputs.layout.temp(), Uuid::new_v4().simple());
        let content: String = files.iter().map(|file| format!("./{file}\0")).collect();
        let list = FileToWrite { path: path.clone(), content, mode: 0o644 };
        let mut digests = Digests { line: Vec::new(), hash: Sha256::new(), count: 0 };
        if let Err(problem) = self.tool(&["sh", "-c", HASH, &path], vec![list], &mut digests).await? {
            return Ok(Err(problem));
        }
        if digests.count != files.len() {
            return Ok(Err("hashFiles could not read every file that matches".to_owned()));
        }
        Ok(Ok(hex(&digests.hash.finalize())))
    }

    /// Runs a tool of the guest in the workspace.
    async fn tool(
        &mut self,
        argv: &[&str],
        write_files: Vec<FileToWrite>,
        output: &mut (dyn OutputSink + Send),
    ) -> Result<Result<(), String>> {
        let argv = argv.iter().map(|&arg| arg.to_owned()).collect();
        let spec = self.spec(argv, &IndexMap::new(), self.shared.workspace(), Some(LIMIT));
        let spec = ProcessSpec { write_files, ..spec };
        let (result, why) = self.watch(&spec, output, &Holder::nobody()).await;
        if let Some(why) = why {
            self.interrupt(why).await;
        }
        let outcome = result?;
        Ok(if outcome.is_success() {
            Ok(())
        } else {
            Err(format!("hashFiles failed in the VM with exit code {}", outcome.exit.shell_code()))
        })
    }
}

/// Keeps the paths of a NUL-separated list that match.
struct Matching {
    globs: Globs,
    /// The path that is not complete yet.
    path: Vec<u8>,
    found: Vec<String>,
    bytes: usize,
    problem: Option<&'static str>,
}

#[async_trait]
impl OutputSink for Matching {
    async fn write(&mut self, stream: Stream, bytes: Bytes) -> Result<()> {
        if stream == Stream::Stderr || self.problem.is_some() {
            return Ok(());
        }
        for part in bytes.split_inclusive(|byte| *byte == 0) {
            self.path.extend_from_slice(part);
            if self.path.pop_if(|last| *last == 0).is_some() {
                self.take();
            }
        }
        Ok(())
    }
}

impl Matching {
    fn take(&mut self) {
        let path = std::mem::take(&mut self.path);
        let text = String::from_utf8_lossy(&path);
        let name = text.strip_prefix("./").unwrap_or(&text);
        if !self.globs.matches(name) {
            return;
        }
        self.bytes += path.len();
        if self.bytes > MAX_LIST {
            self.problem = Some("hashFiles matches too many files");
        } else if text.contains(char::REPLACEMENT_CHARACTER) {
            self.problem = Some("hashFiles matches a file whose name is not UTF-8");
        } else {
            self.found.push(name.to_owned());
        }
    }
}

/// Hashes the hashes of a list as `sha256sum` prints it.
struct Digests {
    line: Vec<u8>,
    hash: Sha256,
    count: usize,
}

#[async_trait]
impl OutputSink for Digests {
    async fn write(&mut self, stream: Stream, bytes: Bytes) -> Result<()> {
        if stream == Stream::Stderr {
            return Ok(());
        }
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                if let Some(digest) = digest_of(&line) {
                    self.hash.update(digest);
                    self.count += 1;
                }
            }
        }
        Ok(())
    }
}

/// The digest of a line: 64 hexadecimal digits, after a backslash if the name has a character that is escaped.
fn digest_of(line: &[u8]) -> Option<[u8; 32]> {
    let digits = line.strip_prefix(b"\\").unwrap_or(line).get(..64)?;
    let mut digest = [0; 32];
    for (byte, pair) in digest.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(digest)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
