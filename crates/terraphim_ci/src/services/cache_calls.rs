//! `github.actions.results.api.v1.CacheService`, and the calls of version 1 that older actions make.

use std::{path::Path, sync::Arc};

use axum::{
    Json,
    body::Body,
    extract::{Path as UrlPath, Query, State as Shared},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    blob,
    caches::CacheMeta,
    call::{Caller, int64, message},
    entry,
    error::ServiceError,
    policy::check_key,
    state::{OpenJob, State, now_ms},
    upload::{Committed, Purpose, Upload},
};

/// GitHub takes 10; a client of ours may have more, but not without end.
const RESTORE_KEYS_LIMIT: usize = 100;
const VERSION_LIMIT: usize = 512;

/// Answers one method of version 2.
pub(super) async fn call(
    state: &State,
    job: &OpenJob,
    method: &str,
    body: Body,
) -> Result<Json<Value>, ServiceError> {
    match method {
        "GetCacheEntryDownloadURL" => {
            let wanted: Wanted = message(body).await?;
            let found = find(state, job, &wanted.version, &wanted.key, &wanted.restore_keys)?;
            Ok(Json(match found {
                Some(meta) => json!({
                    "ok": true,
                    "signed_download_url": address(state, job, &meta),
                    "matched_key": meta.key,
                }),
                None => json!({"ok": false}),
            }))
        }
        "CreateCacheEntry" => {
            let new: New = message(body).await?;
            let upload = create(state, job, new.key, new.version)?;
            let address = blob::upload_address(state, job, &upload.id);
            Ok(Json(json!({"ok": true, "signed_upload_url": address})))
        }
        "FinalizeCacheEntryUpload" => finalize(state, job, &message(body).await?),
        _ => Err(ServiceError::NoRoute(format!("CacheService/{method}"))),
    }
}

#[derive(Deserialize)]
struct Wanted {
    key: String,
    #[serde(default)]
    restore_keys: Vec<String>,
    version: String,
}

#[derive(Deserialize)]
struct New {
    key: String,
    version: String,
}

#[derive(Deserialize)]
struct Finalize {
    key: String,
    version: String,
    #[serde(deserialize_with = "int64")]
    size_bytes: u64,
}

fn finalize(state: &State, job: &OpenJob, finalize: &Finalize) -> Result<Json<Value>, ServiceError> {
    let upload = state.find_upload(&job.ids.job, |upload| {
        matches!(&upload.purpose, Purpose::Cache { key, version, .. }
            if *key == finalize.key && *version == finalize.version)
    });
    let missing = || ServiceError::NotFound(format!("no upload for the key {:?} has begun", finalize.key));
    let upload = upload.ok_or_else(missing)?;
    let Some(committed) = upload.committed() else {
        return Ok(refused(&format!("nothing was uploaded for the key {:?}", finalize.key)));
    };
    if committed.size != finalize.size_bytes {
        let (theirs, ours) = (finalize.size_bytes, committed.size);
        return Ok(refused(&format!("the entry should have {theirs} bytes, {ours} came")));
    }
    match publish(state, job, &upload, committed)? {
        Some(id) => Ok(Json(json!({"ok": true, "entry_id": id.to_string()}))),
        None => Ok(refused(&format!("there is an entry with the key {:?} already", finalize.key))),
    }
}

fn refused(message: &str) -> Json<Value> {
    Json(json!({"ok": false, "message": message}))
}

fn find(
    state: &State,
    job: &OpenJob,
    version: &str,
    key: &str,
    restore_keys: &[String],
) -> Result<Option<CacheMeta>, ServiceError> {
    check_version(version)?;
    if restore_keys.len() > RESTORE_KEYS_LIMIT {
        return Err(ServiceError::invalid(format!("at most {RESTORE_KEYS_LIMIT} restore keys are possible")));
    }
    for key in restore_keys.iter().map(String::as_str).chain([key]) {
        check_key(key).map_err(ServiceError::Invalid)?;
    }
    let found = state.caches.find(job.repository(), &job.scopes.read, version, key, restore_keys);
    found.map_err(ServiceError::io("look through", Path::new("the caches")))
}

fn check_version(version: &str) -> Result<(), ServiceError> {
    if version.is_empty() || version.len() > VERSION_LIMIT {
        return Err(ServiceError::invalid(format!("version: use 1 to {VERSION_LIMIT} characters")));
    }
    Ok(())
}

fn create(state: &State, job: &OpenJob, key: String, version: String) -> Result<Arc<Upload>, ServiceError> {
    check_key(&key).map_err(ServiceError::Invalid)?;
    check_version(&version)?;
    let Some(scope) = job.scopes.write.clone() else {
        // Clients show what begins so as a warning.
        let message = "cache write denied: code from another repository writes no cache that a branch reads";
        return Err(ServiceError::Denied(message.to_owned()));
    };
    let exists = state.caches.exists(job.repository(), &scope, &key, &version);
    if exists.map_err(ServiceError::io("look through", Path::new("the caches")))? {
        return Err(ServiceError::Exists(format!("there is an entry with the key {key:?} already")));
    }
    state.begin(job, Purpose::Cache { scope, key, version })
}

/// Keeps an upload as an entry; gives its number, or nothing if there is one already.
fn publish(
    state: &State,
    job: &OpenJob,
    upload: &Upload,
    committed: Committed,
) -> Result<Option<u64>, ServiceError> {
    let Purpose::Cache { scope, key, version } = upload.purpose.clone() else {
        return Err(ServiceError::NotFound("that upload is no cache".to_owned()));
    };
    let meta = CacheMeta {
        id: entry::new_id(),
        repository: job.repository().to_owned(),
        scope,
        key,
        version,
        size: committed.size,
        digest: committed.digest,
        created_at_ms: now_ms(),
    };
    let published = state.caches.publish(&upload.directory, &meta);
    let published = published.map_err(ServiceError::io("keep", &upload.directory))?;
    state.end(upload);
    Ok(published.then_some(meta.id))
}

fn address(state: &State, job: &OpenJob, meta: &CacheMeta) -> String {
    let place = state.caches.place(&meta.repository, &meta.scope, &meta.key, &meta.version);
    blob::download_address(state, job, "caches", &place)
}

#[derive(Deserialize)]
pub(super) struct WantedV1 {
    keys: String,
    version: String,
}

/// `GET /_apis/artifactcache/cache`
pub(super) async fn find_v1(
    Shared(state): Shared<Arc<State>>,
    Caller(job): Caller,
    query: Result<Query<WantedV1>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, ServiceError> {
    let Query(wanted) = query.map_err(|error| ServiceError::invalid(error.body_text()))?;
    let mut keys = wanted.keys.split(',').map(|key| key.trim().to_owned());
    let key = keys.next().unwrap_or_default();
    let restore_keys: Vec<String> = keys.filter(|key| !key.is_empty()).collect();
    Ok(match find(&state, &job, &wanted.version, &key, &restore_keys)? {
        Some(meta) => Json(json!({
            "cacheKey": meta.key,
            "scope": meta.scope,
            "archiveLocation": address(&state, &job, &meta),
        }))
        .into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    })
}

/// `POST /_apis/artifactcache/caches`
pub(super) async fn create_v1(
    Shared(state): Shared<Arc<State>>,
    Caller(job): Caller,
    body: Body,
) -> Result<Response, ServiceError> {
    let new: New = message(body).await?;
    let upload = create(&state, &job, new.key, new.version)?;
    Ok((StatusCode::CREATED, Json(json!({"cacheId": upload.number}))).into_response())
}

/// `PATCH /_apis/artifactcache/caches/{number}`
pub(super) async fn upload_v1(
    Shared(state): Shared<Arc<State>>,
    Caller(job): Caller,
    UrlPath(number): UrlPath<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, ServiceError> {
    let upload = numbered(&state, &job, &number)?;
    let range = headers.get(header::CONTENT_RANGE).and_then(|range| range.to_str().ok());
    let (start, end) = range
        .and_then(range_of)
        .ok_or_else(|| ServiceError::invalid("content-range: `bytes FIRST-LAST/*` is expected"))?;
    upload.put_range(start, end, body).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct CommitV1 {
    #[serde(deserialize_with = "int64")]
    size: u64,
}

/// `POST /_apis/artifactcache/caches/{number}`
pub(super) async fn commit_v1(
    Shared(state): Shared<Arc<State>>,
    Caller(job): Caller,
    UrlPath(number): UrlPath<String>,
    body: Body,
) -> Result<StatusCode, ServiceError> {
    let upload = numbered(&state, &job, &number)?;
    let commit: CommitV1 = message(body).await?;
    let committed = upload.commit_ranges(commit.size).await?;
    match publish(&state, &job, &upload, committed)? {
        Some(_) => Ok(StatusCode::NO_CONTENT),
        None => Err(ServiceError::Exists("there is an entry with this key already".to_owned())),
    }
}

fn numbered(state: &State, job: &OpenJob, number: &str) -> Result<Arc<Upload>, ServiceError> {
    let found = state.find_upload(&job.ids.job, |upload| {
        matches!(upload.purpose, Purpose::Cache { .. }) && upload.number.to_string() == number
    });
    found.ok_or_else(|| ServiceError::NotFound(format!("no upload of this job has the number {number:?}")))
}

/// `bytes 0-9/*` is the ten bytes from 0 to 10.
fn range_of(header: &str) -> Option<(u64, u64)> {
    let (range, _) = header.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last.checked_add(1)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        assert_eq!(range_of("bytes 0-9/*"), Some((0, 10)));
        for bad in
            ["", "bytes 9-0/*", "bytes 0-/*", "0-9/*", "bytes -1-9/*", &format!("bytes 0-{}/*", u64::MAX)]
        {
            assert_eq!(range_of(bad), None, "{bad}");
        }
    }
}
