//! The choice of a base URL for a request: pure, it is given the time.

use std::time::{Duration, Instant};

use super::affinity::{number_of, score};
use super::health::UrlHealth;

/// Most requests in flight of one URL with affinity, as a multiple of its fair share.
const IMBALANCE: f64 = 1.25;

/// The requests in flight and the health of each base URL.
#[derive(Debug)]
pub(super) struct Balancer {
    urls: Vec<UrlLoad>,
}

#[derive(Debug)]
struct UrlLoad {
    number: u64,
    in_flight: usize,
    health: UrlHealth,
}

/// The needs of a request.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct UrlWish {
    /// The key of its beginning, if equal beginnings are to stay together.
    pub(super) key: Option<u64>,
    /// The URL where it has just failed.
    pub(super) avoid: Option<usize>,
}

/// The URL of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chosen {
    /// Its place in the list.
    pub(super) url: usize,
    /// The request tries a URL that is left out.
    pub(super) probe: bool,
}

impl Balancer {
    pub(super) fn new<'a>(urls: impl Iterator<Item = &'a str>) -> Self {
        let load = |url| UrlLoad { number: number_of(url), in_flight: 0, health: UrlHealth::default() };
        Self { urls: urls.map(load).collect() }
    }

    /// Chooses the URL of a request, and counts it as in flight there.
    ///
    /// A URL that is due is tried first. Otherwise the request goes to a URL that is well; if none is, to the one that is due
    /// first: then the breaker of the run decides when to send.
    pub(super) fn take(&mut self, now: Instant, wish: UrlWish) -> Chosen {
        let due = self.urls.iter().position(|url| url.health.is_due(now));
        // A row that has failed already need not be the one that tries.
        let url = due.filter(|_| wish.avoid.is_none()).or_else(|| self.best(wish)).unwrap_or_else(|| self.first_due());
        let load = &mut self.urls[url];
        load.in_flight += 1;
        Chosen { url, probe: load.health.begin_probe() }
    }

    /// The best URL among those that are well, but for the one to avoid if there is another.
    fn best(&self, wish: UrlWish) -> Option<usize> {
        let all = || (0..self.urls.len()).filter(|url| self.urls[*url].health.is_well());
        let well = || all().filter(|url| wish.avoid != Some(*url) || all().count() == 1);
        let least = well().min_by_key(|url| self.urls[*url].in_flight)?;
        let Some(key) = wish.key else { return Some(least) };
        let in_flight: usize = all().map(|url| self.urls[url].in_flight).sum();
        let most = (IMBALANCE * (in_flight + 1) as f64 / all().count() as f64).ceil() as usize;
        let room = well().filter(|url| self.urls[*url].in_flight < most);
        Some(room.max_by_key(|url| score(self.urls[*url].number, key)).unwrap_or(least))
    }

    fn first_due(&self) -> usize {
        (0..self.urls.len()).min_by_key(|url| self.urls[*url].health.due()).unwrap_or_default()
    }

    /// A request is not in flight any more.
    pub(super) fn leave(&mut self, chosen: Chosen) {
        let load = &mut self.urls[chosen.url];
        load.in_flight = load.in_flight.saturating_sub(1);
        if chosen.probe {
            load.health.end_probe();
        }
    }

    /// The URL has answered.
    pub(super) fn reached(&mut self, chosen: Chosen) {
        self.urls[chosen.url].health.reached();
    }

    /// The URL has not answered.
    pub(super) fn failed(&mut self, now: Instant, chosen: Chosen) {
        self.urls[chosen.url].health.failed(now, chosen.probe);
    }

    /// The server has no capacity, such as while it loads a model: it is left out for `wait`, or for its next pause if that is
    /// longer. Returns false if no other URL could take its rows.
    pub(super) fn is_full(&mut self, now: Instant, chosen: Chosen, wait: Duration) -> bool {
        let load = &self.urls[chosen.url];
        let others = self.well() > usize::from(load.health.is_well());
        if others && (load.health.is_well() || chosen.probe) {
            self.urls[chosen.url].health.leave_out(now, wait);
        }
        others
    }

    /// The number of URLs that get rows.
    pub(super) fn well(&self) -> usize {
        self.urls.iter().filter(|url| url.health.is_well()).count()
    }

    /// Returns true if the URL gets rows.
    pub(super) fn is_well(&self, url: usize) -> bool {
        self.urls[url].health.is_well()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const URLS: [&str; 3] = ["http://node7:8000/v1", "http://node8:8000/v1", "http://node9:8000/v1"];

    fn balancer() -> Balancer {
        Balancer::new(URLS.into_iter())
    }

    fn any() -> UrlWish {
        UrlWish::default()
    }

    /// Takes a URL for a request and fails it.
    fn fail(balancer: &mut Balancer, now: Instant, url: usize) {
        let chosen = Chosen { url, probe: false };
        balancer.failed(now, chosen);
    }

    #[test]
    fn least_in_flight_comes_first() {
        let now = Instant::now();
        let mut balancer = balancer();
        let taken: Vec<_> = (0..7).map(|_| balancer.take(now, any())).collect();
        assert_eq!(taken.iter().map(|chosen| chosen.url).collect::<Vec<_>>(), [0, 1, 2, 0, 1, 2, 0]);
        balancer.leave(taken[2]);
        balancer.leave(taken[5]);
        assert_eq!([0, 0, 0].map(|_| balancer.take(now, any()).url), [2, 2, 1]);
        assert_eq!(balancer.take(now, UrlWish { avoid: Some(2), ..any() }).url, 0);
    }

    #[test]
    fn dead_url_is_left_out_and_tried_by_single_rows() {
        let now = Instant::now();
        let mut balancer = balancer();
        (0..3).for_each(|_| fail(&mut balancer, now, 1));
        assert_eq!((balancer.well(), balancer.is_well(1)), (2, false));
        assert!((0..20).all(|_| balancer.take(now, any()).url != 1));
        let later = now + Duration::from_secs(1);
        let failed_before = UrlWish { avoid: Some(0), ..any() };
        assert_ne!(balancer.take(later, failed_before).url, 1);
        let probe = balancer.take(later, any());
        assert_eq!(probe, Chosen { url: 1, probe: true });
        assert!((0..20).all(|_| balancer.take(later, any()).url != 1), "one row is enough");
        balancer.failed(later, probe);
        balancer.leave(probe);
        assert_ne!(balancer.take(later + Duration::from_secs(1), any()).url, 1);
        let probe = balancer.take(later + Duration::from_secs(2), any());
        assert_eq!(probe.url, 1);
        balancer.reached(probe);
        balancer.leave(probe);
        assert_eq!((balancer.well(), balancer.take(later, any()).url), (3, 1));
    }

    #[test]
    fn probe_that_was_given_up_is_made_again() {
        let now = Instant::now();
        let mut balancer = balancer();
        (0..3).for_each(|_| fail(&mut balancer, now, 1));
        let later = now + Duration::from_secs(1);
        let probe = balancer.take(later, any());
        balancer.leave(probe);
        assert_eq!(balancer.take(later, any()), probe);
    }

    #[test]
    fn while_no_url_is_well_the_first_that_is_due_is_tried() {
        let now = Instant::now();
        let mut balancer = balancer();
        for (url, at) in [(0, 3), (1, 1), (2, 2)] {
            (0..3).for_each(|_| fail(&mut balancer, now + Duration::from_millis(at), url));
        }
        assert_eq!(balancer.take(now, UrlWish { avoid: Some(1), ..any() }), Chosen { url: 1, probe: true });
        assert_eq!(balancer.take(now, any()), Chosen { url: 1, probe: false });
    }

    #[test]
    fn server_without_capacity_is_left_out_while_another_has_some() {
        let now = Instant::now();
        let mut balancer = balancer();
        let at = |url| Chosen { url, probe: false };
        assert!(balancer.is_full(now, at(0), Duration::from_secs(9)) && balancer.is_full(now, at(1), Duration::ZERO));
        assert!(!balancer.is_full(now, at(2), Duration::ZERO), "the last one");
        assert_eq!((balancer.well(), balancer.is_well(2)), (1, true));
        assert!(balancer.is_full(now, at(0), Duration::ZERO), "a request that left before");
        let probe = balancer.take(now + Duration::from_secs(1), any());
        assert_eq!(probe, Chosen { url: 1, probe: true });
    }

    #[test]
    fn equal_beginnings_stay_together_within_a_bound() {
        let now = Instant::now();
        let mut balancer = balancer();
        let wish = |key| UrlWish { key: Some(key), avoid: None };
        // One after the other: always the same URL.
        let one: Vec<_> = (0..20)
            .map(|_| {
                let chosen = balancer.take(now, wish(7));
                balancer.leave(chosen);
                chosen.url
            })
            .collect();
        assert!(one.iter().all(|url| *url == one[0]), "{one:?}");
        // Sixty at once, all of one beginning: none gets more than its share and a quarter.
        let mut counts = [0; 3];
        (0..60).for_each(|_| counts[balancer.take(now, wish(7)).url] += 1);
        assert!(counts.iter().all(|count| *count <= 25), "{counts:?}");
        assert_eq!(*counts.iter().max().unwrap(), counts[one[0]], "{counts:?}");
    }
}
