//! Gateways with clients that may use them, written straight into a log: quicker than by the REST
//! API, and there as many as a test likes.

use super::log::metadata;
use chrono::{DateTime, TimeDelta, Utc};
use gatekey::entropy::{Entropy, token_hash};
use gatekey::event_log::{Bus, Request};
use gatekey_aggregates::certificate::{self, Certificate, Issuance, Subject};
use gatekey_aggregates::gateway::{self, Configuration, Gateway};
use gatekey_aggregates::user::{self, User};
use gatekey_aggregates::values::{
    CertificateId, CryptoProfile, GatewayId, RevocationReason, Role, Serial, Transport, UserId,
};
use gatekey_aggregates::{PersonId, Personal};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};

/// Everyone is in it, and every gateway lets it in.
const GROUP: &str = "staff";

/// What is planted with.
pub struct Seed<'a> {
    /// Writes it.
    pub bus: &'a Bus,
    /// Randomness.
    pub entropy: &'a Entropy,
    /// Certificates become valid an hour before.
    pub now: DateTime<Utc>,
}

/// A person with an e-mail address.
#[derive(Clone, Debug)]
pub struct Person {
    /// Who.
    pub id: UserId,
    /// Their certificates' common name.
    pub email: String,
}

/// A gateway, and a client of each person.
#[derive(Clone, Debug)]
pub struct Planted {
    /// Its id.
    pub id: GatewayId,
    /// Its agent's token.
    pub token: String,
    /// May connect there.
    pub clients: Vec<Client>,
}

/// A client that may connect.
#[derive(Clone, Debug)]
pub struct Client {
    /// The certificate.
    pub id: CertificateId,
    /// Its common name.
    pub common_name: String,
    /// As OpenVPN writes it.
    pub serial: String,
    /// The config's own password.
    pub password: String,
    /// From where it connects.
    pub client_ip: String,
}

impl Seed<'_> {
    /// `number` people.
    pub async fn people(&self, number: usize) -> Vec<Person> {
        let mut people = Vec::new();
        for _ in 0..number {
            let id: UserId = self.entropy.id().expect("an id");
            let name = format!("seed{}", &id.as_str()[UserId::PREFIX.len()..]);
            let (email, person) = (format!("{name}@example.com"), PersonId::user(&id));
            let create = user::Command::Create {
                profile: user::Profile {
                    username: Personal::new(person.clone(), name.parse().expect("a name")),
                    email: Personal::new(person, email.parse().expect("an address")),
                    name: None,
                },
                role: Role::Member,
                groups: BTreeSet::from([GROUP.parse().expect("a group")]),
                password: None,
                must_change_password: false,
            };
            let request = Request::new::<User>(&id, create, metadata()).fresh();
            self.bus.execute::<User>(request).await.expect("a user");
            people.push(Person { id, email });
        }
        people
    }

    /// A gateway at which each of `people` has a certificate until `not_after`.
    pub async fn gateway(&self, people: &[Person], not_after: DateTime<Utc>) -> Planted {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let n = COUNTER.fetch_add(1, Ordering::Relaxed);
        let id: GatewayId = self.entropy.id().expect("an id");
        let token = self.entropy.token("").expect("a token");
        let register = gateway::Command::Register {
            configuration: Configuration {
                name: format!("seed {id}").parse().expect("a name"),
                description: "".parse().expect("a description"),
                hostname: "vpn.example.com".parse().expect("a host"),
                public_ip: None,
                port: 1194,
                protocol: Transport::Udp,
                vpn_subnet: format!("10.{}.{}.0/24", n / 256, n % 256).parse().expect("a subnet"),
                crypto_profile: CryptoProfile::Modern,
                tls_auth: true,
                full_tunnel: false,
                push_dns: false,
                dns_servers: Vec::new(),
                active: true,
            },
            token_hash: token_hash(&token),
            tls_auth_key: self.entropy.id().expect("an id"),
        };
        let grant = gateway::Command::GrantGroup(GROUP.parse().expect("a group"));
        let requests = [
            Request::new::<Gateway>(&id, register, metadata()).fresh(),
            Request::new::<Gateway>(&id, grant, metadata()),
        ];
        for request in requests {
            self.bus.execute::<Gateway>(request).await.expect("a gateway");
        }
        let mut clients = Vec::new();
        for (n, person) in people.iter().enumerate() {
            let client_ip = format!("198.51.{}.{}", n / 250, n % 250 + 1);
            clients.push(self.client(&id, person, client_ip, not_after).await);
        }
        Planted { id, token, clients }
    }

    /// A certificate of `person` for a gateway.
    pub async fn client(
        &self,
        gateway_id: &GatewayId,
        person: &Person,
        client_ip: String,
        not_after: DateTime<Utc>,
    ) -> Client {
        let id: CertificateId = self.entropy.id().expect("an id");
        let mut bytes = self.entropy.bytes::<16>().expect("randomness");
        bytes[0] |= 1;
        let password = self.entropy.token("").expect("a token");
        let common_name = person.email.parse().expect("a common name");
        let issue = certificate::Command::Issue(Issuance {
            subject: Subject::Client {
                user_id: person.id.clone(),
                gateway_id: gateway_id.clone(),
                common_name: Personal::new(PersonId::user(&person.id), common_name),
                token_hash: token_hash(&password),
                bundle: self.entropy.id().expect("an id"),
            },
            serial: Serial::from_bytes(&bytes).expect("a serial"),
            not_before: self.now - TimeDelta::hours(1),
            not_after,
            fingerprint: token_hash(&password).to_string(),
        });
        let request = Request::new::<Certificate>(&id, issue, metadata()).fresh();
        self.bus.execute::<Certificate>(request).await.expect("a certificate");
        let serial: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Client {
            id,
            common_name: person.email.clone(),
            serial: serial.join(":"),
            password,
            client_ip,
        }
    }

    /// Revokes a client's certificate.
    pub async fn revoke(&self, client: &Client) {
        let revoke = certificate::Command::Revoke(RevocationReason::Superseded);
        let request = Request::new::<Certificate>(&client.id, revoke, metadata());
        self.bus.execute::<Certificate>(request).await.expect("a revocation");
    }
}

impl Client {
    /// The body of a verify.
    pub fn verify(&self) -> Value {
        json!({
            "common_name": self.common_name, "username": self.common_name,
            "password": self.password, "serial_number": self.serial, "client_ip": self.client_ip,
        })
    }

    /// The body of a connect report with this VPN address.
    pub fn connect(&self, vpn_ipv4: &str) -> Value {
        json!({
            "common_name": self.common_name, "serial_number": self.serial,
            "client_ip": self.client_ip, "vpn_ipv4": vpn_ipv4,
        })
    }

    /// The body of a disconnect report.
    pub fn disconnect(&self) -> Value {
        json!({"common_name": self.common_name, "client_ip": self.client_ip})
    }
}
