//! VPN connections, as they are shown.

use chrono::{DateTime, Utc};
use gatekey_aggregates::values::from_micros;
use gatekey_projections::connections;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ConnectionStatus)]
pub enum Status {
    /// Open.
    Active,
    /// Over.
    Ended,
}

impl From<Status> for connections::Status {
    fn from(status: Status) -> Self {
        match status {
            Status::Active => Self::Active,
            Status::Ended => Self::Ended,
        }
    }
}

/// A VPN connection.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Connection {
    /// Its id.
    #[schema(example = "con-01k9x3")]
    pub id: String,
    /// Who.
    pub user: ConnectionUser,
    /// Where.
    pub gateway: ConnectionGateway,
    /// Serial of the certificate.
    #[schema(example = "5a0f3c")]
    pub serial: String,
    /// From where; null: not known.
    #[schema(required, example = "198.51.100.2")]
    pub client_ip: Option<String>,
    /// The address inside the VPN.
    #[schema(required, example = "172.31.255.2")]
    pub vpn_ip: Option<String>,
    /// The IPv6 address inside the VPN.
    #[schema(required, example = "fd00:77::2")]
    pub vpn_ipv6: Option<String>,
    /// When it began.
    pub connected_at: DateTime<Utc>,
    /// When it ended. Absent while it is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disconnected_at: Option<DateTime<Utc>>,
    /// Why it ended. Absent while it is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "disconnected")]
    pub end_reason: Option<String>,
    /// How long it lasted, as the gateway counted.
    #[schema(required)]
    pub duration_seconds: Option<i64>,
    /// Bytes from the client.
    #[schema(required)]
    pub bytes_received: Option<i64>,
    /// Bytes to the client.
    #[schema(required)]
    pub bytes_sent: Option<i64>,
}

/// Whose connection it is.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ConnectionUser {
    /// `usr-…`
    #[schema(example = "usr-01k9x3")]
    pub id: String,
    /// Null if it was erased.
    #[schema(required, example = "ada@example.com")]
    pub email: Option<String>,
}

/// At which gateway it is.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ConnectionGateway {
    /// `gw-…`
    #[schema(example = "gw-001")]
    pub id: String,
    /// What it is called.
    #[schema(required, example = "us-east-1")]
    pub name: Option<String>,
}

impl From<connections::Connection> for Connection {
    fn from(connection: connections::Connection) -> Self {
        let connections::Connection { row, email, gateway_name, .. } = connection;
        Self {
            id: row.id,
            user: ConnectionUser { id: row.user_id, email },
            gateway: ConnectionGateway { id: row.gateway_id, name: gateway_name },
            serial: row.serial,
            client_ip: row.client_ip,
            vpn_ip: row.vpn_ip,
            vpn_ipv6: row.vpn_ipv6,
            connected_at: from_micros(row.connected_at),
            disconnected_at: row.disconnected_at.map(from_micros),
            end_reason: row.end_reason,
            duration_seconds: row.duration_seconds,
            bytes_received: row.bytes_received,
            bytes_sent: row.bytes_sent,
        }
    }
}
