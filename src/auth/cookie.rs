//! The session's cookie: `HttpOnly`, `SameSite=Lax`, `Secure` where people reach us by HTTPS.

use super::credential::Ambiguous;
use crate::config::Config;
use axum::http::{HeaderMap, HeaderValue, header};
use chrono::{DateTime, Utc};

/// Its name.
pub const NAME: &str = "gatekey_session";

/// The `Set-Cookie` that keeps `token` until `expires_at`.
pub fn set(
    config: &Config,
    token: &str,
    now: DateTime<Utc>,
    expires_at: DateTime<Utc>,
) -> Option<HeaderValue> {
    let seconds = (expires_at - now).num_seconds().max(0);
    let mut header = HeaderValue::from_str(&text(config, token, seconds)).ok()?;
    header.set_sensitive(true);
    Some(header)
}

/// The `Set-Cookie` that removes it.
pub fn clear(config: &Config) -> Option<HeaderValue> {
    HeaderValue::from_str(&text(config, "", 0)).ok()
}

fn text(config: &Config, token: &str, max_age: i64) -> String {
    let secure = if config.is_https() { "; Secure" } else { "" };
    format!("{NAME}={token}; Path=/; Max-Age={max_age}; HttpOnly; SameSite=Lax{secure}")
}

/// The token in these headers. Two that differ are none: one of them may be planted there by a
/// neighbour under the same domain.
pub(super) fn read(headers: &HeaderMap) -> Option<Result<&str, Ambiguous>> {
    let mut found = None;
    for value in headers.get_all(header::COOKIE) {
        for pair in value.to_str().unwrap_or_default().split(';') {
            let Some((name, token)) = pair.trim().split_once('=') else { continue };
            if name != NAME || token.is_empty() {
                continue;
            }
            match found {
                None => found = Some(token),
                Some(first) if first == token => {}
                Some(_) => return Some(Err(Ambiguous)),
            }
        }
    }
    found.map(Ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Options;
    use chrono::TimeDelta;

    fn config(public_url: Option<&str>) -> Config {
        let public_url = public_url.map(|url| url.parse().unwrap());
        Config::complete(Options { public_url, ..Options::default() }).unwrap()
    }

    #[test]
    fn it_is_secure_where_people_come_by_https() {
        let now = DateTime::UNIX_EPOCH;
        let set = |url| set(&config(url), "gks_abc", now, now + TimeDelta::hours(12)).unwrap();
        let plain = "gatekey_session=gks_abc; Path=/; Max-Age=43200; HttpOnly; SameSite=Lax";
        assert_eq!(set(None), plain);
        assert_eq!(set(Some("http://vpn.example.com")), plain);
        assert_eq!(set(Some("https://vpn.example.com")), format!("{plain}; Secure"));
        assert!(!format!("{:?}", set(None)).contains("gks_abc"));
    }

    #[test]
    fn it_is_removed_by_an_empty_one() {
        let removed = "gatekey_session=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax";
        assert_eq!(clear(&config(None)).unwrap(), removed);
    }

    #[test]
    fn it_is_found_among_others_and_two_that_differ_are_none() {
        let read = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::COOKIE, HeaderValue::from_static(value));
            }
            super::read(&headers).map(|it| it.map(str::to_owned).map_err(|_| ()))
        };
        let found = Some(Ok("gks_abc".to_owned()));
        assert_eq!(read(&["a=b; gatekey_session=gks_abc;c=d"]), found);
        assert_eq!(read(&["a=b", "gatekey_session=gks_abc"]), found);
        assert_eq!(read(&["gatekey_session=gks_abc; gatekey_session=gks_abc"]), found);
        assert_eq!(read(&["gatekey_session=gks_abc; gatekey_session=gks_x"]), Some(Err(())));
        for none in ["", "gatekey_session", "gatekey_session=", "xgatekey_session=gks_abc"] {
            assert_eq!(read(&[none]), None, "{none}");
        }
    }
}
