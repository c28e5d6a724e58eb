//! Bytes in and out, in the dialect of Azure's block blobs, at addresses that are signed.
//!
//! Clients send no token here: whoever has the address may use it, while its job runs and until it expires.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::{
    body::Body,
    extract::{Path as UrlPath, RawQuery, State as Shared},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use quick_xml::{Reader, events::Event};
use tokio_util::io::ReaderStream;

use super::{
    artifacts::ArtifactMeta,
    call::text,
    entry,
    error::ServiceError,
    state::{OpenJob, State},
    token,
    upload::BLOCKS_LIMIT,
};

/// Longer than any upload that a client does not give up itself.
const ADDRESS_SECONDS: u64 = 6 * 3600;
/// A list of [`BLOCKS_LIMIT`] blocks has about 5 MB.
const LIST_LIMIT: usize = 8 << 20;
/// Read at once from a file.
const CHUNK: usize = 256 * 1024;

const UPLOADS: &str = "uploads";

/// Where an upload's bytes go.
pub(super) fn upload_address(state: &State, job: &OpenJob, upload: &str) -> String {
    address(state, job, &format!("{UPLOADS}/{upload}"))
}

/// Where the bytes of an entry come from: `kind` is the directory, `place` the entry's own.
pub(super) fn download_address(state: &State, job: &OpenJob, kind: &str, place: &Path) -> String {
    let last = |path: Option<&Path>| path?.file_name().map(|name| name.to_string_lossy().into_owned());
    let group = last(place.parent()).unwrap_or_default();
    let name = last(Some(place)).unwrap_or_default();
    // Without an ending: clients take `.zip` for an archive whatever the content type says.
    address(state, job, &format!("{kind}/{group}/{name}"))
}

fn address(state: &State, job: &OpenJob, what: &str) -> String {
    let (id, until) = (&job.ids.job, token::now() + ADDRESS_SECONDS);
    let signature = state.keys.sign(&signed(what, id, until));
    // `sig` is the parameter that clients hide in logs.
    format!("{}/blobs/{what}?job={id}&se={until}&sig={signature}", job.origin)
}

fn signed(what: &str, job: &str, until: u64) -> String {
    format!("{what}\n{job}\n{until}")
}

/// The parameters that we know; the client adds its own.
fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

/// Checks that the address is one of ours, in time, and of a job that runs.
fn check(state: &State, what: &str, query: &str) -> Result<(), ServiceError> {
    let wrong = ServiceError::Denied("the signature of the address is wrong".to_owned());
    let (job, until) = (parameter(query, "job"), parameter(query, "se").and_then(|se| se.parse().ok()));
    let (Some(job), Some(until), Some(signature)) = (job, until, parameter(query, "sig")) else {
        return Err(wrong);
    };
    if !state.keys.is_signature(&signed(what, job, until), signature) {
        return Err(wrong);
    }
    if until < token::now() {
        return Err(ServiceError::Denied("the address has expired".to_owned()));
    }
    state.job(job).map(drop)
}

/// `PUT /blobs/uploads/{id}`: a block, a list of blocks, or everything.
pub(super) async fn put(
    Shared(state): Shared<Arc<State>>,
    UrlPath(id): UrlPath<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ServiceError> {
    let query = query.unwrap_or_default();
    check(&state, &format!("{UPLOADS}/{id}"), &query)?;
    let upload = state.upload(&id)?;
    match parameter(&query, "comp") {
        Some("block") => {
            let block = parameter(&query, "blockid").unwrap_or_default();
            upload.put_block(&unescaped(block), body).await?;
        }
        Some("blocklist") => {
            let list = text(body, LIST_LIMIT).await?;
            upload.commit_list(block_ids(&list)?).await?;
        }
        None => {
            let kind = headers.get("x-ms-blob-type");
            if kind.is_some_and(|kind| kind != "BlockBlob") {
                return Err(ServiceError::invalid("x-ms-blob-type: only BlockBlob is possible"));
            }
            upload.put_whole(body).await?;
        }
        Some(other) => return Err(ServiceError::invalid(format!("comp={other} is not possible"))),
    }
    let request_id = uuid::Uuid::new_v4().to_string();
    let answer = [
        (HeaderName::from_static("x-ms-request-id"), request_id.clone()),
        (HeaderName::from_static("x-ms-version"), "2026-04-06".to_owned()),
        (header::ETAG, format!("\"{request_id}\"")),
    ];
    Ok((StatusCode::CREATED, answer).into_response())
}

/// A block's id as it is in the list: base64, whose `+`, `/` and `=` are escaped in an address.
fn unescaped(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        let digit =
            |byte: Option<u8>| char::from(byte?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        match byte {
            b'%' => match (digit(bytes.next()), digit(bytes.next())) {
                (Some(high), Some(low)) => out.push(high << 4 | low),
                // No id that a list could name.
                _ => return String::new(),
            },
            byte => out.push(byte),
        }
    }
    String::from_utf8(out).unwrap_or_default()
}

/// The ids in `<BlockList><Latest>id</Latest>...</BlockList>`.
fn block_ids(list: &[u8]) -> Result<Vec<String>, ServiceError> {
    let bad = |why: &dyn std::fmt::Display| {
        ServiceError::invalid(format!("the block list cannot be understood: {why}"))
    };
    let list = std::str::from_utf8(list).map_err(|error| bad(&error))?;
    let mut reader = Reader::from_str(list);
    let mut ids = Vec::new();
    let mut path: Vec<String> = Vec::new();
    let mut id = String::new();
    loop {
        match reader.read_event().map_err(|error| bad(&error))? {
            Event::Start(start) => {
                path.push(start.name().as_ref().to_owned());
                id.clear();
            }
            // Base64 has nothing that would have to be escaped.
            Event::Text(text) => id += text.as_ref(),
            Event::End(_) => {
                match path.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
                    ["BlockList", "Latest" | "Uncommitted" | "Committed"] => ids.push(id.trim().to_owned()),
                    ["BlockList"] => {}
                    _ => return Err(bad(&"an element that is no block")),
                }
                path.pop();
                if ids.len() > BLOCKS_LIMIT {
                    return Err(bad(&format!("more than {BLOCKS_LIMIT} blocks")));
                }
            }
            Event::Decl(_) | Event::Comment(_) => {}
            Event::Empty(start) if path.is_empty() && start.name().as_ref() == "BlockList" => return Ok(ids),
            Event::Eof if path.is_empty() => return Ok(ids),
            Event::Eof => return Err(bad(&"it ends in the middle")),
            _ => return Err(bad(&"something in it is neither an element nor a text")),
        }
    }
}

/// `GET /blobs/{kind}/{group}/{entry}`
pub(super) async fn get(
    Shared(state): Shared<Arc<State>>,
    UrlPath((kind, group, name)): UrlPath<(String, String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Response, ServiceError> {
    check(&state, &format!("{kind}/{group}/{name}"), &query.unwrap_or_default())?;
    // What is signed was made by us, so it is a place in the store and nothing else.
    let place = state.directory().join(&kind).join(&group).join(&name);
    let gone = || ServiceError::NotFound("it is not there any more".to_owned());
    let meta = match kind.as_str() {
        "artifacts" => {
            let meta = entry::read::<ArtifactMeta>(&place).map_err(ServiceError::io("read", &place))?;
            Some(meta.ok_or_else(gone)?)
        }
        _ => None,
    };
    serve(&entry::content(&place), meta.as_ref()).await
}

async fn serve(path: &PathBuf, artifact: Option<&ArtifactMeta>) -> Result<Response, ServiceError> {
    let file = match tokio::fs::File::open(path).await {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(ServiceError::NotFound("it is not there any more".to_owned()));
        }
        Err(error) => return Err(ServiceError::io("read", path)(error)),
    };
    let length = file.metadata().await.map_err(ServiceError::io("read", path))?.len();
    let mut response = Response::new(Body::from_stream(ReaderStream::with_capacity(file, CHUNK)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, length.into());
    let content_type = artifact.map_or("application/octet-stream", |meta| meta.content_type.as_str());
    let content_type = HeaderValue::from_str(content_type);
    let octets = HeaderValue::from_static("application/octet-stream");
    headers.insert(header::CONTENT_TYPE, content_type.unwrap_or(octets));
    if let Some(meta) = artifact {
        let disposition = HeaderValue::from_str(&disposition(meta)).expect("everything odd is escaped");
        headers.insert(header::CONTENT_DISPOSITION, disposition);
    }
    Ok(response)
}

/// The file's name, escaped as RFC 8187 has it.
fn disposition(meta: &ArtifactMeta) -> String {
    use std::fmt::Write as _;
    let ending = if meta.is_zip() && !meta.name.ends_with(".zip") { ".zip" } else { "" };
    let mut text = "attachment; filename*=UTF-8''".to_owned();
    for byte in meta.name.bytes().chain(ending.bytes()) {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_lists() {
        let list = br#"<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
            <BlockList><Latest>YQ==</Latest> <Latest>b+/=</Latest><Uncommitted>c</Uncommitted></BlockList>"#;
        assert_eq!(block_ids(list).unwrap(), ["YQ==", "b+/=", "c"]);
        assert!(block_ids(b"<BlockList></BlockList>").unwrap().is_empty());
        assert!(block_ids(b"<BlockList/>").unwrap().is_empty());
        for bad in [
            &b"<BlockList>"[..],
            b"<BlockList><Latest>a</BlockList>",
            b"<Other><Latest>a</Latest></Other>",
            b"<BlockList><Latest><Latest>a</Latest></Latest></BlockList>",
            b"<!DOCTYPE x [<!ENTITY a \"b\">]><BlockList/>",
            b"\xff\xfe",
        ] {
            assert!(block_ids(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn block_ids_are_unescaped() {
        assert_eq!(unescaped("YQ%3D%3D"), "YQ==");
        assert_eq!(unescaped("a%2"), "");
        assert_eq!(unescaped("a%ff"), "");
    }
}
