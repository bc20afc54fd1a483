//! How answers are wrapped: `{"data": …}`, with `meta` for lists.

use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::page::Paging;

/// One thing.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Data<T> {
    /// The thing.
    pub data: T,
}

impl<T: Serialize> IntoResponse for Data<T> {
    fn into_response(self) -> Response {
        axum::Json(self).into_response()
    }
}

/// A page of a list.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Page<T> {
    /// What is on the page.
    pub data: Vec<T>,
    /// Where the page lies in the list.
    pub meta: Meta,
}

/// Where a page lies in its list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Meta {
    /// How many there are on all pages.
    pub total: u64,
    /// False where there are at least so many: of what filters and `q` leave, no more than 10,000
    /// are counted. Absent where there are exactly so many.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = false)]
    pub total_exact: Option<bool>,
    /// This page, from 1.
    pub page: u32,
    /// At most so many are on a page.
    pub per_page: u32,
    /// Of long histories: what `cursor` gives the following ones. Absent after the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "4711")]
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// The page that `paging` asked for, of a list of `total`.
    pub fn new(data: Vec<T>, total: u64, paging: Paging) -> Self {
        let Paging { page, per_page } = paging;
        let meta = Meta { total, total_exact: None, page, per_page, next_cursor: None };
        Self { data, meta }
    }

    /// With whether there are exactly so many.
    pub fn total_exact(mut self, exact: bool) -> Self {
        self.meta.total_exact = (!exact).then_some(false);
        self
    }

    /// With the cursor that continues it, if anything follows.
    pub fn next_cursor(mut self, cursor: Option<String>) -> Self {
        self.meta.next_cursor = cursor;
        self
    }

    /// With every item turned into another.
    pub fn map<U>(self, f: impl FnMut(T) -> U) -> Page<U> {
        Page { data: self.data.into_iter().map(f).collect(), meta: self.meta }
    }
}

impl<T: Serialize> IntoResponse for Page<T> {
    fn into_response(self) -> Response {
        axum::Json(self).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_says_where_it_lies() {
        let paging = Paging { page: 2, per_page: 1 };
        let page = Page::new(vec!["b"], 3, paging).next_cursor(Some("7".to_owned()));
        let page = page.total_exact(true);
        assert_eq!(
            serde_json::to_value(&page).unwrap(),
            serde_json::json!({
                "data": ["b"],
                "meta": {"total": 3, "page": 2, "per_page": 1, "next_cursor": "7"},
            })
        );
        let meta = serde_json::to_value(page.total_exact(false).meta).unwrap();
        assert_eq!((&meta["total"], &meta["total_exact"]), (&3.into(), &false.into()));
    }
}
