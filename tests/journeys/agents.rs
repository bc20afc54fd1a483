//! Agents in the field work unchanged: what they send is understood, and what they read is there.

mod explain;
mod fence;
mod heartbeat;
mod reports;
mod rules;
mod sessions;
mod silence;
mod verify;
mod wire;

use crate::harness::fixtures::{Config, Gateway, User, merged};
use crate::harness::{Answer, Api, World};
use serde_json::{Value, json};
use std::time::Duration;

/// Whence Ada comes, and the address she is given.
const CLIENT_IP: &str = "198.51.100.2";
const VPN_IP: &str = "172.31.255.2";
/// What is done in the background is done within this.
const SOON: Duration = Duration::from_secs(10);

/// A gateway in front of the offices, and Ada, who may use it and reach the wiki.
struct Scene {
    admin: Api,
    gateway: Gateway,
    ada: User,
    config: Config,
    offices: String,
    wiki: String,
}

impl Scene {
    async fn of(world: &World) -> Self {
        Self::by(world.admin().await).await
    }

    async fn by(admin: Api) -> Self {
        let gateway = admin.create_gateway("us-east-1").await;
        let ada = admin.create_user("ada").await;
        let offices = admin.create_network("offices", "10.77.0.0/24").await;
        admin.attach(&gateway, &offices).await;
        admin.grant(&gateway, &ada).await;
        let https = json!({"port_range": "443", "protocol": "tcp"});
        let wiki = admin.create_rule("wiki", "ip", "10.77.0.10", https).await;
        admin.assign(&wiki, &ada).await;
        let config = ada.api.generate_config(&gateway).await;
        Self { admin, gateway, ada, config, offices, wiki }
    }

    /// Another person who may use the gateway, with a config for it.
    async fn another(&self, name: &str) -> (User, Config) {
        let user = self.admin.create_user(name).await;
        self.admin.grant(&self.gateway, &user).await;
        let config = user.api.generate_config(&self.gateway).await;
        (user, config)
    }

    /// What an agent asks when Ada is at the door.
    fn asks(&self, more: Value) -> Value {
        let body = json!({
            "common_name": self.ada.email, "username": self.ada.email,
            "password": self.config.password, "serial_number": self.config.serial,
            "client_ip": CLIENT_IP,
        });
        merged(body, more)
    }

    async fn verify(&self, more: Value) -> Value {
        self.gateway.agent.post("/gateway/verify", &self.asks(more)).await.flat(200)
    }

    /// Ada came.
    async fn connect(&self, more: Value) -> Value {
        let body = json!({
            "common_name": self.ada.email, "serial_number": self.config.serial,
            "client_ip": CLIENT_IP, "vpn_ipv4": VPN_IP,
        });
        self.gateway.agent.post("/gateway/connect", &merged(body, more)).await.flat(200)
    }

    /// The same, and she may stay: the connection's id.
    async fn connected(&self, more: Value) -> String {
        let answer = self.connect(more).await;
        assert_eq!(answer["allow"], true, "{answer}");
        answer["session_id"].as_str().expect("a session id").to_owned()
    }

    /// Ada left.
    async fn disconnect(&self, more: Value) {
        let body = json!({"common_name": self.ada.email, "client_ip": CLIENT_IP});
        let answer = self.gateway.agent.post("/gateway/disconnect", &merged(body, more)).await;
        assert_eq!(answer.flat(200)["status"], "disconnected");
    }

    /// What she may reach now, by the destinations' addresses.
    async fn may_reach(&self) -> Vec<Value> {
        let body = json!({
            "user_id": self.ada.email, "user_email": self.ada.email, "user_groups": null,
            "client_ip": VPN_IP,
        });
        let answer = self.gateway.agent.post("/gateway/client-rules", &body).await.flat(200);
        sorted(answer["allowed"].as_array().expect("a list").clone())
    }

    /// Takes the gateway away from her.
    async fn ungrant(&self) {
        let path = format!("/admin/gateways/{}/users/{}", self.gateway.id, self.ada.id);
        self.admin.delete(&path).await.ok();
    }

    /// The ids of the connections that are open, sorted.
    async fn open(&self) -> Vec<String> {
        let active = self.admin.get("/admin/connections?status=active&per_page=100").await.list();
        let mut ids: Vec<String> = active.iter().map(crate::harness::fixtures::id).collect();
        ids.sort();
        ids
    }

    async fn connection(&self, id: &str) -> Value {
        self.admin.get(&format!("/admin/connections/{id}")).await.ok()
    }

    /// Why a connection ended; null while it is open.
    async fn end_reason(&self, id: &str) -> Value {
        self.connection(id).await["end_reason"].take()
    }

    /// The codes of what happened to a connection, in order.
    async fn history(&self, id: &str) -> Vec<String> {
        let path = format!("/admin/audit?aggregate_id={id}&per_page=100");
        let events = self.admin.get(&path).await.list();
        events.iter().rev().map(|it| it["event"].as_str().unwrap().to_owned()).collect()
    }

    /// Every event with this code, the newest first.
    async fn events(&self, code: &str) -> Vec<Value> {
        self.admin.get(&format!("/admin/audit?event={code}&per_page=100")).await.list()
    }
}

/// How many events there are.
async fn count(admin: &Api) -> u64 {
    let page = admin.get("/admin/audit?per_page=1").await.flat(200);
    page["meta"]["total"].as_u64().expect("a total")
}

/// In an order that does not depend on ids.
fn sorted(mut values: Vec<Value>) -> Vec<Value> {
    values.sort_by_key(ToString::to_string);
    values
}

/// That status, the error envelope, and what keeps agents that look at no status from letting
/// anybody in. Gives the `error`.
#[track_caller]
fn turned_away(route: &str, answer: &Answer, status: u16) -> Value {
    let error = answer.envelope(status);
    let body = answer.json();
    match route {
        "/gateway/verify" => {
            assert_eq!(body["allowed"], false, "{body}");
            is_a_sentence(&body["reason"]);
        }
        "/gateway/connect" => {
            assert_eq!(body["allow"], false, "{body}");
            assert_eq!(body["client_config"], json!(["disable"]), "{body}");
            is_a_sentence(&body["message"]);
        }
        _ => {}
    }
    error
}

/// Something that a person can read, and not a code.
#[track_caller]
fn is_a_sentence(text: &Value) {
    let is_one = text.as_str().is_some_and(|text| text.contains(' '));
    assert!(is_one, "no sentence: {text}");
}
