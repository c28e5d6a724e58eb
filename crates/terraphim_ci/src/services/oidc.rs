//! Tokens that prove to others which job asks: OpenID Connect, with the claims that GitHub's tokens have.
//!
//! Source: GitHub's "OpenID Connect reference", sections "OIDC token claims" and "Subject claims".

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use serde_json::{Map, Value, json};
use terraphim_github_runner::engine::JobIdentity;
use thiserror::Error;

use super::entry;

/// How long a token is good. GitHub: 5 minutes.
const TOKEN_SECONDS: u64 = 300;
/// How far behind another machine's clock may be. GitHub's tokens begin to count as much earlier.
const EARLIER_SECONDS: u64 = 300;

/// Texts of the context `github` that are claims of the same name.
const CLAIMS: [&str; 18] = [
    "ref",
    "sha",
    "repository",
    "repository_owner",
    "repository_id",
    "repository_owner_id",
    "actor",
    "actor_id",
    "workflow",
    "workflow_ref",
    "workflow_sha",
    "head_ref",
    "base_ref",
    "event_name",
    "ref_type",
    "run_id",
    "run_number",
    "run_attempt",
];

/// The issuer's key cannot be used.
#[derive(Debug, Error)]
pub(crate) enum KeyError {
    /// A file operation failed.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// A verb.
        operation: &'static str,
        /// Its object.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others can read it.
    #[error("{} can be read by others (mode {mode:03o}): chmod 600 {0}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It holds something else.
    #[error("{} holds no key of this program: remove it to get a new one, and tell it to whoever trusts the old", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
}

/// The issuer's key, ES256: made once, in the data directory, for its owner only.
pub(crate) struct IssuerKey {
    pkcs8: Vec<u8>,
    /// An uncompressed point: 4, then 32 bytes for each coordinate.
    public: Vec<u8>,
}

impl IssuerKey {
    /// The key in the directory of the services; it is made if there is none.
    pub(crate) fn load(services: &Path) -> Result<IssuerKey, KeyError> {
        let path = services.join("oidc/key.pk8");
        let failed = |operation| {
            let path = path.clone();
            move |source| KeyError::Io { operation, path, source }
        };
        if !path.exists() {
            make(&path).map_err(failed("create"))?;
        }
        let mode = fs::metadata(&path).map_err(failed("look at"))?.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Open { path, mode });
        }
        let pkcs8 = fs::read(&path).map_err(failed("read"))?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8, &SystemRandom::new());
        let pair = pair.map_err(|_| KeyError::Damaged { path })?;
        Ok(IssuerKey { public: pair.public_key().as_ref().to_vec(), pkcs8 })
    }

    /// RFC 7638 asks for a digest of the key; any name that stays the same would do.
    fn id(&self) -> String {
        entry::hex(&ring::digest::digest(&ring::digest::SHA256, &self.public).as_ref()[..8])
    }

    /// The keys with which tokens are verified (RFC 7517).
    pub(crate) fn key_set(&self) -> Value {
        let coordinate = |at: usize| URL_SAFE_NO_PAD.encode(&self.public[at..at + 32]);
        json!({"keys": [{
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.id(),
            "x": coordinate(1), "y": coordinate(33),
        }]})
    }

    /// A token for a job.
    pub(super) fn token(&self, issuer: &str, audience: &str, job: &JobIdentity, now: u64) -> String {
        let header = Header { kid: Some(self.id()), ..Header::new(Algorithm::ES256) };
        let claims = claims(issuer, audience, job, now);
        encode(&header, &claims, &EncodingKey::from_ec_der(&self.pkcs8)).expect("the key was read before")
    }
}

/// Whoever comes first makes it; the others use that one.
fn make(path: &Path) -> io::Result<()> {
    let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
        .map_err(|_| io::Error::other("the kernel gives no random bytes"))?;
    entry::make_directory(path.parent().unwrap_or(path))?;
    let temporary = path.with_extension(uuid::Uuid::new_v4().simple().to_string());
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    let written = file.write_all(key.as_ref()).and_then(|()| file.sync_all());
    let linked = written.and_then(|()| fs::hard_link(&temporary, path));
    let _ = fs::remove_file(&temporary);
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// What `/.well-known/openid-configuration` says.
pub(crate) fn configuration(issuer: &str) -> Value {
    let more = [
        "sub",
        "aud",
        "exp",
        "iat",
        "iss",
        "jti",
        "nbf",
        "environment",
        "job_workflow_ref",
        "job_workflow_sha",
        "runner_environment",
        "ref_protected",
    ];
    let claims: Vec<&str> = CLAIMS.into_iter().chain(more).collect();
    json!({
        "issuer": issuer,
        "jwks_uri": format!("{issuer}/.well-known/jwks"),
        "subject_types_supported": ["public", "pairwise"],
        "response_types_supported": ["id_token"],
        "claims_supported": claims,
        "id_token_signing_alg_values_supported": ["ES256"],
        "scopes_supported": ["openid"],
    })
}

/// The audience of a job that names none: its repository's owner.
pub(super) fn default_audience(job: &JobIdentity) -> String {
    format!("{}/{}", job.github("server_url"), job.github("repository_owner"))
}

fn claims(issuer: &str, audience: &str, job: &JobIdentity, now: u64) -> Value {
    let mut claims = Map::new();
    for name in CLAIMS {
        claims.insert(name.to_owned(), job.github(name).into());
    }
    claims.extend([
        ("iss".to_owned(), issuer.into()),
        ("aud".to_owned(), audience.into()),
        ("sub".to_owned(), subject(job).into()),
        ("jti".to_owned(), uuid::Uuid::new_v4().to_string().into()),
        ("iat".to_owned(), now.into()),
        ("nbf".to_owned(), now.saturating_sub(EARLIER_SECONDS).into()),
        ("exp".to_owned(), (now + TOKEN_SECONDS).into()),
        ("job_workflow_ref".to_owned(), job.workflow.reference.as_str().into()),
        ("job_workflow_sha".to_owned(), job.workflow.commit.as_str().into()),
        ("runner_environment".to_owned(), "self-hosted".into()),
        ("ref_protected".to_owned(), "false".into()),
    ]);
    if let Some(environment) = &job.environment {
        claims.insert("environment".to_owned(), environment.as_str().into());
    }
    Value::Object(claims)
}

/// GitHub: the environment, else that it is a pull request, else the ref.
fn subject(job: &JobIdentity) -> String {
    let repository = job.github("repository");
    match &job.environment {
        // A colon in a name would look like a further part.
        Some(environment) => format!("repo:{repository}:environment:{}", environment.replace(':', "%3A")),
        None if job.github("event_name") == "pull_request" => format!("repo:{repository}:pull_request"),
        None => format!("repo:{repository}:ref:{}", job.github("ref")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use jsonwebtoken::{DecodingKey, Validation, decode};

    use super::{super::tests::identity, *};

    #[test]
    fn a_token_is_verified_with_the_published_key_and_says_which_job_it_is() {
        let services = tempfile::tempdir().unwrap();
        let key = IssuerKey::load(services.path()).unwrap();
        let now = super::super::token::now();
        let token = key.token("https://ci.example.org", "sts", &identity(), now);
        let published = IssuerKey::load(services.path()).unwrap().key_set()["keys"][0].clone();
        assert_eq!(jsonwebtoken::decode_header(&token).unwrap().kid.as_deref(), published["kid"].as_str());
        let (x, y) = (published["x"].as_str().unwrap(), published["y"].as_str().unwrap());
        let decoding = DecodingKey::from_ec_components(x, y).unwrap();
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_audience(&["sts"]);
        validation.set_issuer(&["https://ci.example.org"]);
        let claims = decode::<Value>(&token, &decoding, &validation).unwrap().claims;
        assert_eq!(claims["sub"], "repo:acme/tool:ref:refs/heads/main");
        for (claim, want) in [
            ("repository", "acme/tool"),
            ("ref", "refs/heads/main"),
            ("run_id", "77"),
            ("event_name", "push"),
            ("job_workflow_ref", "acme/flows/.github/workflows/build.yml@refs/tags/v1"),
            ("job_workflow_sha", "0123456789abcdef0123456789abcdef01234567"),
            ("runner_environment", "self-hosted"),
        ] {
            assert_eq!(claims[claim], want, "{claim}");
        }
        assert_eq!(claims["exp"], now + 300);
        validation.set_audience(&["other"]);
        assert!(decode::<Value>(&token, &decoding, &validation).is_err());
    }

    #[test]
    fn the_subject_follows_the_environment_and_the_event() {
        let mut job = identity();
        job.github.insert("event_name".into(), "pull_request".into());
        assert_eq!(subject(&job), "repo:acme/tool:pull_request");
        job.environment = Some("prod:ref:refs/heads/main".into());
        assert_eq!(subject(&job), "repo:acme/tool:environment:prod%3Aref%3Arefs/heads/main");
    }

    #[test]
    fn the_key_is_private_made_once_and_not_taken_from_an_open_file() {
        let services = tempfile::tempdir().unwrap();
        let first = IssuerKey::load(services.path()).unwrap().key_set();
        assert_eq!(IssuerKey::load(services.path()).unwrap().key_set(), first);
        let path = services.path().join("oidc/key.pk8");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(IssuerKey::load(services.path()), Err(KeyError::Open { .. })));
        fs::write(&path, "not a key").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(IssuerKey::load(services.path()), Err(KeyError::Damaged { .. })));
    }
}
