//! `/admin/audit`: what happened, with who did it, from where and why, the newest first.

use crate::api::openapi::{Access, callable_by};
use crate::api::{ApiError, Filter, List, Page};
use crate::app::AppState;
use crate::auth::Auditor;
use crate::event_log::{StoredEvent, Unreadable};
use crate::services::Services;
use axum::extract::State;
use chrono::{DateTime, Utc};
use gatekey_aggregates::values::{SecretId, from_micros, micros};
use gatekey_aggregates::{CredentialKind, Event, Metadata, Recorded};
use gatekey_projections::audit;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Said in the place of a hash, or of where a secret is kept: that it is another one is all there is
/// to know.
const CHANGED: &str = "changed";
/// Whose a record is that does not tell it any more.
const UNKNOWN: &str = "unknown";

/// The route.
pub fn routes() -> OpenApiRouter<AppState> {
    callable_by(Access::Auditor, OpenApiRouter::new().routes(routes!(list)))
}

/// Something that happened.
#[derive(Serialize, ToSchema)]
struct AuditEvent {
    /// Its place in the whole history: from 1, without gaps.
    #[schema(example = 4711)]
    position: i64,
    /// When it was written.
    recorded_at: DateTime<Utc>,
    /// What happened: a stable code.
    #[schema(example = "gateway.user_granted")]
    event: String,
    /// To what kind of thing.
    #[schema(example = "gateway")]
    aggregate_type: String,
    /// To which.
    #[schema(example = "gw-001")]
    aggregate_id: String,
    /// Its place in the history of that thing: from 1, without gaps.
    sequence: i64,
    /// Who did it.
    actor: AuditActor,
    /// With what they proved who they are; null: with nothing.
    #[schema(required)]
    credential: Option<AuditCredential>,
    /// From where; null: not known, or erased.
    #[schema(required, example = "198.51.100.2")]
    source_ip: Option<String>,
    /// With what; null: not known, or erased.
    #[schema(required, example = "curl/8.5.0")]
    user_agent: Option<String>,
    /// The `X-Request-Id` of the request.
    #[schema(required, example = "01k9x3v7m2")]
    request_id: Option<String>,
    /// The first cause of a chain of events.
    #[schema(required, example = "4708")]
    correlation_id: Option<String>,
    /// What directly caused it: a position.
    #[schema(required, example = "4709")]
    causation_id: Option<String>,
    /// Why, in the words of the person who did it.
    #[schema(required, example = "She has left the company")]
    reason: Option<String>,
    /// What happened in detail; it depends on the event. Null in it stands for what was erased, and
    /// `changed` for hashes and for where secrets are kept. Null: it can't be read.
    #[schema(required, value_type = Option<Object>, example = json!({"user_id": "usr-01k9x3"}))]
    payload: Option<Value>,
    /// Whether the record is damaged, or written by a newer server: then only its place and its kind
    /// are certain, and the payload is withheld.
    undecodable: bool,
}

/// Who did something.
#[derive(Serialize, ToSchema)]
struct AuditActor {
    /// `user`, `gateway`, `system`, `operator` or `anonymous`; `unknown` where the record is damaged.
    #[schema(value_type = String, example = "user")]
    kind: &'static str,
    /// `usr-…`, `gw-…`, or the name of what the system did it by; null: nobody that could be named.
    #[schema(required, example = "usr-01k9x3")]
    id: Option<String>,
    /// What they were called then; null: erased.
    #[schema(required, example = "ada@example.com")]
    label: Option<String>,
}

/// With what somebody proved who they are.
#[derive(Serialize, ToSchema)]
struct AuditCredential {
    /// `session`, `api_key`, `gateway_token` or `password`.
    #[schema(value_type = String, example = "session")]
    kind: &'static str,
    /// `ses-…` or `key-…`, where it has an id.
    #[schema(required, example = "ses-01k9x3")]
    id: Option<String>,
}

/// Which event it is.
struct Head {
    position: i64,
    recorded_at: DateTime<Utc>,
    event: String,
    aggregate_type: String,
    aggregate_id: String,
    sequence: i64,
}

impl AuditEvent {
    fn new(head: Head, metadata: Option<Metadata>, payload: Option<Value>) -> Self {
        let some = |text: String| (!text.is_empty()).then_some(text);
        let of = |field: fn(&Metadata) -> &Option<String>| {
            metadata.as_ref().and_then(|it| field(it).clone())
        };
        let actor = metadata.as_ref().map(|it| it.actor.clone());
        let credential = metadata.as_ref().map(|it| it.credential.clone());
        Self {
            position: head.position,
            recorded_at: head.recorded_at,
            event: head.event,
            aggregate_type: head.aggregate_type,
            aggregate_id: head.aggregate_id,
            sequence: head.sequence,
            actor: actor.map_or(AuditActor { kind: UNKNOWN, id: None, label: None }, |it| {
                AuditActor { kind: it.kind.as_str(), id: some(it.id), label: some(it.label) }
            }),
            credential: credential
                .filter(|it| it.kind != CredentialKind::None)
                .map(|it| AuditCredential { kind: it.kind.as_str(), id: some(it.id) }),
            source_ip: of(|it| &it.source_ip),
            user_agent: of(|it| &it.user_agent),
            request_id: of(|it| &it.request_id),
            correlation_id: of(|it| &it.correlation_id),
            causation_id: of(|it| &it.causation_id),
            reason: of(|it| &it.reason),
            undecodable: payload.is_none(),
            payload,
        }
    }
}

impl TryFrom<Recorded> for AuditEvent {
    type Error = ApiError;

    fn try_from(recorded: Recorded) -> Result<Self, ApiError> {
        let payload = shown(&recorded.event)?;
        let head = Head {
            position: recorded.position,
            recorded_at: recorded.recorded_at,
            event: recorded.event.code().to_owned(),
            aggregate_type: recorded.aggregate_type,
            aggregate_id: recorded.aggregate_id,
            sequence: recorded.sequence,
        };
        Ok(Self::new(head, Some(recorded.metadata), Some(payload)))
    }
}

impl From<Unreadable> for AuditEvent {
    fn from(unreadable: Unreadable) -> Self {
        // Why, would tell of what is in it.
        let Unreadable { row, metadata, why: _ } = unreadable;
        tracing::warn!(position = row.position, "an event can't be read, and is shown as such");
        let head = Head {
            position: row.position,
            recorded_at: from_micros(row.recorded_at),
            event: row.event_type,
            aggregate_type: row.aggregate_type,
            aggregate_id: row.aggregate_id,
            sequence: row.sequence,
        };
        Self::new(head, metadata, None)
    }
}

/// The payload as auditors see it: without the event's name, which is said already, with personal
/// values as such, and without hashes and the places of secrets.
fn shown(event: &Event) -> Result<Value, ApiError> {
    let payload = event.payload().map_err(ApiError::internal)?;
    let mut inner = match payload {
        Value::Object(tagged) if tagged.len() == 1 => {
            tagged.into_iter().next().map(|(_, inner)| inner).unwrap_or_default()
        }
        other => other,
    };
    tidy(&mut inner);
    Ok(inner)
}

fn tidy(value: &mut Value) {
    match value {
        Value::Object(map) => match personal(map) {
            Some(plain) => *value = plain,
            None => {
                for (name, inner) in map {
                    if is_secret(name, inner) {
                        *inner = CHANGED.into();
                    } else {
                        tidy(inner);
                    }
                }
            }
        },
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

/// The value that a person's object stands for: null if it was erased.
fn personal(map: &mut Map<String, Value>) -> Option<Value> {
    let is_value = map.len() == 2
        && map.contains_key("of")
        && (map.contains_key("open") || map.contains_key("sealed"));
    is_value.then(|| map.remove("open").unwrap_or(Value::Null))
}

/// Whether a field holds a hash, or the id of a secret.
fn is_secret(name: &str, value: &Value) -> bool {
    let Value::String(text) = value else { return false };
    let keeps = ["tls_auth_key", "password", "bundle", "key"].contains(&name);
    name.ends_with("_hash") || (keeps && text.parse::<SecretId>().is_ok())
}

/// Which events are listed.
#[derive(Deserialize, IntoParams)]
struct Events {
    /// Those of this kind of thing.
    #[param(example = "gateway")]
    aggregate_type: Option<String>,
    /// Those of this thing.
    #[param(example = "gw-001")]
    aggregate_id: Option<String>,
    /// Those that this actor caused, by id.
    #[param(example = "usr-01k9x3")]
    actor: Option<String>,
    /// Those with this code.
    #[param(example = "gateway.updated")]
    event: Option<String>,
    /// Those written at this time or later.
    since: Option<DateTime<Utc>>,
    /// Those written before this time.
    until: Option<DateTime<Utc>>,
}

impl Filter for Events {
    const CURSOR: bool = true;
}

/// List what happened
///
/// Every event with all that is known of its circumstances, the newest first. One that can't be read
/// any more is listed with its place and its kind, `undecodable`, and spoils none of the others.
#[utoipa::path(
    get, path = "/admin/audit", tag = "Audit", operation_id = "listAuditEvents",
    params(List<Events>),
    responses((status = 200, description = "A page of them", body = Page<AuditEvent>))
)]
async fn list(
    _: Auditor,
    list: List<Events>,
    State(services): State<Arc<Services>>,
) -> Result<Page<AuditEvent>, ApiError> {
    let wanted = list.wanted()?;
    let Events { aggregate_type, aggregate_id, actor, event, since, until } = list.filter;
    let filter = audit::Filter {
        aggregate_type,
        aggregate_id,
        actor_id: actor,
        event_type: event,
        since: since.map(micros),
        until: until.map(micros),
    };
    let listed = audit::list(&services.db, &wanted, &filter).await?;
    let page = Page::listed(listed.map(stored), list.paging);
    let opened = services.reader.open_each(page.data).await?;
    let shown = opened.into_iter().map(|it| match it {
        Ok(recorded) => AuditEvent::try_from(recorded),
        Err(unreadable) => Ok((*unreadable).into()),
    });
    Ok(Page { data: shown.collect::<Result<_, _>>()?, meta: page.meta })
}

fn stored(row: audit::AuditRow) -> StoredEvent {
    StoredEvent {
        position: row.position,
        recorded_at: row.recorded_at,
        aggregate_type: row.aggregate_type,
        aggregate_id: row.aggregate_id,
        sequence: row.sequence,
        event_type: row.event_type,
        event_version: row.event_version,
        payload: row.payload,
        metadata: row.metadata,
    }
}
