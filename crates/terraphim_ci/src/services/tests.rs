//! The protocols as official clients speak them, over the router. What those clients themselves do is shown by the test
//! that runs them in a VM.

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Method, Request, StatusCode, header},
};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use indexmap::IndexMap;
use serde_json::{Value, json};
use terraphim_github_runner::{
    action::WorkflowPlace,
    engine::{JobIdentity, JobKey},
};

use super::{
    access::{access, open_job},
    entry,
    server::router,
    settings::Settings,
    state::{OpenJob, State},
    token::Use,
};

const ARTIFACTS: &str = "github.actions.results.api.v1.ArtifactService";
const CACHES: &str = "github.actions.results.api.v1.CacheService";

/// A push to the default branch.
pub(super) fn identity() -> JobIdentity {
    let github = [
        ("repository", "acme/tool"),
        ("repository_owner", "acme"),
        ("ref", "refs/heads/main"),
        ("event_name", "push"),
        ("run_id", "77"),
        ("server_url", "https://github.com"),
    ];
    JobIdentity {
        run_id: uuid::Uuid::from_u128(7),
        job: JobKey::new("build", None),
        vm_id: "0123456789ab".to_owned(),
        github: github
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into_iter()
            .collect::<IndexMap<_, _>>(),
        workflow: WorkflowPlace {
            reference: "acme/flows/.github/workflows/build.yml@refs/tags/v1".to_owned(),
            commit: "0123456789abcdef0123456789abcdef01234567".to_owned(),
        },
        default_branch: Some("main".to_owned()),
        environment: None,
        is_from_outside: false,
        may_request_id_token: true,
    }
}

struct World {
    state: Arc<State>,
    router: Router,
    directory: Option<tempfile::TempDir>,
}

/// What came back.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("{:?}", String::from_utf8_lossy(&self.body)))
    }

    /// Refused with this status, in the shape that clients expect.
    fn refused(&self, status: u16, code: &str) {
        let said = self.json();
        assert_eq!((self.status.as_u16(), said["code"].as_str()), (status, Some(code)), "{said}");
        assert!(said["msg"].as_str().is_some_and(|text| !text.is_empty()), "{said}");
    }
}

/// A job that calls.
struct Job<'a> {
    world: &'a World,
    open: Arc<OpenJob>,
    token: String,
}

impl World {
    fn new() -> World {
        World::with(Settings::default())
    }

    fn with(settings: Settings) -> World {
        let directory = tempfile::tempdir().unwrap();
        let state = Arc::new(State::open(directory.path(), settings).unwrap());
        World { router: router(Arc::clone(&state)), state, directory: Some(directory) }
    }

    fn job(&self, run: i64, identity: &JobIdentity) -> Job<'_> {
        let run_id = uuid::Uuid::from_u128(run.unsigned_abs().into());
        self.add(open_job(run, &JobIdentity { run_id, ..identity.clone() }, 4321))
    }

    fn add(&self, open: OpenJob) -> Job<'_> {
        let (access, _) = access(&self.state, &open);
        let open = Arc::new(open);
        self.state.add_job(Arc::clone(&open));
        Job { world: self, open, token: access.actions["ACTIONS_RUNTIME_TOKEN"].clone() }
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        // The same service that serves connections.
        let service = TowerToHyperService::new(self.router.clone());
        let (head, body) = service.call(request).await.unwrap().into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap().to_vec();
        Answer { status: head.status, headers: head.headers, body }
    }

    /// A request without a token.
    async fn plain(
        &self,
        method: Method,
        address: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(address);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(body.into()).unwrap()).await
    }

    async fn put(&self, address: &str, more: &str, body: impl Into<Body>) -> Answer {
        self.plain(Method::PUT, &format!("{address}{more}"), &[], body).await
    }

    async fn get(&self, address: &str) -> Answer {
        self.plain(Method::GET, address, &[], "").await
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Whatever was uploaded and not finished goes with the server.
        let directory = self.directory.take().unwrap();
        let jobs: Vec<String> = entry::directories(&directory.path().join("uploads"))
            .unwrap()
            .iter()
            .flat_map(|server| entry::directories(server).unwrap())
            .map(|upload| upload.display().to_string())
            .collect();
        if !std::thread::panicking() {
            assert!(jobs.is_empty(), "uploads were left: {jobs:?}");
        }
    }
}

impl Job<'_> {
    async fn bearer(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        let authorization = format!("Bearer {}", self.token);
        let mut all = headers.to_vec();
        all.push(("authorization", &authorization));
        self.world.plain(method, path, &all, body).await
    }

    async fn call(&self, service: &str, method: &str, message: Value) -> Answer {
        self.bearer(Method::POST, &format!("/twirp/{service}/{method}"), &[], message.to_string()).await
    }

    fn with_ids(&self, mut message: Value) -> Value {
        message["workflow_run_backend_id"] = json!(self.open.ids.run);
        message["workflow_job_run_backend_id"] = json!(self.open.ids.job);
        message
    }

    async fn artifacts(&self, method: &str, message: Value) -> Answer {
        self.call(ARTIFACTS, method, self.with_ids(message)).await
    }

    /// Uploads an artifact in two blocks that come in the wrong order.
    async fn upload(&self, name: &str, message: Value, content: &[u8]) -> Answer {
        let mut message = message;
        message["name"] = json!(name);
        message["version"] = json!(7);
        let created = self.artifacts("CreateArtifact", message).await;
        if created.status != StatusCode::OK {
            return created;
        }
        let address = created.json()["signed_upload_url"].as_str().unwrap().to_owned();
        let (first, second) = content.split_at(content.len() / 2);
        for (id, block) in [("Yg%3D%3D", second), ("YQ%3D%3D", first)] {
            let more = format!("&comp=block&blockid={id}");
            assert_eq!(self.world.put(&address, &more, block.to_vec()).await.status, 201);
        }
        let list = "<BlockList><Latest>YQ==</Latest><Latest>Yg==</Latest></BlockList>";
        assert_eq!(self.world.put(&address, "&comp=blocklist", list).await.status, 201);
        let hash = entry::hex(ring::digest::digest(&ring::digest::SHA256, content).as_ref());
        let finalize =
            json!({"name": name, "size": content.len().to_string(), "hash": format!("sha256:{hash}")});
        self.artifacts("FinalizeArtifact", finalize).await
    }

    async fn save(&self, key: &str, content: &str) -> Answer {
        let created = self.call(CACHES, "CreateCacheEntry", json!({"key": key, "version": "v"})).await;
        if created.status != StatusCode::OK {
            return created;
        }
        let address = created.json()["signed_upload_url"].as_str().unwrap().to_owned();
        let headers = [("x-ms-blob-type", "BlockBlob")];
        let put = self.world.plain(Method::PUT, &address, &headers, content.to_owned()).await;
        assert_eq!(put.status, 201);
        let message = json!({"key": key, "version": "v", "size_bytes": content.len().to_string()});
        self.call(CACHES, "FinalizeCacheEntryUpload", message).await
    }

    /// The key and the content of what is found.
    async fn restore(&self, key: &str, restore_keys: &[&str]) -> Option<(String, String)> {
        let message = json!({"key": key, "restore_keys": restore_keys, "version": "v"});
        let found = self.call(CACHES, "GetCacheEntryDownloadURL", message).await.json();
        if found["ok"] == json!(false) {
            return None;
        }
        let content = self.world.get(found["signed_download_url"].as_str().unwrap()).await;
        assert_eq!(content.status, 200);
        Some((found["matched_key"].as_str().unwrap().to_owned(), String::from_utf8(content.body).unwrap()))
    }
}

#[tokio::test]
async fn an_artifact_is_uploaded_in_blocks_listed_downloaded_and_deleted() {
    let world = World::new();
    let (maker, reader) = (world.job(1, &identity()), world.job(1, &identity()));
    let stranger = world.job(2, &identity());
    let finalized = maker.upload("my art", json!({}), b"hello world").await.json();
    assert_eq!(finalized["ok"], true);
    let id = finalized["artifact_id"].as_str().unwrap().to_owned();
    // Another job of the run, by name and by id.
    for filter in [json!({}), json!({"name_filter": "my art"}), json!({"id_filter": id})] {
        let listed = reader.artifacts("ListArtifacts", filter).await.json();
        let [artifact] = listed["artifacts"].as_array().unwrap().as_slice() else { panic!("{listed}") };
        assert_eq!((&artifact["database_id"], &artifact["size"]), (&json!(id), &json!("11")));
        assert_eq!(artifact["workflow_job_run_backend_id"], json!(maker.open.ids.job));
    }
    for filter in [json!({"name_filter": "my"}), json!({"id_filter": "1"})] {
        let listed = reader.artifacts("ListArtifacts", filter).await.json();
        assert_eq!(listed, json!({"artifacts": []}));
    }
    assert_eq!(stranger.artifacts("ListArtifacts", json!({})).await.json(), json!({"artifacts": []}));
    // Clients name the job that made it.
    let message = maker.with_ids(json!({"name": "my art"}));
    let signed = reader.call(ARTIFACTS, "GetSignedArtifactURL", message.clone()).await.json();
    let content = world.get(signed["signed_url"].as_str().unwrap()).await;
    assert_eq!((content.status.as_u16(), content.body.as_slice()), (200, &b"hello world"[..]));
    assert_eq!(content.headers[header::CONTENT_TYPE], "application/zip");
    assert_eq!(content.headers[header::CONTENT_LENGTH], "11");
    let disposition = content.headers[header::CONTENT_DISPOSITION].to_str().unwrap();
    assert_eq!(disposition, "attachment; filename*=UTF-8''my%20art.zip");
    stranger.call(ARTIFACTS, "GetSignedArtifactURL", message.clone()).await.refused(403, "permission_denied");
    stranger.artifacts("DeleteArtifact", json!({"name": "my art"})).await.refused(404, "not_found");
    assert_eq!(
        reader.call(ARTIFACTS, "DeleteArtifact", message.clone()).await.json()["artifact_id"],
        json!(id)
    );
    reader.call(ARTIFACTS, "DeleteArtifact", message).await.refused(404, "not_found");
    world.get(signed["signed_url"].as_str().unwrap()).await.refused(404, "not_found");
}

#[tokio::test]
async fn artifacts_of_the_runs_that_a_run_repeats_in_part_are_there_until_it_makes_newer_ones() {
    let world = World::new();
    // GitHub: the id of a run stays when it is repeated.
    let first = world.add(open_job(1, &identity(), 4321));
    let second = world.add(OpenJob { earlier: vec![1], ..open_job(2, &identity(), 4321) });
    let whole = world.add(open_job(3, &identity(), 4321));
    for name in ["built", "report"] {
        assert_eq!(first.upload(name, json!({}), b"of 1").await.json()["ok"], true);
    }
    assert_eq!(second.upload("report", json!({}), b"of 2, longer").await.json()["ok"], true);
    second.upload("report", json!({}), b"again").await.refused(409, "already_exists");
    let sizes = async |job: &Job<'_>| {
        let listed = job.artifacts("ListArtifacts", json!({})).await.json();
        let mut sizes: Vec<String> = listed["artifacts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| format!("{} {}", it["name"], it["size"]).replace('"', ""))
            .collect();
        sizes.sort();
        sizes
    };
    assert_eq!(sizes(&second).await, ["built 4", "report 12"]);
    assert_eq!(sizes(&first).await, ["built 4", "report 4"]);
    assert!(sizes(&whole).await.is_empty());
    let content = async |maker: &Job<'_>, name: &str| {
        let message = maker.with_ids(json!({"name": name}));
        let signed = second.call(ARTIFACTS, "GetSignedArtifactURL", message).await.json();
        world.get(signed["signed_url"].as_str().unwrap()).await.body
    };
    assert_eq!(content(&first, "built").await, b"of 1");
    assert_eq!(content(&second, "report").await, b"of 2, longer");
    whole
        .call(ARTIFACTS, "GetSignedArtifactURL", first.with_ids(json!({"name": "built"})))
        .await
        .refused(404, "not_found");
}

#[tokio::test]
async fn a_name_is_there_once_until_it_is_deleted_and_raw_files_keep_their_type() {
    let world = World::new();
    let job = world.job(1, &identity());
    let raw = json!({"mime_type": "text/plain; charset=utf-8"});
    assert_eq!(job.upload("a.zip", raw, b"first").await.status, 200);
    job.upload("a.zip", json!({}), b"second").await.refused(409, "already_exists");
    let message = job.with_ids(json!({"name": "a.zip"}));
    let signed = job.call(ARTIFACTS, "GetSignedArtifactURL", message.clone()).await.json();
    let address = signed["signed_url"].as_str().unwrap();
    // Clients take an address that ends so for an archive.
    assert!(!address.split('?').next().unwrap().ends_with(".zip"), "{address}");
    assert_eq!(world.get(address).await.headers[header::CONTENT_TYPE], "text/plain; charset=utf-8");
    job.call(ARTIFACTS, "DeleteArtifact", message).await;
    assert_eq!(job.upload("a.zip", json!({}), b"second").await.status, 200);
    // Another run has names of its own.
    assert_eq!(world.job(2, &identity()).upload("a.zip", json!({}), b"x").await.status, 200);
}

#[tokio::test]
async fn what_was_announced_must_be_what_came() {
    let world = World::new();
    let job = world.job(1, &identity());
    let created = job.artifacts("CreateArtifact", json!({"name": "a"})).await.json();
    let finalize = |size: &str, hash: &str| job.with_ids(json!({"name": "a", "size": size, "hash": hash}));
    job.call(ARTIFACTS, "FinalizeArtifact", finalize("5", "")).await.refused(400, "invalid_argument");
    let address = created["signed_upload_url"].as_str().unwrap();
    assert_eq!(world.put(address, "", "hello").await.status, 201);
    let good = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    for (size, hash) in
        [("4", good), ("5", "sha256:00"), ("5", "md5:00"), ("-1", good), ("99999999999999999999", good)]
    {
        job.call(ARTIFACTS, "FinalizeArtifact", finalize(size, hash)).await.refused(400, "invalid_argument");
    }
    assert_eq!(job.call(ARTIFACTS, "FinalizeArtifact", finalize("5", good)).await.status, 200);
    job.call(ARTIFACTS, "FinalizeArtifact", finalize("5", good)).await.refused(404, "not_found");
}

#[tokio::test]
async fn artifacts_expire() {
    let world = World::new();
    let job = world.job(1, &identity());
    let at =
        |seconds: i64| jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() + seconds).unwrap();
    for bad in ["yesterday", &at(-5).to_string()] {
        let refused = job.artifacts("CreateArtifact", json!({"name": "a", "expires_at": bad})).await;
        refused.refused(400, "invalid_argument");
    }
    let far = at(400 * 24 * 3600).to_string();
    assert_eq!(job.upload("a", json!({"expires_at": far}), b"x").await.status, 200);
    let now = super::state::now_ms();
    let [kept] = &world.state.artifacts.list(1, now).unwrap()[..] else { panic!() };
    assert!(kept.expires_at_ms <= now + 91 * 24 * 3600 * 1000, "no longer than the host keeps them");
    assert!(world.state.artifacts.list(1, kept.expires_at_ms).unwrap().is_empty());
    world.state.artifacts.remove_expired(kept.expires_at_ms).unwrap();
    assert!(!world.state.artifacts.content(kept).exists());
}

#[tokio::test]
async fn caches_are_found_by_key_prefix_and_branch() {
    let world = World::new();
    let main = world.job(1, &identity());
    assert_eq!(main.save("npm-1", "one").await.json()["ok"], true);
    assert_eq!(main.save("npm-2", "two").await.json()["ok"], true);
    main.save("npm-2", "again").await.refused(409, "already_exists");
    let found = |key: &str, content: &str| Some((key.to_owned(), content.to_owned()));
    assert_eq!(main.restore("npm-1", &[]).await, found("npm-1", "one"));
    assert_eq!(main.restore("npm-3", &["npm-"]).await, found("npm-2", "two"));
    assert_eq!(main.restore("none", &[]).await, None);
    let mut identity = identity();
    identity.github.insert("ref".into(), "refs/heads/feature".into());
    let feature = world.job(2, &identity);
    assert_eq!(feature.restore("npm-1", &[]).await, found("npm-1", "one"));
    assert_eq!(feature.save("npm-1", "feature's").await.json()["ok"], true);
    assert_eq!(feature.restore("npm-1", &[]).await, found("npm-1", "feature's"));
    assert_eq!(main.restore("npm-1", &[]).await, found("npm-1", "one"));
    identity.github.insert("repository".into(), "acme/other".into());
    assert_eq!(world.job(3, &identity).restore("npm-1", &["npm"]).await, None);
}

#[tokio::test]
async fn a_pull_request_from_outside_reads_and_poisons_nothing() {
    let world = World::new();
    let main = world.job(1, &identity());
    main.save("k", "good").await;
    let mut outside = identity();
    outside.is_from_outside = true;
    outside.github.insert("ref".into(), "refs/pull/7/merge".into());
    outside.github.insert("base_ref".into(), "main".into());
    let pull = world.job(2, &outside);
    assert_eq!(pull.restore("k", &[]).await.unwrap().1, "good");
    assert_eq!(pull.save("k", "bad").await.json()["ok"], true);
    assert_eq!(pull.save("k-new", "bad").await.json()["ok"], true);
    assert_eq!(main.restore("k", &[]).await.unwrap().1, "good");
    assert_eq!(main.restore("k-new", &[]).await, None);
    // A payload that claims a branch of the repository.
    outside.github.insert("ref".into(), "refs/heads/main".into());
    let liar = world.job(3, &outside);
    let refused = liar.save("other", "bad").await;
    refused.refused(403, "permission_denied");
    assert!(refused.json()["msg"].as_str().unwrap().starts_with("cache write denied:"));
}

#[tokio::test]
async fn the_quota_holds_and_what_was_used_last_stays() {
    let world = World::with(Settings { cache_quota_mib: 1, ..Settings::default() });
    let job = world.job(1, &identity());
    let large = "x".repeat(400 << 10);
    for key in ["a", "b"] {
        assert_eq!(job.save(key, &large).await.json()["ok"], true);
    }
    assert!(job.restore("a", &[]).await.is_some());
    assert_eq!(job.save("c", &large).await.json()["ok"], true);
    assert!(job.restore("b", &[]).await.is_none(), "it was not used for the longest time");
    assert!(job.restore("a", &[]).await.is_some() && job.restore("c", &[]).await.is_some());
    let created = job.call(CACHES, "CreateCacheEntry", json!({"key": "d", "version": "v"})).await.json();
    let address = created["signed_upload_url"].as_str().unwrap();
    world.put(address, "", "x".repeat(2 << 20)).await.refused(413, "resource_exhausted");
    world.state.remove_job(&job.open.ids.job);
}

#[tokio::test]
async fn caches_of_version_one() {
    let world = World::new();
    let job = world.job(1, &identity());
    let find = "/_apis/artifactcache/cache?keys=k-1%2Ck-&version=v";
    assert_eq!(job.bearer(Method::GET, find, &[], "").await.status, 204);
    let new = json!({"key": "k-0", "version": "v", "cacheSize": 11}).to_string();
    let reserved = job.bearer(Method::POST, "/_apis/artifactcache/caches", &[], new).await;
    assert_eq!(reserved.status, 201);
    let path = format!("/_apis/artifactcache/caches/{}", reserved.json()["cacheId"]);
    for (range, text) in [("bytes 6-10/*", "world"), ("bytes 0-5/*", "hello ")] {
        let sent = job.bearer(Method::PATCH, &path, &[("content-range", range)], text).await;
        assert_eq!(sent.status, 204);
    }
    job.bearer(Method::PATCH, &path, &[], "x").await.refused(400, "invalid_argument");
    job.bearer(Method::POST, &path, &[], r#"{"size":12}"#).await.refused(400, "invalid_argument");
    assert_eq!(job.bearer(Method::POST, &path, &[], r#"{"size":11}"#).await.status, 204);
    job.bearer(Method::POST, &path, &[], r#"{"size":11}"#).await.refused(404, "not_found");
    let found = job.bearer(Method::GET, find, &[], "").await.json();
    assert_eq!((&found["cacheKey"], &found["scope"]), (&json!("k-0"), &json!("refs/heads/main")));
    let content = world.get(found["archiveLocation"].as_str().unwrap()).await;
    assert_eq!(content.body, b"hello world");
}

#[tokio::test]
async fn identity_tokens_are_for_jobs_that_may_ask() {
    let world =
        World::with(Settings { issuer: Some("https://ci.example.org".into()), ..Settings::default() });
    let job = world.job(1, &identity());
    let ask = async |job: &Job<'_>, purpose: Use, query: &str| {
        let token = world.state.keys.token(purpose, &job.open.ids, super::token::now());
        let header = format!("Bearer {token}");
        let address = format!("/oidc/token?api-version=2.0{query}");
        world.plain(Method::GET, &address, &[("authorization", &header)], "").await
    };
    let answer = ask(&job, Use::IdToken, "&audience=sts%20x").await.json();
    let payload = answer["value"].as_str().unwrap().split('.').nth(1).unwrap();
    let payload = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, payload).unwrap();
    let claims: Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!((&claims["aud"], &claims["iss"]), (&json!("sts x"), &json!("https://ci.example.org")));
    // The runtime token does not do, nor that of a job without the permission.
    ask(&job, Use::Results, "").await.refused(401, "unauthenticated");
    ask(&job, Use::IdToken, &format!("&audience={}", "x".repeat(2000)))
        .await
        .refused(400, "invalid_argument");
    let plain = world.job(1, &JobIdentity { may_request_id_token: false, ..identity() });
    ask(&plain, Use::IdToken, "").await.refused(403, "permission_denied");
    let said = world.get("/.well-known/openid-configuration").await.json();
    assert_eq!(said["jwks_uri"], "https://ci.example.org/.well-known/jwks");
    assert_eq!(world.get("/.well-known/jwks").await.json()["keys"][0]["alg"], "ES256");
}

#[tokio::test]
async fn whoever_has_no_good_token_is_refused() {
    let world = World::new();
    let (job, other) = (world.job(1, &identity()), world.job(1, &identity()));
    let path = format!("/twirp/{ARTIFACTS}/ListArtifacts");
    let message = job.with_ids(json!({})).to_string();
    let expired = world.state.keys.token(Use::Results, &job.open.ids, 1000);
    let another = World::new().state.keys.token(Use::Results, &job.open.ids, super::token::now());
    for header in
        ["", "Bearer", "Bearer x", "Basic eDp5", &format!("Bearer {expired}"), &format!("Bearer {another}")]
    {
        let headers = [("authorization", header)];
        world.plain(Method::POST, &path, &headers, message.clone()).await.refused(401, "unauthenticated");
    }
    // A good token, but the message is about another job or run.
    other.call(ARTIFACTS, "ListArtifacts", job.with_ids(json!({}))).await.refused(403, "permission_denied");
    let mut foreign = job.with_ids(json!({}));
    foreign["workflow_run_backend_id"] = json!("x");
    job.call(ARTIFACTS, "ListArtifacts", foreign).await.refused(403, "permission_denied");
    // A job that has ended takes its token, its uploads and its addresses with it.
    let created = job.artifacts("CreateArtifact", json!({"name": "a"})).await.json();
    let address = created["signed_upload_url"].as_str().unwrap();
    world.state.remove_job(&job.open.ids.job);
    job.artifacts("ListArtifacts", json!({})).await.refused(401, "unauthenticated");
    let put = world.put(address, "", "x").await;
    assert!(put.status == 401 || put.status == 404, "{}", put.status);
}

#[tokio::test]
async fn addresses_are_good_as_they_are_and_no_other_way() {
    let world = World::new();
    let job = world.job(1, &identity());
    job.upload("a", json!({}), b"secret").await;
    let signed = job.artifacts("GetSignedArtifactURL", json!({"name": "a"})).await.json();
    let address = signed["signed_url"].as_str().unwrap();
    let (path, query) = address.split_once('?').unwrap();
    assert_eq!(world.get(address).await.status, 200);
    for bad in [
        path.to_owned(),
        format!("{path}?{}", query.replace("sig=", "sig=0")),
        format!("{path}?{}", query.replace("se=", "se=9")),
        format!("{}/../../oidc/key.pk8?{query}", path),
        format!("http://x/blobs/oidc/..%2F..%2Fetc/passwd?{query}"),
        address.replace("/blobs/artifacts/", "/blobs/caches/"),
    ] {
        let answer = world.get(&bad).await;
        assert!(matches!(answer.status.as_u16(), 403 | 404), "{bad}: {}", answer.status);
        assert!(answer.json()["code"].is_string());
    }
    // Reading is not writing.
    let put = world.put(address, "", "x").await;
    assert_eq!(put.json()["code"], "bad_route");
    world
        .put("http://x/blobs/uploads/none?job=a&se=1&sig=00", "", "x")
        .await
        .refused(403, "permission_denied");
}

#[tokio::test]
async fn bad_input_is_refused_in_json_and_nothing_panics() {
    let world = World::new();
    let job = world.job(1, &identity());
    let twirp = |service: &str, method: &str| format!("/twirp/{service}/{method}");
    for body in ["", "{", "[]", "null", "\"x\"", "{\"name\":1}", &"x".repeat(100), "\u{0}"] {
        for (service, method) in
            [(ARTIFACTS, "CreateArtifact"), (ARTIFACTS, "FinalizeArtifact"), (CACHES, "CreateCacheEntry")]
        {
            let answer = job.bearer(Method::POST, &twirp(service, method), &[], body.to_owned()).await;
            answer.refused(400, "invalid_argument");
        }
    }
    let huge = "x".repeat((1 << 20) + 1);
    let answer = job.bearer(Method::POST, &twirp(ARTIFACTS, "ListArtifacts"), &[], huge).await;
    answer.refused(413, "resource_exhausted");
    for name in ["", "..", "a/b", "../../x", "a\u{0}b", "a\nb", &"x".repeat(300)] {
        job.artifacts("CreateArtifact", json!({"name": name})).await.refused(400, "invalid_argument");
    }
    for key in ["", "a,b", &"x".repeat(600)] {
        let message = json!({"key": key, "version": "v"});
        job.call(CACHES, "CreateCacheEntry", message).await.refused(400, "invalid_argument");
    }
    for (service, method) in [(ARTIFACTS, "Nothing"), (CACHES, ""), ("x", "y"), ("..%2f..", "x")] {
        let answer = job.bearer(Method::POST, &twirp(service, method), &[], "{}").await;
        answer.refused(404, "bad_route");
    }
    let created = job.artifacts("CreateArtifact", json!({"name": "a"})).await.json();
    let address = created["signed_upload_url"].as_str().unwrap();
    for (more, body) in [
        ("&comp=block", "x"),
        ("&comp=block&blockid=%zz", "x"),
        ("&comp=other", "x"),
        ("&comp=blocklist", "nonsense <"),
        ("&comp=blocklist", "<BlockList><Latest>missing</Latest></BlockList>"),
    ] {
        world.put(address, more, body).await.refused(400, "invalid_argument");
    }
    let kind = [("x-ms-blob-type", "PageBlob")];
    world.plain(Method::PUT, address, &kind, "x").await.refused(400, "invalid_argument");
    for (method, path) in
        [(Method::GET, "/"), (Method::DELETE, "/twirp/a/b"), (Method::POST, "/.well-known/jwks")]
    {
        world.plain(method, path, &[], "").await.refused(404, "bad_route");
    }
    for path in ["/_apis/artifactcache/cache", "/_apis/artifactcache/cache?keys=&version=v"] {
        job.bearer(Method::GET, path, &[], "").await.refused(400, "invalid_argument");
    }
    job.bearer(Method::PATCH, "/_apis/artifactcache/caches/9", &[], "x").await.refused(404, "not_found");
    world.state.remove_job(&job.open.ids.job);
}
