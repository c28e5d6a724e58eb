//! The paths of the agent's calls.
//!
//! A call that fails before its answer began has a status of 400 or above and a body of plain text, for people.

use std::fmt::Write as _;

/// `GET`: answers 200 with an empty body.
pub const PING: &str = "/v1/ping";
/// `GET`: [`AgentInfo`](crate::message::AgentInfo).
pub const INFO: &str = "/v1/info";
/// `POST` [`Configure`](crate::message::Configure).
pub const CONFIGURE: &str = "/v1/configure";
/// `POST` [`View`](crate::message::View); `DELETE` `/v1/views/{name}`.
pub const VIEWS: &str = "/v1/views";
/// `POST`: see [`frame`](crate::frame).
pub const EXEC: &str = "/v1/exec";
/// `DELETE` `/v1/left/{name}`: kills what executions have left running under this name, and answers
/// [`Ended`](crate::message::Ended) when it is dead.
pub const LEFT: &str = "/v1/left";
/// `PUT` or `GET` with a [`FilesQuery`]: a tar stream in or out.
pub const FILES: &str = "/v1/files";
/// The trailer of an answer to `GET` [`FILES`] that breaks off: why, at most [`BROKEN_OFF_MAX`] characters as [`encode`] writes
/// them. It is sent instead of a reset, to whoever says `te: trailers` in the request: others would take the stream for whole.
pub const BROKEN_OFF: &str = "tci-broken-off";
/// The most characters of [`BROKEN_OFF`]: encoded they have to fit into 16 KiB, which is what hyper takes of trailers.
pub const BROKEN_OFF_MAX: usize = 1000;
/// `POST` [`Forward`](crate::message::Forward): the guest listens on a port of its loopback interface. The answer is
/// lines of JSON: first [`ForwardListening`](crate::message::ForwardListening), then a
/// [`ForwardAccepted`](crate::message::ForwardAccepted) for each connection; cancelling it ends the port and all its
/// connections. `POST` `/v1/forwards/{connection}`: one accepted connection; the request's body is what the process in
/// the guest reads, the answer's body what it writes, and each ends by itself.
pub const FORWARDS: &str = "/v1/forwards";
/// `POST` [`Shutdown`](crate::message::Shutdown): answers 200 when the guest begins to end.
pub const SHUTDOWN: &str = "/v1/shutdown";

/// What [`FILES`] is about: `?path=...&owner=...&view=...`, percent-encoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilesQuery {
    /// Absolute path. `PUT`: the directory to unpack below, made when missing. `GET`: a directory, whose content is
    /// returned with names relative to it, or a file, returned under its last name.
    pub path: String,
    /// `PUT`: every entry belongs to this user (a name or number) instead of the owner in the stream.
    pub owner: Option<String>,
    /// The [`View`](crate::message::View) in which `path` is meant.
    pub view: Option<String>,
}

impl FilesQuery {
    /// The path and query of a call.
    #[must_use]
    pub fn to_uri(&self) -> String {
        let mut uri = format!("{FILES}?path={}", encode(&self.path));
        for (key, value) in [("owner", &self.owner), ("view", &self.view)] {
            if let Some(value) = value {
                let _ = write!(uri, "&{key}={}", encode(value));
            }
        }
        uri
    }

    /// Reads what follows the `?`; `None` when it is malformed, has an unknown or repeated key, or lacks `path`.
    #[must_use]
    pub fn parse(query: &str) -> Option<FilesQuery> {
        let mut path = None;
        let mut files = FilesQuery::default();
        for pair in query.split('&') {
            let (key, value) = pair.split_once('=')?;
            let slot = match key {
                "path" => &mut path,
                "owner" => &mut files.owner,
                "view" => &mut files.view,
                _ => return None,
            };
            if slot.replace(decode(value)?).is_some() {
                return None;
            }
        }
        files.path = path?;
        Some(files)
    }
}

/// Writes a text so that it may stand in a query or a header: percent-encoded.
#[must_use]
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// Reads what [`encode`] wrote; `None` when it is malformed.
#[must_use]
pub fn decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            out.push(digit(bytes.next()?)? << 4 | digit(bytes.next()?)?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_survive_the_query() {
        let files = FilesQuery {
            path: "/a b/ü%&=+?#".into(),
            owner: Some("runner".into()),
            view: Some("job-1".into()),
        };
        let uri = files.to_uri();
        assert_eq!(uri, "/v1/files?path=/a%20b/%C3%BC%25%26%3D%2B%3F%23&owner=runner&view=job-1");
        assert_eq!(FilesQuery::parse(uri.split_once('?').unwrap().1), Some(files));
    }

    #[test]
    fn a_malformed_query_is_refused() {
        for bad in
            ["", "path", "owner=x", "path=/a&path=/b", "path=/a&x=y", "path=%4", "path=%zz", "path=%ff"]
        {
            assert_eq!(FilesQuery::parse(bad), None, "{bad}");
        }
    }
}
