//! `Idempotency-Key`: a POST that creates something can be sent again until its answer has come, and
//! creates it once.
//!
//! The answer is made of the events that the request wrote, by the log writer, and kept in their
//! transaction: there is no moment at which the thing is there and its answer is not. Whoever sends
//! the request again is given the kept answer. On one node a twin that comes while the first is
//! being carried out is told so; on another node it waits for its turn to write, is refused there,
//! and gets the answer of the first.
//!
//! What is refused keeps nothing: the same key can be tried again.

use super::gateway::{Turn, Turns};
use super::json::parse;
use super::{ApiError, json};
use crate::auth::KeyOwner;
use crate::event_log::{Answering, CommandError, Request as Command, RequestKey};
use crate::fields::Reading;
use crate::services::Services;
use axum::extract::{FromRef, FromRequest, MatchedPath, Request};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, TimeDelta, Utc};
use gatekey_aggregates::values::micros;
use gatekey_aggregates::{Recorded, Root};
use gatekey_projections::{Table, View, fresh};
use parking_lot::Mutex;
use ring::digest::{SHA256, digest};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};

/// The header.
pub const HEADER: &str = "Idempotency-Key";
/// The longest key.
const MAX_KEY: usize = 255;
/// For how long answers are kept.
const KEPT: TimeDelta = TimeDelta::hours(24);
/// How many are forgotten at once.
const FORGOTTEN_AT_ONCE: i64 = 10_000;

/// The header, for the document.
pub struct IdempotencyKey;

impl IntoParams for IdempotencyKey {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let schema = ObjectBuilder::new()
            .schema_type(Type::String)
            .min_length(Some(1))
            .max_length(Some(MAX_KEY))
            .pattern(Some("^[!-~]+$"))
            .examples(["3f0c9a52-6c1e-4a1f-9b39-0d6f1f6f2f11"]);
        let parameter = ParameterBuilder::new()
            .name(HEADER)
            .parameter_in(ParameterIn::Header)
            .description(Some(
                "What you call this request, to send it again without harm: for 24 hours the same \
                 key with the same body gives the same answer. With another body it is 409 \
                 `idempotency_key_reused`, and while the first is being carried out 409 \
                 `in_progress`. Errors are not kept.",
            ))
            .schema(Some(schema));
        vec![parameter.build()]
    }
}

/// An answer to a request that created something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    status: u16,
    location: String,
    etag: Option<i64>,
    body: String,
}

impl Answer {
    /// 201, where it is found, and what it is.
    pub fn created(location: impl Into<String>, thing: &impl Serialize) -> Result<Self, String> {
        #[derive(Serialize)]
        struct Wrapped<'a, T> {
            data: &'a T,
        }
        Self::flat(location, &Wrapped { data: thing })
    }

    /// The same, not wrapped.
    pub fn flat(location: impl Into<String>, body: &impl Serialize) -> Result<Self, String> {
        let body = serde_json::to_string(body).map_err(|error| error.to_string())?;
        let status = StatusCode::CREATED.as_u16();
        Ok(Self { status, location: location.into(), etag: None, body })
    }

    /// With the `ETag` of this position.
    pub fn etag(self, position: i64) -> Self {
        Self { etag: Some(position), ..self }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let Ok(status) = StatusCode::from_u16(self.status) else {
            return ApiError::internal("a kept answer has no status").into_response();
        };
        let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        let mut response = (status, json, self.body).into_response();
        // Our ids are plain ASCII; a path that isn't has no place in a header.
        if let Ok(location) = HeaderValue::from_str(&self.location) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        match self.etag {
            Some(position) => (super::ETag(position), response).into_response(),
            None => response,
        }
    }
}

/// The one row that `view` makes of the events with which something begins.
pub fn row<T: Table>(view: &dyn View, events: &[Recorded]) -> Result<T, String> {
    fresh::<T>(view, events).pop().ok_or_else(|| format!("no row of {} was made", T::NAME))
}

/// A strict JSON body ([`super::Json`]) of a request that creates something.
///
/// It comes after the extractor that proves who is calling. A request that was carried out before
/// does not reach the handler: it is given the answer that was kept.
pub struct Creating<T> {
    /// The body.
    pub body: T,
    /// Carries it out.
    pub creation: Creation,
}

/// A request that creates something, with its key, if it has one.
pub struct Creation {
    services: Arc<Services>,
    keyed: Option<Keyed>,
}

struct Keyed {
    key: RequestKey,
    request: String,
    until: DateTime<Utc>,
    _turn: Turn<RequestKey>,
}

/// What is kept, sealed.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// The hash of the request.
    request: String,
    answer: Answer,
}

/// Why a request does not reach its handler.
pub enum Turned {
    /// It makes no sense, or can't be carried out.
    Away(ApiError),
    /// It was carried out before.
    Back(Answer),
}

impl From<ApiError> for Turned {
    fn from(error: ApiError) -> Self {
        Self::Away(error)
    }
}

impl IntoResponse for Turned {
    fn into_response(self) -> Response {
        match self {
            Self::Away(error) => error.into_response(),
            Self::Back(answer) => answer.into_response(),
        }
    }
}

impl<T, S> FromRequest<S> for Creating<T>
where
    T: DeserializeOwned + Send,
    S: Send + Sync,
    Arc<Services>: FromRef<S>,
    Turns<RequestKey>: FromRef<S>,
{
    type Rejection = Turned;

    async fn from_request(request: Request, state: &S) -> Result<Self, Turned> {
        let services = <Arc<Services>>::from_ref(state);
        let key = key_in(request.headers())?;
        let owner = request.extensions().get::<KeyOwner>().cloned();
        let template = request.extensions().get::<MatchedPath>().cloned();
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        if !json::is_of_type(request.headers(), "application/json") {
            return Err(ApiError::unsupported_media_type().into());
        }
        let bytes = json::read_body(request).await?;
        let body = parse(&bytes, Reading::Strict)?;
        let Some(key) = key else {
            return Ok(Self { body, creation: Creation { services, keyed: None } });
        };
        let missing = || ApiError::internal("nobody has proven who is calling");
        let KeyOwner(caller) = owner.ok_or_else(missing)?;
        let template = template.ok_or_else(|| ApiError::internal("no route was matched"))?;
        let key = RequestKey { caller, route: format!("{method} {}", template.as_str()), key };
        let request = hash(&path, &bytes)?;
        let turns = <Turns<RequestKey>>::from_ref(state);
        let turn = turns.begin(&key).ok_or_else(ApiError::in_progress)?;
        let now = services.clock.now();
        match kept(&services, &key, now).await? {
            Some(kept) if kept.request == request => Err(Turned::Back(kept.answer)),
            Some(_) => Err(reused().into()),
            None => {
                let keyed = Keyed { key, request, until: now + KEPT, _turn: turn };
                Ok(Self { body, creation: Creation { services, keyed: Some(keyed) } })
            }
        }
    }
}

impl Creation {
    /// Carries out a command whose events `make` makes the answer of; none if they are none: it was
    /// so already. What is refused because a twin was faster is answered as the twin was.
    pub async fn carry_out<A: Root>(
        &self,
        command: Command,
        make: impl Fn(&[Recorded]) -> Result<Answer, String> + Send + Sync + 'static,
    ) -> Result<Option<Answer>, CommandError> {
        let made = Arc::new(Mutex::new(None));
        let answering = self.answering(make, made.clone());
        let done = self.services.bus.execute::<A>(command.answering(answering)).await;
        if done.as_ref().is_ok_and(|outcome| outcome.appended.is_some()) {
            let answer = made.lock().take();
            let lost = || CommandError::Broken("no answer was made".to_owned());
            return answer.ok_or_else(lost).map(Some);
        }
        match self.twins_answer().await {
            Some(answer) => Ok(Some(answer)),
            None => done.map(|_| None),
        }
    }

    /// The same, of a command that always has events: its ids were made for it.
    pub async fn create<A: Root>(
        &self,
        command: Command,
        make: impl Fn(&[Recorded]) -> Result<Answer, String> + Send + Sync + 'static,
    ) -> Result<Answer, CommandError> {
        let none = || CommandError::Broken("nothing was created".to_owned());
        self.carry_out::<A>(command, make).await?.ok_or_else(none)
    }

    fn answering(
        &self,
        make: impl Fn(&[Recorded]) -> Result<Answer, String> + Send + Sync + 'static,
        made: Arc<Mutex<Option<Answer>>>,
    ) -> Answering {
        let vault = self.services.vault.clone();
        let keep = self.keyed.as_ref().map(|it| (it.key.clone(), it.until));
        let request = self.keyed.as_ref().map(|it| it.request.clone());
        let bound_to = keep.as_ref().map(|(key, _)| bound_to(key));
        let make = move |events: &[Recorded]| {
            let answer = make(events)?;
            *made.lock() = Some(answer.clone());
            let Some((request, bound_to)) = request.clone().zip(bound_to.as_ref()) else {
                return Ok(None);
            };
            let kept = serde_json::to_vec(&Kept { request, answer });
            let kept = zeroize::Zeroizing::new(kept.map_err(|error| error.to_string())?);
            vault.seal_for(bound_to, &kept).map(Some).map_err(|error| error.to_string())
        };
        Answering { make: Arc::new(make), keep }
    }

    /// What a twin was answered that was carried out meanwhile.
    async fn twins_answer(&self) -> Option<Answer> {
        let keyed = self.keyed.as_ref()?;
        let found = kept(&self.services, &keyed.key, self.services.clock.now()).await.ok()?;
        found.filter(|kept| kept.request == keyed.request).map(|kept| kept.answer)
    }
}

fn reused() -> ApiError {
    ApiError::conflict(
        "idempotency_key_reused",
        "This `Idempotency-Key` was used for another request: use another one",
    )
}

/// The key that the request has.
fn key_in(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let mut values = headers.get_all(HEADER).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let key = value.to_str().unwrap_or_default();
    let is_good = (1..=MAX_KEY).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic());
    if !is_good || values.next().is_some() {
        let message = format!("must be one key of 1 to {MAX_KEY} visible ASCII characters");
        return Err(ApiError::invalid_field(HEADER, message));
    }
    Ok(Some(key.to_owned()))
}

/// SHA-256 of the path and the body, whatever the order of the body's fields and its white space.
fn hash(path: &str, body: &[u8]) -> Result<String, ApiError> {
    let body: Value = serde_json::from_slice(body).map_err(ApiError::internal)?;
    let mut text = format!("{path}\n");
    write_sorted(&body, &mut text);
    let digest = digest(&SHA256, text.as_bytes());
    Ok(digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn write_sorted(value: &Value, into: &mut String) {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| *name);
            into.push('{');
            for (name, value) in fields {
                into.push_str(&Value::from(name.as_str()).to_string());
                into.push(':');
                write_sorted(value, into);
                into.push(',');
            }
            into.push('}');
        }
        Value::Array(items) => {
            into.push('[');
            for item in items {
                write_sorted(item, into);
                into.push(',');
            }
            into.push(']');
        }
        plain => into.push_str(&plain.to_string()),
    }
}

/// A kept answer opens only where it was kept.
fn bound_to(key: &RequestKey) -> String {
    let RequestKey { caller, route, key } = key;
    format!("answer/{}", Value::from(vec![caller.as_str(), route, key]))
}

async fn kept(
    services: &Services,
    key: &RequestKey,
    now: DateTime<Utc>,
) -> Result<Option<Kept>, ApiError> {
    let sql = "SELECT sealed FROM idempotency_keys \
               WHERE caller = $1 AND route = $2 AND key = $3 AND expires_at > $4";
    let args = [
        key.caller.as_str().into(),
        key.route.as_str().into(),
        key.key.as_str().into(),
        micros(now).into(),
    ];
    let Some((sealed,)) = services.vital.optional::<(String,)>(sql, &args).await? else {
        return Ok(None);
    };
    let plain = services.vault.open_for(&bound_to(key), &sealed)?;
    serde_json::from_slice(&plain).map(Some).map_err(ApiError::internal)
}

/// Forgets answers that have expired by `now`: a bounded number, and says how many.
pub async fn forget_expired(services: &Services, now: DateTime<Utc>) -> Result<u64, sqlx::Error> {
    let sql = "DELETE FROM idempotency_keys WHERE (caller, route, key) IN \
               (SELECT caller, route, key FROM idempotency_keys WHERE expires_at <= $1 LIMIT $2)";
    services.vital.execute(sql, &[micros(now).into(), FORGOTTEN_AT_ONCE.into()]).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::client::Client;
    use crate::clock::Clock;
    use crate::testing;
    use serde_json::json;

    fn key(values: &[&str]) -> Result<Option<String>, ApiError> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HEADER, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        key_in(&headers)
    }

    #[test]
    fn a_key_is_visible_ascii() {
        assert_eq!(key(&[]).unwrap(), None);
        for good in ["a", "3f0c9a52-6c1e", "~!\"", &"k".repeat(255)] {
            assert_eq!(key(&[good]).unwrap().as_deref(), Some(good));
        }
        for bad in [&[""][..], &["a b"], &["\u{e9}"], &["a\tb"], &[&"k".repeat(256)], &["a", "a"]] {
            assert_eq!(key(bad).unwrap_err().details[0].field, HEADER, "{bad:?}");
        }
    }

    #[test]
    fn the_same_request_has_the_same_hash_however_it_is_written() {
        let of = |path: &str, body: &str| hash(path, body.as_bytes()).unwrap();
        let one = of("/x", r#"{"a":1,"b":{"d":[1,2],"c":null}}"#);
        assert_eq!(one, of("/x", "{ \"b\": {\"c\":null, \"d\":[1,2]},\n \"\\u0061\": 1 }"));
        assert_eq!(one.len(), 64);
        for other in [
            r#"{"a":1,"b":{"d":[2,1],"c":null}}"#,
            r#"{"a":1,"b":{"d":[1,2]}}"#,
            r#"{"a":"1","b":{"d":[1,2],"c":null}}"#,
            r#"{"a":1,"b":{"d":[1,2],"c":null},"e":1}"#,
            r#"{"a":1,"b":{"d":"[1,2]","c":null}}"#,
        ] {
            assert_ne!(one, of("/x", other), "{other}");
        }
        assert_ne!(one, of("/y", r#"{"a":1,"b":{"d":[1,2],"c":null}}"#));
    }

    #[tokio::test]
    async fn an_answer_is_kept_for_a_day() {
        let clock = Clock::fixed(DateTime::from_timestamp(1_800_000_000, 0).unwrap());
        let plane = testing::start("", vec![], clock.clone()).await;
        let client = Client::of(&plane);
        let make = async || {
            let admin = client.admin().await.with("idempotency-key", "k");
            let made = admin.post("/api-keys", json!({"name": "ci"})).await;
            assert_eq!(made.status, 201, "{}", made.body);
            made.body["data"].clone()
        };
        let rows = async || {
            let sql = "SELECT COUNT(*) FROM idempotency_keys";
            let (count,): (i64,) = plane.state.services.db.one(sql, &[]).await.unwrap();
            count
        };
        let first = make().await;
        clock.advance(KEPT - TimeDelta::seconds(1));
        assert_eq!(make().await, first);
        assert_eq!(forget_expired(&plane.state.services, clock.now()).await.unwrap(), 0);
        clock.advance(TimeDelta::seconds(1));
        // Whether it was deleted by then or not.
        let second = make().await;
        assert_ne!(second["id"], first["id"]);
        assert_eq!(make().await, second);
        assert_eq!(rows().await, 1);
        clock.advance(KEPT);
        assert_eq!(forget_expired(&plane.state.services, clock.now()).await.unwrap(), 1);
        assert_eq!(rows().await, 0);
        assert_ne!(make().await["id"], second["id"]);
    }

    #[test]
    fn an_answer_is_the_same_when_it_was_kept() {
        let answer = Answer::created("/api/v1/x/x-1", &json!({"id": "x-1"})).unwrap().etag(7);
        let kept: Answer = serde_json::from_slice(&serde_json::to_vec(&answer).unwrap()).unwrap();
        assert_eq!(kept, answer);
        let response = kept.into_response();
        assert_eq!(response.status(), StatusCode::CREATED);
        assert_eq!(response.headers()[header::LOCATION], "/api/v1/x/x-1");
        assert_eq!(response.headers()[header::ETAG], "\"7\"");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
        assert_eq!(answer.body, r#"{"data":{"id":"x-1"}}"#);
    }
}
