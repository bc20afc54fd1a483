//! The settings that an admin can change while the server runs.

use crate::db::Db;
use crate::list::{Query, columns};
use crate::rows::{Rows, View};
use crate::table::table;
use gatekey_aggregates::settings::{self, Values};
use gatekey_aggregates::values::micros;
use gatekey_aggregates::{Event, Recorded};

table! {
    /// The settings as they were last changed.
    pub struct SettingsRow: "settings" by [id] {
        /// `settings`: there is one row, or none before the first change.
        id: String,
        /// The values, as JSON.
        document: String,
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

impl SettingsRow {
    /// The values. A field that is not there has its default.
    pub fn values(&self) -> Result<Values, sqlx::Error> {
        serde_json::from_str(&self.document).map_err(|error| sqlx::Error::Decode(error.into()))
    }
}

/// The view of the settings.
pub struct SettingsView;

impl View for SettingsView {
    fn name(&self) -> &'static str {
        "settings"
    }

    fn version(&self) -> i64 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["settings"]
    }

    fn want(&self, recorded: &Recorded, rows: &mut Rows) {
        if matches!(recorded.event, Event::Settings(_)) {
            rows.want::<SettingsRow>(vec![recorded.aggregate_id.clone()]);
        }
    }

    fn apply(&self, recorded: &Recorded, rows: &mut Rows) {
        let Event::Settings(settings::Event::Changed { values }) = &recorded.event else { return };
        let at = micros(recorded.recorded_at);
        let key = vec![recorded.aggregate_id.clone()];
        let mut created_at = at;
        rows.change::<SettingsRow>(&key, |row| created_at = row.created_at);
        // Plain numbers: they can always be written as JSON.
        let document = serde_json::to_string(values).unwrap_or_default();
        rows.put(SettingsRow {
            id: recorded.aggregate_id.clone(),
            document,
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

/// The settings in force: before any change, the defaults.
pub async fn current(db: &Db) -> Result<Settings, sqlx::Error> {
    let row: Option<SettingsRow> = Query::new(columns::<SettingsRow>("t"), "settings t")
        .with("t.id = {}", settings::ID)
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
