//! Who may connect: the access index (what is true now, in memory) and the decision (pure).

mod decision;
mod explain;
mod fence;
mod fences;
mod index;
mod load;
mod mesh;
mod sessions;
mod state;

pub use decision::{
    Admitted, Attempt, Denied, Reason, Way, admit, check_user, effective_rules, is_within,
};
pub use explain::{
    Check, Destination, Explanation, Host, Outcome, Question, Reach, Unknown, explain, said,
};
pub use fence::{Fence, Level, Verdict, check_fence, judge};
pub use fences::{FenceEntry, FenceRules, Fences};
pub use index::AccessIndex;
pub use load::{LoadError, load};
pub(crate) use load::{fence_definition, gateway_configuration, rule_definition};
pub use mesh::{HubEntry, Hubs, SpokeEntry};
pub use sessions::{SessionEntry, Sessions};
pub use state::{
    ApiKeyEntry, Authority, CertificateEntry, GatewayEntry, LoginEntry, NetworkEntry, RuleEntry,
    State, UserEntry,
};
