//! The main job, for real: a stock OpenVPN server and client, our scripts as the hooks, and the control plane between them.

use crate::harness::Api;
use crate::harness::fixtures::{Gateway, User};
use crate::harness::netns::{self, GATEWAY_WAN, Lab, PRIVATE_NET};
use crate::harness::openvpn::{Client, GatewayMachine};
use crate::harness::wait::{eventually, wait_for};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;

/// Within this a live tunnel loses what was taken away.
const CUT_OFF: Duration = Duration::from_secs(10);
const SOON: Duration = Duration::from_secs(10);

both! {
    /// Up, reaching what the rules allow and nothing else, down with counters, revoked and refused.
    async fn a_granted_user_gets_in(world: World) {
        let Some(lab) = lab() else { return };
        let admin = world.admin().await;
        let (gateway, ada) = granted(&admin, json!({})).await;
        let machine = GatewayMachine::start(&lab, &world.server, &gateway);
        assert_eq!(status(&admin, &gateway).await, "online");

        // Up: what the rules allow is reached, its neighbours are not.
        let wiki = lab.private.says_its_address(address("10.77.0.10:8080"));
        let other_port = lab.private.says_its_address(address("10.77.0.10:9090"));
        let other_host = lab.private.says_its_address(address("10.77.0.20:8080"));
        let config = ada.api.generate_config(&gateway).await;
        let client = Client::new(&lab, &config);
        let tunnel = client.gets_in();
        assert!(lab.client.pings("10.77.0.20"), "icmp is allowed");
        assert!(!lab.client.pings("10.77.0.10"), "icmp to another host is not");
        assert_eq!(lab.client.hears(wiki.address).unwrap(), "10.77.0.10:8080");
        assert!(lab.client.hears(other_port.address).is_err(), "another port is not");
        assert!(lab.client.hears(other_host.address).is_err(), "another host is not");

        let active = admin.get("/admin/connections?status=active").await.list();
        assert_eq!(active.len(), 1, "{active:?}");
        assert_eq!(active[0]["user"]["email"], ada.email.as_str());
        assert_eq!(active[0]["client_ip"], "198.51.100.2");
        let vpn_ip = active[0]["vpn_ip"].as_str().unwrap();
        assert!(machine.firewall().contains(&format!("client_{vpn_ip}")), "{}", machine.firewall());

        // A rule that is given later holds within seconds, in the live tunnel.
        let rule = admin.create_rule("metrics", "ip", "10.77.0.10", tcp("9090")).await;
        admin.assign(&rule, &ada).await;
        wait_for("the new rule", CUT_OFF, || lab.client.hears(other_port.address).ok());

        // Down: the counters are the gateway's.
        tunnel.stop();
        let ended = ended(&admin, 1).await;
        assert_eq!(ended[0]["end_reason"], "disconnected");
        for counter in ["bytes_received", "bytes_sent"] {
            assert!(ended[0][counter].as_u64().is_some_and(|bytes| bytes > 1000), "{ended:?}");
        }
        assert!(!machine.firewall().contains(&format!("client_{vpn_ip}")), "its rules are gone");

        // Revoked: verify refuses at once, and says why to the person.
        let revoke = json!({"config_id": config.id, "reason": "cessation_of_operation"});
        admin.post("/admin/pki/revoke", &revoke).await.ok();
        let refused = client.dial();
        refused.says(&["AUTH_FAILED"]);
        refused.stop();

        // With the new list, OpenVPN itself refuses, before verify is asked.
        eventually("the list has the certificate", SOON, || async {
            let pem = world.anyone().get("/pki/crl.pem").await.text();
            pem_serials(&pem).contains(&config.serial).then_some(())
        }).await;
        machine.heartbeat();
        let refused = client.dial();
        machine.openvpn().says(&["certificate revoked"]);
        refused.stop();
        assert_eq!(ended_count(&admin).await, 1, "nobody who was refused had a session");
        assert_eq!(admin.get("/admin/connections?status=active").await.list(), Vec::<Value>::new());

        // The history has it all.
        let history = admin.get("/admin/audit?per_page=100").await.list();
        for event in [
            "gateway.came_online", "gateway.server_certificate_installed", "certificate.issued",
            "session.began", "session.ended", "certificate.revoked", "attempt.verify_denied",
        ] {
            let there = history.iter().any(|entry| entry["event"] == event);
            assert!(there, "{event} in {history:#?}");
        }
    }

    /// Taking the access away cuts a tunnel that is up.
    async fn an_ungranted_users_live_tunnel_reaches_nothing(world: World) {
        let Some(lab) = lab() else { return };
        let admin = world.admin().await;
        let (gateway, ada) = granted(&admin, json!({"protocol": "tcp"})).await;
        let _machine = GatewayMachine::start(&lab, &world.server, &gateway);
        let wiki = lab.private.says_its_address(address("10.77.0.10:8080"));
        let config = ada.api.generate_config(&gateway).await;
        let client = Client::new(&lab, &config);
        let tunnel = client.gets_in();
        assert_eq!(lab.client.hears(wiki.address).unwrap(), "10.77.0.10:8080");

        admin.delete(&format!("/admin/gateways/{}/users/{}", gateway.id, ada.id)).await.ok();
        wait_for("the tunnel reaches nothing", CUT_OFF, || lab.client.hears(wiki.address).err());
        assert!(!lab.client.pings("10.77.0.20"));

        // And there is no way back in.
        tunnel.stop();
        let refused = client.dial();
        refused.says(&["AUTH_FAILED"]);
        ada.api.post("/configs/generate", &json!({"gateway_id": gateway.id}))
            .await
            .refused(403, "access_denied");
    }

    /// All gateways share one authority, and none may pass for another.
    async fn a_client_refuses_another_gateways_certificate(world: World) {
        let Some(lab) = lab() else { return };
        let admin = world.admin().await;
        // Without the shared key, which differs too, so that the certificate alone decides.
        let (gateway, ada) = granted(&admin, json!({"tls_auth": false})).await;
        let more = json!({"hostname": GATEWAY_WAN, "tls_auth": false});
        let impostor = admin.create_gateway_with("impostor", more).await;
        admin.grant(&impostor, &ada).await;
        let _machine = GatewayMachine::start(&lab, &world.server, &impostor);

        let config = ada.api.generate_config(&gateway).await;
        let client = Client::new(&lab, &config);
        client.dial().says(&["VERIFY X509NAME ERROR"]);
        // Its own client gets in.
        let config = ada.api.generate_config(&impostor).await;
        Client::new(&lab, &config).gets_in();
    }
}

/// The namespaces, where this machine can have them.
fn lab() -> Option<Lab> {
    match netns::lacking() {
        Some(lacking) => {
            println!("skipped: {lacking}");
            None
        }
        None => Some(Lab::new()),
    }
}

/// A gateway in front of the private network, and Ada, who may reach the wiki and ping one host.
async fn granted(admin: &Api, more: Value) -> (Gateway, User) {
    let mut settings = json!({"hostname": GATEWAY_WAN});
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let gateway = admin.create_gateway_with("us-east-1", settings).await;
    let ada = admin.create_user("ada").await;
    let network = admin.create_network("offices", PRIVATE_NET).await;
    admin.attach(&gateway, &network).await;
    admin.grant(&gateway, &ada).await;
    for (name, value, what) in
        [("wiki", "10.77.0.10", tcp("8080")), ("ping", "10.77.0.20", json!({"protocol": "icmp"}))]
    {
        let rule = admin.create_rule(name, "ip", value, what).await;
        admin.assign(&rule, &ada).await;
    }
    (gateway, ada)
}

fn tcp(ports: &str) -> Value {
    json!({"protocol": "tcp", "port_range": ports})
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

async fn status(admin: &Api, gateway: &Gateway) -> Value {
    admin.get(&format!("/admin/gateways/{}", gateway.id)).await.ok()["status"].take()
}

/// The past connections, once there are that many.
async fn ended(admin: &Api, count: usize) -> Vec<Value> {
    eventually("the connection ends", SOON, || async {
        let ended = admin.get("/admin/connections?status=ended").await.list();
        (ended.len() == count).then_some(ended)
    })
    .await
}

async fn ended_count(admin: &Api) -> usize {
    admin.get("/admin/connections?status=ended").await.list().len()
}

/// The serials in a CRL, as OpenVPN writes them.
fn pem_serials(pem: &str) -> Vec<String> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).expect("PEM");
    crate::harness::fixtures::serials_in_crl(&pem.contents)
}
