//! JSON bodies: strict for people's scripts, lenient for agents in the field.

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, OptionalFromRequest, Request};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use std::time::Duration;

use super::ApiError;
use super::shape::{NOT_AN_OBJECT, list_for_object};
use crate::fields::{self, Reading};

/// Largest body of any request.
pub const MAX_BODY: usize = 1 << 20;
/// How much of a larger body is read, and thrown away, before it is refused.
const MAX_DRAINED: usize = 8 << 20;
/// How long that may take.
const DRAINED_WITHIN: Duration = Duration::from_secs(5);

/// A JSON body, read strictly: `Content-Type: application/json` is demanded (415), at most
/// [`MAX_BODY`] (413), and what is malformed, of a wrong type, missing or unknown is a 400 that
/// names the field.
///
/// Request types need no `deny_unknown_fields` for that, but have it for the sake of the OpenAPI
/// document. They must not use `flatten` or `untagged`: these lose the field's name.
///
/// As an answer it is plain JSON, for the flat answers.
#[derive(Clone, Debug)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            return Err(ApiError::unsupported_media_type());
        }
        parse(&read_body(request).await?, Reading::Strict).map(Self)
    }
}

/// A body that may be left out: nothing at all is none.
impl<T: DeserializeOwned, S: Send + Sync> OptionalFromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Option<Self>, ApiError> {
        let is_json = is_json(request.headers());
        let bytes = read_body(request).await?;
        if bytes.is_empty() {
            return Ok(None);
        }
        if !is_json {
            return Err(ApiError::unsupported_media_type());
        }
        parse(&bytes, Reading::Strict).map(|body| Some(Self(body)))
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

/// An agent's JSON body: any `Content-Type`, unknown fields ignored, and an error names the field
/// and what is expected but never anything that was sent (bodies hold tokens and passwords).
/// The same bound on its size.
#[derive(Clone, Debug)]
pub struct AgentJson<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for AgentJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        parse(&read_body(request).await?, Reading::Lenient).map(Self)
    }
}

impl<T: DeserializeOwned> AgentJson<T> {
    /// Reads a body that was taken in already.
    pub fn parse(bytes: &[u8]) -> Result<Self, ApiError> {
        parse(bytes, Reading::Lenient).map(Self)
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    is_of_type(headers, "application/json")
}

/// Whether the body is said to be of this content type, whatever its parameters.
pub(super) fn is_of_type(headers: &HeaderMap, content_type: &str) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .map(|value| value.split(';').next().unwrap_or_default().trim())
        .is_some_and(|essence| essence.eq_ignore_ascii_case(content_type))
}

/// The whole body, at most [`MAX_BODY`].
pub(super) async fn read_body(request: Request) -> Result<Bytes, ApiError> {
    let (parts, body) = request.into_parts();
    read_whole(&parts.headers, body).await
}

/// The same, of a request with these headers.
pub(super) async fn read_whole(headers: &HeaderMap, mut body: Body) -> Result<Bytes, ApiError> {
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<u64>().ok());
    if announced.is_some_and(|length| length > MAX_BODY as u64) {
        drain(body).await;
        return Err(ApiError::too_large(MAX_BODY));
    }
    match Limited::new(&mut body, MAX_BODY).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            drain(body).await;
            Err(ApiError::too_large(MAX_BODY))
        }
        Err(_) => Err(ApiError::invalid("The body broke off before its end")),
    }
}

/// Reads on, within bounds: a client that is still sending when the connection is closed may never
/// see the answer.
async fn drain(mut body: Body) {
    let reading = async {
        let mut left = MAX_DRAINED;
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(length) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    // In time or not: the answer is the same.
    let _ = tokio::time::timeout(DRAINED_WITHIN, reading).await;
}

pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8], reading: Reading) -> Result<T, ApiError> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = fields::read(&mut deserializer, reading).map_err(|error| {
        // Whether it is JSON at all comes before what is wrong with it.
        if let Err(malformed) = serde_json::from_slice::<IgnoredAny>(bytes) {
            return not_json(bytes, &malformed);
        }
        if let Some(list) = list_for_object::<T>(bytes) {
            return ApiError::invalid_fields(vec![list]);
        }
        ApiError::invalid_fields(vec![match error {
            Ok(unknown) => unknown,
            Err((path, error)) => fields::describe(&path, &fields::without_place(&error), reading),
        }])
    })?;
    deserializer.end().map_err(|error| not_json(bytes, &error))?;
    // No request of ours is anything else, such as a list for an object.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(ApiError::invalid_field(fields::BODY, NOT_AN_OBJECT));
    }
    if let Some(list) = list_for_object::<T>(bytes) {
        return Err(ApiError::invalid_fields(vec![list]));
    }
    refuse_nul(bytes)?;
    Ok(value)
}

/// serde_json's messages about syntax hold nothing of the text.
fn not_json(bytes: &[u8], error: &serde_json::Error) -> ApiError {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return ApiError::invalid("The body is empty; it must be JSON");
    }
    ApiError::invalid(format!("The body is not valid JSON: {error}"))
}

/// JSON can only write a NUL as an escape, which is rare enough to look twice.
fn refuse_nul(bytes: &[u8]) -> Result<(), ApiError> {
    let escape = b"\\u0000";
    if !bytes.windows(escape.len()).any(|window| window == escape) {
        return Ok(());
    }
    let value = serde_json::from_slice(bytes).map_err(|error| not_json(bytes, &error))?;
    fields::find_nul(&value, "")
        .map_or(Ok(()), |field| Err(ApiError::invalid_field(field, fields::NUL)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::body::to_bytes;
    use axum::http::StatusCode;
    use axum::routing::post;
    use gatekey_aggregates::values::{Cidr, CommonName, Role, Serial, SessionId};
    use serde::Deserialize;
    use serde_json::{Value, json};
    use std::net::IpAddr;
    use tower::ServiceExt;

    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Inner {
        cidr: Cidr,
    }

    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Thing {
        name: String,
        port: Option<u16>,
        role: Option<Role>,
        ip: Option<IpAddr>,
        at: Option<chrono::DateTime<chrono::Utc>>,
        #[serde(default)]
        inner: Vec<Inner>,
        one: Option<Inner>,
    }

    async fn send(path: &str, content_type: Option<&str>, body: Body) -> (StatusCode, Value) {
        let app = Router::new()
            .route("/strict", post(|Json(_): Json<Thing>| async { "fine" }))
            .route("/agent", post(|AgentJson(_): AgentJson<Thing>| async { "fine" }));
        let mut request = Request::builder().method("POST").uri(path);
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        let response = app.oneshot(request.body(body).unwrap()).await.unwrap();
        let status = response.status();
        let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    async fn strict(body: &str) -> (StatusCode, Value) {
        send("/strict", Some("application/json"), Body::from(body.to_owned())).await
    }

    async fn field(body: &str) -> (String, String) {
        let (status, answer) = strict(body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}: {answer}");
        assert_eq!(answer["error"]["code"], "invalid_request", "{body}");
        let detail = &answer["error"]["details"][0];
        let text = |name: &str| detail[name].as_str().unwrap_or_default().to_owned();
        (text("field"), text("message"))
    }

    #[tokio::test]
    async fn a_fault_names_its_field_and_what_it_must_be() {
        let cases = [
            ("{}", "name", "is required"),
            (r#"{"name":1}"#, "name", "must be a string"),
            (r#"{"name":null}"#, "name", "must be a string"),
            (r#"{"name":"a","name":"b"}"#, "name", "is given twice"),
            (r#"{"name":"a","port":70000}"#, "port", "must be a whole number from 0 to 65535"),
            (r#"{"name":"a","port":-1}"#, "port", "must be a whole number from 0 to 65535"),
            (r#"{"name":"a","port":1.5}"#, "port", "must be a whole number from 0 to 65535"),
            (
                r#"{"name":"a","role":"king"}"#,
                "role",
                "must be one of `member`, `auditor`, `admin`",
            ),
            (r#"{"name":"a","role":5}"#, "role", "is of the wrong type"),
            (r#"{"name":"a","ip":"1.2.3"}"#, "ip", "must be an IP address"),
            (r#"{"name":"a","at":"noon"}"#, "at", "must be a time such as `2026-01-31T12:00:00Z`"),
            (r#"{"name":"a","at":5}"#, "at", "must be a time such as `2026-01-31T12:00:00Z`"),
            (r#"{"name":"a","inner":{}}"#, "inner", "must be a list"),
            (r#"{"name":"a","inner":[{"cidr":"10.0.0.0/8"},{}]}"#, "inner[1].cidr", "is required"),
            (
                r#"{"name":"a","inner":[{"cidr":"10.1.0.0/8"}]}"#,
                "inner[0].cidr",
                "has host bits set; the network is `10.0.0.0/8`",
            ),
            ("[]", "body", "must be an object"),
            // What derive reads as a struct, field by field.
            (r#"["a",1,null,null,null,[],null]"#, "body", "must be an object"),
            ("5", "body", "must be an object"),
            (r#"{"name":"a","one":["10.0.0.0/8"]}"#, "one", "must be an object"),
            (r#"{"name":"a","one":[5]}"#, "one", "must be an object"),
            (r#"{"name":"a","inner":[["10.0.0.0/8"]]}"#, "inner[0]", "must be an object"),
        ];
        for (body, field_name, message) in cases {
            assert_eq!(field(body).await, (field_name.to_owned(), message.to_owned()), "{body}");
        }
    }

    #[tokio::test]
    async fn unknown_fields_are_refused_by_name_at_any_depth() {
        let unknown = "is not a field that is known here";
        for (body, name) in [
            (r#"{"name":"a","nmae":"b"}"#, "nmae"),
            (r#"{"nmae":"b"}"#, "nmae"),
            (r#"{"name":"a","inner":[{"cidr":"10.0.0.0/8","x":{"y":1}}]}"#, "inner[0].x"),
            (r#"{"name":"a","one":{"cidr":"10.0.0.0/8","x":1}}"#, "one.x"),
        ] {
            assert_eq!(field(body).await, (name.to_owned(), unknown.to_owned()), "{body}");
        }
    }

    #[tokio::test]
    async fn malformed_json_is_a_400() {
        let deep = "[".repeat(10_000);
        for body in
            ["", "  ", "{", r#"{"name":"a"} x"#, "{'name':'a'}", "nul", "\"\\ud800\"", &deep]
        {
            let (status, answer) = strict(body).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
            assert_eq!(answer["error"]["code"], "invalid_request", "{body}");
        }
        let not_utf8 = Body::from(b"{\"name\":\"\xff\"}".to_vec());
        let (status, _) = send("/strict", Some("application/json"), not_utf8).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
    }

    #[tokio::test]
    async fn a_nul_is_refused_where_it_hides() {
        let nul = "must not hold NUL characters".to_owned();
        assert_eq!(field(r#"{"name":"a\u0000"}"#).await, ("name".to_owned(), nul));
        // An escaped backslash before `u0000` is no NUL.
        assert_eq!(strict(r#"{"name":"a\\u0000"}"#).await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn the_content_type_must_be_json() {
        for fine in ["application/json", "Application/JSON; charset=utf-8"] {
            let body = Body::from(r#"{"name":"a"}"#);
            assert_eq!(send("/strict", Some(fine), body).await.0, StatusCode::OK, "{fine}");
        }
        for wrong in [None, Some("text/plain"), Some("application/x-www-form-urlencoded")] {
            let (status, answer) = send("/strict", wrong, Body::from(r#"{"name":"a"}"#)).await;
            assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
            assert_eq!(answer["error"]["code"], "unsupported_media_type");
        }
    }

    #[tokio::test]
    async fn a_body_over_one_mebibyte_is_refused() {
        let json = |size: usize| format!(r#"{{"name":"{}"}}"#, "a".repeat(size));
        assert_eq!(strict(&json(MAX_BODY - 11)).await.0, StatusCode::OK);
        let (status, answer) = strict(&json(MAX_BODY - 10)).await;
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(answer["error"]["code"], "payload_too_large");
        for path in ["/strict", "/agent"] {
            let (status, _) = send(path, Some("application/json"), json(MAX_BODY).into()).await;
            assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{path}");
        }
    }

    #[tokio::test]
    async fn agents_may_send_more_than_is_known() {
        let body = r#"{"name":"a","cpu_usage":0.5,"one":{"cidr":"10.0.0.0/8","x":1}}"#;
        for content_type in [None, Some("text/plain"), Some("application/json")] {
            let (status, _) = send("/agent", content_type, Body::from(body)).await;
            assert_eq!(status, StatusCode::OK);
        }
    }

    #[test]
    fn an_agents_error_says_what_is_expected() {
        #[derive(Debug, Deserialize)]
        #[allow(dead_code)]
        struct Report {
            common_name: Option<CommonName>,
            serial_number: Option<Serial>,
            session_id: Option<SessionId>,
        }
        for (field, message) in [
            ("common_name", CommonName::EXPECTED),
            ("serial_number", Serial::EXPECTED),
            ("session_id", SessionId::EXPECTED),
        ] {
            let body = json!({field: "s3cret!"}).to_string();
            let error = AgentJson::<Report>::parse(body.as_bytes()).unwrap_err();
            assert_eq!(error.status, StatusCode::BAD_REQUEST);
            assert_eq!(error.message, format!("`{field}` {message}"));
            assert_eq!(error.details[0].field, field);
        }
    }

    #[tokio::test]
    async fn an_agents_error_never_holds_what_was_sent() {
        let cases = [
            (r#"{"name":123456789}"#, "name", "must be a string"),
            (
                r#"{"name":"a","port":"s3cret, expected s3cret"}"#,
                "port",
                "must be a whole number from 0 to 65535",
            ),
            (
                r#"{"name":"a","role":"s3cret"}"#,
                "role",
                "must be one of `member`, `auditor`, `admin`",
            ),
            (r#"{"name":"a","one":{"cidr":"s3cret"}}"#, "one.cidr", "is not valid"),
            (r#"{"name":"a","one":["10.0.0.0/8"]}"#, "one", "must be an object"),
            (r#"{"name":"a","one":["s3cret"]}"#, "one", "must be an object"),
            (r#"{"s3cret":1}"#, "name", "is required"),
        ];
        for (body, name, message) in cases {
            let (status, answer) = send("/agent", None, Body::from(body)).await;
            assert_eq!(status, StatusCode::BAD_REQUEST);
            let detail = json!({"field": name, "message": message});
            assert_eq!(answer["error"]["details"], json!([detail]), "{body}");
            let text = answer.to_string();
            assert!(!text.contains("s3cret") && !text.contains("123456789"), "{text}");
        }
    }
}
