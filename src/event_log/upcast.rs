//! Old events as they would be written today: the one table of upcasters.
//!
//! An event's payload has a version (`gatekey_aggregates::version_of`). When a payload changes in a
//! way that old rows can't be read by, its version is raised there, and an upcaster that makes the
//! new payload of the old one is added here. Rows are never edited.

use cqrs_es::persist::{EventUpcaster, SemanticVersion, SerializedEvent};
use gatekey_aggregates::version_of;
use serde_json::Value;

/// What makes today's events of old ones, the oldest first.
#[derive(Default)]
pub struct Upcasters(Vec<Box<dyn EventUpcaster>>);

/// Why an event is of no version that can be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// It was written by a newer server.
    #[error(
        "`{event_type}` is of version {found}, and this server knows it up to version {known}: upgrade this server"
    )]
    Newer {
        /// The event's code.
        event_type: String,
        /// Its version.
        found: String,
        /// The version that is written here.
        known: &'static str,
    },
    /// Nobody knows how to read it any more, or its version is none.
    #[error("`{event_type}` is of version {found}, and nothing makes version {known} of it")]
    NoUpcaster {
        /// The event's code.
        event_type: String,
        /// Its version.
        found: String,
        /// The version that is written here.
        known: &'static str,
    },
}

/// Where an event stands, and what it says it is.
#[derive(Clone, Copy, Debug)]
pub struct Versioned<'a> {
    /// The aggregate's type.
    pub aggregate_type: &'a str,
    /// The aggregate's id.
    pub aggregate_id: &'a str,
    /// The event's place in its stream.
    pub sequence: i64,
    /// The event's code.
    pub event_type: &'a str,
    /// The version of its payload.
    pub event_version: &'a str,
}

impl Upcasters {
    /// Those of this server. So far no payload has changed.
    pub fn ours() -> Self {
        Self(Vec::new())
    }

    /// Others, for tests.
    #[cfg(test)]
    pub fn of(upcasters: Vec<Box<dyn EventUpcaster>>) -> Self {
        Self(upcasters)
    }

    /// The payload as it would be written today. It must have been opened before: what is sealed in
    /// it is bound to where it stood.
    pub fn payload(&self, stored: Versioned<'_>, payload: Value) -> Result<Value, VersionError> {
        let known = version_of(stored.event_type);
        if stored.event_version == known {
            return Ok(payload);
        }
        let of = |text: &str| text.parse::<SemanticVersion>().ok();
        let none = || VersionError::NoUpcaster {
            event_type: stored.event_type.to_owned(),
            found: stored.event_version.to_owned(),
            known,
        };
        let (Some(found), Some(ours)) = (of(stored.event_version), of(known)) else {
            return Err(none());
        };
        if found.supersedes(&ours) {
            return Err(VersionError::Newer {
                event_type: stored.event_type.to_owned(),
                found: stored.event_version.to_owned(),
                known,
            });
        }
        let event = SerializedEvent::new(
            stored.aggregate_id.to_owned(),
            usize::try_from(stored.sequence).unwrap_or_default(),
            stored.aggregate_type.to_owned(),
            stored.event_type.to_owned(),
            stored.event_version.to_owned(),
            payload,
            Value::Null,
        );
        let event = self.0.iter().fold(event, |event, upcaster| {
            if upcaster.can_upcast(&event.event_type, &event.event_version) {
                upcaster.upcast(event)
            } else {
                event
            }
        });
        if of(&event.event_version) == Some(ours) { Ok(event.payload) } else { Err(none()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::event_log::{LoadError, ReadError, Reader, Store};
    use crate::testing::{self, TestPlane};
    use cqrs_es::persist::SemanticVersionEventUpcaster;
    use gatekey_aggregates::network::{self, Network};
    use gatekey_aggregates::{Event, Metadata, PersonId};
    use gatekey_projections::Arg;
    use serde_json::json;
    use std::sync::Arc;

    const ID: &str = "net-old";

    /// Version 0 of a network called its CIDR `address`; version 0.5 called it `range`.
    fn upcasters() -> Arc<Upcasters> {
        fn renaming(version: &str, from: &'static str, to: &'static str) -> Box<dyn EventUpcaster> {
            let rename = Box::new(move |mut payload: Value| {
                if let Some(network) = payload["created"]["definition"].as_object_mut()
                    && let Some(value) = network.remove(from)
                {
                    network.insert(to.to_owned(), value);
                }
                payload
            });
            Box::new(SemanticVersionEventUpcaster::new("network.created", version, rename))
        }
        Arc::new(Upcasters::of(vec![
            renaming("0.5", "address", "range"),
            renaming("1", "range", "cidr"),
        ]))
    }

    /// A plane with a network whose first event is of `version`, its CIDR called `field`.
    async fn plane(version: &str, field: &str) -> TestPlane {
        let plane = testing::start("", vec![], Clock::system()).await;
        let services = &plane.state.services;
        let definition = network::Definition {
            name: "lab".parse().unwrap(),
            cidr: "10.7.0.0/16".parse().unwrap(),
            description: "".parse().unwrap(),
        };
        let person = PersonId::from("day-2027-01-15".to_owned());
        let request = crate::event_log::Request::new::<Network>(
            ID,
            network::Command::Create(definition),
            Metadata::system("test", person),
        );
        services.bus.execute::<Network>(request).await.unwrap();
        let sql = "UPDATE events SET event_version = $1, \
                   payload = replace(payload, '\"cidr\"', $2) WHERE aggregate_id = $3";
        let args: [Arg; 3] = [version.into(), format!("{field:?}").into(), ID.into()];
        assert_eq!(services.db.execute(sql, &args).await.unwrap(), 1);
        plane
    }

    fn cidr(event: &Event) -> String {
        match event {
            Event::Network(network::Event::Created { definition }) => definition.cidr.to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn an_old_event_reads_as_if_it_were_written_today() {
        for (version, field) in [("0", "address"), ("0.1", "address"), ("0.5.0", "range")] {
            let plane = plane(version, field).await;
            let services = &plane.state.services;
            let reader = Reader::new(services.db.clone(), services.keyring.clone())
                .with_upcasters(upcasters());
            let stream = reader.stream("network", ID).await.unwrap();
            assert_eq!(cidr(&stream[0].event), "10.7.0.0/16", "{version}");
            let store =
                Store::new(&services.db, services.keyring.clone()).with_upcasters(upcasters());
            let loaded = store.load::<Network>(ID).await.unwrap();
            assert_eq!(
                loaded.state.definition.unwrap().cidr.to_string(),
                "10.7.0.0/16",
                "{version}"
            );
        }
    }

    #[tokio::test]
    async fn a_newer_event_is_refused_and_says_what_to_do() {
        let plane = plane("2", "cidr").await;
        let services = &plane.state.services;
        let expected = "`network.created` is of version 2, and this server knows it up to \
                        version 1: upgrade this server";
        let refused = services.reader.stream("network", ID).await.unwrap_err();
        assert!(matches!(refused, ReadError::Version { .. }));
        assert!(refused.to_string().ends_with(expected), "{refused}");
        let store = Store::new(&services.db, services.keyring.clone());
        let refused = store.load::<Network>(ID).await.unwrap_err();
        assert!(matches!(refused, LoadError::Newer { .. }));
        assert!(refused.to_string().ends_with(expected), "{refused}");
    }

    #[test]
    fn a_version_that_nothing_leads_up_from_is_refused() {
        let stored = |event_version| Versioned {
            aggregate_type: "network",
            aggregate_id: ID,
            sequence: 1,
            event_type: "network.created",
            event_version,
        };
        for version in ["0", "0.9.9", "", "one"] {
            let refused = Upcasters::ours().payload(stored(version), json!({}));
            assert!(matches!(refused, Err(VersionError::NoUpcaster { .. })), "{version}");
        }
        for same in ["1", "1.0", "1.0.0"] {
            assert_eq!(Upcasters::ours().payload(stored(same), json!({})), Ok(json!({})));
        }
    }
}
