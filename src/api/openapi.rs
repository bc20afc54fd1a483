//! The OpenAPI document: written from the routes themselves, served at `/api/v1/openapi.json` and
//! readable at `/docs`.

#[cfg(test)]
mod breaking;
mod finish;
#[cfg(test)]
mod snapshot;
#[cfg(test)]
mod walk;

pub use finish::finish;

use axum::body::Bytes;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::IntoResponse;
use axum::{Extension, Router};
use gatekey_aggregates::{access_rule, values};
use std::borrow::Cow;
use utoipa::ToSchema;
use utoipa::openapi::extensions::ExtensionsBuilder;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::path::{Operation, ParameterIn, PathItem};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{
    Components, Content, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, Ref, RefOr,
    ResponseBuilder, Schema, ServerBuilder,
};
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::error::{ApiError, ErrorBody, ErrorContent, FieldError};
use crate::auth::rate_limits::Class;
use crate::auth::scopes::{Need, needed};

/// Where the document is.
pub const PATH: &str = "/api/v1/openapi.json";
/// The extension of every operation that says who may call it: an [`Access`].
pub const ACCESS: &str = "x-gatekey-access";

/// The extension of every operation that says which scope an API key needs for it: a
/// [`Scope`](values::Scope), or `none`.
pub const SCOPE: &str = "x-gatekey-scope";

/// What holds for all operations.
const DESCRIPTION: &str = "\
The control plane of a zero-trust VPN: who may connect to which gateway, and what they may reach there.

An answer is `{\"data\": …}`; that of a list has `meta` too, with `total`, `page` and `per_page`. \
What agents send and get is flat. An error is `{\"error\": {\"code\", \"message\"}}`: `code` is \
stable, `details` names the fields at fault, and `request_id` is the `X-Request-Id` that every \
answer carries. Fields, and values of an answer's enumerations, may be added; what is there stays. \
Unknown fields in a body or query are refused, except by what agents call.

`ETag` goes into `If-Match` of the change that follows, which is refused with 412 if somebody else \
was faster. Times are RFC 3339 in UTC. Ids are opaque.";

/// The chapters of the document, in their order.
const TAGS: &[(&str, &str)] = &[
    ("Auth", "Signing in and out, and one's own logins."),
    ("Me", "Who one is."),
    ("API keys", "One's own keys, for scripts."),
    ("Configs", "VPN configurations: made, fetched, revoked."),
    ("Gateways", "OpenVPN servers, and who may use them."),
    ("Mesh", "Hubs that connect whole sites, and who may use them."),
    ("Networks", "The addresses behind gateways."),
    ("Access rules", "What may be reached, and by whom."),
    ("Geo-fence", "From where one may connect."),
    ("Users", "People, and what is theirs."),
    ("Groups", "What the identity provider, or an admin, puts people into."),
    ("Connections", "Who is connected, and who was."),
    ("Audit", "Who changed what, when, from where."),
    ("PKI", "The authority, its certificates, and which are revoked."),
    ("Settings", "What admins decide for the whole."),
    ("Gateway", "What the agent beside an OpenVPN server calls."),
    ("Server", "The server itself: whether it lives, and what it offers."),
];

/// Swagger UI puts styles into elements and pictures into its style sheet.
const DOCS_CSP: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'",
);

/// Who may call an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Whoever finds it.
    Anyone,
    /// Any signed-in, active user.
    Member,
    /// Auditors and admins.
    Auditor,
    /// Admins.
    Admin,
    /// A gateway's agent.
    Gateway,
}

impl Access {
    /// As in the document.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Anyone => "anyone",
            Self::Member => "member",
            Self::Auditor => "auditor",
            Self::Admin => "admin",
            Self::Gateway => "gateway",
        }
    }

    fn security(self) -> Vec<SecurityRequirement> {
        let by = |scheme: &str| SecurityRequirement::new(scheme, Vec::<String>::new());
        match self {
            Self::Anyone => vec![SecurityRequirement::default()],
            Self::Member | Self::Auditor | Self::Admin => vec![by("session"), by("bearer")],
            Self::Gateway => vec![by("gateway_token")],
        }
    }
}

/// Says in the document who may call the operations of `routes`. That they refuse everybody else
/// is the work of their extractors ([`crate::auth`] has both in one table); a test compares the two.
pub fn callable_by<S>(access: Access, mut routes: OpenApiRouter<S>) -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
{
    for operation in operations(routes.get_openapi_mut()) {
        operation.security = Some(access.security());
        note(operation, ACCESS, access.as_str());
    }
    routes
}

fn note(operation: &mut Operation, name: &str, text: &str) {
    let note = ExtensionsBuilder::new().add(name, text).build();
    match &mut operation.extensions {
        Some(extensions) => extensions.merge(note),
        none => *none = Some(note),
    }
}

/// The document before any route is in it.
pub fn base() -> OpenApi {
    let info = InfoBuilder::new()
        .title("GateKey")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(DESCRIPTION))
        .license(Some(
            LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build(),
        ))
        .build();
    let mut components = Components::new();
    let mut add = |(name, schema): (Cow<'static, str>, _)| {
        components.schemas.insert(name.into_owned(), schema);
    };
    add(named::<ErrorBody>());
    add(named::<ErrorContent>());
    add(named::<FieldError>());
    // What stands in paths and queries: utoipa only collects what stands in bodies.
    add(named::<values::AccessRuleId>());
    add(named::<values::ApiKeyId>());
    add(named::<values::CertificateId>());
    add(named::<values::GatewayId>());
    add(named::<values::GeoFenceRuleId>());
    add(named::<values::GroupName>());
    add(named::<values::LoginId>());
    add(named::<values::MeshHubId>());
    add(named::<values::NetworkId>());
    add(named::<values::Role>());
    add(named::<values::SessionId>());
    add(named::<values::SpokeId>());
    add(named::<values::UserId>());
    add(named::<access_rule::RuleProtocol>());
    add(named::<access_rule::TargetType>());
    add(named::<super::configs::ConfigStatus>());
    add(named::<super::connections::Status>());
    add(named::<super::mesh::HubStatus>());
    for (name, description, _) in ERRORS {
        let content = Content::new(Some(Ref::from_schema_name(ErrorBody::name())));
        let mut response =
            ResponseBuilder::new().description(*description).content("application/json", content);
        if *name == "RateLimited" {
            for (header, description) in LIMIT_HEADERS {
                response = response.header(*header, whole_number(description));
            }
        }
        components.responses.insert((*name).to_owned(), RefOr::T(response.build()));
    }
    let session = "The cookie that a sign-in sets. Requests that change anything must also show \
                   that they come from the same origin.";
    let bearer = "A session token, or an API key (`gk_…`). What scope a key needs for an operation \
                  stands there as `x-gatekey-scope`.";
    let gateway = "A gateway's token. Agents may send it as `token` in the body instead.";
    components.add_security_scheme(
        "session",
        SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::with_description(
            "gatekey_session",
            session,
        ))),
    );
    components.add_security_scheme(
        "bearer",
        SecurityScheme::Http(
            HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(bearer)).build(),
        ),
    );
    components.add_security_scheme(
        "gateway_token",
        SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(
            "X-Gateway-Token",
            gateway,
        ))),
    );
    let tags = TAGS.iter().map(|(name, description)| {
        TagBuilder::new().name(*name).description(Some(*description)).build()
    });
    let server = ServerBuilder::new().url("/").description(Some("Where this document is")).build();
    OpenApiBuilder::new()
        .info(info)
        .servers(Some([server]))
        .tags(Some(tags))
        .components(Some(components))
        .build()
}

fn named<T: ToSchema>() -> (Cow<'static, str>, RefOr<Schema>) {
    (T::name(), T::schema())
}

/// Adds to every operation the scope that an API key needs for it, and the error answers that
/// follow from what it takes, so that handlers need only tell their own.
pub fn complete(document: &mut OpenApi) {
    let mut paths = std::mem::take(&mut document.paths.paths);
    for (path, item) in &mut paths {
        for (method, operation) in operations_of(item) {
            // A route that is not known there needs all.
            let need = needed(&method, path).unwrap_or(Need::Scope(values::Scope::All));
            note(operation, SCOPE, &need.to_string());
            let shape = Shape::of(path, operation);
            for (name, _, applies) in ERRORS {
                if let Some(status) = applies(&shape) {
                    let answers = &mut operation.responses.responses;
                    answers
                        .entry(status.to_owned())
                        .or_insert_with(|| RefOr::Ref(Ref::from_response_name(*name)));
                }
            }
        }
    }
    document.paths.paths = paths;
}

/// What an operation takes.
struct Shape {
    agent: bool,
    limited: bool,
    secured: bool,
    body: bool,
    in_path: bool,
    in_query: bool,
    conditional: bool,
    keyed: bool,
}

impl Shape {
    fn of(path: &str, operation: &Operation) -> Self {
        let parameters: Vec<_> = operation
            .parameters
            .iter()
            .flatten()
            .filter_map(|parameter| match parameter {
                RefOr::T(parameter) => Some(parameter),
                RefOr::Ref(_) => None,
            })
            .collect();
        let takes = |place: &ParameterIn| parameters.iter().any(|it| it.parameter_in == *place);
        let anyone = Access::Anyone.security();
        Self {
            agent: path.starts_with("/api/v1/gateway/"),
            limited: Class::of(path).is_some(),
            secured: operation.security.as_ref().is_some_and(|security| *security != anyone),
            body: operation.request_body.is_some(),
            // A serial is no thing's id: every one has an answer.
            in_path: takes(&ParameterIn::Path) && !path.contains("/pki/check/"),
            in_query: takes(&ParameterIn::Query),
            conditional: parameters.iter().any(|it| it.name == "If-Match"),
            keyed: parameters.iter().any(|it| it.name == super::idempotency::HEADER),
        }
    }
}

/// What an answer says of a limit.
const LIMIT_HEADERS: &[(&str, &str)] = &[
    ("Retry-After", "In how many seconds the next request is taken."),
    ("X-RateLimit-Limit", "How many requests a minute are taken. On every answer here."),
    ("X-RateLimit-Remaining", "How many are left at once. On every answer here."),
    ("X-RateLimit-Reset", "In how many seconds all are left again. On every answer here."),
];

fn whole_number(description: &str) -> Header {
    HeaderBuilder::new()
        .schema(Some(ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0))))
        .description(Some(description))
        .build()
}

type Applies = fn(&Shape) -> Option<&'static str>;

/// Name, description, and the status under which it belongs to an operation of that shape.
const ERRORS: &[(&str, &str, Applies)] = &[
    ("Invalid", "Malformed or invalid: `details` names the fields.", |it| {
        (it.body || it.in_query || it.conditional).then_some("400")
    }),
    ("Unauthorized", "No credential, or a wrong or expired one.", |it| it.secured.then_some("401")),
    ("Forbidden", "Known, but not allowed; with an API key also `insufficient_scope`.", |it| {
        (it.secured && !it.agent).then_some("403")
    }),
    ("NotFound", "There is no such thing.", |it| it.in_path.then_some("404")),
    ("KeyUsed", "`idempotency_key_reused` or `in_progress`.", |it| it.keyed.then_some("409")),
    ("ChangedMeanwhile", "It was changed since it was read.", |it| it.conditional.then_some("412")),
    ("TooLarge", "The body is over 1 MiB.", |it| it.body.then_some("413")),
    ("UnsupportedMediaType", "The body is not sent as `application/json`.", |it| {
        (it.body && !it.agent).then_some("415")
    }),
    ("RateLimited", "Too many requests: `Retry-After` says when to go on.", |it| {
        it.limited.then_some("429")
    }),
    ("Internal", "Something went wrong here.", |_| Some("500")),
    ("Unavailable", "Not now, but soon: `Retry-After` says when.", |_| Some("503")),
];

fn operations(document: &mut OpenApi) -> impl Iterator<Item = &mut Operation> {
    document.paths.paths.values_mut().flat_map(operations_of).map(|(_, operation)| operation)
}

fn operations_of(item: &mut PathItem) -> impl Iterator<Item = (Method, &mut Operation)> {
    [
        (Method::GET, &mut item.get),
        (Method::PUT, &mut item.put),
        (Method::POST, &mut item.post),
        (Method::DELETE, &mut item.delete),
        (Method::OPTIONS, &mut item.options),
        (Method::HEAD, &mut item.head),
        (Method::PATCH, &mut item.patch),
    ]
    .into_iter()
    .filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// The document as it is sent.
#[derive(Clone, Debug)]
pub struct Document(Bytes);

impl Document {
    /// Of a [finished](finish()) document.
    pub fn new(document: &serde_json::Value) -> Result<Self, serde_json::Error> {
        serde_json::to_vec(document).map(|json| Self(json.into()))
    }
}

/// The OpenAPI document
///
/// This document.
#[utoipa::path(
    get, path = "/openapi.json", tag = "Server", operation_id = "getOpenApi",
    responses((status = 200, description = "The document.", body = serde_json::Value,
        example = json!({"openapi": "3.1.0", "info": {"title": "GateKey"}, "paths": {}})))
)]
pub async fn openapi(Extension(document): Extension<Document>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], document.0)
}

/// The viewer at `/docs`. Its files are in the binary.
pub fn docs<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let config = Config::from(PATH)
        .validator_url("none")
        .persist_authorization(false)
        .with_credentials(true)
        .display_request_duration(true);
    let ui: Router<S> = SwaggerUi::new("/docs").config(config).into();
    ui.layer(from_fn(|request, next: Next| async move {
        let mut response = next.run(request).await;
        if response.status() == StatusCode::NOT_FOUND {
            return ApiError::not_found().into_response();
        }
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, DOCS_CSP);
        response
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::http::{Request, StatusCode};
    use serde_json::Value;
    use tower::ServiceExt;
    use utoipa_axum::routes;

    /// Read them
    #[utoipa::path(get, path = "/things", tag = "things", responses((status = 200)))]
    async fn list() -> &'static str {
        "list"
    }

    /// Make one
    #[utoipa::path(post, path = "/things", tag = "things", responses((status = 200)))]
    async fn create() -> &'static str {
        "create"
    }

    #[tokio::test]
    async fn one_path_may_be_read_by_some_and_changed_by_others() {
        let read = OpenApiRouter::<()>::new().routes(routes!(list));
        let write = OpenApiRouter::new().routes(routes!(create));
        let both = callable_by(Access::Auditor, read).merge(callable_by(Access::Admin, write));
        let (router, document) =
            OpenApiRouter::with_openapi(base()).nest("/api/v1", both).split_for_parts();
        let document: Value = serde_json::to_value(document).unwrap();
        let things = &document["paths"]["/api/v1/things"];
        assert_eq!(things["get"][ACCESS], "auditor");
        assert_eq!(things["post"][ACCESS], "admin");
        for method in ["GET", "POST"] {
            let request = Request::builder().method(method).uri("/api/v1/things");
            let answer = router.clone().oneshot(request.body(Body::empty()).unwrap()).await;
            assert_eq!(answer.unwrap().status(), StatusCode::OK, "{method}");
        }
    }
}
