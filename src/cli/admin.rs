//! `admin`: what an operator does at the server's own command line, for the day when nobody can
//! sign in any more. It is an event like any other.

use gatekey_aggregates::user::{Command, User};
use gatekey_aggregates::values::{UserId, Username};
use gatekey_aggregates::{Actor, ActorKind, Credential, CredentialKind, Metadata, PersonId};
use std::error::Error;

use super::first_password::hand_over;
use super::serve::{rebuild_progress, setup};
use crate::auth::password;
use crate::config::Config;
use crate::event_log::Request;
use crate::first_start::ADMIN;
use crate::secrets::Secret;
use crate::services::{self, Services};

/// Gives `username` a new password, lets them in again if they were shut out, and tells the
/// password once. Their logins end.
pub(super) async fn reset_password(
    config: Config,
    username: Username,
) -> Result<(), Box<dyn Error>> {
    let (services, background, made) = services::start(setup(&config)?, rebuild_progress()).await?;
    let outcome = match made {
        // Nobody has ever started a server here: that made the admin just now.
        Some(password) if username.as_str() == ADMIN => Ok(password),
        _ => reset(&services, &username).await,
    };
    background.stop(services).await;
    hand_over(&config.data_dir, username.as_str(), &outcome?)?;
    Ok(())
}

async fn reset(services: &Services, username: &Username) -> Result<Secret, Box<dyn Error>> {
    let (id, active, old) = {
        let state = services.index.read();
        let user =
            state.users.iter().find(|(_, user)| user.profile.username.open() == Some(username));
        let (id, user) = user.ok_or_else(|| format!("there is no user `{username}`"))?;
        (id.clone(), user.active, user.password.clone())
    };
    let new = password::generate(&services.entropy)?;
    let hash = services.passwords.hash(&new).await?;
    let hash = services.vault.seal(hash.as_bytes(), None)?;
    let change = Command::ChangePassword { password: hash.id.clone(), must_change_password: true };
    let mut request = Request::new::<User>(&id, change, metadata(services, &id)).with_secret(hash);
    if let Some(old) = old {
        request = request.forget(old);
    }
    services.bus.execute::<User>(request).await?;
    if !active {
        let enable = Request::new::<User>(&id, Command::Enable, metadata(services, &id));
        services.bus.execute::<User>(enable).await?;
    }
    Ok(new)
}

/// An operator is who has the master key; which person that is, the machine knows.
fn metadata(services: &Services, user: &UserId) -> Metadata {
    let mut metadata = Metadata::system("cli", PersonId::user(user));
    metadata.actor = Actor {
        kind: ActorKind::Operator,
        id: "cli".to_owned(),
        label: services.node_instance.clone(),
    };
    metadata.credential = Credential { kind: CredentialKind::None, id: String::new() };
    metadata.reason = Some("gatekey-server admin reset-password".to_owned());
    metadata
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::testing::{self, ADMIN_PASSWORD};

    #[tokio::test]
    async fn the_new_password_counts_and_the_event_says_who_did_it() {
        let plane = testing::start("", vec![], Clock::system()).await;
        let services = &plane.state.services;
        let admin: Username = ADMIN.parse().unwrap();
        let new = reset(services, &admin).await.unwrap();

        let (id, user) = {
            let state = services.index.read();
            let (id, user) = state.users.iter().next().unwrap();
            (id.clone(), user.clone())
        };
        assert!(user.must_change_password);
        let hash = services.vault.open(&user.password.unwrap()).await.unwrap();
        let hash = std::str::from_utf8(&hash).unwrap();
        assert!(services.passwords.verify(&new, Some(hash)).await.unwrap());
        let old = Secret::from(ADMIN_PASSWORD);
        assert!(!services.passwords.verify(&old, Some(hash)).await.unwrap());

        let events = services.reader.after(0, 100).await.unwrap();
        let changed = events.iter().find(|it| it.event.code() == "user.password_changed").unwrap();
        assert_eq!(changed.aggregate_id, id.as_str());
        assert_eq!(changed.metadata.actor.kind, ActorKind::Operator);
        assert!(changed.metadata.reason.is_some());
    }

    #[tokio::test]
    async fn who_was_shut_out_is_let_in_again() {
        let plane = testing::start("", vec![], Clock::system()).await;
        let services = &plane.state.services;
        let second: Username = "second".parse().unwrap();
        let id: UserId = services.entropy.id().unwrap();
        let person = PersonId::user(&id);
        let create = Command::Create {
            profile: gatekey_aggregates::user::Profile {
                username: gatekey_aggregates::Personal::new(person.clone(), second.clone()),
                email: gatekey_aggregates::Personal::new(person, "b@example.com".parse().unwrap()),
                name: None,
            },
            role: gatekey_aggregates::values::Role::Admin,
            groups: std::collections::BTreeSet::new(),
            password: None,
            must_change_password: false,
        };
        for command in [create, Command::Disable] {
            let request = Request::new::<User>(&id, command, metadata(services, &id));
            services.bus.execute::<User>(request).await.unwrap();
        }
        assert!(!services.index.read().users[&id].active);
        reset(services, &second).await.unwrap();
        let user = services.index.read().users[&id].clone();
        assert!(user.active && user.password.is_some());
    }

    #[tokio::test]
    async fn nobody_is_made_up() {
        let plane = testing::start("", vec![], Clock::system()).await;
        let bob: Username = "bob".parse().unwrap();
        let error = reset(&plane.state.services, &bob).await.unwrap_err();
        assert_eq!(error.to_string(), "there is no user `bob`");
    }
}
