//! Reports of agents that know more: an id of the report, and the time when it happened. They may
//! come twice, late and out of order.

use super::{Scene, VPN_IP};
use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use gatekey::clock::Clock;
use serde_json::{Value, json};

/// Where the same person comes from later.
const OTHER_IP: &str = "203.0.113.77";

both! {
    async fn a_report_with_an_id_counts_once(world: World) {
        let scene = Scene::of(&world).await;
        let report = json!({"event_id": "5f2c"});
        let first = scene.connected(report.clone()).await;
        assert_eq!(scene.connected(report.clone()).await, first);
        // Another id is another connection, also within a moment.
        let second = scene.connected(json!({"event_id": "5f2d"})).await;
        assert_ne!(second, first);
        assert_eq!(scene.open().await, [second.as_str()]);
        assert_eq!(scene.end_reason(&first).await, "superseded");

        // The first one once more: it is over, and stays so, and ends nobody else's.
        assert_eq!(scene.connected(report.clone()).await, first);
        assert_eq!(scene.open().await, [second.as_str()]);
        scene.disconnect(json!({})).await;
        assert_eq!(scene.connected(report.clone()).await, first);
        assert_eq!(scene.open().await, Vec::<String>::new());
        for id in [&first, &second] {
            assert_eq!(scene.history(id).await, ["session.began", "session.ended"]);
        }
        // Also after a restart.
        world.server.restart();
        assert_eq!(scene.connected(report.clone()).await, first);
        assert_eq!(scene.open().await, Vec::<String>::new());

        // An agent that uses an id twice confuses nobody with anybody.
        let (bob, config) = scene.another("bob").await;
        let came = json!({
            "event_id": "5f2c", "common_name": bob.email, "serial_number": config.serial,
        });
        let his = scene.connected(came).await;
        assert_ne!(his, first);
        assert_eq!(scene.connection(&his).await["user"]["id"], bob.id);
    }

    async fn a_late_report_tells_the_time_itself(world: World) {
        let scene = Scene::of(&world).await;
        let now = Clock::system().now();
        let an_hour_ago = now - TimeDelta::hours(1);
        let session = scene.connected(json!({"occurred_at": an_hour_ago})).await;
        let left = an_hour_ago + TimeDelta::minutes(10);
        scene.disconnect(json!({"occurred_at": left})).await;
        let connection = scene.connection(&session).await;
        assert_eq!(time(&connection["connected_at"]), an_hour_ago);
        assert_eq!(time(&connection["disconnected_at"]), left);

        // Not of the future, nor of long ago.
        let session = scene.connected(json!({"occurred_at": "2100-01-01T00:00:00Z"})).await;
        let connected_at = time(&scene.connection(&session).await["connected_at"]);
        assert!(connected_at >= now && connected_at <= Clock::system().now(), "{connected_at}");
        scene.disconnect(json!({})).await;
        let session = scene.connected(json!({"occurred_at": "1970-01-01T01:00:00+01:00"})).await;
        let connected_at = time(&scene.connection(&session).await["connected_at"]);
        assert!(connected_at > now - TimeDelta::days(8), "{connected_at}");
        scene.disconnect(json!({})).await;
        // An end before the beginning is one at the beginning.
        let session = scene.connected(json!({})).await;
        let named = json!({"session_id": session, "occurred_at": "1970-01-01T00:00:00Z"});
        scene.disconnect(named).await;
        let connection = scene.connection(&session).await;
        assert_eq!(connection["disconnected_at"], connection["connected_at"]);
    }

    /// The end of an older connection is not the end of the one that came after it.
    async fn a_late_disconnect_ends_nothing_that_began_later(world: World) {
        let scene = Scene::of(&world).await;
        let ago = |minutes| (Clock::system().now() - TimeDelta::minutes(minutes)).trunc_subsecs(0);
        let first = scene.connected(json!({"occurred_at": ago(30)})).await;
        let second = scene.connected(json!({"occurred_at": ago(10)})).await;
        assert_eq!(scene.end_reason(&first).await, "superseded");
        scene.disconnect(json!({"occurred_at": ago(11)})).await;
        assert_eq!(scene.open().await, [second.as_str()]);
        scene.disconnect(json!({"occurred_at": ago(10)})).await;
        assert_eq!(scene.end_reason(&second).await, "disconnected");
    }

    /// A connect that arrives after its successor's is in the history, and takes nothing away.
    async fn a_late_connect_ends_nothing_that_began_later(world: World) {
        let scene = Scene::of(&world).await;
        let ago = |minutes| Clock::system().now() - TimeDelta::minutes(minutes);
        let (bob, config) = scene.another("bob").await;
        let his = json!({
            "common_name": bob.email, "serial_number": config.serial, "client_ip": OTHER_IP,
            "occurred_at": ago(10),
        });
        let second = scene.connected(his).await;
        let late = ago(30);
        let first = scene.connected(json!({"event_id": "5f2c", "occurred_at": late})).await;
        assert_eq!(scene.open().await, [second.as_str()]);
        let connection = scene.connection(&first).await;
        assert_eq!(connection["end_reason"], "superseded");
        assert_eq!(time(&connection["connected_at"]), late);
        assert_eq!(
            connection["disconnected_at"], scene.connection(&second).await["connected_at"]
        );
        assert_eq!(scene.history(&second).await, ["session.began"]);

        // The address is still known as his.
        let asked = json!({"user_id": bob.email, "client_ip": VPN_IP});
        let agent = &scene.gateway.agent;
        agent.post("/gateway/client-rules", &asked).await.flat(200);
        let third = scene.connected(json!({})).await;
        assert_eq!(scene.open().await, [third]);
        assert_eq!(scene.end_reason(&second).await, "superseded");
    }

    /// A disconnect that overtakes its connect ends nothing, and is no error.
    async fn a_disconnect_may_come_first(world: World) {
        let scene = Scene::of(&world).await;
        scene.disconnect(json!({"session_id": "con-none"})).await;
        scene.disconnect(json!({})).await;
        let session = scene.connected(json!({})).await;
        assert_eq!(scene.open().await, [session]);
    }
}

#[track_caller]
fn time(value: &Value) -> DateTime<Utc> {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no time: {value}"))
}
