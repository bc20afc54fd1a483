//! The access decision: may this certificate's owner use this gateway now, and what may they reach?
//!
//! Pure, and the only place that decides it: generate, verify, connect, client-rules and the
//! explanation all ask here. The checks run in a fixed order, and the first that fails is the reason.

use super::fence::{Fence, check_fence};
use super::state::{CertificateEntry, GatewayEntry, NetworkEntry, RuleEntry, State, UserEntry};
use chrono::{DateTime, Utc};
use gatekey_aggregates::access_rule::Target;
use gatekey_aggregates::certificate::Subject;
use gatekey_aggregates::geo_fence::Mode;
use gatekey_aggregates::values::{
    AccessRuleId, CertificateId, Cidr, CommonName, GatewayId, GroupName, NetworkId, Serial,
    TokenHash, UserId,
};
use std::collections::{BTreeSet, HashSet};
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
    /// It was issued for another gateway, for a mesh hub, or for a server.
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
    /// No rule of the geo-fence that counts for the owner lists their address.
    OutsideGeoFence,
    /// The geo-fence is on, and nobody said from where the client comes.
    NoClientIp,
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
            Self::OutsideGeoFence => "outside_geo_fence",
            Self::NoClientIp => "no_client_ip",
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
            Self::OutsideGeoFence => {
                "You can't connect from where you are; ask your administrator."
            }
            Self::NoClientIp => {
                "The gateway did not say where you connect from; ask your administrator."
            }
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
    /// What came of the geo-fence.
    pub fence: Fence<'a>,
}

impl Admitted<'_> {
    /// How the geo-fence would have refused them, had it been enforced.
    pub fn would_be_denied(&self) -> Option<Denied> {
        let Fence::Outside(verdict, _) = self.fence else { return None };
        verdict.reason.map(|reason| Denied {
            reason,
            certificate_id: Some(self.certificate.id.clone()),
            user_id: Some(self.user_id.clone()),
        })
    }
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
    check_gateway(gateway).map_err(unknown)?;
    let certificate = find_certificate(state, attempt).map_err(unknown)?;
    let denied = |reason| Denied {
        reason,
        certificate_id: Some(certificate.id.clone()),
        user_id: certificate.subject.user_id().cloned(),
    };
    check_certificate(certificate, attempt.gateway_id, attempt.now).map_err(denied)?;
    let Subject::Client { user_id, common_name, token_hash, .. } = &certificate.subject else {
        return Err(denied(Reason::WrongGateway));
    };
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
    let fence = check_fence(&state.fences, user_id, &user.groups, attempt.client_ip);
    if let Fence::Outside(verdict, Mode::Enforce) = fence
        && let Some(reason) = verdict.reason
    {
        return Err(denied(reason));
    }
    Ok(Admitted { gateway, certificate, user_id, user, common_name, fence })
}

/// Whether a gateway lets anybody in.
pub fn check_gateway(gateway: &GatewayEntry) -> Result<(), Reason> {
    if gateway.configuration.active { Ok(()) } else { Err(Reason::GatewayInactive) }
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

/// Whether a certificate is good for a client of this gateway now.
pub fn check_certificate(
    certificate: &CertificateEntry,
    at: &GatewayId,
    now: DateTime<Utc>,
) -> Result<(), Reason> {
    if certificate.revoked.is_some() {
        return Err(Reason::CertificateRevoked);
    }
    if now >= certificate.not_after || now < certificate.not_before {
        return Err(Reason::CertificateExpired);
    }
    match &certificate.subject {
        Subject::Client { gateway_id, .. } if gateway_id == at => Ok(()),
        // Another gateway's, a server's, or something of a mesh hub.
        _ => Err(Reason::WrongGateway),
    }
}

/// Whether a user may use a gateway at all: the checks that need neither certificate nor address.
pub fn check_user(
    gateway: &GatewayEntry,
    user_id: &UserId,
    user: &UserEntry,
) -> Result<(), Reason> {
    check_active(user)?;
    check_grant(gateway, user_id, user)
}

/// Whether a user may do anything.
pub fn check_active(user: &UserEntry) -> Result<(), Reason> {
    if user.active { Ok(()) } else { Err(Reason::UserDisabled) }
}

/// Whether a user was granted a gateway.
pub fn check_grant(
    gateway: &GatewayEntry,
    user_id: &UserId,
    user: &UserEntry,
) -> Result<(), Reason> {
    let granted = ways(&gateway.users, &gateway.groups, user_id, user).next();
    granted.map(|_| ()).ok_or(Reason::NotGranted)
}

/// A way in which something is a user's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way<'a> {
    /// By themselves.
    Direct,
    /// As a member of this group.
    Group(&'a GroupName),
}

/// The ways in which what was given to `users` and `groups` is this user's.
pub fn ways<'a>(
    users: &HashSet<UserId>,
    groups: &HashSet<GroupName>,
    user_id: &UserId,
    user: &'a UserEntry,
) -> impl Iterator<Item = Way<'a>> {
    let direct = users.contains(user_id).then_some(Way::Direct);
    let of_groups = user.groups.iter().filter(|it| groups.contains(*it)).map(Way::Group);
    direct.into_iter().chain(of_groups)
}

/// What a user may reach through a gateway: the active rules assigned to them or to one of their
/// groups, kept to the networks attached to that gateway. Empty unless granted; in order of id.
pub fn effective_rules<'a>(
    state: &'a State,
    gateway: &'a GatewayEntry,
    user_id: &'a UserId,
    user: &'a UserEntry,
) -> impl Iterator<Item = (&'a AccessRuleId, &'a RuleEntry)> {
    let of_groups = user.groups.iter().filter_map(|group| state.rules_by_group.get(group));
    let assigned: BTreeSet<&AccessRuleId> =
        state.rules_by_user.get(user_id).into_iter().chain(of_groups).flatten().collect();
    assigned
        .into_iter()
        .filter_map(|id| state.rules.get_key_value(id))
        .filter(|(_, rule)| rule.definition.active && is_within(state, gateway, rule))
}

/// Whether a rule's target lies in a network attached to the gateway. A rule that names a network
/// needs that one; one that names none needs any that holds all of its addresses.
pub fn is_within(state: &State, gateway: &GatewayEntry, rule: &RuleEntry) -> bool {
    network_of(state, gateway, rule).is_some()
}

/// The attached network that a rule's target lies in.
pub fn network_of<'a>(
    state: &'a State,
    gateway: &'a GatewayEntry,
    rule: &RuleEntry,
) -> Option<(&'a NetworkId, &'a NetworkEntry)> {
    let attached = |id: &NetworkId| {
        let (id, network) = state.networks.get_key_value(id)?;
        gateway.networks.contains(id).then_some((id, network))
    };
    let target = match &rule.definition.target {
        Target::Ip(ip) => Some(Cidr::from(*ip)),
        Target::Cidr(cidr) => Some(*cidr),
        Target::Hostname(_) | Target::HostnameWildcard(_) => None,
    };
    match (&rule.definition.network_id, target) {
        (Some(id), Some(target)) => attached(id).filter(|(_, it)| it.cidr.covers(&target)),
        (Some(id), None) => attached(id),
        (None, Some(target)) => {
            gateway.networks.iter().filter_map(attached).find(|(_, it)| it.cidr.covers(&target))
        }
        (None, None) => None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::access::{FenceEntry, GatewayEntry, NetworkEntry};
    use gatekey_aggregates::access_rule::{Definition, TargetType};
    use gatekey_aggregates::gateway::Configuration;
    use gatekey_aggregates::user::Profile;
    use gatekey_aggregates::values::{CryptoProfile, RevocationReason, Role, Transport};
    use gatekey_aggregates::{PersonId, Personal, geo_fence, geo_fence_rule};
    use std::collections::HashSet;
    use std::fmt::Debug;
    use std::str::FromStr;

    pub const NOW: i64 = 1_800_000_000;

    pub fn value<T: FromStr<Err: Debug>>(text: &str) -> T {
        text.parse().unwrap()
    }

    pub fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    fn ada<T>(value: T) -> Personal<T> {
        Personal::new(PersonId::from("usr-ada".to_owned()), value)
    }

    fn gateway(name: &str) -> GatewayEntry {
        GatewayEntry {
            configuration: Configuration {
                name: value(name),
                description: value(""),
                hostname: value("vpn.example.com"),
                public_ip: None,
                port: 1194,
                protocol: Transport::Udp,
                vpn_subnet: value("10.8.0.0/24"),
                crypto_profile: CryptoProfile::Modern,
                tls_auth: true,
                full_tunnel: false,
                push_dns: false,
                dns_servers: Vec::new(),
                active: true,
            },
            token_hash: crate::entropy::token_hash(name),
            tls_auth_key: value("sec-1"),
            users: HashSet::new(),
            groups: HashSet::new(),
            networks: HashSet::new(),
            online: true,
            reported_ip: None,
            server_certificate: None,
            reprovisions: 0,
            config_version: String::new(),
        }
    }

    pub fn rule(kind: TargetType, target: &str, network: Option<&str>) -> RuleEntry {
        RuleEntry {
            definition: Definition {
                name: value("rule"),
                description: value(""),
                target: Target::parse(kind, target).unwrap(),
                port_range: None,
                protocol: None,
                network_id: network.map(value),
                active: true,
            },
            users: HashSet::new(),
            groups: HashSet::new(),
        }
    }

    pub fn assign_to_ada(state: &mut State, id: &str, rule: RuleEntry) {
        state.rules.insert(value(id), rule);
        state.assign_user(&value(id), value("usr-ada"));
    }

    /// Ada, granted gw-east by the group `staff`, with one good config for it.
    pub fn world() -> State {
        let mut state = State::default();
        let mut east = gateway("east");
        east.groups.insert(value("staff"));
        east.networks.insert(value("net-office"));
        state.insert_gateway(value("gw-east"), east);
        state.insert_gateway(value("gw-west"), gateway("west"));
        state.users.insert(
            value("usr-ada"),
            UserEntry {
                profile: Profile {
                    username: ada(value("ada")),
                    email: ada(value("ada@example.com")),
                    name: None,
                },
                role: Role::Member,
                active: true,
                groups: BTreeSet::from([value("staff")]),
                password: None,
                must_change_password: false,
            },
        );
        state.networks.insert(
            value("net-office"),
            NetworkEntry { name: value("office"), cidr: value("10.0.0.0/16") },
        );
        state.networks.insert(
            value("net-lab"),
            NetworkEntry { name: value("lab"), cidr: value("10.9.0.0/16") },
        );
        state.insert_certificate(certificate("cfg-1", "5a0f", "password"));
        state
    }

    pub fn certificate(id: &str, serial: &str, password: &str) -> CertificateEntry {
        CertificateEntry {
            id: value(id),
            subject: Subject::Client {
                user_id: value("usr-ada"),
                gateway_id: value("gw-east"),
                common_name: ada(value("ada@example.com")),
                token_hash: crate::entropy::token_hash(password),
                bundle: value("sec-2"),
            },
            serial: value(serial),
            not_before: at(NOW - 3600),
            not_after: at(NOW + 3600),
            revoked: None,
        }
    }

    /// What Ada's client shows, unless a test says otherwise.
    struct Shown {
        gateway: GatewayId,
        serial: Option<Serial>,
        password: Option<TokenHash>,
        common_name: &'static str,
        username: Option<&'static str>,
        client_ip: Option<&'static str>,
        now: i64,
    }

    impl Default for Shown {
        fn default() -> Self {
            Self {
                gateway: value("gw-east"),
                serial: Some(value("5a:0f")),
                password: Some(crate::entropy::token_hash("password")),
                common_name: "ada@example.com",
                username: Some("ada@example.com"),
                client_ip: Some("198.51.100.2"),
                now: NOW,
            }
        }
    }

    fn decide(state: &State, shown: &Shown) -> Result<String, Reason> {
        let attempt = Attempt {
            gateway_id: &shown.gateway,
            serial: shown.serial.as_ref(),
            password: shown.password.as_ref(),
            common_name: shown.common_name,
            username: shown.username,
            client_ip: shown.client_ip.map(value),
            now: at(shown.now),
        };
        admit(state, &attempt).map(|it| it.user_id.to_string()).map_err(|it| it.reason)
    }

    #[test]
    fn ada_gets_in_with_her_certificate_her_password_or_both() {
        let state = world();
        let both = Shown::default();
        let certificate = Shown { password: None, ..Shown::default() };
        let password = Shown { serial: None, username: None, ..Shown::default() };
        for shown in [both, certificate, password] {
            assert_eq!(decide(&state, &shown).as_deref(), Ok("usr-ada"));
        }
    }

    #[test]
    fn each_check_refuses_with_its_own_reason() {
        type Case = (Reason, Shown, fn(&mut State));
        let shown = Shown::default;
        let other = || Some(crate::entropy::token_hash("another"));
        let cases: [Case; 13] = [
            (Reason::WrongGateway, Shown { gateway: value("gw-none"), ..shown() }, |_| {}),
            (Reason::GatewayInactive, shown(), |it| {
                it.gateways.get_mut(&value("gw-east")).unwrap().configuration.active = false;
            }),
            (Reason::NoCredentials, Shown { serial: None, password: None, ..shown() }, |_| {}),
            (Reason::CertificateUnknown, Shown { serial: Some(value("1")), ..shown() }, |_| {}),
            (Reason::PasswordUnknown, Shown { serial: None, password: other(), ..shown() }, |_| {}),
            (Reason::CertificateRevoked, shown(), |it| {
                let revoked = Some((at(NOW), RevocationReason::KeyCompromise));
                it.certificates.get_mut(&value("5a0f")).unwrap().revoked = revoked;
            }),
            (Reason::CertificateExpired, Shown { now: NOW + 3600, ..shown() }, |_| {}),
            (Reason::CertificateExpired, Shown { now: NOW - 3601, ..shown() }, |_| {}),
            (Reason::WrongGateway, Shown { gateway: value("gw-west"), ..shown() }, |_| {}),
            (
                Reason::CommonNameMismatch,
                Shown { common_name: "eve@example.com", ..shown() },
                |_| {},
            ),
            (Reason::CommonNameMismatch, Shown { username: Some("eve"), ..shown() }, |_| {}),
            (Reason::PasswordMismatch, Shown { password: other(), ..shown() }, |_| {}),
            (Reason::UserUnknown, shown(), |it| {
                it.users.clear();
            }),
        ];
        for (reason, shown, change) in cases {
            let mut state = world();
            change(&mut state);
            assert_eq!(decide(&state, &shown), Err(reason));
        }
    }

    #[test]
    fn the_owner_must_be_active_and_granted() {
        let mut state = world();
        state.users.get_mut(&value("usr-ada")).unwrap().groups.clear();
        assert_eq!(decide(&state, &Shown::default()), Err(Reason::NotGranted));
        state.gateways.get_mut(&value("gw-east")).unwrap().users.insert(value("usr-ada"));
        assert_eq!(decide(&state, &Shown::default()).as_deref(), Ok("usr-ada"));
        state.users.get_mut(&value("usr-ada")).unwrap().active = false;
        assert_eq!(decide(&state, &Shown::default()), Err(Reason::UserDisabled));
    }

    #[test]
    fn the_first_check_that_fails_is_the_reason() {
        let mut state = world();
        let revoked = Some((at(NOW), RevocationReason::KeyCompromise));
        state.certificates.get_mut(&value("5a0f")).unwrap().revoked = revoked;
        state.users.clear();
        let shown = Shown { common_name: "eve@example.com", now: NOW + 7200, ..Shown::default() };
        assert_eq!(decide(&state, &shown), Err(Reason::CertificateRevoked));
    }

    /// A rule for everybody that lists `cidr`.
    pub fn fence(state: &mut State, mode: Mode, cidr: &str) {
        let (name, description) = (value("rule"), value(""));
        let definition = geo_fence_rule::Definition { name, cidr: value(cidr), description };
        state.fences.insert(value("fence-1"), FenceEntry::new(definition));
        state.fences.attach_globally(&value("fence-1"));
        state.fences.settings = geo_fence::Values { enabled: true, mode };
    }

    #[test]
    fn the_fence_comes_last_and_turns_away_where_it_is_enforced() {
        let elsewhere = || Shown { client_ip: Some("203.0.113.9"), ..Shown::default() };
        let nowhere = || Shown { client_ip: None, ..Shown::default() };
        let mut state = world();
        fence(&mut state, Mode::Enforce, "198.51.100.0/24");
        assert_eq!(decide(&state, &Shown::default()).as_deref(), Ok("usr-ada"));
        assert_eq!(decide(&state, &elsewhere()), Err(Reason::OutsideGeoFence));
        assert_eq!(decide(&state, &nowhere()), Err(Reason::NoClientIp));

        state.users.get_mut(&value("usr-ada")).unwrap().groups.clear();
        assert_eq!(decide(&state, &elsewhere()), Err(Reason::NotGranted));
        let mut state = world();
        fence(&mut state, Mode::Audit, "198.51.100.0/24");
        for shown in [Shown::default(), elsewhere(), nowhere()] {
            assert_eq!(decide(&state, &shown).as_deref(), Ok("usr-ada"));
        }
        state.fences.settings.enabled = false;
        assert_eq!(decide(&state, &elsewhere()).as_deref(), Ok("usr-ada"));
    }

    #[test]
    fn an_audited_fence_says_whom_it_would_have_refused() {
        let would_be_denied = |mode, ip: Option<&str>| {
            let mut state = world();
            fence(&mut state, mode, "198.51.100.0/24");
            let (gateway_id, serial) = (value("gw-east"), value("5a0f"));
            let attempt = Attempt {
                gateway_id: &gateway_id,
                serial: Some(&serial),
                password: None,
                common_name: "ada@example.com",
                username: None,
                client_ip: ip.map(value),
                now: at(NOW),
            };
            admit(&state, &attempt).unwrap().would_be_denied()
        };
        let denied = |reason| {
            let certificate_id = Some(value("cfg-1"));
            Some(Denied { reason, certificate_id, user_id: Some(value("usr-ada")) })
        };
        assert_eq!(would_be_denied(Mode::Enforce, Some("198.51.100.2")), None);
        assert_eq!(would_be_denied(Mode::Audit, Some("::ffff:198.51.100.2")), None);
        let outside = would_be_denied(Mode::Audit, Some("203.0.113.9"));
        assert_eq!(outside, denied(Reason::OutsideGeoFence));
        assert_eq!(would_be_denied(Mode::Audit, None), denied(Reason::NoClientIp));
    }

    #[test]
    fn another_config_of_the_same_person_is_another_config() {
        let mut state = world();
        state.insert_certificate(certificate("cfg-2", "77", "second"));
        let shown =
            Shown { password: Some(crate::entropy::token_hash("second")), ..Shown::default() };
        assert_eq!(decide(&state, &shown), Err(Reason::PasswordMismatch));
    }

    fn reach(state: &State) -> Vec<String> {
        let (gateway, user_id) = (&state.gateways[&value("gw-east")], value("usr-ada"));
        effective_rules(state, gateway, &user_id, &state.users[&user_id])
            .map(|(id, _)| id.to_string())
            .collect()
    }

    #[test]
    fn rules_reach_only_into_networks_attached_to_the_gateway() {
        let cases = [
            ("rule-in", rule(TargetType::Cidr, "10.0.3.0/24", None), true),
            ("rule-in-ip", rule(TargetType::Ip, "10.0.3.7", Some("net-office")), true),
            ("rule-out", rule(TargetType::Ip, "10.9.0.1", None), false),
            ("rule-wider", rule(TargetType::Cidr, "10.0.0.0/8", None), false),
            ("rule-lab", rule(TargetType::Ip, "10.9.0.1", Some("net-lab")), false),
            ("rule-liar", rule(TargetType::Ip, "10.9.0.1", Some("net-office")), false),
            ("rule-host", rule(TargetType::Hostname, "db.example.com", Some("net-office")), true),
            ("rule-host-lab", rule(TargetType::Hostname, "db.example.com", Some("net-lab")), false),
        ];
        for (id, rule, reaches) in cases {
            let mut state = world();
            assign_to_ada(&mut state, id, rule);
            assert_eq!(!reach(&state).is_empty(), reaches, "{id}");
        }
    }

    #[test]
    fn rules_count_for_whom_they_are_assigned_and_while_they_are_active() {
        let mut state = world();
        let mine = || rule(TargetType::Ip, "10.0.0.1", None);
        state.rules.insert(value("rule-2"), mine());
        assert_eq!(reach(&state), Vec::<String>::new());
        state.assign_group(&value("rule-2"), value("staff"));
        assert_eq!(reach(&state), ["rule-2"]);
        // By more than one way: once, and in order.
        assign_to_ada(&mut state, "rule-1", mine());
        state.assign_user(&value("rule-2"), value("usr-ada"));
        assert_eq!(reach(&state), ["rule-1", "rule-2"]);
        state.rules.get_mut(&value("rule-1")).unwrap().definition.active = false;
        assert_eq!(reach(&state), ["rule-2"]);
    }
}
