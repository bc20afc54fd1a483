//! Looking for text in people and gateways, of whom there are many.
//!
//! Both databases keep an index of all sequences of three characters (`pg_trgm`; `SQLite`'s FTS5). It
//! finds those who have the text in them, if they are few. If they are many, or the text is shorter
//! than three characters, a list finds enough of them by looking at one after the other, in its order.

use crate::db::{Arg, Db, Dialect};
use crate::list::pattern;

/// So many are few.
pub(crate) const FEW: i64 = 500;
/// An index of three characters finds nothing shorter.
const SHORTEST: usize = 3;

/// A table that can be searched.
pub(crate) struct Searched {
    /// The table; its index is called `<table>_search`.
    pub table: &'static str,
    /// What is looked at.
    pub columns: &'static [&'static str],
}

/// Users.
pub(crate) const USERS: Searched =
    Searched { table: "users", columns: &["username", "email", "name"] };
/// Users, by what they sign in with.
pub(crate) const ACCOUNTS: Searched = Searched { table: "users", columns: &["username", "email"] };
/// Gateways.
pub(crate) const GATEWAYS: Searched =
    Searched { table: "gateways", columns: &["name", "description", "hostname"] };
/// Gateways, by their names alone.
pub(crate) const GATEWAY_NAMES: Searched = Searched { table: "gateways", columns: &["name"] };

impl Searched {
    /// Who has the text in them, deleted or not; none if they are many, or can't be told so.
    pub async fn few(&self, db: &Db, q: &str) -> Result<Option<Vec<String>>, sqlx::Error> {
        if q.chars().count() < SHORTEST {
            return Ok(None);
        }
        let Self { table, columns } = self;
        match db.dialect() {
            Dialect::Postgres => {
                let each: Vec<String> =
                    columns.iter().map(|it| format!("lower({it}) LIKE lower($1)")).collect();
                // The first condition is the index's, word for word; it looks at all columns.
                let sql = format!(
                    "SELECT id FROM {table} WHERE {} LIKE lower($1) AND ({})",
                    indexed(table),
                    each.join(" OR ")
                );
                few(db, &sql, vec![pattern(q).into()]).await
            }
            Dialect::Sqlite => {
                let sql = format!(
                    "SELECT t.id FROM {table}_search s JOIN {table} t ON t.number = s.rowid \
                     WHERE s.{table}_search MATCH $1"
                );
                let phrase = format!("\"{}\"", q.replace('"', "\"\""));
                let asked = format!("{{{}}} : {phrase}", columns.join(" "));
                few(db, &sql, vec![asked.into()]).await
            }
        }
    }
}

/// What the index of a table is made of (`migrations/postgres/0002_views.sql`). No text that is
/// searched for has a line break in it.
fn indexed(table: &str) -> &'static str {
    match table {
        "users" => {
            "lower(COALESCE(username, '') || chr(10) || COALESCE(email, '') || chr(10) || COALESCE(name, ''))"
        }
        _ => "lower(name || chr(10) || description || chr(10) || hostname)",
    }
}

/// The ids that a query of one column gives, if they are few.
pub(crate) async fn few(
    db: &Db,
    sql: &str,
    args: Vec<Arg>,
) -> Result<Option<Vec<String>>, sqlx::Error> {
    let rows: Vec<(String,)> = db.all(&format!("{sql} LIMIT {}", FEW + 1), &args).await?;
    let are_few = i64::try_from(rows.len()).is_ok_and(|count| count <= FEW);
    Ok(are_few.then(|| rows.into_iter().map(|(id,)| id).collect()))
}
