//! Every list of the OpenAPI document: it is paged, and says which field of its query makes no sense.

use crate::harness::Answer;
use crate::harness::openapi::{Operation, operations};
use reqwest::Method;
use serde_json::Value;

both! {
    async fn every_list_is_paged_and_names_what_is_wrong(world: World) {
        let admin = world.admin().await;
        let all = operations(&world.anyone()).await;
        let lists: Vec<_> = all.iter().filter(|it| answers_with_a_page(it)).collect();
        assert!(lists.len() >= 25, "the document has {} lists", lists.len());
        for list in lists {
            let at = &list.template;
            for name in ["page", "per_page"] {
                assert!(parameter(list, name).is_some(), "{at} does not take {name}");
            }
            let path = list.path_to_nothing();
            let ask = async |query: &str| admin.get(&format!("{path}?{query}")).await;
            for (query, field) in [
                ("page=0", "page"),
                ("page=-1", "page"),
                ("page=x", "page"),
                ("page=1000001", "page"),
                ("page=1&page=2", "page"),
                ("per_page=0", "per_page"),
                ("per_page=101", "per_page"),
                ("per_page=1000", "per_page"),
                ("sort=no_such_field", "sort"),
                ("no_such_filter=1", "no_such_filter"),
            ] {
                let error = ask(query).await.envelope(400);
                assert_eq!(error["details"][0]["field"], field, "{at}?{query}: {error}");
            }
            let control = ask("q=a%0Ab").await.envelope(400);
            assert_eq!(control["details"][0]["field"], "q", "{at}");

            // What it says it takes, it takes.
            let sorts = parameter(list, "sort").map(|it| it["schema"]["enum"].clone());
            for sort in sorts.iter().filter_map(Value::as_array).flatten() {
                let sort = sort.as_str().expect("a field's name");
                let answer = ask(&format!("sort={sort}&page=2&per_page=100")).await;
                check(&answer, at, 2, 100);
            }
            if parameter(list, "q").is_some() {
                for q in ["a", "abc", "%25", "10.8.", "%22", "\u{e4}\u{e4}\u{e4}"] {
                    check(&ask(&format!("q={q}")).await, at, 1, 20);
                }
            }
            if parameter(list, "cursor").is_some() {
                let error = ask("cursor=x").await;
                if error.status != 404 {
                    assert_eq!(error.envelope(400)["details"][0]["field"], "cursor", "{at}");
                }
            }
        }
    }
}

/// A page, as it was asked for; or what it would be of is not there.
#[track_caller]
fn check(answer: &Answer, at: &str, page: u32, per_page: u32) {
    if answer.status == 404 {
        return;
    }
    let body = answer.flat(200);
    assert!(body["data"].is_array() && body["meta"]["total"].is_u64(), "{at}: {body}");
    assert_eq!(
        (&body["meta"]["page"], &body["meta"]["per_page"]),
        (&page.into(), &per_page.into())
    );
}

fn answers_with_a_page(operation: &Operation) -> bool {
    let schema = &operation.document["responses"]["200"]["content"]["application/json"]["schema"];
    let name = schema["$ref"].as_str().and_then(|it| it.rsplit('/').next()).unwrap_or_default();
    operation.method == Method::GET && name.starts_with("Page_")
}

fn parameter<'a>(operation: &'a Operation, name: &str) -> Option<&'a Value> {
    let parameters = operation.document["parameters"].as_array()?;
    parameters.iter().find(|it| it["in"] == "query" && it["name"] == name)
}
