//! `…/{id}/networks`: what can be reached through something.

use super::{Given, Kind, Reference, give, must_exist, no_such, take};
use crate::api::{ApiError, Creating, Data, Filter, List, Page};
use crate::auth::Admin;
use crate::services::Services;
use chrono::{DateTime, Utc};
use gatekey_aggregates::values::{NetworkId, from_micros};
use gatekey_projections as views;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// What networks are attached to.
pub trait Attachable: Kind {
    /// Attaches a network.
    const ATTACH: fn(NetworkId) -> Self::Command;
    /// Detaches a network.
    const DETACH: fn(NetworkId) -> Self::Command;
}

/// Which network to attach.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AttachNetwork {
    /// The network's id.
    pub network_id: NetworkId,
}

/// A network that is attached.
#[derive(Serialize, ToSchema)]
pub struct AttachedNetwork {
    /// Its id.
    #[schema(example = "net-01k9x3")]
    id: String,
    /// Its name.
    #[schema(example = "office")]
    name: String,
    /// Its addresses.
    #[schema(example = "10.77.0.0/24")]
    cidr: String,
    /// Free text.
    #[schema(example = "Everything in Cambridge")]
    description: String,
    /// Since when.
    attached_at: DateTime<Utc>,
}

impl From<views::AttachedNetwork> for AttachedNetwork {
    fn from(it: views::AttachedNetwork) -> Self {
        Self {
            id: it.id,
            name: it.name,
            cidr: it.cidr,
            description: it.description,
            attached_at: from_micros(it.granted_at),
        }
    }
}

/// The query of a list of attached networks.
#[derive(Deserialize, IntoParams)]
pub struct Networks {}

impl Filter for Networks {
    const SORT: &'static [&'static str] = views::NETWORK_SORT;
    const SEARCH: bool = true;
}

/// Networks that can be reached through it.
pub async fn attached<A: Attachable>(
    services: &Services,
    id: &A::Id,
    list: List<Networks>,
) -> Result<Page<AttachedNetwork>, ApiError> {
    must_exist::<A>(services, id).await?;
    let listed = A::GRANTING.networks(&services.db, &id.to_string(), &list.wanted()?).await?;
    Ok(Page::listed(listed.map(AttachedNetwork::from), list.paging))
}

/// Attaches a network, which must be there.
pub async fn attach<A: Attachable>(
    services: &Services,
    admin: &Admin,
    id: &A::Id,
    Creating { body: AttachNetwork { network_id }, creation }: Creating<AttachNetwork>,
) -> Result<Given, ApiError> {
    must_exist::<A>(services, id).await?;
    network(services, &network_id).await?;
    give::<A, _>((&creation, admin, id), "networks", A::ATTACH, network_id).await
}

/// Detaches a network.
pub async fn detach<A: Attachable>(
    services: &Services,
    admin: &Admin,
    id: &A::Id,
    network_id: NetworkId,
) -> Result<Data<Reference>, ApiError> {
    take::<A, _>((services, admin, id), A::DETACH, network_id).await
}

/// 400 unless there is such a network now.
pub async fn network(
    services: &Services,
    id: &NetworkId,
) -> Result<views::networks::Network, ApiError> {
    let found = views::networks::find(&services.db, id.as_str()).await?;
    found.ok_or_else(|| no_such("network_id", "network"))
}

/// Declares the operations by which networks are attached to a thing: a module `networks` with
/// `read()` and `change()`.
macro_rules! networks {
    (
        $thing:ident ($id:ident) at $at:tt, tag $tag:tt, called $called:tt, operations $name:tt
    ) => {
        mod networks {
            use super::{$id, $thing};
            use $crate::api::admin::grants::networks::*;
            use $crate::api::admin::grants::{Given, Reference};
            use $crate::api::{ApiError, Creating, Data, IdempotencyKey, List, Page, Path};
            use $crate::app::AppState;
            use $crate::auth::{Admin, Auditor};
            use $crate::services::Services;
            use axum::extract::State;
            use gatekey_aggregates::values::NetworkId;
            use std::sync::Arc;
            use utoipa_axum::router::OpenApiRouter;
            use utoipa_axum::routes;

            /// What auditors read.
            pub fn read() -> OpenApiRouter<AppState> {
                OpenApiRouter::new().routes(routes!(list_networks))
            }

            /// What admins change.
            pub fn change() -> OpenApiRouter<AppState> {
                OpenApiRouter::new().routes(routes!(attach_network)).routes(routes!(detach_network))
            }

            #[utoipa::path(
                get, path = concat!($at, "/networks"), tag = $tag,
                operation_id = concat!("list", $name, "Networks"),
                summary = concat!("List the networks of ", $called),
                description = "Those that can be reached through it. `q` looks at name, addresses \
                               and description.",
                params(
                    ("id" = $id, Path, description = concat!("The id of ", $called)),
                    List<Networks>
                ),
                responses((
                    status = 200, description = "A page of them", body = Page<AttachedNetwork>
                ))
            )]
            async fn list_networks(
                _: Auditor,
                Path(id): Path<$id>,
                list: List<Networks>,
                State(services): State<Arc<Services>>,
            ) -> Result<Page<AttachedNetwork>, ApiError> {
                attached::<$thing>(&services, &id, list).await
            }

            #[utoipa::path(
                post, path = concat!($at, "/networks"), tag = $tag,
                operation_id = concat!("attachNetworkTo", $name),
                summary = concat!("Attach a network to ", $called),
                params(
                    ("id" = $id, Path, description = concat!("The id of ", $called)),
                    IdempotencyKey
                ),
                request_body = AttachNetwork,
                responses(
                    (
                        status = 201, description = "Attached", body = Data<Reference>,
                        headers(("Location" = String, description = "What detaches it by DELETE"))
                    ),
                    (status = 200, description = "It was attached already", body = Data<Reference>),
                )
            )]
            async fn attach_network(
                admin: Admin,
                Path(id): Path<$id>,
                State(services): State<Arc<Services>>,
                body: Creating<AttachNetwork>,
            ) -> Result<Given, ApiError> {
                attach::<$thing>(&services, &admin, &id, body).await
            }

            #[utoipa::path(
                delete, path = concat!($at, "/networks/{network_id}"), tag = $tag,
                operation_id = concat!("detachNetworkFrom", $name),
                summary = concat!("Detach a network from ", $called),
                description = "What was detached before, or is gone, is answered alike; what was \
                               never attached is 404.",
                params(
                    ("id" = $id, Path, description = concat!("The id of ", $called)),
                    ("network_id" = NetworkId, Path, description = "The network's id"),
                ),
                responses((status = 200, description = "It is not attached", body = Data<Reference>))
            )]
            async fn detach_network(
                admin: Admin,
                Path((id, network_id)): Path<($id, NetworkId)>,
                State(services): State<Arc<Services>>,
            ) -> Result<Data<Reference>, ApiError> {
                detach::<$thing>(&services, &admin, &id, network_id).await
            }
        }
    };
}

pub(in crate::api::admin) use networks;
