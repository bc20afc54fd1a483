//! Requests to a control plane in a test's own process.

use crate::app::{AppState, router};
use crate::event_log::Request as Command;
use crate::services::Services;
use crate::testing::{ADMIN_PASSWORD, TestPlane};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Request, header};
use gatekey_aggregates::user::{self, Profile, User};
use gatekey_aggregates::values::{Role, UserId};
use gatekey_aggregates::{Metadata, PersonId, Personal};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use tower::ServiceExt;

/// Somebody who calls. Its clones call the same router, whose memory they share.
#[derive(Clone)]
pub struct Client {
    router: Router,
    peer: IpAddr,
    headers: Vec<(&'static str, String)>,
}

/// What they were answered.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body; a string if it is not JSON.
    pub body: Value,
}

impl Answer {
    /// The error's code.
    pub fn code(&self) -> &str {
        self.body["error"]["code"].as_str().unwrap_or_default()
    }

    /// The session's cookie as a browser would send it back; empty if it was removed.
    pub fn cookie(&self) -> Option<String> {
        let set = self.headers.get(header::SET_COOKIE)?.to_str().unwrap();
        let pair = set.split(';').next().unwrap();
        assert!(pair.starts_with("gatekey_session="), "{set}");
        Some(if pair.ends_with('=') { String::new() } else { pair.to_owned() })
    }
}

impl Client {
    /// A stranger at 192.0.2.1.
    pub fn of(plane: &TestPlane) -> Self {
        Self::over(router(plane.state.clone()).unwrap())
    }

    /// A stranger to other routes.
    pub fn over(router: Router) -> Self {
        Self { router, peer: IpAddr::from([192, 0, 2, 1]), headers: Vec::new() }
    }

    /// The same with a header.
    pub fn with(&self, name: &'static str, value: &str) -> Self {
        let mut client = self.clone();
        client.headers.push((name, value.to_owned()));
        client
    }

    /// The same with a session's token or an API key.
    pub fn bearer(&self, token: &str) -> Self {
        self.with("authorization", &format!("Bearer {token}"))
    }

    /// The same from another address.
    pub fn at(&self, peer: &str) -> Self {
        Self { peer: peer.parse().unwrap(), ..self.clone() }
    }

    /// Asks.
    pub async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, None).await
    }

    /// Deletes.
    pub async fn delete(&self, path: &str) -> Answer {
        self.call("DELETE", path, None).await
    }

    /// Sends JSON.
    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.call("POST", path, Some(body)).await
    }

    /// Any request. Paths without a leading `/api/` are under `/api/v1`.
    pub async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let path =
            if path.starts_with("/api/") { path.to_owned() } else { format!("/api/v1{path}") };
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let body = match body {
            Some(body) => {
                request = request.header("content-type", "application/json");
                Body::from(body.to_string())
            }
            None => Body::empty(),
        };
        let mut request = request.body(body).unwrap();
        request.extensions_mut().insert(ConnectInfo(SocketAddr::new(self.peer, 40_000)));
        let (parts, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        let bytes = to_bytes(body, 16 << 20).await.unwrap();
        let body = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&bytes).into_owned()));
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    /// Tries to sign in.
    pub async fn try_login(&self, username: &str, password: &str) -> Answer {
        let body = json!({"username": username, "password": password});
        self.post("/auth/local/login", body).await
    }

    /// The same, signed in.
    pub async fn login(&self, username: &str, password: &str) -> Self {
        let answer = self.try_login(username, password).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        self.bearer(answer.body["data"]["token"].as_str().unwrap())
    }

    /// The same, signed in as the first admin.
    pub async fn admin(&self) -> Self {
        self.login("admin", ADMIN_PASSWORD).await
    }
}

/// The password of [`add_user`].
pub const PASSWORD: &str = "staple battery horse";

/// Makes a user with `<name>@example.com` and [`PASSWORD`].
pub async fn add_user(state: &AppState, name: &str, role: Role) -> UserId {
    let services = &state.services;
    let hash = services.passwords.hash(&PASSWORD.into()).await.unwrap();
    let hash = services.vault.seal(hash.as_bytes(), None).unwrap();
    let id: UserId = services.entropy.id().unwrap();
    let person = PersonId::user(&id);
    let email = format!("{name}@example.com");
    let create = user::Command::Create {
        profile: Profile {
            username: Personal::new(person.clone(), name.parse().unwrap()),
            email: Personal::new(person, email.parse().unwrap()),
            name: None,
        },
        role,
        groups: BTreeSet::new(),
        password: Some(hash.id.clone()),
        must_change_password: false,
    };
    let request = Command::new::<User>(&id, create, system(services)).with_secret(hash);
    services.bus.execute::<User>(request).await.unwrap();
    id
}

/// Asks something of a user, as the system.
pub async fn change_user(state: &AppState, id: &UserId, command: user::Command) {
    let request = Command::new::<User>(id, command, system(&state.services));
    state.services.bus.execute::<User>(request).await.unwrap();
}

fn system(services: &Services) -> Metadata {
    let day = services.clock.now().date_naive();
    Metadata::system("test", PersonId::unknown_on(day))
}
