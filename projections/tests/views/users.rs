//! Users, their groups and their API keys.

use crate::samples::*;
use crate::world::{World, on_each, time};
use gatekey_aggregates::user::{Event, Profile};
use gatekey_aggregates::values::Role;
use gatekey_aggregates::values::from_micros;
use gatekey_aggregates::{attempt, login};
use gatekey_projections::api_keys::{self, ApiKeyRow};
use gatekey_projections::users::{
    self, Filter, GROUP_SORT, Group, SORT, User, UserRow, by_name_or_email, find, find_any, list,
};
use gatekey_projections::{Listed, Sort, Texts, Wanted};

fn ids(listed: &Listed<User>) -> String {
    listed.rows.iter().map(|it| it.row.id.as_str()).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn every_column_is_what_was_written() {
    on_each(async |mut world: World| {
        let created = Event::Created {
            profile: profile("usr-a", "ada"),
            role: Role::Admin,
            groups: groups(&["ops", "dev"]),
            password: Some(value("sec-1")),
            must_change_password: true,
        };
        world.commit(vec![("usr-a", created.into())]).await;
        let expected = User {
            row: UserRow {
                id: "usr-a".into(),
                username: Some("ada".into()),
                email: Some("ada@example.com".into()),
                name: Some("The ada".into()),
                role: "admin".into(),
                active: true,
                password: Some("sec-1".into()),
                must_change_password: true,
                last_login_at: None,
                signed_out: 1,
                created_at: time(1),
                updated_at: time(1),
                deleted_at: None,
                revision: 1,
                etag: 1,
                number: 1,
            },
            groups: vec!["dev".into(), "ops".into()],
        };
        assert_eq!(find(&world.db, "usr-a").await.unwrap(), Some(expected.clone()));

        // A password is no field of the resource; a role, groups and being disabled are.
        world
            .commit(vec![
                (
                    "usr-a",
                    Event::PasswordChanged {
                        password: value("sec-2"),
                        must_change_password: false,
                    }
                    .into(),
                ),
                ("ses-a", signed_in("usr-a", 'a', 100)),
            ])
            .await;
        let row = find(&world.db, "usr-a").await.unwrap().unwrap().row;
        assert_eq!((row.password.as_deref(), row.must_change_password), (Some("sec-2"), false));
        assert_eq!((row.signed_out, row.last_login_at), (2, Some(time(3))));
        assert_eq!((row.revision, row.etag, row.updated_at), (1, 1, time(1)));
        world
            .commit(vec![
                ("usr-a", Event::Updated { profile: profile("usr-a", "eve") }.into()),
                ("usr-a", groups_changed(&["ops", "new"])),
                ("usr-a", Event::RoleChanged { role: Role::Auditor }.into()),
                ("usr-a", Event::Disabled {}.into()),
            ])
            .await;
        let user = find(&world.db, "usr-a").await.unwrap().unwrap();
        assert_eq!(user.groups, ["new", "ops"]);
        assert_eq!(user.row.email.as_deref(), Some("eve@example.com"));
        assert_eq!((user.row.role.as_str(), user.row.active), ("auditor", false));
        assert_eq!((user.row.revision, user.row.etag, user.row.signed_out), (6, 7, 7));
        world.commit(vec![("usr-a", Event::Enabled {}.into())]).await;
        let row = find(&world.db, "usr-a").await.unwrap().unwrap().row;
        assert_eq!((row.active, row.signed_out, row.etag), (true, 7, 8));
    })
    .await;
}

#[tokio::test]
async fn what_was_erased_is_null() {
    on_each(async |mut world: World| {
        let profile =
            Profile { username: shut("usr-a"), email: shut("usr-a"), name: Some(shut("usr-a")) };
        world
            .commit(vec![
                ("usr-a", created_user("usr-a", "ada", &[])),
                ("usr-b", created_user("usr-b", "bob", &[])),
            ])
            .await;
        world.commit(vec![("usr-a", Event::Updated { profile }.into())]).await;
        let row = find(&world.db, "usr-a").await.unwrap().unwrap().row;
        assert_eq!((row.username, row.email, row.name), (None, None, None));
        assert_eq!(by_name_or_email(&world.db, "ada").await.unwrap(), None);
        // The nameless come last, whichever way.
        for by in ["username", "email", "name"] {
            for (descending, expected) in [(false, "usr-b usr-a"), (true, "usr-b usr-a")] {
                let wanted = Wanted { sort: Some(Sort { by, descending }), ..everything() };
                let listed = list(&world.db, &wanted, &Filter::default()).await.unwrap();
                assert_eq!(ids(&listed), expected, "{by}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn somebody_signs_in_by_name_or_e_mail() {
    on_each(async |mut world: World| {
        world
            .commit(vec![
                ("usr-a", created_user("usr-a", "ada", &["ops"])),
                ("usr-b", created_user("usr-b", "bob", &[])),
            ])
            .await;
        for text in ["ada", "ADA", "ada@example.com", "Ada@Example.com"] {
            let user = by_name_or_email(&world.db, text).await.unwrap().unwrap();
            assert_eq!((user.row.id.as_str(), user.groups.len()), ("usr-a", 1), "{text}");
        }
        for text in ["", "ad", "ada@", "%", "usr-a"] {
            assert_eq!(by_name_or_email(&world.db, text).await.unwrap(), None, "{text}");
        }
        // The name is free again, and another has it.
        world
            .commit(vec![("usr-a", deleted_user()), ("usr-c", created_user("usr-c", "ada", &[]))])
            .await;
        let user = by_name_or_email(&world.db, "ada").await.unwrap().unwrap();
        assert_eq!(user.row.id, "usr-c");
        assert_eq!(find(&world.db, "usr-a").await.unwrap(), None);
        let gone = find_any(&world.db, "usr-a").await.unwrap().unwrap();
        assert_eq!((gone.row.deleted_at, gone.groups.len()), (Some(time(3)), 0));
        assert_eq!(gone.row.email.as_deref(), Some("ada@example.com"));
    })
    .await;
}

#[tokio::test]
async fn filters_search_and_every_order() {
    on_each(async |mut world: World| {
        world
            .commit(vec![
                ("usr-c", created_user("usr-c", "ada", &["ops"])),
                ("usr-b", created_user("usr-b", "bob", &["ops", "dev"])),
                ("usr-a", created_user("usr-a", "cy", &[])),
                ("usr-d", created_user("usr-d", "dot", &["ops"])),
                ("usr-d", deleted_user()),
                ("usr-b", Event::Disabled {}.into()),
                ("usr-a", Event::RoleChanged { role: Role::Admin }.into()),
                ("ses-a", signed_in("usr-b", 'a', 100)),
                ("ses-b", signed_in("usr-c", 'b', 100)),
            ])
            .await;
        let db = &world.db;
        let found = async |wanted: Wanted, filter: Filter| {
            let listed = list(db, &wanted, &filter).await.unwrap();
            assert_eq!(listed.total, i64::try_from(listed.rows.len()).unwrap());
            ids(&listed)
        };
        let only = Filter::default;
        assert_eq!(found(everything(), only()).await, "usr-c usr-b usr-a");
        let role = Filter { role: Some("admin".into()), ..only() };
        assert_eq!(found(everything(), role).await, "usr-a");
        let active = |active| Filter { active: Some(active), ..only() };
        assert_eq!(found(everything(), active(false)).await, "usr-b");
        assert_eq!(found(everything(), active(true)).await, "usr-c usr-a");
        let group = Filter { group: Some("ops".into()), ..only() };
        assert_eq!(found(everything(), group.clone()).await, "usr-c usr-b");
        assert_eq!(found(search("BO"), group).await, "usr-b");
        assert_eq!(found(search("the CY"), only()).await, "usr-a");
        let mut orders = Vec::new();
        for by in SORT {
            orders.push((*by, found(sorted_by(by), only()).await));
        }
        let orders: Vec<_> = orders.iter().map(|(by, ids)| (*by, ids.as_str())).collect();
        let expected = [
            ("username", "usr-a usr-b usr-c"),
            ("email", "usr-a usr-b usr-c"),
            ("name", "usr-a usr-b usr-c"),
            ("role", "usr-c usr-b usr-a"),
            ("created_at", "usr-a usr-b usr-c"),
            ("last_login_at", "usr-c usr-b usr-a"),
        ];
        assert_eq!(orders, expected);
        let listed = list(db, &everything(), &only()).await.unwrap();
        assert_eq!(listed.rows[1].groups, ["dev", "ops"]);
        assert!(listed.rows[2].groups.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_group_is_known_while_anything_names_it() {
    on_each(async |mut world: World| {
        world
            .commit(vec![
                ("usr-a", created_user("usr-a", "ada", &["ops", "dev"])),
                ("usr-b", created_user("usr-b", "bob", &["ops"])),
                ("gw-a", registered("east")),
                ("gw-a", group_granted("ops")),
                ("gw-a", group_granted("Guests")),
                ("rule-a", created_rule(rule_definition("wiki"))),
                ("rule-a", group_assigned("ops")),
                ("rule-a", group_assigned("readers")),
                ("fence-a", created_fence_rule("office", "198.51.100.0/24")),
                ("fence-a", fenced_group("ops")),
                ("fence-a", fenced_group("travellers")),
                ("hub-a", created_hub("europe")),
                ("hub-a", hub_granted_to_group("ops")),
                ("hub-a", hub_granted_to_group("sites")),
            ])
            .await;
        let group = |name: &str, members, [gateways, access_rules, fences, hubs]: [i64; 4]| Group {
            name: name.into(),
            members,
            gateways,
            access_rules,
            geo_fence_rules: fences,
            mesh_hubs: hubs,
        };
        let listed = users::groups(&world.db, &everything()).await.unwrap();
        let expected = [
            group("dev", 1, [0, 0, 0, 0]),
            group("Guests", 0, [1, 0, 0, 0]),
            group("ops", 2, [1, 1, 1, 1]),
            group("readers", 0, [0, 1, 0, 0]),
            group("sites", 0, [0, 0, 0, 1]),
            group("travellers", 0, [0, 0, 1, 0]),
        ];
        assert_eq!((listed.rows.as_slice(), listed.total), (expected.as_slice(), 6));
        assert_eq!(users::groups(&world.db, &search("OP")).await.unwrap().total, 1);
        for by in GROUP_SORT {
            let first = users::groups(&world.db, &sorted_by(by)).await.unwrap().rows.remove(0);
            assert_eq!(first.name, if *by == "name" { "travellers" } else { "ops" });
        }
        let ops = users::group(&world.db, "ops").await.unwrap();
        assert_eq!(ops, Some(group("ops", 2, [1, 1, 1, 1])));
        world
            .commit(vec![
                ("usr-a", deleted_user()),
                ("usr-b", groups_changed(&[])),
                ("gw-a", gatekey_aggregates::gateway::Event::Deleted {}.into()),
                ("rule-a", gatekey_aggregates::access_rule::Event::Deleted {}.into()),
                ("fence-a", gatekey_aggregates::geo_fence_rule::Event::Deleted {}.into()),
                ("hub-a", deleted_hub()),
            ])
            .await;
        assert_eq!(users::groups(&world.db, &everything()).await.unwrap().total, 0);
        assert_eq!(users::group(&world.db, "ops").await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn api_keys_are_found_until_they_are_revoked() {
    on_each(async |mut world: World| {
        world
            .commit(vec![
                ("usr-a", created_user("usr-a", "ada", &[])),
                ("usr-a", api_key("key-a", 'a', Some(100))),
                ("usr-a", api_key("key-b", 'b', None)),
                ("usr-b", created_user("usr-b", "bob", &[])),
                ("usr-b", api_key("key-c", 'c', None)),
            ])
            .await;
        world.execute("INSERT INTO credential_telemetry VALUES ('key-a', 5, '192.0.2.7')").await;
        let key = api_keys::find(&world.db, "key-a").await.unwrap().unwrap();
        let expected = ApiKeyRow {
            id: "key-a".into(),
            user_id: "usr-a".into(),
            name: "ci".into(),
            prefix: "gk_abc".into(),
            key_hash: digest('a'),
            scopes: Texts(vec!["read".into(), "write:networks".into()]),
            expires_at: Some(time(100)),
            source_cidrs: Texts(vec!["10.0.0.0/8".into(), "fd00::/8".into()]),
            created_by: Some("key-maker".into()),
            created_at: time(2),
            revoked_at: None,
        };
        assert_eq!(key.row, expected);
        assert_eq!((key.last_used, key.last_ip.as_deref()), (Some(5), Some("192.0.2.7")));
        let by_hash = async |world: &World, hash| {
            api_keys::by_hash(&world.db, &digest(hash)).await.unwrap().map(|it| it.row.id)
        };
        assert_eq!(by_hash(&world, 'b').await.as_deref(), Some("key-b"));
        let ids = async |world: &World, wanted: Wanted| {
            let listed = api_keys::list(&world.db, "usr-a", &wanted).await.unwrap();
            assert_eq!(listed.total, i64::try_from(listed.rows.len()).unwrap());
            listed.rows.into_iter().map(|it| it.row.id).collect::<Vec<_>>()
        };
        assert_eq!(ids(&world, everything()).await, ["key-b", "key-a"]);
        assert_eq!(ids(&world, search("GK_A")).await.len(), 2);
        for by in api_keys::SORT {
            let first = ids(&world, sorted_by(by)).await.remove(0);
            let of_a = ["expires_at", "last_used"].contains(by);
            assert_eq!(first, if of_a { "key-a" } else { "key-b" }, "{by}");
        }

        world
            .commit(vec![
                ("usr-a", Event::ApiKeyRevoked { id: value("key-a") }.into()),
                ("usr-b", deleted_user()),
            ])
            .await;
        assert_eq!(ids(&world, everything()).await, ["key-b"]);
        assert_eq!(by_hash(&world, 'a').await, None);
        assert_eq!(by_hash(&world, 'c').await, None);
        let key = api_keys::find(&world.db, "key-a").await.unwrap().unwrap();
        assert_eq!(key.row.revoked_at, Some(time(6)));
        // Neither event is a change to the user's form.
        assert_eq!(find(&world.db, "usr-a").await.unwrap().unwrap().row.etag, 1);
    })
    .await;
}

#[tokio::test]
async fn logins_end_with_what_ends_them_all() {
    on_each(async |mut world: World| {
        use gatekey_projections::logins;
        let now = crate::world::at(50);
        world
            .commit(vec![
                ("usr-a", created_user("usr-a", "ada", &[])),
                ("ses-a", signed_in("usr-a", 'a', 100)),
                ("ses-b", signed_in("usr-a", 'b', 40)),
                ("ses-c", signed_in("usr-a", 'c', 120)),
                ("ses-d", signed_in("usr-a", 'd', 100)),
                ("ses-d", signed_out(login::EndReason::Logout)),
            ])
            .await;
        world.execute("INSERT INTO credential_telemetry VALUES ('ses-a', 5, '192.0.2.7')").await;
        let login = logins::find(&world.db, "ses-a").await.unwrap().unwrap();
        let expected = logins::LoginRow {
            id: "ses-a".into(),
            user_id: "usr-a".into(),
            method: "oidc".into(),
            token_hash: digest('a'),
            client_ip: Some("192.0.2.7".into()),
            user_agent: Some("curl/8".into()),
            began_at: time(2),
            expires_at: time(100),
            ended_at: None,
            end_reason: None,
            position: 2,
        };
        assert_eq!(login.row, expected);
        assert_eq!((login.last_used, login.last_ip.as_deref()), (Some(5), Some("192.0.2.7")));
        let ended = logins::find(&world.db, "ses-d").await.unwrap().unwrap().row;
        assert_eq!((ended.ended_at, ended.end_reason.as_deref()), (Some(time(6)), Some("logout")));

        let live = async |world: &World, wanted: Wanted| {
            let always = from_micros(0);
            let listed = logins::list(&world.db, "usr-a", now, always, &wanted).await.unwrap();
            assert_eq!(listed.total, i64::try_from(listed.rows.len()).unwrap());
            listed.rows.into_iter().map(|it| it.row.id).collect::<Vec<_>>()
        };
        let not_idle = async |world: &World, since| {
            let (since, wanted) = (from_micros(since), everything());
            let listed = logins::list(&world.db, "usr-a", now, since, &wanted).await.unwrap();
            assert_eq!(listed.total, i64::try_from(listed.rows.len()).unwrap());
            listed.rows.into_iter().map(|it| it.row.id).collect::<Vec<_>>()
        };
        let by_token = async |world: &World, hash| {
            let found = logins::by_token_hash(&world.db, &digest(hash), now).await.unwrap();
            found.map(|it| it.row.id)
        };
        assert_eq!(live(&world, everything()).await, ["ses-c", "ses-a"]);
        for by in logins::SORT {
            let expected = if *by == "last_used" { ["ses-a", "ses-c"] } else { ["ses-c", "ses-a"] };
            assert_eq!(live(&world, sorted_by(by)).await, expected, "{by}");
        }
        // ses-a was last used at 5; ses-c not since it began.
        assert_eq!(not_idle(&world, 4).await, ["ses-c", "ses-a"]);
        assert_eq!(not_idle(&world, 5).await, ["ses-c"]);
        assert_eq!(not_idle(&world, time(4) - 1).await, ["ses-c"]);
        assert!(not_idle(&world, time(4)).await.is_empty());
        assert_eq!(by_token(&world, 'a').await.as_deref(), Some("ses-a"));
        assert_eq!(by_token(&world, 'b').await, None, "expired");
        assert_eq!(by_token(&world, 'd').await, None, "ended");

        // A change of password ends them before the events that say so of each.
        let changed =
            Event::PasswordChanged { password: value("sec-1"), must_change_password: false };
        world
            .commit(vec![("usr-a", changed.into()), ("ses-e", signed_in("usr-a", 'e', 100))])
            .await;
        assert_eq!(live(&world, everything()).await, ["ses-e"]);
        assert_eq!(by_token(&world, 'a').await, None);
        let left = logins::not_ended_of_user(&world.db, "usr-a", now).await.unwrap();
        let left: Vec<&str> = left.iter().map(|it| it.id.as_str()).collect();
        assert_eq!(left, ["ses-a", "ses-c", "ses-e"]);
        world.commit(vec![("usr-a", deleted_user())]).await;
        assert!(live(&world, everything()).await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn the_history_of_logins_has_those_that_failed() {
    on_each(async |mut world: World| {
        use gatekey_projections::logins::{self, Ending};
        let failed = |user_id: Option<&str>, reason: &str, count| {
            let mut denial = attempt::Denial::new(reason);
            denial.user_id = user_id.map(value);
            denial.client_ip = Some(open("usr-a", "192.0.2.9"));
            denial.count = count;
            attempt::Event::LoginFailed(denial).into()
        };
        world
            .commit(vec![
                ("usr-a", created_user("usr-a", "ada", &[])),
                ("usr-b", created_user("usr-b", "bob", &[])),
                ("node/1", failed(Some("usr-a"), "wrong_password", 1)),
                ("node/1", failed(None, "unknown_user", 1)),
                ("node/1", failed(Some("usr-b"), "wrong_password", 1)),
                ("ses-a", signed_in("usr-a", 'a', 100)),
                ("node/1", failed(Some("usr-a"), "wrong_password", 7)),
                ("ses-a", signed_out(login::EndReason::Logout)),
            ])
            .await;
        let history = async |wanted: Wanted, ending| {
            logins::history(&world.db, "usr-a", &wanted, ending).await.unwrap()
        };
        let all = history(everything(), None).await;
        let told: Vec<_> = all
            .rows
            .iter()
            .map(|it| (it.at, &*it.result, it.reason.as_deref(), it.count, it.method.as_deref()))
            .collect();
        assert_eq!(
            told,
            [
                (time(7), "failed", Some("wrong_password"), 7, None),
                (time(6), "succeeded", None, 1, Some("oidc")),
                (time(3), "failed", Some("wrong_password"), 1, None),
            ]
        );
        assert_eq!(all.total, 3);
        let login = &all.rows[1];
        assert_eq!((&*login.id, login.client_ip.as_deref()), ("ses-a", Some("192.0.2.7")));
        assert_eq!(login.user_agent.as_deref(), Some("curl/8"));
        assert_eq!((login.expires_at, login.ended_at), (Some(time(100)), Some(time(8))));
        assert_eq!(login.end_reason.as_deref(), Some("logout"));
        assert_eq!(all.rows[0].client_ip.as_deref(), Some("192.0.2.9"));

        let one = Wanted { limit: 1, ..Wanted::default() };
        let first = history(one.clone(), None).await;
        let next = Wanted { cursor: first.next_cursor.clone(), ..one };
        assert_eq!(history(next, None).await.rows, all.rows[1..2]);
        assert_eq!(history(everything(), Some(Ending::Failed)).await.total, 2);
        assert_eq!(history(everything(), Some(Ending::Succeeded)).await.rows, all.rows[1..2]);
    })
    .await;
}
