//! Web logins, when they were last used, and those that failed.

use crate::db::Db;
use crate::list::{
    Holds, Keyset, ListError, Listed, Orders, Place, Query, Sort, Wanted, columns, names,
};
use crate::rows::{Rows, View};
use crate::table::table;
use chrono::{DateTime, Utc};
use gatekey_aggregates::attempt::Event as AttemptEvent;
use gatekey_aggregates::login::Event as LoginEvent;
use gatekey_aggregates::values::micros;
use gatekey_aggregates::{Event, Recorded};

table! {
    /// A web login.
    pub struct LoginRow: "logins" by [id] {
        /// `ses-…`
        id: String,
        /// Who.
        user_id: String,
        /// `local`, `oidc` or `saml`.
        method: String,
        /// Hash of the session's token.
        token_hash: String,
        /// From where. None: not known, or erased.
        client_ip: Option<String>,
        /// With what. None: not known, or erased.
        user_agent: Option<String>,
        /// When it began.
        began_at: i64,
        /// When it ends by itself.
        expires_at: i64,
        /// When it was ended.
        ended_at: Option<i64>,
        /// Why.
        end_reason: Option<String>,
        /// Where it began in the log.
        position: i64,
    }
}

table! {
    /// A login, or several alike, that failed, of a user who is known.
    pub struct LoginFailureRow: "login_failures" by [id] {
        /// Where it stands in the log.
        id: String,
        /// Who was meant.
        user_id: String,
        /// Why: a stable code.
        reason: String,
        /// From where. None: not known, or erased.
        client_ip: Option<String>,
        /// With what. None: not known, or erased.
        user_agent: Option<String>,
        /// How often.
        count: i64,
        /// When; the last time, of several.
        failed_at: i64,
    }
}

/// The view of logins.
pub struct Logins;

impl View for Logins {
    fn name(&self) -> &'static str {
        "logins"
    }

    fn version(&self) -> i64 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["logins", "login_failures"]
    }

    fn want(&self, recorded: &Recorded, rows: &mut Rows) {
        if matches!(recorded.event, Event::Login(LoginEvent::Ended { .. })) {
            rows.want::<LoginRow>(vec![recorded.aggregate_id.clone()]);
        }
    }

    fn apply(&self, recorded: &Recorded, rows: &mut Rows) {
        if let Event::Attempt(AttemptEvent::LoginFailed(denial)) = &recorded.event
            && let Some(user_id) = &denial.user_id
        {
            let client_ip = denial.client_ip.as_ref().and_then(|ip| ip.open());
            rows.put(LoginFailureRow {
                id: recorded.position.to_string(),
                user_id: user_id.to_string(),
                reason: denial.reason.clone(),
                client_ip: client_ip.map(ToString::to_string),
                user_agent: recorded.metadata.user_agent.clone(),
                count: denial.count.into(),
                failed_at: micros(recorded.recorded_at),
            });
        }
        let Event::Login(event) = &recorded.event else { return };
        let id = recorded.aggregate_id.clone();
        let at = micros(recorded.recorded_at);
        match event {
            LoginEvent::Began(it) => rows.put(LoginRow {
                id,
                user_id: it.user_id.to_string(),
                method: it.method.as_str().to_owned(),
                token_hash: it.token_hash.to_string(),
                client_ip: it.client_ip.as_ref().and_then(|ip| ip.open()).map(ToString::to_string),
                user_agent: it.user_agent.as_ref().and_then(|agent| agent.open()).cloned(),
                began_at: at,
                expires_at: micros(it.expires_at),
                ended_at: None,
                end_reason: None,
                position: recorded.position,
            }),
            LoginEvent::Ended { reason } => {
                rows.change::<LoginRow>(&vec![id], |row| {
                    row.ended_at = Some(at);
                    row.end_reason = Some(reason.as_str().to_owned());
                });
            }
        }
    }
}

/// A login with its last use.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct Login {
    /// The login.
    #[sqlx(flatten)]
    pub row: LoginRow,
    /// When it was last used.
    pub last_used: Option<i64>,
    /// From where.
    pub last_ip: Option<String>,
}

const ORDERS: [(&str, &str); 3] = [
    ("began_at", "t.began_at {}"),
    ("expires_at", "t.expires_at {}"),
    ("last_used", "c.last_used {} NULLS LAST"),
];

/// What logins can be sorted by.
pub const SORT: &[&str] = &names(&ORDERS);

/// What makes a login live, but for its expiry: it was not ended, nor did anything since end all
/// logins of the person (the events that end each come after). Of `t`, with the person as `o`.
pub(crate) const LIVE: &str =
    "t.ended_at IS NULL AND o.active AND o.deleted_at IS NULL AND t.position > o.signed_out";

const LAST_USE: &str = "LEFT JOIN credential_telemetry c ON c.id = t.id";

fn query() -> Query {
    Query::new(format!("{}, c.last_used, c.last_ip", columns::<LoginRow>("t")), "logins t")
        .beside(LAST_USE)
}

fn live(now: DateTime<Utc>) -> Query {
    Query::new(
        format!("{}, c.last_used, c.last_ip", columns::<LoginRow>("t")),
        "logins t JOIN users o ON o.id = t.user_id",
    )
    .beside(LAST_USE)
    .and(LIVE)
    .with("t.expires_at > {}", micros(now))
}

/// The login with this id, ended or not.
pub async fn find(db: &Db, id: &str) -> Result<Option<Login>, sqlx::Error> {
    query().with("t.id = {}", id).optional(db).await
}

/// The login with this token, if it is live. It may have been idle for too long.
pub async fn by_token_hash(
    db: &Db,
    hash: &str,
    now: DateTime<Utc>,
) -> Result<Option<Login>, sqlx::Error> {
    live(now).with("t.token_hash = {}", hash).optional(db).await
}

/// A user's live logins that were used after `idle_since`, the newest first.
pub async fn list(
    db: &Db,
    user_id: &str,
    now: DateTime<Utc>,
    idle_since: DateTime<Utc>,
    wanted: &Wanted,
) -> Result<Listed<Login>, ListError> {
    let default = Sort { by: "began_at", descending: true };
    live(now)
        .with("t.user_id = {}", user_id)
        .when_beside("COALESCE(c.last_used, t.began_at) > {}", Some(micros(idle_since)))
        .page(db, wanted, &Orders { by: &ORDERS, default, tie: "t.id" })
        .await
}

/// A user's logins that no event has ended and that have not expired, the oldest first: those that
/// a policy still has to end.
pub async fn not_ended_of_user(
    db: &Db,
    user_id: &str,
    now: DateTime<Utc>,
) -> Result<Vec<LoginRow>, sqlx::Error> {
    Query::new(columns::<LoginRow>("t"), "logins t")
        .with("t.user_id = {}", user_id)
        .and("t.ended_at IS NULL")
        .with("t.expires_at > {}", micros(now))
        .all(db, "t.began_at, t.id")
        .await
}

/// What came of signing in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// A login began.
    Succeeded,
    /// None did.
    Failed,
}

impl Ending {
    fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }
}

/// A login that began, or one that failed.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct Past {
    /// `ses-…`, or the place in the log of one that failed.
    pub id: String,
    /// `succeeded` or `failed`.
    pub result: String,
    /// Why it failed.
    pub reason: Option<String>,
    /// `local`, `oidc` or `saml`; none of those that failed.
    pub method: Option<String>,
    /// From where.
    pub client_ip: Option<String>,
    /// With what.
    pub user_agent: Option<String>,
    /// How often.
    pub count: i64,
    /// When.
    pub at: i64,
    /// When it was ended, or ends by itself.
    pub ended_at: Option<i64>,
    /// Why it was ended.
    pub end_reason: Option<String>,
    /// When it ends by itself.
    pub expires_at: Option<i64>,
}

/// A user's logins, whatever became of them, and those that failed; the newest first.
pub async fn history(
    db: &Db,
    user_id: &str,
    wanted: &Wanted,
    ending: Option<Ending>,
) -> Result<Listed<Past>, ListError> {
    let keyset = Keyset {
        columns: &[("t.at", Holds::Ints), ("t.id", Holds::Texts)],
        place: |it: &Past| vec![Place::Int(it.at), Place::Text(it.id.clone())],
        descending: true,
    };
    Query::new(
        "t.id, t.result, t.reason, t.method, t.client_ip, t.user_agent, t.count, t.at, t.ended_at, \
         t.end_reason, t.expires_at",
        "(SELECT id, user_id, 'succeeded' AS result, NULL AS reason, method, client_ip, user_agent, \
            CAST(1 AS BIGINT) AS count, began_at AS at, ended_at, end_reason, expires_at \
          FROM logins \
          UNION ALL \
          SELECT id, user_id, 'failed', reason, NULL, client_ip, user_agent, \
            count, failed_at, NULL, NULL, NULL \
          FROM login_failures) t",
    )
    .with("t.user_id = {}", user_id)
    .when("t.result = {}", ending.map(Ending::as_str))
    .keyset(db, wanted, &keyset)
    .await
}
