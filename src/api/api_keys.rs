//! `/api-keys`: one's own API keys.

use super::auth::Gone;
use super::idempotency::row;
use super::openapi::{Access, callable_by};
use super::{Answer, ApiError, Creating, Data, Filter, IdempotencyKey, List, Page, Path};
use crate::app::AppState;
use crate::auth::credential::new_api_key;
use crate::auth::scopes::{self, Excess};
use crate::auth::{Caller, Member, Proof};
use crate::entropy::token_hash;
use crate::event_log::Request;
use crate::services::Services;
use axum::extract::State;
use chrono::{DateTime, SubsecRound, Utc};
use gatekey_aggregates::Recorded;
use gatekey_aggregates::user::{ApiKey, Command, User};
use gatekey_aggregates::values::{ApiKeyId, Cidr, ResourceName, Scope, UserId, from_micros};
use gatekey_projections::api_keys::{self, ApiKeyRow};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// How much of a key is shown, to recognise it by.
const PREFIX: usize = 11;

/// The routes.
pub fn routes() -> OpenApiRouter<AppState> {
    let own = OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(show, revoke));
    callable_by(Access::Member, own)
}

/// An API key, without the key itself.
#[derive(Serialize, ToSchema)]
pub struct ApiKeyBody {
    /// Its id.
    pub id: ApiKeyId,
    /// What its owner calls it.
    #[schema(example = "terraform")]
    pub name: String,
    /// The first characters of the key.
    #[schema(example = "gk_3eJ0vXcQ")]
    pub prefix: String,
    /// What it may do, as far as its owner may.
    pub scopes: Vec<Scope>,
    /// The key that it was made with, if it was one: it lasts no longer than that.
    #[schema(required)]
    pub created_by: Option<ApiKeyId>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it ends by itself; null: never.
    #[schema(required)]
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    #[schema(required)]
    pub revoked_at: Option<DateTime<Utc>>,
    /// The networks it may be used from; empty: any.
    #[schema(example = json!(["198.51.100.0/24"]))]
    pub source_cidrs: Vec<String>,
    /// When it was last used.
    #[schema(required)]
    pub last_used_at: Option<DateTime<Utc>>,
    /// From where it was last used.
    #[schema(required, example = "198.51.100.2")]
    pub last_used_ip: Option<String>,
}

impl TryFrom<api_keys::ApiKey> for ApiKeyBody {
    type Error = ApiError;

    fn try_from(key: api_keys::ApiKey) -> Result<Self, ApiError> {
        let api_keys::ApiKey { row, last_used, last_ip } = key;
        Ok(Self {
            id: row.id.parse().map_err(ApiError::internal)?,
            name: row.name,
            prefix: row.prefix,
            scopes: row
                .scopes
                .iter()
                .map(|it| it.parse())
                .collect::<Result<_, _>>()
                .map_err(ApiError::internal)?,
            created_by: row
                .created_by
                .map(|it| it.parse())
                .transpose()
                .map_err(ApiError::internal)?,
            created_at: from_micros(row.created_at),
            expires_at: row.expires_at.map(from_micros),
            revoked_at: row.revoked_at.map(from_micros),
            source_cidrs: row.source_cidrs.0,
            last_used_at: last_used.map(from_micros),
            last_used_ip: last_ip,
        })
    }
}

/// A new API key, and the key itself.
#[derive(Serialize, ToSchema)]
pub struct NewApiKey {
    /// For `Authorization: Bearer …`. Told this once.
    #[schema(example = "gk_3eJ0vXcQyZk8mVb1Jm8QvW0aXlS6hP2uTg9rYd4cE5o")]
    key: String,
    #[serde(flatten)]
    api_key: ApiKeyBody,
}

#[derive(Deserialize, IntoParams)]
struct Keys {}

impl Filter for Keys {
    const SORT: &'static [&'static str] = api_keys::SORT;
    const SEARCH: bool = true;
}

/// The own API keys
///
/// Those that were not revoked, the newest first; `q` looks at name and prefix.
#[utoipa::path(
    get, path = "/api-keys", tag = "API keys", operation_id = "listApiKeys",
    params(List<Keys>),
    responses((status = 200, description = "A page of them.", body = Page<ApiKeyBody>))
)]
async fn list(
    caller: Member,
    list: List<Keys>,
    State(services): State<Arc<Services>>,
) -> Result<Page<ApiKeyBody>, ApiError> {
    let listed = api_keys::list(&services.db, caller.user_id.as_str(), &list.wanted()?).await?;
    let page = Page::listed(listed, list.paging);
    let data = page.data.into_iter().map(ApiKeyBody::try_from).collect::<Result<_, _>>()?;
    Ok(Page { data, meta: page.meta })
}

/// A new API key, before it is made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateApiKey {
    /// What to call it.
    name: ResourceName,
    /// What it may do, as far as its owner may; without: all of that.
    #[serde(default = "all_scopes")]
    #[schema(min_items = 1, default = json!(["*"]), example = json!(["vpn:connect", "read:gateways"]))]
    scopes: Vec<Scope>,
    /// When it ends by itself; without: never.
    expires_at: Option<DateTime<Utc>>,
    /// The networks it may be used from, IPv4 and IPv6; without: any.
    #[serde(default)]
    source_cidrs: Vec<Cidr>,
}

fn all_scopes() -> Vec<Scope> {
    vec![Scope::All]
}

/// Make an API key
///
/// It acts as its owner, as far as its scopes go. The answer holds the key, this once. A key that is
/// made with another one may no more than that, lasts no longer, and is of use from nowhere else;
/// when that one is revoked, so is this.
#[utoipa::path(
    post, path = "/api-keys", tag = "API keys", operation_id = "createApiKey",
    params(IdempotencyKey),
    request_body = CreateApiKey,
    responses(
        (status = 201, description = "Made.", body = Data<NewApiKey>,
            headers(("Location" = String, description = "Where it is found"))),
        (status = 409, description = "`too_many_api_keys`", body = super::error::ErrorBody),
    )
)]
async fn create(
    caller: Member,
    State(services): State<Arc<Services>>,
    given: Creating<CreateApiKey>,
) -> Result<Answer, ApiError> {
    make(&services, &caller, &caller.user_id, "/api/v1/api-keys", given).await
}

/// Makes a key for `owner`, which is then found under `place`. With a key, none is made that is more
/// than that.
pub async fn make(
    services: &Services,
    caller: &Caller,
    owner: &UserId,
    place: &str,
    Creating { body: given, creation }: Creating<CreateApiKey>,
) -> Result<Answer, ApiError> {
    let maker = match &caller.proof {
        Proof::ApiKey(own) => Some(own),
        Proof::Session { .. } => None,
    };
    let key = new_api_key(&services.entropy)?;
    let id: ApiKeyId = services.entropy.id()?;
    let location = format!("{place}/{id}");
    let mut seen = BTreeSet::new();
    let api_key = ApiKey {
        id,
        name: given.name,
        prefix: key.chars().take(PREFIX).collect(),
        key_hash: token_hash(&key),
        scopes: given.scopes.into_iter().filter(|scope| seen.insert(*scope)).collect(),
        // The log and its views keep microseconds.
        expires_at: given.expires_at.map(|at| at.trunc_subsecs(6)),
        source_cidrs: given.source_cidrs,
        created_by: maker.map(|own| own.id.clone()),
    };
    if let Some(own) = maker
        && let Some(Excess { field, message }) = scopes::excess((&api_key).into(), own.into())
    {
        return Err(ApiError::invalid_field(field, message));
    }
    let command = Command::CreateApiKey { api_key, now: services.clock.now() };
    let request = Request::new::<User>(owner, command, caller.metadata(None));
    let make = move |events: &[Recorded]| {
        let row: ApiKeyRow = row(&api_keys::ApiKeys, events)?;
        let api_key = api_keys::ApiKey { row, last_used: None, last_ip: None };
        let api_key = ApiKeyBody::try_from(api_key).map_err(|error| error.message)?;
        Answer::created(location.clone(), &NewApiKey { key: key.clone(), api_key })
    };
    Ok(creation.create::<User>(request, make).await?)
}

/// One of the own API keys
#[utoipa::path(
    get, path = "/api-keys/{id}", tag = "API keys", operation_id = "getApiKey",
    params(("id" = ApiKeyId, Path, description = "The key's id")),
    responses((status = 200, description = "It; also after it was revoked.", body = Data<ApiKeyBody>))
)]
async fn show(
    caller: Member,
    Path(id): Path<ApiKeyId>,
    State(services): State<Arc<Services>>,
) -> Result<Data<ApiKeyBody>, ApiError> {
    let key = api_keys::find(&services.db, id.as_str()).await?;
    // Somebody else's is nobody's.
    let own = key.filter(|it| it.row.user_id == caller.user_id.as_str());
    Ok(Data { data: own.ok_or_else(ApiError::not_found)?.try_into()? })
}

/// Revoke one of the own API keys
///
/// It is refused from now on, and so is every key that was made with it.
#[utoipa::path(
    delete, path = "/api-keys/{id}", tag = "API keys", operation_id = "revokeApiKey",
    params(("id" = ApiKeyId, Path, description = "The key's id")),
    responses((status = 200, description = "Revoked, also if it was before.", body = Data<Gone<ApiKeyId>>))
)]
async fn revoke(
    caller: Member,
    Path(id): Path<ApiKeyId>,
    State(services): State<Arc<Services>>,
) -> Result<Data<Gone<ApiKeyId>>, ApiError> {
    let command = Command::RevokeApiKey(id.clone());
    let request = Request::new::<User>(&caller.user_id, command, caller.metadata(None));
    services.bus.execute::<User>(request).await?;
    Ok(Data { data: Gone { id } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::client::{Client, PASSWORD, add_user};
    use crate::clock::Clock;
    use crate::testing::{self, TestPlane};
    use chrono::TimeDelta;
    use gatekey_aggregates::values::Role;
    use serde_json::{Value, json};

    async fn plane() -> (TestPlane, Clock, Client) {
        let clock = Clock::fixed(DateTime::from_timestamp(1_800_000_000, 0).unwrap());
        let plane = testing::start("", vec![], clock.clone()).await;
        add_user(&plane.state, "ada", Role::Member).await;
        let client = Client::of(&plane);
        (plane, clock, client)
    }

    async fn make(client: &Client, body: Value) -> (String, String) {
        let answer = client.post("/api-keys", body).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        let text = |name: &str| answer.body["data"][name].as_str().unwrap().to_owned();
        (text("id"), text("key"))
    }

    #[tokio::test]
    async fn a_key_is_told_once_and_acts_as_its_owner() {
        let (plane, _, client) = plane().await;
        let ada = client.login("ada", PASSWORD).await;
        let made = ada.post("/api-keys", json!({"name": "terraform"})).await;
        assert_eq!(made.status, 201);
        let mut body = made.body["data"].clone();
        let key = body.as_object_mut().unwrap().remove("key").unwrap();
        let key = key.as_str().unwrap().to_owned();
        let id = body["id"].as_str().unwrap().to_owned();
        assert!(key.starts_with("gk_") && key.len() == 46, "{key}");
        assert_eq!(
            body,
            json!({"id": id, "name": "terraform", "prefix": &key[..11], "scopes": ["*"],
                "created_by": null, "created_at": "2027-01-15T08:00:00Z", "expires_at": null, "revoked_at": null,
                "source_cidrs": [], "last_used_at": null, "last_used_ip": null})
        );
        let path = format!("/api/v1/api-keys/{id}");
        assert_eq!(made.headers["location"], path);
        assert_eq!(ada.get(&path).await.body["data"], body);

        let script = client.at("198.51.100.7").bearer(&key);
        assert_eq!(script.get("/users/me").await.body["data"]["username"], "ada");
        let session = script.get("/auth/session").await.body;
        assert_eq!(session["data"]["authenticated"], true);
        assert_eq!(session["data"].get("session"), None);
        let valid = script.get("/auth/api-key/validate").await;
        assert_eq!(valid.status, 200);
        assert_eq!(valid.body["data"]["valid"], true);
        assert_eq!(
            valid.body["data"]["key"],
            json!({"id": id, "name": "terraform", "scopes": ["*"], "expires_at": null,
                "source_cidrs": []})
        );
        assert_eq!(valid.body["data"]["user"]["username"], "ada");
        for other in [&client, &ada, &client.bearer("gk_unknown")] {
            assert_eq!(other.get("/auth/api-key/validate").await.status, 401);
        }

        plane.state.services.telemetry.flush().await.unwrap();
        let list = ada.get("/api-keys").await;
        assert_eq!(list.body["meta"]["total"], 1);
        assert!(!list.body.to_string().contains(&key));
        assert_eq!(list.body["data"][0]["last_used_at"], "2027-01-15T08:00:00Z");
        assert_eq!(list.body["data"][0]["last_used_ip"], "198.51.100.7");
        // Neither is it in the log.
        let events = plane.state.services.reader.after(0, 1000).await.unwrap();
        let written = format!("{events:?}");
        assert!(written.contains(&key[..11]) && !written.contains(&key));
    }

    #[tokio::test]
    async fn a_revoked_key_is_refused_from_then_on() {
        let (_plane, _, client) = plane().await;
        let ada = client.login("ada", PASSWORD).await;
        let (id, key) = make(&ada, json!({"name": "ci"})).await;
        let (_, kept) = make(&ada, json!({"name": "other"})).await;
        let script = client.bearer(&key);
        let path = format!("/api-keys/{id}");
        let admin = client.admin().await;
        for method in ["GET", "DELETE"] {
            assert_eq!(admin.call(method, &path, None).await.status, 404);
            assert_eq!(ada.call(method, "/api-keys/key-none", None).await.status, 404);
        }
        assert_eq!(script.get("/users/me").await.status, 200);
        for _ in 0..2 {
            let gone = ada.delete(&path).await;
            assert_eq!((gone.status, gone.body), (200, json!({"data": {"id": id}})));
            assert_eq!(script.get("/users/me").await.status, 401);
        }
        assert_eq!(client.bearer(&kept).get("/users/me").await.status, 200);
        assert_eq!(ada.get("/api-keys").await.body["meta"]["total"], 1);
        let revoked = ada.get(&path).await.body;
        assert_eq!(revoked["data"]["revoked_at"], "2027-01-15T08:00:00Z");
    }

    #[tokio::test]
    async fn a_key_ends_by_itself() {
        let (_plane, clock, client) = plane().await;
        let ada = client.login("ada", PASSWORD).await;
        let soon = json!({"name": "ci", "expires_at": "2027-01-15T08:10:00.123456789Z"});
        let (id, key) = make(&ada, soon).await;
        let shown = ada.get(&format!("/api-keys/{id}")).await;
        assert_eq!(shown.body["data"]["expires_at"], "2027-01-15T08:10:00.123456Z");
        let script = client.bearer(&key);
        clock.advance(TimeDelta::minutes(10));
        assert_eq!(script.get("/users/me").await.status, 200);
        clock.advance(TimeDelta::milliseconds(124));
        assert_eq!(script.get("/users/me").await.status, 401);
    }

    #[tokio::test]
    async fn a_key_is_of_use_only_where_it_may_be() {
        let (plane, _, client) = plane().await;
        let ada = client.login("ada", PASSWORD).await;
        let cidrs = ["198.51.100.0/24", "2001:db8::/32"];
        let (_, key) = make(&ada, json!({"name": "ci", "source_cidrs": cidrs})).await;
        let script = client.bearer(&key);
        for (peer, status) in [
            ("198.51.100.7", 200),
            ("::ffff:198.51.100.7", 200),
            ("2001:db8::7", 200),
            ("198.51.101.7", 401),
            ("2001:db9::7", 401),
        ] {
            assert_eq!(script.at(peer).get("/users/me").await.status, status, "{peer}");
        }
        // Somebody else may have found it: that is written down.
        for _ in 0..500 {
            let events = plane.state.services.reader.after(0, 1000).await.unwrap();
            if format!("{events:?}").contains("source_not_allowed") {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("it was not written down");
    }

    #[tokio::test]
    async fn a_key_makes_none_that_is_more_than_itself() {
        let (_plane, _, client) = plane().await;
        let ada = client.login("ada", PASSWORD).await;
        let own = json!({"name": "own", "expires_at": "2027-02-01T00:00:00Z",
            "source_cidrs": ["192.0.2.0/24"]});
        let (_, key) = make(&ada, own).await;
        let script = client.bearer(&key);
        let fine = json!({"name": "fine", "expires_at": "2027-02-01T00:00:00Z",
            "source_cidrs": ["192.0.2.0/25", "192.0.2.1/32"]});
        make(&script, fine.clone()).await;
        let with = |name: &str, value: Value| {
            let mut body = fine.clone();
            body[name] = value;
            body
        };
        for (body, field) in [
            (with("expires_at", Value::Null), "expires_at"),
            (with("expires_at", json!("2027-02-01T00:00:01Z")), "expires_at"),
            (with("source_cidrs", json!([])), "source_cidrs"),
            (with("source_cidrs", json!(["192.0.2.0/25", "198.51.100.0/24"])), "source_cidrs"),
            (with("source_cidrs", json!(["192.0.0.0/16"])), "source_cidrs"),
        ] {
            let answer = script.post("/api-keys", body).await;
            assert_eq!(answer.status, 400);
            assert_eq!(answer.body["error"]["details"][0]["field"], field);
        }
    }

    #[tokio::test]
    async fn a_narrow_key_makes_none_that_is_wider() {
        let (_plane, _, client) = plane().await;
        let ada = client.login("ada", PASSWORD).await;
        let own = json!({"name": "own", "scopes": ["write:api-keys", "read", "read"]});
        let made = ada.post("/api-keys", own).await;
        assert_eq!(made.body["data"]["scopes"], json!(["write:api-keys", "read"]));
        assert_eq!(made.body["data"]["created_by"], Value::Null);
        let id = made.body["data"]["id"].clone();
        let script = client.bearer(made.body["data"]["key"].as_str().unwrap());
        for wider in [json!(["*"]), json!(["read", "vpn:connect"]), json!(["write:users"])] {
            let answer = script.post("/api-keys", json!({"name": "x", "scopes": wider})).await;
            assert_eq!(answer.status, 400);
            let error = &answer.body["error"]["details"][0];
            assert_eq!(error["field"], "scopes");
            let words =
                "must lie within those of the API key that makes it: `write:api-keys`, `read`";
            assert_eq!(error["message"], words);
        }
        // Without scopes it would be all of them.
        let answer = script.post("/api-keys", json!({"name": "x"})).await;
        assert_eq!(answer.body["error"]["details"][0]["field"], "scopes");
        let narrower = json!({"name": "x", "scopes": ["read:gateways", "audit:read"]});
        let made = script.post("/api-keys", narrower).await;
        assert_eq!((made.status, &made.body["data"]["created_by"]), (201, &id));
    }

    #[tokio::test]
    async fn an_admins_key_for_another_lasts_no_longer_than_the_key_that_made_it() {
        let (plane, _, client) = plane().await;
        let admin = client.admin().await;
        let (maker, key) = make(&admin, json!({"name": "maker"})).await;
        let script = client.bearer(&key);
        let ada = client.login("ada", PASSWORD).await;
        let owner = ada.get("/users/me").await.body["data"]["id"].as_str().unwrap().to_owned();
        let path = format!("/admin/users/{owner}/api-keys");
        let issue = async |by: &Client, body: Value| {
            let made = by.post(&path, body).await;
            assert_eq!(made.status, 201, "{}", made.body);
            let text = |name: &str| made.body["data"][name].as_str().unwrap().to_owned();
            assert_eq!(made.headers["location"], format!("/api/v1{path}/{}", text("id")));
            (text("id"), client.bearer(&text("key")))
        };
        let scopes = json!(["read:users", "write:api-keys"]);
        let (child, by_child) = issue(&script, json!({"name": "child", "scopes": scopes})).await;
        let (_, by_login) = issue(&admin, json!({"name": "by login", "scopes": ["read"]})).await;
        // And one that the child made, for the same person.
        let made = by_child.post("/api-keys", json!({"name": "x", "scopes": ["read:users"]})).await;
        let by_grandchild = client.bearer(made.body["data"]["key"].as_str().unwrap());
        for key in [&by_child, &by_login, &by_grandchild] {
            assert_eq!(key.get("/users/me").await.body["data"]["username"], "ada");
        }
        assert_eq!(ada.get(&format!("/api-keys/{child}")).await.body["data"]["created_by"], maker);
        assert_eq!(ada.post(&path, json!({"name": "x"})).await.status, 403);

        assert_eq!(admin.delete(&format!("/api-keys/{maker}")).await.status, 200);
        // At once, before anything has followed from it.
        assert_eq!(by_child.get("/users/me").await.status, 401);
        assert_eq!(by_grandchild.get("/users/me").await.status, 401);
        assert_eq!(by_login.get("/users/me").await.status, 200);
        for _ in 0..1000 {
            if ada.get("/api-keys").await.body["meta"]["total"] == 1 {
                let state = plane.state.services.index.read();
                assert!(state.orphaned_api_keys().is_empty());
                assert_eq!(state.api_keys.len(), 1);
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("they were not revoked");
    }

    #[tokio::test]
    async fn what_makes_no_sense_names_its_field() {
        let (_plane, _, client) = plane().await;
        let ada = client.login("ada", PASSWORD).await;
        for (body, field) in [
            (json!({}), "name"),
            (json!({"name": ""}), "name"),
            (json!({"name": "ci", "scopes": []}), "scopes"),
            (json!({"name": "ci", "scopes": ["read", "gateways:read"]}), "scopes[1]"),
            (json!({"name": "ci", "scopes": ["write:connections"]}), "scopes[0]"),
            (json!({"name": "ci", "expires_at": "2027-01-15T08:00:00Z"}), "expires_at"),
            (json!({"name": "ci", "expires_at": "soon"}), "expires_at"),
            (json!({"name": "ci", "source_cidrs": ["192.0.2.1/24"]}), "source_cidrs[0]"),
            (json!({"name": "ci", "source_cidrs": vec!["192.0.2.0/24"; 33]}), "source_cidrs"),
            (json!({"name": "ci", "prefix": "gk_"}), "prefix"),
        ] {
            let answer = ada.post("/api-keys", body.clone()).await;
            assert_eq!(answer.status, 400, "{body}");
            assert_eq!(answer.body["error"]["details"][0]["field"], field, "{body}");
        }
        assert_eq!(ada.get("/api-keys").await.body["meta"]["total"], 0);
    }
}
