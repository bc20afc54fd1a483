//! Things that a journey needs before it begins, made through the REST API.

use super::client::Api;
use serde_json::{Value, json};
use x509_parser::prelude::{CertificateRevocationList, FromDer};

/// What members of a test are given for a password.
pub const PASSWORD: &str = "a quiet pond at dusk";

/// A user who can sign in.
pub struct User {
    /// `usr-…`
    pub id: String,
    /// Their e-mail address, which is also their certificates' common name.
    pub email: String,
    /// The user, signed in.
    pub api: Api,
}

/// A registered gateway.
pub struct Gateway {
    /// `gw-…`
    pub id: String,
    /// The agent's token.
    pub token: String,
    /// The agent, calling with that token.
    pub agent: Api,
}

/// A generated config.
pub struct Config {
    /// `cfg-…`
    pub id: String,
    /// The `.ovpn` file.
    pub profile: String,
    /// The certificate's serial, as OpenVPN's `tls_serial_hex_0` writes it.
    pub serial: String,
    /// The config's own password, inline in the profile; "" where it has none.
    pub password: String,
}

impl Api {
    /// A local member (`{name}@example.com`), signed in.
    pub async fn create_user(&self, name: &str) -> User {
        self.create_user_with(name, json!({})).await
    }

    /// The same, with more in the request than the least.
    pub async fn create_user_with(&self, name: &str, more: Value) -> User {
        let email = format!("{name}@example.com");
        let body = json!({"username": name, "email": email, "password": PASSWORD});
        let user = self.post("/admin/users", &merged(body, more)).await.created();
        let api = self.login(name, PASSWORD).await;
        User { id: id(&user), email, api }
    }

    /// A gateway at `vpn.example.com`, with the settings' defaults.
    pub async fn create_gateway(&self, name: &str) -> Gateway {
        self.create_gateway_with(name, json!({})).await
    }

    /// The same, with other settings.
    pub async fn create_gateway_with(&self, name: &str, more: Value) -> Gateway {
        let body = json!({"name": name, "hostname": "vpn.example.com"});
        let gateway = self.post("/admin/gateways", &merged(body, more)).await.created();
        let token = gateway["token"].as_str().expect("the agent's token").to_owned();
        Gateway { id: id(&gateway), agent: self.gateway(&token), token }
    }

    /// A network; its id.
    pub async fn create_network(&self, name: &str, cidr: &str) -> String {
        id(&self.post("/admin/networks", &json!({"name": name, "cidr": cidr})).await.created())
    }

    /// An access rule to an `ip` or `cidr`; its id.
    pub async fn create_rule(&self, name: &str, kind: &str, value: &str, more: Value) -> String {
        let body = json!({"name": name, "type": kind, "value": value});
        id(&self.post("/admin/access-rules", &merged(body, more)).await.created())
    }

    /// Lets a user use a gateway.
    pub async fn grant(&self, gateway: &Gateway, user: &User) {
        let path = format!("/admin/gateways/{}/users", gateway.id);
        self.post(&path, &json!({"user_id": user.id})).await.created();
    }

    /// Makes a network reachable through a gateway.
    pub async fn attach(&self, gateway: &Gateway, network: &str) {
        let path = format!("/admin/gateways/{}/networks", gateway.id);
        self.post(&path, &json!({"network_id": network})).await.created();
    }

    /// Gives a rule to a user.
    pub async fn assign(&self, rule: &str, user: &User) {
        let path = format!("/admin/access-rules/{rule}/users");
        self.post(&path, &json!({"user_id": user.id})).await.created();
    }

    /// Switches the geo-fence on in this mode, or off.
    pub async fn set_fence(&self, enabled: bool, mode: &str) {
        let settings = json!({"enabled": enabled, "mode": mode});
        self.put("/admin/geo-fence/settings", &settings).await.ok();
    }

    /// A rule of the geo-fence; its id.
    pub async fn create_fence_rule(&self, name: &str, cidr: &str) -> String {
        let body = json!({"name": name, "cidr": cidr});
        id(&self.post("/admin/geo-fence/rules", &body).await.created())
    }

    /// Attaches a rule of the geo-fence: `global`, `groups/{name}` or `users/{id}`.
    pub async fn fence(&self, to: &str, rule: &str) {
        let path = format!("/admin/geo-fence/{to}");
        self.post(&path, &json!({"rule_id": rule})).await.created();
    }

    /// Detaches it.
    pub async fn unfence(&self, to: &str, rule: &str) {
        self.delete(&format!("/admin/geo-fence/{to}/{rule}")).await.ok();
    }

    /// A config of the caller's own for a gateway, downloaded.
    pub async fn generate_config(&self, gateway: &Gateway) -> Config {
        let body = json!({"gateway_id": gateway.id, "protocol": "openvpn"});
        self.fetch_config(&self.post("/configs/generate", &body).await.flat(201)).await
    }

    /// A mesh hub at `hub.example.com`, with the settings' defaults; its id.
    pub async fn create_hub(&self, name: &str) -> String {
        self.create_hub_with(name, json!({})).await
    }

    /// The same, with other settings.
    pub async fn create_hub_with(&self, name: &str, more: Value) -> String {
        let body = json!({"name": name, "public_endpoint": "hub.example.com"});
        id(&self.post("/admin/mesh/hubs", &merged(body, more)).await.created())
    }

    /// A spoke of a hub, with networks behind it; its id.
    pub async fn create_spoke(&self, hub: &str, name: &str, local_networks: &[&str]) -> String {
        let body = json!({"name": name, "local_networks": local_networks});
        id(&self.post(&format!("/admin/mesh/hubs/{hub}/spokes"), &body).await.created())
    }

    /// Lets a user use a hub.
    pub async fn grant_hub(&self, hub: &str, user: &User) {
        let path = format!("/admin/mesh/hubs/{hub}/users");
        self.post(&path, &json!({"user_id": user.id})).await.created();
    }

    /// A config of the caller's own for a hub, downloaded.
    pub async fn generate_mesh_config(&self, hub: &str) -> Config {
        let generated = self.post("/mesh/generate-config", &json!({"hub_id": hub})).await;
        self.fetch_config(&generated.flat(201)).await
    }

    async fn fetch_config(&self, generated: &Value) -> Config {
        let url = generated["download_url"].as_str().expect("download_url");
        let answer = self.get(url).await;
        let profile = answer.has_status(200).text();
        Config {
            id: generated["config_id"].as_str().expect("config_id").to_owned(),
            serial: serial_in(&profile),
            password: password_in(&profile),
            profile,
        }
    }
}

/// The `id` of a thing.
#[track_caller]
pub fn id(thing: &Value) -> String {
    thing["id"].as_str().unwrap_or_else(|| panic!("no id in {thing}")).to_owned()
}

/// What stands between `<tag>` and `</tag>` in a profile.
#[track_caller]
pub fn block<'a>(profile: &'a str, tag: &str) -> &'a str {
    let (open, close) = (format!("<{tag}>\n"), format!("</{tag}>"));
    let inside = profile.split_once(&open).and_then(|(_, rest)| rest.split_once(&close));
    inside.unwrap_or_else(|| panic!("no <{tag}> in the profile:\n{profile}")).0
}

/// The serial of the profile's certificate: lower-case hex bytes joined by colons.
pub fn serial_in(profile: &str) -> String {
    let (_, pem) = x509_parser::pem::parse_x509_pem(block(profile, "cert").as_bytes())
        .expect("a certificate in PEM");
    let certificate = pem.parse_x509().expect("an X.509 certificate");
    hex_serial(certificate.raw_serial())
}

/// The serials in a CRL (DER), as OpenVPN writes them.
#[track_caller]
pub fn serials_in_crl(der: &[u8]) -> Vec<String> {
    let (_, crl) = CertificateRevocationList::from_der(der).expect("a CRL in DER");
    crl.iter_revoked_certificates().map(|entry| hex_serial(entry.raw_serial())).collect()
}

/// A serial's DER bytes as OpenVPN writes them: without the sign byte.
fn hex_serial(bytes: &[u8]) -> String {
    let bytes = match bytes {
        [0, rest @ ..] if !rest.is_empty() => rest,
        bytes => bytes,
    };
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

/// The second line of `<auth-user-pass>`.
fn password_in(profile: &str) -> String {
    if !profile.contains("<auth-user-pass>") {
        return String::new();
    }
    let lines: Vec<_> = block(profile, "auth-user-pass").lines().collect();
    (*lines.get(1).expect("a user name and a password")).to_owned()
}

/// `base` with the fields of `more` over it.
pub fn merged(mut base: Value, more: Value) -> Value {
    if let (Value::Object(base), Value::Object(more)) = (&mut base, more) {
        base.extend(more);
    }
    base
}
