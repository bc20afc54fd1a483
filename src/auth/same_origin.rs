//! Proof that a request comes from our own pages. A browser sends the cookie along with whatever
//! another site makes it send, so what a cookie proves is not enough to change anything.

use crate::config::Config;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, header};

const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// Whether a request may count on its cookie: it changes nothing, or it is of our own origin.
pub(super) fn is_proven(parts: &Parts, config: &Config) -> bool {
    is_safe(&parts.method) || is_same_origin(parts, config)
}

/// By RFC 9110, 9.2.1.
fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// By what the browser says of itself (Fetch Metadata), else by `Origin`. Neither: no.
fn is_same_origin(parts: &Parts, config: &Config) -> bool {
    let mut sites = parts.headers.get_all(SEC_FETCH_SITE).iter();
    if let Some(site) = sites.next() {
        return site == "same-origin" && sites.next().is_none();
    }
    let mut origins = parts.headers.get_all(header::ORIGIN).iter();
    match (origins.next().map(HeaderValue::to_str), origins.next()) {
        (Some(Ok(origin)), None) => own_origin(parts, config).is_some_and(|own| own == origin),
        _ => false,
    }
}

/// The public URL's; without one, what the request itself was sent to.
fn own_origin(parts: &Parts, config: &Config) -> Option<String> {
    if let Some(url) = &config.public_url {
        return Some(url.origin().to_owned());
    }
    let scheme = if config.is_https() { "https" } else { "http" };
    // HTTP/2 has the host in the request's target.
    let host = match parts.uri.authority() {
        Some(authority) => authority.as_str(),
        None => parts.headers.get(header::HOST)?.to_str().ok()?,
    };
    Some(format!("{scheme}://{}", host.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Options;
    use axum::http::Request;

    fn proven(method: &str, public_url: Option<&str>, headers: &[(&str, &str)]) -> bool {
        let public_url = public_url.map(|url| url.parse().unwrap());
        let config = Config::complete(Options { public_url, ..Options::default() }).unwrap();
        let mut request = Request::builder().method(method).uri("/api/v1/auth/logout");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        is_proven(&request.body(()).unwrap().into_parts().0, &config)
    }

    #[test]
    fn reading_needs_no_proof() {
        for method in ["GET", "HEAD", "OPTIONS"] {
            assert!(proven(method, None, &[("sec-fetch-site", "cross-site")]), "{method}");
        }
        for method in ["POST", "PUT", "PATCH", "DELETE", "TRACE", "ODD"] {
            assert!(!proven(method, None, &[]), "{method}");
        }
    }

    #[test]
    fn the_browser_says_where_a_request_is_from() {
        let of = |site: &str| proven("POST", None, &[("sec-fetch-site", site)]);
        assert!(of("same-origin"));
        for other in ["cross-site", "same-site", "none", "", "Same-Origin"] {
            assert!(!of(other), "{other}");
        }
        // What it says there goes before the origin.
        let own = [("host", "a.example"), ("origin", "http://a.example")];
        assert!(proven("POST", None, &own));
        let contradiction = [own[0], own[1], ("sec-fetch-site", "cross-site")];
        assert!(!proven("POST", None, &contradiction));
        let two = [("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")];
        assert!(!proven("POST", None, &two));
    }

    #[test]
    fn the_origin_must_be_the_public_urls() {
        let of = |origin: &str| {
            let headers = [("host", "inside:8080"), ("origin", origin)];
            proven("DELETE", Some("https://vpn.example.com"), &headers)
        };
        assert!(of("https://vpn.example.com"));
        for other in [
            "http://vpn.example.com",
            "https://vpn.example.com:8443",
            "https://vpn.example.com.evil.example",
            "https://example.com",
            "http://inside:8080",
            "null",
            "",
        ] {
            assert!(!of(other), "{other}");
        }
    }

    #[test]
    fn without_a_public_url_the_origin_must_be_the_host() {
        let of =
            |host: &str, origin: &str| proven("PUT", None, &[("host", host), ("origin", origin)]);
        assert!(of("127.0.0.1:8080", "http://127.0.0.1:8080"));
        assert!(of("VPN.example", "http://vpn.example"));
        assert!(!of("127.0.0.1:8080", "http://127.0.0.1:9090"));
        assert!(!of("127.0.0.1:8080", "https://127.0.0.1:8080"));
        assert!(!proven("PUT", None, &[("origin", "http://127.0.0.1:8080")]));
        let two = [("host", "a"), ("origin", "http://a"), ("origin", "http://b")];
        assert!(!proven("PUT", None, &two));
    }
}
