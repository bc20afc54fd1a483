//! A whole control plane in the test's own process, at a time that the test sets.

use super::client::Api;
use super::postgres::{Database, Postgres};
use super::seed::Seed;
use super::server::ADMIN_PASSWORD;
use super::world::Kind;
use super::{log, wait};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::{Request, StatusCode, header};
use chrono::{DateTime, Utc};
use gatekey::api::health::Health;
use gatekey::app::{self, AppState};
use gatekey::clock::Clock;
use gatekey::config::{Config, Options};
use gatekey::entropy::Entropy;
use gatekey::secrets::Secret;
use gatekey::services::{self, Background, Services, Setup};
use gatekey_aggregates::values::GatewayId;
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tower::ServiceExt;

/// A control plane that lives as long as this.
pub struct Plane {
    /// What handlers share.
    pub state: AppState,
    /// The time, which stands still until it is moved.
    pub clock: Clock,
    router: Router,
    _background: Background,
    _database: Option<Database>,
    _data: TempDir,
}

impl Plane {
    /// A new one, at the time `at`.
    pub async fn start(kind: Kind, at: DateTime<Utc>) -> Self {
        let data = tempfile::tempdir().expect("a temporary directory");
        let database = (kind == Kind::Postgres).then(|| Postgres::shared().empty_database());
        let database_url = match &database {
            Some(database) => database.url.clone(),
            None => format!("sqlite://{}", data.path().join("gatekey.db").display()),
        };
        let clock = Clock::fixed(at);
        let setup = Setup {
            database_url,
            master: log::master(),
            node: "test".to_owned(),
            admin_password: Some(Secret::from(ADMIN_PASSWORD)),
            entropy: Entropy::system(clock.clone()),
            clock: clock.clone(),
        };
        let (services, background, _) =
            services::start(setup, |_, _| {}).await.expect("the services");
        let options = Options::from_toml("rate_limits = \"off\"").expect("options");
        let config = Config::complete(options).expect("a configuration");
        let metrics = PrometheusBuilder::new().build_recorder().handle();
        let state = AppState::new(Arc::new(config), services, Health::new(Vec::new(), metrics));
        let router = app::router(state.clone()).expect("the routes");
        Self { state, clock, router, _background: background, _database: database, _data: data }
    }

    /// Serves it over HTTP: nobody's client of it.
    pub async fn serve(&self) -> Api {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let service = self.router.clone().into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, service).await });
        Api::new(&format!("http://{address}"))
    }

    /// The services.
    pub fn services(&self) -> &Services {
        &self.state.services
    }

    /// To plant with.
    pub fn seed(&self) -> Seed<'_> {
        let services = self.services();
        Seed { bus: &services.bus, entropy: &services.entropy, now: self.clock.now() }
    }

    /// What an agent's POST below `/api/v1/gateway/` is answered.
    pub async fn agent(&self, route: &str, token: &str, body: &Value) -> (StatusCode, Value) {
        let mut request = Request::post(format!("/api/v1/gateway/{route}"))
            .header(header::CONTENT_TYPE, "application/json")
            .header("x-gateway-token", token)
            .body(Body::from(body.to_string()))
            .expect("a request");
        let peer: SocketAddr = "192.0.2.1:40000".parse().expect("an address");
        request.extensions_mut().insert(ConnectInfo(peer));
        let answer = self.router.clone().oneshot(request).await.expect("an answer");
        let status = answer.status();
        let bytes = to_bytes(answer.into_body(), 1 << 20).await.expect("a body");
        (status, serde_json::from_slice(&bytes).expect("JSON"))
    }

    /// Waits until what a heartbeat brought has been taken in.
    pub async fn heartbeat_is_taken_in(&self, gateway_id: &GatewayId) {
        wait::eventually("the heartbeat is taken in", Duration::from_secs(20), || async {
            self.state.heartbeats.begin(gateway_id).map(drop)
        })
        .await;
    }
}
