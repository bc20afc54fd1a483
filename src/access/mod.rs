//! Who may connect: the access index (what is true now, in memory) and the decision (pure).

mod decision;
mod index;
mod load;
mod sessions;
mod state;

pub use decision::{
    Admitted, Attempt, Denied, Reason, admit, check_user, effective_rules, is_within,
};
pub use index::AccessIndex;
pub use load::{LoadError, load};
pub use sessions::{SessionEntry, Sessions};
pub use state::{
    ApiKeyEntry, Authority, CertificateEntry, GatewayEntry, LoginEntry, NetworkEntry, RuleEntry,
    State, UserEntry,
};
