//! The explanation of who may go where: each check with what decided it, and the same verdict as the
//! gateway's own questions get.

use super::{CLIENT_IP, Scene};
use crate::harness::Api;
use crate::harness::fixtures::{Config, Gateway, User};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use std::fmt::Write;

both! {
    async fn each_check_is_told_with_what_decided_it(world: World) {
        let scene = Scene::of(&world).await;
        let admin = &scene.admin;
        let ask = |query: &str| {
            let user = &scene.ada.email;
            let path = format!("/admin/access/explain?user={user}&gateway=US-EAST-1{query}");
            async move { admin.get(&path).await.ok() }
        };
        let told = ask("").await;
        assert_eq!((&told["allowed"], &told["reason"]), (&json!(true), &Value::Null));
        assert_eq!(told["user"], json!({
            "id": scene.ada.id, "username": "ada", "email": scene.ada.email,
        }));
        assert_eq!(told["gateway"], json!({"id": scene.gateway.id, "name": "us-east-1"}));
        let order: Vec<_> =
            checks(&told).iter().map(|it| it["check"].as_str().unwrap().to_owned()).collect();
        assert_eq!(order, [
            "gateway", "user", "certificate", "grant", "geo_fence", "destination",
        ]);
        assert_eq!(of(&told, "gateway")["decided_by"]["gateway"], told["gateway"]);
        assert_eq!(of(&told, "user")["decided_by"]["user"], told["user"]);
        let config = of(&told, "certificate");
        assert_eq!(config["decided_by"]["config"]["id"], scene.config.id);
        assert_eq!((&config["outcome"], &config["informative"]), (&json!("passed"), &json!(true)));
        let grant = of(&told, "grant");
        assert_eq!(grant["decided_by"]["granted"], json!({"directly": true, "groups": []}));
        assert_eq!(outcome(&told, "geo_fence"), ("skipped", "geo_fence_disabled"));
        assert_eq!(outcome(&told, "destination"), ("skipped", "no_destination_asked"));

        // By a group, through the fence, to the wiki.
        let groups = format!("/admin/users/{}/groups", scene.ada.id);
        admin.put(&groups, &json!({"groups": ["staff"]})).await.ok();
        let of_gateway = format!("/admin/gateways/{}/groups", scene.gateway.id);
        admin.post(&of_gateway, &json!({"group": "staff"})).await.created();
        scene.ungrant().await;
        let office = admin.create_fence_rule("office", "198.51.100.0/24").await;
        admin.fence("groups/staff", &office).await;
        admin.set_fence(true, "enforce").await;
        let to_wiki = "&destination=10.77.0.10&port=443&protocol=tcp";
        let told = ask(&format!("&client_ip={CLIENT_IP}{to_wiki}")).await;
        assert_eq!(told["allowed"], true, "{told}");
        let grant = of(&told, "grant");
        assert_eq!(grant["reason"], "granted_by_group");
        assert_eq!(grant["decided_by"]["granted"], json!({"directly": false, "groups": ["staff"]}));
        assert_eq!(of(&told, "geo_fence")["decided_by"]["geo_fence"], json!({
            "enabled": true, "mode": "enforce", "level": "group",
            "rule": {"id": office, "name": "office", "cidr": "198.51.100.0/24"},
        }));
        assert_eq!(of(&told, "destination")["decided_by"]["access_rules"], json!([{
            "id": scene.wiki, "name": "wiki", "type": "ip", "value": "10.77.0.10",
            "port_range": "443", "protocol": "tcp", "assigned": {"directly": true, "groups": []},
            "network": {"id": scene.offices, "name": "offices"},
        }]));

        // Every check is made, and the first that stands in the way is the reason.
        let told = ask("&client_ip=203.0.113.9&destination=10.77.0.10&port=80").await;
        assert_eq!((&told["allowed"], &told["reason"]), (
            &json!(false), &json!("outside_geo_fence"),
        ));
        assert_eq!(outcome(&told, "destination"), ("failed", "no_rule_matches"));
        assert_eq!(outcome(&ask("").await, "geo_fence"), ("failed", "no_client_ip"));
        admin.set_fence(true, "audit").await;
        let told = ask("&client_ip=203.0.113.9").await;
        assert_eq!(told["allowed"], true);
        assert_eq!(outcome(&told, "geo_fence"), ("passed", "fence_would_deny"));
        let revoke = json!({"serial": scene.config.serial});
        admin.post("/admin/pki/revoke", &revoke).await.ok();
        let told = ask("").await;
        assert_eq!(outcome(&told, "certificate"), ("failed", "certificate_revoked"));
        assert_eq!(told["allowed"], true, "they can have a new one made");
        let path = format!("/admin/users/{}/disable", scene.ada.id);
        admin.post(&path, &json!({})).await.ok();
        assert_eq!(ask("").await["reason"], "user_disabled");
        for check in checks(&told) {
            assert!(check["message"].as_str().is_some_and(|it| it.contains(' ')), "{check}");
        }
    }

    async fn what_is_not_there_is_named(world: World) {
        let scene = Scene::of(&world).await;
        let ask = |query: &str| {
            let path = format!("/admin/access/explain?{query}");
            let admin = scene.admin.clone();
            async move { admin.get(&path).await }
        };
        let gateway = format!("gateway={}", scene.gateway.id);
        for user in [&*scene.ada.id, "ada", "ADA@EXAMPLE.COM"] {
            assert_eq!(ask(&format!("user={user}&{gateway}")).await.ok()["user"]["username"], "ada");
        }
        for (query, field, name) in [
            (format!("user=eve&{gateway}"), "user", "`eve`"),
            (format!("user=usr-none&{gateway}"), "user", "`usr-none`"),
            ("user=ada&gateway=nowhere".to_owned(), "gateway", "`nowhere`"),
            ("user=ada&gateway=gw-none".to_owned(), "gateway", "`gw-none`"),
        ] {
            let error = ask(&query).await.refused(404, "not_found");
            assert_eq!(error["details"][0]["field"], field, "{query}");
            assert!(error["message"].as_str().unwrap().contains(name), "{error}");
        }
        for (query, field) in [
            ("destination=10.77.0", "destination"),
            ("destination=10.77.0.0/24", "destination"),
            ("destination=", "destination"),
            ("port=443", "port"),
            ("protocol=tcp", "protocol"),
            ("destination=10.77.0.10&port=0", "port"),
            ("destination=10.77.0.10&port=65536", "port"),
            ("destination=10.77.0.10&port=1&protocol=icmp", "port"),
            ("destination=10.77.0.10&protocol=gre", "protocol"),
            ("client_ip=here", "client_ip"),
            ("who=ada", "who"),
        ] {
            let error = ask(&format!("user=ada&{gateway}&{query}")).await.envelope(400);
            assert_eq!(error["details"][0]["field"], field, "{query}");
        }
        assert_eq!(ask(&gateway).await.envelope(400)["details"][0]["field"], "user");
        // Auditors may ask.
        let vera = scene.admin.create_user_with("vera", json!({"role": "auditor"})).await;
        vera.api.get(&format!("/admin/access/explain?user=ada&{gateway}")).await.ok();
    }

    /// Whatever is configured, and however it came to be so: what is explained is what the gateway
    /// is told, at its door and for who is in.
    async fn what_is_explained_is_what_happens(world: World) {
        let mut town = Town::build(world.admin().await).await;
        let mut allowed = 0;
        let mut denied = std::collections::BTreeMap::<String, usize>::new();
        for _ in 0..120 {
            for _ in 0..3 {
                town.change().await;
            }
            let asked = town.question();
            let told = town.explained(&asked).await;
            let happened = town.happens(&asked).await;
            let (denied_at_the_door, reached) = happened;
            assert_eq!(told["allowed"], reached, "{asked:?}\n{told:#}\n{}", town.history);
            // Nothing but a missing rule stands in the way of those who are in.
            let reason = denied_at_the_door.or((!reached).then(|| "no_rule_matches".to_owned()));
            assert_eq!(told["reason"].as_str(), reason.as_deref(), "{told:#}\n{}", town.history);
            match told["reason"].as_str() {
                None => allowed += 1,
                Some(reason) => *denied.entry(reason.to_owned()).or_default() += 1,
            }
        }
        assert!(allowed >= 5, "{allowed} allowed, {denied:?}");
        for reason in ["not_granted", "outside_geo_fence", "no_rule_matches"] {
            assert!(denied.contains_key(reason), "never {reason}: {allowed} allowed, {denied:?}");
        }
    }
}

fn checks(told: &Value) -> &[Value] {
    told["checks"].as_array().expect("checks")
}

#[track_caller]
fn of<'a>(told: &'a Value, check: &str) -> &'a Value {
    checks(told).iter().find(|it| it["check"] == check).expect("the check")
}

#[track_caller]
fn outcome<'a>(told: &'a Value, check: &str) -> (&'a str, &'a str) {
    let check = of(told, check);
    (check["outcome"].as_str().expect("an outcome"), check["reason"].as_str().expect("a reason"))
}

const GROUPS: [&str; 2] = ["staff", "travellers"];
const SOURCES: [&str; 3] = ["198.51.100.2", "203.0.113.9", "2001:db8::9"];
const HOSTS: [&str; 3] = ["10.77.0.10", "10.77.0.99", "10.78.0.10"];
const PORTS: [u16; 2] = [443, 8080];

/// Few of everything, so that it meets: and one thing after the other is changed at random.
struct Town {
    admin: Api,
    random: StdRng,
    gateways: Vec<(String, Gateway)>,
    people: Vec<(User, Vec<Config>)>,
    networks: Vec<String>,
    rules: Vec<(String, Value)>,
    fences: Vec<String>,
    /// What was done, for when it goes wrong.
    history: String,
}

/// Who wants to go where, from where.
#[derive(Debug)]
struct Asked {
    person: usize,
    gateway: usize,
    from: &'static str,
    host: &'static str,
    port: u16,
}

impl Town {
    async fn build(admin: Api) -> Self {
        let mut gateways = Vec::new();
        for name in ["east", "west"] {
            gateways.push((name.to_owned(), admin.create_gateway(name).await));
        }
        let mut people = Vec::new();
        for name in ["ada", "bob"] {
            let user = admin.create_user(name).await;
            let mut configs = Vec::new();
            for (_, gateway) in &gateways {
                admin.grant(gateway, &user).await;
                configs.push(user.api.generate_config(gateway).await);
            }
            people.push((user, configs));
        }
        let mut networks = Vec::new();
        for (name, cidr) in [("office", "10.77.0.0/24"), ("lab", "10.78.0.0/24")] {
            let network = admin.create_network(name, cidr).await;
            for (_, gateway) in &gateways {
                admin.attach(gateway, &network).await;
            }
            networks.push(network);
        }
        let mut rules = Vec::new();
        for body in [
            json!({"name": "wiki", "type": "ip", "value": "10.77.0.10", "port_range": "443"}),
            json!({"name": "office", "type": "cidr", "value": "10.77.0.0/25", "protocol": "tcp"}),
            json!({"name": "lab", "type": "cidr", "value": "10.78.0.0/24"}),
            json!({"name": "ping", "type": "cidr", "value": "10.77.0.0/24", "protocol": "icmp"}),
        ] {
            let made = admin.post("/admin/access-rules", &body).await.created();
            let id = made["id"].as_str().unwrap().to_owned();
            for (user, _) in &people {
                admin.assign(&id, user).await;
            }
            rules.push((id, body));
        }
        let mut fences = Vec::new();
        for (name, cidr) in [("office", "198.51.100.0/24"), ("all", "0.0.0.0/0"), ("v6", "::/0")] {
            fences.push(admin.create_fence_rule(name, cidr).await);
        }
        admin.fence("global", &fences[1]).await;
        let random = StdRng::seed_from_u64(20_261_124);
        let history = String::new();
        Self { admin, random, gateways, people, networks, rules, fences, history }
    }

    fn pick(&mut self, below: usize) -> usize {
        self.random.random_range(0..below)
    }

    fn maybe(&mut self, of_ten: u32) -> bool {
        self.random.random_ratio(of_ten, 10)
    }

    /// Changes something.
    async fn change(&mut self) {
        let (name, gateway) = &self.gateways[self.random.random_range(0..self.gateways.len())];
        let (name, gateway) = (name.clone(), gateway.id.clone());
        let person = self.pick(self.people.len());
        let user = self.people[person].0.id.clone();
        let group = *GROUPS.choose(&mut self.random).unwrap();
        let yes = self.maybe(7);
        // Else little would be seen of what comes after it.
        let mostly = self.maybe(9);
        match self.pick(12) {
            0 => {
                let body = json!({"name": name, "hostname": "vpn.example.com", "active": mostly});
                self.put(&format!("/admin/gateways/{gateway}"), &body).await;
            }
            1 => {
                let what = if mostly { "enable" } else { "disable" };
                self.post(&format!("/admin/users/{user}/{what}"), &json!({})).await;
            }
            2 => {
                let groups: Vec<_> = GROUPS.into_iter().filter(|_| self.maybe(5)).collect();
                let body = json!({ "groups": groups });
                self.put(&format!("/admin/users/{user}/groups"), &body).await;
            }
            3 => {
                let list = format!("/admin/gateways/{gateway}/users");
                self.give(yes, &list, "user_id", &user).await;
            }
            4 => {
                let list = format!("/admin/gateways/{gateway}/groups");
                self.give(yes, &list, "group", group).await;
            }
            5 => {
                let network = self.networks.choose(&mut self.random).unwrap().clone();
                let list = format!("/admin/gateways/{gateway}/networks");
                self.give(yes, &list, "network_id", &network).await;
            }
            6 => {
                let (rule, _) = self.rules.choose(&mut self.random).unwrap().clone();
                let list = format!("/admin/access-rules/{rule}");
                if self.maybe(5) {
                    self.give(yes, &format!("{list}/users"), "user_id", &user).await;
                } else {
                    self.give(yes, &format!("{list}/groups"), "group", group).await;
                }
            }
            7 => {
                let (rule, mut body) = self.rules.choose(&mut self.random).unwrap().clone();
                body["active"] = json!(yes);
                self.put(&format!("/admin/access-rules/{rule}"), &body).await;
            }
            8 => {
                let mode = if self.maybe(7) { "enforce" } else { "audit" };
                let body = json!({"enabled": mostly, "mode": mode});
                self.put("/admin/geo-fence/settings", &body).await;
            }
            _ => {
                let rule = self.fences.choose(&mut self.random).unwrap().clone();
                let to = match self.pick(3) {
                    0 => format!("users/{user}"),
                    1 => format!("groups/{group}"),
                    _ => "global".to_owned(),
                };
                let attach = self.maybe(5);
                let list = format!("/admin/geo-fence/{to}");
                self.give(attach, &list, "rule_id", &rule).await;
            }
        }
    }

    async fn put(&mut self, path: &str, body: &Value) {
        writeln!(self.history, "PUT {path} {body}").unwrap();
        self.admin.put(path, body).await.ok();
    }

    async fn post(&mut self, path: &str, body: &Value) {
        writeln!(self.history, "POST {path} {body}").unwrap();
        self.admin.post(path, body).await.ok();
    }

    /// Gives `what`, or takes it away.
    async fn give(&mut self, yes: bool, list: &str, field: &str, what: &str) {
        writeln!(self.history, "{} {list} {what}", if yes { "to" } else { "from" }).unwrap();
        if yes {
            let status = self.admin.post(list, &json!({field: what})).await.status.as_u16();
            assert!([200, 201].contains(&status), "{list} {what}: {status}");
        } else {
            // What was never given can't be taken.
            let status = self.admin.delete(&format!("{list}/{what}")).await.status.as_u16();
            assert!([200, 404].contains(&status), "{list} {what}: {status}");
        }
    }

    fn question(&mut self) -> Asked {
        Asked {
            person: self.pick(self.people.len()),
            gateway: self.pick(self.gateways.len()),
            from: SOURCES.choose(&mut self.random).unwrap(),
            host: HOSTS.choose(&mut self.random).unwrap(),
            port: *PORTS.choose(&mut self.random).unwrap(),
        }
    }

    async fn explained(&self, asked: &Asked) -> Value {
        let (user, gateway) = (&self.people[asked.person].0.email, &self.gateways[asked.gateway].0);
        let Asked { from, host, port, .. } = asked;
        let path = format!(
            "/admin/access/explain?user={user}&gateway={gateway}&client_ip={from}\
             &destination={host}&port={port}&protocol=tcp"
        );
        self.admin.get(&path).await.ok()
    }

    /// Why they are not let in, and whether they then reach it: as the gateway is told.
    async fn happens(&self, asked: &Asked) -> (Option<String>, bool) {
        let (user, configs) = &self.people[asked.person];
        let (config, agent) = (&configs[asked.gateway], &self.gateways[asked.gateway].1.agent);
        let vpn_ip = format!("172.31.255.{}", 2 + asked.person);
        let body = json!({
            "common_name": user.email, "serial_number": config.serial, "client_ip": asked.from,
        });
        let verified = agent.post("/gateway/verify", &body).await.flat(200);
        let mut body = body;
        body["vpn_ipv4"] = json!(vpn_ip);
        let connected = agent.post("/gateway/connect", &body).await.flat(200);
        assert_eq!(verified["allowed"], connected["allow"], "{verified} {connected}");
        let poll = json!({"user_id": user.email, "client_ip": vpn_ip});
        let polled = agent.post("/gateway/client-rules", &poll).await.flat(200);
        let rules = polled["allowed"].as_array().expect("rules");
        let reached = rules.iter().any(|rule| lets_through(rule, asked));
        if verified["allowed"] == true {
            let left = json!({"common_name": user.email, "client_ip": asked.from,
                "session_id": connected["session_id"]});
            agent.post("/gateway/disconnect", &left).await.flat(200);
        }
        assert_eq!(verified["code"], connected["code"]);
        let code = verified["code"].as_str().map(ToOwned::to_owned);
        assert_eq!(verified["allowed"] == true, code.is_none(), "{verified}");
        (code, verified["allowed"] == true && reached)
    }
}

/// Whether an agent's firewall lets TCP through to there.
fn lets_through(rule: &Value, asked: &Asked) -> bool {
    let text = |field: &str| rule[field].as_str().expect("a text");
    let host: std::net::IpAddr = asked.host.parse().unwrap();
    let is_there = match text("type") {
        "ip" => text("value").parse() == Ok(host),
        "cidr" => text("value").parse::<ipnet::IpNet>().unwrap().contains(&host),
        _ => false,
    };
    let by_port = text("port").is_empty() || text("port") == asked.port.to_string();
    is_there && by_port && ["", "tcp"].contains(&text("protocol"))
}
