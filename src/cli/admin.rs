//! `admin`: what an operator does at the server's own command line, for the day when nobody can
//! sign in any more. It is an event like any other.

use gatekey_aggregates::user::{Command, User};
use gatekey_aggregates::values::{UserId, Username};
use gatekey_aggregates::{Actor, ActorKind, Credential, CredentialKind, Metadata, PersonId};
use std::error::Error;
use std::io::{BufRead, BufReader, Read};
use zeroize::Zeroizing;

use super::first_password::hand_over;
use super::print;
use super::serve::{rebuild_progress, setup};
use crate::auth::password;
use crate::config::Config;
use crate::event_log::Request;
use crate::first_start::ADMIN;
use crate::secrets::Secret;
use crate::services::{self, Services};

/// Longest line that is read as a password, in bytes.
const MAX_LINE: u64 = 4096;

/// Gives `username` a password, `given` or made, and lets them in again if they were shut out.
/// One that was made is told once. Their logins end.
pub(super) async fn reset_password(
    config: Config,
    username: Username,
    given: Option<Secret>,
) -> Result<(), Box<dyn Error>> {
    // In the wrong directory this would make a new server, and say that it worked.
    if let Some(path) = services::sqlite_path(config.database_url.expose())
        && !path.exists()
    {
        let path = path.display();
        return Err(
            format!("there is no database {path}; run this with the server's settings").into()
        );
    }
    let (services, background, made) = services::start(setup(&config)?, rebuild_progress()).await?;
    let is_done = made.is_some() && given.is_none() && username.as_str() == ADMIN;
    if let Some(password) = made {
        // Nobody has ever started a server here: that made the admin just now.
        hand_over(&config.data_dir, ADMIN, &password)?;
    }
    let outcome = if is_done { Ok(None) } else { reset(&services, &username, given).await };
    background.stop(services).await;
    match outcome? {
        Some(password) => Ok(hand_over(&config.data_dir, username.as_str(), &password)?),
        None if is_done => Ok(()),
        None => print(&format!("The password of `{username}` is set; all their sessions ended")),
    }
}

/// The first line.
pub(super) fn read_password(input: impl Read) -> Result<Secret, Box<dyn Error>> {
    let mut line = Zeroizing::new(String::new());
    BufReader::new(input.take(MAX_LINE)).read_line(&mut line)?;
    let password = line.trim_end_matches(['\n', '\r']);
    if password.is_empty() {
        return Err("there is no password on standard input".into());
    }
    Ok(Secret::from(password))
}

/// The password, if it was made here. One that the operator chose need not be changed.
async fn reset(
    services: &Services,
    username: &Username,
    given: Option<Secret>,
) -> Result<Option<Secret>, Box<dyn Error>> {
    let (id, user) = {
        let state = services.index.read();
        let user =
            state.users.iter().find(|(_, user)| user.profile.username.open() == Some(username));
        let (id, user) = user.ok_or_else(|| format!("there is no user `{username}`"))?;
        (id.clone(), user.clone())
    };
    let (new, is_made) = match given {
        Some(given) => (given, false),
        None => (password::generate(&services.entropy)?, true),
    };
    if let Some(email) = user.profile.email.open() {
        password::check(&new, username, email).map_err(|why| format!("the password {why}"))?;
    }
    let hash = services.passwords.hash(&new).await?;
    let hash = services.vault.seal(hash.as_bytes(), None)?;
    let change = Command::ChangePassword {
        password: hash.id.clone(),
        must_change_password: is_made,
        expected: None,
    };
    let mut request = Request::new::<User>(&id, change, metadata(services, &id)).with_secret(hash);
    if let Some(old) = user.password {
        request = request.forget(old);
    }
    services.bus.execute::<User>(request).await?;
    if !user.active {
        let enable = Request::new::<User>(&id, Command::Enable, metadata(services, &id));
        services.bus.execute::<User>(enable).await?;
    }
    Ok(is_made.then_some(new))
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
        let new = reset(services, &admin, None).await.unwrap().unwrap();

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
        reset(services, &second, None).await.unwrap();
        let user = services.index.read().users[&id].clone();
        assert!(user.active && user.password.is_some());
    }

    #[tokio::test]
    async fn nobody_is_made_up() {
        let plane = testing::start("", vec![], Clock::system()).await;
        let bob: Username = "bob".parse().unwrap();
        let error = reset(&plane.state.services, &bob, None).await.unwrap_err();
        assert_eq!(error.to_string(), "there is no user `bob`");
    }

    #[tokio::test]
    async fn an_operator_may_choose_the_password_by_the_rules() {
        let plane = testing::start("", vec![], Clock::system()).await;
        let services = &plane.state.services;
        let admin: Username = ADMIN.parse().unwrap();
        let error = reset(services, &admin, Some("short".into())).await.unwrap_err();
        assert_eq!(error.to_string(), "the password must have 12 to 256 characters");
        let chosen = read_password(&b"battery horse staple\r\nmore"[..]).unwrap();
        assert!(reset(services, &admin, Some(chosen)).await.unwrap().is_none());
        let user = services.index.read().users.values().next().unwrap().clone();
        assert!(!user.must_change_password);
        let hash = services.vault.open(&user.password.unwrap()).await.unwrap();
        let hash = std::str::from_utf8(&hash).unwrap();
        let chosen = Secret::from("battery horse staple");
        assert!(services.passwords.verify(&chosen, Some(hash)).await.unwrap());
        assert!(read_password(&b"\nx"[..]).is_err());
    }
}
