//! The wiring: what handlers share, and the routes around it.

use axum::extract::FromRef;
use axum::{Extension, Router};
use serde_json::Value;
use std::sync::Arc;

use crate::api::edge::{self, Edge};
use crate::api::gateway::{ConnectMemory, PollMemory, Turns};
use crate::api::health::Health;
use crate::api::{self, openapi};
use crate::auth::rate_limits::RateLimits;
use crate::config::Config;
use crate::event_log::RequestKey;
use crate::services::Services;
use gatekey_aggregates::values::{GatewayId, SessionId};

/// What handlers share. Cheap to clone.
#[derive(Clone)]
pub struct AppState {
    /// The settings.
    pub config: Arc<Config>,
    /// The log, the index, and everything on top of them.
    pub services: Arc<Services>,
    /// Whether the server is ready, and what it counts.
    pub health: Health,
    /// Connects that were refused lately.
    pub connects: ConnectMemory,
    /// Clients that polled lately.
    pub polls: PollMemory,
    /// Gateways whose heartbeat is being taken in.
    pub heartbeats: Turns<GatewayId>,
    /// Connections that are being resumed.
    pub resumes: Turns<SessionId>,
    /// Requests with an idempotency key that are being carried out.
    pub creations: Turns<RequestKey>,
    /// One provisioning at a time.
    pub provisioning: Arc<tokio::sync::Mutex<()>>,
    /// How often callers may ask, if that is limited.
    pub rate_limits: Option<RateLimits>,
}

impl AppState {
    /// Over running services.
    pub fn new(config: Arc<Config>, services: Arc<Services>, health: Health) -> Self {
        Self {
            rate_limits: RateLimits::new(services.clone(), config.clone()),
            config,
            services,
            health,
            connects: ConnectMemory::default(),
            polls: PollMemory::default(),
            heartbeats: Turns::default(),
            resumes: Turns::default(),
            creations: Turns::default(),
            provisioning: Arc::default(),
        }
    }
}

impl FromRef<AppState> for Arc<Services> {
    fn from_ref(state: &AppState) -> Self {
        state.services.clone()
    }
}

impl FromRef<AppState> for Arc<Config> {
    fn from_ref(state: &AppState) -> Self {
        state.config.clone()
    }
}

impl FromRef<AppState> for Turns<RequestKey> {
    fn from_ref(state: &AppState) -> Self {
        state.creations.clone()
    }
}

/// The OpenAPI document of all routes.
pub fn document() -> Result<Value, serde_json::Error> {
    let mut document = api::routes().into_openapi();
    openapi::complete(&mut document);
    openapi::finish(&document)
}

/// All routes, with everything around them.
pub fn router(state: AppState) -> Result<Router, serde_json::Error> {
    let (routes, mut document) = api::routes().split_for_parts();
    openapi::complete(&mut document);
    let edge = Edge {
        entropy: state.services.entropy.clone(),
        trusted_proxies: state.config.trusted_proxies.clone().into(),
        https: state.config.is_https(),
        timeout: edge::TIMEOUT,
        rate_limits: state.rate_limits.clone(),
    };
    let routes = routes
        .merge(openapi::docs())
        .layer(Extension(openapi::Document::new(&openapi::finish(&document)?)?))
        .with_state(state);
    Ok(edge::around(routes, edge))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::health::Check;
    use crate::clock::Clock;
    use crate::testing::{self, TestPlane};
    use async_trait::async_trait;
    use axum::body::{Body, to_bytes};
    use axum::extract::ConnectInfo;
    use axum::http::{HeaderMap, Request, StatusCode, header};
    use serde_json::{Map, json};
    use std::net::SocketAddr;
    use std::sync::atomic::{AtomicBool, Ordering};
    use tower::ServiceExt;

    /// Ready or not, as the test says.
    struct Database(AtomicBool);

    #[async_trait]
    impl Check for Database {
        fn name(&self) -> &'static str {
            "database"
        }

        async fn check(&self) -> Result<Map<String, Value>, String> {
            if self.0.load(Ordering::SeqCst) {
                Ok(Map::from_iter([("position".to_owned(), json!(7))]))
            } else {
                Err("unreachable".to_owned())
            }
        }
    }

    async fn state(toml: &str, checks: Vec<Arc<dyn Check>>) -> TestPlane {
        testing::start(toml, checks, Clock::system()).await
    }

    struct Answer {
        status: StatusCode,
        headers: HeaderMap,
        body: String,
    }

    impl Answer {
        fn json(&self) -> Value {
            serde_json::from_str(&self.body).unwrap()
        }
    }

    async fn get(plane: &TestPlane, peer: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::builder().uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Body::empty()).unwrap();
        let peer = SocketAddr::new(peer.parse().unwrap(), 40_000);
        request.extensions_mut().insert(ConnectInfo(peer));
        let response = router(plane.state.clone()).unwrap().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, 16 << 20).await.unwrap();
        let body = String::from_utf8_lossy(&body).into_owned();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    #[tokio::test]
    async fn it_is_ready_when_all_checks_are_and_it_does_not_stop() {
        let database = Arc::new(Database(AtomicBool::new(true)));
        let state = state("", vec![database.clone()]).await;
        let ready = get(&state, "192.0.2.1", "/ready", &[]).await;
        assert_eq!(ready.status, StatusCode::OK);
        assert_eq!(
            ready.json(),
            json!({"status": "ready", "checks": {"database": {"status": "ok", "position": 7}}})
        );

        database.0.store(false, Ordering::SeqCst);
        let ready = get(&state, "192.0.2.1", "/ready", &[]).await;
        assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(ready.headers.contains_key(header::RETRY_AFTER));
        let database_is = &ready.json()["checks"]["database"];
        assert_eq!(*database_is, json!({"status": "failed", "reason": "unreachable"}));
        assert_eq!(get(&state, "192.0.2.1", "/health", &[]).await.json(), json!({"status": "ok"}));

        database.0.store(true, Ordering::SeqCst);
        state.state.health.drain();
        let ready = get(&state, "192.0.2.1", "/ready", &[]).await;
        assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(ready.json()["status"], "not_ready");
    }

    #[tokio::test]
    async fn metrics_are_for_this_machine_or_with_the_token() {
        let with_token = state("metrics_token = 'a-token'", vec![]).await;
        let without = state("", vec![]).await;
        let proxied_silently = state("public_url = 'https://vpn.example.com'", vec![]).await;
        let both = "public_url = 'https://vpn.example.com'\nmetrics_token = 'a-token'";
        let both = state(both, vec![]).await;
        let bearer = [("authorization", "Bearer a-token")];
        let proxied = [("x-forwarded-for", "127.0.0.1")];
        for (state, peer, headers, expected) in [
            (&without, "127.0.0.1", &[][..], 200),
            (&without, "::1", &[], 200),
            (&without, "192.0.2.1", &[], 401),
            (&without, "192.0.2.1", &bearer, 401),
            (&without, "192.0.2.1", &[("authorization", "Bearer ")], 401),
            (&without, "127.0.0.1", &proxied, 401),
            (&without, "127.0.0.1", &[("x-forwarded-proto", "https")], 401),
            (&proxied_silently, "127.0.0.1", &[], 401),
            (&both, "127.0.0.1", &[], 401),
            (&both, "127.0.0.1", &bearer, 200),
            (&with_token, "127.0.0.1", &[], 200),
            (&with_token, "192.0.2.1", &bearer, 200),
            (&with_token, "192.0.2.1", &[("authorization", "Bearer b-token")], 401),
        ] {
            let answer = get(state, peer, "/metrics", headers).await;
            assert_eq!(answer.status, expected, "{peer} {headers:?}");
        }
    }

    #[tokio::test]
    async fn the_document_is_served() {
        let answer = get(&state("", vec![]).await, "192.0.2.1", "/api/v1/openapi.json", &[]).await;
        assert_eq!(answer.headers[header::CONTENT_TYPE], "application/json");
        assert_eq!(answer.json(), document().unwrap());
    }

    #[tokio::test]
    async fn the_viewer_loads_nothing_from_elsewhere() {
        let state = state("", vec![]).await;
        let page = get(&state, "192.0.2.1", "/docs/", &[]).await;
        assert_eq!(page.status, StatusCode::OK);
        assert!(!page.body.contains("://"), "{}", page.body);
        let policy = page.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.contains("script-src 'self';"), "{policy}");
        let settings = get(&state, "192.0.2.1", "/docs/swagger-initializer.js", &[]).await;
        assert!(settings.body.contains("/api/v1/openapi.json"), "{}", settings.body);
        let nothing = get(&state, "192.0.2.1", "/docs/nope.js", &[]).await;
        assert_eq!(
            (nothing.status, &nothing.json()["error"]["code"]),
            (StatusCode::NOT_FOUND, &json!("not_found"))
        );
        assert_eq!(get(&state, "192.0.2.1", "/docs", &[]).await.status, StatusCode::SEE_OTHER);
    }
}
