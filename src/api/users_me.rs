//! `/users/me`: who one is, and one's own VPN connections.

use super::auth::Me;
use super::connections::{Connection, Status};
use super::openapi::{Access, callable_by};
use super::{ApiError, Data, Filter, List, Page};
use crate::app::AppState;
use crate::auth::Member;
use crate::services::Services;
use axum::extract::State;
use gatekey_aggregates::values::GatewayId;
use gatekey_projections::connections;
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes.
pub fn routes() -> OpenApiRouter<AppState> {
    let own = OpenApiRouter::new().routes(routes!(me)).routes(routes!(own_connections));
    callable_by(Access::Member, own)
}

/// Me
#[utoipa::path(
    get, path = "/users/me", tag = "Me", operation_id = "getMe",
    responses((status = 200, description = "The user who makes this request.", body = Data<Me>))
)]
async fn me(caller: Member) -> Data<Me> {
    Data { data: Me::from(&*caller) }
}

#[derive(Deserialize, IntoParams)]
struct Connections {
    /// Only those that are open, or that are over.
    #[param(inline)]
    status: Option<Status>,
    /// Those at this gateway.
    gateway: Option<GatewayId>,
}

impl Filter for Connections {
    const SORT: &'static [&'static str] = connections::SORT;
    const SEARCH: bool = true;
    const CURSOR: bool = true;
}

/// The own VPN connections
///
/// Open and past, the newest first. `q` looks at the gateway's name and the addresses.
#[utoipa::path(
    get, path = "/users/me/connections", tag = "Me", operation_id = "listOwnConnections",
    params(List<Connections>),
    responses((status = 200, description = "A page of them.", body = Page<Connection>))
)]
async fn own_connections(
    caller: Member,
    list: List<Connections>,
    State(services): State<Arc<Services>>,
) -> Result<Page<Connection>, ApiError> {
    let filter = connections::Filter {
        status: list.filter.status.map(Into::into),
        user_id: Some(caller.user_id.to_string()),
        gateway_id: list.filter.gateway.as_ref().map(ToString::to_string),
        ..connections::Filter::default()
    };
    let listed = connections::list(&services.db, &list.wanted()?, &filter).await?;
    Ok(Page::listed(listed.map(Connection::from), list.paging))
}

#[cfg(test)]
mod tests {
    use crate::api::client::{Client, PASSWORD, add_user};
    use crate::clock::Clock;
    use crate::event_log::Request;
    use crate::services::Services;
    use crate::testing;
    use chrono::{DateTime, TimeDelta, Utc};
    use gatekey_aggregates::session::{Beginning, Command, Counters, EndReason, Session};
    use gatekey_aggregates::values::{Role, SessionId, UserId};
    use gatekey_aggregates::{Metadata, PersonId, Personal};
    use serde_json::{Value, json};

    async fn ask(services: &Services, id: &SessionId, command: Command) {
        let person = PersonId::unknown_on(services.clock.now().date_naive());
        let request = Request::new::<Session>(id, command, Metadata::system("test", person));
        services.bus.execute::<Session>(request).await.unwrap();
    }

    async fn connect(
        services: &Services,
        user_id: &UserId,
        ip: u8,
        at: DateTime<Utc>,
    ) -> SessionId {
        let id: SessionId = services.entropy.id().unwrap();
        let person = PersonId::user(user_id);
        let begin = Command::Begin(Beginning {
            gateway_id: "gw-001".parse().unwrap(),
            user_id: user_id.clone(),
            certificate_id: "cfg-001".parse().unwrap(),
            serial: "0a".parse().unwrap(),
            common_name: Personal::new(person.clone(), "ada".parse().unwrap()),
            client_ip: Some(Personal::new(person, [198, 51, 100, 7].into())),
            vpn_ip: Some([172, 31, 255, ip].into()),
            vpn_ipv6: None,
            connected_at: at,
        });
        ask(services, &id, begin).await;
        id
    }

    #[tokio::test]
    async fn one_sees_ones_own_connections() {
        let start = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let clock = Clock::fixed(start);
        let plane = testing::start("", vec![], clock.clone()).await;
        let services = &plane.state.services;
        let ada = add_user(&plane.state, "ada", Role::Member).await;
        let bob = add_user(&plane.state, "bob", Role::Member).await;
        let client = Client::of(&plane);
        let own = client.login("ada", PASSWORD).await;

        let past = connect(services, &ada, 2, start).await;
        let counters = Counters {
            duration_seconds: Some(60),
            bytes_received: Some(1000),
            bytes_sent: Some(2000),
        };
        let end = Command::End {
            reason: EndReason::Disconnected,
            disconnected_at: start + TimeDelta::minutes(1),
            counters: Some(counters),
        };
        ask(services, &past, end).await;
        let open = connect(services, &ada, 2, start + TimeDelta::minutes(2)).await;
        connect(services, &bob, 3, start).await;

        let ids = |body: &Value| -> Vec<String> {
            let data = body["data"].as_array().unwrap();
            data.iter().map(|it| it["id"].as_str().unwrap().to_owned()).collect()
        };
        let all = own.get("/users/me/connections").await.body;
        assert_eq!(ids(&all), [open.to_string(), past.to_string()]);
        assert_eq!(all["meta"]["total"], 2);
        assert_eq!(
            all["data"][1],
            json!({"id": past, "user": {"id": ada, "email": "ada@example.com"},
                "gateway": {"id": "gw-001", "name": null}, "serial": "a",
                "client_ip": "198.51.100.7", "vpn_ip": "172.31.255.2", "vpn_ipv6": null,
                "connected_at": "2027-01-15T08:00:00Z", "disconnected_at": "2027-01-15T08:01:00Z",
                "end_reason": "disconnected", "duration_seconds": 60,
                "bytes_received": 1000, "bytes_sent": 2000})
        );
        assert!(all["data"][0].get("disconnected_at").is_none());
        let active = own.get("/users/me/connections?status=active").await.body;
        assert_eq!(ids(&active), [open.to_string()]);
        let ended = own.get("/users/me/connections?status=ended").await.body;
        assert_eq!(ids(&ended), [past.to_string()]);

        let first = own.get("/users/me/connections?per_page=1").await.body;
        let cursor = first["meta"]["next_cursor"].as_str().unwrap();
        let path = format!("/users/me/connections?per_page=1&cursor={cursor}");
        assert_eq!(ids(&own.get(&path).await.body), [past.to_string()]);
        for wrong in ["status=odd", "cursor=odd", "user_id=usr-1"] {
            let answer = own.get(&format!("/users/me/connections?{wrong}")).await;
            assert_eq!(answer.status, 400, "{wrong}");
        }
        assert_eq!(client.get("/users/me/connections").await.status, 401);
    }
}
