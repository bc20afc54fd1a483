//! Any event of any aggregate, as the log and the projections see it.

use crate::{Fact, Metadata};
use chrono::{DateTime, Utc};
use serde_json::Value;

/// The stored payload does not fit its aggregate type.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// No such aggregate: the log was written by a newer version.
    #[error("unknown aggregate type `{0}`")]
    UnknownAggregate(String),
    /// The payload is not what that aggregate writes.
    #[error("the payload of a `{aggregate}` event can't be read: {source}")]
    Payload {
        /// The aggregate type.
        aggregate: String,
        /// What serde says.
        source: serde_json::Error,
    },
}

macro_rules! events {
    ($($(#[$doc:meta])* $name:ident($module:ident::$aggregate:ident)),+ $(,)?) => {
        /// An event of one of the aggregates.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Event {
            $($(#[$doc])* $name(crate::$module::Event)),+
        }

        impl Event {
            /// Reads a stored payload.
            pub fn decode(aggregate_type: &str, payload: Value) -> Result<Self, DecodeError> {
                $(if aggregate_type == <crate::$module::$aggregate as cqrs_es::Aggregate>::TYPE {
                    return serde_json::from_value(payload).map(Self::$name).map_err(|source| {
                        DecodeError::Payload { aggregate: aggregate_type.to_owned(), source }
                    });
                })+
                Err(DecodeError::UnknownAggregate(aggregate_type.to_owned()))
            }

            /// What [`Event::decode`] reads it back by: the aggregate's type.
            pub fn aggregate_type(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => {
                        <crate::$module::$aggregate as cqrs_es::Aggregate>::TYPE
                    }),+
                }
            }

            /// The payload as it is stored, personal values readable.
            pub fn payload(&self) -> Result<Value, serde_json::Error> {
                match self { $(Self::$name(event) => serde_json::to_value(event)),+ }
            }

            /// The stable code, such as `gateway.updated`.
            pub fn code(&self) -> &'static str {
                match self { $(Self::$name(event) => event.code()),+ }
            }

            /// See [`Fact::is_configuration`].
            pub fn is_configuration(&self) -> bool {
                match self { $(Self::$name(event) => event.is_configuration()),+ }
            }
        }

        $(impl From<crate::$module::Event> for Event {
            fn from(event: crate::$module::Event) -> Self {
                Self::$name(event)
            }
        })+
    };
}

events! {
    /// Of an access rule.
    AccessRule(access_rule::AccessRule),
    /// Of those who failed, by node and day.
    Attempt(attempt::Attempt),
    /// Of the certificate authority.
    Authority(authority::Authority),
    /// Of a certificate.
    Certificate(certificate::Certificate),
    /// Of a gateway.
    Gateway(gateway::Gateway),
    /// Of the geo-fence's settings.
    GeoFence(geo_fence::GeoFence),
    /// Of a rule of the geo-fence.
    GeoFenceRule(geo_fence_rule::GeoFenceRule),
    /// Of a web login.
    Login(login::Login),
    /// Of a mesh hub and its spokes.
    MeshHub(mesh_hub::MeshHub),
    /// Of a network.
    Network(network::Network),
    /// Of a VPN connection.
    Session(session::Session),
    /// Of the settings.
    Settings(settings::Settings),
    /// Of a user.
    User(user::User),
}

/// Events whose payload has changed so that old ones must be upcast, and the version that is written
/// now.
const VERSIONS: [(&str, &str); 0] = [];

/// The version that is written of the payload of the events with this code; all begin with 1.
pub fn version_of(code: &str) -> &'static str {
    VERSIONS.iter().find(|(of, _)| *of == code).map_or("1", |(_, version)| version)
}

/// An event with its place in the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// Its place in the whole log: from 1, without gaps, in commit order.
    pub position: i64,
    /// When it was written. Never before the event ahead of it.
    pub recorded_at: DateTime<Utc>,
    /// The aggregate's type.
    pub aggregate_type: String,
    /// The aggregate's id.
    pub aggregate_id: String,
    /// Its place in its stream: from 1, without gaps.
    pub sequence: i64,
    /// What happened.
    pub event: Event,
    /// The circumstances.
    pub metadata: Metadata,
}
