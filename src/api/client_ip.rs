//! Who is calling, by address: the peer's, unless the peer is a proxy that we were told to trust.

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap};
use gatekey_aggregates::values::{Cidr, canonical_ip};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::ApiError;

const FORWARDED_FOR: &str = "x-forwarded-for";
/// By any of these, or one that begins with [`FORWARDED`], a request shows that it came through a
/// proxy.
const PROXY_HEADERS: [&str; 9] = [
    "forwarded",
    "via",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-forwarded-for",
    "true-client-ip",
    "cf-connecting-ip",
    "fastly-client-ip",
];
const FORWARDED: &str = "x-forwarded";

/// The client's address, IPv4 where it is IPv4 mapped into IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientIp(pub IpAddr);

impl ClientIp {
    /// Of a request: walks `X-Forwarded-For` from the right for as long as whoever wrote an entry
    /// is trusted. What a client writes itself stands to the left of that and is never looked at.
    pub fn of(extensions: &Extensions, headers: &HeaderMap, trusted: &[Cidr]) -> Self {
        // Only in-process tests have no peer; they come from nowhere.
        let peer = extensions
            .get::<ConnectInfo<SocketAddr>>()
            .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |ConnectInfo(address)| address.ip());
        let is_trusted = |ip: IpAddr| trusted.iter().any(|net| net.contains(ip));
        let mut client = canonical_ip(peer);
        let entries = headers.get_all(FORWARDED_FOR).iter().rev();
        let entries = entries.flat_map(|value| value.to_str().unwrap_or("?").rsplit(','));
        for entry in entries {
            if !is_trusted(client) {
                break;
            }
            match address(entry.trim()) {
                Some(ip) => client = ip,
                None => break,
            }
        }
        Self(client)
    }

    /// Whether the caller is on this machine, and shows no sign of being a proxy on it that speaks
    /// for others. Not every proxy does: see `Config::may_be_behind_a_proxy`.
    pub fn is_local(self, headers: &HeaderMap) -> bool {
        let is_forwarded = headers.keys().any(|name| {
            name.as_str().starts_with(FORWARDED) || PROXY_HEADERS.contains(&name.as_str())
        });
        self.0.is_loopback() && !is_forwarded
    }
}

/// Some proxies add the port.
fn address(entry: &str) -> Option<IpAddr> {
    let ip = entry.parse::<IpAddr>().ok().or_else(|| {
        entry.parse::<SocketAddr>().ok().map(|address| address.ip()).or_else(|| {
            entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'))?.parse().ok()
        })
    })?;
    Some(canonical_ip(ip))
}

impl<S: Send + Sync> FromRequestParts<S> for ClientIp {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts
            .extensions
            .get::<Self>()
            .copied()
            .ok_or_else(|| ApiError::internal("the edge layer is missing"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn client(peer: &str, trusted: &[&str], forwarded: &[&str]) -> String {
        let mut extensions = Extensions::new();
        extensions.insert(ConnectInfo(SocketAddr::new(peer.parse().unwrap(), 40_000)));
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(FORWARDED_FOR, HeaderValue::from_str(value).unwrap());
        }
        let trusted: Vec<Cidr> = trusted.iter().map(|net| net.parse().unwrap()).collect();
        ClientIp::of(&extensions, &headers, &trusted).0.to_string()
    }

    #[test]
    fn nobody_is_believed_who_is_not_trusted() {
        assert_eq!(client("203.0.113.9", &[], &["1.1.1.1"]), "203.0.113.9");
        assert_eq!(client("203.0.113.9", &["10.0.0.0/8"], &["1.1.1.1"]), "203.0.113.9");
        assert_eq!(client("127.0.0.1", &[], &["1.1.1.1"]), "127.0.0.1");
    }

    #[test]
    fn a_trusted_proxy_is_believed_for_what_it_wrote_itself() {
        let trusted = ["10.0.0.0/8"];
        assert_eq!(client("10.0.0.1", &trusted, &["198.51.100.7"]), "198.51.100.7");
        // The client wrote 1.1.1.1 itself.
        assert_eq!(client("10.0.0.1", &trusted, &["1.1.1.1, 198.51.100.7"]), "198.51.100.7");
        assert_eq!(client("10.0.0.1", &trusted, &["1.1.1.1", "198.51.100.7"]), "198.51.100.7");
        // Two proxies of ours.
        let chain = ["1.1.1.1, 198.51.100.7,10.0.0.2"];
        assert_eq!(client("10.0.0.1", &trusted, &chain), "198.51.100.7");
        // A client behind our proxies, inside of our network.
        assert_eq!(client("10.0.0.1", &trusted, &["10.0.0.3, 10.0.0.2"]), "10.0.0.3");
        assert_eq!(client("10.0.0.1", &trusted, &[]), "10.0.0.1");
    }

    #[test]
    fn what_is_no_address_ends_the_walk() {
        for junk in ["unknown", "", "198.51.100.7, _hidden", "198.51.100.7, 1.2.3.4.5"] {
            assert_eq!(client("10.0.0.1", &["10.0.0.0/8"], &[junk]), "10.0.0.1", "{junk}");
        }
    }

    #[test]
    fn ports_brackets_and_mapped_addresses_are_understood() {
        let via = |entry| client("::ffff:10.0.0.1", &["10.0.0.0/8"], &[entry]);
        assert_eq!(via("198.51.100.7:4711"), "198.51.100.7");
        assert_eq!(via("[2001:db8::7]:4711"), "2001:db8::7");
        assert_eq!(via("[2001:db8::7]"), "2001:db8::7");
        assert_eq!(via("2001:db8::7"), "2001:db8::7");
        assert_eq!(via("::ffff:198.51.100.7"), "198.51.100.7");
        assert_eq!(client("::ffff:198.51.100.7", &[], &[]), "198.51.100.7");
    }

    #[test]
    fn a_proxy_on_this_machine_is_not_local() {
        let here = ClientIp("127.0.0.1".parse().unwrap());
        let mut headers = HeaderMap::new();
        assert!(here.is_local(&headers));
        assert!(!ClientIp("192.0.2.1".parse().unwrap()).is_local(&headers));
        headers.insert("user-agent", HeaderValue::from_static("Prometheus/2.42.0"));
        assert!(here.is_local(&headers));
        for name in ["x-forwarded-for", "x-forwarded-proto", "forwarded", "via", "x-real-ip"] {
            let mut headers = headers.clone();
            headers.insert(name, HeaderValue::from_static("127.0.0.1"));
            assert!(!here.is_local(&headers), "{name}");
        }
    }
}
