//! What follows from an event: a deleted gateway's certificates are revoked, a disabled person's
//! logins end, and so do the keys that were made with a revoked one.

use crate::event_log::{CommandError, ReadError, Request, Subscription};
use crate::services::Services;
use cqrs_es::Aggregate;
use gatekey_aggregates::certificate::{self, Certificate, Subject};
use gatekey_aggregates::gateway::{self, Gateway};
use gatekey_aggregates::login::{self, Login};
use gatekey_aggregates::session::{self, Session};
use gatekey_aggregates::user::{self, User};
use gatekey_aggregates::values::{
    CertificateId, GatewayId, LoginId, RevocationReason, SessionId, UserId,
};
use gatekey_aggregates::{Event, Metadata, PersonId, Recorded, RefusalKind};

/// The subscription's name.
const NAME: &str = "consequences";
/// Whose events have consequences.
const CAUSES: &[&str] = &[Gateway::TYPE, User::TYPE];
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
    let (certificates, sessions): (Vec<CertificateId>, Vec<SessionId>) = {
        let state = services.index.read();
        let of_gateway = |subject: &Subject| match subject {
            Subject::Client { gateway_id, .. } | Subject::Server { gateway_id, .. } => {
                gateway_id == id
            }
        };
        (
            state
                .certificates
                .values()
                .filter(|it| it.revoked.is_none() && of_gateway(&it.subject))
                .map(|it| it.id.clone())
                .collect(),
            state.sessions.of_gateway(id).map(|it| it.id.clone()).collect(),
        )
    };
    for certificate in certificates {
        let command = certificate::Command::Revoke(RevocationReason::CessationOfOperation);
        run::<Certificate>(services, cause, &certificate, command).await?;
    }
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
    let (certificates, sessions): (Vec<CertificateId>, Vec<SessionId>) = {
        let state = services.index.read();
        let certificates = state
            .certificates
            .values()
            .filter(|it| it.revoked.is_none())
            .filter(|it| matches!(&it.subject, Subject::Client { user_id, .. } if user_id == id))
            .map(|it| it.id.clone())
            .collect();
        (certificates, state.sessions.of_user(id).map(|it| it.id.clone()).collect())
    };
    for certificate in certificates {
        let command = certificate::Command::Revoke(RevocationReason::AffiliationChanged);
        run::<Certificate>(services, cause, &certificate, command).await?;
    }
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
