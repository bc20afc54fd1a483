//! The access decision: may this certificate's owner use this gateway now, and what may they reach?
//!
//! Pure, and the only place that decides it: generate, verify, connect, client-rules and the
//! explanation all ask here. The checks run in a fixed order, and the first that fails is the reason.

use super::state::{CertificateEntry, GatewayEntry, RuleEntry, State, UserEntry};
use chrono::{DateTime, Utc};
use gatekey_aggregates::access_rule::Target;
use gatekey_aggregates::certificate::Subject;
use gatekey_aggregates::values::{
    AccessRuleId, CertificateId, Cidr, CommonName, GatewayId, Serial, TokenHash, UserId,
};
use std::net::IpAddr;

/// Why somebody is not let in. Stable codes; the texts reach the person at the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The gateway was switched off by an admin.
    GatewayInactive,
    /// Neither a certificate serial nor a password was sent.
    NoCredentials,
    /// No such certificate was issued here, or it expired long ago.
    CertificateUnknown,
    /// It was revoked.
    CertificateRevoked,
    /// It has expired, or is not valid yet.
    CertificateExpired,
    /// It was issued for another gateway, or for a server.
    WrongGateway,
    /// The common name is not the owner's.
    CommonNameMismatch,
    /// The password is no config's.
    PasswordUnknown,
    /// The password is another config's.
    PasswordMismatch,
    /// The owner is gone.
    UserUnknown,
    /// The owner was disabled.
    UserDisabled,
    /// The owner may not use this gateway.
    NotGranted,
    /// What is known here is too old to let anyone in.
    Stale,
}

impl Reason {
    /// Stable, snake_case.
    pub fn code(self) -> &'static str {
        match self {
            Self::GatewayInactive => "gateway_inactive",
            Self::NoCredentials => "no_credentials",
            Self::CertificateUnknown => "certificate_unknown",
            Self::CertificateRevoked => "certificate_revoked",
            Self::CertificateExpired => "certificate_expired",
            Self::WrongGateway => "wrong_gateway",
            Self::CommonNameMismatch => "common_name_mismatch",
            Self::PasswordUnknown => "password_unknown",
            Self::PasswordMismatch => "password_mismatch",
            Self::UserUnknown => "user_unknown",
            Self::UserDisabled => "user_disabled",
            Self::NotGranted => "not_granted",
            Self::Stale => "control_plane_stale",
        }
    }

    /// For the person who wanted in.
    pub fn message(self) -> &'static str {
        match self {
            Self::GatewayInactive => "This gateway is switched off.",
            Self::NoCredentials => "The client sent no credentials; generate a new config.",
            Self::CertificateUnknown => {
                "This certificate is not known here; generate a new config."
            }
            Self::CertificateRevoked => "This config was revoked; generate a new one.",
            Self::CertificateExpired => "This config has expired; generate a new one.",
            Self::WrongGateway => "This config is for another gateway.",
            Self::CommonNameMismatch => "This certificate belongs to someone else.",
            Self::PasswordUnknown | Self::PasswordMismatch => {
                "The config's password is wrong; generate a new config."
            }
            Self::UserUnknown => "This account no longer exists.",
            Self::UserDisabled => "This account is disabled; ask your administrator.",
            Self::NotGranted => "You have no access to this gateway; ask your administrator.",
            Self::Stale => "The control plane can't decide right now; try again shortly.",
        }
    }
}

/// Somebody at a gateway's door.
#[derive(Clone, Debug)]
pub struct Attempt<'a> {
    /// Which gateway asks.
    pub gateway_id: &'a GatewayId,
    /// The certificate's serial.
    pub serial: Option<&'a Serial>,
    /// Hash of the password.
    pub password: Option<&'a TokenHash>,
    /// The certificate's common name.
    pub common_name: &'a str,
    /// The user name; if given, it must be the common name.
    pub username: Option<&'a str>,
    /// The client's address.
    pub client_ip: Option<IpAddr>,
    /// When.
    pub now: DateTime<Utc>,
}

/// Who is let in.
#[derive(Clone, Copy, Debug)]
pub struct Admitted<'a> {
    /// At which gateway.
    pub gateway: &'a GatewayEntry,
    /// With which certificate.
    pub certificate: &'a CertificateEntry,
    /// Whose id.
    pub user_id: &'a UserId,
    /// Who.
    pub user: &'a UserEntry,
    /// The certificate's common name.
    pub common_name: &'a CommonName,
}

/// Who is not let in, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// The first check that failed.
    pub reason: Reason,
    /// The certificate, once it was found.
    pub certificate_id: Option<CertificateId>,
    /// Its owner, once they were found.
    pub user_id: Option<UserId>,
}

/// Runs every check, in order.
pub fn admit<'a>(state: &'a State, attempt: &Attempt<'_>) -> Result<Admitted<'a>, Denied> {
    let unknown = |reason| Denied { reason, certificate_id: None, user_id: None };
    let gateway =
        state.gateways.get(attempt.gateway_id).ok_or_else(|| unknown(Reason::WrongGateway))?;
    if !gateway.configuration.active {
        return Err(unknown(Reason::GatewayInactive));
    }
    let certificate = find_certificate(state, attempt).map_err(unknown)?;
    let denied = |reason| Denied {
        reason,
        certificate_id: Some(certificate.id.clone()),
        user_id: match &certificate.subject {
            Subject::Client { user_id, .. } => Some(user_id.clone()),
            Subject::Server { .. } => None,
        },
    };
    if certificate.revoked.is_some() {
        return Err(denied(Reason::CertificateRevoked));
    }
    if attempt.now >= certificate.not_after || attempt.now < certificate.not_before {
        return Err(denied(Reason::CertificateExpired));
    }
    let Subject::Client { user_id, gateway_id, common_name, token_hash, .. } = &certificate.subject
    else {
        return Err(denied(Reason::WrongGateway));
    };
    if gateway_id != attempt.gateway_id {
        return Err(denied(Reason::WrongGateway));
    }
    let Some(common_name) = common_name.open() else {
        return Err(denied(Reason::UserUnknown));
    };
    let is_owner = |name: &str| name == common_name.as_str();
    if !is_owner(attempt.common_name) || !attempt.username.is_none_or(is_owner) {
        return Err(denied(Reason::CommonNameMismatch));
    }
    if attempt.password.is_some_and(|it| it != token_hash) {
        return Err(denied(Reason::PasswordMismatch));
    }
    let user = state.users.get(user_id).ok_or_else(|| denied(Reason::UserUnknown))?;
    check_user(gateway, user_id, user).map_err(denied)?;
    Ok(Admitted { gateway, certificate, user_id, user, common_name })
}

/// The certificate that was shown: by its serial, else by the password that names a config.
fn find_certificate<'a>(
    state: &'a State,
    attempt: &Attempt<'_>,
) -> Result<&'a CertificateEntry, Reason> {
    let serial = match (attempt.serial, attempt.password) {
        (None, None) => return Err(Reason::NoCredentials),
        (Some(serial), _) => serial,
        (None, Some(hash)) => state.serials_by_token.get(hash).ok_or(Reason::PasswordUnknown)?,
    };
    state.certificates.get(serial).ok_or(Reason::CertificateUnknown)
}

/// Whether a user may use a gateway at all: the checks that need no certificate.
pub fn check_user(
    gateway: &GatewayEntry,
    user_id: &UserId,
    user: &UserEntry,
) -> Result<(), Reason> {
    if !user.active {
        return Err(Reason::UserDisabled);
    }
    let granted = gateway.users.contains(user_id)
        || user.groups.iter().any(|group| gateway.groups.contains(group));
    if granted { Ok(()) } else { Err(Reason::NotGranted) }
}

/// What a user may reach through a gateway: the active rules assigned to them or to one of their
/// groups, kept to the networks attached to that gateway. Empty unless granted; in order of id.
pub fn effective_rules<'a>(
    state: &'a State,
    gateway: &'a GatewayEntry,
    user_id: &'a UserId,
    user: &'a UserEntry,
) -> impl Iterator<Item = (&'a AccessRuleId, &'a RuleEntry)> {
    state.rules.iter().filter(move |(_, rule)| {
        let assigned = rule.users.contains(user_id)
            || user.groups.iter().any(|group| rule.groups.contains(group));
        assigned && rule.definition.active && is_within(state, gateway, rule)
    })
}

/// Whether a rule's target lies in a network attached to the gateway. A rule that names a network
/// needs that one; one that names none needs any that holds all of its addresses.
pub fn is_within(state: &State, gateway: &GatewayEntry, rule: &RuleEntry) -> bool {
    let attached = |id| gateway.networks.contains(id).then(|| state.networks.get(id)).flatten();
    let target = match &rule.definition.target {
        Target::Ip(ip) => Some(Cidr::from(*ip)),
        Target::Cidr(cidr) => Some(*cidr),
        Target::Hostname(_) | Target::HostnameWildcard(_) => None,
    };
    match (&rule.definition.network_id, target) {
        (Some(id), Some(target)) => attached(id).is_some_and(|it| it.cidr.covers(&target)),
        (Some(id), None) => attached(id).is_some(),
        (None, Some(target)) => {
            gateway.networks.iter().filter_map(attached).any(|it| it.cidr.covers(&target))
        }
        (None, None) => false,
    }
}
