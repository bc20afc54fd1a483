//! Settings: defaults < TOML file (`--config`, `GATEKEY_CONFIG`) < `GATEKEY_…` environment < flags.
//!
//! `gatekey.example.toml` explains every option; a test holds it against the defaults here.

use clap::Args;
use gatekey_aggregates::values::Cidr;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;
use tracing_subscriber::EnvFilter;

use crate::fields::{self, Reading};
use crate::secrets::Secret;

/// The settings of this start, complete and checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen. Port 0: any free one.
    pub listen: SocketAddr,
    /// Where the database file, the master key and the first password are kept.
    pub data_dir: PathBuf,
    /// Where the log and its views are kept.
    pub database_url: DatabaseUrl,
    /// The first admin's password; none: one is made and told once.
    pub admin_password: Option<Secret>,
    /// The master key in base64; none: the file `master.key` in the data directory.
    pub master_key: Option<Secret>,
    /// How people reach this server.
    pub public_url: Option<PublicUrl>,
    /// What is logged, such as `info` or `info,gatekey=debug`.
    pub log: String,
    /// How it is written.
    pub log_format: LogFormat,
    /// How often callers may ask; none: as often as they please, which is for load tests.
    pub rate_limits: Option<RateLimits>,
    /// Certificate and key to serve HTTPS with.
    pub tls: Option<Tls>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Cidr>,
    /// What `/metrics` demands of callers that are not certainly on this machine.
    pub metrics_token: Option<Secret>,
    /// What this node is called among those that share a database.
    pub node: NodeName,
    /// How old the access index may be before it denies.
    pub max_staleness: Duration,
}

/// PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The chain, leaf first.
    pub cert: PathBuf,
    /// The leaf's private key.
    pub key: PathBuf,
}

/// How often callers may ask, in requests a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimits {
    /// Sign in, by address.
    pub authentication: NonZeroU32,
    /// Send a heartbeat, by gateway.
    pub heartbeat: NonZeroU32,
    /// Generate a VPN configuration, by user.
    pub config_generation: NonZeroU32,
    /// Manage, by user.
    pub admin: NonZeroU32,
}

impl Default for RateLimits {
    fn default() -> Self {
        const fn a_minute(n: u32) -> NonZeroU32 {
            NonZeroU32::MIN.saturating_add(n - 1)
        }
        Self {
            authentication: a_minute(50),
            heartbeat: a_minute(120),
            config_generation: a_minute(30),
            admin: a_minute(100),
        }
    }
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file.
    #[error("the configuration file {path}: {why}")]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong, in words for people.
        why: String,
    },
    /// A variable.
    #[error("{name} {why}")]
    Environment {
        /// Which.
        name: &'static str,
        /// What is wrong, in words for people.
        why: String,
    },
    /// Options that don't go together.
    #[error("{0}")]
    Together(&'static str),
}

/// Defines the options once: how they are written in the file, in the environment and as flags.
macro_rules! options {
    ($($(#[$meta:meta])* $name:ident: $type:ty, $env:literal;)+) => {
        /// The options as given in one place. What is not given there is none.
        #[derive(Clone, Debug, Default, Deserialize, Args)]
        #[serde(default)]
        pub struct Options {
            $($(#[$meta])* pub $name: Option<$type>,)+
        }

        impl Options {
            /// The names of the options in a file.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name)),+];
            /// Their variables.
            pub const VARIABLES: &'static [&'static str] = &[$($env),+];

            /// From `GATEKEY_…` variables. An empty one counts as not given.
            pub fn from_env(
                variable: impl Fn(&str) -> Option<std::ffi::OsString>,
            ) -> Result<Self, ConfigError> {
                Ok(Self { $($name: parse_variable($env, variable($env))?,)+ })
            }

            /// These, and for what is not given here, `lower`.
            #[must_use]
            pub fn over(self, lower: Self) -> Self {
                Self { $($name: over(self.$name, lower.$name),)+ }
            }
        }
    };
}

options! {
    /// Where to listen; port 0 is any free one
    #[arg(long, global = true, value_name = "ADDRESS:PORT")]
    listen: SocketAddr, "GATEKEY_LISTEN";
    /// Where the database file and the master key are kept
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: PathBuf, "GATEKEY_DATA_DIR";
    /// `postgres://…` or `sqlite://path`; others can see flags, so give a password in the environment
    #[arg(long, global = true, value_name = "URL")]
    database_url: DatabaseUrl, "GATEKEY_DATABASE_URL";
    // Secrets have no flags: other users of the machine see a process's flags.
    /// The first admin's password
    #[arg(skip)]
    admin_password: Secret, "GATEKEY_ADMIN_PASSWORD";
    /// The master key in base64
    #[arg(skip)]
    master_key: Secret, "GATEKEY_MASTER_KEY";
    /// How people reach this server
    #[arg(long, global = true, value_name = "URL")]
    public_url: PublicUrl, "GATEKEY_PUBLIC_URL";
    /// What is logged, such as `info` or `info,gatekey=debug`
    #[arg(long, global = true, value_name = "FILTER")]
    log: String, "GATEKEY_LOG";
    /// How it is written
    #[arg(long, global = true, value_name = "pretty|json")]
    log_format: LogFormat, "GATEKEY_LOG_FORMAT";
    /// Off is for load tests
    #[arg(long, global = true, value_name = "on|off")]
    rate_limits: GivenLimits, "GATEKEY_RATE_LIMITS";
    /// Certificate chain to serve HTTPS with
    #[arg(long, global = true, value_name = "FILE")]
    tls_cert: PathBuf, "GATEKEY_TLS_CERT";
    /// Its private key
    #[arg(long, global = true, value_name = "FILE")]
    tls_key: PathBuf, "GATEKEY_TLS_KEY";
    /// Proxies whose X-Forwarded-For is believed, by commas
    #[arg(long, global = true, value_name = "CIDRS")]
    trusted_proxies: Proxies, "GATEKEY_TRUSTED_PROXIES";
    /// What `/metrics` demands
    #[arg(skip)]
    metrics_token: Secret, "GATEKEY_METRICS_TOKEN";
    /// What this node is called among those that share a database
    #[arg(long, global = true, value_name = "NAME")]
    node: NodeName, "GATEKEY_NODE";
    /// How old the access index may be before it denies, such as `10s`
    #[arg(long, global = true, value_name = "TIME")]
    max_staleness: Span, "GATEKEY_MAX_STALENESS";
}

impl Config {
    /// The settings of `flags` over the environment over the file that `--config` or
    /// `GATEKEY_CONFIG` names.
    pub fn load(flags: Options, file: Option<&Path>) -> Result<Self, ConfigError> {
        let environment = Options::from_env(|name| std::env::var_os(name))?;
        let file = file.map(Options::from_file).transpose()?.unwrap_or_default();
        Self::complete(flags.over(environment).over(file))
    }

    /// Fills in the defaults and checks what belongs together.
    pub fn complete(given: Options) -> Result<Self, ConfigError> {
        let data_dir = given.data_dir.unwrap_or_else(|| PathBuf::from("./data"));
        let tls = match (given.tls_cert, given.tls_key) {
            (Some(cert), Some(key)) => Some(Tls { cert, key }),
            (None, None) => None,
            _ => return Err(ConfigError::Together("tls_cert and tls_key must be given together")),
        };
        let log = given.log.unwrap_or_else(|| "info".to_owned());
        if EnvFilter::builder().parse(&log).is_err() {
            return Err(ConfigError::Together(
                "log must be a filter such as `info` or `info,gatekey=debug`",
            ));
        }
        Ok(Self {
            listen: given.listen.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 8080))),
            database_url: given.database_url.unwrap_or_else(|| DatabaseUrl::in_dir(&data_dir)),
            data_dir,
            admin_password: given.admin_password,
            master_key: given.master_key,
            public_url: given.public_url,
            log,
            log_format: given.log_format.unwrap_or_default(),
            rate_limits: given.rate_limits.unwrap_or_default().complete(),
            tls,
            trusted_proxies: given.trusted_proxies.unwrap_or_default().0,
            metrics_token: given.metrics_token,
            node: given.node.unwrap_or_else(NodeName::of_this_host),
            max_staleness: given.max_staleness.map_or(Duration::from_secs(10), |span| span.0),
        })
    }

    /// Whether people reach it by HTTPS: cookies are `Secure` then.
    pub fn is_https(&self) -> bool {
        self.public_url.as_ref().map_or(self.tls.is_some(), PublicUrl::is_https)
    }

    /// Whether a caller at this machine's own address may be a proxy that speaks for others: people
    /// come by another address than this machine's own, or a proxy here is trusted.
    pub fn may_be_behind_a_proxy(&self) -> bool {
        let here = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        self.public_url.as_ref().is_some_and(|url| !url.is_loopback())
            || self.trusted_proxies.iter().any(|net| here.iter().any(|ip| net.contains(*ip)))
    }
}

impl Options {
    /// From a TOML file.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let wrong = |why| ConfigError::File { path: path.to_owned(), why };
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        Self::from_toml(&text).map_err(wrong)
    }

    /// From TOML. The error never shows what was written: it may be a secret.
    pub fn from_toml(text: &str) -> Result<Self, String> {
        let table: BTreeMap<String, toml::Value> = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
            format!("line {line} is not TOML: {}", error.message())
        })?;
        for name in table.keys() {
            if !Self::NAMES.contains(&name.as_str()) {
                return Err(format!(
                    "there is no option `{name}`; the options are {}",
                    Self::NAMES.join(", ")
                ));
            }
        }
        let table = toml::Value::Table(table.into_iter().collect());
        fields::read(table, Reading::Strict).map_err(|error| {
            let fault = error.unwrap_or_else(|(path, error)| {
                fields::describe(&path, error.message(), Reading::Strict)
            });
            format!("`{}` {}", fault.field, fault.message)
        })
    }
}

/// The variables that begin with `GATEKEY_` and mean nothing: misspelt ones.
pub fn unknown_variables() -> Vec<String> {
    std::env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| name.starts_with("GATEKEY_") && !name.starts_with("GATEKEY_TEST_"))
        .filter(|name| name != "GATEKEY_CONFIG" && !Options::VARIABLES.contains(&name.as_str()))
        .collect()
}

fn parse_variable<T: Variable>(
    name: &'static str,
    value: Option<std::ffi::OsString>,
) -> Result<Option<T>, ConfigError> {
    let wrong = |why: String| ConfigError::Environment { name, why };
    let Some(value) = value else { return Ok(None) };
    let value = value.into_string().map_err(|_| wrong("must be UTF-8".to_owned()))?;
    if value.is_empty() { Ok(None) } else { T::parse(value).map(Some).map_err(wrong) }
}

/// What can be read from a variable.
trait Variable: Sized {
    fn parse(text: String) -> Result<Self, String>;

    /// This, and where it says nothing, `lower`.
    fn over(self, _lower: Self) -> Self {
        self
    }
}

fn over<T: Variable>(upper: Option<T>, lower: Option<T>) -> Option<T> {
    match (upper, lower) {
        (Some(upper), Some(lower)) => Some(upper.over(lower)),
        (upper, lower) => upper.or(lower),
    }
}

macro_rules! variables {
    ($($type:ty),+) => {
        $(impl Variable for $type {
            fn parse(text: String) -> Result<Self, String> {
                text.parse()
            }
        })+
    };
}

variables!(DatabaseUrl, PublicUrl, LogFormat, Proxies, NodeName, Span);

impl Variable for GivenLimits {
    fn parse(text: String) -> Result<Self, String> {
        text.parse()
    }

    /// `on` in the environment does not forget the numbers in the file.
    fn over(self, lower: Self) -> Self {
        Self {
            enabled: self.enabled.or(lower.enabled),
            authentication: self.authentication.or(lower.authentication),
            heartbeat: self.heartbeat.or(lower.heartbeat),
            config_generation: self.config_generation.or(lower.config_generation),
            admin: self.admin.or(lower.admin),
        }
    }
}

impl Variable for SocketAddr {
    fn parse(text: String) -> Result<Self, String> {
        text.parse().map_err(|_| {
            "must be an address and a port, such as `127.0.0.1:8080` or `[::]:8080`".to_owned()
        })
    }
}

impl Variable for Secret {
    fn parse(text: String) -> Result<Self, String> {
        Ok(text.into())
    }
}

impl Variable for String {
    fn parse(text: String) -> Result<Self, String> {
        Ok(text)
    }
}

impl Variable for PathBuf {
    fn parse(text: String) -> Result<Self, String> {
        Ok(text.into())
    }
}

/// `Deserialize` of a type that is written as a string.
macro_rules! from_string {
    ($($type:ty),+) => {
        $(impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        })+
    };
}

from_string!(DatabaseUrl, PublicUrl, LogFormat, NodeName, Span);

/// Where the database is. It may hold a password, so `Debug` shows only the kind.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// The whole, with any password.
    pub fn expose(&self) -> &str {
        &self.0
    }

    fn in_dir(dir: &Path) -> Self {
        Self(format!("sqlite://{}", dir.join("gatekey.db").display()))
    }
}

impl FromStr for DatabaseUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = ["postgres://", "postgresql://", "sqlite://"];
        if known.iter().any(|scheme| text.starts_with(scheme)) {
            Ok(Self(text.to_owned()))
        } else {
            Err("must be `postgres://…` or `sqlite://path`".to_owned())
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://…", self.0.split(':').next().unwrap_or_default())
    }
}

/// How people reach the server: scheme, host and port, without a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl {
    origin: String,
}

impl PublicUrl {
    /// As browsers write it in `Origin` (RFC 6454): lower case, without a default port.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The URL of a path that begins with `/`.
    pub fn at(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }

    fn is_https(&self) -> bool {
        self.origin.starts_with("https://")
    }

    /// Whether it leads back to the machine that follows it.
    fn is_loopback(&self) -> bool {
        let url: Result<axum::http::Uri, _> = self.origin.parse();
        let host = url.as_ref().ok().and_then(|url| url.host()).unwrap_or_default();
        let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        ip.map_or_else(|_| host == "localhost", |ip| ip.is_loopback())
    }
}

impl FromStr for PublicUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "must be `https://host` or `http://host`, with a port if need be".to_owned();
        let url: axum::http::Uri = text.parse().map_err(|_| wrong())?;
        let scheme = url.scheme_str().unwrap_or_default();
        let default_port = match scheme {
            "https" => 443,
            "http" => 80,
            _ => return Err(wrong()),
        };
        let authority = url.authority().ok_or_else(wrong)?;
        if authority.as_str().contains('@') || url.path() != "/" || url.query().is_some() {
            return Err(wrong());
        }
        let host = authority.host().to_ascii_lowercase();
        if host.is_empty() {
            return Err(wrong());
        }
        let port = match authority.port_u16() {
            Some(port) if port != default_port => format!(":{port}"),
            _ => String::new(),
        };
        Ok(Self { origin: format!("{scheme}://{host}{port}") })
    }
}

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Pretty,
    /// One JSON object a line.
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "pretty" => Ok(Self::Pretty),
            "json" => Ok(Self::Json),
            _ => Err("must be `pretty` or `json`".to_owned()),
        }
    }
}

/// The rate limits as given in one place: `on` or `off`, or in a file a table of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, remote = "Self")]
pub struct GivenLimits {
    enabled: Option<bool>,
    authentication: Option<PerMinute>,
    heartbeat: Option<PerMinute>,
    config_generation: Option<PerMinute>,
    admin: Option<PerMinute>,
}

impl GivenLimits {
    fn complete(self) -> Option<RateLimits> {
        let default = RateLimits::default();
        let of = |given: Option<PerMinute>, default| given.map_or(default, |it| it.0);
        self.enabled.unwrap_or(true).then(|| RateLimits {
            authentication: of(self.authentication, default.authentication),
            heartbeat: of(self.heartbeat, default.heartbeat),
            config_generation: of(self.config_generation, default.config_generation),
            admin: of(self.admin, default.admin),
        })
    }
}

impl FromStr for GivenLimits {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let enabled = match text {
            "on" => true,
            "off" => false,
            _ => return Err("must be `on` or `off`".to_owned()),
        };
        Ok(Self { enabled: Some(enabled), ..Self::default() })
    }
}

impl<'de> Deserialize<'de> for GivenLimits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = GivenLimits;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`on`, `off` or a table")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<GivenLimits, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<GivenLimits, A::Error> {
                // The derived one, which `remote` keeps from being the trait's.
                GivenLimits::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// Requests a minute, from 1 to [`PerMinute::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PerMinute(NonZeroU32);

impl PerMinute {
    const MAX: u32 = 10_000_000;
}

impl<'de> Deserialize<'de> for PerMinute {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u32::try_from(i64::deserialize(deserializer)?).ok();
        let number = number.filter(|it| *it <= Self::MAX).and_then(NonZeroU32::new);
        number.map(Self).ok_or_else(|| {
            let max = Self::MAX;
            serde::de::Error::custom(format!("must be a number of requests from 1 to {max}"))
        })
    }
}

/// Networks, or single addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies(Vec<Cidr>);

impl FromStr for Proxies {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(proxy).collect::<Result<_, _>>().map(Self)
    }
}

fn proxy(text: &str) -> Result<Cidr, String> {
    let whole = match text.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
        Ok(ip @ IpAddr::V4(_)) => format!("{ip}/32"),
        Ok(ip @ IpAddr::V6(_)) => format!("{ip}/128"),
        Err(_) => text.to_owned(),
    };
    whole.parse().map_err(|error| format!("must be addresses or networks; `{text}` {error}"))
}

impl<'de> Deserialize<'de> for Proxies {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let all = Vec::<String>::deserialize(deserializer)?;
        all.iter()
            .map(|text| proxy(text))
            .collect::<Result<_, _>>()
            .map(Self)
            .map_err(serde::de::Error::custom)
    }
}

/// A node's name: 1 to 64 letters, digits and `._-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeName(String);

impl NodeName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn of_this_host() -> Self {
        let uname = rustix::system::uname();
        uname.nodename().to_string_lossy().parse().unwrap_or(Self("gatekey".to_owned()))
    }
}

impl FromStr for NodeName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if (1..=64).contains(&text.len()) && text.bytes().all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err("must be 1 to 64 letters, digits and `._-`".to_owned())
        }
    }
}

/// A time such as `500ms`, `10s` or `2m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "must be a time such as `500ms`, `10s` or `2m`, at most an hour".to_owned();
        let unit_at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, unit) = text.split_at(unit_at);
        let factor = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            _ => return Err(wrong()),
        };
        let number: u64 = number.parse().map_err(|_| wrong())?;
        match number.checked_mul(factor) {
            Some(millis @ 1..=3_600_000) => Ok(Self(Duration::from_millis(millis))),
            _ => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const EXAMPLE: &str = include_str!("../gatekey.example.toml");

    fn complete(toml: &str) -> Config {
        Config::complete(Options::from_toml(toml).unwrap()).unwrap()
    }

    /// The example's lines of the form `#name = value`, uncommented, with the section they stand
    /// in: all but one are defaults.
    fn example_options() -> BTreeMap<String, String> {
        let mut section = String::new();
        let mut options = BTreeMap::new();
        for line in EXAMPLE.lines().filter_map(|line| line.strip_prefix('#')) {
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                section = format!("{name}.");
            } else if line.starts_with(|c: char| c.is_ascii_lowercase())
                && let Some((name, value)) = line.split_once(" = ")
            {
                options.insert(format!("{section}{name}"), value.to_owned());
            }
        }
        options
    }

    #[test]
    fn a_proxy_may_be_here_when_people_come_by_another_address() {
        for (toml, expected) in [
            ("", false),
            ("public_url = 'http://localhost:8080'", false),
            ("public_url = 'http://127.0.0.1:8080'", false),
            ("public_url = 'http://[::1]:8080'", false),
            ("trusted_proxies = ['10.0.0.0/8']", false),
            ("public_url = 'https://vpn.example.com'", true),
            ("public_url = 'https://127.example.com'", true),
            ("trusted_proxies = ['127.0.0.1/32']", true),
            ("trusted_proxies = ['::/0']", true),
        ] {
            assert_eq!(complete(toml).may_be_behind_a_proxy(), expected, "{toml}");
        }
    }

    #[test]
    fn the_example_is_the_defaults() {
        let untouched = complete(EXAMPLE);
        let defaults = Config::complete(Options::default()).unwrap();
        assert_eq!(format!("{untouched:?}"), format!("{defaults:?}"));

        let without_default = [
            "admin_password",
            "master_key",
            "public_url",
            "tls_cert",
            "tls_key",
            "metrics_token",
            "node",
        ];
        let mut all = example_options();
        let names: BTreeSet<&str> =
            all.keys().map(|name| name.split('.').next().unwrap_or_default()).collect();
        assert_eq!(names, Options::NAMES.iter().copied().collect());
        let limits = all.keys().filter(|name| name.starts_with("rate_limits.")).count();
        assert_eq!(limits, 5);
        let given: String = without_default
            .iter()
            .map(|name| format!("{name} = {}\n", all.remove(*name).expect("an example of it")))
            .collect();
        // Those have no default, but what is shown is right.
        Config::complete(Options::from_toml(&given).unwrap()).unwrap();

        let rest: String = all.iter().map(|(name, value)| format!("{name} = {value}\n")).collect();
        assert_eq!(format!("{:?}", complete(&rest)), format!("{defaults:?}"));
        for variable in Options::VARIABLES {
            assert!(EXAMPLE.contains(variable), "{variable}");
        }
    }

    #[test]
    fn limits_are_set_by_class_and_switched_as_a_whole() {
        let number = |n| NonZeroU32::new(n).unwrap();
        let seed = RateLimits {
            authentication: number(50),
            heartbeat: number(120),
            config_generation: number(30),
            admin: number(100),
        };
        assert_eq!(complete("").rate_limits, Some(seed));
        assert_eq!(complete("rate_limits = 'off'").rate_limits, None);
        let file = "[rate_limits]\nenabled = false\nadmin = 7";
        assert_eq!(complete(file).rate_limits, None);
        // The environment's `on` leaves the file's numbers.
        let switched = |text: &'static str| {
            let environment =
                Options::from_env(|name| (name == "GATEKEY_RATE_LIMITS").then(|| text.into()));
            let options = environment.unwrap().over(Options::from_toml(file).unwrap());
            Config::complete(options).unwrap().rate_limits
        };
        assert_eq!(switched("on"), Some(RateLimits { admin: number(7), ..seed }));
        assert_eq!(switched("off"), None);
    }

    #[test]
    fn flags_go_before_the_environment_before_the_file() {
        let file = Options::from_toml("listen = '1.1.1.1:1'\nnode = 'file'\nlog = 'warn'").unwrap();
        let environment = Options::from_env(|name| match name {
            "GATEKEY_LISTEN" => Some("2.2.2.2:2".into()),
            "GATEKEY_NODE" => Some("environment".into()),
            // As compose files give what is not set.
            "GATEKEY_LOG" => Some("".into()),
            _ => None,
        })
        .unwrap();
        let flags = Options { listen: Some("3.3.3.3:3".parse().unwrap()), ..Options::default() };
        let config = Config::complete(flags.over(environment).over(file)).unwrap();
        assert_eq!(config.listen.to_string(), "3.3.3.3:3");
        assert_eq!(config.node.as_str(), "environment");
        assert_eq!(config.log, "warn");
    }

    #[test]
    fn the_environment_reads_every_kind() {
        let config = Options::from_env(|name| {
            let value = match name {
                "GATEKEY_DATA_DIR" => "/var/lib/gatekey",
                "GATEKEY_RATE_LIMITS" => "off",
                "GATEKEY_TRUSTED_PROXIES" => "10.0.0.0/8, ::1,192.0.2.7",
                "GATEKEY_MAX_STALENESS" => "2m",
                "GATEKEY_LOG_FORMAT" => "json",
                "GATEKEY_ADMIN_PASSWORD" => "hunter2-hunter2",
                _ => return None,
            };
            Some(value.into())
        })
        .map(Config::complete)
        .unwrap()
        .unwrap();
        assert_eq!(config.database_url.expose(), "sqlite:///var/lib/gatekey/gatekey.db");
        assert_eq!(config.rate_limits, None);
        let proxies: Vec<String> = config.trusted_proxies.iter().map(ToString::to_string).collect();
        assert_eq!(proxies, ["10.0.0.0/8", "::1/128", "192.0.2.7/32"]);
        assert_eq!(config.max_staleness, Duration::from_mins(2));
        assert_eq!(config.log_format, LogFormat::Json);
        assert!(config.admin_password.unwrap().matches("hunter2-hunter2"));
    }

    #[test]
    fn what_is_wrong_is_said_in_words_and_without_the_value() {
        for (toml, words) in [
            ("lisen = '127.0.0.1:80'", "there is no option `lisen`; the options are listen,"),
            ("[server]\nport = 1", "there is no option `server`"),
            ("log = 1", "`log` must be a string"),
            ("admin_password = 12345", "`admin_password` must be a string"),
            ("listen = 'localhost'", "`listen` "),
            ("rate_limits = true", "`rate_limits` must be `on`, `off` or a table"),
            ("rate_limits = 'maybe'", "`rate_limits` must be `on` or `off`"),
            ("[rate_limits]\nadmin = 0", "`rate_limits.admin` must be a number of requests from 1"),
            ("[rate_limits]\nheartbeat = 10000001", "from 1 to 10000000"),
            ("[rate_limits]\nadmin = '9'", "`rate_limits.admin` must be a whole number"),
            ("[rate_limits]\nadmins = 9", "`rate_limits.admins` is not a field that is known here"),
            ("trusted_proxies = '10.0.0.0/8'", "`trusted_proxies` must be a list"),
            ("trusted_proxies = ['10.1.0.0/8']", "the network is `10.0.0.0/8`"),
            ("max_staleness = '10'", "`max_staleness` must be a time"),
            ("node = 'a/b'", "`node` must be 1 to 64"),
            ("database_url = 'mysql://x:12345@y'", "`database_url` must be `postgres://…` or"),
            ("\nlog = 'info\n", "line 2 is not TOML"),
        ] {
            let error = Options::from_toml(toml).unwrap_err();
            assert!(error.contains(words), "{toml}: {error}");
            assert!(!error.contains("12345"), "{error}");
        }
        let error = Options::from_env(|name| (name == "GATEKEY_LISTEN").then(|| "x".into()));
        assert_eq!(
            error.unwrap_err().to_string(),
            "GATEKEY_LISTEN must be an address and a port, such as `127.0.0.1:8080` or `[::]:8080`"
        );
        assert!(Config::complete(Options::from_toml("tls_cert = 'a'").unwrap()).is_err());
        assert!(Config::complete(Options::from_toml("log = 'a=b=c'").unwrap()).is_err());
    }

    #[test]
    fn secrets_are_not_shown() {
        let config = complete(
            "admin_password = 's3cret'\nmaster_key = 's3cret'\nmetrics_token = 's3cret'\n\
             database_url = 'postgres://gatekey:s3cret@db/gatekey'",
        );
        assert!(!format!("{config:?}").contains("s3cret"));
    }

    #[test]
    fn a_public_url_is_an_origin() {
        let origin = |text: &str| text.parse::<PublicUrl>().map(|url| url.origin().to_owned());
        assert_eq!(origin("https://VPN.Example.com/").unwrap(), "https://vpn.example.com");
        assert_eq!(origin("https://vpn.example.com:443").unwrap(), "https://vpn.example.com");
        assert_eq!(origin("http://[::1]:8080").unwrap(), "http://[::1]:8080");
        for wrong in ["", "vpn.example.com", "ftp://x", "https://a/b", "https://a?b", "https://u@a"]
        {
            assert!(origin(wrong).is_err(), "{wrong}");
        }
        assert!(complete("public_url = 'https://a'").is_https());
        assert!(!complete("public_url = 'http://a'\ntls_cert='c'\ntls_key='k'").is_https());
        assert!(complete("tls_cert='c'\ntls_key='k'").is_https());
    }
}
