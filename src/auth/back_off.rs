//! Who keeps guessing a password must wait: after 5 failures in a row 1, 2, 4, … seconds, at most
//! a minute.
//!
//! It goes by the account that was typed, known or not, so that an answer tells nothing about
//! which accounts there are, and by where it came from, so that nobody can shut another out. Guesses
//! from everywhere count together too, but only a hundred of them make everybody wait. Kept in
//! memory, by each node for itself.

use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

/// Failures in a row that cost nothing.
const FREE: u32 = 5;
/// The same, of failures from everywhere.
const FREE_EVERYWHERE: u32 = 100;
/// The longest wait.
const MAX_WAIT: TimeDelta = TimeDelta::seconds(60);
/// After so long without a failure, all is forgotten.
const FORGOTTEN: TimeDelta = TimeDelta::hours(1);
/// Accounts remembered at once; past this, the one that failed longest ago is forgotten.
const MAX_ACCOUNTS: usize = 10_000;

/// Remembers failures. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct BackOff {
    accounts: Arc<Mutex<HashMap<String, Failures>>>,
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    in_a_row: u32,
    last: DateTime<Utc>,
}

impl Failures {
    fn wait(self, free: u32, now: DateTime<Utc>) -> Option<Wait> {
        let doublings = self.in_a_row.checked_sub(free)?;
        let wait = TimeDelta::seconds(1 << doublings.min(6)).min(MAX_WAIT);
        let left = self.last + wait - now;
        // Rounded up: who waits as long as told is let in.
        let seconds = u32::try_from((left + TimeDelta::milliseconds(999)).num_seconds()).ok()?;
        (left > TimeDelta::zero()).then_some(Wait { seconds })
    }

    fn is_stale(self, now: DateTime<Utc>) -> bool {
        self.last + FORGOTTEN <= now
    }
}

/// It is too early for another try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many failures; try again in {seconds} s")]
pub struct Wait {
    /// For how long still.
    pub seconds: u32,
}

impl BackOff {
    /// Whether `account` may be tried from `client` now.
    pub fn check_from(
        &self,
        account: &str,
        client: IpAddr,
        now: DateTime<Utc>,
    ) -> Result<(), Wait> {
        self.check(&from(account, client), now)?;
        self.check_with(account, FREE_EVERYWHERE, now)
    }

    /// [`Self::settle`], of a try from `client`.
    pub fn settle_from(
        &self,
        account: &str,
        client: IpAddr,
        now: DateTime<Utc>,
        right: bool,
    ) -> Result<(), Wait> {
        self.settle(&from(account, client), now, right)?;
        self.settle_with(account, FREE_EVERYWHERE, now, right)
    }

    /// Whether `account` may try now.
    pub fn check(&self, account: &str, now: DateTime<Utc>) -> Result<(), Wait> {
        self.check_with(account, FREE, now)
    }

    fn check_with(&self, account: &str, free: u32, now: DateTime<Utc>) -> Result<(), Wait> {
        let accounts = self.accounts.lock();
        let failures = accounts.get(account).filter(|it| !it.is_stale(now));
        failures.and_then(|it| it.wait(free, now)).map_or(Ok(()), Err)
    }

    /// Takes down how a try came out, and whether its answer may be told. Many tries that began at
    /// once do not tell more than as many in a row.
    pub fn settle(&self, account: &str, now: DateTime<Utc>, right: bool) -> Result<(), Wait> {
        self.settle_with(account, FREE, now, right)
    }

    fn settle_with(
        &self,
        account: &str,
        free: u32,
        now: DateTime<Utc>,
        right: bool,
    ) -> Result<(), Wait> {
        let mut accounts = self.accounts.lock();
        let before = accounts.get(account).copied().filter(|it| !it.is_stale(now));
        if let Some(wait) = before.and_then(|it| it.wait(free, now)) {
            return Err(wait);
        }
        if right {
            accounts.remove(account);
            return Ok(());
        }
        if accounts.len() >= MAX_ACCOUNTS && !accounts.contains_key(account) {
            make_room(&mut accounts, now);
        }
        let in_a_row = before.map_or(1, |it| it.in_a_row.saturating_add(1));
        accounts.insert(account.to_owned(), Failures { in_a_row, last: now });
        Ok(())
    }
}

/// An account as tried from a client's network: for IPv6 the /64, which one host has to itself. No
/// account holds a space.
fn from(account: &str, client: IpAddr) -> String {
    format!("{account} from {}", network(client))
}

/// The client's address, or for IPv6 its /64.
pub fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

fn make_room(accounts: &mut HashMap<String, Failures>, now: DateTime<Utc>) {
    accounts.retain(|_, it| !it.is_stale(now));
    if accounts.len() >= MAX_ACCOUNTS {
        let oldest = accounts.iter().min_by_key(|(_, it)| it.last).map(|(account, _)| account);
        if let Some(oldest) = oldest.cloned() {
            accounts.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::milliseconds(millis)
    }

    /// Fails as soon as it may, and says how long each wait was.
    fn waits(back_off: &BackOff, failures: usize) -> Vec<u32> {
        let mut now = at(0);
        let mut waits = Vec::new();
        for _ in 0..failures {
            back_off.settle("ada", now, false).unwrap();
            match back_off.check("ada", now) {
                Ok(()) => waits.push(0),
                Err(wait) => {
                    waits.push(wait.seconds);
                    now += TimeDelta::seconds(wait.seconds.into());
                    assert_eq!(back_off.check("ada", now), Ok(()));
                    let early = now - TimeDelta::milliseconds(1);
                    assert_eq!(back_off.check("ada", early), Err(Wait { seconds: 1 }));
                }
            }
        }
        waits
    }

    #[test]
    fn the_wait_doubles_up_to_a_minute() {
        let back_off = BackOff::default();
        assert_eq!(waits(&back_off, 13), [0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(back_off.check("grace", at(0)), Ok(()));
    }

    #[test]
    fn a_success_or_an_hour_makes_it_forget() {
        let back_off = BackOff::default();
        waits(&back_off, 4);
        back_off.settle("ada", at(0), true).unwrap();
        assert_eq!(waits(&back_off, 5), [0, 0, 0, 0, 1]);
        let later = at(0) + FORGOTTEN;
        back_off.settle("ada", later, false).unwrap();
        assert_eq!(back_off.check("ada", later), Ok(()));
    }

    #[test]
    fn tries_at_once_tell_no_more_than_tries_in_a_row() {
        let back_off = BackOff::default();
        for _ in 0..20 {
            back_off.check("ada", at(0)).unwrap();
        }
        let told = (0..20).filter(|_| back_off.settle("ada", at(0), false).is_ok()).count();
        assert_eq!(told, 5);
        // Not even that it was the right one.
        assert_eq!(back_off.settle("ada", at(0), true), Err(Wait { seconds: 1 }));
    }

    #[test]
    fn a_stranger_shuts_nobody_out_and_a_hundred_guesses_slow_everybody() {
        let back_off = BackOff::default();
        let ip = |n: u32| IpAddr::from(n.to_be_bytes());
        for _ in 0..5 {
            back_off.settle_from("ada", ip(1), at(0), false).unwrap();
        }
        assert_eq!(back_off.check_from("ada", ip(1), at(0)), Err(Wait { seconds: 1 }));
        assert_eq!(back_off.check_from("ada", ip(2), at(0)), Ok(()));
        for n in 0..95 {
            back_off.settle_from("ada", ip(100 + n), at(0), false).unwrap();
        }
        assert_eq!(back_off.check_from("ada", ip(2), at(0)), Err(Wait { seconds: 1 }));
        assert_eq!(network("2001:db8::1:2:3:4".parse().unwrap()).to_string(), "2001:db8::");
    }

    #[test]
    fn its_memory_is_bounded() {
        let back_off = BackOff::default();
        for n in 0..=MAX_ACCOUNTS {
            let now = at(i64::try_from(n).unwrap());
            back_off.settle(&format!("user{n}"), now, false).unwrap();
        }
        let accounts = back_off.accounts.lock();
        assert_eq!(accounts.len(), MAX_ACCOUNTS);
        assert!(!accounts.contains_key("user0"));
    }
}
