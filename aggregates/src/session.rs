//! A VPN connection, as a gateway's reports tell of it: repeated, late, out of order or not at all.

use crate::root::{Fact, Refusal, RefusalKind, Root};
use crate::values::{CertificateId, CommonName, GatewayId, Serial, UserId, canonical_ip};
use crate::{Claim, ClaimKind, Personal};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
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
    /// Its certificate expired so long ago that no server would still keep it.
    CertificateExpired,
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
            Self::CertificateExpired => "certificate_expired",
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
    /// A client had connected, and that it was over was known before.
    BeginEnded {
        /// What is known of its beginning.
        beginning: Beginning,
        /// Why it ended.
        reason: EndReason,
        /// When.
        disconnected_at: DateTime<Utc>,
    },
    /// It is over.
    End {
        /// Why.
        reason: EndReason,
        /// When.
        disconnected_at: DateTime<Utc>,
        /// What the gateway counted.
        counters: Option<Counters>,
    },
    /// A gateway says that it is gone. Another's word does not count.
    Disconnect {
        /// Which gateway says so.
        gateway_id: GatewayId,
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

impl Event {
    fn began(beginning: Beginning) -> Self {
        Self::Began(Beginning {
            vpn_ip: beginning.vpn_ip.map(canonical_ip),
            vpn_ipv6: beginning.vpn_ipv6.map(canonical_ip),
            ..beginning
        })
    }
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
        let addresses: BTreeSet<IpAddr> =
            [it.vpn_ip, it.vpn_ipv6].into_iter().flatten().map(canonical_ip).collect();
        addresses
            .into_iter()
            .map(|ip| format!("{}/{ip}", it.gateway_id))
            .map(|key| Claim::new(ClaimKind::VpnAddress, key))
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
            return match command {
                Command::Begin(beginning) => Ok(vec![Event::began(beginning)]),
                Command::BeginEnded { beginning, reason, disconnected_at } => {
                    let disconnected_at = disconnected_at.max(beginning.connected_at);
                    let ended = Event::Ended { reason, disconnected_at, counters: None };
                    Ok(vec![Event::began(beginning), ended])
                }
                Command::End { .. } | Command::Disconnect { .. } | Command::Resume { .. } => {
                    Err(Error::NotFound)
                }
            };
        };
        let event = match command {
            // A repeated or late report of the same connection begins nothing anew.
            Command::Begin(other) | Command::BeginEnded { beginning: other, .. } => {
                let same = other.gateway_id == began.gateway_id
                    && other.certificate_id == began.certificate_id;
                if !same {
                    return Err(Error::Conflict);
                }
                None
            }
            Command::End { reason, disconnected_at, counters } => {
                self.end(reason, disconnected_at.max(began.connected_at), counters)
            }
            Command::Disconnect { gateway_id, disconnected_at, counters } => {
                if gateway_id != began.gateway_id {
                    return Err(Error::NotFound);
                }
                let at = disconnected_at.max(began.connected_at);
                self.end(EndReason::Disconnected, at, counters)
            }
            Command::Resume { at } => {
                (self.ended == Some(EndReason::GatewayLost)).then_some(Event::Resumed { at })
            }
        };
        Ok(event.into_iter().collect())
    }

    fn end(
        &self,
        reason: EndReason,
        disconnected_at: DateTime<Utc>,
        counters: Option<Counters>,
    ) -> Option<Event> {
        let standing = self.counters.or_greater(counters.unwrap_or_default());
        let counters = (standing != self.counters).then_some(standing);
        if self.can_end(reason) {
            Some(Event::Ended { reason, disconnected_at, counters })
        } else {
            counters.map(|counters| Event::CountersReported { counters })
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arbitrary;
    use crate::samples::{adas, after, answer, at, erased, value};
    use cqrs_es::Aggregate;
    use cqrs_es::test::{AggregateTestExecutor, TestFramework};
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn given(events: Vec<Event>) -> AggregateTestExecutor<Session> {
        TestFramework::with(()).given(events)
    }

    fn beginning() -> Beginning {
        Beginning {
            gateway_id: value("gw-001"),
            user_id: value("usr-ada"),
            certificate_id: value("cfg-abc"),
            serial: value("5a0f3c"),
            common_name: adas("ada@example.com"),
            client_ip: Some(adas("192.0.2.7")),
            vpn_ip: Some(value("172.31.255.6")),
            vpn_ipv6: None,
            connected_at: at(0),
        }
    }

    fn began() -> Event {
        Event::Began(beginning())
    }

    fn ended(reason: EndReason) -> Event {
        Event::Ended { reason, disconnected_at: at(60), counters: None }
    }

    fn end(reason: EndReason, counters: Option<Counters>) -> Command {
        Command::End { reason, disconnected_at: at(60), counters }
    }

    fn bytes(received: u64, sent: u64) -> Counters {
        Counters {
            duration_seconds: Some(60),
            bytes_received: Some(received),
            bytes_sent: Some(sent),
        }
    }

    const REASONS: [EndReason; 5] = [
        EndReason::Disconnected,
        EndReason::Superseded,
        EndReason::GatewayLost,
        EndReason::GatewayDeleted,
        EndReason::AccessRevoked,
    ];

    /// Every end but the one that can be taken back.
    fn final_reasons() -> impl Iterator<Item = EndReason> {
        REASONS.into_iter().filter(|reason| *reason != EndReason::GatewayLost)
    }

    #[tokio::test]
    async fn it_begins_once_however_often_it_is_reported() {
        given(vec![])
            .when_async(Command::Begin(beginning()))
            .await
            .then_expect_events(vec![began()]);
        let again = Beginning { connected_at: at(9), vpn_ip: None, ..beginning() };
        let histories = REASONS.map(|reason| vec![began(), ended(reason)]);
        for history in histories.into_iter().chain([vec![began()]]) {
            given(history)
                .when_async(Command::Begin(again.clone()))
                .await
                .then_expect_events(vec![]);
        }
    }

    #[tokio::test]
    async fn it_may_be_over_before_it_is_reported() {
        let late = |beginning: Beginning, seconds| Command::BeginEnded {
            beginning,
            reason: EndReason::Superseded,
            disconnected_at: at(seconds),
        };
        given(vec![])
            .when_async(late(beginning(), 60))
            .await
            .then_expect_events(vec![began(), ended(EndReason::Superseded)]);
        let at_once =
            Event::Ended { reason: EndReason::Superseded, disconnected_at: at(0), counters: None };
        given(vec![])
            .when_async(late(beginning(), -60))
            .await
            .then_expect_events(vec![began(), at_once]);
        // Known already: it stands as it stood.
        for history in [vec![began()], vec![began(), ended(EndReason::Disconnected)]] {
            given(history.clone())
                .when_async(late(beginning(), 60))
                .await
                .then_expect_events(vec![]);
            let other = Beginning { gateway_id: value("gw-002"), ..beginning() };
            given(history).when_async(late(other, 60)).await.then_expect_error(Error::Conflict);
        }
        let ended = [began(), ended(EndReason::Superseded)];
        assert_eq!(after::<Session>(ended).claims("con-1"), Vec::new());
    }

    #[tokio::test]
    async fn it_is_of_one_gateway_and_one_certificate() {
        let others = [
            Beginning { gateway_id: value("gw-002"), ..beginning() },
            Beginning { certificate_id: value("cfg-xyz"), ..beginning() },
        ];
        for other in others {
            for history in [vec![began()], vec![began(), ended(EndReason::Disconnected)]] {
                given(history)
                    .when_async(Command::Begin(other.clone()))
                    .await
                    .then_expect_error(Error::Conflict);
            }
        }
    }

    #[tokio::test]
    async fn a_mapped_address_is_its_ipv4_address() {
        let mapped = Beginning { vpn_ip: Some(value("::ffff:172.31.255.6")), ..beginning() };
        given(vec![])
            .when_async(Command::Begin(mapped.clone()))
            .await
            .then_expect_events(vec![began()]);
        let claims = after::<Session>([Event::Began(mapped)]).claims("con-1");
        assert_eq!(claims, after::<Session>([began()]).claims("con-1"));
    }

    #[tokio::test]
    async fn what_never_began_cannot_end_or_resume() {
        for reason in REASONS {
            given(vec![]).when_async(end(reason, None)).await.then_expect_error(Error::NotFound);
        }
        given(vec![])
            .when_async(Command::Resume { at: at(60) })
            .await
            .then_expect_error(Error::NotFound);
    }

    #[tokio::test]
    async fn it_ends_for_any_reason() {
        for reason in REASONS {
            given(vec![began()])
                .when_async(end(reason, None))
                .await
                .then_expect_events(vec![ended(reason)]);
            given(vec![began()])
                .when_async(end(reason, Some(bytes(5, 7))))
                .await
                .then_expect_events(vec![Event::Ended {
                    reason,
                    disconnected_at: at(60),
                    counters: Some(bytes(5, 7)),
                }]);
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
        }
    }

    #[tokio::test]
    async fn only_its_own_gateway_disconnects_it() {
        let disconnect = |gateway: &str| Command::Disconnect {
            gateway_id: value(gateway),
            disconnected_at: at(60),
            counters: None,
        };
        let histories = [
            vec![began()],
            vec![began(), ended(EndReason::GatewayLost)],
            vec![began(), ended(EndReason::Disconnected)],
        ];
        for history in histories {
            given(history)
                .when_async(disconnect("gw-002"))
                .await
                .then_expect_error(Error::NotFound);
        }
        given(vec![]).when_async(disconnect("gw-001")).await.then_expect_error(Error::NotFound);
        given(vec![began()])
            .when_async(disconnect("gw-001"))
            .await
            .then_expect_events(vec![ended(EndReason::Disconnected)]);
    }

    #[tokio::test]
    async fn it_never_ends_before_it_began() {
        given(vec![began()])
            .when_async(Command::End {
                reason: EndReason::Disconnected,
                disconnected_at: at(-60),
                counters: None,
            })
            .await
            .then_expect_events(vec![Event::Ended {
                reason: EndReason::Disconnected,
                disconnected_at: at(0),
                counters: None,
            }]);
    }

    #[tokio::test]
    async fn a_second_end_only_adds_what_it_counted_more() {
        for first in final_reasons() {
            for second in REASONS {
                given(vec![began(), ended(first)])
                    .when_async(end(second, None))
                    .await
                    .then_expect_events(vec![]);
            }
        }
        let first = Event::Ended {
            reason: EndReason::Disconnected,
            disconnected_at: at(60),
            counters: Some(bytes(5, 7)),
        };
        let cases = [
            (bytes(5, 7), None),
            (bytes(0, 0), None),
            (Counters::default(), None),
            (bytes(9, 2), Some(bytes(9, 7))),
            (Counters { bytes_sent: Some(8), ..Counters::default() }, Some(bytes(5, 8))),
        ];
        for (counters, standing) in cases {
            let expected = standing.map(|counters| Event::CountersReported { counters });
            given(vec![began(), first.clone()])
                .when_async(end(EndReason::Disconnected, Some(counters)))
                .await
                .then_expect_events(expected.into_iter().collect());
        }
        given(vec![began(), first, Event::CountersReported { counters: bytes(9, 9) }])
            .when_async(end(EndReason::Disconnected, Some(bytes(8, 8))))
            .await
            .then_expect_events(vec![]);
    }

    #[tokio::test]
    async fn one_thought_lost_can_truly_end() {
        let lost = vec![began(), ended(EndReason::GatewayLost)];
        let disconnected = Event::Ended {
            reason: EndReason::Disconnected,
            disconnected_at: at(60),
            counters: Some(bytes(5, 7)),
        };
        given(lost.clone())
            .when_async(end(EndReason::Disconnected, Some(bytes(5, 7))))
            .await
            .then_expect_events(vec![disconnected.clone()]);
        let others = REASONS.into_iter().filter(|reason| *reason != EndReason::Disconnected);
        for reason in others {
            given(lost.clone()).when_async(end(reason, None)).await.then_expect_events(vec![]);
        }
        given(lost.into_iter().chain([disconnected]).collect())
            .when_async(end(EndReason::Disconnected, None))
            .await
            .then_expect_events(vec![]);
    }

    #[tokio::test]
    async fn only_one_thought_lost_resumes() {
        let resume = Command::Resume { at: at(90) };
        let resumed = Event::Resumed { at: at(90) };
        let lost = vec![began(), ended(EndReason::GatewayLost)];
        given(lost.clone())
            .when_async(resume.clone())
            .await
            .then_expect_events(vec![resumed.clone()]);
        let back: Vec<Event> = lost.into_iter().chain([resumed]).collect();
        assert!(after::<Session>(back.clone()).is_open());
        given(back.clone()).when_async(resume.clone()).await.then_expect_events(vec![]);
        given(back)
            .when_async(end(EndReason::Disconnected, None))
            .await
            .then_expect_events(vec![ended(EndReason::Disconnected)]);
        given(vec![began()]).when_async(resume.clone()).await.then_expect_events(vec![]);
        for reason in final_reasons() {
            given(vec![began(), ended(reason)])
                .when_async(resume.clone())
                .await
                .then_expect_events(vec![]);
        }
    }

    #[tokio::test]
    async fn counters_fit_a_database() {
        let most = i64::MAX.unsigned_abs();
        given(vec![began()])
            .when_async(end(EndReason::Disconnected, Some(bytes(u64::MAX, 1))))
            .await
            .then_expect_events(vec![Event::Ended {
                reason: EndReason::Disconnected,
                disconnected_at: at(60),
                counters: Some(bytes(most, 1)),
            }]);
    }

    #[test]
    fn it_claims_its_addresses_while_it_is_open() {
        let address = [Claim::new(ClaimKind::VpnAddress, "gw-001/172.31.255.6")];
        let lost = ended(EndReason::GatewayLost);
        let histories = [
            (vec![], false),
            (vec![began()], true),
            (vec![began(), lost.clone()], false),
            (vec![began(), lost, Event::Resumed { at: at(90) }], true),
        ];
        for (history, open) in histories {
            let session: Session = after(history);
            assert_eq!(session.is_open(), open);
            assert_eq!(session.claims("con-1"), if open { &address[..] } else { &[] });
        }
        let bare = Beginning { vpn_ip: None, ..beginning() };
        assert_eq!(after::<Session>([Event::Began(bare)]).claims("con-1"), []);
        let both = Beginning { vpn_ipv6: Some(value("fd00::6")), ..beginning() };
        let both = after::<Session>([Event::Began(both)]).claims("con-1");
        let six = Claim::new(ClaimKind::VpnAddress, "gw-001/fd00::6");
        assert_eq!(both, [address[0].clone(), six]);
    }

    #[tokio::test]
    async fn one_whose_person_was_erased_goes_on_as_before() {
        let nobody = Beginning { common_name: erased(), client_ip: Some(erased()), ..beginning() };
        let history = vec![Event::Began(nobody)];
        assert_eq!(
            after::<Session>(history.clone()).claims("con-1"),
            after::<Session>([began()]).claims("con-1")
        );
        given(history.clone())
            .when_async(Command::Begin(beginning()))
            .await
            .then_expect_events(vec![]);
        given(history)
            .when_async(end(EndReason::AccessRevoked, None))
            .await
            .then_expect_events(vec![ended(EndReason::AccessRevoked)]);
    }

    #[test]
    fn nobody_configures_a_connection() {
        let events = [
            began(),
            ended(EndReason::Disconnected),
            Event::Resumed { at: at(90) },
            Event::CountersReported { counters: bytes(1, 1) },
        ];
        assert!(!events.iter().any(Fact::is_configuration));
    }

    #[test]
    fn refusals_are_answered_by_code_kind_and_field() {
        assert_eq!(answer(&Error::NotFound), ("connection_not_found", RefusalKind::NotFound, None));
        assert_eq!(answer(&Error::Conflict), ("connection_exists", RefusalKind::Conflict, None));
    }

    fn any_command() -> impl Strategy<Value = Command> {
        prop_oneof![5 => arbitrary::session_command(), 1 => arbitrary::session_begin_ended()]
    }

    /// Whether no count of `before` is greater or gone in `now`.
    fn kept(before: Counters, now: Counters) -> bool {
        before.duration_seconds <= now.duration_seconds
            && before.bytes_received <= now.bytes_received
            && before.bytes_sent <= now.bytes_sent
    }

    proptest! {
        /// However a gateway's reports are repeated, lost and shuffled.
        #[test]
        fn no_report_breaks_the_history(commands in vec(any_command(), 0..40)) {
            let mut session = Session::default();
            let mut beginnings = 0;
            for command in commands {
                for event in session.decide(command).unwrap_or_default() {
                    let before = session.clone();
                    session.apply(event.clone());

                    match &event {
                        Event::Began(_) => beginnings += 1,
                        Event::Ended { disconnected_at, .. } => {
                            let connected_at = before.began.as_ref().unwrap().connected_at;
                            prop_assert!(*disconnected_at >= connected_at, "ended before it began");
                        }
                        Event::Resumed { .. } | Event::CountersReported { .. } => {}
                    }
                    prop_assert!(beginnings == 1, "began {} times", beginnings);
                    let lost = before.ended == Some(EndReason::GatewayLost);
                    if before.began.is_some() && !before.is_open() && !lost {
                        prop_assert_eq!(session.ended, before.ended, "an end was taken back");
                    }
                    if let Event::Ended { counters: Some(said), .. }
                    | Event::CountersReported { counters: said } = event
                    {
                        prop_assert_eq!(said, session.counters, "said less than it knows");
                    }
                    prop_assert!(kept(before.counters, session.counters), "a count shrank");

                    let addresses: BTreeSet<IpAddr> = session
                        .began
                        .iter()
                        .flat_map(|it| [it.vpn_ip, it.vpn_ipv6])
                        .flatten()
                        .map(canonical_ip)
                        .collect();
                    let held = if session.is_open() { addresses.len() } else { 0 };
                    prop_assert_eq!(session.claims("con-1").len(), held, "its addresses");
                }
            }
        }

        /// Whatever order the ends come in: the counters are the greatest of each.
        #[test]
        fn counters_do_not_depend_on_the_order(
            counts in vec((0..9_u64, 0..9_u64), 1..6).prop_shuffle(),
        ) {
            let mut session = after::<Session>([began()]);
            for (received, sent) in &counts {
                let report = end(EndReason::Disconnected, Some(bytes(*received, *sent)));
                for event in session.decide(report).unwrap() {
                    session.apply(event);
                }
            }
            let received = counts.iter().map(|it| it.0).max().unwrap();
            let sent = counts.iter().map(|it| it.1).max().unwrap();
            prop_assert_eq!(session.counters, bytes(received, sent));
        }
    }
}
