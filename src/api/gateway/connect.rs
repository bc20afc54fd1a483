//! `POST /gateway/connect`: a client was let in and has its VPN address; may it stay, what may it
//! reach? The whole decision again, then a session begins.

use super::call::{AgentCall, AgentRequest, absent_if_empty, address};
use super::verify::{fresh_enough, take_down};
use crate::access::{
    Attempt, Denied, Reason, SessionEntry, State as AccessState, admit, effective_rules,
};
use crate::api::{ApiError, Json};
use crate::app::AppState;
use crate::event_log::{AppendError, CommandError, Request as Command};
use crate::openvpn::{Push, push};
use crate::services::Services;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use gatekey_aggregates::access_rule::{RuleProtocol, Target};
use gatekey_aggregates::attempt::Event as AttemptEvent;
use gatekey_aggregates::session::{self, Beginning, EndReason, Session};
use gatekey_aggregates::values::{
    CertificateId, Cidr, CommonName, GatewayId, Serial, SessionId, UserId,
};
use gatekey_aggregates::{Metadata, PersonId, Personal};
use gatekey_projections::connections;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::oneshot;
use utoipa::ToSchema;

/// A report of the same connection within this time is a repeat, not a new connection.
const REPEAT: TimeDelta = TimeDelta::minutes(2);
/// How late a report may be and still tell the time itself.
const LATEST: TimeDelta = TimeDelta::days(7);
/// How old a list of clients may be at most: a connection that ended within that time may still be
/// on it.
const LATELY: TimeDelta = TimeDelta::minutes(2);
/// After this the agent is told no: before it gives up, and before people notice a gateway that
/// stands still.
const DEADLINE: Duration = Duration::from_secs(3);
/// How often it is tried to end a session that nobody wants, with pauses that double: for a minute.
const ENDINGS: usize = 6;
/// The first of these pauses.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// How often a connection is begun anew when its address was taken meanwhile.
const TRIES: usize = 4;

/// A client that was let in.
#[derive(Deserialize, ToSchema)]
#[schema(as = ConnectRequest)]
pub struct Request {
    /// The gateway's token, unless it is in `X-Gateway-Token`.
    #[schema(example = "9nRtjr4WzqjbB3Tn0wqWmCqRr4i2zrQ5LZcVgrm9T8Y")]
    token: Option<String>,
    /// The certificate's common name.
    #[schema(value_type = String, example = "ada@example.com")]
    common_name: CommonName,
    /// OpenVPN's `trusted_ip`.
    #[serde(default, deserialize_with = "address")]
    #[schema(value_type = Option<String>, example = "192.0.2.7")]
    client_ip: Option<IpAddr>,
    /// OpenVPN's `ifconfig_pool_remote_ip`.
    #[serde(default, deserialize_with = "absent_if_empty")]
    #[schema(value_type = Option<String>, example = "172.31.255.2")]
    vpn_ipv4: Option<Ipv4Addr>,
    /// OpenVPN's `ifconfig_pool_remote_ip6`.
    #[serde(default, deserialize_with = "absent_if_empty")]
    #[schema(value_type = Option<String>, example = "fd00:77::2")]
    vpn_ipv6: Option<Ipv6Addr>,
    /// OpenVPN's `tls_serial_hex_0`.
    #[serde(default, deserialize_with = "absent_if_empty")]
    #[schema(example = "5a:0f:3c")]
    serial_number: Option<Serial>,
    /// Makes a report that is sent again the same report.
    #[serde(default, deserialize_with = "absent_if_empty")]
    #[schema(example = "01k9x3v7m2")]
    event_id: Option<String>,
    /// When it happened, if the report is late.
    #[serde(default, deserialize_with = "absent_if_empty")]
    occurred_at: Option<DateTime<Utc>>,
}

impl Request {
    fn vpn_ip(&self) -> Option<IpAddr> {
        self.vpn_ipv4.map(IpAddr::from)
    }

    fn vpn_ipv6(&self) -> Option<IpAddr> {
        self.vpn_ipv6.map(IpAddr::from)
    }
}

impl AgentRequest for Request {
    fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }
}

/// A destination, as the agent's firewall needs it.
#[derive(Serialize, ToSchema)]
pub struct FirewallRule {
    /// Always `allow`.
    #[schema(value_type = String, example = "allow")]
    action: &'static str,
    /// `ip`, `cidr`, `hostname` or `hostname_wildcard`.
    #[schema(value_type = String, example = "cidr")]
    rule_type: &'static str,
    /// The address, network or name.
    #[schema(example = "10.0.0.0/8")]
    value: String,
    /// A port or a range; absent: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "443")]
    port_range: Option<String>,
    /// `tcp`, `udp` or `icmp`; absent: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "tcp")]
    protocol: Option<&'static str>,
}

/// Whether the client may stay, and what it is told and may reach.
#[derive(Default, Serialize, ToSchema)]
#[schema(as = ConnectAnswer)]
pub struct Answer {
    /// Whether it may stay.
    allow: bool,
    /// Stable code of the first check that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "not_granted")]
    code: Option<&'static str>,
    /// Why not, for the person.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "Welcome")]
    message: Option<&'static str>,
    /// Lines for OpenVPN's per-client configuration. A refusal says `disable`.
    #[schema(example = json!(["push \"route 10.77.0.0 255.255.255.0\""]))]
    client_config: Vec<String>,
    /// The connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "con-01k9x3")]
    session_id: Option<String>,
    /// The gateway that asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "gw-001")]
    gateway_id: Option<String>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "us-east-1")]
    gateway_name: Option<String>,
    /// Who it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "usr-01k9x3")]
    user_id: Option<String>,
    /// Their e-mail address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "ada@example.com")]
    user_email: Option<String>,
    /// What happens to everything that no rule allows.
    #[schema(value_type = String, example = "deny")]
    default_policy: &'static str,
    /// What may be reached.
    firewall_rules: Vec<FirewallRule>,
}

/// What the decision yields.
struct Granted {
    certificate_id: CertificateId,
    serial: Serial,
    common_name: CommonName,
    user_id: UserId,
    /// By a geo-fence that is only audited.
    would_be_denied: Option<Denied>,
    answer: Answer,
}

/// Report a connection
///
/// Decides once more, begins the session, and says what the client may reach. Durable when it is
/// answered. A refusal has `allow: false` and the line `disable`.
#[utoipa::path(
    post, path = "/gateway/connect", tag = "Gateway", operation_id = "reportConnection",
    request_body = Request,
    responses(
        (status = 200, description = "Decided", body = Answer),
    ),
)]
pub async fn connect(
    State(app): State<AppState>,
    call: AgentCall<Request>,
) -> Result<Response, ApiError> {
    let AgentCall { gateway_id, gateway_name, metadata, body } = call;
    let now = app.services.clock.now();
    let mut granted = match decide(&app, &gateway_id, &body, now) {
        Ok(granted) => granted,
        Err(denied) => {
            app.connects.refused(&gateway_id, body.common_name.as_str(), body.client_ip, None, now);
            let attempt = attempt(&gateway_id, body.serial_number.as_ref(), &body, now);
            take_down(&app.services, AttemptEvent::ConnectDenied, &denied, &attempt, metadata);
            return Ok(Json(Answer {
                code: Some(denied.reason.code()),
                message: Some(denied.reason.message()),
                client_config: push::refusal(),
                gateway_id: Some(gateway_id.to_string()),
                gateway_name: Some(gateway_name.to_string()),
                default_policy: "deny",
                ..Answer::default()
            })
            .into_response());
        }
    };
    granted.audit(&app, &gateway_id, &body, &metadata, now);
    let answer = std::mem::take(&mut granted.answer);
    let session_id = match &body.event_id {
        Some(event_id) => session_named(&granted.certificate_id, event_id),
        None => app.services.entropy.id().map_err(ApiError::internal)?,
    };
    let is_named = body.event_id.is_some();
    let report = Arc::new(Report {
        gateway_id,
        body,
        granted,
        metadata,
        now,
        session_id,
        is_named,
        may_have_begun: AtomicBool::new(false),
    });
    let session_id = begin_in_time(&app, &report).await?;
    Ok(Json(Answer {
        session_id: Some(session_id.to_string()),
        gateway_id: Some(report.gateway_id.to_string()),
        gateway_name: Some(gateway_name.to_string()),
        user_id: Some(report.granted.user_id.to_string()),
        ..answer
    })
    .into_response())
}

fn attempt<'a>(
    gateway_id: &'a GatewayId,
    serial: Option<&'a Serial>,
    body: &'a Request,
    now: DateTime<Utc>,
) -> Attempt<'a> {
    Attempt {
        gateway_id,
        serial,
        password: None,
        common_name: body.common_name.as_str(),
        username: None,
        client_ip: body.client_ip,
        now,
    }
}

fn decide(
    app: &AppState,
    gateway_id: &GatewayId,
    body: &Request,
    now: DateTime<Utc>,
) -> Result<Granted, Denied> {
    fresh_enough(app)?;
    let state = app.services.index.read();
    // Agents may leave the serial out: then it is the newest certificate of that name.
    let serial = body
        .serial_number
        .as_ref()
        .or_else(|| state.newest_serial(gateway_id, body.common_name.as_str(), now));
    let admitted = admit(&state, &attempt(gateway_id, serial, body, now))?;
    let rules: Vec<_> =
        effective_rules(&state, admitted.gateway, admitted.user_id, admitted.user).collect();
    let routes: Vec<Cidr> = rules
        .iter()
        .filter_map(|(_, rule)| match &rule.definition.target {
            Target::Ip(ip) => Some(Cidr::from(*ip)),
            Target::Cidr(cidr) => Some(*cidr),
            // A name is looked up by the agent; its route is the network that the rule names.
            Target::Hostname(_) | Target::HostnameWildcard(_) => {
                let network = rule.definition.network_id.as_ref()?;
                state.networks.get(network).map(|it| it.cidr)
            }
        })
        .collect();
    let configuration = &admitted.gateway.configuration;
    let pushed = Push {
        routes: &routes,
        full_tunnel: configuration.full_tunnel,
        dns_servers: if configuration.push_dns { &configuration.dns_servers } else { &[] },
    };
    let firewall_rules = rules
        .iter()
        .map(|(_, rule)| FirewallRule {
            action: "allow",
            rule_type: rule.definition.target.kind().as_str(),
            value: rule.definition.target.value(),
            port_range: rule.definition.port_range.map(|it| it.to_string()),
            protocol: rule.definition.protocol.map(RuleProtocol::as_str),
        })
        .collect();
    Ok(Granted {
        certificate_id: admitted.certificate.id.clone(),
        serial: admitted.certificate.serial.clone(),
        common_name: admitted.common_name.clone(),
        user_id: admitted.user_id.clone(),
        would_be_denied: admitted.would_be_denied(),
        answer: Answer {
            allow: true,
            client_config: pushed.client_config(),
            user_email: admitted.user.profile.email.open().map(ToString::to_string),
            default_policy: "deny",
            firewall_rules,
            ..Answer::default()
        },
    })
}

impl Granted {
    /// Writes down whom a geo-fence that is only audited would have refused.
    fn audit(
        &self,
        app: &AppState,
        gateway_id: &GatewayId,
        body: &Request,
        metadata: &Metadata,
        now: DateTime<Utc>,
    ) {
        if let Some(denied) = &self.would_be_denied {
            let attempt = attempt(gateway_id, body.serial_number.as_ref(), body, now);
            let event = AttemptEvent::FenceWouldDeny;
            take_down(&app.services, event, denied, &attempt, metadata.clone());
        }
    }
}

/// A connect that was granted.
struct Report {
    gateway_id: GatewayId,
    body: Request,
    granted: Granted,
    metadata: Metadata,
    now: DateTime<Utc>,
    /// What the session is called if it begins now.
    session_id: SessionId,
    /// Whether the same report always names the same session.
    is_named: bool,
    /// Whether it has begun by this report, or nobody knows.
    may_have_begun: AtomicBool,
}

/// What came of a report, for the one who answers it.
struct Outcome {
    begun: Result<SessionId, CommandError>,
    /// Says that it will be answered.
    taken: oneshot::Sender<()>,
}

/// Makes a connect that is not granted in the end, for whatever reason, a refused one: its client
/// is told no, or told nothing.
struct Unanswered<'a> {
    app: &'a AppState,
    report: &'a Report,
    is_answered: bool,
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if self.is_answered {
            return;
        }
        let Report { gateway_id, body, session_id, now, .. } = self.report;
        let id = self.report.may_have_begun.load(Ordering::SeqCst).then(|| session_id.clone());
        self.app.connects.refused(gateway_id, body.common_name.as_str(), body.client_ip, id, *now);
    }
}

/// Begins the session, or gives up before the agent does. A session whose beginning is answered by
/// nobody ends again.
async fn begin_in_time(app: &AppState, report: &Arc<Report>) -> Result<SessionId, ApiError> {
    let mut answering = Unanswered { app, report, is_answered: false };
    let (tell, told) = oneshot::channel();
    tokio::spawn(carry_through(app.clone(), report.clone(), tell));
    let late = |_| ApiError::unavailable("It took too long").code("timeout");
    let outcome = tokio::time::timeout(DEADLINE, told).await.map_err(late)?;
    let Outcome { begun, taken } = outcome.map_err(ApiError::internal)?;
    let begun = begun?;
    // If nobody listens, the session ends: then it must not be answered as begun.
    taken.send(()).map_err(|()| ApiError::internal("a connect was given up"))?;
    answering.is_answered = true;
    Ok(begun)
}

/// Begins the session even if the one who would answer has gone, and then ends it again.
async fn carry_through(app: AppState, report: Arc<Report>, tell: oneshot::Sender<Outcome>) {
    let begun = begin(&app, &report).await;
    let (taken, was_taken) = oneshot::channel();
    let is_answered = tell.send(Outcome { begun, taken }).is_ok() && was_taken.await.is_ok();
    if !is_answered && report.may_have_begun.load(Ordering::SeqCst) {
        let services = Arc::downgrade(&app.services);
        drop(app);
        end_unwanted(services, report).await;
    }
}

/// Ends a session that may have begun. If the beginning is in doubt, it may show only later.
async fn end_unwanted(services: Weak<Services>, report: Arc<Report>) {
    let mut pause = FIRST_PAUSE;
    for _ in 0..ENDINGS {
        let Some(services) = services.upgrade() else { return };
        let command = session::Command::Disconnect {
            gateway_id: report.gateway_id.clone(),
            disconnected_at: report.now,
            counters: None,
        };
        let request = Command::new::<Session>(&report.session_id, command, report.metadata.clone());
        match services.bus.execute::<Session>(request).await {
            Ok(_) => return,
            Err(error) => {
                let session_id = &report.session_id;
                tracing::debug!(%error, connection = %session_id, "nothing to end yet");
            }
        }
        drop(services);
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
}

/// Begins the session, unless it is known already, and ends the one that held its address.
async fn begin(app: &AppState, report: &Report) -> Result<SessionId, CommandError> {
    let Report { gateway_id, body, granted, metadata, now, session_id, .. } = report;
    let connected_at = body.occurred_at.map_or(*now, |at| at.clamp(*now - LATEST, *now));
    let named = report.is_named.then_some(session_id);
    for _ in 0..TRIES {
        let (repeat, held) = {
            let state = app.services.index.read();
            let is_wanted = |id: &SessionId| !app.connects.is_unwanted(id);
            (
                known(&state, gateway_id, body, granted, connected_at, named)
                    .filter(|(id, _)| named.is_some() || is_wanted(id)),
                Held::of(&state, gateway_id, body, connected_at),
            )
        };
        if let Some((known_id, is_lost)) = repeat {
            if !is_lost || resume(app, &known_id, metadata.clone()).await? || named.is_some() {
                return Ok(known_id);
            }
            // Another connection has its address by now: it is over, and this is a new one.
            catch_up(app).await?;
            continue;
        }
        let person = PersonId::user(&granted.user_id);
        let beginning = Beginning {
            gateway_id: gateway_id.clone(),
            user_id: granted.user_id.clone(),
            certificate_id: granted.certificate_id.clone(),
            serial: granted.serial.clone(),
            common_name: Personal::new(person.clone(), granted.common_name.clone()),
            client_ip: body.client_ip.map(|ip| Personal::new(person.clone(), ip)),
            vpn_ip: body.vpn_ip(),
            vpn_ipv6: body.vpn_ipv6(),
            connected_at,
        };
        let command = match held.over_at {
            None => session::Command::Begin(beginning),
            Some(disconnected_at) => session::Command::BeginEnded {
                beginning,
                reason: EndReason::Superseded,
                disconnected_at,
            },
        };
        let mut request = Command::new::<Session>(session_id, command, metadata.clone()).fresh();
        // If this repeats the report of one that is over, whoever has its address now keeps it: then
        // the command asks for nothing new, and nothing is done beside it.
        for old in held.superseded {
            let end = session::Command::End {
                reason: EndReason::Superseded,
                disconnected_at: connected_at,
                counters: None,
            };
            request = request.also::<Session>(old, end);
        }
        report.may_have_begun.store(true, Ordering::SeqCst);
        let done = app.services.bus.execute::<Session>(request).await;
        let in_doubt = matches!(done, Err(CommandError::Unavailable(_) | CommandError::Broken(_)));
        let is_new = done.as_ref().is_ok_and(|outcome| outcome.appended.is_some());
        report.may_have_begun.store(is_new || in_doubt, Ordering::SeqCst);
        match done {
            Ok(_) => return Ok(session_id.clone()),
            // Another report took the address in between: look again.
            Err(CommandError::Append(AppendError::Taken { .. })) => {
                catch_up(app).await?;
            }
            Err(error) => return Err(error),
        }
    }
    Err(CommandError::Contended)
}

async fn catch_up(app: &AppState) -> Result<(), CommandError> {
    let caught_up = app.services.index.catch_up().await;
    caught_up.map_err(|error| CommandError::Unavailable(error.to_string()))
}

/// The session of a report that bears an id: the same report always names the same session.
pub fn session_named(certificate_id: &CertificateId, event_id: &str) -> SessionId {
    let hash = crate::entropy::token_hash(&format!("{certificate_id}/{event_id}"));
    let id = format!("{}{}", SessionId::PREFIX, &hash.as_str()[..32]);
    match id.parse() {
        Ok(id) => id,
        Err(_) => unreachable!("a prefix and 32 hex digits are an id"),
    }
}

/// The session that heartbeats tell of: each list names the same one. Agents tell whole seconds.
fn session_found(
    certificate_id: &CertificateId,
    vpn_ip: IpAddr,
    connected_at: DateTime<Utc>,
) -> SessionId {
    session_named(certificate_id, &format!("found/{vpn_ip}/{}", connected_at.timestamp()))
}

/// A client that a gateway says is connected, and of whom it never reported a connect.
#[derive(Clone, Debug)]
pub struct Found {
    /// The certificate's common name.
    pub common_name: CommonName,
    /// From where.
    pub client_ip: IpAddr,
    /// Its address inside the VPN.
    pub vpn_ipv4: Ipv4Addr,
    /// Since when.
    pub connected_at: DateTime<Utc>,
}

/// Begins the session of a client whose connect was never reported, if the whole decision says yes;
/// a no is taken down. The list does not say with which certificate they came: where that can't be
/// told, nothing is begun, for it may be a revoked one.
pub async fn begin_found(
    app: &AppState,
    gateway_id: &GatewayId,
    found: Found,
    metadata: Metadata,
) -> Result<(), CommandError> {
    let now = app.services.clock.now();
    let vpn_ip = IpAddr::from(found.vpn_ipv4);
    let serial = {
        let state = app.services.index.read();
        let holder = state.sessions.holder(gateway_id, vpn_ip);
        if holder.is_some_and(|it| it.lost_at.is_none()) {
            return Ok(());
        }
        let name = found.common_name.as_str();
        let known = app.polls.client(gateway_id, vpn_ip, name, now).map(|(serial, _)| serial);
        let known = known.or_else(|| state.sole_serial(gateway_id, name, now).cloned());
        let newest = state.newest_serial(gateway_id, name, now).cloned();
        let is_good = |serial: &Serial| {
            let certificate = state.certificates.get(serial);
            certificate.is_some_and(|it| it.revoked.is_none() && now < it.not_after)
        };
        if known.is_none() && newest.as_ref().is_some_and(is_good) {
            return Ok(());
        }
        known.or(newest)
    };
    let connected_at = found.connected_at;
    let body = Request {
        token: None,
        common_name: found.common_name,
        client_ip: Some(found.client_ip),
        vpn_ipv4: Some(found.vpn_ipv4),
        vpn_ipv6: None,
        serial_number: serial,
        event_id: None,
        occurred_at: Some(connected_at),
    };
    let granted = match decide(app, gateway_id, &body, now) {
        Ok(granted) => granted,
        // Says nothing of the client.
        Err(Denied { reason: Reason::Stale, .. }) => return Ok(()),
        Err(denied) => {
            let attempt = attempt(gateway_id, body.serial_number.as_ref(), &body, now);
            take_down(&app.services, AttemptEvent::ConnectDenied, &denied, &attempt, metadata);
            return Ok(());
        }
    };
    // A list that was made just before the disconnect came must not bring the connection back.
    let lately = now - LATELY;
    let user_id = granted.user_id.as_str();
    let is_over =
        connections::ended_since(&app.services.db, gateway_id.as_str(), user_id, vpn_ip, lately)
            .await
            .map_err(|error| CommandError::Unavailable(error.to_string()))?;
    if is_over {
        return Ok(());
    }
    granted.audit(app, gateway_id, &body, &metadata, now);
    let report = Report {
        gateway_id: gateway_id.clone(),
        session_id: session_found(&granted.certificate_id, vpn_ip, connected_at),
        is_named: true,
        body,
        granted,
        metadata,
        now,
        may_have_begun: AtomicBool::new(false),
    };
    begin(app, &report).await.map(drop)
}

/// The session that this report repeats, and whether it was thought lost.
fn known(
    state: &AccessState,
    gateway_id: &GatewayId,
    body: &Request,
    granted: &Granted,
    connected_at: DateTime<Utc>,
    named: Option<&SessionId>,
) -> Option<(SessionId, bool)> {
    // One that was lost, and whose address another has by now, is over.
    let is_over = |it: &SessionEntry| {
        it.lost_at.is_some()
            && [it.vpn_ip, it.vpn_ipv6]
                .into_iter()
                .flatten()
                .filter_map(|ip| state.sessions.holder(gateway_id, ip))
                .any(|other| other.lost_at.is_none())
    };
    let same = |it: &&SessionEntry| {
        it.certificate_id == granted.certificate_id
            && it.vpn_ip == body.vpn_ip()
            && it.vpn_ipv6 == body.vpn_ipv6()
            && (connected_at - it.connected_at).abs() < REPEAT
            && !is_over(it)
    };
    let session = match named {
        Some(id) => state
            .sessions
            .get(id)
            .or_else(|| {
                // A heartbeat may have told of it before its report came.
                let (ip, at) = (body.vpn_ip()?, body.occurred_at?);
                state.sessions.get(&session_found(&granted.certificate_id, ip, at))
            })
            .filter(|it| it.gateway_id == *gateway_id),
        None => {
            state.sessions.of_client(gateway_id, &granted.common_name, body.client_ip).find(same)
        }
    };
    session.map(|it| (it.id.clone(), it.lost_at.is_some()))
}

/// What becomes of those that hold an address which the reported session was given.
#[derive(Default)]
struct Held {
    /// Sessions that it supersedes.
    superseded: Vec<SessionId>,
    /// When it was superseded itself: a late report may come after that of its successor.
    over_at: Option<DateTime<Utc>>,
}

impl Held {
    fn of(
        state: &AccessState,
        gateway_id: &GatewayId,
        body: &Request,
        connected_at: DateTime<Utc>,
    ) -> Self {
        let mut held = Self::default();
        let holders = [body.vpn_ip(), body.vpn_ipv6()]
            .into_iter()
            .flatten()
            .filter_map(|ip| state.sessions.holder(gateway_id, ip))
            .filter(|it| it.lost_at.is_none());
        for holder in holders {
            let began = holder.connected_at;
            // Only who tells the time of it can be late. Agents tell whole seconds.
            if body.occurred_at.is_some() && began.trunc_subsecs(0) > connected_at {
                held.over_at = Some(held.over_at.map_or(began, |at| at.min(began)));
            } else if !held.superseded.contains(&holder.id) {
                held.superseded.push(holder.id.clone());
            }
        }
        held
    }
}

/// Takes back the end of a connection that was only thought lost. False: another connection has
/// its address by now, so it is over for good.
pub async fn resume(
    app: &AppState,
    session_id: &SessionId,
    metadata: Metadata,
) -> Result<bool, CommandError> {
    let command = session::Command::Resume { at: app.services.clock.now() };
    let request = Command::new::<Session>(session_id, command, metadata);
    match app.services.bus.execute::<Session>(request).await {
        Ok(_) => Ok(true),
        Err(CommandError::Append(AppendError::Taken { .. })) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The same for callers that must not wait for the database; once at a time, however often they ask.
pub fn resume_in_background(app: &AppState, session_id: SessionId, metadata: Metadata) {
    let Some(turn) = app.resumes.begin(&session_id) else { return };
    let app = app.clone();
    tokio::spawn(async move {
        let _turn = turn;
        if let Err(error) = resume(&app, &session_id, metadata).await {
            tracing::warn!(%error, connection = %session_id, "a connection could not be resumed");
        }
    });
}
