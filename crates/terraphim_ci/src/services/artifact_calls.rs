//! `github.actions.results.api.v1.ArtifactService`. Fields that are not named here are ignored, as proto3 asks.

use axum::{Json, body::Body};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    artifacts::{ArtifactMeta, check_name},
    blob,
    call::{int64, message},
    entry,
    error::ServiceError,
    state::{OpenJob, State, now_ms},
    upload::Purpose,
};

type Answer = Result<Json<Value>, ServiceError>;

const ZIP: &str = "application/zip";
const DAY_MS: i64 = 24 * 3600 * 1000;

/// The ids that every message repeats from the token.
#[derive(Deserialize)]
struct Ids {
    workflow_run_backend_id: String,
    workflow_job_run_backend_id: String,
}

impl Ids {
    /// Whether the message is about the caller's own job.
    fn check(&self, job: &OpenJob) -> Result<(), ServiceError> {
        self.check_run(job)?;
        if self.workflow_job_run_backend_id != job.ids.job {
            return Err(ServiceError::Denied("the message names another job than the token".to_owned()));
        }
        Ok(())
    }

    fn check_run(&self, job: &OpenJob) -> Result<(), ServiceError> {
        if self.workflow_run_backend_id != job.ids.run {
            return Err(ServiceError::Denied("the message names another run than the token".to_owned()));
        }
        Ok(())
    }

    /// Whether the message is about this artifact: clients name the job that made it.
    fn check_artifact(&self, job: &OpenJob, meta: &ArtifactMeta) -> Result<(), ServiceError> {
        if self.workflow_job_run_backend_id == meta.job_backend_id {
            return Ok(());
        }
        self.check(job)
    }
}

/// Answers one method.
pub(super) async fn call(state: &State, job: &OpenJob, method: &str, body: Body) -> Answer {
    match method {
        "CreateArtifact" => create(state, job, message(body).await?),
        "FinalizeArtifact" => finalize(state, job, &message(body).await?),
        "ListArtifacts" => list(state, job, &message(body).await?),
        "GetSignedArtifactURL" => signed_url(state, job, &message(body).await?),
        "DeleteArtifact" => delete(state, job, &message(body).await?),
        _ => Err(ServiceError::NoRoute(format!("ArtifactService/{method}"))),
    }
}

#[derive(Deserialize)]
struct Create {
    #[serde(flatten)]
    ids: Ids,
    name: String,
    expires_at: Option<String>,
    mime_type: Option<String>,
}

fn create(state: &State, job: &OpenJob, create: Create) -> Answer {
    create.ids.check(job)?;
    check_name(&create.name).map_err(ServiceError::Invalid)?;
    let now = now_ms();
    let latest = now + i64::from(state.settings.artifact_retention_days) * DAY_MS;
    let expires_at_ms = match &create.expires_at {
        None => latest,
        Some(text) => {
            let bad = |_| ServiceError::invalid(format!("expires_at: {text:?} is not a time"));
            text.parse::<Timestamp>().map_err(bad)?.as_millisecond().min(latest)
        }
    };
    if expires_at_ms <= now {
        return Err(ServiceError::invalid("expires_at: the artifact would have expired already"));
    }
    let content_type = create.mime_type.filter(|text| !text.is_empty()).unwrap_or_else(|| ZIP.to_owned());
    if axum::http::HeaderValue::from_str(&content_type).is_err() || content_type.len() > 255 {
        return Err(ServiceError::invalid(format!("mime_type: {content_type:?} is none")));
    }
    // One of a run that this one repeats is hidden by the new one. GitHub refuses it, and so a job that uploads before it fails
    // cannot be repeated there; nothing is lost here, where every attempt has its own.
    if of_run(state, job.run, &create.name)?.is_some() {
        return Err(exists(&create.name));
    }
    let purpose = Purpose::Artifact { name: create.name, content_type, expires_at_ms };
    let upload = state.begin(job, purpose)?;
    Ok(Json(json!({"ok": true, "signed_upload_url": blob::upload_address(state, job, &upload.id)})))
}

#[derive(Deserialize)]
struct Finalize {
    #[serde(flatten)]
    ids: Ids,
    name: String,
    #[serde(deserialize_with = "int64")]
    size: u64,
    hash: Option<String>,
}

fn finalize(state: &State, job: &OpenJob, finalize: &Finalize) -> Answer {
    finalize.ids.check(job)?;
    let upload = state.find_upload(
        &job.ids.job,
        |upload| matches!(&upload.purpose, Purpose::Artifact { name, .. } if *name == finalize.name),
    );
    let upload = upload.ok_or_else(|| missing(&finalize.name))?;
    let Purpose::Artifact { content_type, expires_at_ms, .. } = &upload.purpose else {
        return Err(missing(&finalize.name));
    };
    let nothing = || ServiceError::invalid(format!("nothing was uploaded for {:?}", finalize.name));
    let committed = upload.committed().ok_or_else(nothing)?;
    let wrong = |what: &str, theirs: &str, ours: &str| {
        let name = &finalize.name;
        Err(ServiceError::invalid(format!("artifact {name:?}: the {what} should be {theirs}, {ours} came")))
    };
    if committed.size != finalize.size {
        return wrong("length", &finalize.size.to_string(), &committed.size.to_string());
    }
    if let Some(hash) = finalize.hash.as_deref().filter(|hash| !hash.eq_ignore_ascii_case(&committed.digest))
    {
        return wrong("digest", hash, &committed.digest);
    }
    let meta = ArtifactMeta {
        id: entry::new_id(),
        run: job.run,
        repository: job.repository().to_owned(),
        job: job.identity.job.to_string(),
        job_backend_id: job.ids.job.clone(),
        name: finalize.name.clone(),
        size: committed.size,
        digest: committed.digest,
        content_type: content_type.clone(),
        created_at_ms: now_ms(),
        expires_at_ms: *expires_at_ms,
    };
    let published = state.artifacts.publish(&upload.directory, &meta);
    let published = published.map_err(ServiceError::io("keep", &upload.directory))?;
    state.end(&upload);
    if !published {
        return Err(exists(&finalize.name));
    }
    Ok(Json(json!({"ok": true, "artifact_id": meta.id.to_string()})))
}

#[derive(Deserialize)]
struct List {
    #[serde(flatten)]
    ids: Ids,
    name_filter: Option<String>,
    id_filter: Option<String>,
}

fn list(state: &State, job: &OpenJob, list: &List) -> Answer {
    list.ids.check(job)?;
    let mut all = visible(state, job)?;
    all.retain(|meta| list.name_filter.as_ref().is_none_or(|name| meta.name == *name));
    all.retain(|meta| list.id_filter.as_ref().is_none_or(|id| meta.id.to_string() == *id));
    let described = all.iter().map(|meta| {
        json!({
            "workflow_run_backend_id": job.ids.run,
            "workflow_job_run_backend_id": meta.job_backend_id,
            "database_id": meta.id.to_string(),
            "name": meta.name,
            "size": meta.size.to_string(),
            "created_at": time(meta.created_at_ms),
            "digest": meta.digest,
        })
    });
    Ok(Json(json!({"artifacts": described.collect::<Vec<_>>()})))
}

#[derive(Deserialize)]
struct Named {
    #[serde(flatten)]
    ids: Ids,
    name: String,
}

fn signed_url(state: &State, job: &OpenJob, named: &Named) -> Answer {
    named.ids.check_run(job)?;
    let meta = get(state, job, &named.name)?.ok_or_else(|| missing(&named.name))?;
    named.ids.check_artifact(job, &meta)?;
    let place = state.artifacts.place(meta.run, &meta.name);
    Ok(Json(json!({"signed_url": blob::download_address(state, job, "artifacts", &place)})))
}

fn delete(state: &State, job: &OpenJob, named: &Named) -> Answer {
    named.ids.check_run(job)?;
    let meta = get(state, job, &named.name)?.ok_or_else(|| missing(&named.name))?;
    named.ids.check_artifact(job, &meta)?;
    let removed = state.artifacts.remove(&meta);
    if !removed.map_err(ServiceError::io("remove", std::path::Path::new("an artifact")))? {
        return Err(missing(&named.name));
    }
    Ok(Json(json!({"ok": true, "artifact_id": meta.id.to_string()})))
}

/// The runs whose artifacts a job sees: GitHub has one run for all attempts, and what jobs made that do not run again is there.
fn runs(job: &OpenJob) -> impl Iterator<Item = i64> + '_ {
    std::iter::once(job.run).chain(job.earlier.iter().copied())
}

/// The artifacts that a job sees, oldest first; of two with a name the newer one.
fn visible(state: &State, job: &OpenJob) -> Result<Vec<ArtifactMeta>, ServiceError> {
    let mut all: Vec<ArtifactMeta> = Vec::new();
    for run in runs(job) {
        let listed = state.artifacts.list(run, now_ms());
        let mut listed = listed.map_err(ServiceError::io("list", std::path::Path::new("artifacts")))?;
        listed.retain(|meta| all.iter().all(|newer| newer.name != meta.name));
        all.append(&mut listed);
    }
    all.sort_by_key(|meta| meta.id);
    Ok(all)
}

/// The artifact of this name that a job sees.
fn get(state: &State, job: &OpenJob, name: &str) -> Result<Option<ArtifactMeta>, ServiceError> {
    for run in runs(job) {
        if let Some(meta) = of_run(state, run, name)? {
            return Ok(Some(meta));
        }
    }
    Ok(None)
}

fn of_run(state: &State, run: i64, name: &str) -> Result<Option<ArtifactMeta>, ServiceError> {
    let found = state.artifacts.get(run, name, now_ms());
    found.map_err(ServiceError::io("read", std::path::Path::new("an artifact")))
}

fn missing(name: &str) -> ServiceError {
    ServiceError::NotFound(format!("this run has no artifact {name:?}"))
}

fn exists(name: &str) -> ServiceError {
    ServiceError::Exists(format!("an artifact with this name already exists on the workflow run: {name:?}"))
}

/// RFC 3339, as proto3's JSON has times.
fn time(at_ms: i64) -> String {
    // Always three digits: the clients' protobuf reader refuses a fraction of one or two.
    format!("{:.3}", Timestamp::from_millisecond(at_ms).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #[test]
    fn times_have_three_digits_of_a_second_whatever_they_are() {
        assert_eq!(super::time(1_795_653_439_020), "2026-11-26T00:37:19.020Z");
        assert_eq!(super::time(1_795_653_439_000), "2026-11-26T00:37:19.000Z");
    }
}
