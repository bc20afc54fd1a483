//! Rate limits, as the seed has them.

use crate::harness::wait::eventually;
use crate::harness::{Answer, Api};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Longer than anything takes that is done in the background.
const SOON: Duration = Duration::from_secs(10);

/// A header's number.
#[track_caller]
fn number(answer: &Answer, name: &str) -> u32 {
    let text = answer.header(name);
    text.parse().unwrap_or_else(|_| panic!("{name} of {answer:?}"))
}

fn has_limit(answer: &Answer) -> bool {
    answer.headers.contains_key("x-ratelimit-limit")
}

/// Asks until it is refused: exactly as often as the limit says, and as came to it meanwhile.
async fn exhaust(limit: u32, mut ask: impl AsyncFnMut() -> Answer) -> Answer {
    let since = Instant::now();
    let mut taken = 0;
    let refused = loop {
        let answer = ask().await;
        assert_eq!(number(&answer, "x-ratelimit-limit"), limit);
        let reset = number(&answer, "x-ratelimit-reset");
        assert!((1..=60).contains(&reset), "{reset}");
        if answer.status == 429 {
            break answer;
        }
        if taken == 0 {
            assert_eq!(number(&answer, "x-ratelimit-remaining"), limit - 1);
        }
        taken += 1;
        let meanwhile = since.elapsed().as_secs_f64() * f64::from(limit) / 60.0;
        assert!(f64::from(taken) <= f64::from(limit) + meanwhile + 1.0, "{taken} were taken");
    };
    assert!(taken >= limit, "only {taken} were taken");
    refused.refused(429, "rate_limited");
    assert_eq!(number(&refused, "x-ratelimit-remaining"), 0);
    let wait = number(&refused, "retry-after");
    assert!((1..=60 / limit + 1).contains(&wait), "{wait}");
    refused
}

/// The refusals of a class that are in the history.
async fn written(admin: &Api, class: &str) -> Vec<Value> {
    eventually("the refusal is written", SOON, || async {
        let all = admin.get("/admin/audit?event=attempt.rate_limited&per_page=100").await.list();
        let of_class: Vec<_> =
            all.into_iter().filter(|it| it["payload"]["reason"] == class).collect();
        (!of_class.is_empty()).then_some(of_class)
    })
    .await
}

fn by_way_of(addresses: &str) -> impl FnOnce(RequestBuilder) -> RequestBuilder + use<> {
    let addresses = addresses.to_owned();
    move |request| request.header("x-forwarded-for", addresses).json(&json!({}))
}

both! {
    /// 50, 120, 30 and 100 a minute, each by whom it concerns.
    async fn the_seeds_limits_hold(world: World, "GATEKEY_RATE_LIMITS" = "on") {
        let admin = world.admin().await;
        let eva = admin.create_user_with("eva", json!({"role": "admin"})).await.api;
        let ada = admin.create_user("ada").await.api;
        let bob = admin.create_user("bob").await.api;
        let one = admin.create_gateway("one").await;
        let two = admin.create_gateway("two").await;

        // Heartbeats, by gateway, and with a wrong token by address.
        let beat = json!({"active_clients": 0});
        exhaust(120, async || one.agent.post("/gateway/heartbeat", &beat).await).await;
        two.agent.post("/gateway/heartbeat", &beat).await.has_status(200);
        let guess = json!({"token": "a guess"});
        exhaust(120, async || world.anyone().post("/gateway/heartbeat", &guess).await).await;
        let token = json!({"token": two.token});
        world.anyone().post("/gateway/heartbeat", &token).await.has_status(200);
        // What keeps tunnels up is not limited.
        let rules = one.agent.post("/gateway/all-rules", &json!({})).await;
        assert!(!has_limit(rules.has_status(200)));

        // Configs, by user.
        let generate = json!({"gateway_id": one.id});
        exhaust(30, async || ada.post("/configs/generate", &generate).await).await;
        bob.post("/configs/generate", &generate).await.refused(403, "access_denied");
        assert!(!has_limit(ada.get("/configs").await.has_status(200)));

        // Signing in, by address: 5 have been.
        let login = async || world.anyone().post("/auth/local/login", &json!({})).await;
        let left = number(&login().await, "x-ratelimit-remaining");
        assert!((30..50).contains(&left), "{left}");
        let refused = loop {
            let answer = login().await;
            if answer.status == 429 {
                break answer;
            }
        };
        refused.refused(429, "rate_limited");
        // Who is in stays in.
        assert!(!has_limit(ada.get("/users/me").await.has_status(200)));

        // Managing, by user; whoever is nobody, by address.
        let last = exhaust(100, async || eva.get("/admin/networks").await).await;
        exhaust(100, async || world.anyone().bearer("gk_guess").get("/admin/networks").await).await;
        assert!(has_limit(admin.get("/admin/networks").await.has_status(200)));
        tokio::time::sleep(Duration::from_secs(number(&last, "retry-after").into())).await;
        eva.get("/admin/networks").await.has_status(200);

        // All of it is in the history, and none of it floods the history.
        for (class, who) in [
            ("heartbeat", "gateway"),
            ("config_generation", "user"),
            ("authentication", "anonymous"),
            ("admin", "user"),
        ] {
            let events = written(&admin, class).await;
            assert!(events.len() <= 4, "{class}: {events:?}");
            assert!(events.iter().any(|it| it["actor"]["kind"] == who), "{class}: {events:?}");
            assert!(events.iter().all(|it| it["payload"]["client_ip"] == "127.0.0.1"));
        }
    }

    /// Behind a proxy that we were told to trust, each client is counted by itself.
    async fn clients_behind_a_trusted_proxy_are_told_apart(
        world: World,
        "GATEKEY_RATE_LIMITS" = "on",
        "GATEKEY_TRUSTED_PROXIES" = "127.0.0.1, 10.0.0.0/8"
    ) {
        let anyone = world.anyone();
        let ask = async |addresses: &str| {
            anyone.send(Method::POST, "/auth/local/login", by_way_of(addresses)).await
        };
        exhaust(50, async || ask("198.51.100.7").await).await;
        // The same, by way of another proxy of ours, and whatever the client itself writes.
        assert_eq!(ask("198.51.100.7, 10.0.0.3").await.status, 429);
        assert_eq!(ask("203.0.113.9, 198.51.100.7").await.status, 429);
        for other in ["198.51.100.8", "198.51.100.7, 203.0.113.9", "2001:db8::1"] {
            assert_eq!(number(&ask(other).await, "x-ratelimit-remaining"), 49, "{other}");
        }
        // One IPv6 host has a /64 to itself.
        exhaust(50, async || ask("2001:db8:0:7::1").await).await;
        assert_eq!(ask("2001:db8:0:7:8:9:a:b").await.status, 429);
        assert_eq!(ask("2001:db8:0:8::1").await.status, 400);
        // Whoever is at the proxy itself is not shut out by them.
        world.admin().await;
    }

    /// Nobody else is believed.
    async fn a_forged_address_is_not_believed(world: World, "GATEKEY_RATE_LIMITS" = "on") {
        let anyone = world.anyone();
        let mut n = 0_u8;
        exhaust(50, async || {
            n = n.wrapping_add(1);
            let forged = by_way_of(&format!("198.51.100.{n}"));
            anyone.send(Method::POST, "/auth/local/login", forged).await
        })
        .await;
    }

    /// Off is for load tests.
    async fn without_limits_nobody_is_limited(world: World, "GATEKEY_RATE_LIMITS" = "off") {
        let admin = world.admin().await;
        for _ in 0..101 {
            assert!(!has_limit(admin.get("/admin/settings").await.has_status(200)));
        }
    }
}
