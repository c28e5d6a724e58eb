//! Request bodies and queries as typed values; whatever is wrong with one is answered as JSON.

use std::{fmt, marker::PhantomData};

use axum::{
    Json,
    extract::{FromRequest, FromRequestParts, Query, Request, rejection::JsonRejection},
    http::{StatusCode, request::Parts},
};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::error::ApiError;

/// A JSON body: an object.
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        match Json::<Object<T>>::from_request(request, state).await {
            Ok(Json(Object(value))) => Ok(Body(value)),
            Err(rejection) => Err(refusal(&rejection)),
        }
    }
}

/// A struct that is read from an object only: serde would also take an array, with the fields by their places.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = T;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_map(Fields(PhantomData)).map(Object)
    }
}

fn refusal(rejection: &JsonRejection) -> ApiError {
    let status = match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => StatusCode::PAYLOAD_TOO_LARGE,
        // Clients know 400; that a field is missing (422) or the type is not JSON (415) is in the text.
        _ => StatusCode::BAD_REQUEST,
    };
    ApiError::new(status, rejection.body_text())
}

/// The query.
pub(super) struct Params<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        query.map(|Query(value)| Params(value)).map_err(|error| ApiError::bad_request(error.body_text()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Named {
        #[serde(default)]
        name: Option<String>,
        size: u32,
    }

    #[test]
    fn only_an_object_is_an_object() {
        let read = |text: &str| serde_json::from_str::<Object<Named>>(text).map(|Object(named)| named);
        let good = read(r#"{"size": 3, "name": "a", "other": [1]}"#).unwrap();
        assert_eq!((good.name.as_deref(), good.size), (Some("a"), 3));
        for (bad, want) in [
            ("[]", "expected a JSON object"),
            (r#"["a", 3]"#, "expected a JSON object"),
            ("null", "expected a JSON object"),
            (r#"{"name": "a"}"#, "missing field `size`"),
            (r#"{"size": 1, "size": 2}"#, "duplicate field `size`"),
        ] {
            let error = read(bad).unwrap_err().to_string();
            assert!(error.contains(want), "{bad}: {error}");
        }
    }
}
