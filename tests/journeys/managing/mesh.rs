//! Mesh: hubs, the sites that they join, and the people who use them.

use super::{SOON, delete, ids, put};
use crate::harness::fixtures::{Config, PASSWORD, block, id, serial_in, serials_in_crl};
use crate::harness::log::metadata;
use crate::harness::plane::Plane;
use crate::harness::server::ADMIN_PASSWORD;
use crate::harness::wait::eventually;
use crate::harness::{Api, World};
use chrono::TimeDelta;
use gatekey::clock::Clock;
use gatekey::event_log::Request;
use gatekey_aggregates::certificate::{self, Certificate, Issuance, Subject};
use rcgen::{CertificateParams, KeyPair};
use reqwest::Method;
use serde_json::{Value, json};
use x509_parser::pem::parse_x509_pem;

both! {
    /// An admin joins two sites, a person gets in by their group, and out again with it.
    async fn from_a_hub_to_a_profile_to_its_revocation(world: World) {
        let admin = world.admin().await;
        let ada = admin.create_user_with("ada", json!({"groups": ["ops"]})).await;

        // The hub, and what it joins.
        let body = json!({
            "name": "europe", "public_endpoint": "hub.example.com",
            "local_networks": ["10.1.0.0/16"],
        });
        let made = admin.post("/admin/mesh/hubs", &body).await.created();
        for (field, value) in [
            ("description", json!("")),
            ("port", json!(1194)),
            ("protocol", json!("udp")),
            ("vpn_subnet", json!("172.31.255.0/24")),
            ("crypto_profile", json!("modern")),
            ("tls_auth", json!(true)),
            ("status", json!("pending")),
            ("certificate_expires_at", json!(null)),
            ("spokes", json!(0)),
        ] {
            assert_eq!(made[field], value, "{field}");
        }
        let hub = id(&made);
        let path = format!("/admin/mesh/hubs/{hub}");
        let berlin = admin.create_spoke(&hub, "berlin", &["10.20.0.0/16", "fd00:20::/32"]).await;
        let paris = admin.create_spoke(&hub, "paris", &["10.30.0.0/16"]).await;
        assert_eq!(ids(&admin.get(&format!("{path}/spokes")).await.list()), [&*berlin, &*paris]);
        assert_eq!(admin.get(&path).await.ok()["spokes"], 2);
        let office = admin.create_network("office", "10.77.0.0/24").await;
        let attach = json!({"network_id": office});
        admin.post(&format!("{path}/networks"), &attach).await.created();
        let network = admin.get(&format!("/admin/networks/{office}")).await.ok();
        assert_eq!(network["mesh_hubs"], 1);

        // Default is deny, and what is denied is remembered.
        let wanted = json!({"hub_id": hub});
        assert!(ada.api.get("/mesh/hubs").await.list().is_empty());
        ada.api.post("/mesh/generate-config", &wanted).await.refused(403, "access_denied");
        ada.api
            .post("/mesh/generate-config", &json!({"hub_id": "hub-none"}))
            .await
            .refused(404, "not_found");
        let denied = eventually("the refusal is written", SOON, || async {
            let found = admin.get("/admin/audit?event=attempt.config_denied").await.list();
            found.into_iter().next()
        })
        .await;
        assert_eq!(denied["payload"]["hub_id"], hub.as_str(), "{denied}");

        // Her group is let in. She sees what there is to see.
        admin.post(&format!("{path}/groups"), &json!({"group": "ops"})).await.created();
        for filter in [format!("user={}", ada.id), "group=ops".into(), format!("network={office}")] {
            let listed = admin.get(&format!("/admin/mesh/hubs?{filter}")).await.list();
            assert_eq!(ids(&listed), [&*hub], "{filter}");
        }
        let expected = json!([{
            "id": hub, "name": "europe", "description": "", "public_endpoint": "hub.example.com",
            "port": 1194, "protocol": "udp", "status": "pending",
            "networks": ["10.1.0.0/16", "10.20.0.0/16", "10.30.0.0/16", "10.77.0.0/24",
                "fd00:20::/32"],
        }]);
        assert_eq!(json!(ada.api.get("/mesh/hubs").await.list()), expected);

        // The server's side: the same certificate each time, and what the spokes need.
        let provisioned = provision(&admin, &hub).await;
        assert_eq!(subject(&provisioned["server_cert"]), format!("CN={hub}"));
        assert!(provisioned["server_key"].as_str().unwrap().contains("PRIVATE KEY"));
        assert!(provisioned["tls_auth_key"].as_str().unwrap().contains("OpenVPN Static key"));
        assert!(provisioned["crl_url"].as_str().unwrap().ends_with("/api/v1/pki/crl.pem"));
        let conf = provisioned["server_conf"].as_str().unwrap();
        for line in [
            "server 172.31.255.0 255.255.255.0",
            &format!("verify-x509-name {hub}. name-prefix"),
            "crl-verify crl.pem",
            "route 10.20.0.0 255.255.0.0",
            "route-ipv6 fd00:20::/32",
            "push \"route 10.1.0.0 255.255.0.0\"",
            "push \"route 10.77.0.0 255.255.255.0\"",
            "push \"route 10.30.0.0 255.255.0.0\"",
        ] {
            assert!(conf.lines().any(|it| it == line), "{line} in\n{conf}");
        }
        let of_spokes = &provisioned["client_config_dir"];
        assert_eq!(of_spokes[format!("{hub}.{paris}")], "iroute 10.30.0.0 255.255.0.0\n");
        assert_eq!(of_spokes.as_object().unwrap().len(), 2);
        assert_eq!(provision(&admin, &hub).await, provisioned);
        assert_eq!(admin.get(&path).await.ok()["status"], "provisioned");
        assert_eq!(ada.api.get("/mesh/hubs").await.list()[0]["status"], "provisioned");
        assert_eq!(ids(&admin.get("/admin/mesh/hubs?status=provisioned").await.list()), [&*hub]);
        assert!(admin.get("/admin/mesh/hubs?status=pending").await.list().is_empty());
        // Whoever may only read gets no keys.
        let vera = admin.create_user_with("vera", json!({"role": "auditor"})).await.api;
        vera.post(&format!("{path}/provision"), &Value::Null).await.refused(403, "forbidden");

        // Her profile: for this hub, in her name, without a password that nobody would ask for.
        let generated = ada.api.post("/mesh/generate-config", &wanted).await;
        let flat = generated.flat(201);
        let config_id = flat["config_id"].as_str().unwrap();
        assert_eq!(generated.header("location"), format!("/api/v1/configs/{config_id}"));
        assert_eq!(flat["download_url"], format!("/api/v1/configs/download/{config_id}"));
        assert_eq!(flat["file_name"], "europe.ovpn");
        let config = ada.api.generate_mesh_config(&hub).await;
        assert!(config.profile.contains("\nremote hub.example.com 1194\n"), "{}", config.profile);
        assert!(config.profile.contains(&format!("\nverify-x509-name {hub} name\n")));
        assert!(!config.profile.contains("auth-user-pass"));
        assert!(!block(&config.profile, "tls-auth").is_empty());
        assert_eq!(
            subject(&block(&config.profile, "cert").into()),
            format!("CN={hub}.{}", ada.id)
        );
        let listed = ada.api.get(&format!("/configs?hub={hub}")).await.list();
        assert_eq!(listed.len(), 2);
        assert_eq!(listed[0]["hub"], json!({"id": hub, "name": "europe"}));
        assert_eq!((&listed[0]["gateway"], &listed[0]["status"]), (&json!(null), &json!("active")));
        assert_eq!(admin.get("/admin/configs?q=europe").await.list().len(), 2);
        let download = format!("/configs/download/{}", config.id);
        admin.get(&download).await.refused(404, "not_found");

        // A key that stays on her device.
        let key = KeyPair::generate().unwrap();
        let request = CertificateParams::new(["ada".to_owned()]).unwrap();
        let csr = request.serialize_request(&key).unwrap().pem().unwrap();
        let on_device = json!({"hub_id": hub, "csr": csr});
        let flat = ada.api.post("/mesh/generate-config", &on_device).await.flat(201);
        let profile = ada.api.get(flat["download_url"].as_str().unwrap()).await.text();
        assert!(!profile.contains("PRIVATE KEY"), "{profile}");
        let wrong = json!({"hub_id": hub, "csr": "no request"});
        let error = ada.api.post("/mesh/generate-config", &wrong).await.envelope(400);
        assert_eq!(error["details"][0]["field"], "csr");

        // One of them she gives back herself; the others go with the grant.
        let revoked = format!("/configs/{config_id}/revoke");
        ada.api.post(&revoked, &json!({"reason": "superseded"})).await.ok();
        admin.delete(&format!("{path}/groups/ops")).await.ok();
        assert_eq!(revocation(&world, &config).await, "privilege_withdrawn");
        ada.api.get(&download).await.refused(404, "not_found");
        ada.api.post("/mesh/generate-config", &wanted).await.refused(403, "access_denied");
        assert!(ada.api.get("/mesh/hubs").await.list().is_empty());
        let active = admin.get(&format!("/admin/configs?hub={hub}&status=active")).await.list();
        assert_eq!(active, Vec::<Value>::new());

        // The history has it all.
        let history = admin.get("/admin/audit?per_page=100").await;
        for event in [
            "mesh_hub.created", "mesh_hub.spoke_added", "mesh_hub.network_attached",
            "mesh_hub.group_granted", "mesh_hub.server_certificate_installed",
            "certificate.issued", "mesh_hub.group_revoked", "certificate.revoked",
        ] {
            let there = history.list().iter().any(|entry| entry["event"] == event);
            assert!(there, "{event} in {}", history.text());
        }
        assert!(!history.text().contains("sec-"), "{}", history.text());
    }

    /// No agent asks at a hub's door. So who may no longer use it loses their certificate, whichever way
    /// it came about, and who still may keeps it.
    async fn who_may_no_longer_use_a_hub_loses_the_certificate(world: World) {
        let admin = world.admin().await;
        let hub = admin.create_hub("europe").await;
        let path = format!("/admin/mesh/hubs/{hub}");
        admin.post(&format!("{path}/groups"), &json!({"group": "ops"})).await.created();
        let ada = admin.create_user_with("ada", json!({"groups": ["ops"]})).await;
        admin.grant_hub(&hub, &ada).await;
        let adas = ada.api.generate_mesh_config(&hub).await;

        // By herself no longer; still by her group.
        admin.delete(&format!("{path}/users/{}", ada.id)).await.ok();

        // By himself, and then not.
        let bob = admin.create_user("bob").await;
        admin.grant_hub(&hub, &bob).await;
        let config = bob.api.generate_mesh_config(&hub).await;
        admin.delete(&format!("{path}/users/{}", bob.id)).await.ok();
        assert_eq!(revocation(&world, &config).await, "privilege_withdrawn");

        // By a group that he is in no longer.
        let groups = format!("/admin/users/{}/groups", bob.id);
        admin.put(&groups, &json!({"groups": ["ops"]})).await.ok();
        let config = bob.api.generate_mesh_config(&hub).await;
        admin.put(&groups, &json!({"groups": []})).await.ok();
        assert_eq!(revocation(&world, &config).await, "privilege_withdrawn");

        // Disabled; enabled again, he must generate another.
        admin.grant_hub(&hub, &bob).await;
        let config = bob.api.generate_mesh_config(&hub).await;
        let user = format!("/admin/users/{}", bob.id);
        admin.post(&format!("{user}/disable"), &Value::Null).await.ok();
        assert_eq!(revocation(&world, &config).await, "privilege_withdrawn");
        admin.post(&format!("{user}/enable"), &Value::Null).await.ok();

        // Deleted.
        let bob = world.anyone().login("bob", PASSWORD).await;
        let config = bob.generate_mesh_config(&hub).await;
        admin.delete(&user).await.ok();
        assert_eq!(revocation(&world, &config).await, "affiliation_changed");

        // All the while Ada could use it. With the hub everything of it goes.
        assert_eq!(check(&world, &adas.serial).await["status"], "good");
        let spoke = admin.create_spoke(&hub, "berlin", &["10.20.0.0/16"]).await;
        let router = generate(&admin, &spoke).await;
        let server = serial_in(&format!("<cert>\n{}</cert>\n",
            provision(&admin, &hub).await["server_cert"].as_str().unwrap()));
        admin.delete(&path).await.ok();
        for serial in [&adas.serial, &serial_in(&router), &server] {
            assert_eq!(revoked(&world, serial).await, "cessation_of_operation");
        }
        admin.get(&format!("/admin/mesh/spokes/{spoke}")).await.refused(404, "not_found");
        assert_eq!(admin.delete(&format!("/admin/mesh/spokes/{spoke}")).await.ok()["id"], *spoke);
        admin.post(&format!("{path}/provision"), &Value::Null).await.refused(404, "not_found");
    }

    /// All servers share one authority: a hub's certificates are worth nothing at a gateway.
    async fn a_gateway_refuses_a_hubs_certificates(world: World) {
        let admin = world.admin().await;
        let (gateway, hub) = (admin.create_gateway("us-east-1").await, admin.create_hub("eu").await);
        let ada = admin.create_user("ada").await;
        admin.grant(&gateway, &ada).await;
        admin.grant_hub(&hub, &ada).await;
        let at_hub = ada.api.generate_mesh_config(&hub).await;
        let at_gateway = ada.api.generate_config(&gateway).await;
        let spoke = admin.create_spoke(&hub, "berlin", &["10.20.0.0/16"]).await;
        let router = serial_in(&generate(&admin, &spoke).await);
        for (serial, common_name) in [
            (&at_hub.serial, format!("{hub}.{}", ada.id)),
            (&at_hub.serial, ada.email.clone()),
            (&router, format!("{hub}.{spoke}")),
        ] {
            let asked = json!({
                "common_name": common_name, "serial_number": serial, "client_ip": "198.51.100.2",
                "vpn_ipv4": "172.31.255.2",
            });
            let verified = gateway.agent.post("/gateway/verify", &asked).await.flat(200);
            assert_eq!(verified["allowed"], false, "{common_name}: {verified}");
            let connected = gateway.agent.post("/gateway/connect", &asked).await.json();
            assert_eq!(connected["allow"], false, "{common_name}: {connected}");
            assert_eq!(connected["client_config"], json!(["disable"]));
            // Not even with the password of a config that is good.
            let mut asked = asked;
            asked["password"] = json!(at_gateway.password);
            let verified = gateway.agent.post("/gateway/verify", &asked).await.flat(200);
            assert_eq!(verified["allowed"], false, "{common_name}: {verified}");
        }
        let asked = json!({"common_name": ada.email, "serial_number": at_gateway.serial,
            "client_ip": "198.51.100.2"});
        let verified = gateway.agent.post("/gateway/verify", &asked).await.flat(200);
        assert_eq!(verified["allowed"], true, "{verified}");
    }

    /// A spoke through its life, and its router's certificate.
    async fn a_spoke_is_joined_changed_and_parted(world: World) {
        let admin = world.admin().await;
        let hub = admin.create_hub("europe").await;
        let spokes = format!("/admin/mesh/hubs/{hub}/spokes");
        let body = json!({
            "name": "Berlin", "description": "The office in Berlin",
            "local_networks": ["10.20.0.0/16", "fd00:20::/32"],
        });
        let made = admin.post(&spokes, &body).await;
        let data = made.created();
        let path = format!("/admin/mesh/spokes/{}", id(&data));
        assert_eq!(made.header("location"), format!("/api/v1{path}"));
        let read = admin.get(&path).await;
        assert_eq!((read.ok(), read.header("etag")), (data.clone(), made.header("etag")));
        assert_eq!((&data["hub_id"], &data["certificate"]), (&json!(hub), &json!(null)));
        for (field, value) in body.as_object().unwrap() {
            assert_eq!(&data[field], value, "{field}");
        }
        assert_eq!(admin.get(&format!("{spokes}?q=berl")).await.list(), [data]);

        // Whoever joins another site does not change the hub's form, nor this one's.
        let hubs_tag = admin.get(&format!("/admin/mesh/hubs/{hub}")).await.header("etag").to_owned();
        admin.create_spoke(&hub, "Paris", &["10.30.0.0/16"]).await;
        let hub_now = admin.get(&format!("/admin/mesh/hubs/{hub}")).await;
        assert_eq!(hub_now.header("etag"), hubs_tag);

        // Changed by those who have seen it.
        let change = json!({"name": "Berlin", "local_networks": ["10.20.0.0/15"]});
        let changed = put(&admin, &path, read.header("etag"), &change).await;
        assert_eq!(changed.ok()["local_networks"], json!(["10.20.0.0/15"]));
        assert_eq!(changed.ok()["description"], "");
        put(&admin, &path, read.header("etag"), &body).await.refused(412, "changed_meanwhile");
        delete(&admin, &path, read.header("etag")).await.refused(412, "changed_meanwhile");
        let again = admin.put(&path, &change).await;
        assert_eq!((again.ok(), again.header("etag")), (changed.ok(), changed.header("etag")));
        let patch = json!({"description": "Moved"});
        let patched = admin.send(Method::PATCH, &path, |it| it.json(&patch)).await;
        assert_eq!(patched.ok()["local_networks"], json!(["10.20.0.0/15"]));
        assert_eq!(patched.ok()["description"], "Moved");
        let stale = admin.send(Method::PATCH, &path, |it| {
            it.header("if-match", changed.header("etag")).json(&patch)
        });
        stale.await.refused(412, "changed_meanwhile");
        let changed = patched;

        // Its router's profile is told once; the next one revokes it.
        let generate_config = format!("{path}/generate-config");
        let first = admin.post(&generate_config, &json!({})).await;
        assert_eq!(first.header("location"), format!("/api/v1{path}"));
        assert_eq!(first.header("cache-control"), "no-store");
        let first = first.created();
        let (profile, spoke) = (first["profile"].as_str().unwrap(), id(&changed.ok()));
        assert_eq!(subject(&block(profile, "cert").into()), format!("CN={hub}.{spoke}"));
        assert!(profile.contains(&format!("\nverify-x509-name {hub} name\n")), "{profile}");
        assert_eq!(first["file_name"], "Berlin.ovpn");
        let certificate = admin.get(&path).await.ok()["certificate"].take();
        assert_eq!(certificate["id"], first["config_id"]);
        assert_eq!(certificate["expires_at"], first["expires_at"]);
        admin.get(&format!("/configs/download/{}", id(&certificate))).await.envelope(404);
        assert!(admin.get("/admin/configs").await.list().is_empty(), "it is nobody's");

        let key = KeyPair::generate().unwrap();
        let request = CertificateParams::new(["router".to_owned()]).unwrap();
        let csr = request.serialize_request(&key).unwrap().pem().unwrap();
        let second = admin.post(&generate_config, &json!({"csr": csr})).await.created();
        let second = second["profile"].as_str().unwrap();
        assert!(!second.contains("PRIVATE KEY"), "{second}");
        assert_eq!(revoked(&world, &serial_in(profile)).await, "superseded");
        assert_eq!(check(&world, &serial_in(second)).await["status"], "good");

        // Parted: its certificate is worth nothing, and what it had is free.
        let gone = delete(&admin, &path, changed.header("etag")).await.ok();
        assert_eq!(gone, json!({"id": spoke}));
        assert_eq!(admin.delete(&path).await.ok(), gone);
        assert_eq!(revoked(&world, &serial_in(second)).await, "cessation_of_operation");
        admin.get(&path).await.refused(404, "not_found");
        admin.put(&path, &change).await.refused(404, "not_found");
        admin.post(&generate_config, &json!({})).await.refused(404, "not_found");
        admin.post(&spokes, &body).await.created();
    }

    /// Addresses belong to one; whoever is in the way is named.
    async fn what_overlaps_is_named(world: World) {
        let admin = world.admin().await;
        let gateway = json!({"vpn_subnet": "10.8.0.0/16"});
        let gateway = admin.create_gateway_with("us-east-1", gateway).await;
        let hub = json!({"vpn_subnet": "10.9.0.0/24", "local_networks": ["10.1.0.0/16"]});
        let hub = admin.create_hub_with("europe", hub).await;
        let spoke = admin.create_spoke(&hub, "berlin", &["10.20.0.0/16", "fd00:20::/32"]).await;
        let path = format!("/admin/mesh/hubs/{hub}");
        let named = |subnet: &str| {
            json!({"name": "x", "public_endpoint": "x.example.com", "hostname": "x.example.com",
                "vpn_subnet": subnet})
        };
        let hub_body = |subnet: &str, local_networks: &[&str]| {
            json!({"name": "europe", "public_endpoint": "hub.example.com", "vpn_subnet": subnet,
                "local_networks": local_networks})
        };
        let without = |mut body: Value, field: &str| {
            body.as_object_mut().unwrap().remove(field);
            body
        };
        let spokes = format!("{path}/spokes");
        let site = |networks: &[&str]| json!({"name": "x", "local_networks": networks});
        let is_berlin = format!("`berlin` ({spoke})");
        let is_gateway = format!("`us-east-1` ({})", gateway.id);
        let is_hub = format!("`europe` ({hub})");
        for (method, at, body, field, name) in [
            ("POST", "/admin/mesh/hubs", without(named("10.8.7.0/24"), "hostname"), "vpn_subnet",
                &*is_gateway),
            ("POST", "/admin/mesh/hubs", without(named("10.9.0.0/16"), "hostname"), "vpn_subnet",
                &*is_hub),
            ("POST", "/admin/gateways", without(named("10.9.0.0/25"), "public_endpoint"),
                "vpn_subnet", &*is_hub),
            ("PUT", &*path, hub_body("10.8.1.0/24", &[]), "vpn_subnet", &*is_gateway),
            ("PUT", &*path, hub_body("10.20.3.0/24", &[]), "vpn_subnet", &*is_berlin),
            ("PUT", &*path, hub_body("10.9.0.0/24", &["10.0.0.0/8"]), "local_networks",
                "the hub's vpn_subnet"),
            ("PUT", &*path, hub_body("10.9.0.0/24", &["fd00::/16"]), "local_networks", &*is_berlin),
            ("POST", &*spokes, site(&["10.20.7.0/24"]), "local_networks", &*is_berlin),
            ("POST", &*spokes, site(&["fd00:20:1::/48"]), "local_networks", &*is_berlin),
            ("POST", &*spokes, site(&["10.9.0.0/24"]), "local_networks", "the hub's vpn_subnet"),
            ("POST", &*spokes, site(&["10.1.2.0/24"]), "local_networks", "the hub's local_networks"),
            ("POST", &*spokes, site(&["10.40.0.0/16", "10.40.1.0/24"]), "local_networks",
                "the same list"),
        ] {
            let answer = match method {
                "POST" => admin.post(at, &body).await,
                _ => admin.put(at, &body).await,
            };
            let error = answer.refused(409, "overlaps");
            assert_eq!(error["details"][0]["field"], field, "{method} {at} {body}: {error}");
            assert!(error["message"].as_str().unwrap().contains(name), "{name} in {error}");
        }

        // Names belong to one, too: a spoke's within its hub.
        let error = admin.post(&spokes, &json!({"name": "BERLIN"})).await;
        let error = error.refused(409, "already_taken");
        assert_eq!(error["details"][0]["field"], "name");
        assert!(error["message"].as_str().unwrap().contains(&spoke), "{error}");
        let other = admin.create_hub("asia").await;
        admin.create_spoke(&other, "berlin", &["10.20.0.0/16"]).await;

        // What is no network, or too many.
        let many: Vec<String> = (0..65).map(|n| format!("10.100.{n}.0/24")).collect();
        for (body, field) in [
            (json!({"name": "x", "local_networks": ["10.1.0.1/16"]}), "local_networks"),
            (json!({"name": "x", "local_networks": ["office"]}), "local_networks"),
            (json!({"name": "x", "local_networks": many}), "local_networks"),
            (json!({"local_networks": []}), "name"),
        ] {
            let error = admin.post(&spokes, &body).await.envelope(400);
            let named = error["details"][0]["field"].as_str().unwrap();
            assert!(named.starts_with(field), "{error}");
        }
        for (field, value) in
            [("port", json!(0)), ("public_endpoint", json!("a b")), ("vpn_subnet", json!("fd00::/64"))]
        {
            let mut body = without(named("10.10.0.0/24"), "hostname");
            body[field] = value;
            let error = admin.post("/admin/mesh/hubs", &body).await.envelope(400);
            assert_eq!(error["details"][0]["field"], field, "{error}");
        }
        let nowhere = "/admin/mesh/hubs/hub-none/spokes";
        admin.post(nowhere, &site(&[])).await.refused(404, "not_found");
    }
}

on_both! {
    /// A certificate that was being made while the grant went is taken back all the same.
    async fn no_certificate_slips_through(kind: Kind) {
        let now = Clock::system().now();
        let plane = Plane::start(kind, now).await;
        let anyone = plane.serve().await;
        let admin = anyone.login("admin", ADMIN_PASSWORD).await;
        let hub = admin.create_hub("europe").await;
        let ada = admin.create_user("ada").await;
        // As if the grant had been there a moment before.
        let issue = certificate::Command::Issue(Issuance {
            subject: Subject::HubClient {
                user_id: ada.id.parse().unwrap(),
                hub_id: hub.parse().unwrap(),
                common_name: format!("{hub}.{}", ada.id).parse().unwrap(),
                bundle: "sec-none".parse().unwrap(),
            },
            serial: "5a0f".parse().unwrap(),
            not_before: now,
            not_after: now + TimeDelta::hours(1),
            fingerprint: "f".repeat(64),
        });
        let request = Request::new::<Certificate>("cfg-slipped", issue, metadata());
        plane.services().bus.execute::<Certificate>(request).await.unwrap();
        eventually("it is revoked", SOON, || async {
            let checked = anyone.get("/pki/check/5a0f").await.ok();
            (checked["reason"] == "privilege_withdrawn").then_some(())
        })
        .await;
    }
}

/// What the hub's server needs.
async fn provision(admin: &Api, hub: &str) -> Value {
    admin.post(&format!("/admin/mesh/hubs/{hub}/provision"), &Value::Null).await.ok()
}

/// A profile for a spoke's router.
async fn generate(admin: &Api, spoke: &str) -> String {
    let path = format!("/admin/mesh/spokes/{spoke}/generate-config");
    let generated = admin.post(&path, &json!({})).await.created();
    generated["profile"].as_str().unwrap().to_owned()
}

/// The subject of a certificate in PEM.
fn subject(pem: &Value) -> String {
    let (_, pem) = parse_x509_pem(pem.as_str().unwrap().as_bytes()).unwrap();
    pem.parse_x509().unwrap().subject().to_string()
}

async fn check(world: &World, serial: &str) -> Value {
    world.anyone().get(&format!("/pki/check/{serial}")).await.ok()
}

async fn revocation(world: &World, config: &Config) -> String {
    revoked(world, &config.serial).await
}

/// Why a certificate was revoked, once it was and is on the list.
async fn revoked(world: &World, serial: &str) -> String {
    eventually("it is revoked", SOON, || async {
        let crl = world.anyone().get("/pki/crl").await;
        let listed = serials_in_crl(&crl.has_status(200).body).iter().any(|it| it == serial);
        let reason = check(world, serial).await["reason"].take();
        reason.as_str().filter(|_| listed).map(str::to_owned)
    })
    .await
}
