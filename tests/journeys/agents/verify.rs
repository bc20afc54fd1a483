//! Who is let in, and who is told why not.

use super::{CLIENT_IP, SOON, Scene, count, is_a_sentence, turned_away};
use crate::harness::wait::eventually;
use serde_json::{Value, json};
use std::collections::BTreeSet;

both! {
    async fn a_serial_is_a_number_however_it_is_written(world: World) {
        let scene = Scene::of(&world).await;
        let plain = scene.config.serial.replace(':', "");
        for serial in [
            scene.config.serial.clone(),
            scene.config.serial.to_uppercase(),
            plain.clone(),
            plain.to_uppercase(),
            format!("00:{}", scene.config.serial),
            format!("0000{plain}"),
            plain.trim_start_matches('0').to_owned(),
        ] {
            let answer = scene.verify(json!({"serial_number": serial})).await;
            assert_eq!(answer["allowed"], true, "{serial}: {answer}");
        }
    }

    async fn a_password_or_a_serial_is_enough(world: World) {
        let scene = Scene::of(&world).await;
        for more in [
            json!({}),
            json!({"serial_number": null}),
            json!({"password": null}),
            json!({"username": null}),
            json!({"client_ip": null}),
            // IPv4 as a dual-stack socket shows it.
            json!({"client_ip": "::ffff:198.51.100.2"}),
            json!({"client_ip": "2001:db8::2"}),
        ] {
            let answer = scene.verify(more.clone()).await;
            assert_eq!(answer["allowed"], true, "{more}: {answer}");
            assert_eq!(answer["user_id"], scene.ada.id);
        }
    }

    async fn a_renegotiation_starts_nothing(world: World) {
        let scene = Scene::of(&world).await;
        let before = count(&scene.admin).await;
        for _ in 0..3 {
            assert_eq!(scene.verify(json!({})).await["allowed"], true);
        }
        assert_eq!(scene.open().await, Vec::<String>::new());
        assert_eq!(count(&scene.admin).await, before);
    }

    /// The first check that fails is the reason; it is told to the person and written down.
    async fn a_refusal_is_an_answer_with_a_reason(world: World) {
        let scene = Scene::of(&world).await;
        let second = scene.ada.api.generate_config(&scene.gateway).await;
        let (bob, bobs) = scene.another("bob").await;
        let west = scene.admin.create_gateway("us-west-1").await;
        scene.admin.grant(&west, &scene.ada).await;
        let for_west = scene.ada.api.generate_config(&west).await;
        let provisioned = scene.gateway.agent.post("/gateway/provision", &json!({})).await.flat(200);
        let of_server = serial_of(provisioned["server_cert"].as_str().unwrap());

        let unknown = json!({"serial_number": "5a:0f:3c", "password": null});
        let cases = [
            ("no_credentials", json!({"serial_number": null, "password": null})),
            ("certificate_unknown", unknown),
            ("certificate_unknown", json!({"serial_number": "5a:0f:3c"})),
            ("password_unknown", json!({"serial_number": null, "password": "guessed"})),
            ("password_mismatch", json!({"password": "guessed"})),
            ("password_mismatch", json!({"password": second.password})),
            ("password_mismatch", json!({"password": bobs.password})),
            ("common_name_mismatch", json!({"username": bob.email})),
            ("common_name_mismatch", json!({"username": scene.ada.email.to_uppercase()})),
            ("common_name_mismatch", json!({"common_name": bob.email})),
            ("common_name_mismatch", json!({"common_name": bob.email, "username": bob.email})),
            ("common_name_mismatch", json!({"serial_number": bobs.serial, "password": null})),
            ("wrong_gateway", json!({"serial_number": for_west.serial, "password": null})),
            ("wrong_gateway", json!({"serial_number": null, "password": for_west.password})),
            ("wrong_gateway", json!({"serial_number": of_server, "password": null})),
        ];
        let mut codes = BTreeSet::new();
        for (code, more) in cases {
            let answer = scene.verify(more.clone()).await;
            refused(&answer, code);
            codes.insert(code);
        }

        // Each is written down, with who, where and from where as far as it is known.
        let denied = eventually("every reason is in the audit", SOON, || async {
            let denied = scene.events("attempt.verify_denied").await;
            let seen: BTreeSet<_> = denied.iter().map(reason).collect();
            codes.iter().all(|code| seen.contains(*code)).then_some(denied)
        }).await;
        for event in &denied {
            assert_eq!(event["actor"]["kind"], "gateway", "{event}");
            assert_eq!(event["actor"]["id"], scene.gateway.id, "{event}");
            assert_eq!(event["payload"]["gateway_id"], scene.gateway.id, "{event}");
            assert_eq!(event["payload"]["client_ip"], CLIENT_IP, "{event}");
        }
        let found = denied.iter().find(|it| reason(it) == "password_mismatch").unwrap();
        assert_eq!(found["payload"]["user_id"], scene.ada.id);
        assert_eq!(found["payload"]["certificate_id"], scene.config.id);
        assert_eq!(found["payload"]["common_name"], scene.ada.email);
        for text in denied.iter().map(Value::to_string) {
            let secrets = ["guessed", &second.password, &bobs.password, &for_west.password];
            assert!(!secrets.iter().any(|secret| text.contains(*secret)), "{text}");
        }

        // The other gateway's config opens the other gateway.
        let there = scene.asks(json!({
            "serial_number": for_west.serial, "password": for_west.password,
        }));
        let answer = west.agent.post("/gateway/verify", &there).await.flat(200);
        assert_eq!(answer["allowed"], true, "{answer}");
        // And a deleted gateway's token opens nothing.
        scene.admin.delete(&format!("/admin/gateways/{}", west.id)).await.ok();
        let answer = west.agent.post("/gateway/verify", &there).await;
        turned_away("/gateway/verify", &answer, 401);
    }

    async fn what_was_taken_away_counts_at_once(world: World) {
        let scene = Scene::of(&world).await;
        let user = format!("/admin/users/{}", scene.ada.id);

        scene.ungrant().await;
        refused(&scene.verify(json!({})).await, "not_granted");
        scene.admin.grant(&scene.gateway, &scene.ada).await;
        assert_eq!(scene.verify(json!({})).await["allowed"], true);

        scene.admin.post(&format!("{user}/disable"), &json!({})).await.ok();
        refused(&scene.verify(json!({})).await, "user_disabled");
        scene.admin.post(&format!("{user}/enable"), &json!({})).await.ok();
        assert_eq!(scene.verify(json!({})).await["allowed"], true);

        let gateway = format!("/admin/gateways/{}", scene.gateway.id);
        let off = json!({"name": "us-east-1", "hostname": "vpn.example.com", "active": false});
        scene.admin.put(&gateway, &off).await.ok();
        refused(&scene.verify(json!({})).await, "gateway_inactive");
        let on = json!({"name": "us-east-1", "hostname": "vpn.example.com"});
        scene.admin.put(&gateway, &on).await.ok();

        let revoke = json!({"serial": scene.config.serial});
        scene.admin.post("/admin/pki/revoke", &revoke).await.ok();
        refused(&scene.verify(json!({})).await, "certificate_revoked");
        refused(&scene.verify(json!({"serial_number": null})).await, "certificate_revoked");

        let (bob, bobs) = scene.another("bob").await;
        let asked = json!({
            "common_name": bob.email, "username": bob.email, "password": bobs.password,
            "serial_number": bobs.serial,
        });
        assert_eq!(scene.verify(asked.clone()).await["allowed"], true);
        scene.admin.delete(&format!("/admin/users/{}", bob.id)).await.ok();
        let answer = scene.verify(asked).await;
        assert_eq!(answer["allowed"], false, "{answer}");
        is_a_sentence(&answer["reason"]);
    }

    /// A client that tries again and again can't flood the history.
    async fn the_same_refusal_fifty_times_is_not_fifty_events(world: World) {
        let scene = Scene::of(&world).await;
        for _ in 0..50 {
            refused(&scene.verify(json!({"password": "guessed"})).await, "password_mismatch");
        }
        // Another kind, after them: the recorder takes them in turn.
        refused(&scene.verify(json!({"username": "eve"})).await, "common_name_mismatch");
        let denied = eventually("the last one", SOON, || async {
            let denied = scene.events("attempt.verify_denied").await;
            let last = denied.iter().any(|it| reason(it) == "common_name_mismatch");
            last.then_some(denied)
        }).await;
        // The first at once, the others once a minute, whenever that begins.
        let same = denied.iter().filter(|it| reason(it) == "password_mismatch").count();
        assert!((1..=3).contains(&same), "{same} events");
    }
}

#[track_caller]
fn refused(answer: &Value, code: &str) {
    assert_eq!(answer["allowed"], false, "{code}: {answer}");
    assert_eq!(answer["code"], code, "{answer}");
    is_a_sentence(&answer["reason"]);
    assert_eq!(answer["user_id"], Value::Null, "{answer}");
    assert_eq!(answer["user_email"], Value::Null, "{answer}");
}

fn reason(event: &Value) -> &str {
    event["payload"]["reason"].as_str().expect("a reason")
}

/// As openssl prints it.
pub(super) fn serial_of(pem: &str) -> String {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).expect("PEM");
    let certificate = pem.parse_x509().expect("a certificate");
    certificate.raw_serial().iter().map(|byte| format!("{byte:02X}")).collect()
}
