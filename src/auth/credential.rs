//! What a caller shows: a session's token or an API key, as bearer token or in the cookie.

use super::cookie;
use crate::entropy::{Entropy, NoEntropy};
use axum::http::{HeaderMap, header};

/// What a session's token begins with.
pub const SESSION_PREFIX: &str = "gks_";
/// What an API key begins with.
pub const API_KEY_PREFIX: &str = "gk_";
/// Longest token that is looked at; ours have 47 characters at most.
const MAX_TOKEN: usize = 128;

/// A new session's token.
pub fn new_session_token(entropy: &Entropy) -> Result<String, NoEntropy> {
    entropy.token(SESSION_PREFIX)
}

/// A new API key.
pub fn new_api_key(entropy: &Entropy) -> Result<String, NoEntropy> {
    entropy.token(API_KEY_PREFIX)
}

/// What a request shows. A bearer token goes before the cookie, also if it is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential<'a> {
    /// A session's token.
    Session {
        /// The token.
        token: &'a str,
        /// Whether the browser sent it by itself: then it proves nothing of who made the request.
        cookie: bool,
    },
    /// An API key.
    ApiKey(&'a str),
    /// Something that can't be either.
    Unusable,
}

impl<'a> Credential<'a> {
    /// What these headers show, if anything.
    pub fn of(headers: &'a HeaderMap) -> Option<Self> {
        match bearer(headers) {
            Some(Ok(token)) if token.starts_with(SESSION_PREFIX) => {
                Some(Self::Session { token, cookie: false })
            }
            Some(Ok(token)) if token.starts_with(API_KEY_PREFIX) => Some(Self::ApiKey(token)),
            Some(_) => Some(Self::Unusable),
            None => cookie::read(headers).map(|found| match found {
                Ok(token) if token.starts_with(SESSION_PREFIX) && token.len() <= MAX_TOKEN => {
                    Self::Session { token, cookie: true }
                }
                _ => Self::Unusable,
            }),
        }
    }
}

/// More than one, or one that is unreadable.
pub(super) struct Ambiguous;

fn bearer(headers: &HeaderMap) -> Option<Result<&str, Ambiguous>> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let first = given.next()?;
    if given.next().is_some() {
        return Some(Err(Ambiguous));
    }
    let Ok(text) = first.to_str() else { return Some(Err(Ambiguous)) };
    let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        // Meant for a proxy before us.
        return None;
    }
    let token = token.trim();
    Some(if token.len() <= MAX_TOKEN { Ok(token) } else { Err(Ambiguous) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn headers(given: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn a_bearer_token_is_told_by_its_prefix() {
        let session = Credential::Session { token: "gks_abc", cookie: false };
        for text in ["Bearer gks_abc", "bearer gks_abc", "BEARER  gks_abc "] {
            assert_eq!(Credential::of(&headers(&[("authorization", text)])), Some(session));
        }
        let key = headers(&[("authorization", "Bearer gk_abc")]);
        assert_eq!(Credential::of(&key), Some(Credential::ApiKey("gk_abc")));
        let long = format!("Bearer gk_{}", "a".repeat(MAX_TOKEN));
        for text in ["Bearer", "Bearer ", "Bearer abc", "Bearer GK_abc", &long] {
            let given = headers(&[("authorization", text)]);
            assert_eq!(Credential::of(&given), Some(Credential::Unusable), "{text}");
        }
    }

    #[test]
    fn a_bearer_token_goes_before_the_cookie_even_if_it_is_wrong() {
        let cookie = ("cookie", "gatekey_session=gks_cookie");
        let both = headers(&[cookie, ("authorization", "Bearer gk_abc")]);
        assert_eq!(Credential::of(&both), Some(Credential::ApiKey("gk_abc")));
        let wrong = headers(&[cookie, ("authorization", "Bearer nonsense")]);
        assert_eq!(Credential::of(&wrong), Some(Credential::Unusable));
        let two = [("authorization", "Bearer gk_abc"), ("authorization", "Bearer gk_abc")];
        assert_eq!(Credential::of(&headers(&two)), Some(Credential::Unusable));
        // Another scheme is a proxy's business.
        let basic = headers(&[cookie, ("authorization", "Basic YTpi")]);
        let by_cookie = Credential::Session { token: "gks_cookie", cookie: true };
        assert_eq!(Credential::of(&basic), Some(by_cookie));
    }

    #[test]
    fn the_cookie_holds_sessions_only() {
        assert_eq!(Credential::of(&headers(&[])), None);
        let key = headers(&[("cookie", "gatekey_session=gk_abc")]);
        assert_eq!(Credential::of(&key), Some(Credential::Unusable));
    }
}
