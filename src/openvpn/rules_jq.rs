//! Tests of `deploy/openvpn/rules.jq`, which turns the control plane's rules into nft's.
//!
//! What it prints, root's nft reads: nothing but what it means to say may get through it.

use std::io::Write;
use std::process::{Command, Stdio};

/// What it makes of an answer, when `intra.example.com` has two addresses.
fn nft_rules(answer: &serde_json::Value) -> Vec<String> {
    let scripts = format!("{}/deploy/openvpn", env!("CARGO_MANIFEST_DIR"));
    let program =
        r#"include "rules"; nft_rules({"intra.example.com": ["10.0.0.1", "10.0.0.2", "evil"]})"#;
    let mut jq = Command::new("jq")
        .args(["-L", &scripts, "-r", program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    jq.stdin.take().unwrap().write_all(answer.to_string().as_bytes()).unwrap();
    let output = jq.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn allowed(kind: &str, value: &str, port: &str, protocol: &str) -> serde_json::Value {
    let rule =
        serde_json::json!({ "type": kind, "value": value, "port": port, "protocol": protocol });
    serde_json::json!({ "user_id": "ada@example.com", "allowed": [rule], "default": "deny" })
}

#[test]
fn each_rule_goes_there_and_back() {
    let cases = [
        (
            allowed("cidr", "10.0.0.0/8", "", ""),
            ["ip daddr 10.0.0.0/8 accept", "ip saddr 10.0.0.0/8 ct direction reply accept"],
        ),
        (
            allowed("ip", "10.1.2.3", "8000-8100", "tcp"),
            [
                "ip daddr 10.1.2.3 tcp dport 8000-8100 accept",
                "ip saddr 10.1.2.3 tcp sport 8000-8100 ct direction reply accept",
            ],
        ),
        (
            allowed("ip", "10.1.2.3", "53", ""),
            [
                "ip daddr 10.1.2.3 meta l4proto { tcp, udp } th dport 53 accept",
                "ip saddr 10.1.2.3 meta l4proto { tcp, udp } th sport 53 ct direction reply accept",
            ],
        ),
        (
            allowed("ip", "10.1.2.3", "", "icmp"),
            [
                "ip daddr 10.1.2.3 meta l4proto icmp accept",
                "ip saddr 10.1.2.3 meta l4proto icmp ct direction reply accept",
            ],
        ),
    ];
    for (answer, expected) in cases {
        assert_eq!(nft_rules(&answer), expected);
    }
}

#[test]
fn a_name_is_its_addresses() {
    let rules = nft_rules(&allowed("hostname", "Intra.Example.com", "443", "tcp"));
    let there: Vec<_> = rules.iter().filter(|rule| rule.starts_with("ip daddr")).collect();
    assert_eq!(
        there,
        ["ip daddr 10.0.0.1 tcp dport 443 accept", "ip daddr 10.0.0.2 tcp dport 443 accept"]
    );
    assert!(nft_rules(&allowed("hostname", "other.example.com", "", "")).is_empty());
    assert!(nft_rules(&allowed("hostname_wildcard", "*.example.com", "", "")).is_empty());
}

#[test]
fn connects_answer_is_read_as_well() {
    let answer = serde_json::json!({
        "allow": true,
        "firewall_rules": [
            { "action": "allow", "rule_type": "ip", "value": "10.1.2.3", "port_range": "22", "protocol": "tcp" },
            { "action": "allow", "rule_type": "ip", "value": "10.1.2.4" },
            { "action": "deny", "rule_type": "ip", "value": "10.1.2.5" },
        ],
    });
    let rules = nft_rules(&answer);
    assert_eq!(rules[0], "ip daddr 10.1.2.3 tcp dport 22 accept");
    assert_eq!(rules[1], "ip daddr 10.1.2.4 accept");
    assert_eq!(rules.len(), 4);
}

#[test]
fn what_is_not_as_it_should_be_allows_nothing() {
    let wrong = [
        allowed("ip", "10.1.2.3; flush ruleset", "", ""),
        allowed("ip", "10.1.2.3\naccept", "", ""),
        allowed("ip", "10.1.2.3\n", "", ""),
        allowed("ip", "10.1.2.3", "22\n", "tcp"),
        allowed("ip", "10.1.2.3", "\n", ""),
        allowed("ip", "", "", ""),
        allowed("cidr", "fd00::/8", "", ""),
        allowed("ip", "10.1.2.3", "22 accept", "tcp"),
        allowed("ip", "10.1.2.3", "22", "gre"),
        allowed("", "10.1.2.3", "", ""),
        serde_json::json!({ "allowed": [{ "type": "ip", "value": 7 }] }),
        serde_json::json!({ "allowed": [] }),
        serde_json::json!({ "allowed": null }),
        serde_json::json!({}),
    ];
    for answer in wrong {
        assert_eq!(nft_rules(&answer), Vec::<String>::new(), "{answer}");
    }
}
