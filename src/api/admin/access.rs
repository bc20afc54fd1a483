//! `/admin/access/explain`: why somebody is let in and reaches something, or not.

use super::geo_fence::MatchingRule;
use crate::access::{self, Check, Destination, Fence, Host, Level, Outcome, Question, Reach, Way};
use crate::api::error::ErrorBody;
use crate::api::openapi::{Access, callable_by};
use crate::api::{ApiError, Data, Query};
use crate::app::AppState;
use crate::auth::Auditor;
use crate::services::Services;
use axum::extract::State;
use chrono::{DateTime, Utc};
use gatekey_aggregates::access_rule::RuleProtocol;
use gatekey_aggregates::geo_fence::Mode;
use gatekey_aggregates::values::{GatewayId, UserId, canonical_ip};
use gatekey_projections::users;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The route.
pub fn routes() -> OpenApiRouter<AppState> {
    callable_by(Access::Auditor, OpenApiRouter::new().routes(routes!(explain)))
}

/// Who wants to go where.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ExplainQuery {
    /// The user: id, user name or e-mail address.
    #[param(example = "ada@example.com")]
    user: String,
    /// The gateway: id or name.
    #[param(example = "us-east-1")]
    gateway: String,
    /// An address or a host name that they want to reach. A name is not looked up.
    #[param(example = "10.77.0.10")]
    destination: Option<String>,
    /// The port there; without: whether there is any.
    #[param(value_type = Option<u16>, minimum = 1, example = 443)]
    port: Option<NonZeroU16>,
    /// The protocol; without: whether there is any.
    protocol: Option<RuleProtocol>,
    /// The address that they connect from. An enforced geo-fence refuses who gives none.
    #[param(value_type = Option<String>, example = "198.51.100.2")]
    client_ip: Option<IpAddr>,
}

impl ExplainQuery {
    fn destination(&self) -> Result<Option<Destination>, ApiError> {
        let wrong = ApiError::invalid_field;
        let Some(text) = &self.destination else {
            return match (self.port, self.protocol) {
                (Some(_), _) => Err(wrong("port", "needs a `destination`")),
                (_, Some(_)) => Err(wrong("protocol", "needs a `destination`")),
                (None, None) => Ok(None),
            };
        };
        if self.port.is_some() && self.protocol == Some(RuleProtocol::Icmp) {
            return Err(wrong("port", "must be absent for icmp, which has no ports"));
        }
        let host = match text.parse::<IpAddr>() {
            Ok(ip) => Host::Ip(canonical_ip(ip)),
            Err(_) => match text.parse() {
                Ok(name) => Host::Name(name),
                Err(_) => {
                    return Err(wrong("destination", "must be an IP address or a host name"));
                }
            },
        };
        let port = self.port.map(NonZeroU16::get);
        Ok(Some(Destination { host, port, protocol: self.protocol }))
    }
}

/// Why somebody is let in and reaches something, or not.
#[derive(Serialize, ToSchema)]
#[schema(as = AccessExplanation)]
struct Explanation {
    /// Whether they would be let in now with a good config, and would reach the destination that was
    /// asked about: no check failed but those that only inform.
    allowed: bool,
    /// The code of the first check that stands in the way.
    #[schema(value_type = Option<String>, required, example = "not_granted")]
    reason: Option<&'static str>,
    /// The user.
    user: ExplainedUser,
    /// The gateway.
    gateway: Named,
    /// Of when this is true.
    at: DateTime<Utc>,
    /// Every check, in the order in which they are made. A real decision stops at the first that
    /// fails; here each is made.
    checks: Vec<ExplainedCheck>,
}

/// One check.
#[derive(Serialize, ToSchema)]
#[schema(as = AccessCheck)]
struct ExplainedCheck {
    /// `gateway`, `user`, `certificate`, `grant`, `geo_fence` or `destination`.
    #[schema(value_type = String, example = "grant")]
    check: &'static str,
    /// How it came out.
    outcome: Outcome,
    /// Whether it only informs, and does not count for `allowed`.
    informative: bool,
    /// Why it came out so: a stable code. Of a failed check it is the one that the gateway is told.
    #[schema(value_type = String, example = "granted_by_group")]
    reason: &'static str,
    /// The same in words.
    #[schema(example = "They were granted this gateway as a member of `staff`.")]
    message: String,
    /// What it was decided by.
    decided_by: DecidedBy,
}

/// What a check was decided by: each has its own.
#[derive(Default, Serialize, ToSchema)]
#[schema(as = AccessDecidedBy)]
struct DecidedBy {
    /// Of `gateway`.
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<Named>,
    /// Of `user`.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<ExplainedUser>,
    /// Of `certificate`: a good one, else the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<ExplainedConfig>,
    /// Of `grant`.
    #[serde(skip_serializing_if = "Option::is_none")]
    granted: Option<Ways>,
    /// Of `geo_fence`.
    #[serde(skip_serializing_if = "Option::is_none")]
    geo_fence: Option<ExplainedFence>,
    /// Of `destination`: every rule that leads there.
    #[serde(skip_serializing_if = "Option::is_none")]
    access_rules: Option<Vec<ExplainedRule>>,
}

/// A thing with a name.
#[derive(Clone, Serialize, ToSchema)]
#[schema(as = NamedThing)]
struct Named {
    /// Its id.
    #[schema(example = "gw-001")]
    id: String,
    /// Its name.
    #[schema(example = "us-east-1")]
    name: String,
}

/// A user.
#[derive(Clone, Serialize, ToSchema)]
struct ExplainedUser {
    /// Their id.
    #[schema(example = "usr-01k9x3")]
    id: String,
    /// User name; null: erased.
    #[schema(required, example = "ada")]
    username: Option<String>,
    /// E-mail address; null: erased.
    #[schema(required, example = "ada@example.com")]
    email: Option<String>,
}

/// A config.
#[derive(Serialize, ToSchema)]
struct ExplainedConfig {
    /// Its id.
    #[schema(example = "cfg-abc123")]
    id: String,
    /// Its certificate's serial, in hex.
    #[schema(example = "5a0f3c")]
    serial: String,
    /// When it expires.
    expires_at: DateTime<Utc>,
}

/// In which ways something is the user's.
#[derive(Serialize, ToSchema)]
#[schema(as = AccessWays)]
struct Ways {
    /// By themselves.
    directly: bool,
    /// As a member of these groups.
    #[schema(example = json!(["engineering"]))]
    groups: Vec<String>,
}

impl Ways {
    fn of(ways: &[Way<'_>]) -> Self {
        let group = |way: &Way<'_>| match way {
            Way::Direct => None,
            Way::Group(name) => Some(name.to_string()),
        };
        Self {
            directly: ways.contains(&Way::Direct),
            groups: ways.iter().filter_map(group).collect(),
        }
    }
}

/// What the geo-fence went by.
#[derive(Serialize, ToSchema)]
struct ExplainedFence {
    /// Whether it is on.
    enabled: bool,
    /// What becomes of those outside.
    mode: Mode,
    /// Whose rules were looked at; absent while it is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    level: Option<Level>,
    /// The rule that lists the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<MatchingRule>,
}

/// A rule that leads to the destination.
#[derive(Serialize, ToSchema)]
struct ExplainedRule {
    /// Its id.
    #[schema(example = "rule-01k9x3")]
    id: String,
    /// Its name.
    #[schema(example = "wiki")]
    name: String,
    /// What `value` is: `ip`, `cidr`, `hostname` or `hostname_wildcard`.
    #[schema(value_type = String, example = "ip")]
    r#type: &'static str,
    /// Where it leads.
    #[schema(example = "10.77.0.10")]
    value: String,
    /// Which ports; null: all.
    #[schema(required, example = "443")]
    port_range: Option<String>,
    /// `tcp`, `udp` or `icmp`; null: any.
    #[schema(required, value_type = Option<String>, example = "tcp")]
    protocol: Option<&'static str>,
    /// In which ways it is the user's.
    assigned: Ways,
    /// The network behind the gateway that it leads into.
    #[schema(required)]
    network: Option<Named>,
}

impl ExplainedRule {
    fn of(reach: &Reach<'_>) -> Self {
        let rule = &reach.rule.definition;
        Self {
            id: reach.id.to_string(),
            name: rule.name.to_string(),
            r#type: rule.target.kind().as_str(),
            value: rule.target.value(),
            port_range: rule.port_range.map(|it| it.to_string()),
            protocol: rule.protocol.map(RuleProtocol::as_str),
            assigned: Ways::of(&reach.ways),
            network: reach
                .network
                .map(|(id, it)| Named { id: id.to_string(), name: it.name.to_string() }),
        }
    }
}

impl DecidedBy {
    fn of(check: &Check<'_>, user: &ExplainedUser, gateway: &Named) -> Self {
        let nothing = Self::default();
        match check {
            Check::Gateway(_) => Self { gateway: Some(gateway.clone()), ..nothing },
            Check::User(_) => Self { user: Some(user.clone()), ..nothing },
            Check::Certificate(found) => {
                let config = found.map(|(it, _)| ExplainedConfig {
                    id: it.id.to_string(),
                    serial: it.serial.to_string(),
                    expires_at: it.not_after,
                });
                Self { config, ..nothing }
            }
            Check::Grant(_, ways) => Self { granted: Some(Ways::of(ways)), ..nothing },
            Check::Fence(settings, fence) => {
                let verdict = match fence {
                    Fence::Off => None,
                    Fence::Inside(verdict) | Fence::Outside(verdict, _) => Some(verdict),
                };
                let geo_fence = ExplainedFence {
                    enabled: settings.enabled,
                    mode: settings.mode,
                    level: verdict.map(|it| it.level),
                    rule: verdict.and_then(MatchingRule::of),
                };
                Self { geo_fence: Some(geo_fence), ..nothing }
            }
            Check::Destination(found) => {
                let rules = |found: &Vec<_>| found.iter().map(ExplainedRule::of).collect();
                Self { access_rules: found.as_ref().map(rules), ..nothing }
            }
        }
    }
}

/// Explain access
///
/// Would this user be let in at this gateway now, and would they reach that destination? Each check
/// is told with what decided it. The checks are the very ones that a gateway's questions run.
#[utoipa::path(
    get, path = "/admin/access/explain", tag = "Access rules", operation_id = "explainAccess",
    params(ExplainQuery),
    responses(
        (status = 200, description = "Every check, in order", body = Data<Explanation>),
        (
            status = 404, description = "There is no such user or gateway: `details` says which",
            body = ErrorBody
        ),
    )
)]
async fn explain(
    _: Auditor,
    State(services): State<Arc<Services>>,
    Query(query): Query<ExplainQuery>,
) -> Result<Data<Explanation>, ApiError> {
    let destination = query.destination()?;
    let user_id = find_user(&services, &query.user).await?;
    let state = services.index.read();
    let no_gateway = || nothing_called("gateway", "gateway", &query.gateway);
    let gateway_id = find_gateway(&state, &query.gateway).ok_or_else(no_gateway)?;
    let now = services.clock.now();
    let question = Question {
        gateway_id,
        user_id: &user_id,
        client_ip: query.client_ip.map(canonical_ip),
        destination,
        now,
    };
    let found = access::explain(&state, &question).map_err(|unknown| match unknown {
        access::Unknown::Gateway => no_gateway(),
        access::Unknown::User => nothing_called("user", "user", &query.user),
    })?;
    let gateway =
        Named { id: gateway_id.to_string(), name: found.gateway.configuration.name.to_string() };
    let user = ExplainedUser {
        id: user_id.to_string(),
        username: found.user.profile.username.open().map(ToString::to_string),
        email: found.user.profile.email.open().map(ToString::to_string),
    };
    let checks = found
        .checks
        .iter()
        .map(|check| ExplainedCheck {
            check: check.name(),
            outcome: check.outcome(),
            informative: check.is_informative(),
            reason: check.reason(),
            message: check.message(),
            decided_by: DecidedBy::of(check, &user, &gateway),
        })
        .collect();
    let reason = found.denied_by().map(Check::reason);
    let data = Explanation { allowed: reason.is_none(), reason, user, gateway, at: now, checks };
    Ok(Data { data })
}

/// The gateway with this id, or else this name, whatever the case of its letters.
fn find_gateway<'a>(state: &'a access::State, text: &str) -> Option<&'a GatewayId> {
    let by_id = text.parse().ok().and_then(|id: GatewayId| state.gateways.get_key_value(&id));
    let wanted = text.to_lowercase();
    let named = |(_, it): &(&GatewayId, &access::GatewayEntry)| {
        it.configuration.name.as_str().to_lowercase() == wanted
    };
    by_id.or_else(|| state.gateways.iter().find(named)).map(|(id, _)| id)
}

/// The user with this id, or else this user name or e-mail address. 404 that names what was asked.
pub async fn find_user(services: &Services, text: &str) -> Result<UserId, ApiError> {
    if let Ok(id) = text.parse::<UserId>()
        && services.index.read().users.contains_key(&id)
    {
        return Ok(id);
    }
    let found = users::by_name_or_email(&services.db, text).await?;
    let id = found.ok_or_else(|| nothing_called("user", "user", text))?.row.id;
    id.parse().map_err(ApiError::internal)
}

fn nothing_called(field: &str, what: &str, text: &str) -> ApiError {
    let text = gatekey_aggregates::values::clip(text.to_owned(), 100);
    ApiError::not_found()
        .message(format!("There is no {what} `{text}`"))
        .detail(field, format!("names no {what}"))
}
