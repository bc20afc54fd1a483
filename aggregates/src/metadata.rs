//! Who did it, with what, from where and why: kept with every event.

use crate::PersonId;
use std::collections::{BTreeMap, HashMap};

/// What kind of principal acted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActorKind {
    /// A person.
    User,
    /// A gateway's agent.
    Gateway,
    /// This control plane itself: timers, reactors, first start.
    System,
    /// An operator at the server's command line.
    Operator,
    /// Nobody that could be named.
    Anonymous,
}

impl ActorKind {
    /// As stored and as shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Gateway => "gateway",
            Self::System => "system",
            Self::Operator => "operator",
            Self::Anonymous => "anonymous",
        }
    }
}

/// Who acted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// The kind.
    pub kind: ActorKind,
    /// `usr-…`, `gw-…`, or the name of a timer or reactor.
    pub id: String,
    /// What the actor was called then: an e-mail address, a gateway's name.
    pub label: String,
}

/// What kind of credential proved it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialKind {
    /// A web login.
    Session,
    /// An API key.
    ApiKey,
    /// A gateway's token.
    GatewayToken,
    /// A user name and password.
    Password,
    /// None was needed.
    None,
}

impl CredentialKind {
    /// As stored and as shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::ApiKey => "api_key",
            Self::GatewayToken => "gateway_token",
            Self::Password => "password",
            Self::None => "none",
        }
    }
}

/// With what the actor proved itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// The kind.
    pub kind: CredentialKind,
    /// `ses-…`, `key-…`, or empty.
    pub id: String,
}

/// The circumstances of an event. On disk a flat map of strings ([`Metadata::to_map`]), in which
/// the personal ones are sealed for [`Metadata::person`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Who.
    pub actor: Actor,
    /// With what.
    pub credential: Credential,
    /// Whose key seals the personal fields: the actor, or the unknown of that day.
    pub person: PersonId,
    /// The client's address.
    pub source_ip: Option<String>,
    /// The client's `User-Agent`.
    pub user_agent: Option<String>,
    /// `X-Request-Id`.
    pub request_id: Option<String>,
    /// The first cause in a chain of commands.
    pub correlation_id: Option<String>,
    /// The position (or request) that directly caused it.
    pub causation_id: Option<String>,
    /// Why, in the words of the person who did it.
    pub reason: Option<String>,
}

impl Metadata {
    /// The fields that are sealed on disk.
    pub const PERSONAL: [&'static str; 3] = ["actor_label", "source_ip", "user_agent"];

    /// What this control plane does of itself; `name` is the timer or reactor.
    pub fn system(name: &str, person: PersonId) -> Self {
        Self {
            actor: Actor { kind: ActorKind::System, id: name.to_owned(), label: name.to_owned() },
            credential: Credential { kind: CredentialKind::None, id: String::new() },
            person,
            source_ip: None,
            user_agent: None,
            request_id: None,
            correlation_id: None,
            causation_id: None,
            reason: None,
        }
    }

    /// The flat map that is stored.
    pub fn to_map(&self) -> BTreeMap<&'static str, String> {
        let mut map = BTreeMap::from([
            ("actor_kind", self.actor.kind.as_str().to_owned()),
            ("actor_id", self.actor.id.clone()),
            ("actor_label", self.actor.label.clone()),
            ("credential_kind", self.credential.kind.as_str().to_owned()),
            ("person", self.person.as_str().to_owned()),
        ]);
        let optional = [
            ("source_ip", &self.source_ip),
            ("user_agent", &self.user_agent),
            ("request_id", &self.request_id),
            ("correlation_id", &self.correlation_id),
            ("causation_id", &self.causation_id),
            ("reason", &self.reason),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                map.insert(name, value.clone());
            }
        }
        if !self.credential.id.is_empty() {
            map.insert("credential_id", self.credential.id.clone());
        }
        map
    }

    /// Reads the stored map. Total: what is missing is empty, what is unknown is ignored.
    pub fn from_map(map: &HashMap<String, String>) -> Self {
        let text = |name: &str| map.get(name).cloned();
        Self {
            actor: Actor {
                kind: match map.get("actor_kind").map(String::as_str) {
                    Some("user") => ActorKind::User,
                    Some("gateway") => ActorKind::Gateway,
                    Some("system") => ActorKind::System,
                    Some("operator") => ActorKind::Operator,
                    _ => ActorKind::Anonymous,
                },
                id: text("actor_id").unwrap_or_default(),
                label: text("actor_label").unwrap_or_default(),
            },
            credential: Credential {
                kind: match map.get("credential_kind").map(String::as_str) {
                    Some("session") => CredentialKind::Session,
                    Some("api_key") => CredentialKind::ApiKey,
                    Some("gateway_token") => CredentialKind::GatewayToken,
                    Some("password") => CredentialKind::Password,
                    _ => CredentialKind::None,
                },
                id: text("credential_id").unwrap_or_default(),
            },
            person: PersonId::from(text("person").unwrap_or_default()),
            source_ip: text("source_ip"),
            user_agent: text("user_agent"),
            request_id: text("request_id"),
            correlation_id: text("correlation_id"),
            causation_id: text("causation_id"),
            reason: text("reason"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::option;
    use proptest::prelude::*;

    fn metadata() -> impl Strategy<Value = Metadata> {
        let actor_kind = prop_oneof![
            Just(ActorKind::User),
            Just(ActorKind::Gateway),
            Just(ActorKind::System),
            Just(ActorKind::Operator),
            Just(ActorKind::Anonymous),
        ];
        let credential_kind = prop_oneof![
            Just(CredentialKind::Session),
            Just(CredentialKind::ApiKey),
            Just(CredentialKind::GatewayToken),
            Just(CredentialKind::Password),
            Just(CredentialKind::None),
        ];
        let text = || any::<String>();
        let actor =
            (actor_kind, text(), text()).prop_map(|(kind, id, label)| Actor { kind, id, label });
        let credential = (credential_kind, text()).prop_map(|(kind, id)| Credential { kind, id });
        let optional = proptest::array::uniform6(option::of(text()));
        (actor, credential, text(), optional).prop_map(|(actor, credential, person, optional)| {
            let [source_ip, user_agent, request_id, correlation_id, causation_id, reason] =
                optional;
            Metadata {
                actor,
                credential,
                person: PersonId::from(person),
                source_ip,
                user_agent,
                request_id,
                correlation_id,
                causation_id,
                reason,
            }
        })
    }

    proptest! {
        #[test]
        fn metadata_survives_its_map(metadata in metadata()) {
            let stored = metadata.to_map().into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
            prop_assert_eq!(Metadata::from_map(&stored), metadata);
        }
    }

    #[test]
    fn an_empty_map_is_nobody() {
        let nobody = Metadata::from_map(&HashMap::new());
        assert_eq!(nobody.actor.kind, ActorKind::Anonymous);
        assert_eq!(nobody.credential.kind, CredentialKind::None);
        assert_eq!(nobody.source_ip, None);
    }

    #[test]
    fn the_personal_fields_are_fields_of_the_map() {
        let full = Metadata {
            source_ip: Some("192.0.2.7".to_owned()),
            user_agent: Some("curl/8.0".to_owned()),
            ..Metadata::system("first start", PersonId::from("day-2026-11-24".to_owned()))
        };
        let map = full.to_map();
        assert!(Metadata::PERSONAL.iter().all(|field| map.contains_key(field)));
    }
}
