//! What all calls share: the jobs that are open, their uploads, and the stores.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use chrono::Utc;
use terraphim_github_runner::engine::JobIdentity;

use super::{
    Settings,
    artifacts::Artifacts,
    caches::Caches,
    error::ServiceError,
    oidc::{IssuerKey, KeyError},
    policy::Scopes,
    staging::Staging,
    token::{BackendIds, Keys},
    upload::{Purpose, Upload},
};

/// A job that may call.
#[derive(Debug)]
pub(super) struct OpenJob {
    pub(super) ids: BackendIds,
    /// The number of its run.
    pub(super) run: i64,
    /// The runs that its run repeats in part, the newest first: their artifacts are there too.
    pub(super) earlier: Vec<i64>,
    pub(super) identity: JobIdentity,
    pub(super) scopes: Scopes,
    /// How its processes reach the services: `http://results.localhost:PORT`.
    pub(super) origin: String,
}

impl OpenJob {
    pub(super) fn repository(&self) -> &str {
        self.identity.github("repository")
    }
}

/// What all calls share.
pub(super) struct State {
    pub(super) keys: Keys,
    pub(super) artifacts: Artifacts,
    pub(super) caches: Caches,
    pub(super) settings: Settings,
    services: std::path::PathBuf,
    issuer_key: OnceLock<IssuerKey>,
    staging: Staging,
    // Std mutexes: taken for moments, never across a wait.
    jobs: Mutex<HashMap<String, Arc<OpenJob>>>,
    uploads: Mutex<HashMap<String, Arc<Upload>>>,
}

impl State {
    /// Opens the stores in the directory of the services and removes what has expired.
    pub(super) fn open(services: &Path, settings: Settings) -> Result<State, ServiceError> {
        let staging = Staging::open(services).map_err(ServiceError::io("use", services))?;
        let artifacts = Artifacts::new(services);
        artifacts.remove_expired(now_ms()).map_err(ServiceError::io("clean up", services))?;
        Ok(State {
            keys: Keys::random(),
            artifacts,
            caches: Caches::new(services, settings.cache_quota_bytes()),
            settings,
            services: services.to_owned(),
            issuer_key: OnceLock::new(),
            staging,
            jobs: Mutex::default(),
            uploads: Mutex::default(),
        })
    }

    /// Where everything is kept.
    pub(super) fn directory(&self) -> &Path {
        &self.services
    }

    /// The key of the issuer, made when it is needed first.
    pub(super) fn issuer_key(&self) -> Result<&IssuerKey, KeyError> {
        if let Some(key) = self.issuer_key.get() {
            return Ok(key);
        }
        let key = IssuerKey::load(&self.services)?;
        Ok(self.issuer_key.get_or_init(|| key))
    }

    fn jobs(&self) -> MutexGuard<'_, HashMap<String, Arc<OpenJob>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn uploads(&self) -> MutexGuard<'_, HashMap<String, Arc<Upload>>> {
        self.uploads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add_job(&self, job: Arc<OpenJob>) {
        self.jobs().insert(job.ids.job.clone(), job);
    }

    /// The job's tokens and addresses are no good any more, and its unfinished uploads are gone.
    pub(super) fn remove_job(&self, id: &str) {
        self.jobs().remove(id);
        let gone: Vec<Arc<Upload>> =
            self.uploads().extract_if(|_, upload| upload.job == id).map(|(_, upload)| upload).collect();
        // Files are removed after the lock was given back.
        drop(gone);
    }

    /// The open job of these ids.
    pub(super) fn job(&self, id: &str) -> Result<Arc<OpenJob>, ServiceError> {
        let ended = ServiceError::Unauthenticated("the job has ended");
        self.jobs().get(id).cloned().ok_or(ended)
    }

    /// Begins an upload.
    pub(super) fn begin(&self, job: &OpenJob, purpose: Purpose) -> Result<Arc<Upload>, ServiceError> {
        let limit = match &purpose {
            Purpose::Artifact { .. } => self.settings.artifact_limit_bytes(),
            // What can never be kept need not be taken.
            Purpose::Cache { .. } => self.caches.quota,
        };
        let id = uuid::Uuid::new_v4().simple().to_string();
        let directory = self.staging.make(&id).map_err(ServiceError::io("use", &self.services))?;
        let upload = Arc::new(Upload::new(&job.ids.job, purpose, limit, id.clone(), directory));
        self.uploads().insert(id, Arc::clone(&upload));
        Ok(upload)
    }

    /// The upload with this id.
    pub(super) fn upload(&self, id: &str) -> Result<Arc<Upload>, ServiceError> {
        let none = || ServiceError::NotFound("there is no such upload, or not any more".to_owned());
        self.uploads().get(id).cloned().ok_or_else(none)
    }

    /// The newest upload of a job that `fits`, one that was committed before others.
    pub(super) fn find_upload(&self, job: &str, fits: impl Fn(&Upload) -> bool) -> Option<Arc<Upload>> {
        let uploads = self.uploads();
        let of_job = uploads.values().filter(|upload| upload.job == job && fits(upload));
        of_job.max_by_key(|upload| (upload.committed().is_some(), upload.number)).cloned()
    }

    /// The upload was published, or is not wanted.
    pub(super) fn end(&self, upload: &Upload) {
        let gone = self.uploads().remove(&upload.id);
        drop(gone);
    }
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> i64 {
    Utc::now().timestamp_millis()
}
