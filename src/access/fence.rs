//! The geo-fence: may somebody connect from where they are?
//!
//! Pure. Of a user's own rules, those of all their groups together, and those for everybody, the
//! first of these levels that has any rule is the only one that is looked at. A fence without a rule
//! for somebody shuts them out.

use super::decision::Reason;
use super::fences::{FenceEntry, FenceRules, Fences};
use gatekey_aggregates::geo_fence::Mode;
use gatekey_aggregates::values::{GeoFenceRuleId, GroupName, UserId};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Whose rules were looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = GeoFenceLevel)]
pub enum Level {
    /// The user's own.
    User,
    /// Those of the user's groups.
    Group,
    /// Those for everybody.
    Global,
    /// There are none for this user.
    None,
}

/// What the rules say of somebody, whether the fence is on or not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict<'a> {
    /// Whose rules were looked at.
    pub level: Level,
    /// The first of them, by id, that lists the address.
    pub rule: Option<(&'a GeoFenceRuleId, &'a FenceEntry)>,
    /// Why they are outside; none: they are inside.
    pub reason: Option<Reason>,
}

/// What comes of the fence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fence<'a> {
    /// It is off: nothing was looked at.
    Off,
    /// They are inside.
    Inside(Verdict<'a>),
    /// They are outside. In `audit` they are let in nevertheless.
    Outside(Verdict<'a>, Mode),
}

/// What comes of the fence for somebody who connects from `ip`.
pub fn check_fence<'a>(
    fences: &'a Fences,
    user_id: &UserId,
    groups: &BTreeSet<GroupName>,
    ip: Option<IpAddr>,
) -> Fence<'a> {
    if !fences.settings.enabled {
        return Fence::Off;
    }
    let verdict = judge(fences, user_id, groups, ip);
    match verdict.reason {
        None => Fence::Inside(verdict),
        Some(_) => Fence::Outside(verdict, fences.settings.mode),
    }
}

/// What the rules say of somebody who connects from `ip`, if that is known.
pub fn judge<'a>(
    fences: &'a Fences,
    user_id: &UserId,
    groups: &BTreeSet<GroupName>,
    ip: Option<IpAddr>,
) -> Verdict<'a> {
    let ip = ip.filter(|ip| !ip.is_unspecified());
    let matching = |rules: &FenceRules| {
        let ip = ip?;
        let rules = rules.iter().filter_map(|id| fences.get(id));
        // In order of id; and `contains` takes IPv4 mapped into IPv6 for the IPv4 that it is.
        rules.into_iter().find(|(_, entry)| entry.definition.cidr.contains(ip))
    };
    let (level, rule) = if let Some(own) = fences.of_user(user_id) {
        (Level::User, matching(own))
    } else {
        let mut of_groups = groups.iter().filter_map(|it| fences.of_group(it)).peekable();
        if of_groups.peek().is_some() {
            (Level::Group, of_groups.filter_map(matching).min_by_key(|(id, _)| *id))
        } else if fences.global().is_empty() {
            (Level::None, None)
        } else {
            (Level::Global, matching(fences.global()))
        }
    };
    let reason = match (ip, rule) {
        (Some(_), Some(_)) => None,
        (None, _) => Some(Reason::NoClientIp),
        (Some(_), None) => Some(Reason::OutsideGeoFence),
    };
    Verdict { level, rule, reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatekey_aggregates::geo_fence::Values;
    use gatekey_aggregates::geo_fence_rule::Definition;
    use gatekey_aggregates::values::Cidr;
    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;
    use std::fmt::Debug;
    use std::str::FromStr;

    fn value<T: FromStr<Err: Debug>>(text: &str) -> T {
        text.parse().unwrap()
    }

    fn rule(cidr: Cidr) -> FenceEntry {
        FenceEntry::new(Definition { name: value("rule"), cidr, description: value("") })
    }

    /// Rules for Ada (`fence-u`), for `ops` (`fence-g`), and for all.
    fn fences() -> Fences {
        let mut fences = Fences::default();
        for (id, cidr) in [
            ("fence-u", "192.0.2.0/25"),
            ("fence-g", "198.51.100.0/24"),
            ("fence-h", "2001:db8:1::/48"),
            ("fence-w", "203.0.113.0/24"),
            ("fence-x", "0.0.0.0/0"),
        ] {
            fences.insert(value(id), rule(value(cidr)));
        }
        fences.attach_user(&value("fence-u"), value("usr-ada"));
        fences.attach_group(&value("fence-g"), value("ops"));
        fences.attach_group(&value("fence-h"), value("dev"));
        fences.attach_globally(&value("fence-w"));
        fences
    }

    fn said(user: &str, groups: &[&str], ip: &str) -> (Level, Option<String>, Option<Reason>) {
        let fences = fences();
        let groups = groups.iter().map(|it| value(it)).collect();
        let ip = (!ip.is_empty()).then(|| value(ip));
        let verdict = judge(&fences, &value(user), &groups, ip);
        (verdict.level, verdict.rule.map(|(id, _)| id.to_string()), verdict.reason)
    }

    #[test]
    fn only_the_most_specific_level_is_looked_at() {
        let outside = Some(Reason::OutsideGeoFence);
        let by = |id: &str| Some(id.to_owned());
        for (user, groups, ip, expected) in [
            ("usr-ada", &["ops"] as &[_], "192.0.2.1", (Level::User, by("fence-u"), None)),
            ("usr-ada", &["ops"], "192.0.2.128", (Level::User, None, outside)),
            ("usr-ada", &["ops"], "198.51.100.1", (Level::User, None, outside)),
            ("usr-ada", &["ops"], "203.0.113.1", (Level::User, None, outside)),
            ("usr-bob", &["ops"], "198.51.100.1", (Level::Group, by("fence-g"), None)),
            ("usr-bob", &["ops"], "2001:db8:1::1", (Level::Group, None, outside)),
            ("usr-bob", &["ops"], "203.0.113.1", (Level::Group, None, outside)),
            // The rules of all their groups together.
            ("usr-bob", &["ops", "dev"], "2001:db8:1::1", (Level::Group, by("fence-h"), None)),
            ("usr-bob", &["ops", "dev"], "198.51.100.9", (Level::Group, by("fence-g"), None)),
            ("usr-bob", &["cooks"], "203.0.113.1", (Level::Global, by("fence-w"), None)),
            ("usr-bob", &[], "198.51.100.1", (Level::Global, None, outside)),
        ] {
            assert_eq!(said(user, groups, ip), expected, "{user} {groups:?} {ip}");
        }
    }

    #[test]
    fn ipv4_in_ipv6_is_ipv4() {
        let by = Some("fence-w".to_owned());
        assert_eq!(said("usr-bob", &[], "::ffff:203.0.113.9"), (Level::Global, by, None));
        let outside = (Level::Global, None, Some(Reason::OutsideGeoFence));
        assert_eq!(said("usr-bob", &[], "::203.0.113.9"), outside);
    }

    #[test]
    fn who_says_not_from_where_is_outside() {
        for ip in ["", "0.0.0.0", "::"] {
            let nowhere = Some(Reason::NoClientIp);
            assert_eq!(said("usr-ada", &[], ip), (Level::User, None, nowhere));
            assert_eq!(said("usr-bob", &[], ip), (Level::Global, None, nowhere));
        }
    }

    #[test]
    fn a_fence_without_rules_shuts_everybody_out_once_it_is_on() {
        let mut fences = Fences::default();
        fences.insert(value("fence-x"), rule(value("0.0.0.0/0")));
        let (ada, ip) = (value("usr-ada"), Some(value("192.0.2.1")));
        let none = BTreeSet::new();
        assert_eq!(check_fence(&fences, &ada, &none, ip), Fence::Off);
        let reason = Some(Reason::OutsideGeoFence);
        let verdict = Verdict { level: Level::None, rule: None, reason };
        for mode in [Mode::Enforce, Mode::Audit] {
            fences.settings = Values { enabled: true, mode };
            let fence = check_fence(&fences, &ada, &none, ip);
            assert_eq!(fence, Fence::Outside(verdict, mode));
        }
        fences.attach_globally(&value("fence-x"));
        let fence = check_fence(&fences, &ada, &none, ip);
        assert!(matches!(fence, Fence::Inside(Verdict { level: Level::Global, .. })), "{fence:?}");
    }

    /// What a rule of the model is attached to.
    type Attached = (bool, BTreeSet<u8>, BTreeSet<u8>);
    /// Whether a rule of the model counts on some level.
    type Counts<'a> = Box<dyn Fn(&Attached) -> bool + 'a>;

    fn name<T: FromStr<Err: Debug>>(prefix: &str, n: u8) -> T {
        value(&format!("{prefix}{}", char::from(b'a' + n)))
    }

    /// Whether the first `length` bits are the same, bit by bit.
    fn lies_within(ip: u32, net: u32, length: u32) -> bool {
        (0..length).all(|bit| (ip >> (31 - bit)) & 1 == (net >> (31 - bit)) & 1)
    }

    proptest! {
        /// The same as looking at every rule for each level in turn.
        #[test]
        fn the_verdict_is_that_of_a_naive_model(
            // Few bits, so that addresses and networks meet.
            nets in vec((0..16_u32, 28..=32_u32), 0..8),
            attached in vec(
                (any::<bool>(), btree_set(0..3_u8, 0..3), btree_set(0..3_u8, 0..3)), 8,
            ),
            user in 0..3_u8,
            groups in btree_set(0..3_u8, 0..3),
            ip in 0..16_u32,
            mapped in any::<bool>(),
        ) {
            let base = u32::from_be_bytes([192, 0, 2, 0]);
            let rules: Vec<(u32, u32, &Attached)> = nets
                .iter()
                .zip(&attached)
                .map(|((net, length), attached)| {
                    let mask = u32::MAX << (32 - length);
                    ((base | net) & mask, *length, attached)
                })
                .collect();
            let mut fences = Fences::default();
            for (n, (net, length, (global, users, of_groups))) in (0_u8..).zip(&rules) {
                let id: GeoFenceRuleId = name("fence-", n);
                let net = std::net::Ipv4Addr::from(*net);
                fences.insert(id.clone(), rule(value(&format!("{net}/{length}"))));
                if *global {
                    fences.attach_globally(&id);
                }
                for user in users {
                    fences.attach_user(&id, name("usr-", *user));
                }
                for group in of_groups {
                    fences.attach_group(&id, name("", *group));
                }
            }
            let ip = base | ip;
            let v4 = std::net::Ipv4Addr::from(ip);
            let from = if mapped { v4.to_ipv6_mapped().into() } else { v4.into() };
            let names = groups.iter().map(|it| name("", *it)).collect();
            let verdict = judge(&fences, &name("usr-", user), &names, Some(from));

            let of_level: [(Level, Counts<'_>); 3] = [
                (Level::User, Box::new(move |(_, users, _)| users.contains(&user))),
                (Level::Group, Box::new(move |(_, _, of)| !of.is_disjoint(&groups))),
                (Level::Global, Box::new(|(global, ..)| *global)),
            ];
            let level = of_level.iter().find(|(_, counts)| rules.iter().any(|it| counts(it.2)));
            let expected = level.map_or((Level::None, None), |(level, counts)| {
                let first = rules
                    .iter()
                    .position(|it| counts(it.2) && lies_within(ip, it.0, it.1));
                (*level, first)
            });
            let rule = verdict.rule.map(|(id, _)| id.clone());
            let first = expected.1.map(|n| name("fence-", u8::try_from(n).unwrap()));
            prop_assert_eq!((verdict.level, rule), (expected.0, first));
            prop_assert_eq!(verdict.reason.is_none(), expected.1.is_some());
        }
    }
}
