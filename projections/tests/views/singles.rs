//! What there is one of: the authority and the settings.

use crate::samples::*;
use crate::world::{World, on_each, time};
use gatekey_aggregates::settings::{Event, Values};
use gatekey_projections::authorities::{AuthorityRow, active};
use gatekey_projections::settings::{Settings, current};

#[tokio::test]
async fn the_authority_is_there_once_it_was_made() {
    on_each(async |mut world: World| {
        assert_eq!(active(&world.db).await.unwrap(), None);
        world.commit(vec![("authority", authority_created())]).await;
        let expected = AuthorityRow {
            id: "authority".into(),
            certificate: "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n".into(),
            fingerprint: digest('d'),
            not_after: time(1_000_000),
            key: "sec-ca".into(),
            created_at: time(1),
        };
        assert_eq!(active(&world.db).await.unwrap(), Some(expected));
    })
    .await;
}

#[tokio::test]
async fn settings_are_the_defaults_until_they_are_changed() {
    on_each(async |mut world: World| {
        assert_eq!(current(&world.db).await.unwrap(), Settings::default());
        let values = |hours| Values { config_lifetime_hours: hours, ..Values::default() };
        let changed = |hours| Event::Changed { values: values(hours) }.into();
        world.commit(vec![("settings", changed(48)), ("settings", changed(49))]).await;
        world.commit(vec![("settings", changed(50))]).await;
        let expected =
            Settings { values: values(50), updated_at: Some(time(3)), revision: 3, etag: 3 };
        assert_eq!(current(&world.db).await.unwrap(), expected);
        // A value that an older version did not know of.
        world.execute("UPDATE settings SET document = '{\"login_idle_minutes\":7}'").await;
        let current = current(&world.db).await.unwrap().values;
        assert_eq!(current, Values { login_idle_minutes: 7, ..Values::default() });
    })
    .await;
}
