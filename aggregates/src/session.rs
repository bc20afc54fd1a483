//! A VPN connection, as a gateway's reports tell of it: repeated, late, out of order or not at all.

use crate::root::{Fact, Refusal, RefusalKind, Root};
use crate::values::{CertificateId, CommonName, GatewayId, Serial, UserId, canonical_ip};
use crate::{Claim, ClaimKind, Personal};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// The gateway said so.
    Disconnected,
    /// Another connection has its VPN address.
    Superseded,
    /// The gateway fell silent. The only end that can be taken back.
    GatewayLost,
    /// The gateway was deleted.
    GatewayDeleted,
    /// The person may no longer use the gateway.
    AccessRevoked,
}

impl EndReason {
    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disconnected => "disconnected",
            Self::Superseded => "superseded",
            Self::GatewayLost => "gateway_lost",
            Self::GatewayDeleted => "gateway_deleted",
            Self::AccessRevoked => "access_revoked",
        }
    }
}

/// What the gateway counted, where it said so. At most `i64::MAX`, all that a database holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// How long it lasted.
    pub duration_seconds: Option<u64>,
    /// Bytes from the client.
    pub bytes_received: Option<u64>,
    /// Bytes to the client.
    pub bytes_sent: Option<u64>,
}

impl Counters {
    /// The greater of each: a count never shrinks, and what is not said wipes nothing.
    pub fn or_greater(self, other: Self) -> Self {
        const MAX: u64 = i64::MAX.unsigned_abs();
        let greater = |a: Option<u64>, b: Option<u64>| a.max(b).map(|count| count.min(MAX));
        Self {
            duration_seconds: greater(self.duration_seconds, other.duration_seconds),
            bytes_received: greater(self.bytes_received, other.bytes_received),
            bytes_sent: greater(self.bytes_sent, other.bytes_sent),
        }
    }
}

/// What is known when it begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beginning {
    /// At which gateway.
    pub gateway_id: GatewayId,
    /// Who.
    pub user_id: UserId,
    /// With which certificate.
    pub certificate_id: CertificateId,
    /// Its serial.
    pub serial: Serial,
    /// Its common name.
    pub common_name: Personal<CommonName>,
    /// From where.
    pub client_ip: Option<Personal<IpAddr>>,
    /// The address it was given inside the VPN.
    pub vpn_ip: Option<IpAddr>,
    /// Its IPv6 address inside the VPN.
    pub vpn_ipv6: Option<IpAddr>,
    /// When.
    pub connected_at: DateTime<Utc>,
}

/// The state that commands are decided on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// None before it began.
    pub began: Option<Beginning>,
    /// Why it ended; none while it is open.
    pub ended: Option<EndReason>,
    /// The greatest of each that was reported.
    pub counters: Counters,
}

/// What can be asked of a connection.
#[derive(Clone, Debug)]
pub enum Command {
    /// A client connected.
    Begin(Beginning),
    /// It is over.
    End {
        /// Why.
        reason: EndReason,
        /// When.
        disconnected_at: DateTime<Utc>,
        /// What the gateway counted.
        counters: Option<Counters>,
    },
    /// Its gateway was heard of again, and it is still open there.
    Resume {
        /// When.
        at: DateTime<Utc>,
    },
}

/// What happened to a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A client connected.
    Began(Beginning),
    /// It ended. After a `gateway_lost` a second one may tell the true end.
    Ended {
        /// Why.
        reason: EndReason,
        /// When; never before it began.
        disconnected_at: DateTime<Utc>,
        /// The counters as they now stand; none: nothing new was said.
        counters: Option<Counters>,
    },
    /// It had ended as `gateway_lost`, and was open all the while.
    Resumed {
        /// When that was learnt.
        at: DateTime<Utc>,
    },
    /// A late report of an ended connection counted more.
    CountersReported {
        /// The counters as they now stand.
        counters: Counters,
    },
}

/// Why a command on a connection was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is none with that id.
    #[error("there is no such connection")]
    NotFound,
    /// The id is another connection's.
    #[error("this connection is of another gateway or certificate")]
    Conflict,
}

impl Refusal for Error {
    fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "connection_not_found",
            Self::Conflict => "connection_exists",
        }
    }

    fn kind(&self) -> RefusalKind {
        match self {
            Self::NotFound => RefusalKind::NotFound,
            Self::Conflict => RefusalKind::Conflict,
        }
    }
}

impl Fact for Event {
    fn code(&self) -> &'static str {
        match self {
            Self::Began(_) => "session.began",
            Self::Ended { .. } => "session.ended",
            Self::Resumed { .. } => "session.resumed",
            Self::CountersReported { .. } => "session.counters_reported",
        }
    }

    fn is_configuration(&self) -> bool {
        false
    }
}

aggregate!(Session, "session");

impl Root for Session {
    fn exists(&self) -> bool {
        self.began.is_some()
    }

    fn claims(&self, _id: &str) -> Vec<Claim> {
        let Some(it) = self.began.as_ref().filter(|_| self.is_open()) else { return Vec::new() };
        it.vpn_ip
            .map(|ip| format!("{}/{}", it.gateway_id, canonical_ip(ip)))
            .map(|key| Claim::new(ClaimKind::VpnAddress, key))
            .into_iter()
            .collect()
    }
}

impl Session {
    /// Whether it began and has not ended.
    pub fn is_open(&self) -> bool {
        self.began.is_some() && self.ended.is_none()
    }

    fn decide(&self, command: Command) -> Result<Vec<Event>, Error> {
        let Some(began) = &self.began else {
            let Command::Begin(beginning) = command else { return Err(Error::NotFound) };
            return Ok(vec![Event::Began(Beginning {
                vpn_ip: beginning.vpn_ip.map(canonical_ip),
                vpn_ipv6: beginning.vpn_ipv6.map(canonical_ip),
                ..beginning
            })]);
        };
        let event = match command {
            // A repeated or late report of the same connection begins nothing anew.
            Command::Begin(other) => {
                let same = other.gateway_id == began.gateway_id
                    && other.certificate_id == began.certificate_id;
                if !same {
                    return Err(Error::Conflict);
                }
                None
            }
            Command::End { reason, disconnected_at, counters } => {
                let standing = self.counters.or_greater(counters.unwrap_or_default());
                let news = (standing != self.counters).then_some(standing);
                if self.can_end(reason) {
                    let disconnected_at = disconnected_at.max(began.connected_at);
                    Some(Event::Ended { reason, disconnected_at, counters: news })
                } else {
                    news.map(|counters| Event::CountersReported { counters })
                }
            }
            Command::Resume { at } => {
                (self.ended == Some(EndReason::GatewayLost)).then_some(Event::Resumed { at })
            }
        };
        Ok(event.into_iter().collect())
    }

    /// Whether an end for `reason` is news: of an open connection, or the true end of one that was
    /// only thought lost.
    fn can_end(&self, reason: EndReason) -> bool {
        match self.ended {
            None => true,
            Some(EndReason::GatewayLost) => reason == EndReason::Disconnected,
            Some(_) => false,
        }
    }

    fn evolve(&mut self, event: Event) {
        match event {
            Event::Began(beginning) => self.began = Some(beginning),
            Event::Ended { reason, counters, .. } => {
                self.ended = Some(reason);
                self.counters = self.counters.or_greater(counters.unwrap_or_default());
            }
            Event::Resumed { .. } => self.ended = None,
            Event::CountersReported { counters } => {
                self.counters = self.counters.or_greater(counters);
            }
        }
    }
}
