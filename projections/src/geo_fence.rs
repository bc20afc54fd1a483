//! The geo-fence's settings.

use crate::db::Db;
use crate::list::{Query, columns};
use crate::rows::{Rows, View};
use crate::table::table;
use gatekey_aggregates::geo_fence::{self, Mode, Values};
use gatekey_aggregates::values::micros;
use gatekey_aggregates::{Event, Recorded};

table! {
    /// The geo-fence's settings as they were last changed.
    pub struct GeoFenceRow: "geo_fences" by [id] {
        /// There is one row, or none before the first change.
        id: String,
        /// Whether source addresses are looked at.
        enabled: bool,
        /// `enforce` or `audit`.
        mode: String,
        /// When they were first changed.
        created_at: i64,
        /// When they were last changed.
        updated_at: i64,
        /// Sequence of the last change.
        revision: i64,
        /// Position of the last change.
        etag: i64,
    }
}

impl GeoFenceRow {
    /// The values.
    pub fn values(&self) -> Result<Values, sqlx::Error> {
        let mode: Mode = serde_json::from_value(self.mode.as_str().into())
            .map_err(|error| sqlx::Error::Decode(error.into()))?;
        Ok(Values { enabled: self.enabled, mode })
    }
}

/// The view of the geo-fence's settings.
pub struct GeoFences;

impl View for GeoFences {
    fn name(&self) -> &'static str {
        "geo_fences"
    }

    fn version(&self) -> i64 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["geo_fences"]
    }

    fn want(&self, recorded: &Recorded, rows: &mut Rows) {
        if matches!(recorded.event, Event::GeoFence(_)) {
            rows.want::<GeoFenceRow>(vec![recorded.aggregate_id.clone()]);
        }
    }

    fn apply(&self, recorded: &Recorded, rows: &mut Rows) {
        let Event::GeoFence(geo_fence::Event::Changed { values }) = &recorded.event else { return };
        let at = micros(recorded.recorded_at);
        let key = vec![recorded.aggregate_id.clone()];
        let mut created_at = at;
        rows.change::<GeoFenceRow>(&key, |row| created_at = row.created_at);
        rows.put(GeoFenceRow {
            id: recorded.aggregate_id.clone(),
            enabled: values.enabled,
            mode: values.mode.as_str().to_owned(),
            created_at,
            updated_at: at,
            revision: recorded.sequence,
            etag: recorded.position,
        });
    }
}

/// The settings in force.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Settings {
    /// The values.
    pub values: Values,
    /// When they were last changed; none: never.
    pub updated_at: Option<i64>,
    /// Sequence of the last change; 0: none.
    pub revision: i64,
    /// Position of the last change; 0: none.
    pub etag: i64,
}

/// The settings in force: before any change, the fence is off.
pub async fn current(db: &Db) -> Result<Settings, sqlx::Error> {
    let row: Option<GeoFenceRow> = Query::new(columns::<GeoFenceRow>("t"), "geo_fences t")
        .with("t.id = {}", geo_fence::ID)
        .optional(db)
        .await?;
    let Some(row) = row else { return Ok(Settings::default()) };
    Ok(Settings {
        values: row.values()?,
        updated_at: Some(row.updated_at),
        revision: row.revision,
        etag: row.etag,
    })
}
