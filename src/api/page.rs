//! The query of a list: `?page=`, `?per_page=`, `?q=`, `?sort=`, `?cursor=` and the resource's own
//! filters. What is unknown, out of range or given twice is a 400 that names the field.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::borrow::Cow;
use std::str::FromStr;
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};

use super::ApiError;
use crate::fields::{self, Reading};

/// `per_page` when none is asked for.
pub const DEFAULT_PER_PAGE: u32 = 20;
/// Largest `per_page`.
pub const MAX_PER_PAGE: u32 = 100;
/// Largest `page`: beyond it nobody pages but a robot.
pub const MAX_PAGE: u32 = 1_000_000;
/// Longest `q` and `cursor`.
const MAX_TEXT: usize = 200;

/// Which page of which size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paging {
    /// From 1 to [`MAX_PAGE`].
    pub page: u32,
    /// From 1 to [`MAX_PER_PAGE`].
    pub per_page: u32,
}

impl Default for Paging {
    fn default() -> Self {
        Self { page: 1, per_page: DEFAULT_PER_PAGE }
    }
}

impl Paging {
    /// SQL's `LIMIT`.
    pub fn limit(self) -> i64 {
        i64::from(self.per_page)
    }

    /// SQL's `OFFSET`.
    pub fn offset(self) -> i64 {
        i64::from(self.page.saturating_sub(1)) * i64::from(self.per_page)
    }
}

/// The order that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort {
    /// One of the resource's [`Filter::SORT`]: safe to match on.
    pub by: &'static str,
    /// `-name` was asked for.
    pub descending: bool,
}

/// The filters of one list, and what else it understands.
pub trait Filter: DeserializeOwned + IntoParams + Send {
    /// The fields that it can be sorted by. None: `sort` is unknown to it.
    const SORT: &'static [&'static str] = &[];
    /// Whether it takes `q`.
    const SEARCH: bool = false;
    /// Whether it takes `cursor`.
    const CURSOR: bool = false;
}

/// A list without filters, search or sorting.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
pub struct NoFilter {}

impl Filter for NoFilter {}

/// The query of a list. Also documents itself: `params(List<MyFilter>)`.
#[derive(Clone, Debug, Default)]
pub struct List<F = NoFilter> {
    /// Which page.
    pub paging: Paging,
    /// What to search for, trimmed and not empty.
    pub q: Option<String>,
    /// The order.
    pub sort: Option<Sort>,
    /// Where to go on.
    pub cursor: Option<String>,
    /// The resource's own filters.
    pub filter: F,
}

impl<F> List<F> {
    /// The cursor as what it stands for; 400 if it isn't one of ours.
    pub fn cursor<T: FromStr>(&self) -> Result<Option<T>, ApiError> {
        let parse = |text: &String| {
            text.parse().map_err(|_| {
                ApiError::invalid_field("cursor", "must be a `next_cursor` of this list")
            })
        };
        self.cursor.as_ref().map(parse).transpose()
    }
}

impl<F: Filter, S: Send + Sync> FromRequestParts<S> for List<F> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let mut query = pairs(parts)?;
        let mut take = |name: &str| {
            let at = query.iter().position(|(key, _)| key == name)?;
            Some(query.swap_remove(at).1)
        };
        let paging = Paging {
            page: number("page", take("page"), MAX_PAGE, 1)?,
            per_page: number("per_page", take("per_page"), MAX_PER_PAGE, DEFAULT_PER_PAGE)?,
        };
        let q = if F::SEARCH { search(take("q"))? } else { None };
        let sort = if F::SORT.is_empty() { None } else { order(take("sort"), F::SORT)? };
        let cursor = if F::CURSOR { text("cursor", take("cursor"))? } else { None };
        Ok(Self { paging, q, sort, cursor, filter: typed(&query)? })
    }
}

/// The query of what is no list.
#[derive(Clone, Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        typed(&pairs(parts)?).map(Self)
    }
}

type Pairs<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

fn pairs(parts: &Parts) -> Result<Pairs<'_>, ApiError> {
    let query = parts.uri.query().unwrap_or_default();
    let mut pairs = Pairs::new();
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        if pairs.iter().any(|(other, _)| *other == key) {
            return Err(ApiError::invalid_field(key, "is given twice"));
        }
        if value.contains('\0') {
            return Err(ApiError::invalid_field(key, fields::NUL));
        }
        pairs.push((key, value));
        if pairs.len() > 64 {
            return Err(ApiError::invalid("The query has too many fields"));
        }
    }
    Ok(pairs)
}

fn typed<T: DeserializeOwned>(pairs: &Pairs<'_>) -> Result<T, ApiError> {
    let encoded = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    let deserializer =
        serde_urlencoded::Deserializer::new(form_urlencoded::parse(encoded.as_bytes()));
    fields::read(deserializer, Reading::Strict).map_err(|error| {
        ApiError::invalid_fields(vec![match error {
            Ok(unknown) => unknown,
            Err((path, error)) => fields::describe(&path, &error.to_string(), Reading::Strict),
        }])
    })
}

fn number(
    field: &str,
    given: Option<Cow<'_, str>>,
    max: u32,
    default: u32,
) -> Result<u32, ApiError> {
    let Some(given) = given else { return Ok(default) };
    let digits = !given.is_empty() && given.bytes().all(|b| b.is_ascii_digit());
    match given.parse::<u32>() {
        Ok(number) if digits && (1..=max).contains(&number) => Ok(number),
        _ => Err(ApiError::invalid_field(field, format!("must be a whole number from 1 to {max}"))),
    }
}

fn text(field: &str, given: Option<Cow<'_, str>>) -> Result<Option<String>, ApiError> {
    let Some(given) = given else { return Ok(None) };
    let given = given.trim();
    if given.chars().count() > MAX_TEXT || given.chars().any(char::is_control) {
        return Err(ApiError::invalid_field(
            field,
            format!("must be at most {MAX_TEXT} printable characters"),
        ));
    }
    Ok((!given.is_empty()).then(|| given.to_owned()))
}

fn search(given: Option<Cow<'_, str>>) -> Result<Option<String>, ApiError> {
    text("q", given)
}

fn order(
    given: Option<Cow<'_, str>>,
    fields: &'static [&'static str],
) -> Result<Option<Sort>, ApiError> {
    let Some(given) = given else { return Ok(None) };
    let (name, descending) = match given.strip_prefix('-') {
        Some(name) => (name, true),
        None => (&*given, false),
    };
    match fields.iter().find(|field| **field == name) {
        Some(by) => Ok(Some(Sort { by, descending })),
        None => Err(ApiError::invalid_field(
            "sort",
            format!("must be one of `{}`, with `-` before it for descending", fields.join("`, `")),
        )),
    }
}

impl<F: Filter> IntoParams for List<F> {
    fn into_params(parameter_in: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let query = |name: &str, description: &str, schema: ObjectBuilder| {
            ParameterBuilder::new()
                .name(name)
                .parameter_in(ParameterIn::Query)
                .description(Some(description))
                .schema(Some(schema))
                .build()
        };
        let whole = |max: u32, default: u32| {
            ObjectBuilder::new()
                .schema_type(Type::Integer)
                .minimum(Some(1))
                .maximum(Some(max))
                .default(Some(default.into()))
        };
        let words = || ObjectBuilder::new().schema_type(Type::String).max_length(Some(MAX_TEXT));
        let mut all = vec![
            query("page", "Which page, from 1.", whole(MAX_PAGE, 1)),
            query("per_page", "How many on a page.", whole(MAX_PER_PAGE, DEFAULT_PER_PAGE)),
        ];
        if F::SEARCH {
            all.push(query("q", "Only what has this text in it.", words()));
        }
        if !F::SORT.is_empty() {
            let choices =
                F::SORT.iter().flat_map(|field| [(*field).to_owned(), format!("-{field}")]);
            let schema = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(choices));
            all.push(query("sort", "The order; with `-` before it, descending.", schema));
        }
        if F::CURSOR {
            all.push(query("cursor", "Goes on after a page: its `meta.next_cursor`.", words()));
        }
        let own = F::into_params(|| Some(parameter_in().unwrap_or(ParameterIn::Query)));
        all.into_iter().chain(own).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    #[derive(Clone, Debug, Deserialize, IntoParams)]
    struct Connections {
        status: Option<Status>,
        active: Option<bool>,
        port: Option<u16>,
    }

    #[derive(Clone, Debug, PartialEq, Deserialize, utoipa::ToSchema)]
    #[serde(rename_all = "snake_case")]
    enum Status {
        Active,
        Ended,
    }

    impl Filter for Connections {
        const SORT: &'static [&'static str] = &["name", "connected_at"];
        const SEARCH: bool = true;
        const CURSOR: bool = true;
    }

    async fn read<F: Filter>(query: &str) -> Result<List<F>, ApiError> {
        let request = Request::builder().uri(format!("/x?{query}")).body(()).unwrap();
        List::from_request_parts(&mut request.into_parts().0, &()).await
    }

    async fn fault<F: Filter + std::fmt::Debug>(query: &str) -> String {
        let error = read::<F>(query).await.unwrap_err();
        assert_eq!(error.status, 400, "{query}");
        error.details[0].field.clone()
    }

    #[tokio::test]
    async fn a_list_has_defaults() {
        let list = read::<Connections>("").await.unwrap();
        assert_eq!(list.paging, Paging { page: 1, per_page: 20 });
        assert!(list.q.is_none() && list.sort.is_none() && list.filter.status.is_none());
    }

    #[tokio::test]
    async fn a_list_reads_all_of_its_query() {
        let query = "page=3&per_page=50&q=+us%20east&sort=-name&cursor=77&status=ended&active=true&port=443";
        let list = read::<Connections>(query).await.unwrap();
        assert_eq!((list.paging.limit(), list.paging.offset()), (50, 100));
        assert_eq!(list.q.as_deref(), Some("us east"));
        assert_eq!(list.sort, Some(Sort { by: "name", descending: true }));
        assert_eq!(list.cursor::<i64>().unwrap(), Some(77));
        assert_eq!((list.filter.status, list.filter.active), (Some(Status::Ended), Some(true)));
        assert_eq!(list.filter.port, Some(443));
    }

    #[tokio::test]
    async fn what_is_wrong_is_named() {
        for (query, field) in [
            ("page=0", "page"),
            ("page=-1", "page"),
            ("page=%2B1", "page"),
            ("page=x", "page"),
            ("page=", "page"),
            ("page=1000001", "page"),
            ("per_page=0", "per_page"),
            ("per_page=101", "per_page"),
            ("page=1&page=2", "page"),
            ("sort=id", "sort"),
            ("sort=", "sort"),
            ("q=a%00b", "q"),
            ("q=a%0Ab", "q"),
            ("status=odd", "status"),
            ("active=1", "active"),
            ("port=x", "port"),
            ("nope=1", "nope"),
        ] {
            assert_eq!(fault::<Connections>(query).await, field, "{query}");
        }
        let list = read::<Connections>("cursor=x").await.unwrap();
        assert_eq!(list.cursor::<i64>().unwrap_err().details[0].field, "cursor");
    }

    #[tokio::test]
    async fn what_a_list_does_not_offer_is_unknown_to_it() {
        for field in ["q", "sort", "cursor", "status"] {
            assert_eq!(fault::<NoFilter>(&format!("{field}=x")).await, field);
        }
        assert_eq!(read::<NoFilter>("page=2").await.unwrap().paging.page, 2);
    }

    #[test]
    fn a_list_documents_what_it_offers() {
        let names = |params: Vec<Parameter>| -> Vec<String> {
            params.into_iter().map(|p| p.name).collect()
        };
        assert_eq!(names(List::<NoFilter>::into_params(|| None)), ["page", "per_page"]);
        assert_eq!(
            names(List::<Connections>::into_params(|| None)),
            ["page", "per_page", "q", "sort", "cursor", "status", "active", "port"]
        );
    }
}
