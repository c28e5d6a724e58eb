//! Bearer tokens: signature, expiry, and whether the user is still welcome.

use std::sync::Arc;

use axum::{
    extract::FromRequestParts,
    http::{header, request::Parts},
};
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode, errors::ErrorKind,
};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::Value;

use super::{Api, error::ApiError, secret::Secret, tokens::Standing};
use crate::failure::{Context as _, Failure};

/// How far the clocks of two machines may be apart.
const CLOCK_SKEW_SECONDS: u64 = 30;

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    /// Whose it is; older clients write a number.
    #[serde(deserialize_with = "text_or_number")]
    pub(crate) user_id: String,
    /// For people.
    #[serde(default)]
    pub(crate) username: String,
    /// The account elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) github_id: Option<i64>,
    /// When it ends, in seconds since 1970.
    pub(crate) exp: u64,
    /// When it was made.
    pub(crate) iat: u64,
    /// Its own id; absent in tokens that were made elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) jti: Option<String>,
}

fn text_or_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(text) if !text.is_empty() => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        _ => Err(D::Error::custom("user_id: a name is expected")),
    }
}

/// The token of these claims.
pub(crate) fn sign(claims: &Claims, secret: &Secret) -> Result<String, Failure> {
    let key = EncodingKey::from_secret(secret.bytes());
    encode(&Header::new(Algorithm::HS256), claims, &key).context("cannot sign the token")
}

fn verify(token: &str, secret: &Secret) -> Result<Claims, ApiError> {
    // One algorithm: what the token's own header asks for does not count.
    let mut validation = Validation::new(Algorithm::HS256);
    validation.leeway = CLOCK_SKEW_SECONDS;
    validation.validate_aud = false;
    validation.validate_nbf = true;
    let key = DecodingKey::from_secret(secret.bytes());
    let why = |kind: &ErrorKind| match kind {
        ErrorKind::ExpiredSignature => "the token has expired",
        ErrorKind::ImmatureSignature => "the token is not valid yet",
        ErrorKind::InvalidSignature => "the token's signature is wrong: it was made with another secret",
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => {
            "the token must be signed with HS256"
        }
        _ => "the token cannot be understood",
    };
    let data = decode::<Claims>(token, &key, &validation);
    data.map(|data| data.claims).map_err(|error| ApiError::unauthorized(why(error.kind())))
}

/// Who calls.
#[derive(Clone, Debug)]
pub(super) struct User {
    pub(super) id: String,
}

impl FromRequestParts<Arc<Api>> for User {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<User, ApiError> {
        let header = parts.headers.get(header::AUTHORIZATION);
        let header =
            header.ok_or_else(|| ApiError::unauthorized("no token: send `Authorization: Bearer ...`"))?;
        let token = header.to_str().ok().and_then(bearer);
        let token =
            token.ok_or_else(|| ApiError::unauthorized("Authorization: `Bearer TOKEN` is expected"))?;
        let claims = verify(token, &api.secret)?;
        let standing = api.tokens.standing(&claims.user_id, claims.jti.as_deref());
        let fault = |failure: Failure| ApiError::unavailable(failure.message());
        match standing.map_err(fault)? {
            Standing::Good => Ok(User { id: claims.user_id }),
            Standing::Revoked => Err(ApiError::unauthorized("the token was revoked")),
            Standing::UnknownToken | Standing::UnknownUser if api.settings.any_user => {
                Ok(User { id: claims.user_id })
            }
            Standing::UnknownToken => Err(ApiError::unauthorized("this host has not made the token")),
            Standing::UnknownUser => {
                Err(ApiError::forbidden(format!("user `{}` is not known here", claims.user_id)))
            }
        }
    }
}

/// The scheme's case does not matter (RFC 9110 section 11.1).
fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(exp: u64) -> Claims {
        let user_id = "alice".to_owned();
        Claims { user_id, username: "Alice".into(), github_id: None, exp, iat: 1, jti: None }
    }

    fn secret(byte: u8) -> Secret {
        let data = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(data.path().join("api")).unwrap();
        let path = data.path().join("api/jwt-secret");
        std::fs::write(&path, [byte; 40]).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        Secret::load(data.path()).unwrap()
    }

    #[test]
    fn only_a_good_signature_in_time_counts() {
        let now = jsonwebtoken::get_current_timestamp();
        let ours = secret(b'a');
        let check = |claims: &Claims, secret: &Secret| verify(&sign(claims, secret).unwrap(), &ours);
        assert_eq!(check(&claims(now + 60), &ours).unwrap(), claims(now + 60));
        // A clock that is a little behind is forgiven.
        assert!(check(&claims(now - 10), &ours).is_ok());
        for (bad, why) in [
            (check(&claims(now - 120), &ours), "expired"),
            (check(&claims(now + 60), &secret(b'b')), "another secret"),
            (verify("", &ours), "understood"),
            (verify("a.b.c", &ours), "understood"),
        ] {
            let error = bad.unwrap_err();
            assert!(error.status == 401 && error.message.contains(why), "{error:?}");
        }
    }

    #[test]
    fn claims_of_other_shapes() {
        let secret = secret(b'a');
        let key = EncodingKey::from_secret(secret.bytes());
        let sign = |claims: Value, algorithm| encode(&Header::new(algorithm), &claims, &key).unwrap();
        let exp = jsonwebtoken::get_current_timestamp() + 60;
        let good = serde_json::json!({"user_id": 7, "exp": exp, "iat": 1});
        assert_eq!(verify(&sign(good.clone(), Algorithm::HS256), &secret).unwrap().user_id, "7");
        assert!(verify(&sign(good, Algorithm::HS512), &secret).is_err());
        for bad in [
            serde_json::json!({"user_id": "a", "iat": 1}),
            serde_json::json!({"user_id": "a", "iat": 1, "exp": "9999999999"}),
            serde_json::json!({"user_id": "", "iat": 1, "exp": exp}),
            serde_json::json!({"iat": 1, "exp": exp}),
        ] {
            assert!(verify(&sign(bad.clone(), Algorithm::HS256), &secret).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_header() {
        assert_eq!(bearer("bearer  x.y.z"), Some("x.y.z"));
        assert!(bearer("Basic abc").is_none() && bearer("x").is_none());
    }
}
