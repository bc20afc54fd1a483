//! The state as the views have it, so that a start need not fold the whole log.
//!
//! A row that does not read as what we write is damage: the server then says so and does not start.

use super::fences::FenceEntry;
use super::mesh::Hubs;
use super::sessions::SessionEntry;
use super::state::{
    ApiKeyEntry, Authority, CertificateEntry, EXPIRED_KEPT, GatewayEntry, LOST_KEPT, LoginEntry,
    NetworkEntry, RuleEntry, State, UserEntry,
};
use chrono::{DateTime, Utc};
use gatekey_aggregates::access_rule::{Definition, Target, TargetType};
use gatekey_aggregates::certificate::Subject;
use gatekey_aggregates::gateway::Configuration;
use gatekey_aggregates::user::{ApiKey, Profile};
use gatekey_aggregates::values::{GatewayId, UserId, canonical_ip, from_micros};
use gatekey_aggregates::{PersonId, Personal, geo_fence_rule};
use gatekey_projections::Db;
use gatekey_projections::access_rules::AccessRuleRow;
use gatekey_projections::api_keys::ApiKeyRow;
use gatekey_projections::certificates::{CLIENT, CertificateRow, SERVER, SPOKE};
use gatekey_projections::connections::ConnectionRow;
use gatekey_projections::gateways::GatewayRow;
use gatekey_projections::geo_fence_rules::GeoFenceRuleRow;
use gatekey_projections::index::{Since, Snapshot, snapshot};
use gatekey_projections::logins::LoginRow;
use gatekey_projections::users::UserRow;
use serde::de::DeserializeOwned;
use std::collections::{BTreeSet, HashSet};
use std::fmt::Display;
use std::net::IpAddr;
use std::str::FromStr;

/// Why the state can't be had.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The database did not answer.
    #[error("the views can't be read: {0}")]
    Database(#[from] sqlx::Error),
    /// A row is not what we write.
    #[error(
        "{table} {id} in the views can't be read ({why}); run `gatekey-server projections rebuild`"
    )]
    Damaged {
        /// Which table.
        table: &'static str,
        /// Which row.
        id: String,
        /// What is wrong.
        why: String,
    },
}

/// Loads the state, up to the end of the log.
pub async fn load(db: &Db, now: DateTime<Utc>) -> Result<State, LoadError> {
    let since = Since {
        certificates: now - EXPIRED_KEPT,
        lost_connections: now - LOST_KEPT,
        logins: now,
        api_keys: now,
    };
    assemble(snapshot(db, since).await?)
}

/// What is wrong with a row.
pub(super) type Wrong = String;

pub(super) fn read<T: FromStr<Err: Display>>(text: &str) -> Result<T, Wrong> {
    text.parse().map_err(|error| format!("`{text}` {error}"))
}

pub(super) fn maybe<T: FromStr<Err: Display>>(text: Option<&String>) -> Result<Option<T>, Wrong> {
    text.map(|text| read(text)).transpose()
}

fn address(text: Option<&String>) -> Result<Option<IpAddr>, Wrong> {
    Ok(maybe(text)?.map(canonical_ip))
}

/// Reads one of the enums that are stored by their names in JSON.
pub(super) fn named<T: DeserializeOwned>(text: &str) -> Result<T, Wrong> {
    serde_json::from_value(text.into()).map_err(|error| error.to_string())
}

pub(super) fn small<T: TryFrom<i64>>(number: i64) -> Result<T, Wrong> {
    T::try_from(number).map_err(|_| format!("{number} is out of range"))
}

fn personal<T: FromStr<Err: Display>>(
    of: &UserId,
    text: Option<&String>,
) -> Result<Personal<T>, Wrong> {
    let of = PersonId::user(of);
    Ok(match maybe(text)? {
        Some(value) => Personal::new(of, value),
        None => Personal::Shut { of },
    })
}

pub(super) fn damaged<'a>(table: &'static str, id: &'a str) -> impl Fn(Wrong) -> LoadError + 'a {
    move |why| LoadError::Damaged { table, id: id.to_owned(), why }
}

impl LoadError {
    /// A row is not what we write.
    pub(crate) fn damaged(table: &'static str, id: &str, why: impl ToString) -> Self {
        Self::Damaged { table, id: id.to_owned(), why: why.to_string() }
    }

    /// Reads a column of a row.
    pub(crate) fn read<T: FromStr<Err: Display>>(
        table: &'static str,
        id: &str,
        text: &str,
    ) -> Result<T, Self> {
        read(text).map_err(damaged(table, id))
    }
}

/// What an admin wrote of a gateway.
pub(crate) fn gateway_configuration(row: &GatewayRow) -> Result<Configuration, LoadError> {
    configuration(row).map_err(damaged("gateways", &row.id))
}

/// What an admin wrote of a rule of the geo-fence.
pub(crate) fn fence_definition(
    row: &GeoFenceRuleRow,
) -> Result<geo_fence_rule::Definition, LoadError> {
    fence_rule(row).map_err(damaged("geo_fence_rules", &row.id))
}

/// What an admin wrote of an access rule.
pub(crate) fn rule_definition(row: &AccessRuleRow) -> Result<Definition, LoadError> {
    rule(row).map_err(damaged("access_rules", &row.id))
}

fn assemble(snapshot: Snapshot) -> Result<State, LoadError> {
    let mut state = State {
        position: snapshot.position,
        // A list that was signed before may lack any revocation up to here.
        last_revocation: snapshot.position,
        settings: snapshot.settings,
        ..State::default()
    };
    if let Some(row) = &snapshot.authority {
        state.authority = Some(Authority {
            certificate: row.certificate.clone(),
            fingerprint: row.fingerprint.clone(),
            key: read(&row.key).map_err(damaged("authorities", &row.id))?,
        });
    }
    // Before the gateways: what an agent must have depends on its certificate's serial.
    for row in &snapshot.certificates {
        let entry = certificate(row).map_err(damaged("certificates", &row.id))?;
        state.insert_certificate(entry);
    }
    for row in &snapshot.gateways {
        let failed = damaged("gateways", &row.id);
        let entry = gateway(row).map_err(&failed)?;
        state.insert_gateway(read(&row.id).map_err(&failed)?, entry);
    }
    for row in &snapshot.gateway_users {
        let failed = damaged("gateway_users", &row.gateway_id);
        let id: GatewayId = read(&row.gateway_id).map_err(&failed)?;
        if let Some(entry) = state.gateways.get_mut(&id) {
            entry.users.insert(read(&row.user_id).map_err(&failed)?);
        }
    }
    for row in &snapshot.gateway_groups {
        let failed = damaged("gateway_groups", &row.gateway_id);
        let id: GatewayId = read(&row.gateway_id).map_err(&failed)?;
        if let Some(entry) = state.gateways.get_mut(&id) {
            entry.groups.insert(read(&row.group_name).map_err(&failed)?);
        }
    }
    for row in &snapshot.gateway_networks {
        let failed = damaged("gateway_networks", &row.gateway_id);
        let id: GatewayId = read(&row.gateway_id).map_err(&failed)?;
        if let Some(entry) = state.gateways.get_mut(&id) {
            entry.networks.insert(read(&row.network_id).map_err(&failed)?);
        }
    }
    state.hubs = Hubs::load(&snapshot)?;
    for row in &snapshot.users {
        let failed = damaged("users", &row.id);
        let (id, entry) = user(row).map_err(&failed)?;
        state.users.insert(id, entry);
    }
    for row in &snapshot.user_groups {
        let failed = damaged("user_groups", &row.user_id);
        let id: UserId = read(&row.user_id).map_err(&failed)?;
        if let Some(entry) = state.users.get_mut(&id) {
            entry.groups.insert(read(&row.group_name).map_err(&failed)?);
        }
    }
    for row in &snapshot.networks {
        let failed = damaged("networks", &row.id);
        let entry = NetworkEntry {
            name: read(&row.name).map_err(&failed)?,
            cidr: read(&row.cidr).map_err(&failed)?,
        };
        state.networks.insert(read(&row.id).map_err(&failed)?, entry);
    }
    for row in &snapshot.access_rules {
        let failed = damaged("access_rules", &row.id);
        let definition = rule(row).map_err(&failed)?;
        let entry = RuleEntry { definition, users: HashSet::new(), groups: HashSet::new() };
        state.rules.insert(read(&row.id).map_err(&failed)?, entry);
    }
    for row in &snapshot.access_rule_users {
        let failed = damaged("access_rule_users", &row.access_rule_id);
        let id = read(&row.access_rule_id).map_err(&failed)?;
        state.assign_user(&id, read(&row.user_id).map_err(&failed)?);
    }
    for row in &snapshot.access_rule_groups {
        let failed = damaged("access_rule_groups", &row.access_rule_id);
        let id = read(&row.access_rule_id).map_err(&failed)?;
        state.assign_group(&id, read(&row.group_name).map_err(&failed)?);
    }
    state.fences.settings = snapshot.geo_fence;
    for row in &snapshot.geo_fence_rules {
        let failed = damaged("geo_fence_rules", &row.id);
        let id = read(&row.id).map_err(&failed)?;
        let entry = FenceEntry::new(fence_rule(row).map_err(&failed)?);
        state.fences.insert(id, entry);
        if row.global_since.is_some() {
            state.fences.attach_globally(&read(&row.id).map_err(&failed)?);
        }
    }
    for row in &snapshot.geo_fence_rule_users {
        let failed = damaged("geo_fence_rule_users", &row.geo_fence_rule_id);
        let id = read(&row.geo_fence_rule_id).map_err(&failed)?;
        state.fences.attach_user(&id, read(&row.user_id).map_err(&failed)?);
    }
    for row in &snapshot.geo_fence_rule_groups {
        let failed = damaged("geo_fence_rule_groups", &row.geo_fence_rule_id);
        let id = read(&row.geo_fence_rule_id).map_err(&failed)?;
        state.fences.attach_group(&id, read(&row.group_name).map_err(&failed)?);
    }
    for row in &snapshot.connections {
        let entry = session(row).map_err(damaged("connections", &row.id))?;
        state.sessions.insert(entry);
    }
    for row in &snapshot.logins {
        let failed = damaged("logins", &row.id);
        let entry = login(row).map_err(&failed)?;
        state.insert_login(read(&row.token_hash).map_err(&failed)?, entry);
    }
    for row in &snapshot.api_keys {
        let entry = api_key(row).map_err(damaged("api_keys", &row.id))?;
        state.insert_api_key(entry);
    }
    Ok(state)
}

fn configuration(row: &GatewayRow) -> Result<Configuration, Wrong> {
    Ok(Configuration {
        name: read(&row.name)?,
        description: read(&row.description)?,
        hostname: read(&row.hostname)?,
        public_ip: maybe(row.public_ip.as_ref())?,
        port: small(row.port)?,
        protocol: named(&row.protocol)?,
        vpn_subnet: read(&row.vpn_subnet)?,
        crypto_profile: named(&row.crypto_profile)?,
        tls_auth: row.tls_auth,
        full_tunnel: row.full_tunnel,
        push_dns: row.push_dns,
        dns_servers: row.dns_servers.iter().map(|it| read(it)).collect::<Result<_, _>>()?,
        active: row.active,
    })
}

fn gateway(row: &GatewayRow) -> Result<GatewayEntry, Wrong> {
    Ok(GatewayEntry {
        configuration: configuration(row)?,
        token_hash: read(&row.token_hash)?,
        tls_auth_key: read(&row.tls_auth_key)?,
        users: HashSet::new(),
        groups: HashSet::new(),
        networks: HashSet::new(),
        online: row.online,
        reported_ip: maybe(row.reported_ip.as_ref())?,
        server_certificate: maybe(row.server_certificate.as_ref())?,
        reprovisions: small(row.reprovisions)?,
        config_version: String::new(),
    })
}

fn user(row: &UserRow) -> Result<(UserId, UserEntry), Wrong> {
    let id: UserId = read(&row.id)?;
    let entry = UserEntry {
        profile: Profile {
            username: personal(&id, row.username.as_ref())?,
            email: personal(&id, row.email.as_ref())?,
            // A name that was never given and one that was erased look alike here, and mean the
            // same to those who ask the index.
            name: row.name.as_ref().map(|it| personal(&id, Some(it))).transpose()?,
        },
        role: named(&row.role)?,
        active: row.active,
        groups: BTreeSet::new(),
        password: maybe(row.password.as_ref())?,
        must_change_password: row.must_change_password,
    };
    Ok((id, entry))
}

fn rule(row: &AccessRuleRow) -> Result<Definition, Wrong> {
    let kind: TargetType = named(&row.target_type)?;
    Ok(Definition {
        name: read(&row.name)?,
        description: read(&row.description)?,
        target: Target::parse(kind, &row.value).map_err(|error| error.to_string())?,
        port_range: maybe(row.port_range.as_ref())?,
        protocol: row.protocol.as_deref().map(named).transpose()?,
        network_id: maybe(row.network_id.as_ref())?,
        active: row.active,
    })
}

fn fence_rule(row: &GeoFenceRuleRow) -> Result<geo_fence_rule::Definition, Wrong> {
    Ok(geo_fence_rule::Definition {
        name: read(&row.name)?,
        cidr: read(&row.cidr)?,
        description: read(&row.description)?,
    })
}

fn certificate(row: &CertificateRow) -> Result<CertificateEntry, Wrong> {
    let revoked = match (row.revoked_at, &row.reason) {
        (Some(at), Some(reason)) => Some((from_micros(at), named(reason)?)),
        _ => None,
    };
    Ok(CertificateEntry {
        id: read(&row.id)?,
        subject: subject(row)?,
        serial: read(&row.serial)?,
        not_before: from_micros(row.not_before),
        not_after: from_micros(row.not_after),
        revoked,
    })
}

fn subject(row: &CertificateRow) -> Result<Subject, Wrong> {
    let lacks = |what: &str| format!("a {} certificate lacks its {what}", row.kind);
    let owner = || read(row.user_id.as_ref().ok_or_else(|| lacks("owner"))?);
    let common_name = || read(row.common_name.as_ref().ok_or_else(|| lacks("common name"))?);
    let bundle = || read(row.bundle.as_ref().ok_or_else(|| lacks("bundle"))?);
    match (row.kind.as_str(), &row.gateway_id, &row.hub_id) {
        (CLIENT, Some(gateway_id), None) => {
            let user_id: UserId = owner()?;
            Ok(Subject::Client {
                common_name: personal(&user_id, row.common_name.as_ref())?,
                token_hash: read(row.token_hash.as_ref().ok_or_else(|| lacks("password"))?)?,
                user_id,
                gateway_id: read(gateway_id)?,
                bundle: bundle()?,
            })
        }
        (SERVER, Some(gateway_id), None) => {
            Ok(Subject::Server { gateway_id: read(gateway_id)?, bundle: bundle()? })
        }
        (CLIENT, None, Some(hub_id)) => Ok(Subject::HubClient {
            user_id: owner()?,
            hub_id: read(hub_id)?,
            common_name: common_name()?,
            bundle: bundle()?,
        }),
        (SERVER, None, Some(hub_id)) => {
            Ok(Subject::HubServer { hub_id: read(hub_id)?, bundle: bundle()? })
        }
        (SPOKE, None, Some(hub_id)) => Ok(Subject::Spoke {
            hub_id: read(hub_id)?,
            spoke_id: read(row.spoke_id.as_ref().ok_or_else(|| lacks("spoke"))?)?,
            common_name: common_name()?,
        }),
        _ => Err(format!("there is no such kind of certificate as `{}` of this", row.kind)),
    }
}

fn session(row: &ConnectionRow) -> Result<SessionEntry, Wrong> {
    Ok(SessionEntry {
        id: read(&row.id)?,
        gateway_id: read(&row.gateway_id)?,
        user_id: read(&row.user_id)?,
        certificate_id: read(&row.certificate_id)?,
        serial: read(&row.serial)?,
        common_name: maybe(row.common_name.as_ref())?,
        client_ip: address(row.client_ip.as_ref())?,
        vpn_ip: address(row.vpn_ip.as_ref())?,
        vpn_ipv6: address(row.vpn_ipv6.as_ref())?,
        connected_at: from_micros(row.connected_at),
        lost_at: row.disconnected_at.map(from_micros),
        began: row.position,
    })
}

fn login(row: &LoginRow) -> Result<LoginEntry, Wrong> {
    Ok(LoginEntry {
        id: read(&row.id)?,
        user_id: read(&row.user_id)?,
        method: named(&row.method)?,
        began_at: from_micros(row.began_at),
        expires_at: from_micros(row.expires_at),
    })
}

fn api_key(row: &ApiKeyRow) -> Result<ApiKeyEntry, Wrong> {
    Ok(ApiKeyEntry {
        user_id: read(&row.user_id)?,
        key: ApiKey {
            id: read(&row.id)?,
            name: read(&row.name)?,
            prefix: row.prefix.clone(),
            key_hash: read(&row.key_hash)?,
            scopes: row.scopes.iter().map(|it| read(it)).collect::<Result<_, _>>()?,
            expires_at: row.expires_at.map(from_micros),
            source_cidrs: row.source_cidrs.iter().map(|it| read(it)).collect::<Result<_, _>>()?,
            created_by: maybe(row.created_by.as_ref())?,
        },
    })
}
