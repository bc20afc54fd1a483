//! Addresses, networks, hosts and ports.

use super::{Invalid, string_value, text_value};
use ipnet::{IpNet, Ipv4Net};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

/// An address as people mean it: IPv4 mapped into IPv6 (`::ffff:a.b.c.d`) is the IPv4 address.
pub fn canonical_ip(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

/// A network in CIDR notation, IPv4 or IPv6, without host bits (RFC 4632).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr(IpNet);

impl Cidr {
    /// The network.
    pub fn net(&self) -> IpNet {
        self.0
    }

    /// Whether `ip` lies inside.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.0.contains(&canonical_ip(ip))
    }

    /// Whether `other` lies wholly inside.
    pub fn covers(&self, other: &Self) -> bool {
        self.0.contains(&other.0)
    }

    /// Whether the two share an address.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.covers(other) || other.covers(self)
    }
}

impl From<IpAddr> for Cidr {
    /// The network of one address.
    fn from(ip: IpAddr) -> Self {
        Self(IpNet::from(canonical_ip(ip)))
    }
}

impl FromStr for Cidr {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let net: IpNet = text.parse().map_err(|_| {
            Invalid::new("must be a network in CIDR notation, such as `10.0.0.0/8` or `fd00::/8`")
        })?;
        if net.trunc() != net {
            return Err(Invalid::new(format!(
                "has host bits set; the network is `{}`",
                net.trunc()
            )));
        }
        if let IpNet::V6(v6) = net
            && v6.addr().to_ipv4_mapped().is_some()
        {
            return Err(Invalid::new("is an IPv4 network written as IPv6; write it as IPv4"));
        }
        Ok(Self(net))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

string_value!(Cidr, "10.0.0.0/8");

/// The addresses that an OpenVPN server gives out: an IPv4 network from /16 to /29.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VpnSubnet(Ipv4Net);

impl VpnSubnet {
    /// What a gateway gets that names none.
    pub const DEFAULT: Self = Self(Ipv4Net::new_assert(Ipv4Addr::new(172, 31, 255, 0), 24));

    /// The network's address, as `vpn_network` and as OpenVPN's `server` wants it.
    pub fn network(&self) -> Ipv4Addr {
        self.0.network()
    }

    /// The netmask, dotted.
    pub fn netmask(&self) -> Ipv4Addr {
        self.0.netmask()
    }

    /// As a [`Cidr`].
    pub fn cidr(&self) -> Cidr {
        Cidr(IpNet::V4(self.0))
    }

    /// The same size of network, `n` networks further down. None below 0.0.0.0.
    pub fn below(&self, n: u32) -> Option<Self> {
        let size = 1u32 << (32 - u32::from(self.0.prefix_len()));
        let down = size.checked_mul(n)?;
        let network = u32::from(self.network()).checked_sub(down)?;
        Ipv4Net::new(network.into(), self.0.prefix_len()).ok().map(Self)
    }
}

impl FromStr for VpnSubnet {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong =
            || Invalid::new("must be an IPv4 network from /16 to /29, such as `172.31.255.0/24`");
        let net: Ipv4Net = text.parse().map_err(|_| wrong())?;
        if !(16..=29).contains(&net.prefix_len()) {
            return Err(wrong());
        }
        if net.trunc() != net {
            return Err(Invalid::new(format!(
                "has host bits set; the network is `{}`",
                net.trunc()
            )));
        }
        Ok(Self(net))
    }
}

impl fmt::Display for VpnSubnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

string_value!(VpnSubnet, "172.31.255.0/24");

/// One port or a range of ports, 1 to 65535: `443` or `8000-8100`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// The lowest port.
    pub fn first(&self) -> u16 {
        self.first
    }

    /// The highest port.
    pub fn last(&self) -> u16 {
        self.last
    }

    /// Whether `port` is one of them.
    pub fn contains(&self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

impl FromStr for PortRange {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = || {
            Invalid::new(
                "must be a port or a range of ports from 1 to 65535, such as `443` or `8000-8100`",
            )
        };
        let port = |text: &str| -> Result<u16, Invalid> {
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            match text.parse::<u16>() {
                Ok(port) if digits && port > 0 => Ok(port),
                _ => Err(wrong()),
            }
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let range = Self { first: port(first)?, last: port(last)? };
        if range.first > range.last { Err(wrong()) } else { Ok(range) }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

string_value!(PortRange, "8000-8100");

/// Whether `text` is a host name: dot-separated labels of letters, digits and inner `-` (RFC 1123), at most 253.
pub(crate) fn is_hostname(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // A name that ends in a number would be read as an address by half the world (WHATWG URL).
    let last_is_number =
        text.rsplit('.').next().is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()));
    text.len() <= 253 && text.split('.').all(label) && !last_is_number
}

text_value! {
    /// Where a gateway is reached: a host name or an address.
    Host, "vpn-us-east.example.com", |text| {
        if let Ok(ip) = text.parse::<IpAddr>() {
            Ok(canonical_ip(ip).to_string())
        } else if is_hostname(text) {
            Ok(text.to_ascii_lowercase())
        } else {
            Err(Invalid::new("must be a host name such as `vpn.example.com`, or an IP address"))
        }
    }
}

text_value! {
    /// A host name, lower-cased; never an address.
    Hostname, "wiki.example.com", |text| {
        if is_hostname(text) {
            Ok(text.to_ascii_lowercase())
        } else {
            Err(Invalid::new("must be a host name, such as `wiki.example.com`"))
        }
    }
}

text_value! {
    /// Every host name under a domain: `*.` and a host name.
    HostnameWildcard, "*.example.com", |text| {
        match text.strip_prefix("*.") {
            Some(domain) if is_hostname(domain) => Ok(text.to_ascii_lowercase()),
            _ => Err(Invalid::new("must be `*.` and a host name, such as `*.example.com`")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_cidr_has_no_host_bits() {
        assert_eq!("10.0.0.0/8".parse::<Cidr>().unwrap().to_string(), "10.0.0.0/8");
        assert_eq!("fd00::/8".parse::<Cidr>().unwrap().to_string(), "fd00::/8");
        let error = "10.1.0.0/8".parse::<Cidr>().unwrap_err();
        assert!(error.0.contains("10.0.0.0/8"), "{error}");
        for wrong in ["", "10.0.0.0", "10.0.0.0/33", "10.0.0/8", "x/8", "::ffff:10.0.0.0/104"] {
            assert!(wrong.parse::<Cidr>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_mapped_address_is_its_ipv4_address() {
        let net: Cidr = "10.0.0.0/8".parse().unwrap();
        assert!(net.contains("::ffff:10.1.2.3".parse().unwrap()));
    }

    #[test]
    fn a_port_range_is_ordered_and_never_zero() {
        assert_eq!("443".parse::<PortRange>().unwrap().to_string(), "443");
        assert_eq!("8000-8100".parse::<PortRange>().unwrap().to_string(), "8000-8100");
        for wrong in ["", "0", "65536", "2-1", "1-", "-1", "+80", "80,81", " 80"] {
            assert!(wrong.parse::<PortRange>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_host_is_a_name_or_an_address() {
        for right in ["vpn.example.com", "localhost", "192.0.2.1", "2001:db8::1"] {
            assert!(right.parse::<Host>().is_ok(), "{right}");
        }
        for wrong in ["", "a b", "-a.example", "a..b", "1.2.3", "vpn.example.com\nremote evil"] {
            assert!(wrong.parse::<Host>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_host_name_is_no_address_and_a_wildcard_has_one_star_in_front() {
        assert_eq!("Wiki.Example.com".parse::<Hostname>().unwrap().as_str(), "wiki.example.com");
        for wrong in ["", "10.0.0.1", "::1", "*.example.com", "a_b.example.com"] {
            assert!(wrong.parse::<Hostname>().is_err(), "{wrong}");
        }
        assert_eq!("*.Example.com".parse::<HostnameWildcard>().unwrap().as_str(), "*.example.com");
        for wrong in ["", "*", "*.", "example.com", "a.*.example.com", "*.*.com", "**.com"] {
            assert!(wrong.parse::<HostnameWildcard>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_subnet_below_does_not_overlap() {
        let below = VpnSubnet::DEFAULT.below(1).unwrap();
        assert_eq!(below.to_string(), "172.31.254.0/24");
        assert!(!below.cidr().overlaps(&VpnSubnet::DEFAULT.cidr()));
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "\\PC{0,40}") {
            let _ = text.parse::<Cidr>();
            let _ = text.parse::<VpnSubnet>();
            let _ = text.parse::<PortRange>();
            let _ = text.parse::<Host>();
            let _ = text.parse::<Hostname>();
            let _ = text.parse::<HostnameWildcard>();
        }
    }
}
