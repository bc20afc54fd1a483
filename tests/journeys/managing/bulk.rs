//! The configuration as a file: exported, kept, imported again and elsewhere.

use crate::harness::fixtures::id;
use crate::harness::history::{History, carry_out};
use crate::harness::log::{Log, master, metadata};
use crate::harness::server::{MASTER_KEY, Server};
use crate::harness::{Api, Kind, World};
use gatekey::bulk::{self, Means, Plan, PlanError};
use gatekey::event_log::{Request, Store};
use gatekey::secrets::Vault;
use gatekey_aggregates::network::{Command, Network};
use gatekey_aggregates::user::{self, User};
use gatekey_aggregates::values::{NetworkId, Role, UserId};
use gatekey_aggregates::{PersonId, Personal};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Output;
use std::sync::Arc;
use tempfile::TempDir;

/// A file, and what becomes of it.
struct Desk {
    dir: TempDir,
}

/// How a command ended, and what it said.
#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        let code = output.status.code().expect("a code");
        Self { code, out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Said {
    #[track_caller]
    fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }
}

impl Desk {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a temporary directory") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Imports `yaml`, which on SQLite takes a stop of the server.
    fn import(&self, world: &World, yaml: &str, more: &[&str]) -> Said {
        let file = self.path("gatekey.yaml");
        std::fs::write(&file, yaml).expect("the file");
        let arguments = [&["import", file.to_str().expect("UTF-8")], more].concat();
        let writes = world.kind() == Kind::Sqlite && !more.contains(&"--dry-run");
        if writes {
            assert!(world.server.stop().success());
        }
        let said = world.server.command(&arguments).into();
        if writes {
            world.server.start_again();
        }
        said
    }
}

fn export(world: &World) -> String {
    Said::from(world.server.command(&["export"])).ok()
}

/// How many events there are.
async fn events(admin: &Api) -> i64 {
    admin.get("/admin/audit?per_page=1").await.list()[0]["position"].as_i64().expect("a position")
}

/// Something of everything, with people and a gateway's token that must not get out.
async fn furnish(admin: &Api) -> String {
    for name in ["ada", "bob"] {
        admin.create_user_with(name, json!({"groups": ["engineering"]})).await;
    }
    let ids: Vec<String> =
        admin.get("/admin/users?sort=username&q=example").await.list().iter().map(id).collect();
    let (ada, bob) = (&ids[ids.len() - 2], &ids[ids.len() - 1]);
    let office = admin.create_network("Office", "10.77.0.0/24").await;
    let lab = admin.create_network("lab: \"west\" # 2", "fd00:77::/64").await;
    let gateway = admin
        .create_gateway_with(
            "us-east-1",
            json!({
                "description": "Üb: - 'x' \\ é", "public_ip": "203.0.113.10", "port": 443,
                "protocol": "tcp", "vpn_subnet": "10.8.0.0/22", "crypto_profile": "fips",
                "tls_auth": false, "full_tunnel": true, "push_dns": true,
                "dns_servers": ["10.0.0.53", "fd00::53"],
            }),
        )
        .await;
    let second = admin.create_gateway("no").await;
    for network in [&office, &lab] {
        admin.attach(&gateway, network).await;
    }
    let wiki = admin
        .create_rule(
            "wiki",
            "hostname",
            "wiki.example.com",
            json!({"network_id": office, "port_range": "443", "protocol": "tcp"}),
        )
        .await;
    admin.create_rule("10", "cidr", "10.0.0.0/8", json!({"active": false})).await;
    for (list, holders) in [
        (format!("/admin/gateways/{}/users", gateway.id), json!([ada, bob])),
        (format!("/admin/access-rules/{wiki}/users"), json!([bob])),
    ] {
        for user_id in holders.as_array().expect("users") {
            admin.post(&list, &json!({"user_id": user_id})).await.created();
        }
    }
    for list in [
        format!("/admin/gateways/{}/groups", second.id),
        format!("/admin/access-rules/{wiki}/groups"),
    ] {
        for group in ["engineering", "Site Ops"] {
            admin.post(&list, &json!({"group": group})).await.created();
        }
    }
    let fence = json!({"name": "home", "cidr": "198.51.100.0/24", "description": "Where we are"});
    let fence = id(&admin.post("/admin/geo-fence/rules", &fence).await.created());
    let attach = json!({"rule_id": fence});
    admin.post("/admin/geo-fence/global", &attach).await.created();
    admin.post("/admin/geo-fence/groups/engineering", &attach).await.created();
    admin.post(&format!("/admin/geo-fence/users/{ada}"), &attach).await.created();
    let on = json!({"enabled": true, "mode": "audit"});
    admin.put("/admin/geo-fence/settings", &on).await.ok();
    admin.put("/admin/settings", &json!({"config_lifetime_hours": 8})).await.ok();
    gateway.token
}

const FURNISHED: &str = r#"# The configuration of GateKey, without people and secrets.
# `gatekey-server import` makes it so; `gatekey-server import --help` says how.
version: 1
settings:
  config_lifetime_hours: 8
  login_lifetime_hours: 12
  login_idle_minutes: 60
  gateway_offline_seconds: 90
  gateway_lost_grace_seconds: 60
  api_key_idle_days: 30
networks:
- name: "lab: \"west\" # 2"
  cidr: fd00:77::/64
  description: ""
- name: Office
  cidr: 10.77.0.0/24
  description: ""
gateways:
- name: "no"
  description: ""
  hostname: vpn.example.com
  port: 1194
  protocol: udp
  vpn_subnet: 172.31.255.0/24
  crypto_profile: modern
  tls_auth: true
  full_tunnel: false
  push_dns: false
  dns_servers: []
  active: true
  networks: []
  users: []
  groups:
  - engineering
  - Site Ops
- name: us-east-1
  description: "Üb: - 'x' \\ é"
  hostname: vpn.example.com
  public_ip: "203.0.113.10"
  port: 443
  protocol: tcp
  vpn_subnet: 10.8.0.0/22
  crypto_profile: fips
  tls_auth: false
  full_tunnel: true
  push_dns: true
  dns_servers:
  - "10.0.0.53"
  - fd00::53
  active: true
  networks:
  - "lab: \"west\" # 2"
  - Office
  users:
  - ada
  - bob
  groups: []
access_rules:
- name: "10"
  description: ""
  type: cidr
  value: 10.0.0.0/8
  active: false
  users: []
  groups: []
- name: wiki
  description: ""
  type: hostname
  value: wiki.example.com
  port_range: "443"
  protocol: tcp
  network: Office
  active: true
  users:
  - bob
  groups:
  - engineering
  - Site Ops
geo_fence_rules:
- name: home
  cidr: 198.51.100.0/24
  description: Where we are
  global: true
  users:
  - ada
  groups:
  - engineering
geo_fence:
  enabled: true
  mode: audit
"#;

both! {
    /// From one installation to another, and back to the same text.
    async fn a_configuration_is_carried_to_another_installation(world: World) {
        let admin = world.admin().await;
        let token = furnish(&admin).await;
        let exported = export(&world);
        assert_eq!(exported, FURNISHED);
        for secret in [token.as_str(), "sec-", "usr-", "gw-", "net-", "@"] {
            assert!(!exported.contains(secret), "{secret}");
        }

        let other = World::start(world.kind());
        let desk = Desk::new();
        let there = other.admin().await;
        // Nobody is made up.
        let refused = desk.import(&other, &exported, &[]);
        assert_eq!(refused.code, 1, "{refused:?}");
        assert!(refused.err.contains("`gateways[1].users[0]` `ada` is neither the user name"));
        for name in ["ada", "bob"] {
            there.create_user(name).await;
        }
        let tokens = desk.path("tokens");
        let said = desk.import(&other, &exported, &["--tokens", tokens.to_str().unwrap()]).ok();
        assert!(said.contains("7 to add, 2 to change, 0 to remove"), "{said}");
        assert!(said.contains("Done: 7 added, 2 changed, 0 removed"), "{said}");
        assert_eq!(export(&other), exported);

        // The tokens are for their owner only, and are good.
        assert_eq!(std::fs::metadata(&tokens).unwrap().permissions().mode() & 0o777, 0o600);
        let lines = std::fs::read_to_string(&tokens).unwrap();
        let lines: Vec<Vec<&str>> = lines.lines().map(|it| it.split('\t').collect()).collect();
        assert_eq!(lines.iter().map(|it| it[0]).collect::<Vec<_>>(), ["no", "us-east-1"]);
        for line in lines {
            assert!(!said.contains(line[2]));
            let beat = there.gateway(line[2]).post("/gateway/heartbeat", &json!({})).await;
            beat.has_status(200);
            assert_eq!(there.get(&format!("/admin/gateways/{}", line[1])).await.ok()["name"], line[0]);
        }

        // Once more is nothing more.
        let before = events(&there).await;
        assert_eq!(desk.import(&other, &exported, &["--prune"]).ok(), "No difference\n");
        assert_eq!(desk.import(&other, &exported, &["--dry-run"]).ok(), "No difference\n");
        // A server that starts tells its agents' silence, but nothing of the configuration.
        let news = events(&there).await - before;
        let seen = there.get(&format!("/admin/audit?per_page={}", news.max(1))).await.list();
        assert!(seen.iter().take(usize::try_from(news).unwrap()).all(|it| it["actor"]["id"] != "cli"), "{seen:?}");
    }

    async fn a_dry_run_shows_the_difference_and_writes_nothing(world: World) {
        let admin = world.admin().await;
        furnish(&admin).await;
        let desk = Desk::new();
        let wanted = r"
version: 1
settings: {config_lifetime_hours: 24}
networks:
- {name: office, cidr: 10.78.0.0/24, description: Moved}
- {name: attic, cidr: 10.79.0.0/24}
gateways:
- name: us-east-1
  hostname: vpn.example.com
  networks: [attic]
  users: [BOB]
  groups: [attic]
access_rules:
- {name: attic, type: ip, value: 10.79.0.1, network: ATTIC, port_range: 22, groups: [attic]}
- {name: wiki, type: hostname, value: wiki.example.com, network: office, users: []}
";
        let before = events(&admin).await;
        let said = desk.import(&world, wanted, &["--dry-run"]);
        let expected = r#"~ settings
    config_lifetime_hours: 8 -> 24
~ network office
    name: Office -> office
    cidr: 10.77.0.0/24 -> 10.78.0.0/24
    description: "" -> Moved
+ network attic
    name: attic
    cidr: 10.79.0.0/24
    description: ""
~ gateway us-east-1
    description: "Üb: - 'x' \\ é" -> ""
    public_ip: 203.0.113.10 -> none
    port: 443 -> 1194
    protocol: tcp -> udp
    crypto_profile: fips -> modern
    tls_auth: false -> true
    full_tunnel: true -> false
    push_dns: true -> false
    dns_servers: [10.0.0.53, fd00::53] -> []
    networks: + attic
    groups: + attic
+ access rule attic
    name: attic
    description: ""
    type: ip
    value: 10.79.0.1
    port_range: 22
    network: attic
    active: true
    groups: attic
~ access rule wiki
    port_range: 443 -> none
    protocol: tcp -> none
= network "lab: \"west\" # 2" (not in the file; --prune removes it)
= gateway no (not in the file; --prune removes it)
= network Office of gateway us-east-1 (not in the file; --prune removes it)
= network "lab: \"west\" # 2" of gateway us-east-1 (not in the file; --prune removes it)
= user ada of gateway us-east-1 (not in the file; --prune removes it)
= access rule 10 (not in the file; --prune removes it)
= user bob of access rule wiki (not in the file; --prune removes it)
2 to add, 4 to change, 0 to remove
"#;
        let lines = |text: &str| {
            let mut kept: Vec<&str> = text.lines().filter(|it| it.starts_with('=')).collect();
            kept.sort_unstable();
            let rest: Vec<&str> = text.lines().filter(|it| !it.starts_with('=')).collect();
            (rest.join("\n"), kept.join("\n"))
        };
        assert_eq!(said.code, 2, "{said:?}");
        assert_eq!(lines(&said.out), lines(expected));
        assert_eq!(events(&admin).await, before);
        assert_eq!(export(&world), FURNISHED);

        // With the removals, and then for real.
        let said = desk.import(&world, wanted, &["--dry-run", "--prune"]);
        assert_eq!(said.code, 2);
        for line in [
            "    networks: + attic, - \"lab: \\\"west\\\" # 2\", - Office\n",
            "    users: - ada\n",
            "    users: - bob\n",
            "- access rule 10\n- gateway no\n- network \"lab: \\\"west\\\" # 2\"\n",
            "2 to add, 4 to change, 3 to remove\n",
        ] {
            assert!(said.out.contains(line), "{line}: {}", said.out);
        }
        assert!(!said.out.contains("\n= "), "{}", said.out);
        let done = desk.import(&world, wanted, &["--prune"]).ok();
        assert!(done.starts_with(&said.out), "{done}");
        assert!(done.contains("Done: 2 added, 4 changed, 3 removed\n"), "{done}");
        assert_eq!(desk.import(&world, wanted, &["--prune"]).ok(), "No difference\n");
        let networks = admin.get("/admin/networks").await.list();
        let names: Vec<&Value> = networks.iter().map(|it| &it["name"]).collect();
        assert_eq!(names, ["attic", "office"]);
        // What the file is silent about stays: who is on a list that it does not have.
        let rule = &admin.get("/admin/access-rules?q=wiki").await.list()[0];
        let groups = admin.get(&format!("/admin/access-rules/{}/groups", id(rule))).await.list();
        assert_eq!(groups.len(), 2);
        // A file without a section leaves all of it alone.
        let less = "version: 1\nnetworks: []\n";
        let said = desk.import(&world, less, &["--prune"]).ok();
        assert!(said.starts_with("- network office\n- network attic\n0 to add"), "{said}");
        assert_eq!(admin.get("/admin/gateways").await.list().len(), 1);
    }

    async fn what_is_wrong_with_a_file_is_told_with_line_and_field(world: World) {
        let admin = world.admin().await;
        furnish(&admin).await;
        let before = events(&admin).await;
        let desk = Desk::new();
        for (yaml, said) in [
            ("version: 1\ngatways: []\n", "line 2: `gatways` is no kind of thing that is known here"),
            ("networks: []\n", "line 1: `version: 1` is missing"),
            ("version: 2\n", "line 1: this GateKey reads files of `version: 1`"),
            ("- 1\n", "line 1: a mapping is expected"),
            ("", "line 1: a mapping is expected"),
            ("version: 1\nnetworks:\n", "line 2: `networks` must be a list; `[]` is none"),
            ("version: 1\nnetworks:\n- a\n", "line 3: `networks[0]` must be a mapping of fields"),
            ("version: 1\nnetworks:\n- name: a\n  cidr: 10.0.0.0/8\n  cdir: x\n",
                "line 5: `networks[0].cdir` is not a field that is known here"),
            ("version: 1\nnetworks:\n- name: a\n", "line 3: `networks[0].cidr` is required"),
            ("version: 1\nnetworks:\n- name: 7\n  cidr: 10.9.0.0/16\n",
                "line 3: `networks[0].name` must be a text: put it in quotes"),
            ("version: 1\nnetworks:\n- name: a\n  cidr: 10.1.0.0/8\n",
                "line 4: `networks[0].cidr` has host bits set; the network is `10.0.0.0/8`"),
            // An overlap names the other: one that is there, and one that is in the file.
            ("version: 1\nnetworks:\n- name: a\n  cidr: 10.77.0.128/25\n",
                "line 4: `networks[0].cidr` 10.77.0.128/25 overlaps 10.77.0.0/24 of network Office"),
            ("version: 1\nnetworks:\n- name: a\n  cidr: 10.9.0.0/16\n- name: b\n  cidr: 10.9.1.0/24\n",
                "line 6: `networks[1].cidr` 10.9.1.0/24 overlaps 10.9.0.0/16 of network a"),
            ("version: 1\ngateways:\n- name: a\n  hostname: a.example.com\n  vpn_subnet: 10.8.1.0/24\n",
                "line 5: `gateways[0].vpn_subnet` 10.8.1.0/24 overlaps 10.8.0.0/22 of gateway us-east-1"),
            ("version: 1\nnetworks:\n- name: a\n  cidr: 10.9.0.0/16\n- name: A\n  cidr: 10.10.0.0/16\n",
                "line 5: `networks[1].name` is also the name of the network in line 3"),
            ("version: 1\ngateways:\n- name: a\n  hostname: a.example.com\n  port: 0\n",
                "line 5: `gateways[0].port` must be from 1 to 65535"),
            ("version: 1\ngateways:\n- name: us-east-1\n  hostname: a.example.com\n  push_dns: true\n",
                "`gateways[0].dns_servers` must name at least one server while push_dns is on"),
            ("version: 1\ngateways:\n- name: a\n  hostname: a.example.com\n  users:\n  - ada\n  - eve\n",
                "line 7: `gateways[0].users[1]` `eve` is neither the user name nor the e-mail address of anybody here"),
            ("version: 1\ngateways:\n- name: a\n  hostname: a.example.com\n  networks: [nowhere]\n",
                "line 5: `gateways[0].networks[0]` `nowhere` is the name of no network"),
            ("version: 1\ngateways:\n- name: a\n  hostname: a.example.com\n  groups: [a/b]\n",
                "line 5: `gateways[0].groups[0]` `a/b` must not hold `/`"),
            ("version: 1\ngateways:\n- name: a\n  hostname: a.example.com\n  token: gw_x\n",
                "line 5: `gateways[0].token` is not a field that is known here"),
            ("version: 1\naccess_rules:\n- name: a\n  type: ip\n  value: 10.0.0.1\n  network: Office\n",
                "line 5: `access_rules[0].value` must lie within the network, 10.77.0.0/24"),
            ("version: 1\naccess_rules:\n- name: a\n  type: hostname\n  value: a.example.com\n",
                "`access_rules[0].network` must name a network when the rule names a host"),
            ("version: 1\naccess_rules:\n- name: a\n  type: ip\n  value: 10.0.0.1\n  network_id: net-a\n",
                "line 6: `access_rules[0].network_id` is not known in a file: name it as `network`"),
            ("version: 1\naccess_rules:\n- name: a\n  type: ip\n  value: here\n",
                "line 5: `access_rules[0].value` must be an IP address"),
            ("version: 1\nsettings:\n  login_idle_minutes: 4\n",
                "line 3: `settings.login_idle_minutes` must be from 5 to 1440"),
            ("version: 1\nsettings:\n  idle: 4\n",
                "line 3: `settings.idle` is not a field that is known here"),
            ("version: 1\nversion: 1\n", "line 2: `version` is given twice"),
            ("version: 1\nnetworks: [\n", "line 2: "),
        ] {
            let refused = desk.import(&world, yaml, &["--dry-run"]);
            assert_eq!((refused.code, refused.out.as_str()), (1, ""), "{yaml}: {refused:?}");
            assert!(refused.err.contains(said), "{yaml}: {}", refused.err);
        }
        // Everything at once, in the order of the lines; and nothing of what was right.
        let many = "version: 1\nnetworks:\n- name: fine\n  cidr: 10.9.0.0/16\n- name: a\n\
                    access_rules:\n- name: b\n  type: ip\n  value: x\n";
        let refused = desk.import(&world, many, &[]);
        let lines: Vec<&str> =
            refused.err.lines().filter(|it| it.trim_start().starts_with("line ")).collect();
        assert_eq!(lines.len(), 2, "{}", refused.err);
        assert!(lines[0].contains("line 5") && lines[1].contains("line 9"), "{lines:?}");
        assert!(admin.get("/admin/networks?q=fine").await.list().is_empty());
        // What is to be removed can't be named.
        let gone = "version: 1\nnetworks: []\ngateways:\n- name: a\n  hostname: a.example.com\n  networks: [office]\n";
        let refused = desk.import(&world, gone, &["--dry-run", "--prune"]);
        assert!(refused.err.contains("`office` is a network that is to be removed"), "{}", refused.err);
        let by_cli = admin.get("/admin/audit?actor=cli").await.list();
        assert!(by_cli.is_empty(), "{by_cli:?}");
        assert!(events(&admin).await >= before);
    }

    /// Each event says who ran the import, why, and which events belong together.
    async fn the_history_tells_who_imported_and_why(world: World) {
        let admin = world.admin().await;
        let desk = Desk::new();
        let yaml = "version: 1\nnetworks:\n- {name: office, cidr: 10.77.0.0/24}\ngateways:\n\
                    - {name: us-east-1, hostname: vpn.example.com, networks: [office], groups: [ops]}\n";
        let said = desk.import(&world, yaml, &["--reason", "CHG-1234: the new office"]).ok();
        assert!(said.contains("rotate a gateway's token to get one"), "{said}");
        assert!(!said.contains("gw_"), "{said}");
        let mut told = admin.get("/admin/audit?actor=cli").await.list();
        told.reverse();
        let events: Vec<&Value> = told.iter().map(|it| &it["event"]).collect();
        assert_eq!(
            events,
            [
                "network.created",
                "gateway.registered",
                "gateway.network_attached",
                "gateway.group_granted"
            ]
        );
        let me = Said::from(std::process::Command::new("id").arg("-un").output().unwrap()).ok();
        for event in &told {
            assert_eq!(event["actor"]["kind"], "operator");
            let label = event["actor"]["label"].as_str().unwrap();
            assert!(label.contains(me.trim()) || label.ends_with("(sudo)"), "{label}");
            assert_eq!(event["reason"], "CHG-1234: the new office");
            assert_eq!(event["correlation_id"], told[0]["correlation_id"]);
            assert!(event["correlation_id"].is_string());
        }
        // The gateway works like one that the API has made.
        let gateway = id(&admin.get("/admin/gateways").await.list()[0]);
        let path = format!("/admin/gateways/{gateway}/rotate-token");
        let rotated = admin.post(&path, &json!({})).await;
        let token = rotated.ok()["token"].as_str().unwrap().to_owned();
        admin.gateway(&token).post("/gateway/provision", &json!({})).await.has_status(200);
    }

    /// Without its network's name it would lead further than it does.
    async fn a_rule_whose_network_is_gone_is_left_out(world: World) {
        let admin = world.admin().await;
        let network = admin.create_network("office", "10.77.0.0/24").await;
        admin.create_rule("wiki", "ip", "10.77.0.1", json!({"network_id": network})).await;
        admin.create_rule("all", "cidr", "10.0.0.0/8", json!({})).await;
        admin.delete(&format!("/admin/networks/{network}")).await.ok();
        let said = Said::from(world.server.command(&["export"]));
        assert!(!said.out.contains("wiki") && said.out.contains("- name: all"), "{said:?}");
        assert!(said.err.contains("left out: access rule wiki: its network was deleted"), "{said:?}");
        // It is there all the same, and can be given another.
        let desk = Desk::new();
        let kept = desk.import(&world, &said.out, &["--dry-run"]);
        assert_eq!(
            (kept.code, kept.out.as_str()),
            (0, "= access rule wiki (not in the file; --prune removes it)\nNo difference\n")
        );
        let yaml = "version: 1\nnetworks: [{name: lab, cidr: 10.77.0.0/24}]\naccess_rules:\n\
                    - {name: Wiki, type: ip, value: 10.77.0.1, network: lab}\n";
        let said = desk.import(&world, yaml, &[]).ok();
        assert!(said.contains("~ access rule Wiki\n    name: wiki -> Wiki\n    network: none -> lab\n"), "{said}");
    }

    /// A fence is never up without its rules, on the way there and back.
    async fn a_fence_comes_after_its_rules_and_goes_before_them(world: World) {
        let admin = world.admin().await;
        let desk = Desk::new();
        let up = "version: 1\ngeo_fence: {enabled: true, mode: enforce}\ngeo_fence_rules:\n\
                  - {name: home, cidr: 198.51.100.0/24, global: true}\n";
        let said = desk.import(&world, up, &[]).ok();
        let expected = "+ geo-fence rule home\n    name: home\n    cidr: 198.51.100.0/24\n    \
            description: \"\"\n    global: true\n~ geo-fence\n    enabled: false -> true\n";
        assert!(said.starts_with(expected), "{said}");
        assert_eq!(admin.get("/admin/geo-fence/global").await.list().len(), 1);
        // What is said is done; what is not said is left alone.
        let rules = "version: 1\ngeo_fence_rules: [{name: home, cidr: 198.51.100.0/24";
        assert_eq!(desk.import(&world, &format!("{rules}}}]\n"), &["--prune"]).ok(), "No difference\n");
        let off = format!("{rules}, global: false}}]\n");
        let said = desk.import(&world, &off, &[]).ok();
        assert!(said.contains("    global: true -> false\n0 to add, 1 to change"), "{said}");
        assert!(admin.get("/admin/geo-fence/global").await.list().is_empty());
        let wrong = format!("{rules}, global: 'yes'}}]\n");
        let refused = desk.import(&world, &wrong, &["--dry-run"]);
        assert!(refused.err.contains("`geo_fence_rules[0].global` must be `true` or `false`"));
        let down = "version: 1\ngeo_fence: {enabled: false, mode: enforce}\ngeo_fence_rules: []\n";
        let said = desk.import(&world, down, &["--prune"]).ok();
        let expected = "~ geo-fence\n    enabled: true -> false\n- geo-fence rule home\n";
        assert!(said.starts_with(expected), "{said}");
        let half = "version: 1\ngeo_fence: {enabled: true}\n";
        let refused = desk.import(&world, half, &[]);
        assert!(refused.err.contains("line 2: `geo_fence.mode` is required"), "{}", refused.err);
    }

    /// Names and addresses change hands in an order in which they are free.
    async fn names_and_addresses_change_hands(world: World) {
        let admin = world.admin().await;
        let desk = Desk::new();
        let first = "version: 1\nnetworks:\n- {name: a, cidr: 10.1.0.0/16}\n- {name: b, cidr: 10.2.0.0/16}\n\
                     - {name: c, cidr: 10.3.0.0/16}\n";
        desk.import(&world, first, &[]).ok();
        // a takes what b has, b what c has; and d what c had, in whose place it comes.
        let next = "version: 1\nnetworks:\n- {name: a, cidr: 10.2.0.0/16}\n- {name: b, cidr: 10.4.0.0/16}\n\
                    - {name: d, cidr: 10.3.128.0/17}\ngateways:\n\
                    - {name: g, hostname: g.example.com, networks: [d]}\n";
        let said = desk.import(&world, next, &["--prune"]).ok();
        assert!(said.contains("2 to add, 2 to change, 1 to remove"), "{said}");
        let order: Vec<&str> =
            said.lines().filter(|it| it.starts_with(['+', '~', '-'])).collect();
        assert_eq!(order, ["~ network b", "- network c", "~ network a", "+ network d", "+ gateway g"]);
        // Two can't trade at once.
        let trade = "version: 1\nnetworks:\n- {name: a, cidr: 10.4.0.0/16}\n- {name: b, cidr: 10.2.0.0/16}\n";
        let refused = desk.import(&world, trade, &["--dry-run"]);
        assert_eq!(refused.code, 1);
        assert!(
            refused.err.contains("line 3: network a, network b are to trade names or addresses"),
            "{}",
            refused.err
        );
        assert_eq!(admin.get("/admin/networks").await.list().len(), 3);
    }

    /// Beside a running server: reading always, writing on PostgreSQL.
    async fn an_import_keeps_out_of_a_running_servers_way(world: World) {
        let admin = world.admin().await;
        let desk = Desk::new();
        let file = desk.path("config.yaml");
        let file = file.to_str().unwrap();
        let yaml = "version: 1\nnetworks:\n- {name: office, cidr: 10.77.0.0/24}\n";
        std::fs::write(file, yaml).unwrap();
        let dry = Said::from(world.server.command(&["import", file, "--dry-run"]));
        assert_eq!(dry.code, 2, "{dry:?}");
        let said = Said::from(world.server.command(&["import", file]));
        match world.kind() {
            Kind::Postgres => {
                said.ok();
                assert_eq!(admin.get("/admin/networks").await.list().len(), 1);
                // The node that runs knows it at once.
                let inside = json!({"name": "x", "cidr": "10.77.0.0/25"});
                let again = admin.post("/admin/networks", &inside).await;
                let clash = again.refused(409, "overlaps");
                assert!(clash["message"].as_str().unwrap().contains("office"), "{clash}");
            }
            Kind::Sqlite => {
                assert_eq!(said.code, 1);
                for hint in ["another server is using", "stop it first", "API", "--dry-run"] {
                    assert!(said.err.contains(hint), "{hint}: {}", said.err);
                }
                assert!(admin.get("/admin/networks").await.list().is_empty());
            }
        }
        // To a file, whole; and from standard input's name.
        let copy = desk.path("copy.yaml");
        let output = world.server.command(&["export", "--output", copy.to_str().unwrap()]);
        assert_eq!(Said::from(output).ok(), "");
        assert_eq!(std::fs::read_to_string(&copy).unwrap(), export(&world));
        let missing = Said::from(world.server.command(&["import", "no-such-file.yaml"]));
        assert_eq!(missing.code, 1);
        assert!(missing.err.contains("no-such-file.yaml can't be read"), "{}", missing.err);
    }
}

#[test]
fn a_database_without_a_server_is_none_of_ours() {
    let data = tempfile::tempdir().unwrap();
    let run = |more: &[(&str, &str)], arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_gatekey-server"));
        command.args(arguments).env("GATEKEY_DATA_DIR", data.path()).envs(more.iter().copied());
        command.env_remove("GATEKEY_DATABASE_URL").env_remove("GATEKEY_MASTER_KEY");
        Said::from(command.envs(more.iter().copied()).output().unwrap())
    };
    let said = run(&[], &["export"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("start the server first"), "{}", said.err);
    assert_eq!(std::fs::read_dir(data.path()).unwrap().count(), 0, "nothing is made");

    let database = crate::harness::postgres::Postgres::shared().empty_database();
    let here =
        [("GATEKEY_DATABASE_URL", database.url.as_str()), ("GATEKEY_MASTER_KEY", MASTER_KEY)];
    let said = run(&here, &["export"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("start this version's server on it first"), "{}", said.err);

    // Neither is one whose key is another.
    let server = Server::start(data.path(), None, &[]);
    assert!(server.stop().success());
    let other = [("GATEKEY_MASTER_KEY", "QW5vdGhlciBtYXN0ZXIga2V5LCBub3QgdGhhdCBvbmU=")];
    let said = run(&other, &["export"]);
    assert!(said.err.contains("the master key is not the one"), "{}", said.err);
}

/// Makes plans on a log in the test's own process.
struct Planning {
    store: Store,
    vault: Vault,
}

impl Planning {
    fn on(log: &Log) -> Self {
        let opened = &log.node.opened;
        let store = Store::new(&opened.vital, opened.keyring.clone());
        let vault = Vault::new(opened.vital.clone(), Arc::new(master()), log.node.entropy.clone());
        Self { store, vault }
    }

    async fn plan(&self, log: &Log, yaml: &str) -> Result<Plan, PlanError> {
        let means = Means {
            db: log.db(),
            store: &self.store,
            vault: &self.vault,
            entropy: &log.node.entropy,
        };
        bulk::plan(means, yaml, false).await
    }
}

on_both! {
    /// Somebody is faster between the plan and its end: what is done stays, and the rest is done by
    /// another import.
    async fn an_import_that_stops_halfway_is_run_again(kind: Kind) {
        let log = Log::new(kind).await;
        let planning = Planning::on(&log);
        let yaml = "version: 1\nnetworks:\n- {name: a, cidr: 10.1.0.0/16}\n- {name: b, cidr: 10.2.0.0/16}\n\
                    - {name: c, cidr: 10.3.0.0/16}\ngateways:\n\
                    - {name: g, hostname: g.example.com, networks: [a, b, c]}\n";
        let plan = planning.plan(&log, yaml).await.unwrap();
        assert_eq!((plan.steps(), plan.makes_tokens()), (7, true));
        let faster: NetworkId = "net-faster".parse().unwrap();
        let definition = |cidr: &str| gatekey_aggregates::network::Definition {
            name: "faster".parse().unwrap(),
            cidr: cidr.parse().unwrap(),
            description: "".parse().unwrap(),
        };
        let create = Command::Create(definition("10.2.1.0/24"));
        log.bus().execute::<Network>(Request::new::<Network>(&faster, create, metadata())).await.unwrap();
        let stopped = plan.carry_out(log.bus(), &metadata(), || (), |_| Ok(())).await.unwrap_err();
        let said = stopped.to_string();
        let expected = "the import stopped at `add network b`: 10.2.0.0/16 overlaps 10.2.1.0/24 of \
            net-faster\ndone:\n  + network a\nnot done:\n  + network b\n  + network c\n  + gateway g\n\
            run it again: it goes on from what is there then";
        assert_eq!(said, expected);

        // Again: now the file itself is refused, until the other is out of the way.
        let refused = planning.plan(&log, yaml).await.err().unwrap().to_string();
        assert!(refused.contains("line 4: `networks[1].cidr` 10.2.0.0/16 overlaps"), "{refused}");
        let update = Command::Update(definition("10.9.0.0/16"));
        log.bus().execute::<Network>(Request::new::<Network>(&faster, update, metadata())).await.unwrap();
        let plan = planning.plan(&log, yaml).await.unwrap();
        assert!(!plan.to_string().contains("network a\n"), "{plan}");
        let done = plan.carry_out(log.bus(), &metadata(), || (), |_| Ok(())).await.unwrap();
        assert_eq!(done.to_string(), "Done: 3 added, 0 changed, 0 removed");
        assert!(planning.plan(&log, yaml).await.unwrap().is_empty());

        // Somebody changes a thing after the plan: it is not overwritten.
        let other = yaml.replace("10.1.0.0/16", "10.5.0.0/16");
        let plan = planning.plan(&log, &other).await.unwrap();
        let a = log.db().one::<(String,)>("SELECT id FROM networks WHERE name = 'a'", &[]).await.unwrap().0;
        let update = Command::Update(gatekey_aggregates::network::Definition {
            name: "a".parse().unwrap(),
            cidr: "10.1.0.0/16".parse().unwrap(),
            description: "seen to".parse().unwrap(),
        });
        log.bus().execute::<Network>(Request::new::<Network>(&a, update, metadata())).await.unwrap();
        let stopped = plan.carry_out(log.bus(), &metadata(), || (), |_| Ok(())).await.unwrap_err();
        assert!(stopped.to_string().contains("it was changed meanwhile"), "{stopped}");
    }

    /// Whatever is configured: its export is no difference to it; and what of it can stand on its
    /// own makes the same elsewhere.
    async fn an_export_is_no_difference_to_what_it_was_made_of(kind: Kind) {
        for seed in 1..=4 {
            let log = Log::new(kind).await;
            let mut history = History::new(seed);
            carry_out(log.bus(), history.beginnings(), 1).await;
            for _ in 0..3 {
                carry_out(log.bus(), history.commands(150), 4).await;
                let exported = bulk::export(log.db()).await.unwrap().yaml;
                let plan = Planning::on(&log).plan(&log, &exported).await.unwrap();
                assert!(plan.is_empty(), "seed {seed}:\n{plan}\n{exported}");
            }

            let exported = bulk::export(log.db()).await.unwrap().yaml;
            let mut wanted: Value = serde_saphyr::from_str(&exported).unwrap();
            // A network may have moved away from a rule that names it; nobody could write that rule.
            let rules = wanted["access_rules"].as_array_mut().unwrap();
            rules.retain(|it| it.get("network").is_none());
            let other = Log::new(kind).await;
            users_of(&wanted, &other).await;
            let yaml = serde_saphyr::to_string(&wanted).unwrap();
            let planning = Planning::on(&other);
            let plan = planning.plan(&other, &yaml).await.unwrap();
            plan.carry_out(other.bus(), &metadata(), || (), |_| Ok(())).await.unwrap();
            let there = bulk::export(other.db()).await.unwrap().yaml;
            let there: Value = serde_saphyr::from_str(&there).unwrap();
            assert_eq!(there, wanted, "seed {seed}");
        }
    }
}

/// Makes everybody who is named.
async fn users_of(wanted: &Value, log: &Log) {
    let things = ["gateways", "access_rules", "geo_fence_rules"]
        .into_iter()
        .filter_map(|it| wanted[it].as_array());
    let named = things.flatten().filter_map(|it| it["users"].as_array()).flatten();
    let mut names: Vec<&str> = named.filter_map(Value::as_str).collect();
    names.sort_unstable();
    names.dedup();
    for (n, name) in names.into_iter().enumerate() {
        let id: UserId = format!("usr-{n}").parse().unwrap();
        let person = PersonId::user(&id);
        let is_email = name.contains('@');
        // One whose user name is lost is called by their address.
        let username = match name.parse() {
            Ok(username) => Personal::new(person.clone(), username),
            Err(_) => Personal::Shut { of: person.clone() },
        };
        let email = if is_email { name.to_owned() } else { format!("user-{n}@example.org") };
        let create = user::Command::Create {
            profile: user::Profile {
                username,
                email: Personal::new(person, email.parse().unwrap()),
                name: None,
            },
            role: Role::Member,
            groups: std::collections::BTreeSet::new(),
            password: None,
            must_change_password: false,
        };
        let request = Request::new::<User>(&id, create, metadata());
        log.bus().execute::<User>(request).await.unwrap();
    }
}
