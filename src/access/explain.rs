//! Why somebody would be let in, or not, and what they would reach: every check of the decision, in
//! its order, with what decided it.
//!
//! Pure, and nothing is decided here: each check is the very function that verify, connect and
//! client-rules run. Where these stop at the first that fails, the explanation goes on.

use super::decision::{
    Reason, Way, check_active, check_certificate, check_gateway, check_grant, effective_rules,
    network_of, ways,
};
use super::fence::{Fence, Level, Verdict, check_fence};
use super::state::{CertificateEntry, GatewayEntry, NetworkEntry, RuleEntry, State, UserEntry};
use chrono::{DateTime, Utc};
use gatekey_aggregates::access_rule::{Definition, RuleProtocol, Target};
use gatekey_aggregates::geo_fence::{Mode, Values};
use gatekey_aggregates::values::{AccessRuleId, GatewayId, Hostname, NetworkId, UserId};
use std::net::IpAddr;

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// At which gateway.
    pub gateway_id: &'a GatewayId,
    /// Who.
    pub user_id: &'a UserId,
    /// From where.
    pub client_ip: Option<IpAddr>,
    /// Where to, once they are in.
    pub destination: Option<Destination>,
    /// When.
    pub now: DateTime<Utc>,
}

/// Where somebody wants to go.
#[derive(Clone, Debug, PartialEq)]
pub struct Destination {
    /// To which host.
    pub host: Host,
    /// To which port; none: whether there is any.
    pub port: Option<u16>,
    /// How; none: whether there is any way.
    pub protocol: Option<RuleProtocol>,
}

/// A host that somebody wants to reach.
#[derive(Clone, Debug, PartialEq)]
pub enum Host {
    /// By its address.
    Ip(IpAddr),
    /// By its name, which is not looked up.
    Name(Hostname),
}

impl Destination {
    /// Whether a rule leads there.
    pub fn is_reached_by(&self, rule: &Definition) -> bool {
        let host = match (&rule.target, &self.host) {
            (Target::Ip(ip), Host::Ip(wanted)) => ip == wanted,
            (Target::Cidr(cidr), Host::Ip(wanted)) => cidr.contains(*wanted),
            (Target::Hostname(name), Host::Name(wanted)) => name == wanted,
            (Target::HostnameWildcard(pattern), Host::Name(wanted)) => {
                // `*.example.com` is every name that ends in `.example.com`.
                let suffix = pattern.as_str().trim_start_matches('*');
                wanted.as_str().len() > suffix.len() && wanted.as_str().ends_with(suffix)
            }
            (Target::Ip(_) | Target::Cidr(_), Host::Name(_))
            | (Target::Hostname(_) | Target::HostnameWildcard(_), Host::Ip(_)) => false,
        };
        let of_ports = rule.port_range.is_some() || self.port.is_some();
        let port = match (rule.port_range, self.port) {
            (Some(range), Some(wanted)) => range.contains(wanted),
            (None, _) | (_, None) => true,
        };
        let protocol = match (rule.protocol, self.protocol) {
            (Some(RuleProtocol::Icmp), None) | (None, Some(RuleProtocol::Icmp)) => !of_ports,
            (Some(allowed), Some(wanted)) => allowed == wanted,
            (None, _) | (_, None) => true,
        };
        host && port && protocol
    }
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = CheckOutcome)]
pub enum Outcome {
    /// It lets them through.
    Passed,
    /// It does not.
    Failed,
    /// It is off, or was not asked for.
    Skipped,
}

/// What a check found, and what it came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Check<'a> {
    /// Whether the gateway lets anybody in.
    Gateway(Result<(), Reason>),
    /// Whether the user may do anything.
    User(Result<(), Reason>),
    /// The user's certificate for this gateway: the best there is. It only informs, for they can have
    /// another one made.
    Certificate(Option<(&'a CertificateEntry, Result<(), Reason>)>),
    /// Whether the user was granted the gateway, and in which ways.
    Grant(Result<(), Reason>, Vec<Way<'a>>),
    /// Whether they may connect from where they are.
    Fence(Values, Fence<'a>),
    /// Which rules lead where they want to go. None: they want to go nowhere.
    Destination(Option<Vec<Reach<'a>>>),
}

/// A rule that leads somewhere, and why it is the user's at this gateway.
#[derive(Clone, Debug, PartialEq)]
pub struct Reach<'a> {
    /// Its id.
    pub id: &'a AccessRuleId,
    /// The rule.
    pub rule: &'a RuleEntry,
    /// In which ways it is theirs.
    pub ways: Vec<Way<'a>>,
    /// The network that it leads into.
    pub network: Option<(&'a NetworkId, &'a NetworkEntry)>,
}

impl Check<'_> {
    /// What it is called.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Gateway(_) => "gateway",
            Self::User(_) => "user",
            Self::Certificate(_) => "certificate",
            Self::Grant(..) => "grant",
            Self::Fence(..) => "geo_fence",
            Self::Destination(_) => "destination",
        }
    }

    /// Whether it only informs: it says nothing of what they may.
    pub fn is_informative(&self) -> bool {
        matches!(self, Self::Certificate(_))
    }

    /// How it came out.
    pub fn outcome(&self) -> Outcome {
        let of = |passed| if passed { Outcome::Passed } else { Outcome::Failed };
        match self {
            Self::Gateway(found) | Self::User(found) | Self::Grant(found, _) => of(found.is_ok()),
            Self::Certificate(found) => of(found.is_some_and(|(_, good)| good.is_ok())),
            Self::Fence(_, Fence::Off) | Self::Destination(None) => Outcome::Skipped,
            Self::Fence(_, Fence::Inside(_) | Fence::Outside(_, Mode::Audit)) => Outcome::Passed,
            Self::Fence(_, Fence::Outside(_, Mode::Enforce)) => Outcome::Failed,
            Self::Destination(Some(found)) => of(!found.is_empty()),
        }
    }

    /// Why it came out so: a stable code. Of a failed check it is the one that verify answers.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Gateway(Ok(())) => "gateway_active",
            Self::User(Ok(())) => "user_active",
            Self::Certificate(None) => "no_certificate",
            Self::Certificate(Some((_, Ok(())))) => "certificate_good",
            Self::Grant(Ok(()), ways) if ways.contains(&Way::Direct) => "granted_directly",
            Self::Grant(Ok(()), _) => "granted_by_group",
            Self::Gateway(Err(reason))
            | Self::User(Err(reason))
            | Self::Certificate(Some((_, Err(reason))))
            | Self::Grant(Err(reason), _) => reason.code(),
            Self::Fence(_, Fence::Off) => "geo_fence_disabled",
            Self::Fence(_, Fence::Inside(_)) => "inside_geo_fence",
            Self::Fence(_, Fence::Outside(_, Mode::Audit)) => "fence_would_deny",
            Self::Fence(_, Fence::Outside(verdict, Mode::Enforce)) => {
                verdict.reason.map_or("outside_geo_fence", Reason::code)
            }
            Self::Destination(None) => "no_destination_asked",
            Self::Destination(Some(found)) if found.is_empty() => "no_rule_matches",
            Self::Destination(Some(_)) => "rule_matches",
        }
    }

    /// The same in words, for an admin.
    pub fn message(&self) -> String {
        let text = match self {
            Self::Gateway(Ok(())) => "The gateway is switched on.",
            Self::Gateway(Err(_)) => "The gateway is switched off.",
            Self::User(Ok(())) => "The user is enabled.",
            Self::User(Err(_)) => "The user is disabled.",
            Self::Certificate(Some((_, Ok(())))) => {
                "They have a config for this gateway that is neither revoked nor expired."
            }
            Self::Certificate(Some((_, Err(Reason::CertificateRevoked)))) => {
                "Their last config for this gateway was revoked: they need a new one."
            }
            Self::Certificate(Some((_, Err(_)))) => {
                "Their last config for this gateway has expired: they need a new one."
            }
            Self::Certificate(None) => "They have no config for this gateway: they need one.",
            Self::Grant(Ok(()), ways) => return granted(ways),
            Self::Grant(Err(_), _) => {
                "They were granted this gateway neither by themselves nor by one of their groups."
            }
            Self::Fence(_, fence) => return fenced(fence),
            Self::Destination(None) => "No destination was asked about.",
            Self::Destination(Some(found)) if found.is_empty() => {
                "No rule of theirs at this gateway leads there, and the default is deny. (Rules for \
                 host names count for names, rules for addresses for addresses: no name is looked up.)"
            }
            Self::Destination(Some(found)) => {
                let names: Vec<String> =
                    found.iter().map(|it| format!("`{}`", it.rule.definition.name)).collect();
                return format!("Allowed by {}.", names.join(", "));
            }
        };
        text.to_owned()
    }
}

fn granted(ways: &[Way<'_>]) -> String {
    let ways: Vec<String> = ways
        .iter()
        .map(|way| match way {
            Way::Direct => "by themselves".to_owned(),
            Way::Group(group) => format!("as a member of `{group}`"),
        })
        .collect();
    format!("They were granted this gateway {}.", ways.join(", and "))
}

fn fenced(fence: &Fence<'_>) -> String {
    let (verdict, audited) = match fence {
        Fence::Off => return "The geo-fence is switched off.".to_owned(),
        Fence::Inside(verdict) => (verdict, false),
        Fence::Outside(verdict, mode) => (verdict, *mode == Mode::Audit),
    };
    let said = said(verdict);
    if audited { format!("{said} The fence is only audited: they are let in.") } else { said }
}

/// What the rules of the geo-fence say of somebody, for an admin.
pub fn said(verdict: &Verdict<'_>) -> String {
    let whose = match verdict.level {
        Level::User => "the user's own rules",
        Level::Group => "the rules of the user's groups",
        Level::Global => "the global rules",
        Level::None => {
            return "No rule of the geo-fence counts for them: they are shut out everywhere."
                .to_owned();
        }
    };
    match (verdict.reason, verdict.rule) {
        (None, Some((_, rule))) => {
            let (name, cidr) = (&rule.definition.name, &rule.definition.cidr);
            format!("The address lies in {cidr}: `{name}`, one of {whose}.")
        }
        (Some(Reason::NoClientIp), _) => {
            format!("The address is not known, so that none of {whose} lists it.")
        }
        _ => format!("None of {whose} lists the address."),
    }
}

/// Every check, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation<'a> {
    /// The gateway.
    pub gateway: &'a GatewayEntry,
    /// The user.
    pub user: &'a UserEntry,
    /// The checks.
    pub checks: Vec<Check<'a>>,
}

impl<'a> Explanation<'a> {
    /// The first check that stands in the way.
    pub fn denied_by(&self) -> Option<&Check<'a>> {
        let failed = |it: &&Check<'a>| it.outcome() == Outcome::Failed && !it.is_informative();
        self.checks.iter().find(failed)
    }
}

/// What is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// The gateway.
    Gateway,
    /// The user.
    User,
}

/// Runs every check.
pub fn explain<'a>(state: &'a State, question: &Question<'_>) -> Result<Explanation<'a>, Unknown> {
    let (gateway_id, gateway) =
        state.gateways.get_key_value(question.gateway_id).ok_or(Unknown::Gateway)?;
    let (user_id, user) = state.users.get_key_value(question.user_id).ok_or(Unknown::User)?;
    let destination = question
        .destination
        .as_ref()
        .map(|destination| reach(state, gateway, user_id, user, destination));
    let checks = vec![
        Check::Gateway(check_gateway(gateway)),
        Check::User(check_active(user)),
        Check::Certificate(best_certificate(state, gateway_id, user_id, question.now)),
        Check::Grant(
            check_grant(gateway, user_id, user),
            ways(&gateway.users, &gateway.groups, user_id, user).collect(),
        ),
        Check::Fence(
            state.fences.settings,
            check_fence(&state.fences, user_id, &user.groups, question.client_ip),
        ),
        Check::Destination(destination),
    ];
    Ok(Explanation { gateway, user, checks })
}

/// A good certificate if there is one, else the last.
fn best_certificate<'a>(
    state: &'a State,
    gateway_id: &GatewayId,
    user_id: &UserId,
    now: DateTime<Utc>,
) -> Option<(&'a CertificateEntry, Result<(), Reason>)> {
    state
        .certificates_of(user_id, gateway_id)
        .map(|it| (it, check_certificate(it, gateway_id, now)))
        .max_by_key(|(it, good)| (good.is_ok(), it.not_after, it.serial.as_str()))
}

fn reach<'a>(
    state: &'a State,
    gateway: &'a GatewayEntry,
    user_id: &'a UserId,
    user: &'a UserEntry,
    destination: &Destination,
) -> Vec<Reach<'a>> {
    effective_rules(state, gateway, user_id, user)
        .filter(|(_, rule)| destination.is_reached_by(&rule.definition))
        .map(|(id, rule)| Reach {
            id,
            rule,
            ways: ways(&rule.users, &rule.groups, user_id, user).collect(),
            network: network_of(state, gateway, rule),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::decision::tests::{
        NOW, assign_to_ada, at, certificate, fence, rule as rule_entry, value, world,
    };
    use super::super::decision::{Attempt, admit};
    use super::*;
    use gatekey_aggregates::access_rule::TargetType;
    use gatekey_aggregates::values::RevocationReason;
    use proptest::prelude::*;

    /// The codes, in order, of what an explanation of Ada at gw-east found.
    fn reasons(state: &State, ip: Option<&str>, destination: Option<Destination>) -> Vec<String> {
        let (gateway_id, user_id) = (value("gw-east"), value("usr-ada"));
        let client_ip = ip.map(value);
        let question = Question {
            gateway_id: &gateway_id,
            user_id: &user_id,
            client_ip,
            destination,
            now: at(NOW),
        };
        let found = explain(state, &question).unwrap();
        let names: Vec<_> = found.checks.iter().map(Check::name).collect();
        let order = ["gateway", "user", "certificate", "grant", "geo_fence", "destination"];
        assert_eq!(names, order);
        found.checks.iter().map(|it| it.reason().to_owned()).collect()
    }

    #[test]
    fn each_check_says_what_decided_it() {
        let mut state = world();
        assert_eq!(
            reasons(&state, None, None),
            [
                "gateway_active",
                "user_active",
                "certificate_good",
                "granted_by_group",
                "geo_fence_disabled",
                "no_destination_asked",
            ]
        );
        let wiki = || Some(to("10.0.0.7", Some(443), None));
        state.gateways.get_mut(&value("gw-east")).unwrap().configuration.active = false;
        let ada = state.users.get_mut(&value("usr-ada")).unwrap();
        ada.active = false;
        ada.groups.clear();
        let revoked = Some((at(NOW), RevocationReason::KeyCompromise));
        state.certificates.get_mut(&value("5a0f")).unwrap().revoked = revoked;
        fence(&mut state, Mode::Enforce, "198.51.100.0/24");
        assert_eq!(
            reasons(&state, Some("203.0.113.9"), wiki()),
            [
                "gateway_inactive",
                "user_disabled",
                "certificate_revoked",
                "not_granted",
                "outside_geo_fence",
                "no_rule_matches",
            ]
        );
        assert_eq!(reasons(&state, None, None)[4], "no_client_ip");
        state.fences.settings.mode = Mode::Audit;
        assert_eq!(reasons(&state, None, None)[4], "fence_would_deny");

        state.insert_certificate(certificate("cfg-2", "77", "second"));
        state.gateways.get_mut(&value("gw-east")).unwrap().users.insert(value("usr-ada"));
        assign_to_ada(&mut state, "rule-1", rule_entry(TargetType::Ip, "10.0.0.7", None));
        assert_eq!(
            reasons(&state, Some("198.51.100.2"), wiki()),
            [
                "gateway_inactive",
                "user_disabled",
                "certificate_good",
                "granted_directly",
                "inside_geo_fence",
                "rule_matches",
            ]
        );
        state.certificates.clear();
        assert_eq!(reasons(&state, None, None)[2], "no_certificate");
    }

    #[test]
    fn a_rule_tells_whose_it_is_and_where_it_leads() {
        let mut state = world();
        let rule = rule_entry(TargetType::Cidr, "10.0.0.0/24", None);
        assign_to_ada(&mut state, "rule-1", rule);
        state.assign_group(&value("rule-1"), value("staff"));
        let (gateway, user_id) = (&state.gateways[&value("gw-east")], value("usr-ada"));
        let user = &state.users[&user_id];
        let found = reach(&state, gateway, &user_id, user, &to("10.0.0.7", None, None));
        let staff = value("staff");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].ways, [Way::Direct, Way::Group(&staff)]);
        assert_eq!(found[0].network.map(|(id, _)| id.as_str()), Some("net-office"));
    }

    #[test]
    fn who_or_what_is_not_there_is_told() {
        let state = world();
        for (gateway, user, unknown) in
            [("gw-none", "usr-ada", Unknown::Gateway), ("gw-east", "usr-none", Unknown::User)]
        {
            let question = Question {
                gateway_id: &value(gateway),
                user_id: &value(user),
                client_ip: None,
                destination: None,
                now: at(NOW),
            };
            assert_eq!(explain(&state, &question), Err(unknown));
        }
    }

    proptest! {
        /// The first check that fails is the reason that verify gives, whatever the configuration;
        /// and who gets in reaches what the rules lead to.
        #[test]
        fn the_explanation_is_what_the_decision_says(
            [on, enabled, in_group, direct, revoked, expired] in any::<[bool; 6]>(),
            [fenced, audit, to_user, to_group, to_all] in any::<[bool; 5]>(),
            [assigned, of_group, active, attached] in any::<[bool; 4]>(),
            ip in prop_oneof![Just(None), Just(Some("198.51.100.2")), Just(Some("203.0.113.9"))],
            host in prop_oneof![Just("10.0.0.7"), Just("10.0.0.8"), Just("wiki.example.com")],
        ) {
            let mut state = world();
            let mode = if audit { Mode::Audit } else { Mode::Enforce };
            fence(&mut state, mode, "198.51.100.0/24");
            state.fences.settings.enabled = fenced;
            let id = value("fence-1");
            if !to_all {
                let detached = gatekey_aggregates::geo_fence_rule::Event::GloballyDetached {};
                state.fences.apply(value("fence-1"), &detached);
            }
            if to_user {
                state.fences.attach_user(&id, value("usr-ada"));
            }
            if to_group {
                state.fences.attach_group(&id, value("staff"));
            }
            let mut rule = rule_entry(TargetType::Ip, "10.0.0.7", None);
            rule.definition.active = active;
            state.rules.insert(value("rule-1"), rule);
            if assigned {
                state.assign_user(&value("rule-1"), value("usr-ada"));
            }
            if of_group {
                state.assign_group(&value("rule-1"), value("staff"));
            }
            let ada = state.users.get_mut(&value("usr-ada")).unwrap();
            ada.active = enabled;
            if !in_group {
                ada.groups.clear();
            }
            let east = state.gateways.get_mut(&value("gw-east")).unwrap();
            east.configuration.active = on;
            if direct {
                east.users.insert(value("usr-ada"));
            }
            if !attached {
                east.networks.clear();
            }
            let shown = state.certificates.get_mut(&value("5a0f")).unwrap();
            shown.revoked = revoked.then(|| (at(NOW), RevocationReason::KeyCompromise));
            let now = at(if expired { NOW + 3600 } else { NOW });

            let (gateway_id, user_id, serial) = (value("gw-east"), value("usr-ada"), value("5a0f"));
            let client_ip = ip.map(value);
            let attempt = Attempt {
                gateway_id: &gateway_id,
                serial: Some(&serial),
                password: None,
                common_name: "ada@example.com",
                username: None,
                client_ip,
                now,
            };
            let destination = to(host, None, None);
            let question = Question {
                gateway_id: &gateway_id,
                user_id: &user_id,
                client_ip,
                destination: Some(destination.clone()),
                now,
            };
            let found = explain(&state, &question).unwrap();
            // Verify looks at the certificate before it knows whose it is.
            let in_turn = ["gateway", "certificate", "user", "grant", "geo_fence"];
            let first = in_turn
                .iter()
                .filter_map(|name| found.checks.iter().find(|it| it.name() == *name))
                .find(|it| it.outcome() == Outcome::Failed)
                .map(Check::reason);
            let admitted = admit(&state, &attempt);
            let denied = admitted.as_ref().err().map(|it| it.reason.code());
            prop_assert_eq!(first, denied);
            if let Ok(it) = admitted {
                let mut reached = effective_rules(&state, it.gateway, it.user_id, it.user);
                let reaches = reached.any(|(_, rule)| destination.is_reached_by(&rule.definition));
                prop_assert_eq!(found.denied_by().is_none(), reaches);
                let would_deny = it.would_be_denied().is_some();
                let fence = found.checks[4].reason();
                prop_assert_eq!(fence == "fence_would_deny", would_deny);
            }
        }
    }

    fn rule(
        kind: TargetType,
        target: &str,
        ports: &str,
        protocol: Option<RuleProtocol>,
    ) -> Definition {
        Definition {
            name: value("rule"),
            description: value(""),
            target: Target::parse(kind, target).unwrap(),
            port_range: (!ports.is_empty()).then(|| value(ports)),
            protocol,
            network_id: None,
            active: true,
        }
    }

    fn to(host: &str, port: Option<u16>, protocol: Option<RuleProtocol>) -> Destination {
        let host = host.parse().map_or_else(|_| Host::Name(value(host)), Host::Ip);
        Destination { host, port, protocol }
    }

    #[test]
    fn a_rule_leads_to_its_hosts() {
        use TargetType::{Cidr, Hostname, HostnameWildcard, Ip};
        for (kind, target, reached, missed) in [
            (Ip, "10.0.0.1", "10.0.0.1", "10.0.0.2"),
            (Ip, "fd00::1", "fd00::1", "::1"),
            (Cidr, "10.0.0.0/24", "10.0.0.255", "10.0.1.0"),
            (Cidr, "0.0.0.0/0", "10.0.0.1", "fd00::1"),
            (Cidr, "0.0.0.0/0", "10.0.0.1", "wiki.example.com"),
            (Hostname, "wiki.example.com", "wiki.example.com", "a.wiki.example.com"),
            (Hostname, "wiki.example.com", "WIKI.example.com", "10.0.0.1"),
            (HostnameWildcard, "*.example.com", "wiki.example.com", "example.com"),
            (HostnameWildcard, "*.example.com", "a.b.example.com", "wikiexample.com"),
        ] {
            let rule = rule(kind, target, "", None);
            assert!(to(reached, None, None).is_reached_by(&rule), "{target} {reached}");
            assert!(!to(missed, None, None).is_reached_by(&rule), "{target} {missed}");
        }
    }

    #[test]
    fn a_rule_lets_its_ports_and_protocols_through() {
        use RuleProtocol::{Icmp, Tcp, Udp};
        // What the rule says, what is wanted, whether it is let through.
        for (ports, protocol, port, wanted, through) in [
            ("", None, None, None, true),
            ("", None, Some(443), Some(Tcp), true),
            ("", None, None, Some(Icmp), true),
            ("443", None, Some(443), None, true),
            ("443", None, Some(443), Some(Udp), true),
            ("443", None, Some(80), None, false),
            ("443", None, None, Some(Icmp), false),
            ("8000-8100", Some(Tcp), Some(8100), Some(Tcp), true),
            ("8000-8100", Some(Tcp), Some(8101), Some(Tcp), false),
            ("8000-8100", Some(Tcp), Some(8100), Some(Udp), false),
            ("443", Some(Tcp), None, None, true),
            ("443", Some(Tcp), None, Some(Tcp), true),
            ("", Some(Udp), Some(53), None, true),
            ("", Some(Udp), None, Some(Icmp), false),
            ("", Some(Icmp), None, None, true),
            ("", Some(Icmp), None, Some(Icmp), true),
            // ICMP has no ports.
            ("", Some(Icmp), Some(443), None, false),
            ("", Some(Icmp), None, Some(Tcp), false),
        ] {
            let rule = rule(TargetType::Ip, "10.0.0.1", ports, protocol);
            let reached = to("10.0.0.1", port, wanted).is_reached_by(&rule);
            let asked = format!("{ports:?} {protocol:?}: {port:?} {wanted:?}");
            assert_eq!(reached, through, "{asked}");
        }
    }
}
