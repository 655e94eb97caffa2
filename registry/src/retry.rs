//! When to try again, and how long to wait before.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, SystemTime};

use jiff::fmt::rfc2822;

use crate::RegistryError;
use crate::config::RetryPolicy;
use crate::endpoint::Endpoint;

/// How often a mirror is tried for one request.
const MIRROR_TRIES: u32 = 2;

/// A try that failed: why, and whether another may help.
#[derive(Debug)]
pub struct Failure {
    pub error: Box<RegistryError>,
    pub again: Again,
}

/// Whether another try may help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// No.
    Never,
    /// Yes.
    Soon,
    /// Perhaps: nobody was there. A wrong name should not take half a minute to report.
    Unlikely,
    /// Yes, after this long: the registry said so.
    After(Duration),
}

impl Failure {
    /// A failure that another try cannot mend.
    pub fn last(error: RegistryError) -> Self {
        Self { error: Box::new(error), again: Again::Never }
    }

    /// A failure that another try may mend.
    pub fn soon(error: RegistryError) -> Self {
        Self { error: Box::new(error), again: Again::Soon }
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        Self::last(error)
    }
}

/// The tries of one request.
pub struct Tries<'a> {
    policy: &'a RetryPolicy,
    limit: u32,
    failed: u32,
}

impl<'a> Tries<'a> {
    pub fn new(policy: &'a RetryPolicy) -> Self {
        Self { policy, limit: policy.tries.max(1), failed: 0 }
    }

    /// The tries that an endpoint gets: a mirror is not worth waiting for.
    pub fn at(endpoint: &Endpoint, policy: &'a RetryPolicy) -> Self {
        let tries = Self::new(policy);
        let limit = if endpoint.mirror.is_some() { tries.limit.min(MIRROR_TRIES) } else { tries.limit };
        Self { limit, ..tries }
    }

    /// Something was achieved: the count begins anew.
    pub fn reset(&mut self) {
        self.failed = 0;
    }

    /// Waits until the next try; gives the error back when there is none.
    pub async fn wait(&mut self, failure: Failure) -> Result<(), RegistryError> {
        self.failed += 1;
        let (limit, wait) = match failure.again {
            Again::Never => return Err(*failure.error),
            Again::Soon => (self.limit, self.policy.delay(self.failed)),
            Again::Unlikely => (self.limit.min(self.policy.connect_tries), self.policy.delay(self.failed)),
            Again::After(wait) if wait > self.policy.retry_after_cap => return Err(*failure.error),
            Again::After(wait) => (self.limit, wait.max(self.policy.delay(self.failed))),
        };
        if self.failed >= limit {
            return Err(*failure.error);
        }
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

impl RetryPolicy {
    /// The wait after the `failed`-th failure: it doubles each time up to the cap, and between half and all of it
    /// is taken, so that many clients that failed together do not come back together.
    fn delay(&self, failed: u32) -> Duration {
        let doubled = self.base.saturating_mul(1 << failed.saturating_sub(1).min(20));
        let whole = doubled.min(self.cap);
        whole / 2 + whole.mul_f64(random_unit() / 2.0)
    }
}

/// A number in [0, 1). `RandomState` is seeded by the system and differs at each call: enough for jitter.
fn random_unit() -> f64 {
    (RandomState::new().hash_one(0u8) >> 11) as f64 / (1u64 << 53) as f64
}

/// Reads `Retry-After`: seconds, or a date (RFC 9110 §10.2.3) counted from the server's own `Date`, because
/// clocks differ.
pub fn retry_after(value: &str, date: Option<&str>) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        return Some(value.parse().map_or(Duration::MAX, Duration::from_secs));
    }
    let now = date.and_then(seconds).unwrap_or_else(|| {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    });
    let wait = seconds(value)?.saturating_sub(now).max(0);
    Some(Duration::from_secs(wait.unsigned_abs()))
}

/// A date of http's, in seconds since 1970.
pub fn seconds(date: &str) -> Option<i64> {
    Some(rfc2822::parse(date).ok()?.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let date = Some("Sun, 06 Nov 1994 08:49:37 GMT");
        for (text, want) in [
            ("0", Some(0)),
            ("120", Some(120)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10)),
            ("Sun, 06 Nov 1994 08:49:07 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
            ("1.5", None),
            ("", None),
        ] {
            assert_eq!(retry_after(text, date), want.map(Duration::from_secs), "{text}");
        }
        assert_eq!(retry_after("99999999999999999999999", None), Some(Duration::MAX));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", None), Some(Duration::ZERO));
    }

    #[test]
    fn waits_double_up_to_the_cap_and_differ() {
        let policy = RetryPolicy::default();
        for (failed, whole) in [(1, 500), (2, 1000), (3, 2000), (7, 30_000), (60, 30_000)] {
            let delay = policy.delay(failed).as_millis();
            assert!((whole / 2..=whole).contains(&delay), "{failed}: {delay} ms");
        }
        let delays: std::collections::HashSet<_> = (0..20).map(|_| policy.delay(5)).collect();
        assert!(delays.len() > 10);
    }

    #[tokio::test(start_paused = true)]
    async fn six_tries_then_the_error() {
        let policy = RetryPolicy::default();
        let error = || RegistryError::Cancelled { object: "x".into() };
        let mut tries = Tries::new(&policy);
        for _ in 0..5 {
            tries.wait(Failure::soon(error())).await.unwrap();
        }
        assert!(tries.wait(Failure::soon(error())).await.is_err());
        let mut tries = Tries::new(&policy);
        let far = Failure { error: Box::new(error()), again: Again::After(Duration::from_secs(121)) };
        assert!(tries.wait(far).await.is_err(), "a wait beyond the cap is not waited for");
        let begun = tokio::time::Instant::now();
        let near = Failure { error: Box::new(error()), again: Again::After(Duration::from_secs(100)) };
        tries.wait(near).await.unwrap();
        assert_eq!(begun.elapsed().as_secs(), 100, "the registry's wait is honoured");
    }
}
