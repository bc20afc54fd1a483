//! What must be well before the server says that it is ready: the database, really asked, and the
//! access index, which must not lag.

use crate::api::health::Check;
use crate::services::Services;
use async_trait::async_trait;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;

/// Whether the database answers.
pub struct Database(pub Arc<Services>);

#[async_trait]
impl Check for Database {
    fn name(&self) -> &'static str {
        "database"
    }

    async fn check(&self) -> Result<Map<String, Value>, String> {
        match self.0.reader.head().await {
            Ok(position) => Ok(Map::from_iter([("position".to_owned(), json!(position))])),
            Err(error) => {
                tracing::warn!(%error, "the database does not answer");
                Err("the database does not answer".to_owned())
            }
        }
    }
}

/// Whether the access index keeps up.
pub struct Index {
    /// Has the index.
    pub services: Arc<Services>,
    /// How old its knowledge may be.
    pub max_staleness: Duration,
}

#[async_trait]
impl Check for Index {
    fn name(&self) -> &'static str {
        "access_index"
    }

    async fn check(&self) -> Result<Map<String, Value>, String> {
        let staleness = self.services.index.staleness();
        let position = self.services.index.read().position;
        let head = self.services.reader.head().await.ok();
        if staleness > self.max_staleness {
            return Err(format!("nothing heard of the log for {} s", staleness.as_secs()));
        }
        Ok(Map::from_iter([
            ("position".to_owned(), json!(position)),
            ("lag".to_owned(), json!(head.map(|head| (head - position).max(0)))),
            ("staleness_seconds".to_owned(), json!(staleness.as_secs())),
        ]))
    }
}
