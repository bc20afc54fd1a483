//! What the hot path needs to know, folded from events in memory.
//!
//! A pure function of the log, like a view: [`State::apply`] is its fold. Verify, client-rules,
//! all-rules, heartbeat and every request's authentication read it and no database.

use super::fences::Fences;
use super::mesh::Hubs;
use super::sessions::{SessionEntry, Sessions};
use crate::openvpn::{ServerSettings, config_version};
use chrono::{DateTime, TimeDelta, Utc};
use gatekey_aggregates::access_rule::{self, Definition};
use gatekey_aggregates::certificate::{self, Subject};
use gatekey_aggregates::gateway::{self, Configuration};
use gatekey_aggregates::login::{self, Method};
use gatekey_aggregates::session::{self, EndReason};
use gatekey_aggregates::settings::Values;
use gatekey_aggregates::user::{self, ApiKey, Profile};
use gatekey_aggregates::values::{
    AccessRuleId, ApiKeyId, CertificateId, Cidr, CommonName, GatewayId, GeoFenceRuleId, GroupName,
    LoginId, NetworkId, ResourceName, RevocationReason, Role, SecretId, Serial, SessionId,
    TokenHash, UserId, canonical_ip,
};
use gatekey_aggregates::{Event, Recorded, authority, geo_fence, network, settings};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::Hash;
use std::net::IpAddr;

/// How long an expired certificate is still told from an unknown one.
pub(super) const EXPIRED_KEPT: TimeDelta = TimeDelta::days(7);
/// How long a connection that was lost with its gateway may still come back.
pub(super) const LOST_KEPT: TimeDelta = TimeDelta::days(1);

/// A gateway that was not deleted.
#[derive(Clone, Debug, PartialEq)]
pub struct GatewayEntry {
    /// Its settings.
    pub configuration: Configuration,
    /// Hash of its agent's token.
    pub token_hash: TokenHash,
    /// Where its tls-auth key is kept.
    pub tls_auth_key: SecretId,
    /// Users who were granted it by themselves.
    pub users: HashSet<UserId>,
    /// Groups whose members were granted it.
    pub groups: HashSet<GroupName>,
    /// Networks that can be reached through it.
    pub networks: HashSet<NetworkId>,
    /// Whether it is known to be online.
    pub online: bool,
    /// The address that its agent reports.
    pub reported_ip: Option<IpAddr>,
    /// Its server certificate.
    pub server_certificate: Option<CertificateId>,
    /// How often it was asked to provision anew.
    pub reprovisions: u64,
    /// Hash of all that shapes its server's configuration.
    pub config_version: String,
}

/// A user who was not deleted.
#[derive(Clone, Debug, PartialEq)]
pub struct UserEntry {
    /// Names and address, as far as they can still be read.
    pub profile: Profile,
    /// What they may do.
    pub role: Role,
    /// Not disabled.
    pub active: bool,
    /// Their groups.
    pub groups: BTreeSet<GroupName>,
    /// Where their password hash is kept, if they have a password.
    pub password: Option<SecretId>,
    /// Whether they must change it before anything else.
    pub must_change_password: bool,
}

/// A network that was not deleted.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkEntry {
    /// Its name.
    pub name: ResourceName,
    /// Its addresses.
    pub cidr: Cidr,
}

/// An access rule that was not deleted.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleEntry {
    /// What it allows.
    pub definition: Definition,
    /// Users it is assigned to.
    pub users: HashSet<UserId>,
    /// Groups it is assigned to.
    pub groups: HashSet<GroupName>,
}

/// A certificate that has not long expired.
#[derive(Clone, Debug, PartialEq)]
pub struct CertificateEntry {
    /// Its id.
    pub id: CertificateId,
    /// Whose it is.
    pub subject: Subject,
    /// Its serial.
    pub serial: Serial,
    /// From when it is valid.
    pub not_before: DateTime<Utc>,
    /// Until when it is valid.
    pub not_after: DateTime<Utc>,
    /// When and why it was revoked.
    pub revoked: Option<(DateTime<Utc>, RevocationReason)>,
}

impl CertificateEntry {
    /// The gateway whose server it proves, where it is a gateway's.
    pub fn server_of(&self) -> Option<&GatewayId> {
        match &self.subject {
            Subject::Server { gateway_id, .. } => Some(gateway_id),
            _ => None,
        }
    }

    /// The common name, where it is a gateway's client's and can still be read.
    pub fn common_name(&self) -> Option<&CommonName> {
        match &self.subject {
            Subject::Client { common_name, .. } => common_name.open(),
            _ => None,
        }
    }
}

/// A web login that has not ended.
#[derive(Clone, Debug, PartialEq)]
pub struct LoginEntry {
    /// Its id.
    pub id: LoginId,
    /// Who.
    pub user_id: UserId,
    /// How they proved it.
    pub method: Method,
    /// When it began.
    pub began_at: DateTime<Utc>,
    /// When it ends at the latest.
    pub expires_at: DateTime<Utc>,
}

/// An API key that was not revoked.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiKeyEntry {
    /// Whose.
    pub user_id: UserId,
    /// What it may do.
    pub key: ApiKey,
}

/// The certificate authority.
#[derive(Clone, Debug, PartialEq)]
pub struct Authority {
    /// Its certificate, PEM.
    pub certificate: String,
    /// SHA-256 of it.
    pub fingerprint: String,
    /// Where its key is kept.
    pub key: SecretId,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// The last event that was folded in.
    pub position: i64,
    /// By id.
    pub gateways: HashMap<GatewayId, GatewayEntry>,
    /// By hash of their token.
    pub gateways_by_token: HashMap<TokenHash, GatewayId>,
    /// Mesh hubs.
    pub hubs: Hubs,
    /// By id.
    pub users: HashMap<UserId, UserEntry>,
    /// By id.
    pub networks: HashMap<NetworkId, NetworkEntry>,
    /// By id; ordered, so that answers are.
    pub rules: BTreeMap<AccessRuleId, RuleEntry>,
    /// Their ids by a user whom they are assigned to.
    pub rules_by_user: HashMap<UserId, BTreeSet<AccessRuleId>>,
    /// Their ids by a group that they are assigned to.
    pub rules_by_group: HashMap<GroupName, BTreeSet<AccessRuleId>>,
    /// By serial.
    pub certificates: HashMap<Serial, CertificateEntry>,
    /// Serials by id.
    pub serials: HashMap<CertificateId, Serial>,
    /// Serials by the hash of the config's own password.
    pub serials_by_token: HashMap<TokenHash, Serial>,
    /// Serials of clients' certificates by gateway and common name, the oldest first.
    pub serials_by_name: HashMap<(GatewayId, CommonName), Vec<Serial>>,
    /// Serials of clients' certificates by their owner.
    pub serials_by_owner: HashMap<UserId, BTreeSet<Serial>>,
    /// The geo-fence.
    pub fences: Fences,
    /// Open connections, and those lost with their gateway.
    pub sessions: Sessions,
    /// By hash of their token.
    pub logins: HashMap<TokenHash, LoginEntry>,
    /// Their hashes by id.
    pub login_tokens: HashMap<LoginId, TokenHash>,
    /// By hash.
    pub api_keys: HashMap<TokenHash, ApiKeyEntry>,
    /// Their hashes by id.
    pub api_key_hashes: HashMap<ApiKeyId, TokenHash>,
    /// Position of the last revocation.
    pub last_revocation: i64,
    /// What admins have set.
    pub settings: Values,
    /// None before the first start.
    pub authority: Option<Authority>,
}

impl State {
    /// Folds the next event in. An event that is in already is passed over.
    pub fn apply(&mut self, recorded: &Recorded) {
        if recorded.position <= self.position {
            return;
        }
        self.position = recorded.position;
        match &recorded.event {
            Event::Gateway(event) => self.apply_gateway(&recorded.aggregate_id, event),
            Event::User(event) => self.apply_user(&recorded.aggregate_id, event),
            Event::MeshHub(event) => self.hubs.apply(&recorded.aggregate_id, event),
            Event::Network(event) => self.apply_network(&recorded.aggregate_id, event),
            Event::AccessRule(event) => self.apply_rule(&recorded.aggregate_id, event),
            Event::Certificate(event) => self.apply_certificate(recorded, event),
            Event::Session(event) => self.apply_session(recorded, event),
            Event::Login(event) => self.apply_login(recorded, event),
            Event::Authority(authority::Event::Created(issuer)) => {
                self.authority = Some(Authority {
                    certificate: issuer.certificate.clone(),
                    fingerprint: issuer.fingerprint.clone(),
                    key: issuer.key.clone(),
                });
                let all: Vec<GatewayId> = self.gateways.keys().cloned().collect();
                for id in &all {
                    self.refresh_config_version(id);
                }
            }
            Event::Settings(settings::Event::Changed { values }) => self.settings = *values,
            Event::GeoFence(geo_fence::Event::Changed { values }) => self.fences.settings = *values,
            Event::GeoFenceRule(event) => {
                if let Ok(id) = recorded.aggregate_id.parse::<GeoFenceRuleId>() {
                    self.fences.apply(id, event);
                }
            }
            Event::Attempt(_) => {}
        }
    }

    fn apply_gateway(&mut self, id: &str, event: &gateway::Event) {
        let Ok(id) = id.parse::<GatewayId>() else { return };
        if let gateway::Event::Registered { configuration, token_hash, tls_auth_key } = event {
            self.insert_gateway(
                id,
                GatewayEntry {
                    configuration: configuration.clone(),
                    token_hash: token_hash.clone(),
                    tls_auth_key: tls_auth_key.clone(),
                    users: HashSet::new(),
                    groups: HashSet::new(),
                    networks: HashSet::new(),
                    online: false,
                    reported_ip: None,
                    server_certificate: None,
                    reprovisions: 0,
                    config_version: String::new(),
                },
            );
            return;
        }
        let Some(entry) = self.gateways.get_mut(&id) else { return };
        match event {
            gateway::Event::Registered { .. } => {}
            gateway::Event::Updated { configuration } => {
                entry.configuration = configuration.clone();
            }
            gateway::Event::UserGranted { user_id } => {
                entry.users.insert(user_id.clone());
            }
            gateway::Event::UserRevoked { user_id } => {
                entry.users.remove(user_id);
            }
            gateway::Event::GroupGranted { group } => {
                entry.groups.insert(group.clone());
            }
            gateway::Event::GroupRevoked { group } => {
                entry.groups.remove(group);
            }
            gateway::Event::NetworkAttached { network_id } => {
                entry.networks.insert(network_id.clone());
            }
            gateway::Event::NetworkDetached { network_id } => {
                entry.networks.remove(network_id);
            }
            gateway::Event::TokenRotated { token_hash } => {
                let old = std::mem::replace(&mut entry.token_hash, token_hash.clone());
                self.gateways_by_token.remove(&old);
                self.gateways_by_token.insert(token_hash.clone(), id.clone());
            }
            gateway::Event::ReprovisionRequested {} => {
                entry.reprovisions += 1;
                entry.server_certificate = None;
            }
            gateway::Event::ServerCertificateInstalled { certificate_id } => {
                entry.server_certificate = Some(certificate_id.clone());
            }
            gateway::Event::CameOnline {} => entry.online = true,
            gateway::Event::WentOffline {} => entry.online = false,
            gateway::Event::AddressChanged { public_ip } => entry.reported_ip = Some(*public_ip),
            gateway::Event::Deleted {} => {
                if let Some(entry) = self.gateways.remove(&id) {
                    self.gateways_by_token.remove(&entry.token_hash);
                }
            }
        }
        self.refresh_config_version(&id);
    }

    /// Adds a gateway as it is, with what follows from it.
    pub fn insert_gateway(&mut self, id: GatewayId, entry: GatewayEntry) {
        self.gateways_by_token.insert(entry.token_hash.clone(), id.clone());
        self.gateways.insert(id.clone(), entry);
        self.refresh_config_version(&id);
    }

    /// Works out anew what an agent must have to be up to date.
    pub fn refresh_config_version(&mut self, id: &GatewayId) {
        let Some(entry) = self.gateways.get(id) else { return };
        let certificate = entry.server_certificate.as_ref().and_then(|it| self.certificate(it));
        let serial = certificate.filter(|it| it.server_of() == Some(id)).map(|it| &it.serial);
        let configuration = &entry.configuration;
        let version = config_version(&ServerSettings {
            gateway_id: id,
            port: configuration.port,
            transport: configuration.protocol,
            vpn_subnet: configuration.vpn_subnet,
            crypto_profile: configuration.crypto_profile,
            tls_auth: configuration.tls_auth.then_some(&entry.tls_auth_key),
            ca_fingerprint: self.authority.as_ref().map_or("", |it| &it.fingerprint),
            server_serial: serial,
            reprovisions: entry.reprovisions,
        });
        if let Some(entry) = self.gateways.get_mut(id) {
            entry.config_version = version;
        }
    }

    fn apply_user(&mut self, id: &str, event: &user::Event) {
        let Ok(id) = id.parse::<UserId>() else { return };
        if let user::Event::Created { profile, role, groups, password, must_change_password } =
            event
        {
            self.users.insert(
                id,
                UserEntry {
                    profile: profile.clone(),
                    role: *role,
                    active: true,
                    groups: groups.clone(),
                    password: password.clone(),
                    must_change_password: *must_change_password,
                },
            );
            return;
        }
        let Some(entry) = self.users.get_mut(&id) else { return };
        match event {
            user::Event::Created { .. } => {}
            user::Event::Updated { profile } => entry.profile = profile.clone(),
            user::Event::RoleChanged { role } => {
                entry.role = *role;
                self.end_logins(&id);
            }
            user::Event::GroupsChanged { groups } => entry.groups.clone_from(groups),
            user::Event::PasswordChanged { password, must_change_password } => {
                entry.password = Some(password.clone());
                entry.must_change_password = *must_change_password;
                self.end_logins(&id);
            }
            user::Event::Disabled {} => {
                entry.active = false;
                self.end_logins(&id);
            }
            user::Event::Enabled {} => entry.active = true,
            user::Event::ApiKeyCreated { api_key } => {
                self.insert_api_key(ApiKeyEntry { user_id: id, key: api_key.clone() });
            }
            user::Event::ApiKeyRevoked { id } => {
                if let Some(hash) = self.api_key_hashes.remove(id) {
                    self.api_keys.remove(&hash);
                }
            }
            user::Event::Deleted {} => {
                self.users.remove(&id);
                self.end_logins(&id);
                self.api_keys.retain(|_, it| it.user_id != id);
                let live: HashSet<ApiKeyId> =
                    self.api_keys.values().map(|it| it.key.id.clone()).collect();
                self.api_key_hashes.retain(|id, _| live.contains(id));
                for gateway in self.gateways.values_mut() {
                    gateway.users.remove(&id);
                }
                self.fences.forget_user(&id);
                self.hubs.forget_user(&id);
                for rule in self.rules_by_user.remove(&id).into_iter().flatten() {
                    if let Some(rule) = self.rules.get_mut(&rule) {
                        rule.users.remove(&id);
                    }
                }
            }
        }
    }

    /// Adds an API key as it is. An id is one key's: the last that was given it.
    pub fn insert_api_key(&mut self, entry: ApiKeyEntry) {
        let hash = entry.key.key_hash.clone();
        if let Some(old) = self.api_key_hashes.insert(entry.key.id.clone(), hash) {
            self.api_keys.remove(&old);
        }
        self.api_keys.insert(entry.key.key_hash.clone(), entry);
    }

    /// Whether the keys that `key` goes back to are all still there: with a key ends what was made
    /// with it, also what belongs to others, the moment it is revoked. The events that say so of
    /// those come after.
    pub fn has_makers(&self, key: &ApiKey) -> bool {
        let mut made_by = key.created_by.as_ref();
        // A key was there before what it made. In a log that says otherwise, nobody made it.
        for _ in 0..=self.api_keys.len() {
            let Some(id) = made_by else { return true };
            let maker = self.api_key_hashes.get(id).and_then(|hash| self.api_keys.get(hash));
            let Some(maker) = maker else { return false };
            made_by = maker.key.created_by.as_ref();
        }
        false
    }

    /// Keys whose makers are gone, with their owners.
    pub fn orphaned_api_keys(&self) -> Vec<(UserId, ApiKeyId)> {
        let orphaned = self.api_keys.values().filter(|it| !self.has_makers(&it.key));
        orphaned.map(|it| (it.user_id.clone(), it.key.id.clone())).collect()
    }

    /// A person's logins are over the moment their password, role or standing changes; the events
    /// that say so come after.
    fn end_logins(&mut self, user_id: &UserId) {
        self.logins.retain(|_, it| it.user_id != *user_id);
        let logins = &self.logins;
        self.login_tokens.retain(|_, hash| logins.contains_key(hash));
    }

    fn apply_network(&mut self, id: &str, event: &network::Event) {
        let Ok(id) = id.parse::<NetworkId>() else { return };
        match event {
            network::Event::Created { definition } | network::Event::Updated { definition } => {
                let entry = NetworkEntry { name: definition.name.clone(), cidr: definition.cidr };
                self.networks.insert(id, entry);
            }
            network::Event::Deleted {} => {
                self.networks.remove(&id);
                for gateway in self.gateways.values_mut() {
                    gateway.networks.remove(&id);
                }
                self.hubs.forget_network(&id);
            }
        }
    }

    fn apply_rule(&mut self, id: &str, event: &access_rule::Event) {
        let Ok(id) = id.parse::<AccessRuleId>() else { return };
        match event {
            access_rule::Event::Created { definition } => {
                let definition = definition.clone();
                let entry = RuleEntry { definition, users: HashSet::new(), groups: HashSet::new() };
                self.remove_rule(&id);
                self.rules.insert(id, entry);
            }
            access_rule::Event::Updated { definition } => {
                if let Some(entry) = self.rules.get_mut(&id) {
                    entry.definition = definition.clone();
                }
            }
            access_rule::Event::UserAssigned { user_id } => self.assign_user(&id, user_id.clone()),
            access_rule::Event::UserUnassigned { user_id } => {
                if let Some(entry) = self.rules.get_mut(&id) {
                    entry.users.remove(user_id);
                    leave_out(&mut self.rules_by_user, user_id, &id);
                }
            }
            access_rule::Event::GroupAssigned { group } => self.assign_group(&id, group.clone()),
            access_rule::Event::GroupUnassigned { group } => {
                if let Some(entry) = self.rules.get_mut(&id) {
                    entry.groups.remove(group);
                    leave_out(&mut self.rules_by_group, group, &id);
                }
            }
            access_rule::Event::Deleted {} => self.remove_rule(&id),
        }
    }

    /// Assigns a rule, if there is one, to a user.
    pub fn assign_user(&mut self, id: &AccessRuleId, user_id: UserId) {
        if let Some(entry) = self.rules.get_mut(id) {
            entry.users.insert(user_id.clone());
            self.rules_by_user.entry(user_id).or_default().insert(id.clone());
        }
    }

    /// Assigns a rule, if there is one, to a group.
    pub fn assign_group(&mut self, id: &AccessRuleId, group: GroupName) {
        if let Some(entry) = self.rules.get_mut(id) {
            entry.groups.insert(group.clone());
            self.rules_by_group.entry(group).or_default().insert(id.clone());
        }
    }

    fn remove_rule(&mut self, id: &AccessRuleId) {
        let Some(entry) = self.rules.remove(id) else { return };
        for user_id in &entry.users {
            leave_out(&mut self.rules_by_user, user_id, id);
        }
        for group in &entry.groups {
            leave_out(&mut self.rules_by_group, group, id);
        }
    }

    fn apply_certificate(&mut self, recorded: &Recorded, event: &certificate::Event) {
        let Ok(id) = recorded.aggregate_id.parse::<CertificateId>() else { return };
        match event {
            certificate::Event::Issued(issuance) => self.insert_certificate(CertificateEntry {
                id,
                subject: issuance.subject.clone(),
                serial: issuance.serial.clone(),
                not_before: issuance.not_before,
                not_after: issuance.not_after,
                revoked: None,
            }),
            certificate::Event::Revoked { reason } => {
                let entry = self.serials.get(&id).and_then(|it| self.certificates.get_mut(it));
                if let Some(entry) = entry {
                    entry.revoked = Some((recorded.recorded_at, *reason));
                }
                self.last_revocation = recorded.position;
            }
        }
    }

    /// Adds a certificate as it is.
    pub fn insert_certificate(&mut self, entry: CertificateEntry) {
        if let Subject::Client { user_id, token_hash, gateway_id, common_name, .. } = &entry.subject
        {
            let of_owner = self.serials_by_owner.entry(user_id.clone()).or_default();
            of_owner.insert(entry.serial.clone());
            self.serials_by_token.insert(token_hash.clone(), entry.serial.clone());
            if let Some(name) = common_name.open() {
                let key = (gateway_id.clone(), name.clone());
                self.serials_by_name.entry(key).or_default().push(entry.serial.clone());
            }
        }
        let server_of = entry.server_of().cloned();
        self.serials.insert(entry.id.clone(), entry.serial.clone());
        self.certificates.insert(entry.serial.clone(), entry);
        if let Some(gateway_id) = server_of {
            self.refresh_config_version(&gateway_id);
        }
    }

    fn apply_session(&mut self, recorded: &Recorded, event: &session::Event) {
        let Ok(id) = recorded.aggregate_id.parse::<SessionId>() else { return };
        match event {
            session::Event::Began(beginning) => {
                let ip = |ip: Option<IpAddr>| ip.map(canonical_ip);
                self.sessions.insert(SessionEntry {
                    id,
                    gateway_id: beginning.gateway_id.clone(),
                    user_id: beginning.user_id.clone(),
                    certificate_id: beginning.certificate_id.clone(),
                    serial: beginning.serial.clone(),
                    common_name: beginning.common_name.open().cloned(),
                    client_ip: ip(beginning.client_ip.as_ref().and_then(|it| it.open()).copied()),
                    vpn_ip: ip(beginning.vpn_ip),
                    vpn_ipv6: ip(beginning.vpn_ipv6),
                    connected_at: beginning.connected_at,
                    lost_at: None,
                    began: recorded.position,
                });
            }
            session::Event::Ended { reason: EndReason::GatewayLost, disconnected_at, .. } => {
                self.sessions.set_lost(&id, Some(*disconnected_at));
            }
            session::Event::Ended { .. } => self.sessions.remove(&id),
            session::Event::Resumed { .. } => self.sessions.set_lost(&id, None),
            session::Event::CountersReported { .. } => {}
        }
    }

    fn apply_login(&mut self, recorded: &Recorded, event: &login::Event) {
        let Ok(id) = recorded.aggregate_id.parse::<LoginId>() else { return };
        match event {
            login::Event::Began(beginning) => self.insert_login(
                beginning.token_hash.clone(),
                LoginEntry {
                    id,
                    user_id: beginning.user_id.clone(),
                    method: beginning.method,
                    began_at: recorded.recorded_at,
                    expires_at: beginning.expires_at,
                },
            ),
            login::Event::Ended { .. } => {
                if let Some(hash) = self.login_tokens.remove(&id) {
                    self.logins.remove(&hash);
                }
            }
        }
    }

    /// Adds a login as it is.
    pub fn insert_login(&mut self, token_hash: TokenHash, entry: LoginEntry) {
        self.login_tokens.insert(entry.id.clone(), token_hash.clone());
        self.logins.insert(token_hash, entry);
    }

    /// Forgets what time has made irrelevant, so that memory follows what is in use.
    pub fn prune(&mut self, now: DateTime<Utc>) {
        let expired = now - EXPIRED_KEPT;
        self.certificates.retain(|_, it| it.not_after > expired);
        let certificates = &self.certificates;
        self.serials.retain(|_, serial| certificates.contains_key(serial));
        self.serials_by_token.retain(|_, serial| certificates.contains_key(serial));
        self.serials_by_name.retain(|_, serials| {
            serials.retain(|serial| certificates.contains_key(serial));
            !serials.is_empty()
        });
        self.serials_by_owner.retain(|_, serials| {
            serials.retain(|serial| certificates.contains_key(serial));
            !serials.is_empty()
        });
        let forgotten: Vec<GatewayId> = self
            .gateways
            .iter()
            .filter(|(_, it)| {
                it.server_certificate.as_ref().is_some_and(|id| !self.serials.contains_key(id))
            })
            .map(|(id, _)| id.clone())
            .collect();
        for id in &forgotten {
            self.refresh_config_version(id);
        }
        self.logins.retain(|_, it| it.expires_at > now);
        let logins = &self.logins;
        self.login_tokens.retain(|_, hash| logins.contains_key(hash));
        let lost: Vec<SessionId> = self
            .sessions
            .all()
            .filter(|it| it.lost_at.is_some_and(|at| at < now - LOST_KEPT))
            .map(|it| it.id.clone())
            .collect();
        for id in &lost {
            self.sessions.remove(id);
        }
    }

    /// The certificates of that name for a gateway, the newest first.
    pub fn serials_named(
        &self,
        gateway_id: &GatewayId,
        common_name: &CommonName,
    ) -> impl Iterator<Item = &Serial> {
        let key = (gateway_id.clone(), common_name.clone());
        self.serials_by_name.get(&key).into_iter().flat_map(|it| it.iter().rev())
    }

    /// The newest certificate of that name for a gateway that is good now, for agents that do not
    /// say which it is.
    pub fn newest_serial(
        &self,
        gateway_id: &GatewayId,
        common_name: &str,
        now: DateTime<Utc>,
    ) -> Option<&Serial> {
        let name = common_name.parse().ok()?;
        let serials = self.serials_by_name.get(&(gateway_id.clone(), name))?;
        let is_good = |serial: &&Serial| {
            self.certificates
                .get(*serial)
                .is_some_and(|it| it.revoked.is_none() && now < it.not_after)
        };
        // None is good: the newest, so that the refusal says what is wrong with it.
        serials.iter().rev().find(is_good).or_else(|| serials.last())
    }

    /// The same for clients of whom nothing else is known: only where it can't be another's, nor a
    /// stand-in for one that was revoked.
    pub fn sole_serial(
        &self,
        gateway_id: &GatewayId,
        common_name: &str,
        now: DateTime<Utc>,
    ) -> Option<&Serial> {
        let name = common_name.parse().ok()?;
        let serials = self.serials_by_name.get(&(gateway_id.clone(), name))?;
        let unexpired = || {
            serials
                .iter()
                .filter_map(|serial| self.certificates.get(serial))
                .filter(|it| now < it.not_after)
        };
        let owner = |it: &'_ CertificateEntry| it.subject.user_id().cloned();
        let mut owners = unexpired().map(owner);
        let first = owners.next()?;
        let is_clear = owners.all(|it| it == first) && unexpired().all(|it| it.revoked.is_none());
        if is_clear { self.newest_serial(gateway_id, common_name, now) } else { None }
    }

    /// A user's certificates for a gateway that have not long expired.
    pub fn certificates_of<'a>(
        &'a self,
        user_id: &UserId,
        at: &GatewayId,
    ) -> impl Iterator<Item = &'a CertificateEntry> {
        let serials = self.serials_by_owner.get(user_id).into_iter().flatten();
        serials.filter_map(|it| self.certificates.get(it)).filter(
            move |it| matches!(&it.subject, Subject::Client { gateway_id, .. } if gateway_id == at),
        )
    }

    /// The certificate with this id.
    pub fn certificate(&self, id: &CertificateId) -> Option<&CertificateEntry> {
        self.serials.get(id).and_then(|serial| self.certificates.get(serial))
    }
}

/// Takes a rule out of what is assigned to `key`.
pub(super) fn leave_out<K: Eq + Hash, I: Ord>(
    rules: &mut HashMap<K, BTreeSet<I>>,
    key: &K,
    id: &I,
) {
    if let Some(ids) = rules.get_mut(key) {
        ids.remove(id);
        if ids.is_empty() {
            rules.remove(key);
        }
    }
}
