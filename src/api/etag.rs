//! `ETag` out and `If-Match` in: nobody overwrites a change that they have not seen.
//!
//! An entity tag is the position of the last event that changed a field an admin can write
//! (`"4711"`), so it is the same on every node and survives a rebuild of the views.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponseParts, ResponseParts};
use std::convert::Infallible;
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};

use super::ApiError;

/// Most tags that one `If-Match` may name.
const MAX_TAGS: usize = 32;

/// The answer's `ETag`: `(ETag(position), Data { data })`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ETag(pub i64);

impl IntoResponseParts for ETag {
    type Error = Infallible;

    fn into_response_parts(self, mut parts: ResponseParts) -> Result<ResponseParts, Infallible> {
        if let Ok(value) = HeaderValue::from_str(&format!("\"{}\"", self.0)) {
            parts.headers_mut().insert(header::ETAG, value);
        }
        Ok(parts)
    }
}

/// What the caller believes the present state to be (RFC 9110, 13.1.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum IfMatch {
    /// No `If-Match`, or `*`: any state will do.
    #[default]
    Any,
    /// The state must be one of these positions. Empty when every tag was weak or not one of
    /// ours: such a tag matches nothing.
    Positions(Vec<i64>),
}

impl IfMatch {
    /// Whether the state at `position` is one the caller has seen.
    pub fn allows(&self, position: i64) -> bool {
        match self {
            Self::Any => true,
            Self::Positions(positions) => positions.contains(&position),
        }
    }

    /// 412 unless the state at `position` is one the caller has seen.
    pub fn check(&self, position: i64) -> Result<(), ApiError> {
        if self.allows(position) { Ok(()) } else { Err(ApiError::changed_meanwhile()) }
    }

    /// The revision that the command bus is to demand, of a state with this `position` and
    /// `revision`: it compares again, under the lock. 412 if the caller has not seen the state.
    pub fn revision(&self, position: i64, revision: i64) -> Result<Option<i64>, ApiError> {
        self.check(position)?;
        Ok((*self != Self::Any).then_some(revision))
    }

    fn parse(text: &str) -> Result<Self, ApiError> {
        let wrong = || {
            ApiError::invalid_field(
                "If-Match",
                "must be `*` or entity tags as an `ETag` header gave them, such as `\"4711\"`",
            )
        };
        if text.trim() == "*" {
            return Ok(Self::Any);
        }
        let mut positions = Vec::new();
        for (count, tag) in text.split(',').map(str::trim).enumerate() {
            let (weak, opaque) = match tag.strip_prefix("W/") {
                Some(rest) => (true, rest),
                None => (false, tag),
            };
            let opaque = opaque
                .strip_prefix('"')
                .and_then(|rest| rest.strip_suffix('"'))
                .filter(|inner| inner.bytes().all(|b| b.is_ascii_graphic() && b != b'"'))
                .ok_or_else(wrong)?;
            if count >= MAX_TAGS {
                return Err(wrong());
            }
            let decimal = !opaque.is_empty() && opaque.bytes().all(|b| b.is_ascii_digit());
            if !weak && decimal {
                positions.extend(opaque.parse::<i64>());
            }
        }
        Ok(Self::Positions(positions))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let mut all = Vec::new();
        for value in parts.headers.get_all(header::IF_MATCH) {
            all.push(value.to_str().unwrap_or("?"));
        }
        if all.is_empty() { Ok(Self::Any) } else { Self::parse(&all.join(",")) }
    }
}

impl IntoParams for IfMatch {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let schema = ObjectBuilder::new().schema_type(Type::String).examples(["\"4711\""]);
        let parameter = ParameterBuilder::new()
            .name("If-Match")
            .parameter_in(ParameterIn::Header)
            .description(Some("Only if the thing is still as its `ETag` said."))
            .schema(Some(schema));
        vec![parameter.build()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::StatusCode;
    use axum::response::IntoResponse;

    #[test]
    fn the_tag_is_a_quoted_position() {
        let response = (ETag(4711), "x").into_response();
        assert_eq!(response.headers()[header::ETAG], "\"4711\"");
    }

    #[test]
    fn a_state_that_was_seen_is_allowed() {
        assert_eq!(IfMatch::parse("*").unwrap(), IfMatch::Any);
        let seen = IfMatch::parse("\"4711\"").unwrap();
        assert!(seen.check(4711).is_ok());
        let error = seen.check(4712).unwrap_err();
        assert_eq!(error.status, StatusCode::PRECONDITION_FAILED);
        assert_eq!(error.code, "changed_meanwhile");
        assert!(IfMatch::parse("\"1\", \"2\"").unwrap().allows(2));
        assert_eq!(IfMatch::Any.revision(4711, 3).unwrap(), None);
        assert_eq!(seen.revision(4711, 3).unwrap(), Some(3));
        assert!(seen.revision(4712, 4).is_err());
        assert!(IfMatch::parse("\"abc\"").unwrap().revision(4711, 3).is_err());
    }

    #[test]
    fn weak_and_foreign_tags_match_nothing() {
        for tag in ["W/\"4711\"", "\"abc\"", "\"\"", "\"+4711\"", "\"99999999999999999999\""] {
            assert_eq!(IfMatch::parse(tag).unwrap(), IfMatch::Positions(vec![]), "{tag}");
        }
    }

    #[test]
    fn what_is_no_tag_is_refused_by_name() {
        for wrong in ["4711", "\"4711", "", "\"1\",", "\"1\"\"2\"", "*, \"1\"", "w/\"1\""] {
            let error = IfMatch::parse(wrong).unwrap_err();
            assert_eq!(error.status, StatusCode::BAD_REQUEST, "{wrong}");
            assert_eq!(error.details[0].field, "If-Match");
        }
        assert!(IfMatch::parse(&vec!["\"1\""; 33].join(",")).is_err());
    }
}
