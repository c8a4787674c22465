//! The service's clock, from the `Date` of its responses. Decisions about money that span minutes use it: this machine's clock
//! may be set to another time in between, even by months.

use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use reqwest::header::{DATE, HeaderMap};

/// Clocks that differ by less agree: `Date` is in whole seconds, and arrives late.
const AGREE: Duration = Duration::from_secs(2);

/// The service's clock, as of the last answer.
#[derive(Debug, Default)]
pub(super) struct Clock(Mutex<Option<(SystemTime, Instant)>>);

impl Clock {
    /// Sets the clock from an answer's `Date`, if it has one.
    pub(super) fn set(&self, headers: &HeaderMap) {
        let date = headers.get(DATE).and_then(|value| value.to_str().ok());
        let date = date.and_then(|text| httpdate::parse_http_date(text.trim()).ok());
        if let (Some(date), Ok(mut known)) = (date, self.0.lock()) {
            *known = Some((date, Instant::now()));
        }
    }

    /// The service's time, if it is known. Where the clocks agree, this machine's time `here` is returned, because it is
    /// finer.
    pub(super) fn now(&self, here: SystemTime) -> Option<SystemTime> {
        let (date, at) = self.0.lock().ok().and_then(|known| *known)?;
        let there = date.checked_add(at.elapsed())?;
        let apart = there.duration_since(here).unwrap_or_else(|behind| behind.duration());
        Some(if apart <= AGREE { here } else { there })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    #[test]
    fn the_services_time_counts_whatever_this_machine_shows() {
        let clock = Clock::default();
        let date = SystemTime::UNIX_EPOCH + 20_000 * DAY;
        for here in [date, date + 400 * DAY, date - 400 * DAY] {
            assert_eq!(clock.now(here), None, "no answer yet");
        }
        let set = |text: &str| clock.set(&HeaderMap::from_iter([(DATE, text.parse().unwrap())]));
        set(&httpdate::fmt_http_date(date));
        for here in [date + 400 * DAY, date - 400 * DAY, date + Duration::from_mins(10)] {
            let now = clock.now(here).unwrap();
            assert!(now >= date && now < date + Duration::from_mins(1), "{now:?}");
        }
        let finer = date + Duration::from_millis(1250);
        assert_eq!(clock.now(finer), Some(finer), "they agree");
        set("yesterday");
        assert_eq!(clock.now(finer), Some(finer), "an invalid date");
    }
}
