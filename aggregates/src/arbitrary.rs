//! Any command and any event, for property tests. Ids come from a small set, so that a run of
//! commands meets the same things again.
#![allow(clippy::unwrap_used)] // Only tests use it.

use crate::values::{
    Cidr, CommonName, CryptoProfile, DisplayName, Email, PortRange, RevocationReason, Role, Scope,
    SecretId, Serial, TokenHash, Transport, Username, VpnSubnet, canonical_ip, from_micros,
};
use crate::{
    Event, PersonId, Personal, access_rule, attempt, authority, certificate, gateway, geo_fence,
    geo_fence_rule, login, mesh_hub, network, session, settings, user,
};
use chrono::{DateTime, Utc};
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use std::fmt::Debug;
use std::net::IpAddr;
use std::str::FromStr;

/// Strings that a regular expression gives, which is read once (as a strategy of its own it would
/// be read for every string).
fn string(texts: &'static str) -> BoxedStrategy<String> {
    proptest::string::string_regex(texts).unwrap().boxed()
}

/// Values that a regular expression gives the text of.
pub fn parsed<T: FromStr + Debug + 'static>(texts: &'static str) -> BoxedStrategy<T> {
    string(texts).prop_filter_map("not such a value", |text| text.parse().ok()).boxed()
}

fn name<T: FromStr + Debug + 'static>() -> BoxedStrategy<T> {
    parsed("\\PC{1,20}")
}

fn id<T: FromStr + Debug + 'static>(prefix: &'static str) -> BoxedStrategy<T> {
    string("[a-c]")
        .prop_filter_map("no id", move |rest| format!("{prefix}{rest}").parse().ok())
        .boxed()
}

fn ip() -> BoxedStrategy<IpAddr> {
    any::<IpAddr>().boxed()
}

fn flag() -> BoxedStrategy<bool> {
    any::<bool>().boxed()
}

fn secret() -> BoxedStrategy<SecretId> {
    id("sec-")
}

fn token_hash() -> BoxedStrategy<TokenHash> {
    parsed("[0-9a-f]{64}")
}

fn time() -> BoxedStrategy<DateTime<Utc>> {
    (0..4_000_000_000_000_000_i64).prop_map(from_micros).boxed()
}

fn cidr() -> BoxedStrategy<Cidr> {
    (ip(), 0..=128_u8)
        .prop_filter_map("no network", |(ip, length)| {
            let net = ipnet::IpNet::new(ip, length).ok()?;
            net.trunc().to_string().parse().ok()
        })
        .boxed()
}

fn personal<T: Clone + Debug + 'static>(value: BoxedStrategy<T>) -> BoxedStrategy<Personal<T>> {
    let of = || string("usr-[a-c]|day-2026-11-24").prop_map(PersonId::from);
    prop_oneof![
        3 => (of(), value).prop_map(|(of, value)| Personal::new(of, value)),
        1 => of().prop_map(|of| Personal::Shut { of }),
    ]
    .boxed()
}

fn text() -> BoxedStrategy<String> {
    string("\\PC{0,200}")
}

fn configuration() -> BoxedStrategy<gateway::Configuration> {
    let network = (
        parsed("[a-z]{1,9}\\.example\\.com|192\\.0\\.2\\.[1-9]"),
        option::of(ip()),
        any::<u16>(),
        transport(),
        parsed::<VpnSubnet>("10\\.[1-9]\\.0\\.0/(16|24)"),
        crypto_profile(),
    );
    let choices = (flag(), flag(), flag(), vec(ip(), 0..=9), flag());
    (name(), parsed("\\PC{0,40}"), network, choices)
        .prop_map(|(name, description, network, choices)| {
            let (hostname, public_ip, port, protocol, vpn_subnet, crypto_profile) = network;
            let (tls_auth, full_tunnel, push_dns, dns_servers, active) = choices;
            gateway::Configuration {
                name,
                description,
                hostname,
                public_ip,
                port,
                protocol,
                vpn_subnet,
                crypto_profile,
                tls_auth,
                full_tunnel,
                push_dns,
                dns_servers,
                active,
            }
        })
        .boxed()
}

/// Any command on a gateway.
pub fn gateway_command() -> BoxedStrategy<gateway::Command> {
    use gateway::Command;
    prop_oneof![
        (configuration(), token_hash(), secret()).prop_map(
            |(configuration, token_hash, tls_auth_key)| Command::Register {
                configuration,
                token_hash,
                tls_auth_key
            }
        ),
        configuration().prop_map(Command::Configure),
        id("usr-").prop_map(Command::GrantUser),
        id("usr-").prop_map(Command::RevokeUser),
        parsed("[a-c]").prop_map(Command::GrantGroup),
        parsed("[a-c]").prop_map(Command::RevokeGroup),
        id("net-").prop_map(Command::AttachNetwork),
        id("net-").prop_map(Command::DetachNetwork),
        token_hash().prop_map(Command::RotateToken),
        Just(Command::RequestReprovision),
        id("cfg-").prop_map(Command::InstallServerCertificate),
        Just(Command::ComeOnline),
        Just(Command::GoOffline),
        ip().prop_map(Command::ReportAddress),
        Just(Command::Delete),
    ]
    .boxed()
}

/// Each event of its kind.
pub fn gateway_events() -> Vec<BoxedStrategy<gateway::Event>> {
    use gateway::Event;
    vec![
        (configuration(), token_hash(), secret())
            .prop_map(|(configuration, token_hash, tls_auth_key)| Event::Registered {
                configuration,
                token_hash,
                tls_auth_key,
            })
            .boxed(),
        configuration().prop_map(|configuration| Event::Updated { configuration }).boxed(),
        id("usr-").prop_map(|user_id| Event::UserGranted { user_id }).boxed(),
        id("usr-").prop_map(|user_id| Event::UserRevoked { user_id }).boxed(),
        name().prop_map(|group| Event::GroupGranted { group }).boxed(),
        name().prop_map(|group| Event::GroupRevoked { group }).boxed(),
        id("net-").prop_map(|network_id| Event::NetworkAttached { network_id }).boxed(),
        id("net-").prop_map(|network_id| Event::NetworkDetached { network_id }).boxed(),
        token_hash().prop_map(|token_hash| Event::TokenRotated { token_hash }).boxed(),
        Just(Event::ReprovisionRequested {}).boxed(),
        id("cfg-")
            .prop_map(|certificate_id| Event::ServerCertificateInstalled { certificate_id })
            .boxed(),
        Just(Event::CameOnline {}).boxed(),
        Just(Event::WentOffline {}).boxed(),
        ip().prop_map(|public_ip| Event::AddressChanged { public_ip }).boxed(),
        Just(Event::Deleted {}).boxed(),
    ]
}

fn transport() -> BoxedStrategy<Transport> {
    prop_oneof![Just(Transport::Udp), Just(Transport::Tcp)].boxed()
}

fn crypto_profile() -> BoxedStrategy<CryptoProfile> {
    use CryptoProfile::{Compatible, Fips, Modern};
    prop_oneof![Just(Modern), Just(Fips), Just(Compatible)].boxed()
}

fn local_networks() -> BoxedStrategy<Vec<Cidr>> {
    vec(parsed("10\\.[2-9][0-9]\\.[0-9]\\.0/24|fd00:[1-9][0-9]::/32"), 0..3).boxed()
}

fn hub_configuration() -> BoxedStrategy<mesh_hub::Configuration> {
    let network = (
        parsed("[a-z]{1,9}\\.example\\.com|192\\.0\\.2\\.[1-9]"),
        any::<u16>(),
        transport(),
        parsed::<VpnSubnet>("10\\.1[0-9]\\.0\\.0/(16|24)"),
        crypto_profile(),
    );
    (name(), parsed("\\PC{0,40}"), network, flag(), local_networks())
        .prop_map(|(name, description, network, tls_auth, local_networks)| {
            let (public_endpoint, port, protocol, vpn_subnet, crypto_profile) = network;
            mesh_hub::Configuration {
                name,
                description,
                public_endpoint,
                port,
                protocol,
                vpn_subnet,
                crypto_profile,
                tls_auth,
                local_networks,
            }
        })
        .boxed()
}

fn spoke_definition() -> BoxedStrategy<mesh_hub::SpokeDefinition> {
    (name(), parsed("\\PC{0,40}"), local_networks())
        .prop_map(|(name, description, local_networks)| mesh_hub::SpokeDefinition {
            name,
            description,
            local_networks,
        })
        .boxed()
}

/// Any command on a mesh hub.
pub fn mesh_hub_command() -> BoxedStrategy<mesh_hub::Command> {
    use mesh_hub::Command;
    let version = || option::of(0..4_i64);
    prop_oneof![
        (hub_configuration(), secret()).prop_map(|(configuration, tls_auth_key)| {
            Command::Create { configuration, tls_auth_key }
        }),
        hub_configuration().prop_map(Command::Configure),
        id("usr-").prop_map(Command::GrantUser),
        id("usr-").prop_map(Command::RevokeUser),
        parsed("[a-c]").prop_map(Command::GrantGroup),
        parsed("[a-c]").prop_map(Command::RevokeGroup),
        id("net-").prop_map(Command::AttachNetwork),
        id("net-").prop_map(Command::DetachNetwork),
        (id("spoke-"), spoke_definition())
            .prop_map(|(spoke_id, definition)| Command::AddSpoke { spoke_id, definition }),
        (id("spoke-"), spoke_definition(), version()).prop_map(
            |(spoke_id, definition, if_version)| Command::UpdateSpoke {
                spoke_id,
                definition,
                if_version
            }
        ),
        (id("spoke-"), version())
            .prop_map(|(spoke_id, if_version)| Command::RemoveSpoke { spoke_id, if_version }),
        id("cfg-").prop_map(Command::InstallServerCertificate),
        (id("spoke-"), id("cfg-")).prop_map(|(spoke_id, certificate_id)| {
            Command::InstallSpokeCertificate { spoke_id, certificate_id }
        }),
        Just(Command::Delete),
    ]
    .boxed()
}

/// Each event of its kind.
pub fn mesh_hub_events() -> Vec<BoxedStrategy<mesh_hub::Event>> {
    use mesh_hub::Event;
    let spoke = || (id("spoke-"), spoke_definition());
    vec![
        (hub_configuration(), secret())
            .prop_map(|(configuration, tls_auth_key)| Event::Created {
                configuration,
                tls_auth_key,
            })
            .boxed(),
        hub_configuration().prop_map(|configuration| Event::Updated { configuration }).boxed(),
        id("usr-").prop_map(|user_id| Event::UserGranted { user_id }).boxed(),
        id("usr-").prop_map(|user_id| Event::UserRevoked { user_id }).boxed(),
        name().prop_map(|group| Event::GroupGranted { group }).boxed(),
        name().prop_map(|group| Event::GroupRevoked { group }).boxed(),
        id("net-").prop_map(|network_id| Event::NetworkAttached { network_id }).boxed(),
        id("net-").prop_map(|network_id| Event::NetworkDetached { network_id }).boxed(),
        spoke()
            .prop_map(|(spoke_id, definition)| Event::SpokeAdded { spoke_id, definition })
            .boxed(),
        spoke()
            .prop_map(|(spoke_id, definition)| Event::SpokeUpdated { spoke_id, definition })
            .boxed(),
        id("spoke-").prop_map(|spoke_id| Event::SpokeRemoved { spoke_id }).boxed(),
        id("cfg-")
            .prop_map(|certificate_id| Event::ServerCertificateInstalled { certificate_id })
            .boxed(),
        (id("spoke-"), id("cfg-"))
            .prop_map(|(spoke_id, certificate_id)| Event::SpokeCertificateInstalled {
                spoke_id,
                certificate_id,
            })
            .boxed(),
        Just(Event::Deleted {}).boxed(),
    ]
}

fn profile() -> BoxedStrategy<user::Profile> {
    (
        personal(parsed::<Username>("[a-c]{1,2}")),
        personal(parsed::<Email>("[a-c]{1,2}@example\\.com")),
        option::of(personal(name::<DisplayName>())),
    )
        .prop_map(|(username, email, name)| user::Profile { username, email, name })
        .boxed()
}

fn role() -> BoxedStrategy<Role> {
    prop_oneof![Just(Role::Member), Just(Role::Auditor), Just(Role::Admin)].boxed()
}

fn api_key() -> BoxedStrategy<user::ApiKey> {
    let limits = (option::of(time()), vec(cidr(), 0..3), option::of(id("key-")));
    (id("key-"), name(), string("gk_[a-z]{0,14}"), token_hash(), vec(scope(), 0..3), limits)
        .prop_map(|(id, name, prefix, key_hash, scopes, limits)| {
            let (expires_at, source_cidrs, created_by) = limits;
            user::ApiKey {
                id,
                name,
                prefix,
                key_hash,
                scopes,
                expires_at,
                source_cidrs,
                created_by,
            }
        })
        .boxed()
}

/// Any scope.
pub fn scope() -> BoxedStrategy<Scope> {
    select(Scope::all().collect::<Vec<_>>()).boxed()
}

/// Any command on a user.
pub fn user_command() -> BoxedStrategy<user::Command> {
    use user::Command;
    prop_oneof![
        (profile(), role(), btree_set(name(), 0..4), option::of(secret()), flag()).prop_map(
            |(profile, role, groups, password, must_change_password)| Command::Create {
                profile,
                role,
                groups,
                password,
                must_change_password
            }
        ),
        profile().prop_map(Command::Update),
        (profile(), role()).prop_map(|(profile, role)| Command::Revise { profile, role }),
        role().prop_map(Command::ChangeRole),
        btree_set(parsed("[a-c]"), 0..4).prop_map(Command::ChangeGroups),
        (secret(), flag(), option::of(secret())).prop_map(
            |(password, must_change_password, expected)| Command::ChangePassword {
                password,
                must_change_password,
                expected,
            }
        ),
        Just(Command::Disable),
        Just(Command::Enable),
        (api_key(), time()).prop_map(|(api_key, now)| Command::CreateApiKey { api_key, now }),
        id("key-").prop_map(Command::RevokeApiKey),
        Just(Command::Delete),
    ]
    .boxed()
}

/// Each event of its kind.
pub fn user_events() -> Vec<BoxedStrategy<user::Event>> {
    use user::Event;
    vec![
        (profile(), role(), btree_set(name(), 0..4), option::of(secret()), flag())
            .prop_map(|(profile, role, groups, password, must_change_password)| Event::Created {
                profile,
                role,
                groups,
                password,
                must_change_password,
            })
            .boxed(),
        profile().prop_map(|profile| Event::Updated { profile }).boxed(),
        role().prop_map(|role| Event::RoleChanged { role }).boxed(),
        btree_set(name(), 0..4).prop_map(|groups| Event::GroupsChanged { groups }).boxed(),
        (secret(), flag())
            .prop_map(|(password, must_change_password)| Event::PasswordChanged {
                password,
                must_change_password,
            })
            .boxed(),
        Just(Event::Disabled {}).boxed(),
        Just(Event::Enabled {}).boxed(),
        api_key().prop_map(|api_key| Event::ApiKeyCreated { api_key }).boxed(),
        id("key-").prop_map(|id| Event::ApiKeyRevoked { id }).boxed(),
        Just(Event::Deleted {}).boxed(),
    ]
}

fn network_definition() -> BoxedStrategy<network::Definition> {
    (name(), cidr(), parsed("\\PC{0,40}"))
        .prop_map(|(name, cidr, description)| network::Definition { name, cidr, description })
        .boxed()
}

/// Any command on a network.
pub fn network_command() -> BoxedStrategy<network::Command> {
    use network::Command;
    prop_oneof![
        network_definition().prop_map(Command::Create),
        network_definition().prop_map(Command::Update),
        Just(Command::Delete),
    ]
    .boxed()
}

/// Each event of its kind.
pub fn network_events() -> Vec<BoxedStrategy<network::Event>> {
    use network::Event;
    vec![
        network_definition().prop_map(|definition| Event::Created { definition }).boxed(),
        network_definition().prop_map(|definition| Event::Updated { definition }).boxed(),
        Just(Event::Deleted {}).boxed(),
    ]
}

/// Any destination.
pub fn target() -> BoxedStrategy<access_rule::Target> {
    use access_rule::Target;
    prop_oneof![
        ip().prop_map(|ip| Target::Ip(canonical_ip(ip))),
        cidr().prop_map(Target::Cidr),
        parsed("[a-z]{1,9}\\.example\\.com").prop_map(Target::Hostname),
        parsed("\\*\\.[a-z]{1,9}\\.example\\.com").prop_map(Target::HostnameWildcard),
    ]
    .boxed()
}

fn rule_definition() -> BoxedStrategy<access_rule::Definition> {
    use access_rule::RuleProtocol::{Icmp, Tcp, Udp};
    let ports = parsed::<PortRange>("[1-9][0-9]{0,3}(-[1-9][0-9]{4})?");
    let protocol = prop_oneof![Just(Tcp), Just(Udp), Just(Icmp)];
    let limits = (option::of(ports), option::of(protocol), option::of(id("net-")), flag());
    (name(), parsed("\\PC{0,40}"), target(), limits)
        .prop_map(|(name, description, target, (port_range, protocol, network_id, active))| {
            access_rule::Definition {
                name,
                description,
                target,
                port_range,
                protocol,
                network_id,
                active,
            }
        })
        .boxed()
}

/// Any command on an access rule.
pub fn access_rule_command() -> BoxedStrategy<access_rule::Command> {
    use access_rule::Command;
    prop_oneof![
        rule_definition().prop_map(Command::Create),
        rule_definition().prop_map(Command::Update),
        id("usr-").prop_map(Command::AssignUser),
        id("usr-").prop_map(Command::UnassignUser),
        parsed("[a-c]").prop_map(Command::AssignGroup),
        parsed("[a-c]").prop_map(Command::UnassignGroup),
        Just(Command::Delete),
    ]
    .boxed()
}

/// Each event of its kind.
pub fn access_rule_events() -> Vec<BoxedStrategy<access_rule::Event>> {
    use access_rule::Event;
    vec![
        rule_definition().prop_map(|definition| Event::Created { definition }).boxed(),
        rule_definition().prop_map(|definition| Event::Updated { definition }).boxed(),
        id("usr-").prop_map(|user_id| Event::UserAssigned { user_id }).boxed(),
        id("usr-").prop_map(|user_id| Event::UserUnassigned { user_id }).boxed(),
        name().prop_map(|group| Event::GroupAssigned { group }).boxed(),
        name().prop_map(|group| Event::GroupUnassigned { group }).boxed(),
        Just(Event::Deleted {}).boxed(),
    ]
}

fn fence_values() -> BoxedStrategy<geo_fence::Values> {
    use geo_fence::Mode::{Audit, Enforce};
    (flag(), prop_oneof![Just(Enforce), Just(Audit)])
        .prop_map(|(enabled, mode)| geo_fence::Values { enabled, mode })
        .boxed()
}

/// Any command on the geo-fence.
pub fn geo_fence_command() -> BoxedStrategy<geo_fence::Command> {
    fence_values().prop_map(geo_fence::Command::Change).boxed()
}

/// Each event of its kind.
pub fn geo_fence_events() -> Vec<BoxedStrategy<geo_fence::Event>> {
    vec![fence_values().prop_map(|values| geo_fence::Event::Changed { values }).boxed()]
}

fn fence_definition() -> BoxedStrategy<geo_fence_rule::Definition> {
    (name(), cidr(), parsed("\\PC{0,40}"))
        .prop_map(|(name, cidr, description)| geo_fence_rule::Definition {
            name,
            cidr,
            description,
        })
        .boxed()
}

/// Any command on a rule of the geo-fence.
pub fn geo_fence_rule_command() -> BoxedStrategy<geo_fence_rule::Command> {
    use geo_fence_rule::Command;
    prop_oneof![
        fence_definition().prop_map(Command::Create),
        fence_definition().prop_map(Command::Update),
        Just(Command::AttachGlobally),
        Just(Command::DetachGlobally),
        parsed("[a-c]").prop_map(Command::AttachGroup),
        parsed("[a-c]").prop_map(Command::DetachGroup),
        id("usr-").prop_map(Command::AttachUser),
        id("usr-").prop_map(Command::DetachUser),
        Just(Command::Delete),
    ]
    .boxed()
}

/// Each event of its kind.
pub fn geo_fence_rule_events() -> Vec<BoxedStrategy<geo_fence_rule::Event>> {
    use geo_fence_rule::Event;
    vec![
        fence_definition().prop_map(|definition| Event::Created { definition }).boxed(),
        fence_definition().prop_map(|definition| Event::Updated { definition }).boxed(),
        Just(Event::GloballyAttached {}).boxed(),
        Just(Event::GloballyDetached {}).boxed(),
        name().prop_map(|group| Event::GroupAttached { group }).boxed(),
        name().prop_map(|group| Event::GroupDetached { group }).boxed(),
        id("usr-").prop_map(|user_id| Event::UserAttached { user_id }).boxed(),
        id("usr-").prop_map(|user_id| Event::UserDetached { user_id }).boxed(),
        Just(Event::Deleted {}).boxed(),
    ]
}

fn common_name() -> BoxedStrategy<Personal<CommonName>> {
    personal(parsed("[a-z]{1,9}@example\\.com"))
}

fn serial() -> BoxedStrategy<Serial> {
    parsed("[0-9a-f]{1,40}")
}

fn issuance() -> BoxedStrategy<certificate::Issuance> {
    use certificate::{Issuance, Subject};
    let client = (id("usr-"), id("gw-"), common_name(), token_hash(), secret()).prop_map(
        |(user_id, gateway_id, common_name, token_hash, bundle)| Subject::Client {
            user_id,
            gateway_id,
            common_name,
            token_hash,
            bundle,
        },
    );
    let server = (id("gw-"), secret())
        .prop_map(|(gateway_id, bundle)| Subject::Server { gateway_id, bundle });
    let named = |texts| parsed::<CommonName>(texts);
    let hub_client = (id("usr-"), id("hub-"), named("hub-[a-c]\\.usr-[a-c]"), secret()).prop_map(
        |(user_id, hub_id, common_name, bundle)| Subject::HubClient {
            user_id,
            hub_id,
            common_name,
            bundle,
        },
    );
    let hub_server =
        (id("hub-"), secret()).prop_map(|(hub_id, bundle)| Subject::HubServer { hub_id, bundle });
    let spoke = (id("hub-"), id("spoke-"), named("hub-[a-c]\\.spoke-[a-c]")).prop_map(
        |(hub_id, spoke_id, common_name)| Subject::Spoke { hub_id, spoke_id, common_name },
    );
    let subject = prop_oneof![client, server, hub_client, hub_server, spoke];
    (subject, serial(), time(), time(), string("[0-9a-f]{64}"))
        .prop_map(|(subject, serial, not_before, not_after, fingerprint)| Issuance {
            subject,
            serial,
            not_before,
            not_after,
            fingerprint,
        })
        .boxed()
}

fn revocation_reason() -> BoxedStrategy<RevocationReason> {
    use RevocationReason::{
        AffiliationChanged, CaCompromise, CessationOfOperation, KeyCompromise, PrivilegeWithdrawn,
        Superseded, Unspecified,
    };
    prop_oneof![
        Just(Unspecified),
        Just(KeyCompromise),
        Just(CaCompromise),
        Just(AffiliationChanged),
        Just(Superseded),
        Just(CessationOfOperation),
        Just(PrivilegeWithdrawn),
    ]
    .boxed()
}

/// Any command on a certificate.
pub fn certificate_command() -> BoxedStrategy<certificate::Command> {
    use certificate::Command;
    prop_oneof![issuance().prop_map(Command::Issue), revocation_reason().prop_map(Command::Revoke)]
        .boxed()
}

/// Each event of its kind.
pub fn certificate_events() -> Vec<BoxedStrategy<certificate::Event>> {
    use certificate::Event;
    vec![
        issuance().prop_map(Event::Issued).boxed(),
        revocation_reason().prop_map(|reason| Event::Revoked { reason }).boxed(),
    ]
}

fn session_beginning() -> BoxedStrategy<session::Beginning> {
    let who = (id("gw-"), id("usr-"), id("cfg-"), serial(), common_name());
    let where_ = (option::of(personal(ip())), option::of(ip()), option::of(ip()));
    (who, where_, time())
        .prop_map(|(who, (client_ip, vpn_ip, vpn_ipv6), connected_at)| {
            let (gateway_id, user_id, certificate_id, serial, common_name) = who;
            session::Beginning {
                gateway_id,
                user_id,
                certificate_id,
                serial,
                common_name,
                client_ip,
                vpn_ip,
                vpn_ipv6,
                connected_at,
            }
        })
        .boxed()
}

fn counters() -> BoxedStrategy<session::Counters> {
    (option::of(any::<u64>()), option::of(any::<u64>()), option::of(any::<u64>()))
        .prop_map(|(duration_seconds, bytes_received, bytes_sent)| session::Counters {
            duration_seconds,
            bytes_received,
            bytes_sent,
        })
        .boxed()
}

fn session_end_reason() -> BoxedStrategy<session::EndReason> {
    use session::EndReason::{
        AccessRevoked, Disconnected, GatewayDeleted, GatewayLost, Superseded,
    };
    prop_oneof![
        Just(Disconnected),
        Just(Superseded),
        Just(GatewayLost),
        Just(GatewayDeleted),
        Just(AccessRevoked),
    ]
    .boxed()
}

/// Any command on a connection.
pub fn session_command() -> BoxedStrategy<session::Command> {
    use session::Command;
    prop_oneof![
        session_beginning().prop_map(Command::Begin),
        (session_end_reason(), time(), option::of(counters())).prop_map(
            |(reason, disconnected_at, counters)| Command::End {
                reason,
                disconnected_at,
                counters
            }
        ),
        (id("gw-"), time(), option::of(counters())).prop_map(
            |(gateway_id, disconnected_at, counters)| Command::Disconnect {
                gateway_id,
                disconnected_at,
                counters
            }
        ),
        time().prop_map(|at| Command::Resume { at }),
    ]
    .boxed()
}

/// Any report of a connection that was over when it came.
pub fn session_begin_ended() -> BoxedStrategy<session::Command> {
    (session_beginning(), session_end_reason(), time())
        .prop_map(|(beginning, reason, disconnected_at)| session::Command::BeginEnded {
            beginning,
            reason,
            disconnected_at,
        })
        .boxed()
}

/// Each event of its kind.
pub fn session_events() -> Vec<BoxedStrategy<session::Event>> {
    use session::Event;
    vec![
        session_beginning().prop_map(Event::Began).boxed(),
        (session_end_reason(), time(), option::of(counters()))
            .prop_map(|(reason, disconnected_at, counters)| Event::Ended {
                reason,
                disconnected_at,
                counters,
            })
            .boxed(),
        time().prop_map(|at| Event::Resumed { at }).boxed(),
        counters().prop_map(|counters| Event::CountersReported { counters }).boxed(),
    ]
}

fn issuer() -> BoxedStrategy<authority::Issuer> {
    let pem = "-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/]{8,64}\n-----END CERTIFICATE-----\n";
    (string(pem), string("[0-9a-f]{64}"), time(), secret())
        .prop_map(|(certificate, fingerprint, not_after, key)| authority::Issuer {
            certificate,
            fingerprint,
            not_after,
            key,
        })
        .boxed()
}

/// Any command on the authority.
pub fn authority_command() -> BoxedStrategy<authority::Command> {
    issuer().prop_map(authority::Command::Create).boxed()
}

/// Each event of its kind.
pub fn authority_events() -> Vec<BoxedStrategy<authority::Event>> {
    vec![issuer().prop_map(authority::Event::Created).boxed()]
}

fn values() -> BoxedStrategy<settings::Values> {
    (0..=800_u32, 0..=200_u32, 0..=1500_u32, 0..=4000_u32, 0..=4000_u32, 0..=4000_u32)
        .prop_map(|(config, login, idle, offline, grace, key)| settings::Values {
            config_lifetime_hours: config,
            login_lifetime_hours: login,
            login_idle_minutes: idle,
            gateway_offline_seconds: offline,
            gateway_lost_grace_seconds: grace,
            api_key_idle_days: key,
        })
        .boxed()
}

/// Any command on the settings.
pub fn settings_command() -> BoxedStrategy<settings::Command> {
    values().prop_map(settings::Command::Change).boxed()
}

/// Each event of its kind.
pub fn settings_events() -> Vec<BoxedStrategy<settings::Event>> {
    vec![values().prop_map(|values| settings::Event::Changed { values }).boxed()]
}

fn login_beginning() -> BoxedStrategy<login::Beginning> {
    use login::Method::{Local, Oidc, Saml};
    let method = prop_oneof![Just(Local), Just(Oidc), Just(Saml)];
    let from = (option::of(personal(ip())), option::of(personal(text())));
    (id("usr-"), method, token_hash(), from, time())
        .prop_map(|(user_id, method, token_hash, (client_ip, user_agent), expires_at)| {
            login::Beginning { user_id, method, token_hash, client_ip, user_agent, expires_at }
        })
        .boxed()
}

fn login_end_reason() -> BoxedStrategy<login::EndReason> {
    use login::EndReason::{
        Logout, PasswordChanged, Revoked, RoleChanged, UserDeleted, UserDisabled,
    };
    prop_oneof![
        Just(Logout),
        Just(Revoked),
        Just(PasswordChanged),
        Just(UserDisabled),
        Just(RoleChanged),
        Just(UserDeleted),
    ]
    .boxed()
}

/// Any command on a login.
pub fn login_command() -> BoxedStrategy<login::Command> {
    use login::Command;
    prop_oneof![
        login_beginning().prop_map(Command::Begin),
        login_end_reason().prop_map(Command::End)
    ]
    .boxed()
}

/// Each event of its kind.
pub fn login_events() -> Vec<BoxedStrategy<login::Event>> {
    use login::Event;
    vec![
        login_beginning().prop_map(Event::Began).boxed(),
        login_end_reason().prop_map(|reason| Event::Ended { reason }).boxed(),
    ]
}

fn denial() -> BoxedStrategy<attempt::Denial> {
    let servers = (option::of(id("gw-")), option::of(id("hub-")));
    let ids = (servers, option::of(id("usr-")), option::of(id("cfg-")));
    let names = (option::of(personal(text())), option::of(personal(text())));
    (
        string("[a-z_]{1,20}"),
        ids,
        names,
        option::of(personal(ip())),
        option::of(text()),
        any::<u32>(),
    )
        .prop_map(|(reason, ids, names, client_ip, target, count)| {
            let ((gateway_id, hub_id), user_id, certificate_id) = ids;
            let (username, common_name) = names;
            attempt::Denial {
                reason,
                gateway_id,
                hub_id,
                user_id,
                certificate_id,
                username,
                common_name,
                client_ip,
                target,
                count,
            }
        })
        .boxed()
}

/// Any command on the record of attempts.
pub fn attempt_command() -> BoxedStrategy<attempt::Command> {
    proptest::strategy::Union::new(attempt_events()).prop_map(attempt::Command::Record).boxed()
}

/// Each event of its kind.
pub fn attempt_events() -> Vec<BoxedStrategy<attempt::Event>> {
    use attempt::Event;
    vec![
        denial().prop_map(Event::LoginFailed).boxed(),
        denial().prop_map(Event::GatewayTokenRejected).boxed(),
        denial().prop_map(Event::VerifyDenied).boxed(),
        denial().prop_map(Event::ConnectDenied).boxed(),
        denial().prop_map(Event::ConfigDenied).boxed(),
        denial().prop_map(Event::RequestForbidden).boxed(),
        denial().prop_map(Event::FenceWouldDeny).boxed(),
        denial().prop_map(Event::RateLimited).boxed(),
    ]
}

/// One strategy for each event that there is.
pub fn events() -> Vec<BoxedStrategy<Event>> {
    fn wrap<E: Into<Event> + Debug + 'static>(
        events: Vec<BoxedStrategy<E>>,
    ) -> impl Iterator<Item = BoxedStrategy<Event>> {
        events.into_iter().map(|event| event.prop_map(Into::into).boxed())
    }
    wrap(access_rule_events())
        .chain(wrap(attempt_events()))
        .chain(wrap(authority_events()))
        .chain(wrap(certificate_events()))
        .chain(wrap(gateway_events()))
        .chain(wrap(geo_fence_events()))
        .chain(wrap(geo_fence_rule_events()))
        .chain(wrap(login_events()))
        .chain(wrap(mesh_hub_events()))
        .chain(wrap(network_events()))
        .chain(wrap(session_events()))
        .chain(wrap(settings_events()))
        .chain(wrap(user_events()))
        .collect()
}
