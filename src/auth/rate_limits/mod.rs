//! How often callers may ask, by class of routes: `tower_governor` with our own keys and answers.
//!
//! It counts by the generic cell rate algorithm: who has been quiet may send the whole limit at once,
//! and from then on one request each minute / limit. So a first minute can see nearly twice the limit,
//! and every later one at most the limit. There are no windows whose edge one could wait for.
//!
//! Who calls is found out here, before the handler, which is told the result: nobody is looked up
//! twice, and whoever fails to prove who they are is counted by address. Each node counts for itself.

mod class;

pub use class::Class;

use super::back_off::network;
use super::extract::{self, Identified};
use crate::api::gateway::{self, Proven};
use crate::api::{ApiError, ClientIp};
use crate::config::{Config, RateLimits as Settings};
use crate::services::Services;
use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::response::{IntoResponse, Response};
use gatekey_aggregates::attempt::{Denial, Event};
use gatekey_aggregates::values::{GatewayId, UserId};
use gatekey_aggregates::{Metadata, Personal};
use governor::middleware::StateInformationMiddleware;
use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};
use tower::{Layer, ServiceExt, service_fn};
use tower_governor::governor::{GovernorConfig, GovernorConfigBuilder};
use tower_governor::key_extractor::KeyExtractor;
use tower_governor::{GovernorError, GovernorLayer};

/// Requests per minute.
const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
/// How many are left at once.
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
/// In how many seconds all are left again.
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

const MINUTE: Duration = Duration::from_mins(1);
/// Keys of a class that are told apart. Beyond it IPv6 networks share counts, and beyond twice as
/// many IPv4 addresses too: whoever has many addresses must not fill our memory with them.
const MAX_KEYS: usize = 100_000;
/// How many counts they share.
const SHARED: u64 = 1024;
/// After so many requests it is looked at how many keys there are.
const LOOK_EVERY: usize = 64;

/// By what a request is counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    User(UserId),
    Gateway(GatewayId),
    /// An address, of IPv6 its /64.
    Network(IpAddr),
    /// One of [`SHARED`].
    Shared(u64),
}

/// Takes the key that was found out before.
#[derive(Clone, Copy, Debug)]
struct FoundOut;

impl KeyExtractor for FoundOut {
    type Key = Key;

    fn extract<T>(&self, request: &axum::http::Request<T>) -> Result<Key, GovernorError> {
        request.extensions().get::<Key>().cloned().ok_or(GovernorError::UnableToExtractKey)
    }
}

/// The limits of all classes. Cheap to clone.
#[derive(Clone)]
pub struct RateLimits {
    inner: Arc<Inner>,
}

struct Inner {
    services: Arc<Services>,
    config: Arc<Config>,
    counts: [Counts; Class::ALL.len()],
}

/// What is counted of one class.
struct Counts {
    class: Class,
    limit: NonZeroU32,
    config: Arc<GovernorConfig<FoundOut, StateInformationMiddleware>>,
    layer: GovernorLayer<FoundOut, StateInformationMiddleware, Body>,
    requests: AtomicUsize,
    /// How many keys there were when it was last looked.
    keys: AtomicUsize,
    max_keys: usize,
    hasher: RandomState,
}

/// Who makes a request, as far as is known before it is answered: for the record.
enum Who {
    Caller(Metadata, UserId),
    Gateway(Proven),
    Stranger(Metadata),
}

impl RateLimits {
    /// As configured; none if they are off.
    pub fn new(services: Arc<Services>, config: Arc<Config>) -> Option<Self> {
        let settings = config.rate_limits?;
        let counts = Class::ALL.map(|class| Counts::new(class, &settings, MAX_KEYS));
        // Only a limit of 0 gives none, and there is no such number.
        let [Some(a), Some(b), Some(c), Some(d)] = counts else { return None };
        Some(Self { inner: Arc::new(Inner { services, config, counts: [a, b, c, d] }) })
    }

    /// Answers a request by `answer`, unless whoever makes it has made too many. Every answer says how
    /// it stands.
    pub async fn around<F>(
        &self,
        request: Request,
        answer: impl FnOnce(Request) -> F + Send,
    ) -> Response
    where
        F: Future<Output = Response> + Send,
    {
        let matched = request.extensions().get::<MatchedPath>().cloned();
        let route = matched.as_ref().map_or(request.uri().path(), MatchedPath::as_str);
        let Some(class) = Class::of(route) else { return answer(request).await };
        // Nor is a path written down that is no route's: it may hold anything.
        let route = matched.as_ref().map_or("(none)", MatchedPath::as_str);
        let target = (request.method().clone(), route);
        let Some(counts) = self.inner.counts.iter().find(|it| it.class == class) else {
            return answer(request).await;
        };

        let Some(&ClientIp(client_ip)) = request.extensions().get::<ClientIp>() else {
            return ApiError::internal("the edge layer is missing").into_response();
        };
        let (who, mut request, broken) = self.find_out(class, request).await;
        request.extensions_mut().insert(counts.key(&who, client_ip));

        let mut answer = Some(answer);
        let mut reached = false;
        let asked = service_fn(|request: Request| {
            reached = true;
            let answer = answer.take();
            let broken = broken.clone();
            async move {
                Ok::<_, Infallible>(match (broken, answer) {
                    (Some(error), _) => error.into_response(),
                    (None, Some(answer)) => answer(request).await,
                    (None, None) => ApiError::internal("asked twice").into_response(),
                })
            }
        });
        let answered = counts.layer.layer(asked).oneshot(request).await;
        let mut response = answered.unwrap_or_else(|never| match never {});
        counts.tell(response.headers_mut());
        if !reached {
            self.record(class, &target, who, client_ip);
        }
        response
    }

    /// Who makes the request, what is left of it, and what is wrong with it already.
    async fn find_out(&self, class: Class, request: Request) -> (Who, Request, Option<ApiError>) {
        let Inner { services, config, .. } = &*self.inner;
        match class {
            Class::Authentication => (self.stranger(&request), request, None),
            Class::Heartbeat => {
                let (proven, request, broken) = gateway::identify(services, request).await;
                let who = proven.map_or_else(|| self.stranger(&request), Who::Gateway);
                (who, request, broken)
            }
            Class::ConfigGeneration | Class::Admin => {
                let (mut parts, body) = request.into_parts();
                let identified = extract::identify(&parts, services, config);
                let caller = match &identified {
                    Ok(Some(it)) => Some(Who::Caller(it.metadata(None), it.user_id.clone())),
                    Ok(None) | Err(_) => None,
                };
                parts.extensions.insert(Identified::new(identified));
                let request = Request::from_parts(parts, body);
                (caller.unwrap_or_else(|| self.stranger(&request)), request, None)
            }
        }
    }

    fn stranger(&self, request: &Request) -> Who {
        let services = &self.inner.services;
        let known = extract::circumstances(request.headers(), request.extensions(), services);
        Who::Stranger(known.map_or_else(
            |_| Metadata::system("", services.keyring.unknown_person()),
            |circumstances| circumstances.metadata(),
        ))
    }

    /// Takes down that somebody made too many requests of a class.
    fn record(&self, class: Class, target: &(Method, &str), who: Who, client_ip: IpAddr) {
        metrics::counter!("gatekey_rate_limited_total", "class" => class.as_str()).increment(1);
        let services = &self.inner.services;
        let (metadata, user_id, gateway_id) = match who {
            Who::Caller(metadata, user_id) => (metadata, Some(user_id), None),
            Who::Stranger(metadata) => (metadata, None, None),
            Who::Gateway(Proven { gateway_id: id, gateway_name: name }) => {
                (gateway::metadata(services, &id, &name, Some(client_ip)), None, Some(id))
            }
        };
        let (method, route) = target;
        let denial = Denial {
            user_id,
            gateway_id,
            client_ip: Some(Personal::new(metadata.person.clone(), client_ip)),
            target: Some(format!("{method} {route}")),
            ..Denial::new(class.as_str())
        };
        services.attempts.record(Event::RateLimited, denial, metadata);
    }

    /// Forgets every minute who has been quiet, until dropped.
    pub async fn run(self) {
        let mut timer = interval(MINUTE);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            timer.tick().await;
            for counts in &self.inner.counts {
                counts.forget_quiet();
            }
        }
    }
}

impl Counts {
    fn new(class: Class, settings: &Settings, max_keys: usize) -> Option<Self> {
        let limit = class.limit(settings);
        let config = GovernorConfigBuilder::default()
            .key_extractor(FoundOut)
            .period(MINUTE / limit.get())
            .burst_size(limit.get())
            .use_headers()
            .finish()?;
        let config = Arc::new(config);
        let layer = GovernorLayer::new(config.clone()).error_handler(|error| match error {
            // It is cut to whole seconds: who waits as long as told must be let in.
            GovernorError::TooManyRequests { wait_time, .. } => {
                let wait = u32::try_from(wait_time.saturating_add(1)).unwrap_or(u32::MAX);
                ApiError::rate_limited(wait).into_response()
            }
            error => ApiError::internal(error).into_response(),
        });
        Some(Self {
            class,
            limit,
            config,
            layer,
            requests: AtomicUsize::new(0),
            keys: AtomicUsize::new(0),
            max_keys,
            hasher: RandomState::new(),
        })
    }

    fn key(&self, who: &Who, client_ip: IpAddr) -> Key {
        match who {
            Who::Caller(_, user_id) => return Key::User(user_id.clone()),
            Who::Gateway(proven) => return Key::Gateway(proven.gateway_id.clone()),
            Who::Stranger(_) => {}
        }
        if self.requests.fetch_add(1, Ordering::Relaxed).is_multiple_of(LOOK_EVERY) {
            self.keys.store(self.config.limiter().len(), Ordering::Relaxed);
        }
        let network = network(client_ip);
        let most = if network.is_ipv6() { self.max_keys } else { 2 * self.max_keys };
        if self.keys.load(Ordering::Relaxed) < most {
            Key::Network(network)
        } else {
            Key::Shared(self.hasher.hash_one(network) % SHARED)
        }
    }

    /// Adds what the layer has not: on a refusal all of it, else in how many seconds all is left again.
    fn tell(&self, headers: &mut HeaderMap) {
        let limit = self.limit.get();
        let remaining = headers.get(REMAINING).and_then(|value| value.to_str().ok()?.parse().ok());
        let remaining: u32 = remaining.unwrap_or_default();
        let used = u64::from(limit.saturating_sub(remaining));
        headers.insert(LIMIT, limit.into());
        headers.insert(REMAINING, remaining.into());
        headers.insert(RESET, HeaderValue::from((used * 60).div_ceil(u64::from(limit))));
    }

    fn forget_quiet(&self) {
        let limiter = self.config.limiter();
        limiter.retain_recent();
        limiter.shrink_to_fit();
        let keys = limiter.len();
        self.keys.store(keys, Ordering::Relaxed);
        metrics::gauge!("gatekey_rate_limit_keys", "class" => self.class.as_str()).set(keys as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::client::{Answer, Client, PASSWORD, add_user};
    use crate::clock::Clock;
    use crate::testing::{self, ADMIN_PASSWORD, TestPlane};
    use gatekey_aggregates::Event as AnyEvent;
    use gatekey_aggregates::values::Role;
    use serde_json::json;

    async fn plane(limits: &str) -> (TestPlane, Client) {
        let toml = format!("[rate_limits]\n{limits}");
        let plane = testing::start(&toml, vec![], Clock::system()).await;
        let client = Client::of(&plane);
        (plane, client)
    }

    /// Limit, remaining, reset.
    fn standing(answer: &Answer) -> [Option<u32>; 3] {
        [LIMIT, REMAINING, RESET]
            .map(|name| answer.headers.get(name).map(|it| it.to_str().unwrap().parse().unwrap()))
    }

    #[track_caller]
    fn assert_limited(answer: &Answer, limit: u32) {
        assert_eq!((answer.status, answer.code()), (429, "rate_limited"), "{}", answer.body);
        assert_eq!(standing(answer), [Some(limit), Some(0), Some(60)]);
        let wait: u32 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=60 / limit + 1).contains(&wait), "{wait}");
    }

    /// Those of a kind, once there is one.
    async fn recorded(plane: &TestPlane) -> Vec<Denial> {
        for _ in 0..500 {
            let events = plane.state.services.reader.after(0, 1000).await.unwrap();
            let limited: Vec<_> = events
                .into_iter()
                .filter_map(|it| match it.event {
                    AnyEvent::Attempt(Event::RateLimited(denial)) => Some(denial),
                    _ => None,
                })
                .collect();
            if !limited.is_empty() {
                return limited;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it was not written down");
    }

    #[tokio::test]
    async fn signing_in_is_counted_by_network_whatever_is_sent() {
        let (plane, client) = plane("authentication = 3").await;
        let v6 = client.at("2001:db8:0:1::1");
        for left in [2, 1] {
            let answer = v6.post("/auth/local/login", json!({})).await;
            assert_eq!(answer.status, 400);
            assert_eq!(standing(&answer), [Some(3), Some(left), Some(60 - 20 * left)]);
        }
        assert_eq!(v6.get("/auth/local/login").await.status, 405);
        // The whole /64 is one, and its neighbour another.
        let same = client.at("2001:db8:0:1:ffff::2");
        assert_limited(&same.try_login("admin", ADMIN_PASSWORD).await, 3);
        for other in ["2001:db8:0:2::1", "198.51.100.7", "198.51.100.8"] {
            let answer = client.at(other).try_login("admin", ADMIN_PASSWORD).await;
            assert_eq!(answer.status, 200, "{other}");
            assert_eq!(standing(&answer)[1], Some(2), "{other}");
        }
        // Nothing else is counted with it.
        let session = same.get("/auth/session").await;
        assert_eq!((session.status, standing(&session)), (200, [None; 3]));
        for _ in 0..20 {
            assert_eq!(same.post("/auth/local/login", json!({})).await.status, 429);
        }
        let written = recorded(&plane).await;
        // At once, and its repeats at a turn of the recorder's minute.
        assert!(written.len() <= 2, "repeats are counted: {written:?}");
        assert_eq!(written[0].reason, "authentication");
        assert_eq!(written[0].target.as_deref(), Some("POST /api/v1/auth/local/login"));
        let from = written[0].client_ip.as_ref().and_then(|it| it.open()).unwrap();
        assert_eq!(from.to_string(), "2001:db8:0:1:ffff::2");
    }

    #[tokio::test]
    async fn who_waits_as_long_as_told_is_let_in() {
        // One each half a second.
        let (_plane, client) = plane("authentication = 120").await;
        let ask = || client.post("/auth/local/login", json!({}));
        let refused = 'full: {
            for _ in 0..1000 {
                let answer = ask().await;
                if answer.status == 429 {
                    break 'full answer;
                }
            }
            panic!("the limit is never reached");
        };
        assert_eq!(refused.headers["retry-after"], "1");
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(ask().await.status, 400);
    }

    #[tokio::test]
    async fn admins_are_counted_by_person_and_who_is_nobody_by_address() {
        let (plane, client) = plane("admin = 4").await;
        let admin = client.admin().await;
        let key = admin.post("/api-keys", json!({"name": "ci"})).await;
        let key = client.bearer(key.body["data"]["key"].as_str().unwrap());
        add_user(&plane.state, "vera", Role::Auditor).await;
        let vera = client.login("vera", PASSWORD).await;
        add_user(&plane.state, "ada", Role::Member).await;
        let ada = client.login("ada", PASSWORD).await;

        // All answers tell, and one person's credentials and addresses count together.
        let answers = [
            (admin.get("/admin/users").await, 200),
            (key.at("198.51.100.7").get("/admin/users/usr-none").await, 404),
            (admin.get("/admin/nonesuch").await, 404),
            (key.post("/admin/networks", json!({})).await, 400),
        ];
        for (left, (answer, status)) in (0..4).rev().zip(&answers) {
            assert_eq!(answer.status, *status, "{}", answer.body);
            assert_eq!(standing(answer), [Some(4), Some(left), Some(60 - 15 * left)]);
        }
        assert_limited(&admin.at("203.0.113.9").get("/admin/users").await, 4);
        assert_limited(&key.get("/admin/users").await, 4);
        // What is not /admin is not counted, and others are others.
        assert_eq!(admin.get("/users/me").await.status, 200);
        assert_eq!(vera.get("/admin/users").await.status, 200);
        // Who may not is counted too.
        for _ in 0..4 {
            assert_eq!(ada.get("/admin/users").await.status, 403);
        }
        assert_limited(&ada.get("/admin/users").await, 4);
        // Guessing at keys is bounded by address, and takes nothing from who is somebody.
        let guess = |n: u32| client.bearer(&format!("gk_{n}"));
        for n in 0..4 {
            let answer = guess(n).get("/admin/users").await;
            assert_eq!((answer.status, standing(&answer)[1]), (401, Some(3 - n)));
        }
        assert_limited(&guess(9).get("/admin/users").await, 4);
        assert_limited(&client.get("/admin/users").await, 4);
        assert_eq!(client.at("198.51.100.8").get("/admin/users").await.status, 401);
        assert_eq!(vera.get("/admin/users").await.status, 200);

        let written = recorded(&plane).await;
        assert_eq!(written[0].reason, "admin");
        assert!(written[0].user_id.is_some());
    }

    #[tokio::test]
    async fn configs_are_counted_for_both_kinds_together() {
        let (plane, client) = plane("config_generation = 2").await;
        add_user(&plane.state, "ada", Role::Member).await;
        let ada = client.login("ada", PASSWORD).await;
        let body = json!({"gateway_id": "gw-none"});
        let first = ada.post("/configs/generate", body.clone()).await;
        assert_eq!((first.status, standing(&first)[1]), (404, Some(1)));
        let second = ada.post("/mesh/generate-config", json!({"hub_id": "hub-none"})).await;
        assert_eq!(standing(&second)[1], Some(0), "{}", second.body);
        assert_limited(&ada.post("/configs/generate", body.clone()).await, 2);
        let admin = client.admin().await;
        assert_eq!(admin.post("/configs/generate", body).await.status, 404);
        assert_eq!(ada.get("/configs").await.status, 200);
    }

    #[tokio::test]
    async fn heartbeats_are_counted_by_gateway_and_with_a_bad_token_by_address() {
        let (plane, client) = plane("heartbeat = 3").await;
        let admin = client.admin().await;
        let register = async |name: &str| {
            let body = json!({"name": name, "hostname": "vpn.example.com"});
            let made = admin.post("/admin/gateways", body).await;
            let text = |field: &str| made.body["data"][field].as_str().unwrap().to_owned();
            (text("id"), text("token"))
        };
        let (id, token) = register("one").await;
        let (_, other) = register("two").await;
        let beat = async |client: &Client, token: &str| {
            client.post("/gateway/heartbeat", json!({"token": token})).await
        };
        // In the body or the header, from wherever.
        let answer = beat(&client, &token).await;
        assert_eq!((answer.status, &answer.body["gateway_id"]), (200, &json!(id)));
        assert_eq!(standing(&answer), [Some(3), Some(2), Some(20)]);
        let by_header = client.at("198.51.100.7").with("x-gateway-token", &token);
        assert_eq!(by_header.post("/gateway/heartbeat", json!({})).await.status, 200);
        // What can't be read is counted as well, to whom it is from.
        assert_eq!(by_header.post("/gateway/heartbeat", json!([])).await.status, 400);
        assert_limited(&beat(&client, &token).await, 3);
        assert_limited(&by_header.post("/gateway/heartbeat", json!({})).await, 3);
        // Nobody is kept out by another's heartbeats, nor by guesses from the same place.
        for left in [2, 1, 0] {
            let answer = beat(&client, "a guess").await;
            assert_eq!((answer.status, standing(&answer)[1]), (401, Some(left)));
        }
        assert_limited(&beat(&client, "a guess").await, 3);
        assert_limited(&client.call("POST", "/gateway/heartbeat", None).await, 3);
        assert_eq!(beat(&client, &other).await.status, 200);
        // The tunnel's questions are not limited.
        let verify = client.with("x-gateway-token", &token);
        let verify = verify.post("/gateway/verify", json!({"common_name": "ada"})).await;
        assert_eq!((verify.status, standing(&verify)), (200, [None; 3]));

        let written = recorded(&plane).await;
        assert_eq!(written[0].reason, "heartbeat");
        assert_eq!(written[0].gateway_id.as_ref().map(GatewayId::as_str), Some(&*id));
    }

    #[tokio::test]
    async fn what_was_read_to_count_it_is_answered_as_ever() {
        let (_plane, client) = plane("heartbeat = 100").await;
        let large = json!({"token": "x", "pad": "x".repeat(2 << 20)});
        let answer = client.post("/gateway/heartbeat", large).await;
        assert_eq!((answer.status, standing(&answer)[1]), (413, Some(99)));
        let empty = client.call("POST", "/gateway/heartbeat", None).await;
        assert_eq!((empty.status, empty.code()), (401, "invalid_gateway_token"));
    }

    #[tokio::test]
    async fn off_is_off() {
        let (_plane, client) = plane("enabled = false\nauthentication = 1").await;
        for _ in 0..3 {
            let answer = client.try_login("admin", ADMIN_PASSWORD).await;
            assert_eq!((answer.status, standing(&answer)), (200, [None; 3]));
        }
    }

    fn stranger() -> Who {
        Who::Stranger(Metadata::system("", gatekey_aggregates::PersonId::from("x".to_owned())))
    }

    #[test]
    fn many_addresses_do_not_fill_the_memory() {
        let counts = Counts::new(Class::Authentication, &Settings::default(), 5000).unwrap();
        let ask = |ip: IpAddr| {
            let key = counts.key(&stranger(), ip);
            counts.config.limiter().check_key(&key).is_ok()
        };
        let flood = (0..50_000_u128).map(|n| IpAddr::from((n << 64).to_be_bytes()));
        flood.for_each(|ip| {
            ask(ip);
        });
        let most = 5000 + LOOK_EVERY + usize::try_from(SHARED).unwrap();
        assert!(counts.config.limiter().len() <= most, "{}", counts.config.limiter().len());
        // A flood of IPv6 does not keep IPv4 out.
        let v4 = IpAddr::from([198, 51, 100, 7]);
        assert_eq!(counts.key(&stranger(), v4), Key::Network(v4));
        assert!(ask(v4));
        for n in 0..50_000_u32 {
            ask(IpAddr::from(n.to_be_bytes()));
        }
        let most = 10_000 + 2 * LOOK_EVERY + usize::try_from(SHARED).unwrap();
        assert!(counts.config.limiter().len() <= most, "{}", counts.config.limiter().len());
    }

    #[test]
    fn who_has_been_quiet_is_forgotten() {
        // A count that is full again in 6 µs.
        let quick = Settings { admin: NonZeroU32::new(10_000_000).unwrap(), ..Settings::default() };
        let counts = Counts::new(Class::Admin, &quick, 10).unwrap();
        let slow = Counts::new(Class::Heartbeat, &quick, 10).unwrap();
        for counts in [&counts, &slow] {
            let key = counts.key(&stranger(), IpAddr::from([192, 0, 2, 1]));
            assert!(counts.config.limiter().check_key(&key).is_ok());
            assert_eq!(counts.config.limiter().len(), 1);
        }
        std::thread::sleep(Duration::from_millis(1));
        counts.forget_quiet();
        slow.forget_quiet();
        assert_eq!(counts.config.limiter().len(), 0);
        assert_eq!(slow.config.limiter().len(), 1);
    }

    #[test]
    fn the_reset_is_when_all_are_left_again() {
        let counts = Counts::new(Class::Admin, &Settings::default(), 10).unwrap();
        for (remaining, reset) in [(None, 60), (Some(0), 60), (Some(99), 1), (Some(50), 30)] {
            let mut headers = HeaderMap::new();
            if let Some(remaining) = remaining {
                headers.insert(REMAINING, HeaderValue::from(remaining));
            }
            counts.tell(&mut headers);
            assert_eq!(headers[RESET], HeaderValue::from(reset), "{remaining:?}");
            assert_eq!(headers[LIMIT], "100");
        }
    }
}
