//! Sample events.

use gatekey_aggregates::certificate::{self, Issuance, Subject};
use gatekey_aggregates::gateway::{self, Configuration};
use gatekey_aggregates::mesh_hub::{self, SpokeDefinition};
use gatekey_aggregates::user::{self, ApiKey, Profile};
use gatekey_aggregates::values::{CryptoProfile, GroupName, RevocationReason, Role, Transport};
use gatekey_aggregates::{
    Event, PersonId, Personal, access_rule, authority, geo_fence_rule, login, network, session,
};
use gatekey_projections::{Sort, Wanted};
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::str::FromStr;

use crate::world::at;

/// A value from its text.
pub fn value<T: FromStr<Err: Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

/// A value of a person that can be read.
pub fn open<T: FromStr<Err: Debug>>(of: &str, text: &str) -> Personal<T> {
    Personal::new(PersonId::from(of.to_owned()), value(text))
}

/// A value of a person that was erased.
pub fn shut<T>(of: &str) -> Personal<T> {
    Personal::Shut { of: PersonId::from(of.to_owned()) }
}

/// SHA-256 as hex, or as good as.
pub fn digest(digit: char) -> String {
    digit.to_string().repeat(64)
}

/// All of a list.
pub fn everything() -> Wanted {
    Wanted { limit: 1000, ..Wanted::default() }
}

/// What has this text in it.
pub fn search(q: &str) -> Wanted {
    Wanted { q: Some(q.to_owned()), ..everything() }
}

pub fn configuration(name: &str) -> Configuration {
    Configuration {
        name: value(name),
        description: value("A gateway"),
        hostname: value("vpn.example.com"),
        public_ip: None,
        port: 1194,
        protocol: Transport::default(),
        vpn_subnet: value("10.8.0.0/24"),
        crypto_profile: CryptoProfile::default(),
        tls_auth: true,
        full_tunnel: false,
        push_dns: true,
        dns_servers: vec![value("10.0.0.53"), value("fd00::53")],
        active: true,
    }
}

pub fn registered(name: &str) -> Event {
    let configuration = configuration(name);
    let token_hash = value(&digest('a'));
    gateway::Event::Registered { configuration, token_hash, tls_auth_key: value("sec-tls") }.into()
}

pub fn updated_gateway(configuration: Configuration) -> Event {
    gateway::Event::Updated { configuration }.into()
}

pub fn user_granted(user_id: &str) -> Event {
    gateway::Event::UserGranted { user_id: value(user_id) }.into()
}

pub fn group_granted(group: &str) -> Event {
    gateway::Event::GroupGranted { group: value(group) }.into()
}

pub fn network_attached(network_id: &str) -> Event {
    gateway::Event::NetworkAttached { network_id: value(network_id) }.into()
}

pub fn hub_configuration(name: &str) -> mesh_hub::Configuration {
    mesh_hub::Configuration {
        name: value(name),
        description: value("A hub"),
        public_endpoint: value("hub.example.com"),
        port: 1194,
        protocol: Transport::default(),
        vpn_subnet: value("10.9.0.0/24"),
        crypto_profile: CryptoProfile::default(),
        tls_auth: true,
        local_networks: vec![value("10.1.0.0/16"), value("fd00:1::/32")],
    }
}

pub fn created_hub(name: &str) -> Event {
    let configuration = hub_configuration(name);
    mesh_hub::Event::Created { configuration, tls_auth_key: value("sec-hub") }.into()
}

pub fn hub_granted_to_user(user_id: &str) -> Event {
    mesh_hub::Event::UserGranted { user_id: value(user_id) }.into()
}

pub fn hub_granted_to_group(group: &str) -> Event {
    mesh_hub::Event::GroupGranted { group: value(group) }.into()
}

pub fn network_attached_to_hub(network_id: &str) -> Event {
    mesh_hub::Event::NetworkAttached { network_id: value(network_id) }.into()
}

pub fn spoke_definition(name: &str, cidr: &str) -> SpokeDefinition {
    SpokeDefinition {
        name: value(name),
        description: value("A site"),
        local_networks: vec![value(cidr)],
    }
}

pub fn spoke_added(id: &str, definition: SpokeDefinition) -> Event {
    mesh_hub::Event::SpokeAdded { spoke_id: value(id), definition }.into()
}

pub fn spoke_removed(id: &str) -> Event {
    mesh_hub::Event::SpokeRemoved { spoke_id: value(id) }.into()
}

pub fn deleted_hub() -> Event {
    mesh_hub::Event::Deleted {}.into()
}

pub fn profile(id: &str, username: &str) -> Profile {
    Profile {
        username: open(id, username),
        email: open(id, &format!("{username}@example.com")),
        name: Some(open(id, &format!("The {username}"))),
    }
}

pub fn groups(names: &[&str]) -> BTreeSet<GroupName> {
    names.iter().map(|name| value(name)).collect()
}

pub fn created_user(id: &str, username: &str, in_groups: &[&str]) -> Event {
    user::Event::Created {
        profile: profile(id, username),
        role: Role::Member,
        groups: groups(in_groups),
        password: None,
        must_change_password: false,
    }
    .into()
}

pub fn groups_changed(names: &[&str]) -> Event {
    user::Event::GroupsChanged { groups: groups(names) }.into()
}

pub fn deleted_user() -> Event {
    user::Event::Deleted {}.into()
}

pub fn api_key(id: &str, hash: char, expires: Option<i64>) -> Event {
    user::Event::ApiKeyCreated {
        api_key: ApiKey {
            id: value(id),
            name: value("ci"),
            prefix: "gk_abc".to_owned(),
            key_hash: value(&digest(hash)),
            scopes: vec![value("read"), value("write:networks")],
            expires_at: expires.map(at),
            source_cidrs: vec![value("10.0.0.0/8"), value("fd00::/8")],
            created_by: Some(value("key-maker")),
        },
    }
    .into()
}

pub fn network_definition(name: &str, cidr: &str) -> network::Definition {
    network::Definition { name: value(name), cidr: value(cidr), description: value("") }
}

pub fn created_network(name: &str, cidr: &str) -> Event {
    network::Event::Created { definition: network_definition(name, cidr) }.into()
}

pub fn deleted_network() -> Event {
    network::Event::Deleted {}.into()
}

pub fn rule_definition(name: &str) -> access_rule::Definition {
    access_rule::Definition {
        name: value(name),
        description: value(""),
        target: access_rule::Target::Cidr(value("10.1.0.0/16")),
        port_range: Some(value("8000-8100")),
        protocol: Some(access_rule::RuleProtocol::Tcp),
        network_id: Some(value("net-a")),
        active: true,
    }
}

pub fn created_rule(definition: access_rule::Definition) -> Event {
    access_rule::Event::Created { definition }.into()
}

pub fn user_assigned(user_id: &str) -> Event {
    access_rule::Event::UserAssigned { user_id: value(user_id) }.into()
}

pub fn group_assigned(group: &str) -> Event {
    access_rule::Event::GroupAssigned { group: value(group) }.into()
}

pub fn fence_definition(name: &str, cidr: &str) -> geo_fence_rule::Definition {
    geo_fence_rule::Definition { name: value(name), cidr: value(cidr), description: value("") }
}

pub fn created_fence_rule(name: &str, cidr: &str) -> Event {
    geo_fence_rule::Event::Created { definition: fence_definition(name, cidr) }.into()
}

pub fn fenced_group(group: &str) -> Event {
    geo_fence_rule::Event::GroupAttached { group: value(group) }.into()
}

pub fn fenced_user(user_id: &str) -> Event {
    geo_fence_rule::Event::UserAttached { user_id: value(user_id) }.into()
}

pub fn client_certificate(user_id: &str, serial: &str, not_after: i64) -> Issuance {
    Issuance {
        subject: Subject::Client {
            user_id: value(user_id),
            gateway_id: value("gw-a"),
            common_name: open(user_id, "ada@example.com"),
            token_hash: value(&digest('c')),
            bundle: value("sec-bundle"),
        },
        serial: value(serial),
        not_before: at(0),
        not_after: at(not_after),
        fingerprint: digest('f'),
    }
}

pub fn issued(user_id: &str, serial: &str, not_after: i64) -> Event {
    certificate::Event::Issued(client_certificate(user_id, serial, not_after)).into()
}

pub fn issued_to_server(gateway_id: &str, serial: &str, not_after: i64) -> Event {
    let subject = Subject::Server { gateway_id: value(gateway_id), bundle: value("sec-server") };
    certificate::Event::Issued(Issuance {
        subject,
        ..client_certificate("usr-a", serial, not_after)
    })
    .into()
}

/// A certificate of something at a hub.
pub fn issued_at_hub(subject: Subject, serial: &str, not_after: i64) -> Event {
    certificate::Event::Issued(Issuance {
        subject,
        ..client_certificate("usr-a", serial, not_after)
    })
    .into()
}

pub fn hub_client(user_id: &str) -> Subject {
    Subject::HubClient {
        user_id: value(user_id),
        hub_id: value("hub-a"),
        common_name: value(&format!("hub-a.{user_id}")),
        bundle: value("sec-mesh"),
    }
}

pub fn hub_server() -> Subject {
    Subject::HubServer { hub_id: value("hub-a"), bundle: value("sec-server") }
}

pub fn spoke_subject(spoke_id: &str) -> Subject {
    Subject::Spoke {
        hub_id: value("hub-a"),
        spoke_id: value(spoke_id),
        common_name: value(&format!("hub-a.{spoke_id}")),
    }
}

pub fn revoked(reason: RevocationReason) -> Event {
    certificate::Event::Revoked { reason }.into()
}

pub fn beginning(user_id: &str, connected_at: i64) -> session::Beginning {
    session::Beginning {
        gateway_id: value("gw-a"),
        user_id: value(user_id),
        certificate_id: value("cfg-a"),
        serial: value("5a0f"),
        common_name: open(user_id, "ada@example.com"),
        client_ip: Some(open(user_id, "192.0.2.7")),
        vpn_ip: Some(value("10.8.0.2")),
        vpn_ipv6: None,
        connected_at: at(connected_at),
    }
}

pub fn connected(user_id: &str, connected_at: i64) -> Event {
    session::Event::Began(beginning(user_id, connected_at)).into()
}

pub fn ended(
    reason: session::EndReason,
    disconnected_at: i64,
    counters: Option<session::Counters>,
) -> Event {
    session::Event::Ended { reason, disconnected_at: at(disconnected_at), counters }.into()
}

pub fn counters(duration: u64, received: u64, sent: u64) -> session::Counters {
    session::Counters {
        duration_seconds: Some(duration),
        bytes_received: Some(received),
        bytes_sent: Some(sent),
    }
}

pub fn signed_in(user_id: &str, hash: char, expires_at: i64) -> Event {
    login::Event::Began(login::Beginning {
        user_id: value(user_id),
        method: login::Method::Oidc,
        token_hash: value(&digest(hash)),
        client_ip: Some(open(user_id, "192.0.2.7")),
        user_agent: Some(open(user_id, "curl/8")),
        expires_at: at(expires_at),
    })
    .into()
}

pub fn signed_out(reason: login::EndReason) -> Event {
    login::Event::Ended { reason }.into()
}

pub fn authority_created() -> Event {
    authority::Event::Created(authority::Issuer {
        certificate: "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n".to_owned(),
        fingerprint: digest('d'),
        not_after: at(1_000_000),
        key: value("sec-ca"),
    })
    .into()
}

/// All of a list in this order, the greatest first.
pub fn sorted_by(by: &'static str) -> Wanted {
    Wanted { sort: Some(Sort { by, descending: true }), ..everything() }
}
