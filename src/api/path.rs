//! Ids in paths. A malformed one is 404, like the id of nothing: there is no such thing.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::ApiError;

/// The path's parameters as typed values: `Path(id): Path<GatewayId>`, or a tuple in the path's
/// order.
#[derive(Clone, Debug)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(_) => Err(ApiError::not_found()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::http::{Request, StatusCode};
    use axum::{Router, routing::get};
    use gatekey_aggregates::values::{GatewayId, GroupName};
    use tower::ServiceExt;

    async fn status(path: &str) -> StatusCode {
        let app = Router::new()
            .route("/{id}", get(|Path(id): Path<GatewayId>| async move { id.to_string() }))
            .route(
                "/{id}/groups/{group}",
                get(|Path((id, group)): Path<(GatewayId, GroupName)>| async move {
                    format!("{id} {group}")
                }),
            );
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        app.oneshot(request).await.unwrap().status()
    }

    #[tokio::test]
    async fn a_malformed_id_is_the_id_of_nothing() {
        assert_eq!(status("/gw-1").await, StatusCode::OK);
        assert_eq!(status("/gw-1/groups/site%20ops").await, StatusCode::OK);
        for wrong in ["/usr-1", "/gw-", "/gw-%00", "/gw-%ff", "/gw-1/groups/a%0Ab"] {
            assert_eq!(status(wrong).await, StatusCode::NOT_FOUND, "{wrong}");
        }
    }
}
