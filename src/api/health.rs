//! Whether it lives, whether it is ready, and what it counts. Outside of `/api/v1`.

use async_trait::async_trait;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::client_ip::ClientIp;
use super::openapi::{Access, callable_by};
use super::{ApiError, Json};
use crate::app::AppState;

/// How long something may take to say that it is ready.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// Seconds, for the durations of requests.
const BUCKETS: [f64; 12] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// Something that must be ready before the server is.
#[async_trait]
pub trait Check: Send + Sync + 'static {
    /// What it is called in the answer, such as `database`.
    fn name(&self) -> &'static str;

    /// Asks it: facts about it, such as how far it lags behind; or in a few words why it is not
    /// ready. Anyone can read them.
    async fn check(&self) -> Result<serde_json::Map<String, serde_json::Value>, String>;
}

/// What `/ready` and `/metrics` need.
#[derive(Clone)]
pub struct Health {
    checks: Arc<[Arc<dyn Check>]>,
    draining: Arc<AtomicBool>,
    metrics: PrometheusHandle,
}

impl Health {
    /// Ready when all of `checks` are.
    pub fn new(checks: Vec<Arc<dyn Check>>, metrics: PrometheusHandle) -> Self {
        Self { checks: checks.into(), draining: Arc::default(), metrics }
    }

    /// From now on not ready: the server is about to stop.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Keeps the memory of histograms bounded. Call it every few seconds.
    pub fn upkeep(&self) {
        self.metrics.run_upkeep();
    }
}

/// Collects what is counted from now on. Once in a process.
pub fn install_metrics() -> Result<PrometheusHandle, BuildError> {
    let durations = Matcher::Suffix("_duration_seconds".to_owned());
    PrometheusBuilder::new().set_buckets_for_metric(durations, &BUCKETS)?.install_recorder()
}

/// The routes.
pub fn routes() -> OpenApiRouter<AppState> {
    let routes = OpenApiRouter::new()
        .routes(routes!(health))
        .routes(routes!(ready))
        .routes(routes!(metrics));
    callable_by(Access::Anyone, routes)
}

/// It lives.
#[derive(Serialize, ToSchema)]
struct Alive {
    /// `ok`.
    #[schema(value_type = String, example = "ok")]
    status: &'static str,
}

/// Liveness
///
/// Answers as long as the process does.
#[utoipa::path(get, path = "/health", tag = "Server", operation_id = "getHealth",
    responses((status = 200, description = "It lives.", body = Alive)))]
async fn health() -> Json<Alive> {
    Json(Alive { status: "ok" })
}

/// Whether it is ready.
#[derive(Serialize, ToSchema)]
struct Readiness {
    /// `ready` or `not_ready`.
    #[schema(value_type = String, example = "ready")]
    status: &'static str,
    /// What was asked.
    #[schema(example = json!({"database": {"status": "ok", "position": 4711}}))]
    checks: BTreeMap<&'static str, Finding>,
}

/// What one of the checks found.
#[derive(Serialize, ToSchema)]
struct Finding {
    /// `ok` or `failed`.
    #[schema(value_type = String, example = "ok")]
    status: &'static str,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "unreachable")]
    reason: Option<String>,
    /// Facts about it.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    facts: serde_json::Map<String, serde_json::Value>,
}

/// Readiness
///
/// Asks the database, and says how far the access index lags behind it.
#[utoipa::path(get, path = "/ready", tag = "Server", operation_id = "getReadiness", responses(
    (status = 200, description = "Ready for requests.", body = Readiness),
    (status = 503, description = "Not ready, or about to stop.", body = Readiness)))]
async fn ready(State(state): State<AppState>) -> Response {
    let health = &state.health;
    let mut checks = BTreeMap::new();
    for check in health.checks.iter() {
        let found = tokio::time::timeout(CHECK_TIMEOUT, check.check()).await;
        let found = found.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        let (status, reason, facts) = match found {
            Ok(facts) => ("ok", None, facts),
            Err(reason) => ("failed", Some(reason), serde_json::Map::new()),
        };
        checks.insert(check.name(), Finding { status, reason, facts });
    }
    let draining = health.draining.load(Ordering::Relaxed);
    if !draining && checks.values().all(|finding| finding.reason.is_none()) {
        return Json(Readiness { status: "ready", checks }).into_response();
    }
    let answer = Json(Readiness { status: "not_ready", checks });
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], answer).into_response()
}

/// Metrics
///
/// In Prometheus' text format. With the configuration's `metrics_token` as bearer token; without
/// it only from this machine, and not even from there where a proxy may speak for others: a request
/// that was forwarded, or a public URL or trusted proxy that others come by.
#[utoipa::path(get, path = "/metrics", tag = "Server", operation_id = "getMetrics", responses(
    (status = 200, description = "The metrics.", body = String, content_type = "text/plain",
        example = json!("gatekey_http_requests_total{method=\"GET\"} 4711\n")),
    (status = 401, description = "Without the token, and not certainly from this machine.",
        body = super::error::ErrorBody)))]
async fn metrics(
    State(state): State<AppState>,
    client: ClientIp,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let given = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    let token = state.config.metrics_token.as_ref();
    let right = given.zip(token).is_some_and(|(given, token)| token.matches(given));
    let is_local = !state.config.may_be_behind_a_proxy() && client.is_local(&headers);
    if !right && !is_local {
        return Err(ApiError::unauthorized().message(
            "Send the `metrics_token` of the configuration as bearer token: \
             this may be a request from elsewhere",
        ));
    }
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, content_type)], state.health.metrics.render()).into_response())
}
