//! From when until when something signed counts.

use super::Error;
use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use time::OffsetDateTime;

/// How far back `notBefore` and `thisUpdate` lie: devices' clocks are wrong by minutes, and a
/// revocation list from the future makes OpenVPN refuse every client.
pub const BACKDATING: TimeDelta = TimeDelta::minutes(5);

/// A beginning and an end, to the second, as X.509 has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) from: DateTime<Utc>,
    pub(super) until: DateTime<Utc>,
}

impl Validity {
    /// From a little before `now` until `lifetime` after it, yet not beyond `limit`.
    pub(super) fn new(
        now: DateTime<Utc>,
        lifetime: TimeDelta,
        limit: Option<DateTime<Utc>>,
    ) -> Result<Self, Error> {
        if lifetime < TimeDelta::seconds(1) {
            return Err(Error::NoValidity);
        }
        if limit.is_some_and(|limit| limit <= now) {
            return Err(Error::Expired);
        }
        let asked = now.checked_add_signed(lifetime).ok_or(Error::TimeOutOfRange)?;
        let until = limit.map_or(asked, |limit| limit.min(asked));
        Ok(Self { from: (now - BACKDATING).trunc_subsecs(0), until: until.trunc_subsecs(0) })
    }
}

/// As the signing library wants it.
pub(super) fn offset(at: DateTime<Utc>) -> Result<OffsetDateTime, Error> {
    OffsetDateTime::from_unix_timestamp(at.timestamp()).map_err(|_| Error::TimeOutOfRange)
}

/// As the rest of the server wants it.
pub(super) fn utc(seconds: i64) -> Result<DateTime<Utc>, Error> {
    DateTime::from_timestamp(seconds, 0).ok_or(Error::TimeOutOfRange)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outlives_the_limit() {
        let now = utc(1_800_000_000).unwrap();
        let hour = TimeDelta::hours(1);
        let free = Validity::new(now, hour, None).unwrap();
        assert_eq!((free.from, free.until), (now - TimeDelta::minutes(5), now + hour));
        let limit = now + TimeDelta::minutes(1);
        assert_eq!(Validity::new(now, hour, Some(limit)).unwrap().until, limit);
        assert!(matches!(Validity::new(now, hour, Some(now)), Err(Error::Expired)));
        assert!(matches!(Validity::new(now, TimeDelta::zero(), None), Err(Error::NoValidity)));
        let endless = Validity::new(now, TimeDelta::MAX, None);
        assert!(matches!(endless, Err(Error::TimeOutOfRange)));
    }
}
