//! What an API key's scopes allow: which scope each operation needs, whether a key has it, and
//! whether one key is within another. Pure; who the key's owner is and what role they have comes on
//! top, and a scope never gives more than that.
//!
//! One relation decides everything: [`covers`]. It is a partial order, so a key that was made within
//! another one's scopes never sees more than that (the property tests below).

use axum::http::Method;
use chrono::{DateTime, SecondsFormat, Utc};
use gatekey_aggregates::user::ApiKey;
use gatekey_aggregates::values::{Cidr, Resource, Scope};
use std::fmt;

/// What a key must have for an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: the operation is for anyone, for gateways, or only tells a key about itself.
    Nothing,
    /// A scope that covers this one. A web login has them all.
    Scope(Scope),
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("none"),
            Self::Scope(scope) => scope.fmt(f),
        }
    }
}

/// What a key needs to call `method` on the route `path`, as routes are written (`…/{id}`). None for
/// routes that are not known here: they need `*`, and a test fails.
///
/// A `GET` needs to read what it shows, anything else to change what it changes. The exceptions are
/// what gives a person more than they had: passwords, roles and identity providers need `*`; what
/// holds a VPN configuration's key needs `vpn:connect`; what tells who did what, `audit:read`.
pub fn needed(method: &Method, path: &str) -> Option<Need> {
    let reads = *method == Method::GET || *method == Method::HEAD;
    let Some(path) = path.strip_prefix("/api/v1/") else {
        return matches!(path, "/" | "/health" | "/ready" | "/metrics").then_some(Need::Nothing);
    };
    let segments: Vec<&str> = path.split('/').collect();
    match *segments.as_slice() {
        ["openapi.json"] | ["gateway" | "pki", ..] => Some(Need::Nothing),
        ["auth", ref rest @ ..] => of_auth(reads, rest),
        ["admin", ref rest @ ..] => of_admin(reads, method, rest),
        ["configs" | "mesh", .., "generate" | "generate-config"]
        | ["configs" | "mesh", .., "download" | "download-config", _] => {
            Some(Need::Scope(Scope::VpnConnect))
        }
        // What else a mesh may give out is for whoever adds it to say.
        ["mesh", "hubs"] | ["mesh", "hubs", _] => of(reads, "mesh"),
        ["mesh", ..] | [] => None,
        ["users", "me", things] | [things, ..] => of(reads, things),
    }
}

fn of_auth(reads: bool, rest: &[&str]) -> Option<Need> {
    match rest {
        ["local" | "oidc" | "saml" | "cli", "login" | "callback" | "acs" | "metadata"]
        | ["logout" | "session" | "providers"]
        | ["api-key", "validate"] => Some(Need::Nothing),
        ["local", "change-password"] => Some(Need::Scope(Scope::All)),
        // That somebody signed in, or tried to, is told with what came of it.
        ["sessions" | "logins", ..] => of(reads, "sessions"),
        _ => None,
    }
}

fn of_admin(reads: bool, method: &Method, rest: &[&str]) -> Option<Need> {
    let defines = *method == Method::PUT || *method == Method::PATCH;
    match *rest {
        ["audit", ..] | [.., "history"] if reads => Some(Need::Scope(Scope::AuditRead)),
        // Who can sign in, with what, and as what.
        ["identity-providers", ..] | ["users", _, "password" | "role"] | ["users"] if !reads => {
            Some(Need::Scope(Scope::All))
        }
        ["users", _] if defines => Some(Need::Scope(Scope::All)),
        // What is listed here is not a user's, group's or network's own, but things of another kind.
        ["groups", _, "members"] => of(reads, "users"),
        ["users", _, things @ ("api-keys" | "sessions" | "configs" | "connections"), ..]
        | ["networks", _, things @ ("gateways" | "access-rules")] => of(reads, things),
        ["users", _, "logins"] => of(reads, "sessions"),
        ["ca", ..] => of(reads, "pki"),
        ["server"] => of(reads, "settings"),
        // A dry run is sent as a body, and changes nothing.
        [things, .., "check" | "explain"] => of(true, things),
        [things, ..] => of(reads, things),
        [] => None,
    }
}

fn of(reads: bool, things: &str) -> Option<Need> {
    let resource: Resource = things.parse().ok()?;
    match (reads, resource.is_writable()) {
        (true, _) => Some(Need::Scope(Scope::ReadOf(resource))),
        (false, true) => Some(Need::Scope(Scope::WriteOf(resource))),
        (false, false) => None,
    }
}

/// Whether who has `held` may do all that `wanted` allows. Whoever may change a thing may see it:
/// each change answers with the whole thing.
pub fn covers(held: Scope, wanted: Scope) -> bool {
    match held {
        Scope::All => true,
        Scope::Read => matches!(wanted, Scope::Read | Scope::ReadOf(_) | Scope::AuditRead),
        Scope::WriteOf(resource) => {
            matches!(wanted, Scope::WriteOf(it) | Scope::ReadOf(it) if it == resource)
        }
        Scope::ReadOf(_) | Scope::VpnConnect | Scope::AuditRead => held == wanted,
    }
}

/// Whether a key with these scopes may do what needs `need`, as far as its owner may.
pub fn grants(scopes: &[Scope], need: Need) -> bool {
    match need {
        Need::Nothing => true,
        Need::Scope(wanted) => scopes.iter().any(|held| covers(*held, wanted)),
    }
}

/// Whether a key with the scopes `child` may do nothing that one with `parent` may not.
pub fn is_within(child: &[Scope], parent: &[Scope]) -> bool {
    child.iter().all(|wanted| grants(parent, Need::Scope(*wanted)))
}

/// How far a key goes: all that may not grow from a key to one that it makes.
#[derive(Clone, Copy, Debug)]
pub struct Reach<'a> {
    /// What it may do.
    pub scopes: &'a [Scope],
    /// When it ends by itself; none: never.
    pub expires_at: Option<DateTime<Utc>>,
    /// Where it may be used from; empty: anywhere.
    pub source_cidrs: &'a [Cidr],
}

impl<'a> From<&'a ApiKey> for Reach<'a> {
    fn from(key: &'a ApiKey) -> Self {
        Self { scopes: &key.scopes, expires_at: key.expires_at, source_cidrs: &key.source_cidrs }
    }
}

/// In what a key would be more than the one that makes it: the field, and what it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excess {
    /// The field at fault.
    pub field: &'static str,
    /// In words that follow the field.
    pub message: String,
}

/// In what `child` goes beyond `maker`, the key that makes it; none if in nothing. Else a key that
/// somebody found would give them another, which is worth more.
pub fn excess(child: Reach<'_>, maker: Reach<'_>) -> Option<Excess> {
    let beyond = |field, message| Some(Excess { field, message });
    if !is_within(child.scopes, maker.scopes) {
        let own: Vec<_> = maker.scopes.iter().map(|it| format!("`{it}`")).collect();
        return beyond(
            "scopes",
            format!("must lie within those of the API key that makes it: {}", own.join(", ")),
        );
    }
    if let Some(end) = maker.expires_at
        && child.expires_at.is_none_or(|at| at > end)
    {
        let end = end.to_rfc3339_opts(SecondsFormat::AutoSi, true);
        return beyond(
            "expires_at",
            format!("must not be after {end}, when the API key that makes it expires"),
        );
    }
    let within = |net: &Cidr| maker.source_cidrs.iter().any(|outer| outer.covers(net));
    let anywhere = child.source_cidrs.is_empty();
    if !maker.source_cidrs.is_empty() && (anywhere || !child.source_cidrs.iter().all(within)) {
        return beyond(
            "source_cidrs",
            "must lie within those of the API key that makes it".to_owned(),
        );
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::openapi::{ACCESS, SCOPE};
    use gatekey_aggregates::arbitrary;
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::net::IpAddr;

    fn need(method: &str, path: &str) -> String {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        needed(&method, &format!("/api/v1{path}"))
            .map_or_else(|| "?".to_owned(), |it| it.to_string())
    }

    /// Every operation of the document: method, path, what it says of itself.
    fn operations() -> Vec<(Method, String, serde_json::Value)> {
        let document = crate::app::document().unwrap();
        let paths = document["paths"].as_object().unwrap().clone();
        let of = |(path, item): (String, serde_json::Value)| {
            let methods = item.as_object().unwrap().clone().into_iter();
            methods.filter_map(move |(method, operation)| {
                let method: Method = method.to_uppercase().parse().ok()?;
                operation.is_object().then(|| (method, path.clone(), operation))
            })
        };
        paths.into_iter().flat_map(of).collect()
    }

    #[test]
    fn every_operation_needs_something_that_is_known_here() {
        let operations = operations();
        assert!(operations.len() >= 70, "{}", operations.len());
        for (method, path, operation) in operations {
            let need = needed(&method, &path);
            let need =
                need.unwrap_or_else(|| panic!("{method} {path}: say in `needed` what it needs"));
            assert_eq!(operation[SCOPE], need.to_string(), "{method} {path}");
            let open = matches!(operation[ACCESS].as_str(), Some("anyone" | "gateway"));
            let about_itself = path.ends_with("/auth/api-key/validate");
            assert_eq!(need == Need::Nothing, open || about_itself, "{method} {path}: {need}");
        }
    }

    #[test]
    fn reading_needs_what_is_shown_and_changing_what_is_changed() {
        for (method, path, expected) in [
            ("GET", "/gateways", "read:gateways"),
            ("HEAD", "/gateways", "read:gateways"),
            ("GET", "/admin/gateways/{id}", "read:gateways"),
            ("PUT", "/admin/gateways/{id}", "write:gateways"),
            ("PATCH", "/admin/gateways/{id}", "write:gateways"),
            ("POST", "/admin/gateways/{id}/rotate-token", "write:gateways"),
            // Grants are the gateway's own.
            ("GET", "/admin/gateways/{id}/users", "read:gateways"),
            ("POST", "/admin/gateways/{id}/users", "write:gateways"),
            ("DELETE", "/admin/access-rules/{id}/groups/{group}", "write:access-rules"),
            ("GET", "/admin/networks/{id}/gateways", "read:gateways"),
            ("GET", "/admin/networks/{id}/access-rules", "read:access-rules"),
            ("GET", "/admin/groups", "read:groups"),
            ("GET", "/admin/groups/{name}/members", "read:users"),
            ("GET", "/admin/users/{id}/connections", "read:connections"),
            ("DELETE", "/admin/users/{id}/api-keys/{key_id}", "write:api-keys"),
            ("DELETE", "/auth/sessions/{id}", "write:sessions"),
            ("GET", "/auth/logins", "read:sessions"),
            ("GET", "/admin/users/{id}/logins", "read:sessions"),
            ("GET", "/admin/server", "read:settings"),
            ("GET", "/users/me", "read:users"),
            ("GET", "/users/me/connections", "read:connections"),
            ("PUT", "/admin/users/{id}/groups", "write:users"),
            ("POST", "/admin/users/{id}/disable", "write:users"),
            ("POST", "/admin/pki/revoke", "write:pki"),
            ("POST", "/configs/{id}/revoke", "write:configs"),
            ("GET", "/admin/ca", "read:pki"),
            ("GET", "/mesh/hubs", "read:mesh"),
            ("POST", "/admin/mesh/hubs/{id}/spokes", "write:mesh"),
            ("PUT", "/admin/geo-fence/settings", "write:geo-fence"),
            // Dry runs.
            ("POST", "/admin/geo-fence/check", "read:geo-fence"),
            ("POST", "/admin/access/explain", "read:access"),
            ("GET", "/admin/access/explain", "read:access"),
        ] {
            assert_eq!(need(method, path), expected, "{method} {path}");
        }
    }

    #[test]
    fn what_makes_more_of_a_person_needs_more() {
        for (method, path, expected) in [
            // A profile holds a private key: no `read` gives it.
            ("GET", "/configs/download/{id}", "vpn:connect"),
            ("POST", "/configs/generate", "vpn:connect"),
            ("POST", "/mesh/generate-config", "vpn:connect"),
            ("POST", "/auth/local/change-password", "*"),
            ("PUT", "/admin/users/{id}/password", "*"),
            ("POST", "/admin/users", "*"),
            ("PUT", "/admin/users/{id}", "*"),
            ("PATCH", "/admin/users/{id}", "*"),
            ("POST", "/admin/identity-providers", "*"),
            ("DELETE", "/admin/identity-providers/{name}", "*"),
            ("GET", "/admin/identity-providers", "read:identity-providers"),
            ("GET", "/admin/audit", "audit:read"),
            ("GET", "/admin/audit/{position}/proof", "audit:read"),
            ("GET", "/admin/gateways/{id}/history", "audit:read"),
            // What nobody knows, and what can't be changed.
            ("GET", "/admin/secrets", "?"),
            ("GET", "/nonesuch", "?"),
            ("POST", "/auth/impersonate", "?"),
            ("GET", "/mesh/hubs/{id}/profile", "?"),
            ("DELETE", "/admin/connections/{id}", "?"),
        ] {
            assert_eq!(need(method, path), expected, "{method} {path}");
        }
    }

    /// No scope is offered that opens nothing, but for those whose routes are still to come.
    #[test]
    fn every_scope_is_of_use() {
        let used: BTreeSet<String> = operations()
            .iter()
            .filter_map(|(method, path, _)| needed(method, path))
            .map(|need| need.to_string())
            .collect();
        let to_come = ["identity-providers", "mesh"].map(ToOwned::to_owned);
        for scope in Scope::all().filter(|it| *it != Scope::Read) {
            let text = scope.to_string();
            let later = to_come.iter().any(|it| text.ends_with(it.as_str()));
            let by_writing = match scope {
                Scope::ReadOf(resource) => used.contains(&Scope::WriteOf(resource).to_string()),
                _ => false,
            };
            assert!(used.contains(&text) || later || by_writing, "{text} opens nothing");
        }
    }

    #[test]
    fn who_may_change_a_thing_may_see_it_and_nothing_else() {
        let write = [Scope::WriteOf(Resource::Networks)];
        assert!(is_within(&[Scope::ReadOf(Resource::Networks)], &write));
        for other in ["read:gateways", "write:gateways", "read", "vpn:connect", "audit:read", "*"] {
            assert!(!is_within(&[other.parse().unwrap()], &write), "{other}");
        }
        let read = [Scope::Read];
        for within in ["read:gateways", "audit:read", "read"] {
            assert!(is_within(&[within.parse().unwrap()], &read), "{within}");
        }
        for beyond in ["write:gateways", "vpn:connect", "*"] {
            assert!(!is_within(&[beyond.parse().unwrap()], &read), "{beyond}");
        }
    }

    #[test]
    fn excess_names_its_field() {
        let end = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let nets = ["192.0.2.0/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
        let scopes = [Scope::Read];
        let maker = Reach { scopes: &scopes, expires_at: Some(end), source_cidrs: &nets };
        assert_eq!(excess(maker, maker), None);
        let cases = [
            (Reach { scopes: &[Scope::All], ..maker }, "scopes"),
            (Reach { expires_at: None, ..maker }, "expires_at"),
            (Reach { source_cidrs: &[], ..maker }, "source_cidrs"),
        ];
        for (child, field) in cases {
            assert_eq!(excess(child, maker).unwrap().field, field);
        }
        let free = Reach { expires_at: None, source_cidrs: &[], ..maker };
        assert_eq!(excess(maker, free), None);
        let message =
            excess(Reach { scopes: &[Scope::VpnConnect], ..maker }, maker).unwrap().message;
        assert!(message.ends_with(": `read`"), "{message}");
    }

    fn scopes() -> impl Strategy<Value = Vec<Scope>> {
        vec(arbitrary::scope(), 0..5)
    }

    #[derive(Clone, Debug)]
    struct Key {
        scopes: Vec<Scope>,
        expires_at: Option<DateTime<Utc>>,
        source_cidrs: Vec<Cidr>,
    }

    impl Key {
        fn reach(&self) -> Reach<'_> {
            Reach {
                scopes: &self.scopes,
                expires_at: self.expires_at,
                source_cidrs: &self.source_cidrs,
            }
        }

        /// Whether it is any good for `need`, at that time and from there.
        fn opens(&self, need: Need, now: DateTime<Utc>, from: IpAddr) -> bool {
            let nets = &self.source_cidrs;
            grants(&self.scopes, need)
                && self.expires_at.is_none_or(|end| end > now)
                && (nets.is_empty() || nets.iter().any(|net| net.contains(from)))
        }
    }

    /// Few of everything, so that one key is within another often enough.
    fn key() -> impl Strategy<Value = Key> {
        let nets = ["10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "2001:db8::/32", "2001:db8:1::/48"];
        let net = proptest::sample::select(nets.map(|it| it.parse::<Cidr>().unwrap()).to_vec());
        (scopes(), option::of(0..4_i64), vec(net, 0..3)).prop_map(|(scopes, end, source_cidrs)| {
            Key {
                scopes,
                expires_at: end.map(|it| DateTime::from_timestamp(it, 0).unwrap()),
                source_cidrs,
            }
        })
    }

    /// Every need that an operation has.
    fn needs() -> Vec<Need> {
        let known = operations();
        known.iter().filter_map(|(method, path, _)| needed(method, path)).collect()
    }

    #[test]
    fn covering_is_a_partial_order() {
        let all: Vec<_> = Scope::all().collect();
        for &a in &all {
            assert!(covers(a, a) && covers(Scope::All, a));
            for &b in &all {
                assert!(a == b || !(covers(a, b) && covers(b, a)), "{a} {b}");
                for &c in &all {
                    assert!(!(covers(a, b) && covers(b, c)) || covers(a, c), "{a} {b} {c}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn being_within_is_transitive(a in scopes(), b in scopes(), c in scopes()) {
            prop_assert!(is_within(&a, &a));
            // Made to be within often enough.
            let inner: Vec<_> = a.iter().chain(&b).copied().collect();
            let outer: Vec<_> = inner.iter().chain(&c).copied().collect();
            prop_assert!(is_within(&a, &inner) && is_within(&inner, &outer));
            prop_assert!(is_within(&a, &outer));
            if is_within(&a, &b) && is_within(&b, &c) {
                prop_assert!(is_within(&a, &c));
            }
        }

        #[test]
        fn being_within_agrees_with_what_is_granted(child in scopes(), parent in scopes()) {
            let every = Scope::all().map(Need::Scope).chain([Need::Nothing]);
            let more = every.filter(|need| grants(&child, *need) && !grants(&parent, *need));
            // Within, if and only if there is nothing that the child may and the parent may not.
            prop_assert_eq!(is_within(&child, &parent), more.count() == 0);
        }
    }

    #[test]
    fn a_key_within_another_never_opens_more() {
        let needs = needs();
        let from =
            ["10.1.2.3", "10.1.9.9", "10.9.9.9", "192.0.2.1", "2001:db8:1::1", "2001:db8:2::1"]
                .map(|it| it.parse::<IpAddr>().unwrap());
        proptest!(|(child in key(), maker in key(), grand in key())| {
            if excess(child.reach(), maker.reach()).is_some() {
                return Ok(());
            }
            for now in (0..5).map(|it| DateTime::from_timestamp(it, 0).unwrap()) {
                for ip in from {
                    for need in &needs {
                        let (child, maker) =
                            (child.opens(*need, now, ip), maker.opens(*need, now, ip));
                        prop_assert!(!child || maker, "{} at {} from {}", need, now, ip);
                    }
                }
            }
            // Nor does one that is within that one.
            if excess(maker.reach(), grand.reach()).is_none() {
                prop_assert_eq!(excess(child.reach(), grand.reach()), None);
            }
        });
    }
}
