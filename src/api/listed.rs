//! From a list's query to the view that answers it, and from its rows to a page.
//!
//! ```ignore
//! let listed = gateways::list(&services.db, &list.wanted()?, &filter).await?;
//! Ok(Page::listed(listed.map(Body::from), list.paging))
//! ```

use super::{ApiError, List, Page, Paging};
use gatekey_projections::{Cursor, ListError, Listed, Sort, Wanted};

impl<F> List<F> {
    /// As views understand it. 400 for a cursor that is none.
    pub fn wanted(&self) -> Result<Wanted, ApiError> {
        Ok(Wanted {
            q: self.q.clone(),
            sort: self.sort.map(|sort| Sort { by: sort.by, descending: sort.descending }),
            cursor: self.cursor::<Cursor>()?,
            limit: self.paging.limit(),
            offset: self.paging.offset(),
        })
    }
}

impl<T> Page<T> {
    /// What a view gave for `paging`.
    pub fn listed(listed: Listed<T>, paging: Paging) -> Self {
        let total = u64::try_from(listed.total).unwrap_or(0);
        Self::new(listed.rows, total, paging)
            .total_exact(listed.total_exact)
            .next_cursor(listed.next_cursor.map(|cursor| cursor.to_string()))
    }
}

impl From<ListError> for ApiError {
    fn from(error: ListError) -> Self {
        match error {
            ListError::Cursor => {
                Self::invalid_field("cursor", "must be a `next_cursor` of this list")
            }
            // A list offers no order that its view has not: our own fault.
            ListError::Sort(_) => Self::internal(error),
            ListError::Database(error) => error.into(),
        }
    }
}
