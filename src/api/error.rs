//! The one error answer: `{"error": {"code", "message", "details"?, "request_id"?}}`.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use gatekey_aggregates::values::Scope;
use gatekey_aggregates::{Refusal, RefusalKind};
use serde::Serialize;
use std::borrow::Cow;
use utoipa::ToSchema;

use super::request_id;
pub use crate::fields::FieldError;

/// Why a request was not carried out, as the caller is told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// The HTTP status.
    pub status: StatusCode,
    /// Stable, snake_case: what programs look at.
    pub code: &'static str,
    /// A sentence for people.
    pub message: Cow<'static, str>,
    /// The fields at fault.
    pub details: Vec<FieldError>,
    /// After how many seconds another try makes sense (429 and 503).
    pub retry_after: Option<u32>,
    /// The scope that an API key lacks (403).
    pub needed_scope: Option<Scope>,
}

/// The body of an error answer.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Error)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorContent,
}

/// What went wrong.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = ErrorContent)]
pub struct ErrorContent {
    /// Stable, snake_case.
    #[schema(value_type = String, example = "unauthorized")]
    pub code: &'static str,
    /// A sentence for people.
    #[schema(value_type = String, example = "Invalid or expired token")]
    pub message: Cow<'static, str>,
    /// The fields at fault, where there are any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub details: Vec<FieldError>,
    /// The `X-Request-Id` of this request: quote it when asking for help.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "01k9x3v7m2")]
    pub request_id: Option<String>,
}

impl ApiError {
    /// Any error. Prefer the named ones.
    pub fn new(
        status: StatusCode,
        code: &'static str,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            details: Vec::new(),
            retry_after: None,
            needed_scope: None,
        }
    }

    /// 400: it can't be understood.
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", message)
    }

    /// 400: one field is wrong. `message` begins as in "must be …".
    pub fn invalid_field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::invalid_fields(vec![FieldError { field: field.into(), message: message.into() }])
    }

    /// 400: fields are wrong. The first leads.
    pub fn invalid_fields(details: Vec<FieldError>) -> Self {
        let message = details
            .first()
            .map_or_else(String::new, |first| format!("`{}` {}", first.field, first.message));
        Self { details, ..Self::invalid(message) }
    }

    /// 401: nobody, or not who they say. The seed's words.
    pub fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "Invalid or expired token")
    }

    /// 401 with a code of its own.
    pub fn unauthorized_as(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, code, message)
    }

    /// 403: known, but may not.
    pub fn forbidden() -> Self {
        Self::forbidden_as("forbidden", "You may not do this")
    }

    /// 403 with a code of its own.
    pub fn forbidden_as(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, message)
    }

    /// 403: an API key lacks a scope (RFC 6750, 3.1).
    pub fn insufficient_scope(needed: Scope) -> Self {
        Self {
            needed_scope: Some(needed),
            ..Self::forbidden_as(
                "insufficient_scope",
                format!("This API key lacks the scope `{needed}`"),
            )
        }
    }

    /// 404: there is no such thing, and no such route.
    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "There is no such thing")
    }

    /// 405: the route is there, the method is not. Axum adds `Allow`.
    pub fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "This method is not allowed here; see the `Allow` header",
        )
    }

    /// 409: it makes no sense in the present state.
    pub fn conflict(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::CONFLICT, code, message)
    }

    /// 409: `field` must be unique, and another has it.
    pub fn taken(field: &str, message: impl Into<String>) -> Self {
        Self {
            code: "already_taken",
            status: StatusCode::CONFLICT,
            ..Self::invalid_field(field, message)
        }
    }

    /// 409: a request with the same idempotency key is being carried out.
    pub fn in_progress() -> Self {
        Self::conflict(
            "in_progress",
            "A request with this `Idempotency-Key` is being carried out: wait for its answer",
        )
    }

    /// 412: `If-Match` names another state than the present one.
    pub fn changed_meanwhile() -> Self {
        Self::new(
            StatusCode::PRECONDITION_FAILED,
            "changed_meanwhile",
            "It was changed since you read it: read it again",
        )
    }

    /// Whether it is that.
    pub fn is_changed_meanwhile(&self) -> bool {
        self.status == StatusCode::PRECONDITION_FAILED
    }

    /// 413: over the bound on bodies.
    pub fn too_large(limit: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "payload_too_large",
            format!("The body must be at most {limit} bytes"),
        )
    }

    /// 415: not JSON by its `Content-Type`.
    pub fn unsupported_media_type() -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "The body must be sent with `Content-Type: application/json`",
        )
    }

    /// 429: over a rate limit.
    pub fn rate_limited(retry_after: u32) -> Self {
        Self {
            retry_after: Some(retry_after.max(1)),
            ..Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "rate_limited",
                "Too many requests: slow down",
            )
        }
    }

    /// 500. The cause goes to the log, never to the caller.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        tracing::error!(%cause, "a request failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal_error",
            "Something went wrong here; the log says what, under this request id",
        )
    }

    /// 503: cannot now, but soon.
    pub fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            retry_after: Some(1),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
        }
    }

    /// How an aggregate's refusal is answered.
    pub fn refused(refusal: &dyn Refusal) -> Self {
        let (status, code) = match refusal.kind() {
            // One code for what isn't there, whatever it would have been.
            RefusalKind::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            RefusalKind::Conflict => (StatusCode::CONFLICT, refusal.code()),
            RefusalKind::Invalid => (StatusCode::BAD_REQUEST, refusal.code()),
            RefusalKind::Forbidden => (StatusCode::FORBIDDEN, refusal.code()),
        };
        match refusal.field() {
            Some(field) => Self { status, code, ..Self::invalid_field(field, refusal.to_string()) },
            None => Self::new(status, code, capitalised(&refusal.to_string())),
        }
    }

    /// With another code.
    pub fn code(mut self, code: &'static str) -> Self {
        self.code = code;
        self
    }

    /// With other words.
    pub fn message(mut self, message: impl Into<Cow<'static, str>>) -> Self {
        self.message = message.into();
        self
    }

    /// With a field at fault.
    pub fn detail(mut self, field: impl Into<String>, message: impl Into<String>) -> Self {
        self.details.push(FieldError { field: field.into(), message: message.into() });
        self
    }

    /// The body, with the id of the request that is being answered.
    pub fn body(&self) -> ErrorBody {
        ErrorBody {
            error: ErrorContent {
                code: self.code,
                message: self.message.clone(),
                details: self.details.clone(),
                request_id: request_id::current().map(|id| id.as_str().to_owned()),
            },
        }
    }
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}: {}", self.status.as_u16(), self.code, self.message)
    }
}

impl std::error::Error for ApiError {}

impl From<crate::entropy::NoEntropy> for ApiError {
    fn from(error: crate::entropy::NoEntropy) -> Self {
        Self::internal(error)
    }
}

impl From<FieldError> for ApiError {
    fn from(error: FieldError) -> Self {
        Self::invalid_fields(vec![error])
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, axum::Json(self.body())).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(scope) = self.needed_scope {
            let challenge = format!("Bearer error=\"insufficient_scope\", scope=\"{scope}\"");
            if let Ok(challenge) = HeaderValue::from_str(&challenge) {
                headers.insert(header::WWW_AUTHENTICATE, challenge);
            }
        }
        // For the layers outside: they see what it was without reading the body again.
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::to_bytes;
    use serde_json::{Value, json};

    async fn body(response: Response) -> Value {
        let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    #[tokio::test]
    async fn the_envelope_is_the_seeds() {
        let response = ApiError::unauthorized().into_response();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(
            body(response).await,
            json!({"error": {"code": "unauthorized", "message": "Invalid or expired token"}})
        );
    }

    #[tokio::test]
    async fn the_request_id_is_in_the_envelope() {
        let id = request_id::RequestId::from_header("r-1").unwrap();
        let response = request_id::scope(id, async { ApiError::not_found().into_response() }).await;
        assert_eq!(body(response).await["error"]["request_id"], "r-1");
    }

    #[tokio::test]
    async fn an_internal_error_never_tells_its_cause() {
        let response = ApiError::internal("password of the database").into_response();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!body(response).await.to_string().contains("password"));
    }

    #[test]
    fn retry_after_is_never_zero() {
        let response = ApiError::rate_limited(0).into_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        assert!(ApiError::unavailable("x").into_response().headers().contains_key("retry-after"));
    }

    #[tokio::test]
    async fn a_key_that_may_not_is_told_the_scope() {
        let response = ApiError::insufficient_scope(Scope::VpnConnect).into_response();
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        assert_eq!(
            response.headers()[header::WWW_AUTHENTICATE],
            r#"Bearer error="insufficient_scope", scope="vpn:connect""#
        );
        let body = body(response).await;
        assert_eq!(body["error"]["code"], "insufficient_scope");
        assert_eq!(body["error"]["message"], "This API key lacks the scope `vpn:connect`");
    }

    #[test]
    fn a_refusal_names_its_field() {
        use gatekey_aggregates::gateway::Error;
        let error = ApiError::refused(&Error::PortZero);
        assert_eq!(error.status, StatusCode::BAD_REQUEST);
        assert_eq!(error.message, "`port` must be from 1 to 65535");
        assert_eq!(error.details[0].field, "port");
        let error = ApiError::refused(&Error::NotFound);
        assert_eq!((error.status, error.code), (StatusCode::NOT_FOUND, "not_found"));
        assert_eq!(error.message, "There is no such gateway");
        assert_eq!(ApiError::refused(&Error::AlreadyRegistered).status, StatusCode::CONFLICT);
    }

    #[test]
    fn what_is_taken_names_its_field() {
        let error = ApiError::taken("name", "is taken by another gateway");
        assert_eq!(error.status, StatusCode::CONFLICT);
        assert_eq!(error.details[0].field, "name");
    }
}
