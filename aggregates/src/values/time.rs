//! Times: RFC 3339 in UTC in JSON, microseconds since 1970 in SQL.

use chrono::{DateTime, Utc};

/// Microseconds since 1970, as every time column holds them.
pub fn micros(time: DateTime<Utc>) -> i64 {
    time.timestamp_micros()
}

/// The time of a column. Total: what no calendar holds becomes 1970.
pub fn from_micros(micros: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(micros).unwrap_or_default()
}
