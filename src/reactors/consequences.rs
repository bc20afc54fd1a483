//! What follows from an event: a deleted gateway's certificates are revoked, a disabled person's
//! logins end, keys end with the one that made them, and whoever may no longer use a mesh hub loses
//! their certificates for it.

use crate::access::{CertificateEntry, State};
use crate::event_log::{CommandError, ReadError, Request, Subscription};
use crate::services::Services;
use cqrs_es::Aggregate;
use gatekey_aggregates::certificate::{self, Certificate, Subject};
use gatekey_aggregates::gateway::{self, Gateway};
use gatekey_aggregates::login::{self, Login};
use gatekey_aggregates::mesh_hub::{self, MeshHub};
use gatekey_aggregates::session::{self, Session};
use gatekey_aggregates::user::{self, User};
use gatekey_aggregates::values::{
    CertificateId, GatewayId, LoginId, MeshHubId, RevocationReason, SessionId, UserId,
};
use gatekey_aggregates::{Event, Metadata, PersonId, Recorded, RefusalKind};

/// The subscription's name.
const NAME: &str = "consequences";
/// Whose events have consequences.
const CAUSES: &[&str] = &[Gateway::TYPE, User::TYPE, MeshHub::TYPE, Certificate::TYPE];
/// Batches of events that are looked at before time is looked at again.
const MAX_BATCHES: usize = 4;

/// Follows the log, durably.
pub struct Consequences {
    subscription: Option<Subscription>,
}

impl Consequences {
    /// Starts where the last holder of the lease stopped.
    pub fn new() -> Self {
        Self { subscription: None }
    }

    /// Does what follows from the events since the last time. What fails is tried again.
    pub async fn draw(&mut self, services: &Services) {
        if let Err(error) = self.try_draw(services).await {
            tracing::warn!(%error, "consequences of events are late");
            self.subscription = None;
        }
    }

    async fn try_draw(&mut self, services: &Services) -> Result<(), Late> {
        let subscription = match &mut self.subscription {
            Some(subscription) => subscription,
            none => none.insert(
                Subscription::resume(
                    services.reader.clone(),
                    services.wake.subscribe(),
                    services.vital.clone(),
                    NAME,
                )
                .await?
                .only(CAUSES),
            ),
        };
        // Only what is there now: the caller has other things to do, and comes again.
        let head = services.reader.head().await?;
        if services.index.read().position < head {
            services.index.catch_up().await?;
        }
        for _ in 0..MAX_BATCHES {
            let batch = subscription.ready().await?;
            let Some(last) = batch.last() else {
                subscription.skip_to(head);
                return Ok(());
            };
            for event in &batch {
                follow_up(services, event).await?;
            }
            subscription.handled(last.position).await?;
        }
        Ok(())
    }

    /// Another node draws them now.
    pub fn rest(&mut self) {
        self.subscription = None;
    }
}

/// Why it is not done yet.
#[derive(Debug, thiserror::Error)]
enum Late {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Command(#[from] CommandError),
}

async fn follow_up(services: &Services, cause: &Recorded) -> Result<(), CommandError> {
    let id = &cause.aggregate_id;
    match &cause.event {
        Event::Gateway(gateway::Event::Deleted {}) => {
            let Ok(id) = id.parse::<GatewayId>() else { return Ok(()) };
            gateway_deleted(services, cause, &id).await
        }
        Event::MeshHub(event) => {
            let Ok(id) = id.parse::<MeshHubId>() else { return Ok(()) };
            of_hub(services, cause, &id, event).await
        }
        // Who lost the hub while the certificate was being made has none.
        Event::Certificate(certificate::Event::Issued(it)) => {
            let Subject::HubClient { user_id, .. } = &it.subject else { return Ok(()) };
            take_back_from_hubs(services, cause, |it| it.subject.user_id() == Some(user_id)).await
        }
        Event::User(event) => {
            let Ok(id) = id.parse::<UserId>() else { return Ok(()) };
            if matches!(
                event,
                user::Event::ApiKeyCreated { .. }
                    | user::Event::ApiKeyRevoked { .. }
                    | user::Event::Deleted {}
            ) {
                revoke_orphaned_keys(services, cause).await?;
            }
            if matches!(event, user::Event::GroupsChanged { .. } | user::Event::Disabled {}) {
                let theirs = |it: &CertificateEntry| it.subject.user_id() == Some(&id);
                take_back_from_hubs(services, cause, theirs).await?;
            }
            let reason = match event {
                user::Event::PasswordChanged { .. } => login::EndReason::PasswordChanged,
                user::Event::RoleChanged { .. } => login::EndReason::RoleChanged,
                user::Event::Disabled {} => login::EndReason::UserDisabled,
                user::Event::Deleted {} => login::EndReason::UserDeleted,
                _ => return Ok(()),
            };
            end_logins(services, cause, &id, reason).await?;
            if matches!(event, user::Event::Deleted {}) {
                user_deleted(services, cause, &id).await?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

async fn gateway_deleted(
    services: &Services,
    cause: &Recorded,
    id: &GatewayId,
) -> Result<(), CommandError> {
    let sessions: Vec<SessionId> =
        services.index.read().sessions.of_gateway(id).map(|it| it.id.clone()).collect();
    revoke(services, cause, |_, it| {
        let is_its = matches!(&it.subject, Subject::Client { gateway_id, .. }
            | Subject::Server { gateway_id, .. } if gateway_id == id);
        is_its.then_some(RevocationReason::CessationOfOperation)
    })
    .await?;
    for session in sessions {
        let command = session::Command::End {
            reason: session::EndReason::GatewayDeleted,
            disconnected_at: cause.recorded_at,
            counters: None,
        };
        run::<Session>(services, cause, &session, command).await?;
    }
    Ok(())
}

async fn user_deleted(
    services: &Services,
    cause: &Recorded,
    id: &UserId,
) -> Result<(), CommandError> {
    let sessions: Vec<SessionId> =
        services.index.read().sessions.of_user(id).map(|it| it.id.clone()).collect();
    revoke(services, cause, |_, it| {
        let is_theirs = it.subject.user_id() == Some(id);
        is_theirs.then_some(RevocationReason::AffiliationChanged)
    })
    .await?;
    for session in sessions {
        let command = session::Command::End {
            reason: session::EndReason::AccessRevoked,
            disconnected_at: cause.recorded_at,
            counters: None,
        };
        run::<Session>(services, cause, &session, command).await?;
    }
    Ok(())
}

/// With a key ends what was made with it; the aggregate has seen to its own user's, so these are
/// others'. Also looked at when a key was made: its maker may have been revoked at that moment.
async fn revoke_orphaned_keys(services: &Services, cause: &Recorded) -> Result<(), CommandError> {
    let orphaned = services.index.read().orphaned_api_keys();
    for (user_id, key_id) in orphaned {
        run::<User>(services, cause, &user_id, user::Command::RevokeApiKey(key_id)).await?;
    }
    Ok(())
}

async fn of_hub(
    services: &Services,
    cause: &Recorded,
    id: &MeshHubId,
    event: &mesh_hub::Event,
) -> Result<(), CommandError> {
    let is_gone = RevocationReason::CessationOfOperation;
    match event {
        mesh_hub::Event::Deleted {} => {
            revoke(services, cause, |_, it| {
                let is_its = matches!(&it.subject, Subject::HubClient { hub_id, .. }
                    | Subject::HubServer { hub_id, .. }
                    | Subject::Spoke { hub_id, .. } if hub_id == id);
                is_its.then_some(is_gone)
            })
            .await
        }
        mesh_hub::Event::SpokeRemoved { spoke_id: removed } => {
            revoke(services, cause, |_, it| {
                let is_its = matches!(
                    &it.subject, Subject::Spoke { spoke_id, .. } if spoke_id == removed
                );
                is_its.then_some(is_gone)
            })
            .await
        }
        mesh_hub::Event::UserRevoked { .. } | mesh_hub::Event::GroupRevoked { .. } => {
            take_back_from_hubs(services, cause, |_| true).await
        }
        _ => Ok(()),
    }
}

/// Revokes those certificates whose owners may not use the hub that they are for, as things stand now:
/// no agent asks at a hub's door, so what is not revoked gets in.
async fn take_back_from_hubs(
    services: &Services,
    cause: &Recorded,
    which: impl Fn(&CertificateEntry) -> bool,
) -> Result<(), CommandError> {
    revoke(services, cause, |state, it| lost_hub(state, it).filter(|_| which(it))).await
}

/// Why a certificate for a hub is worth nothing any more, if its owner may not use the hub.
fn lost_hub(state: &State, certificate: &CertificateEntry) -> Option<RevocationReason> {
    let Subject::HubClient { user_id, hub_id, .. } = &certificate.subject else { return None };
    let Some(hub) = state.hubs.get(hub_id) else {
        return Some(RevocationReason::CessationOfOperation);
    };
    let Some(user) = state.users.get(user_id) else {
        return Some(RevocationReason::AffiliationChanged);
    };
    hub.check_user(user_id, user).err().map(|_| RevocationReason::PrivilegeWithdrawn)
}

/// Revokes those certificates that are not revoked and that there is a reason for.
async fn revoke(
    services: &Services,
    cause: &Recorded,
    why: impl Fn(&State, &CertificateEntry) -> Option<RevocationReason>,
) -> Result<(), CommandError> {
    let certificates: Vec<(CertificateId, RevocationReason)> = {
        let state = services.index.read();
        let live = state.certificates.values().filter(|it| it.revoked.is_none());
        live.filter_map(|it| Some((it.id.clone(), why(&state, it)?))).collect()
    };
    for (id, reason) in certificates {
        run::<Certificate>(services, cause, &id, certificate::Command::Revoke(reason)).await?;
    }
    Ok(())
}

async fn end_logins(
    services: &Services,
    cause: &Recorded,
    id: &UserId,
    reason: login::EndReason,
) -> Result<(), CommandError> {
    // Those that began after the cause are not meant.
    let sql = "SELECT id FROM logins WHERE user_id = $1 AND ended_at IS NULL AND position < $2";
    let args = [id.as_str().into(), cause.position.into()];
    let rows: Vec<(String,)> = services.vital.all(sql, &args).await.map_err(unavailable)?;
    for login_id in rows.into_iter().filter_map(|(id,)| id.parse::<LoginId>().ok()) {
        run::<Login>(services, cause, &login_id, login::Command::End(reason)).await?;
    }
    Ok(())
}

fn unavailable(error: sqlx::Error) -> CommandError {
    CommandError::Unavailable(error.to_string())
}

/// Carries out a command because of `cause`. What is gone already needs no consequence.
async fn run<A: gatekey_aggregates::Root>(
    services: &Services,
    cause: &Recorded,
    id: impl ToString,
    command: A::Command,
) -> Result<(), CommandError> {
    let mut metadata = Metadata::system(NAME, PersonId::unknown_on(cause.recorded_at.date_naive()));
    metadata.causation_id = Some(cause.position.to_string());
    metadata.correlation_id =
        cause.metadata.correlation_id.clone().or_else(|| cause.metadata.request_id.clone());
    match services.bus.execute::<A>(Request::new::<A>(id, command, metadata)).await {
        Ok(_)
        | Err(CommandError::Refused {
            kind: RefusalKind::NotFound | RefusalKind::Conflict, ..
        }) => Ok(()),
        Err(error) => Err(error),
    }
}
