//! `X-Request-Id`: taken from the caller or made here, sent back, logged, and kept with every event.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use std::sync::Arc;

use super::ApiError;
use crate::entropy::Entropy;

/// The header.
pub const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id that is taken from a caller.
const MAX_LEN: usize = 128;

tokio::task_local! {
    static CURRENT: RequestId;
}

/// The id of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// The caller's, if it is fit to be used; else a new one.
    pub fn of(headers: &HeaderMap, entropy: &Entropy) -> Self {
        let given = headers.get(&HEADER).and_then(|value| value.to_str().ok());
        given.and_then(Self::from_header).unwrap_or_else(|| match entropy.uuid() {
            Ok(uuid) => Self(uuid.to_string().into()),
            // Without randomness a request still needs a name, if not a unique one.
            Err(_) => Self("unknown".into()),
        })
    }

    /// The caller's, if it is 1 to 128 visible ASCII characters: it goes into logs and headers.
    pub fn from_header(text: &str) -> Option<Self> {
        let fine =
            (1..=MAX_LEN).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        fine.then(|| Self(text.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As a header.
    pub fn to_header(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.0).ok()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for RequestId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or_else(|| ApiError::internal("the edge layer is missing"))
    }
}

/// The id of the request that this task answers. None outside of a request.
pub fn current() -> Option<RequestId> {
    CURRENT.try_with(Clone::clone).ok()
}

/// Runs `future` as part of answering the request `id`.
pub async fn scope<F: Future>(id: RequestId, future: F) -> F::Output {
    CURRENT.scope(id, future).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    fn id(given: Option<&str>) -> String {
        let mut headers = HeaderMap::new();
        if let Some(given) = given {
            headers.insert(HEADER, HeaderValue::from_str(given).unwrap());
        }
        RequestId::of(&headers, &Entropy::system(Clock::system())).as_str().to_owned()
    }

    #[test]
    fn the_callers_id_is_kept() {
        assert_eq!(id(Some("build-7/step:3")), "build-7/step:3");
    }

    #[test]
    fn an_unfit_or_missing_id_is_replaced() {
        for unfit in [None, Some(""), Some("a b"), Some("a\tb"), Some(&*"x".repeat(129))] {
            let id = id(unfit);
            assert!(uuid::Uuid::parse_str(&id).is_ok(), "{id}");
        }
    }
}
