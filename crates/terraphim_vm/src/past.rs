//! What was run in a VM, in this life of it and in earlier ones.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, BufRead as _, Read as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    Exec, Host, VmClient, VmError, VmId,
    error::IoContext as _,
    protocol::{
        frame::{HEADER, Tag, parse_header},
        message::{ExecExited, ExecFailed},
    },
};

/// What is noted down about an execution before it starts. Its environment is not: it may hold secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExecutionNote {
    pub(crate) id: String,
    pub(crate) argv: Vec<String>,
    pub(crate) started_at_ms: u64,
}

impl ExecutionNote {
    /// Holds the notes of all executions of a VM, a line of JSON each. No execution has such an id.
    pub(crate) const FILE: &str = "notes.jsonl";

    /// By their ids. A line that is not whole is that of an execution which never began.
    pub(crate) fn read_all(directory: &Path) -> io::Result<HashMap<String, ExecutionNote>> {
        let file = match File::open(directory.join(ExecutionNote::FILE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(HashMap::new()),
            file => io::BufReader::new(file?),
        };
        let mut notes = HashMap::new();
        for line in file.split(b'\n') {
            if let Ok(note) = serde_json::from_slice::<ExecutionNote>(&line?) {
                notes.insert(note.id.clone(), note);
            }
        }
        Ok(notes)
    }
}

/// How an execution ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum ExecutionEnd {
    /// It ended by itself or by a signal.
    Exited {
        /// Its exit code, or 128 plus the signal.
        code: i32,
    },
    /// It could not be started.
    Failed {
        /// Why.
        message: String,
    },
    /// The VM ended first.
    Lost {
        /// What is known about that.
        message: String,
    },
}

/// One execution of a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Execution {
    /// Its id.
    pub id: String,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// When it was asked for, in milliseconds since 1970; 0 when nobody noted it.
    pub started_at_ms: u64,
    /// Bytes of its output with its frames: the last offset.
    pub output_bytes: u64,
    /// How it ended; absent while it runs.
    pub end: Option<ExecutionEnd>,
}

impl Host {
    /// Everything that was run in a VM, oldest first. The VM need not run.
    ///
    /// # Errors
    /// There is no such VM, or its files cannot be read.
    pub fn executions(&self, id: &VmId) -> Result<Vec<Execution>, VmError> {
        let is_running = self.client(id).is_ok();
        let directory = self.execution_directory(id);
        let mut notes = ExecutionNote::read_all(&directory).io("read", &directory)?;
        let mut all = Vec::new();
        for name in self.execution_ids(id)? {
            let path = directory.join(&name);
            let (output_bytes, end) = match last_frame(&path) {
                Ok(found) => found,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error).io("read", &path),
            };
            let lost =
                || ExecutionEnd::Lost { message: "the VM ended and its supervisor with it".to_owned() };
            let end = end.or_else(|| (!is_running).then(lost));
            let note = notes.remove(&name).unwrap_or_default();
            all.push(Execution {
                id: name,
                argv: note.argv,
                started_at_ms: note.started_at_ms,
                output_bytes,
                end,
            });
        }
        all.sort_by(|a, b| (a.started_at_ms, &a.id).cmp(&(b.started_at_ms, &b.id)));
        Ok(all)
    }

    /// The id of the VM's execution that starts so.
    ///
    /// # Errors
    /// There is none, or there are several.
    pub fn find_execution(&self, id: &VmId, wanted: &str) -> Result<String, VmError> {
        let missing = || VmError::NoExecution { id: id.clone(), exec: wanted.to_owned() };
        // Ids are hexadecimal; what else somebody asks for never becomes a path.
        if wanted.is_empty() || !wanted.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(missing());
        }
        let mut found = self.execution_ids(id)?;
        found.retain(|name| name.starts_with(wanted));
        found.sort();
        match (found.pop(), found.is_empty()) {
            (Some(only), true) => Ok(only),
            (Some(last), false) => {
                found.push(last);
                Err(VmError::Ambiguous { prefix: wanted.to_owned(), candidates: found })
            }
            (None, _) => Err(missing()),
        }
    }

    /// Follows an execution from an offset of its output on, see [`Exec::offset`]: one that runs until it ends, one of
    /// the past to its end. The VM need not run.
    ///
    /// # Errors
    /// There is no such VM or execution, or no event begins at the offset ([`VmError::Offset`]).
    pub async fn follow(&self, id: &VmId, exec: &str, offset: u64) -> Result<Exec, VmError> {
        let exec = self.find_execution(id, exec)?;
        if let Ok(client) = self.client(id) {
            match client.attach(&exec, offset).await {
                // Of an earlier life of the VM, of which its present supervisor knows nothing.
                Err(VmError::Refused { status: 404, .. }) => {}
                followed => return followed,
            }
        }
        check_offset(&self.paths().exec_output(id, &exec), &exec, offset)?;
        let nobody = VmClient::new(id.clone(), self.paths().clone(), PathBuf::new());
        Ok(Exec::recorded(nobody, exec, offset))
    }

    fn execution_directory(&self, id: &VmId) -> PathBuf {
        self.paths().vm(id).join("exec")
    }

    fn execution_ids(&self, id: &VmId) -> Result<Vec<String>, VmError> {
        let directory = self.execution_directory(id);
        let entries = match fs::read_dir(&directory) {
            // Nothing was ever run in it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.io("read", &directory)?,
        };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        // The notes, what is prepared for the next one and what a client has seen have other names.
        Ok(names.filter(|name| name.bytes().all(|byte| byte.is_ascii_hexdigit())).collect())
    }
}

/// Refuses an offset that is inside an event: what is there may look like an event, so its bytes do not tell. Of what is not
/// written yet nothing is known.
///
/// # Errors
/// [`VmError::Offset`]; the output cannot be read.
pub(crate) fn check_offset(output: &Path, exec: &str, offset: u64) -> Result<(), VmError> {
    if offset == 0 || begins_at(output, offset).io("read", output)? {
        return Ok(());
    }
    Err(VmError::Offset { exec: exec.to_owned(), offset })
}

/// Whether an event may begin at `offset`. Hops from header to header.
fn begins_at(output: &Path, offset: u64) -> io::Result<bool> {
    let mut file = match File::open(output) {
        // Whoever has the execution says that it is not there.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        file => io::BufReader::new(file?),
    };
    let mut at = 0;
    while at < offset {
        let mut head = [0; HEADER];
        match file.read_exact(&mut head) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(true),
            read => read?,
        }
        let Some((_, size)) = parse_header(&head).map_err(io::Error::other)? else { return Ok(true) };
        at += (HEADER + size) as u64;
        file.seek_relative(i64::try_from(size).expect("at most MAX_PAYLOAD"))?;
    }
    Ok(at == offset)
}

/// The length of an output file in whole frames, and what its last frame says when that ends it. Hops from header to
/// header.
fn last_frame(path: &Path) -> io::Result<(u64, Option<ExecutionEnd>)> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut offset = 0;
    loop {
        let mut head = [0; HEADER];
        if offset + HEADER as u64 > length {
            return Ok((offset, None));
        }
        file.read_exact_at(&mut head, offset)?;
        let Some((tag, size)) = parse_header(&head).map_err(io::Error::other)? else {
            return Ok((offset, None));
        };
        let next = offset + (HEADER + size) as u64;
        if next > length {
            return Ok((offset, None));
        }
        if tag.is_last() {
            let mut payload = vec![0; size];
            file.read_exact_at(&mut payload, offset + HEADER as u64)?;
            return Ok((next, Some(end(tag, &payload)?)));
        }
        offset = next;
    }
}

fn end(tag: Tag, payload: &[u8]) -> io::Result<ExecutionEnd> {
    Ok(match tag {
        Tag::Exited => {
            let exited: ExecExited = serde_json::from_slice(payload)?;
            ExecutionEnd::Exited { code: exited.status.shell_code() }
        }
        Tag::Failed => {
            let failed: ExecFailed = serde_json::from_slice(payload)?;
            ExecutionEnd::Failed { message: failed.message }
        }
        _ => ExecutionEnd::Lost { message: String::from_utf8_lossy(payload).into_owned() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Paths, VmSpec, protocol::frame::encode, registry::Registry};

    fn host() -> (tempfile::TempDir, Host, VmId) {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::open(Paths::new(dir.path()).unwrap()).unwrap();
        let id = VmId::random();
        Registry::read_write(&host.paths().registry())
            .unwrap()
            .insert(&id, "vm", &VmSpec::default(), None)
            .unwrap();
        (dir, host, id)
    }

    fn write(host: &Host, id: &VmId, exec: &str, frames: &[(Tag, &[u8])], cut: usize) {
        let path = host.paths().exec_output(id, exec);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut bytes = Vec::new();
        frames.iter().for_each(|(tag, payload)| encode(*tag, payload, &mut bytes));
        bytes.truncate(bytes.len() - cut);
        fs::write(path, bytes).unwrap();
    }

    #[test]
    fn the_end_of_an_execution_is_its_last_frame() {
        let (_dir, host, id) = host();
        let exited = br#"{"status":{"signal":9},"duration_us":1,"orphans_killed":0}"#;
        write(&host, &id, "aa01", &[(Tag::Stdout, b"hello"), (Tag::Exited, exited)], 0);
        write(&host, &id, "aa02", &[(Tag::Stdout, b"hello"), (Tag::Stdout, b"more")], 1);
        write(&host, &id, "bb", &[(Tag::Lost, b"gone")], 0);
        let notes = host.paths().exec_output(&id, ExecutionNote::FILE);
        fs::write(notes, "{\"id\":\"bb\",\"argv\":[\"x\"],\"started_at_ms\":5}\n{\"id\":\"aa0").unwrap();
        let all = host.executions(&id).unwrap();
        let ids: Vec<&str> = all.iter().map(|execution| execution.id.as_str()).collect();
        assert_eq!(ids, ["aa01", "aa02", "bb"]);
        assert_eq!(all[0].end, Some(ExecutionEnd::Exited { code: 137 }));
        assert_eq!(all[1].output_bytes, (HEADER + 5) as u64, "a frame that is not whole does not count");
        assert!(matches!(all[1].end, Some(ExecutionEnd::Lost { .. })), "the VM does not run");
        assert_eq!(all[2].argv, ["x"]);
    }

    #[test]
    fn executions_are_found_by_the_start_of_their_id() {
        let (_dir, host, id) = host();
        for exec in ["aa01", "aa02", "bb"] {
            write(&host, &id, exec, &[], 0);
        }
        assert_eq!(host.find_execution(&id, "b").unwrap(), "bb");
        assert_eq!(host.find_execution(&id, "aa01").unwrap(), "aa01");
        let several = host.find_execution(&id, "aa").unwrap_err().to_string();
        assert!(several.contains("aa01, aa02"), "{several}");
        for bad in ["", "c", "../bb", "/etc", "b/../bb"] {
            assert!(matches!(host.find_execution(&id, bad), Err(VmError::NoExecution { .. })), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_recorded_execution_is_followed_to_its_end() {
        let (_dir, host, id) = host();
        write(&host, &id, "aa", &[(Tag::Stdout, b"hello"), (Tag::Lost, b"gone")], 0);
        let mut exec = host.follow(&id, "a", 0).await.unwrap();
        assert_eq!(
            exec.next().await.unwrap(),
            Some(crate::ExecEvent::Stdout(bytes::Bytes::from_static(b"hello")))
        );
        let offset = exec.offset();
        let mut rest = host.follow(&id, "aa", offset).await.unwrap();
        assert_eq!(rest.next().await.unwrap(), Some(crate::ExecEvent::Lost("gone".into())));
        assert_eq!(rest.next().await.unwrap(), None);
    }

    #[tokio::test]
    async fn an_offset_inside_an_event_is_refused() {
        let (_dir, host, id) = host();
        // Its content looks like the header of an event.
        let content = [Tag::Stdout as u8, 0, 0, 0, 1, b'x'];
        write(&host, &id, "aa", &[(Tag::Stdout, &content), (Tag::Lost, b"gone")], 0);
        let (first, all) = ((HEADER + 6) as u64, (2 * HEADER + 10) as u64);
        for offset in (1..all).filter(|offset| *offset != first) {
            let refused = host.follow(&id, "aa", offset).await.err().unwrap();
            assert!(matches!(&refused, VmError::Offset { offset: at, .. } if *at == offset), "{refused}");
            assert!(refused.to_string().contains("aa begins at offset"), "{refused}");
        }
        for offset in [0, first, all, all + 1] {
            assert!(host.follow(&id, "aa", offset).await.is_ok(), "{offset}");
        }
    }
}
