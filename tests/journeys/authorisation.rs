//! Who may call what: every operation of the OpenAPI document, by everybody. The document says who
//! may; whoever may not is told so before anything else of what they sent is looked at.

use crate::harness::openapi::{Operation, operations};
use crate::harness::server::ADMIN_PASSWORD;
use crate::harness::{Answer, Api, Kind, World};
use reqwest::{Method, RequestBuilder};
use serde_json::json;
use std::collections::{BTreeSet, HashMap};

/// Those who call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Who {
    Nobody,
    Stranger,
    Member,
    MembersKey,
    Auditor,
    AuditorsKey,
    Admin,
    AdminsKey,
    /// An admin's key with a scope that is another than the one needed.
    NarrowKey,
    AdminsCookie,
    ForeignPage,
    Newcomer,
    Gateway,
}

const KEYS: [Who; 4] = [Who::MembersKey, Who::AuditorsKey, Who::AdminsKey, Who::NarrowKey];

/// What they are to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// Anything but that they may not.
    Something,
    /// 401.
    WhoAreYou,
    /// 403, with this code.
    No(&'static str),
}

struct Caller {
    who: Who,
    api: Api,
    /// A cookie that a browser sends, and what it says of the page that made it send it.
    cookie: Option<(String, &'static str)>,
}

both! {
    async fn everybody_calls_everything(world: World) {
        let anyone = world.anyone();
        let mut operations = operations(&anyone).await;
        // Whoever signs out is somebody no more.
        operations.sort_by_key(|it| it.template.ends_with("/auth/logout"));
        assert!(operations.len() >= 70, "the document has {} operations", operations.len());
        let (callers, keys) = callers(&anyone, &world.admin().await, &operations).await;
        let mut refused = 0;
        for operation in &operations {
            let narrow = keys.of(operation);
            for caller in callers.iter().chain(&narrow) {
                let told = told(operation, caller.who);
                let mut answers = vec![caller.calls(operation, &operation.path_to_nothing()).await];
                if told != Told::Something {
                    refused += 1;
                    answers.push(caller.calls_nonsense(operation).await);
                }
                for answer in answers {
                    check(&answer, told, operation, caller.who);
                }
            }
        }
        assert!(refused > 300, "{refused} were refused");
    }
}

#[tokio::test]
async fn the_marks_are_what_the_paths_promise() {
    let world = World::start(Kind::Sqlite);
    for operation in operations(&world.anyone()).await {
        let path = operation.template.strip_prefix("/api/v1").unwrap_or(&operation.template);
        let reads = operation.method == Method::GET;
        let open = ["/auth/", "/pki/", "/openapi.json", "/health", "/ready", "/metrics"];
        let expected = match path {
            _ if path.starts_with("/admin/") && reads => "auditor",
            _ if path.starts_with("/admin/") => "admin",
            _ if path.starts_with("/gateway/") => "gateway",
            _ if open.iter().any(|it| path.starts_with(it)) => continue,
            _ => "member",
        };
        let mark = &operation.document["x-gatekey-access"];
        assert_eq!(mark, expected, "{} {path}", operation.method);
    }
}

/// Keys that may one thing: of a member, an auditor and an admin, by scope.
struct Keys(HashMap<(Who, String), Api>);

impl Keys {
    /// One of each for every scope that an operation needs.
    async fn make(people: [(Who, &Api); 3], operations: &[Operation]) -> Self {
        let scopes: BTreeSet<_> = operations.iter().map(scope).filter(|it| it != "none").collect();
        assert!(scopes.len() > 15, "{scopes:?}");
        let mut keys = HashMap::new();
        for (who, api) in people {
            for scope in &scopes {
                let body = json!({"name": "narrow", "scopes": [scope]});
                let made = api.post("/api-keys", &body).await.created();
                let key = api.bearer(made["key"].as_str().expect("a key"));
                keys.insert((who, scope.clone()), key);
            }
        }
        Self(keys)
    }

    /// Whoever has exactly the scope that the operation needs, and one who has another.
    fn of(&self, operation: &Operation) -> Vec<Caller> {
        let needed = scope(operation);
        let other = if needed == "vpn:connect" { "audit:read" } else { "vpn:connect" };
        let caller = |(who, scope): (Who, &str), told_as| {
            let api = self.0[&(who, scope.to_owned())].clone();
            Caller { who: told_as, api, cookie: None }
        };
        let mut callers = vec![caller((Who::AdminsKey, other), Who::NarrowKey)];
        if needed != "none" {
            let exact = [Who::MembersKey, Who::AuditorsKey, Who::AdminsKey];
            callers.extend(exact.map(|who| caller((who, &needed), who)));
        }
        callers
    }
}

/// What the document says that a key needs.
fn scope(operation: &Operation) -> String {
    let at = format!("{} {}", operation.method, operation.template);
    let scope = operation.document["x-gatekey-scope"].as_str();
    scope.unwrap_or_else(|| panic!("{at}: nobody says what a key needs for it")).to_owned()
}

/// One of each. Made before anybody is told no.
async fn callers(anyone: &Api, admin: &Api, operations: &[Operation]) -> (Vec<Caller>, Keys) {
    let ada = admin.create_user("ada").await.api;
    let auditor = admin.create_user_with("vera", json!({"role": "auditor"})).await.api;
    let newcomer =
        admin.create_user_with("nora", json!({"must_change_password": true, "role": "admin"}));
    let newcomer = newcomer.await.api;
    let gateway = admin.create_gateway("us-east-1").await;
    let by_cookie = |page: &'static str| async move {
        let signed_in = anyone.try_login("admin", ADMIN_PASSWORD).await;
        let cookie = signed_in.header("set-cookie").split(';').next().unwrap_or_default();
        assert!(cookie.starts_with("gatekey_session="), "{cookie}");
        Some((cookie.to_owned(), page))
    };
    let own_page = by_cookie("same-origin").await;
    let foreign_page = by_cookie("cross-site").await;
    let caller = |who, api: &Api| Caller { who, api: api.clone(), cookie: None };
    let people = [(Who::MembersKey, &ada), (Who::AuditorsKey, &auditor), (Who::AdminsKey, admin)];
    let keys = Keys::make(people, operations).await;
    let callers = vec![
        caller(Who::Nobody, anyone),
        caller(Who::Stranger, &anyone.bearer("gks_of-nobody")),
        caller(Who::MembersKey, &with_key(&ada).await),
        caller(Who::AuditorsKey, &with_key(&auditor).await),
        caller(Who::AdminsKey, &with_key(admin).await),
        caller(Who::Member, &ada),
        caller(Who::Auditor, &auditor),
        caller(Who::Admin, admin),
        Caller { who: Who::AdminsCookie, api: anyone.clone(), cookie: own_page },
        Caller { who: Who::ForeignPage, api: anyone.clone(), cookie: foreign_page },
        caller(Who::Newcomer, &newcomer),
        caller(Who::Gateway, &gateway.agent),
    ];
    (callers, keys)
}

/// The same person by an API key.
async fn with_key(api: &Api) -> Api {
    let body = json!({"name": "ci", "scopes": ["*"]});
    let made = api.post("/api-keys", &body).await.created();
    api.bearer(made["key"].as_str().expect("a key"))
}

/// What the document's mark means for a caller.
fn told(operation: &Operation, who: Who) -> Told {
    let mark = operation.document["x-gatekey-access"].as_str().unwrap_or_default();
    let at = format!("{} {}", operation.method, operation.template);
    let changes = operation.method != Method::GET;
    // The two that are for some of those who bear the mark: whose key it is, and who must change
    // their password first.
    let for_keys = operation.template.ends_with("/auth/api-key/validate");
    let for_newcomers = operation.template.ends_with("/auth/local/change-password");
    match (mark, who) {
        ("anyone", Who::ForeignPage) if operation.template.ends_with("/auth/logout") => {
            Told::No("cross_origin")
        }
        ("anyone", _) | ("gateway", Who::Gateway) => Told::Something,
        ("gateway", _) => Told::WhoAreYou,
        ("member" | "auditor" | "admin", Who::Nobody | Who::Stranger | Who::Gateway) => {
            Told::WhoAreYou
        }
        ("member" | "auditor" | "admin", Who::ForeignPage) if changes => Told::No("cross_origin"),
        ("member", Who::Newcomer) if for_newcomers => Told::Something,
        ("member" | "auditor" | "admin", Who::Newcomer) => Told::No("password_change_required"),
        ("member", who) if for_keys && !KEYS.contains(&who) => Told::WhoAreYou,
        ("auditor" | "admin", Who::Member | Who::MembersKey)
        | ("admin", Who::Auditor | Who::AuditorsKey) => Told::No("forbidden"),
        (_, Who::NarrowKey) if scope(operation) != "none" => Told::No("insufficient_scope"),
        ("member" | "auditor" | "admin", _) => Told::Something,
        _ => panic!("{at}: nobody says who may call it: {mark:?}"),
    }
}

#[track_caller]
fn check(answer: &Answer, told: Told, operation: &Operation, who: Who) {
    let status = answer.status.as_u16();
    let at = format!("{who:?}: {} {}", operation.method, operation.template);
    match told {
        Told::Something => {
            assert!(![401, 403].contains(&status), "{at} is refused: {}", answer.text());
            assert!(status < 500, "{at}: {status} {}", answer.text());
        }
        Told::WhoAreYou => {
            assert_eq!(status, 401, "{at}: {}", answer.text());
            answer.envelope(401);
        }
        Told::No(code) => {
            assert_eq!(status, 403, "{at}: {}", answer.text());
            answer.refused(403, code);
        }
    }
}

impl Caller {
    /// With the least of a body, where there is one.
    async fn calls(&self, operation: &Operation, path: &str) -> Answer {
        let with_body = operation.body.is_some();
        self.sends(
            operation,
            path,
            |request| {
                if with_body { request.json(&json!({})) } else { request }
            },
        )
        .await
    }

    /// With a path, a query and a body that are wrong in every way.
    async fn calls_nonsense(&self, operation: &Operation) -> Answer {
        let path = operation.template.replace('{', "%00").replace('}', "%ff") + "?page=x&nope=1";
        let with = |request: RequestBuilder| {
            request.header("content-type", "text/plain").header("if-match", "?").body("{")
        };
        self.sends(operation, &path, with).await
    }

    async fn sends(
        &self,
        operation: &Operation,
        path: &str,
        with: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Answer {
        let send = |request: RequestBuilder| match &self.cookie {
            Some((cookie, page)) => {
                with(request.header("cookie", cookie).header("sec-fetch-site", *page))
            }
            None => with(request),
        };
        self.api.send(operation.method.clone(), path, send).await
    }
}
