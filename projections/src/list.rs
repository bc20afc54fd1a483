//! Lists: filters, search, order and paging, as SQL that both databases speak.

use crate::db::{Arg, Db, Dialect, Readable};
use crate::rows::Table;
use crate::search::{Searched, few};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use std::fmt::{self, Write};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::str::FromStr;

/// An order that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort {
    /// A name of the list's `SORT`.
    pub by: &'static str,
    /// The greatest first.
    pub descending: bool,
}

/// Which part of a list is wanted, in which order.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// Only what has this text in it, whatever the case of its letters.
    pub q: Option<String>,
    /// The order; else the list's own.
    pub sort: Option<Sort>,
    /// Where to go on, in lists that give cursors. It takes the place of `offset`.
    pub cursor: Option<Cursor>,
    /// At most so many.
    pub limit: i64,
    /// After so many.
    pub offset: i64,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { q: None, sort: None, cursor: None, limit: 20, offset: 0 }
    }
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed<T> {
    /// The part.
    pub rows: Vec<T>,
    /// How many there are in all.
    pub total: i64,
    /// Whether there are exactly so many; else there are at least so many.
    pub total_exact: bool,
    /// Where to go on, in lists that give cursors and have more.
    pub next_cursor: Option<Cursor>,
}

impl<T> Listed<T> {
    /// The same with each row changed.
    pub fn map<U>(self, change: impl FnMut(T) -> U) -> Listed<U> {
        let Self { rows, total, total_exact, next_cursor } = self;
        let rows = rows.into_iter().map(change).collect();
        Listed { rows, total, total_exact, next_cursor }
    }

    /// The same with other rows.
    pub(crate) fn with_rows<U>(self, rows: Vec<U>) -> Listed<U> {
        let Self { total, total_exact, next_cursor, .. } = self;
        Listed { rows, total, total_exact, next_cursor }
    }
}

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// It has no such order.
    #[error("this list can't be sorted by `{0}`")]
    Sort(&'static str),
    /// The cursor was given out by another list, or by this one with other filters.
    #[error("the cursor is not of this list")]
    Cursor,
    /// The database did not answer.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// A place in a list that was given out as `next_cursor`.
///
/// It holds the last row's place in the order, and a fingerprint of the query: a cursor of another
/// list, or of other filters, is refused. It is no secret, and nothing is allowed by it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cursor {
    #[serde(rename = "q")]
    query: String,
    #[serde(rename = "k")]
    key: Vec<Place>,
}

/// A value that is ordered by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Place {
    Int(i64),
    Text(String),
}

/// What a column that is ordered by holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Holds {
    Ints,
    Texts,
}

impl Holds {
    fn holds(self, place: &Place) -> bool {
        matches!((self, place), (Self::Ints, Place::Int(_)) | (Self::Texts, Place::Text(_)))
    }
}

impl From<Place> for Arg {
    fn from(place: Place) -> Self {
        match place {
            Place::Int(number) => number.into(),
            Place::Text(text) => text.into(),
        }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let json = serde_json::to_vec(self).map_err(|_| fmt::Error)?;
        f.write_str(&URL_SAFE_NO_PAD.encode(json))
    }
}

impl FromStr for Cursor {
    type Err = ListError;

    fn from_str(text: &str) -> Result<Self, ListError> {
        let json = URL_SAFE_NO_PAD.decode(text).map_err(|_| ListError::Cursor)?;
        let cursor: Self = serde_json::from_slice(&json).map_err(|_| ListError::Cursor)?;
        let is_text = |place: &Place| match place {
            Place::Int(_) => true,
            Place::Text(text) => !text.contains('\0'),
        };
        if cursor.key.iter().all(is_text) { Ok(cursor) } else { Err(ListError::Cursor) }
    }
}

/// The orders a list can have.
pub(crate) struct Orders {
    /// Names, and SQL in which `{}` is the direction.
    pub by: &'static [(&'static str, &'static str)],
    /// The order that nobody asked for.
    pub default: Sort,
    /// Orders what is otherwise equal: a key.
    pub tie: &'static str,
}

impl Orders {
    fn sql(&self, sort: Option<Sort>) -> Result<String, ListError> {
        let sort = sort.unwrap_or(self.default);
        let (_, sql) =
            self.by.iter().find(|(name, _)| *name == sort.by).ok_or(ListError::Sort(sort.by))?;
        let direction = direction(sort.descending);
        Ok(format!("{}, {} {direction}", sql.replace("{}", direction), self.tie))
    }
}

/// The names of `orders`, as a request may give them.
pub(crate) const fn names<const N: usize>(
    orders: &[(&'static str, &'static str); N],
) -> [&'static str; N] {
    let mut names = [""; N];
    let mut i = 0;
    while i < N {
        names[i] = orders[i].0;
        i += 1;
    }
    names
}

/// By name, the first first.
pub(crate) const BY_NAME: Sort = Sort { by: "name", descending: false };

/// The order of a list that grows without bound: columns that together are a key.
pub(crate) struct Keyset<T> {
    /// The columns, and what they hold.
    pub columns: &'static [(&'static str, Holds)],
    /// A row's place.
    pub place: fn(&T) -> Vec<Place>,
    /// The greatest first.
    pub descending: bool,
}

impl<T> Keyset<T> {
    fn fits(&self, key: &[Place]) -> bool {
        self.columns.len() == key.len()
            && self.columns.iter().zip(key).all(|((_, holds), place)| holds.holds(place))
    }
}

/// Of how many rows, where the page ends with the last of them: then they need not be counted.
fn total_by_end<T>(limit: i64, offset: i64, rows: &[T]) -> Option<i64> {
    let seen = i64::try_from(rows.len()).ok()?;
    let is_end = seen < limit && (seen > 0 || offset == 0);
    is_end.then(|| offset.saturating_add(seen))
}

/// For LIKE: has this text in it.
pub(crate) fn pattern(q: &str) -> String {
    let escaped: String = q
        .chars()
        .flat_map(|c| ['%', '_', '\\'].contains(&c).then_some('\\').into_iter().chain([c]))
        .collect();
    format!("%{escaped}%")
}

/// A list may have grown since it was counted.
fn no_less_than_seen<T>(total: i64, offset: i64, rows: &[T]) -> i64 {
    match i64::try_from(rows.len()) {
        Ok(seen) if seen > 0 => total.max(offset.saturating_add(seen)),
        _ => total,
    }
}

fn direction(descending: bool) -> &'static str {
    if descending { "DESC" } else { "ASC" }
}

/// A table's columns, under an alias.
pub(crate) fn columns<T: Table>(alias: &str) -> String {
    T::COLUMNS.iter().map(|column| format!("{alias}.{column}")).collect::<Vec<_>>().join(", ")
}

/// So many rows that a filter leaves are counted, and no more.
const MOST_COUNTED: i64 = 10_000;

/// A SELECT under construction.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    columns: String,
    from: String,
    beside: &'static str,
    /// Whether conditions look into what stands beside.
    looks_beside: bool,
    conditions: Vec<String>,
    args: Vec<Arg>,
    /// What tells it from other queries: what was asked, however it is found.
    asked: String,
    /// The kept total of the rows that meet the first so many conditions.
    kept_total: Option<(&'static str, usize)>,
    /// Whether there are few rows.
    few: bool,
}

impl Query {
    /// These columns of these tables.
    pub fn new(columns: impl Into<String>, from: impl Into<String>) -> Self {
        Self {
            columns: columns.into(),
            from: from.into(),
            beside: "",
            looks_beside: false,
            conditions: Vec::new(),
            args: Vec::new(),
            asked: String::new(),
            kept_total: None,
            few: false,
        }
    }

    /// Says that a kept total is the number of rows that meet the conditions so far: with no others
    /// they need not be counted.
    pub fn totalled_as(mut self, name: &'static str) -> Self {
        self.kept_total = Some((name, self.conditions.len()));
        self
    }

    /// Adds LEFT JOINs by keys: they add columns, and no rows. They are left out where rows are only
    /// counted, unless [`Query::search`] or [`Query::when_beside`] looks into them.
    pub fn beside(mut self, joins: &'static str) -> Self {
        self.beside = joins;
        self
    }

    /// Only where this holds.
    pub fn and(mut self, condition: &str) -> Self {
        self.ask(condition, None);
        self.conditions.push(format!("({condition})"));
        self
    }

    /// Only where this holds; each `{}` in it is the value.
    pub fn with(mut self, condition: &str, value: impl Into<Arg>) -> Self {
        let value = value.into();
        self.ask(condition, Some(&value));
        self.found_by(condition, value)
    }

    /// The same, of a value such as the time now: another one makes no other query, so a cursor
    /// stays good.
    pub fn with_passing(mut self, condition: &str, value: impl Into<Arg>) -> Self {
        self.ask(condition, None);
        self.found_by(condition, value.into())
    }

    /// Adds to what tells queries apart.
    fn ask(&mut self, condition: &str, value: Option<&Arg>) {
        // Writing to a string does not fail.
        let _ = write!(self.asked, "{condition} {value:?}; ");
    }

    /// Only where this holds, which is how something that was asked is found.
    pub fn found_by(mut self, condition: &str, value: Arg) -> Self {
        self.args.push(value);
        let placeholder = format!("${}", self.args.len());
        self.conditions.push(format!("({})", condition.replace("{}", &placeholder)));
        self
    }

    /// The same, if there is a value.
    pub fn when(self, condition: &str, value: Option<impl Into<Arg>>) -> Self {
        match value {
            Some(value) => self.with(condition, value),
            None => self,
        }
    }

    /// Only where a column is true, or only where it is false, if it matters.
    pub fn when_true(self, column: &str, value: Option<bool>) -> Self {
        match value {
            // Spelt as an equation, or SQLite does not look for it in an index.
            Some(value) => self.and(&format!("{column} = {value}")),
            None => self,
        }
    }

    /// The same as [`Query::when`], of a condition that looks into what stands beside.
    pub fn when_beside(mut self, condition: &str, value: Option<impl Into<Arg>>) -> Self {
        self.looks_beside |= value.is_some();
        self.when(condition, value)
    }

    /// Only where one of `columns` has the text in it. The case of letters does not matter, as far
    /// as the database knows letters (SQLite: those of ASCII).
    pub fn search(mut self, columns: &[&str], q: Option<&str>) -> Self {
        let Some(q) = q else { return self };
        self.looks_beside = true;
        let matches: Vec<String> = columns
            .iter()
            .map(|column| format!(r"lower({column}) LIKE lower({{}}) ESCAPE '\'"))
            .collect();
        self.asking_for(q).found_by(&matches.join(" OR "), pattern(q).into())
    }

    /// The same of a table that can be searched; its id is `t.id`.
    pub async fn searched(
        self,
        db: &Db,
        searched: &Searched,
        columns: &[&str],
        q: Option<&str>,
    ) -> Result<Self, sqlx::Error> {
        let Some(text) = q else { return Ok(self) };
        let Some(ids) = searched.few(db, text).await? else { return Ok(self.search(columns, q)) };
        Ok(self.asking_for(text).among(db.dialect(), &[("t.id", &ids)]))
    }

    /// Only where this holds, if there is a value. `ids` is a query for the ids (`t.id`) of all where it
    /// does: where they are few, they are looked up, instead of looking for them among all.
    pub async fn when_few(
        mut self,
        db: &Db,
        condition: &str,
        ids: &str,
        value: Option<String>,
    ) -> Result<Self, sqlx::Error> {
        let Some(value) = value else { return Ok(self) };
        let Some(found) = few(db, ids, vec![value.clone().into()]).await? else {
            return Ok(self.with(condition, value));
        };
        self.ask(condition, Some(&value.into()));
        Ok(self.among(db.dialect(), &[("t.id", &found)]))
    }

    /// Notes that this text was asked for, however it is found.
    pub fn asking_for(mut self, q: &str) -> Self {
        self.ask("q", Some(&q.into()));
        self
    }

    /// Only where one of the columns holds one of its ids, which are how something that was asked is
    /// found.
    pub fn among(mut self, dialect: Dialect, ids: &[(&str, &[String])]) -> Self {
        let mut conditions = Vec::new();
        for (column, ids) in ids.iter().filter(|(_, ids)| !ids.is_empty()) {
            let ids: Vec<[&str; 1]> = ids.iter().map(|id| [id.as_str()]).collect();
            self.args.push(serde_json::json!(ids).to_string().into());
            let each = dialect.each(&format!("${}", self.args.len()), "k");
            conditions.push(format!("{column} IN (SELECT k.value->>0 FROM {each})"));
        }
        let any = if conditions.is_empty() { "1 = 0".to_owned() } else { conditions.join(" OR ") };
        self.conditions.push(format!("({any})"));
        self
    }

    /// Says that the rows are so few that they are better found by what is asked of them, and then
    /// put in order, than looked through in order.
    pub fn few(mut self) -> Self {
        self.few = true;
        self
    }

    fn conditions(&self) -> String {
        if self.conditions.is_empty() {
            String::new()
        } else {
            format!(" WHERE {}", self.conditions.join(" AND "))
        }
    }

    fn select(&self) -> String {
        let Self { columns, from, beside, .. } = self;
        format!("SELECT {columns} FROM {from} {beside}{}", self.conditions())
    }

    fn limit(&mut self, limit: i64, offset: i64) -> String {
        self.args.push(limit.into());
        self.args.push(offset.into());
        format!(" LIMIT ${} OFFSET ${}", self.args.len() - 1, self.args.len())
    }

    /// How many rows there are, and whether exactly so many.
    pub async fn total(&self, db: &Db) -> Result<(i64, bool), sqlx::Error> {
        if let Some((name, conditions)) = self.kept_total
            && conditions == self.conditions.len()
        {
            let sql = "SELECT count FROM totals WHERE name = $1";
            let kept: Option<(i64,)> = db.optional(sql, &[name.into()]).await?;
            return Ok((kept.map_or(0, |(count,)| count.max(0)), true));
        }
        let beside = if self.looks_beside { self.beside } else { "" };
        let sql = format!(
            "SELECT COUNT(*) FROM (SELECT 1 FROM {} {beside}{} LIMIT {}) c",
            self.from,
            self.conditions(),
            MOST_COUNTED + 1
        );
        let (total,): (i64,) = db.one(&sql, &self.args).await?;
        Ok((total.min(MOST_COUNTED), total <= MOST_COUNTED))
    }

    /// Tells queries apart, by their text and values.
    fn fingerprint(&self, order: &str) -> String {
        let mut hasher = DefaultHasher::new();
        (&self.from, &self.asked, order).hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    }

    /// Every row, in this order.
    pub async fn all<T: Readable>(self, db: &Db, order: &str) -> Result<Vec<T>, sqlx::Error> {
        db.all(&format!("{} ORDER BY {order}", self.select()), &self.args).await
    }

    /// The row, if there is one.
    pub async fn optional<T: Readable>(self, db: &Db) -> Result<Option<T>, sqlx::Error> {
        db.optional(&self.select(), &self.args).await
    }

    /// A page, and how many rows there are in all.
    pub async fn page<T: Readable>(
        mut self,
        db: &Db,
        wanted: &Wanted,
        orders: &Orders,
    ) -> Result<Listed<T>, ListError> {
        let order = orders.sql(wanted.sort)?;
        if wanted.cursor.is_some() {
            return Err(ListError::Cursor);
        }
        let unlimited = self.clone();
        let select = self.select();
        let limit = self.limit(wanted.limit, wanted.offset);
        let sql = format!("{select} ORDER BY {order}{limit}");
        let rows = db.all(&sql, &self.args).await?;
        let (total, total_exact) = match total_by_end(wanted.limit, wanted.offset, &rows) {
            Some(total) => (total, true),
            None => unlimited.total(db).await?,
        };
        let total = no_less_than_seen(total, wanted.offset, &rows);
        Ok(Listed { rows, total, total_exact, next_cursor: None })
    }

    /// A page of a list that gives cursors.
    pub async fn keyset<T: Readable>(
        self,
        db: &Db,
        wanted: &Wanted,
        keyset: &Keyset<T>,
    ) -> Result<Listed<T>, ListError> {
        let unlimited = self.clone();
        let mut listed = self.keyset_of(db, wanted, keyset, 0).await?;
        let end = match &wanted.cursor {
            None => total_by_end(wanted.limit, wanted.offset, &listed.rows),
            Some(_) => None,
        };
        let (total, total_exact) = match end.filter(|_| listed.next_cursor.is_none()) {
            Some(total) => (total, true),
            None => unlimited.total(db).await?,
        };
        listed.total = listed.total.max(total);
        listed.total_exact = total_exact;
        Ok(listed)
    }

    /// The same, where the total is known.
    pub async fn keyset_of<T: Readable>(
        mut self,
        db: &Db,
        wanted: &Wanted,
        keyset: &Keyset<T>,
        total: i64,
    ) -> Result<Listed<T>, ListError> {
        let direction = direction(keyset.descending);
        let order = keyset
            .columns
            .iter()
            .map(|(column, _)| format!("{column} {direction}"))
            .collect::<Vec<_>>()
            .join(", ");
        let query = self.fingerprint(&order);
        let offset = match &wanted.cursor {
            None => wanted.offset,
            Some(cursor) if cursor.query == query && keyset.fits(&cursor.key) => {
                self = self.after(cursor, keyset);
                0
            }
            Some(_) => return Err(ListError::Cursor),
        };
        let select = self.select();
        // One more than wanted tells whether there are more.
        let limit = self.limit(wanted.limit.saturating_add(1), offset);
        let order = match (self.few, keyset.columns) {
            // No index has that, so none tempts the database to look through it.
            (true, [(column, Holds::Ints), ..]) => {
                order.replacen(column, &format!("({column} + 0)"), 1)
            }
            _ => order,
        };
        let sql = format!("{select} ORDER BY {order}{limit}");
        let mut rows: Vec<T> = db.all(&sql, &self.args).await?;
        let total = no_less_than_seen(total, offset, &rows);
        let fitting = usize::try_from(wanted.limit).unwrap_or(0);
        let more = rows.len() > fitting;
        rows.truncate(fitting);
        let next = rows.last().filter(|_| more).map(keyset.place);
        let next_cursor = next.map(|key| Cursor { query, key });
        Ok(Listed { rows, total, total_exact: true, next_cursor })
    }

    fn after<T>(mut self, cursor: &Cursor, keyset: &Keyset<T>) -> Self {
        let first = self.args.len() + 1;
        self.args.extend(cursor.key.iter().cloned().map(Arg::from));
        let places: Vec<String> =
            (first..first + cursor.key.len()).map(|n| format!("${n}")).collect();
        let beyond = if keyset.descending { "<" } else { ">" };
        let columns: Vec<&str> = keyset.columns.iter().map(|(column, _)| *column).collect();
        let columns = columns.join(", ");
        self.and(&format!("({columns}) {beyond} ({})", places.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::{no_less_than_seen, total_by_end};

    #[test]
    fn a_page_that_is_not_full_tells_the_total() {
        assert_eq!(total_by_end(20, 0, &["event"; 19]), Some(19));
        assert_eq!(total_by_end(20, 40, &["event"; 1]), Some(41));
        assert_eq!(total_by_end(20, 0, &[] as &[&str]), Some(0));
        assert_eq!(total_by_end(20, 0, &["event"; 20]), None);
        assert_eq!(total_by_end(20, 40, &[] as &[&str]), None);
    }

    #[test]
    fn a_total_is_never_less_than_what_is_seen() {
        assert_eq!(no_less_than_seen(19, 0, &["event"; 20]), 20);
        assert_eq!(no_less_than_seen(40, 20, &["event"; 20]), 40);
        assert_eq!(no_less_than_seen(19, 100, &[] as &[&str]), 19);
    }
}
