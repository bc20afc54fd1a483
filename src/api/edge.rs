//! What happens around every request: its id, its client, its time limit, its log line and
//! metrics, and the headers that every answer bears.

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use gatekey_aggregates::values::Cidr;
use metrics::{counter, histogram};
use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tower_http::catch_panic::CatchPanicLayer;
use tracing::Instrument;

use super::client_ip::ClientIp;
use super::request_id::{self, RequestId};
use super::{ApiError, agent};
use crate::auth::rate_limits::RateLimits;
use crate::entropy::Entropy;

/// How long a request may take until its answer begins.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// For an answer that holds no page: nothing may be loaded by it, nothing may frame it.
const CSP: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
const HSTS: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// What the edge knows.
#[derive(Clone)]
pub struct Edge {
    /// Makes request ids.
    pub entropy: Entropy,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Arc<[Cidr]>,
    /// Whether people reach us by HTTPS.
    pub https: bool,
    /// How long a request may take until its answer begins.
    pub timeout: Duration,
    /// How often callers may ask; none: as often as they please.
    pub rate_limits: Option<RateLimits>,
}

/// Puts the edge around `routes`, and gives what no route answers to the envelope.
pub fn around(routes: Router, edge: Edge) -> Router {
    routes
        .fallback(|| async { ApiError::not_found().message("There is no such route") })
        .method_not_allowed_fallback(|| async { ApiError::method_not_allowed() })
        .layer(CatchPanicLayer::custom(|_: Box<dyn Any + Send>| {
            ApiError::internal("a handler panicked").into_response()
        }))
        .layer(from_fn_with_state(edge, layer))
}

async fn layer(State(edge): State<Edge>, mut request: Request, next: Next) -> Response {
    let since = Instant::now();
    let id = RequestId::of(request.headers(), &edge.entropy);
    let client = ClientIp::of(request.extensions(), request.headers(), &edge.trusted_proxies);
    request.extensions_mut().insert(id.clone());
    request.extensions_mut().insert(client);

    let method = method_name(request.method());
    // The route's pattern, never the path or the query: these may hold secrets.
    let route = request.extensions().get::<MatchedPath>().cloned();
    let path = route.as_ref().map_or("(none)", MatchedPath::as_str);
    let span = tracing::info_span!("request", id = id.as_str(), method, route = path);

    let answer = async {
        let in_time = |request| async move {
            let answered = tokio::time::timeout(edge.timeout, next.run(request)).await;
            answered.unwrap_or_else(|_| {
                tracing::error!("a request took too long");
                ApiError::unavailable("It took too long").code("timeout").into_response()
            })
        };
        let mut response = match &edge.rate_limits {
            Some(limits) => limits.around(request, in_time).await,
            None => in_time(request).await,
        };
        response = agent::refuse(path, response);
        finish(response.headers_mut(), edge.https);
        tell(method, path, response.status(), since.elapsed());
        response
    };
    let mut response = request_id::scope(id.clone(), answer.instrument(span)).await;
    if let Some(id) = id.to_header() {
        response.headers_mut().insert(request_id::HEADER, id);
    }
    response
}

/// The headers that every answer bears; a handler's own go before them.
fn finish(headers: &mut HeaderMap, https: bool) {
    let mut default = |name: HeaderName, value: HeaderValue| {
        headers.entry(name).or_insert(value);
    };
    default(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    default(header::CONTENT_SECURITY_POLICY, CSP);
    default(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    default(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    default(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if https {
        default(header::STRICT_TRANSPORT_SECURITY, HSTS);
    }
}

fn tell(method: &'static str, route: &str, status: StatusCode, took: Duration) {
    let route_label = route.to_owned();
    counter!("gatekey_http_requests_total",
        "method" => method, "route" => route_label.clone(), "status" => status.as_str().to_owned())
    .increment(1);
    histogram!("gatekey_http_request_duration_seconds", "method" => method, "route" => route_label)
        .record(took.as_secs_f64());

    let status = status.as_u16();
    let millis = took.as_secs_f64() * 1000.0;
    // Agents and probes call all day long.
    let chatter = !route.starts_with("/api/v1/") || route.starts_with("/api/v1/gateway/");
    if status >= 500 {
        tracing::error!(status, millis, "answered");
    } else if status >= 400 || !chatter {
        tracing::info!(status, millis, "answered");
    } else {
        tracing::debug!(status, millis, "answered");
    }
}

/// A label must not be what callers please.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use axum::body::{Body, to_bytes};
    use axum::extract::ConnectInfo;
    use axum::routing::{get, post, put};
    use serde_json::{Value, json};
    use std::net::SocketAddr;
    use tower::ServiceExt;

    fn app() -> Router {
        let edge = Edge {
            entropy: Entropy::system(Clock::system()),
            trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()].into(),
            https: true,
            timeout: Duration::from_millis(50),
            rate_limits: None,
        };
        let connect = |outcome: &'static str| async move {
            if outcome == "fail" { Err(ApiError::internal("why")) } else { Ok("fine") }
        };
        let nested = Router::new()
            .route("/thing", get(|| async { "thing" }).put(|| async { "put" }))
            .route("/panic", get(|| async { if true { panic!("secret") } else { "" } }))
            .route("/slow", get(std::future::pending::<&'static str>))
            .route("/cached", get(|| async { ([(header::CACHE_CONTROL, "max-age=60")], "") }))
            .route("/ip", get(|ip: ClientIp| async move { ip.0.to_string() }))
            .route("/id", get(|id: RequestId| async move { id.as_str().to_owned() }))
            .route("/gateway/connect", post(move || connect("fail")))
            .route("/gateway/verify", post(|| async { ApiError::unauthorized() }))
            .route("/gateway/heartbeat", put(move || connect("fine")));
        around(Router::new().nest("/api/v1", nested), edge)
    }

    async fn send(method: &str, path: &str, headers: &[(&str, &str)]) -> (Response, Value) {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Body::empty()).unwrap();
        let peer: SocketAddr = "10.0.0.1:1".parse().unwrap();
        request.extensions_mut().insert(ConnectInfo(peer));
        let (parts, body) = app().oneshot(request).await.unwrap().into_parts();
        let bytes = to_bytes(body, 1 << 20).await.unwrap();
        let json = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&bytes).into_owned()));
        (Response::from_parts(parts, Body::empty()), json)
    }

    #[tokio::test]
    async fn unknown_routes_and_methods_wear_the_envelope() {
        for path in ["/", "/nope", "/api/v1", "/api/v1/nope", "/api/v1/thing/"] {
            let (response, body) = send("GET", path, &[("x-request-id", "r-1")]).await;
            assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
            assert_eq!(body["error"]["code"], "not_found", "{path}");
            assert_eq!(body["error"]["request_id"], "r-1", "{path}");
        }
        let (response, body) = send("DELETE", "/api/v1/thing", &[]).await;
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(response.headers()[header::ALLOW], "GET,HEAD,PUT");
        assert_eq!(body["error"]["code"], "method_not_allowed");
    }

    #[tokio::test]
    async fn a_panic_is_a_500_that_says_nothing() {
        let (response, body) = send("GET", "/api/v1/panic", &[]).await;
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(body["error"]["code"], "internal_error");
        assert!(body["error"]["request_id"].is_string());
        assert!(!body.to_string().contains("secret"));
    }

    #[tokio::test]
    async fn a_request_that_takes_too_long_is_a_503() {
        let (response, body) = send("GET", "/api/v1/slow", &[]).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(body["error"]["code"], "timeout");
        assert!(response.headers().contains_key(header::RETRY_AFTER));
    }

    #[tokio::test]
    async fn every_answer_bears_the_headers() {
        for path in ["/api/v1/thing", "/nope", "/api/v1/panic"] {
            let (response, _) = send("GET", path, &[]).await;
            let headers = response.headers();
            assert_eq!(headers[header::CACHE_CONTROL], "no-store");
            assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
            assert_eq!(headers[header::X_FRAME_OPTIONS], "DENY");
            assert_eq!(headers[header::CONTENT_SECURITY_POLICY], CSP);
            assert_eq!(headers[header::STRICT_TRANSPORT_SECURITY], HSTS);
            assert!(headers.contains_key(request_id::HEADER));
        }
        let (response, _) = send("GET", "/api/v1/cached", &[]).await;
        assert_eq!(response.headers()[header::CACHE_CONTROL], "max-age=60");
    }

    #[tokio::test]
    async fn handlers_see_the_request_id_and_the_client() {
        let (response, body) = send("GET", "/api/v1/id", &[("x-request-id", "r-1")]).await;
        assert_eq!(
            (body, &response.headers()[request_id::HEADER]),
            (json!("r-1"), &HeaderValue::from_static("r-1"))
        );
        let (_, body) =
            send("GET", "/api/v1/ip", &[("x-forwarded-for", "1.1.1.1, 192.0.2.7")]).await;
        assert_eq!(body, "192.0.2.7");
    }

    #[tokio::test]
    async fn an_agent_that_gets_an_error_lets_nobody_in() {
        let (response, body) = send("POST", "/api/v1/gateway/connect", &[]).await;
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(body["error"]["code"], "internal_error");
        assert_eq!((&body["allow"], &body["client_config"]), (&json!(false), &json!(["disable"])));
        let (response, body) = send("POST", "/api/v1/gateway/verify", &[]).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        let reason = json!("Invalid or expired token");
        assert_eq!((&body["allowed"], &body["reason"]), (&json!(false), &reason));
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
        // Also where no handler was reached.
        let (response, body) = send("GET", "/api/v1/gateway/connect", &[]).await;
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(body["client_config"], json!(["disable"]));
        let (_, body) = send("PUT", "/api/v1/gateway/heartbeat", &[]).await;
        assert_eq!(body, "fine");
    }
}
