//! The REST API: one file per resource, and the parts that all of them share.
//!
//! A handler takes what it needs from the request by extractors (each refuses in the one error
//! envelope) and answers with the types of [`envelope`].

mod command;
pub mod envelope;
pub mod error;
pub mod etag;
pub mod json;
pub mod page;
pub mod path;
pub mod request_id;

pub use envelope::{Created, Data, Page};
pub use error::{ApiError, FieldError};
pub use etag::{ETag, IfMatch};
pub use json::{AgentJson, Json};
pub use page::{Filter, List, NoFilter, Paging, Sort};
pub use path::Path;
pub use request_id::RequestId;
