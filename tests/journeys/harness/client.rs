//! A small HTTP client that knows the API's habits and says what went wrong.

use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use std::sync::Once;
use std::time::Duration;

/// Longer than any answer may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A caller of the API.
#[derive(Clone)]
pub struct Api {
    server: String,
    http: reqwest::Client,
    credential: Credential,
}

#[derive(Clone)]
enum Credential {
    Nobody,
    Bearer(String),
    GatewayToken(String),
    /// The client keeps the cookie; what it asks comes with a browser's same-origin proof.
    Cookie,
}

impl Api {
    /// A client without credential of the server at `http://127.0.0.1:43211`.
    pub fn new(server: &str) -> Self {
        Self { server: server.to_owned(), http: http(false), credential: Credential::Nobody }
    }

    /// The same server with a session token or an API key.
    pub fn bearer(&self, token: &str) -> Self {
        Self { credential: Credential::Bearer(token.to_owned()), ..self.clone() }
    }

    /// The same server with `X-Gateway-Token`.
    pub fn gateway(&self, token: &str) -> Self {
        Self { credential: Credential::GatewayToken(token.to_owned()), ..self.clone() }
    }

    /// The same caller against another node.
    pub fn at(&self, server: &str) -> Self {
        Self { server: server.to_owned(), ..self.clone() }
    }

    /// Signs in and calls with the session token.
    pub async fn login(&self, username: &str, password: &str) -> Self {
        let data = self.try_login(username, password).await.ok();
        self.bearer(data["token"].as_str().expect("a session token"))
    }

    /// Signs in and calls with the cookie, as a browser does.
    pub async fn cookie_login(&self, username: &str, password: &str) -> Self {
        let browser =
            Self { http: http(true), credential: Credential::Cookie, server: self.server.clone() };
        browser.try_login(username, password).await.ok();
        browser
    }

    /// What the login answers.
    pub async fn try_login(&self, username: &str, password: &str) -> Answer {
        self.post("/auth/local/login", &json!({"username": username, "password": password})).await
    }

    /// GET, under `/api/v1` (or outside, for `/health`, `/ready`, `/metrics`, `/docs`).
    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, |request| request).await
    }

    /// POST with a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, |request| request.json(body)).await
    }

    /// PUT with a JSON body.
    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PUT, path, |request| request.json(body)).await
    }

    /// DELETE.
    pub async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, |request| request).await
    }

    /// Any method, with headers and a body as `with` adds them.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        with: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Answer {
        let what = format!("{method} {path}");
        self.try_send(method, path, with).await.unwrap_or_else(|error| panic!("{what}: {error:?}"))
    }

    /// The same, for a server that may go away meanwhile.
    pub async fn try_send(
        &self,
        method: Method,
        path: &str,
        with: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<Answer, reqwest::Error> {
        let what = format!("{method} {path}");
        let request = self.http.request(method, self.url(path));
        let request = match &self.credential {
            Credential::Nobody => request,
            Credential::Bearer(token) => request.bearer_auth(token),
            Credential::GatewayToken(token) => request.header("X-Gateway-Token", token),
            Credential::Cookie => request.header("Sec-Fetch-Site", "same-origin"),
        };
        let response = with(request).send().await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.bytes().await?.to_vec();
        Ok(Answer { what, status, headers, body })
    }

    /// The whole address of a path.
    pub fn url(&self, path: &str) -> String {
        let outside = ["/health", "/ready", "/metrics", "/docs", "/api/"];
        let prefix = if outside.iter().any(|start| path.starts_with(start)) || path == "/" {
            ""
        } else {
            "/api/v1"
        };
        format!("{}{prefix}{path}", self.server)
    }
}

fn http(cookies: bool) -> reqwest::Client {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // Fails only when there is one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    reqwest::Client::builder()
        .timeout(TIMEOUT)
        .cookie_store(cookies)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .expect("an HTTP client")
}

/// An answer, with what was asked.
#[derive(Debug)]
pub struct Answer {
    what: String,
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// 200: its `data`.
    #[track_caller]
    pub fn ok(&self) -> Value {
        self.flat(200)["data"].take()
    }

    /// 201 with a `Location`: its `data`.
    #[track_caller]
    pub fn created(&self) -> Value {
        let data = self.flat(201)["data"].take();
        assert!(self.headers.contains_key("location"), "{}: no Location", self.what);
        data
    }

    /// 200 of a list: its `data`, which must be an array, and `meta.total`, no smaller than it.
    #[track_caller]
    pub fn list(&self) -> Vec<Value> {
        let mut body = self.flat(200);
        let Value::Array(items) = body["data"].take() else {
            panic!("{}: data is no list: {}", self.what, self.text());
        };
        let total = body["meta"]["total"].as_u64();
        assert!(total.is_some_and(|total| total >= items.len() as u64), "{}: {body}", self.what);
        items
    }

    /// That status, and the whole JSON body.
    #[track_caller]
    pub fn flat(&self, status: u16) -> Value {
        self.has_status(status);
        self.json()
    }

    /// That status, and the error envelope with that code; gives the `error`.
    #[track_caller]
    pub fn refused(&self, status: u16, code: &str) -> Value {
        let error = self.envelope(status);
        assert_eq!(error["code"], code, "{}: {}", self.what, self.text());
        error
    }

    /// That status, and the error envelope, whatever its code; gives the `error`.
    #[track_caller]
    pub fn envelope(&self, status: u16) -> Value {
        let error = self.flat(status)["error"].take();
        let (code, message) = (error["code"].as_str(), error["message"].as_str());
        let snake = |code: &str| {
            !code.is_empty() && code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        };
        assert!(code.is_some_and(snake), "{}: code of {}", self.what, self.text());
        assert!(
            message.is_some_and(|message| !message.is_empty()),
            "{}: message of {}",
            self.what,
            self.text()
        );
        error
    }

    /// That status.
    #[track_caller]
    pub fn has_status(&self, status: u16) -> &Self {
        assert_eq!(self.status.as_u16(), status, "{}: {}", self.what, self.text());
        self
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{}: {error}: {}", self.what, self.text()))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header's text, or "".
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}
