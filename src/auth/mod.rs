//! Who may call, and how they prove it.
//!
//! A handler sees a request only through one of these, as its first argument (what it learns of a
//! request after that, a stranger must not make it say):
//!
//! | extractor | who | `openapi::Access` |
//! |---|---|---|
//! | [`Public`] | anyone; nothing is proven | `Anyone` |
//! | `Option<`[`SignedIn`]`>` | anyone; who they are, if they prove it | `Anyone` |
//! | [`SignedIn`] | any active user, even one who must change their password first | `Member` |
//! | [`Member`] | any active user | `Member` |
//! | [`Auditor`] | auditors and admins: to read | `Auditor` |
//! | [`Admin`] | admins: to change | `Admin` |
//!
//! The document says the same, by resource:
//!
//! ```ignore
//! pub fn routes() -> OpenApiRouter<AppState> {
//!     let read = OpenApiRouter::new().routes(routes!(list)).routes(routes!(show));
//!     let change = OpenApiRouter::new().routes(routes!(create)).routes(routes!(update, remove));
//!     callable_by(Access::Auditor, read).merge(callable_by(Access::Admin, change))
//! }
//! ```
//!
//! Each but [`Public`] is a [`Caller`]: `admin.user_id`, `admin.metadata(None)`. Refusals are 401
//! `unauthorized`, 403 `forbidden`, 403 `password_change_required`, for what a cookie proves 403
//! `cross_origin`, and for an API key 403 `insufficient_scope`: by method and route each of them
//! looks up in [`scopes`] what a key needs.

pub mod back_off;
pub mod cookie;
pub mod credential;
mod extract;
pub mod local;
pub mod login;
pub mod password;
mod principal;
pub mod rate_limits;
mod same_origin;
pub mod scopes;

pub use extract::{Admin, Auditor, Member, Public, SignedIn};
pub use principal::{Caller, Circumstances, KeyOwner, Proof};
