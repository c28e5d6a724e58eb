//! Tokens of jobs, and signatures of addresses. Both end with the process that serves: its key is random and never written
//! down.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use ring::{hmac, rand::SystemRandom};
use serde::{Deserialize, Serialize};

use super::error::ServiceError;

/// GitHub: a job on a machine of one's own may take 5 days. The token ends with its job in any case.
const TOKEN_SECONDS: u64 = 5 * 24 * 3600;
/// Who makes and who takes the tokens.
const PARTY: &str = "tci-services";

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Artifacts and caches: `ACTIONS_RUNTIME_TOKEN`.
    Results,
    /// Asking for an identity token: `ACTIONS_ID_TOKEN_REQUEST_TOKEN`.
    IdToken,
}

impl Use {
    const fn scope(self) -> &'static str {
        match self {
            // The clients look for this word.
            Use::Results => "Actions.Results",
            Use::IdToken => "Actions.IdToken",
        }
    }
}

/// What a job's token says.
#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    /// `Actions.Results:<run>:<job>`: clients read the ids from it.
    scp: String,
    iss: String,
    aud: String,
    /// Seconds since 1970.
    iat: u64,
    nbf: u64,
    exp: u64,
    jti: String,
}

/// The ids by which clients call a run and a job.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct BackendIds {
    pub(super) run: String,
    pub(super) job: String,
}

/// The key of one server.
pub(super) struct Keys {
    secret: [u8; 32],
    address: hmac::Key,
}

impl Keys {
    pub(super) fn random() -> Keys {
        let random = SystemRandom::new();
        let secret = ring::rand::generate(&random).expect("the kernel gives random bytes").expose();
        let address = hmac::Key::generate(hmac::HMAC_SHA256, &random).expect("the kernel gives random bytes");
        Keys { secret, address }
    }

    /// A token for a job.
    pub(super) fn token(&self, purpose: Use, ids: &BackendIds, now: u64) -> String {
        let claims = Claims {
            scp: format!("{}:{}:{}", purpose.scope(), ids.run, ids.job),
            iss: PARTY.to_owned(),
            aud: PARTY.to_owned(),
            iat: now,
            nbf: now,
            exp: now + TOKEN_SECONDS,
            jti: uuid::Uuid::new_v4().to_string(),
        };
        let key = EncodingKey::from_secret(&self.secret);
        encode(&Header::new(Algorithm::HS256), &claims, &key).expect("a secret signs any claims")
    }

    /// The ids in a token that is good for `purpose`.
    pub(super) fn verify(&self, purpose: Use, token: &str) -> Result<BackendIds, ServiceError> {
        // One algorithm: what the token's own header asks for does not count.
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[PARTY]);
        validation.set_audience(&[PARTY]);
        // One machine, one clock.
        validation.leeway = 0;
        validation.validate_nbf = true;
        let data = decode::<Claims>(token, &DecodingKey::from_secret(&self.secret), &validation);
        let claims = data.map_err(|error| {
            ServiceError::Unauthenticated(match error.kind() {
                jsonwebtoken::errors::ErrorKind::ExpiredSignature => "the token has expired",
                _ => "the token is not one of this server",
            })
        })?;
        let mut parts = claims.claims.scp.split(':');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(scope), Some(run), Some(job), None) if scope == purpose.scope() => {
                Ok(BackendIds { run: run.to_owned(), job: job.to_owned() })
            }
            _ => Err(ServiceError::Unauthenticated("the token is for something else")),
        }
    }

    /// The signature of an address.
    pub(super) fn sign(&self, text: &str) -> String {
        super::entry::hex(hmac::sign(&self.address, text.as_bytes()).as_ref())
    }

    /// Compared in constant time.
    pub(super) fn is_signature(&self, text: &str, signature: &str) -> bool {
        let Some(bytes) = unhex(signature) else { return false };
        hmac::verify(&self.address, text.as_bytes(), &bytes).is_ok()
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    });
    pairs.collect()
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    jsonwebtoken::get_current_timestamp()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids() -> BackendIds {
        BackendIds { run: "run-1".into(), job: "job-2".into() }
    }

    #[test]
    fn only_an_unexpired_token_of_ours_for_this_purpose_counts() {
        let (ours, other) = (Keys::random(), Keys::random());
        let good = ours.token(Use::Results, &ids(), now());
        assert_eq!(ours.verify(Use::Results, &good).unwrap(), ids());
        let none = {
            let mut parts: Vec<&str> = good.split('.').collect();
            parts[0] = "eyJhbGciOiJub25lIn0";
            parts[2] = "";
            parts.join(".")
        };
        for bad in [
            ours.token(Use::Results, &ids(), now() - TOKEN_SECONDS - 1),
            ours.token(Use::Results, &ids(), now() + 60),
            ours.token(Use::IdToken, &ids(), now()),
            other.token(Use::Results, &ids(), now()),
            ours.token(Use::Results, &BackendIds { run: "a:b".into(), ..ids() }, now()),
            none,
            "a.b.c".to_owned(),
            String::new(),
        ] {
            assert!(ours.verify(Use::Results, &bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_signature_is_for_one_text() {
        let keys = Keys::random();
        let signature = keys.sign("text");
        assert!(keys.is_signature("text", &signature));
        assert!(!keys.is_signature("Text", &signature));
        for bad in ["", "0", "zz", &signature[1..], &format!("{signature}00")] {
            assert!(!keys.is_signature("text", bad), "{bad}");
        }
    }
}
