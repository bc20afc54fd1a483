//! `X-Request-Id`: taken from the caller or made here, sent back, logged, and kept with every event.

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
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
}

impl<S: Send + Sync> FromRequestParts<S> for RequestId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or_else(|| ApiError::internal("the request id layer is missing"))
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

/// Middleware, outermost: gives every request an id, and every answer its request's.
pub async fn layer(State(entropy): State<Entropy>, mut request: Request, next: Next) -> Response {
    let given = request.headers().get(&HEADER).and_then(|value| value.to_str().ok());
    let id = match given.and_then(RequestId::from_header) {
        Some(id) => id,
        // Without randomness a request still needs a name, if not a unique one.
        None => RequestId(
            entropy.uuid().map_or_else(|_| "unknown".into(), |uuid| uuid.to_string().into()),
        ),
    };
    request.extensions_mut().insert(id.clone());
    let mut response = scope(id.clone(), next.run(request)).await;
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        response.headers_mut().insert(HEADER, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use axum::Router;
    use axum::body::Body;
    use axum::routing::get;
    use tower::ServiceExt;

    async fn answer(given: Option<&str>) -> String {
        let entropy = Entropy::system(Clock::system());
        let app = Router::new()
            .route("/", get(|id: RequestId| async move { id.as_str().to_owned() }))
            .layer(axum::middleware::from_fn_with_state(entropy, layer));
        let mut request = Request::builder().uri("/");
        if let Some(given) = given {
            request = request.header(HEADER, given);
        }
        let response = app.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let header = response.headers()[HEADER].to_str().unwrap().to_owned();
        let body = axum::body::to_bytes(response.into_body(), 1000).await.unwrap();
        assert_eq!(body, header.as_bytes());
        header
    }

    #[tokio::test]
    async fn the_callers_id_is_kept() {
        assert_eq!(answer(Some("build-7/step:3")).await, "build-7/step:3");
    }

    #[tokio::test]
    async fn an_unfit_or_missing_id_is_replaced() {
        for unfit in [None, Some(""), Some("a b"), Some(&*"x".repeat(129))] {
            let id = answer(unfit).await;
            assert!(uuid::Uuid::parse_str(&id).is_ok(), "{id}");
        }
    }
}
