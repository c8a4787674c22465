//! The choice of a base URL for a request: pure, it is given the time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::affinity::{number_of, score};
use super::health::UrlHealth;

/// Most requests in flight of one URL with affinity, as a multiple of its fair share.
const IMBALANCE: f64 = 1.25;

/// The requests in flight and the health of each base URL.
#[derive(Debug)]
pub(super) struct Balancer {
    urls: Vec<UrlLoad>,
    /// The URL that comes first among those with equally many requests in flight: they take turns.
    turn: usize,
}

#[derive(Debug)]
struct UrlLoad {
    number: u64,
    in_flight: usize,
    health: UrlHealth,
    /// The models that the URL has refused. Rows of each try it again as if the URL were left out.
    missing: HashMap<Arc<str>, UrlHealth>,
}

/// The needs of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct UrlWish<'a> {
    pub(super) model: &'a str,
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

impl UrlLoad {
    fn new(url: &str) -> Self {
        Self { number: number_of(url), in_flight: 0, health: UrlHealth::default(), missing: HashMap::new() }
    }

    /// The health of the URL, and that of the model there if the URL has refused it.
    fn parts(&self, model: &str) -> impl Iterator<Item = &UrlHealth> {
        std::iter::once(&self.health).chain(self.missing.get(model))
    }

    fn parts_mut(&mut self, model: &str) -> impl Iterator<Item = &mut UrlHealth> {
        std::iter::once(&mut self.health).chain(self.missing.get_mut(model))
    }

    /// Returns true if the URL gets rows of this model.
    fn serves(&self, model: &str) -> bool {
        self.parts(model).all(UrlHealth::is_well)
    }

    /// Returns true if a row of this model is to try the URL again.
    fn is_due(&self, now: Instant, model: &str) -> bool {
        !self.serves(model) && self.parts(model).all(|part| part.is_well() || part.is_due(now))
    }

    fn due(&self, model: &str) -> Option<Instant> {
        self.parts(model).filter_map(UrlHealth::due).max()
    }
}

impl Balancer {
    pub(super) fn new<'a>(urls: impl Iterator<Item = &'a str>) -> Self {
        Self { urls: urls.map(UrlLoad::new).collect(), turn: 0 }
    }

    /// Chooses the URL of a request, and counts it as in flight there.
    ///
    /// A URL that is due is tried first. Otherwise the request goes to a URL that is well and has its model. If there is none,
    /// it goes to the one that is due first: then the breaker of the run decides when to send.
    pub(super) fn take(&mut self, now: Instant, wish: UrlWish<'_>) -> Chosen {
        let due = self.urls.iter().position(|url| url.is_due(now, wish.model));
        // A row that has failed already need not be the one that tries.
        let due = due.filter(|_| wish.avoid.is_none());
        let url = due.or_else(|| self.best(wish)).unwrap_or_else(|| self.first_due(wish.model));
        self.turn = (url + 1) % self.urls.len().max(1);
        let load = &mut self.urls[url];
        load.in_flight += 1;
        let probe = load.parts_mut(wish.model).fold(false, |any, part| part.begin_probe() | any);
        Chosen { url, probe }
    }

    /// The best URL among those that are well, but for the one to avoid if there is another.
    fn best(&self, wish: UrlWish<'_>) -> Option<usize> {
        let turns = (self.turn..self.urls.len()).chain(0..self.turn);
        let all = || turns.clone().filter(|url| self.urls[*url].serves(wish.model));
        let well = || all().filter(|url| wish.avoid != Some(*url) || all().count() == 1);
        let least = well().min_by_key(|url| self.urls[*url].in_flight)?;
        let Some(key) = wish.key else { return Some(least) };
        let in_flight: usize = all().map(|url| self.urls[url].in_flight).sum();
        let most = (IMBALANCE * (in_flight + 1) as f64 / all().count() as f64).ceil() as usize;
        let room = well().filter(|url| self.urls[*url].in_flight < most);
        Some(room.max_by_key(|url| score(self.urls[*url].number, key)).unwrap_or(least))
    }

    /// The URL that is due first, if possible one that has not refused the model.
    fn first_due(&self, model: &str) -> usize {
        let order = |url: &usize| (self.urls[*url].missing.contains_key(model), self.urls[*url].due(model));
        (0..self.urls.len()).min_by_key(order).unwrap_or_default()
    }

    /// A request for this model is not in flight any more.
    pub(super) fn leave(&mut self, chosen: Chosen, model: &str) {
        let load = &mut self.urls[chosen.url];
        load.in_flight = load.in_flight.saturating_sub(1);
        if chosen.probe {
            load.parts_mut(model).for_each(UrlHealth::end_probe);
        }
    }

    /// The URL has answered a request for this model.
    pub(super) fn reached(&mut self, chosen: Chosen, model: &str) {
        let load = &mut self.urls[chosen.url];
        load.health.reached();
        load.missing.remove(model);
    }

    /// The URL has not answered, or with an error of its own.
    pub(super) fn failed(&mut self, now: Instant, chosen: Chosen) {
        self.urls[chosen.url].health.failed(now, chosen.probe);
    }

    /// The server has no capacity, such as while it loads a model: it is left out for `wait`, or for its next pause if that is
    /// longer. Returns false if no other URL could take its rows of this model.
    pub(super) fn is_full(&mut self, now: Instant, chosen: Chosen, model: &str, wait: Duration) -> bool {
        let others = self.others(chosen).any(|url| url.serves(model));
        let health = &mut self.urls[chosen.url].health;
        if others && (health.is_well() || chosen.probe) {
            health.leave_out(now, wait);
        }
        others
    }

    /// The server does not know this model: rows of the model go elsewhere. Returns false if all others have refused it too.
    pub(super) fn lacks(&mut self, now: Instant, chosen: Chosen, model: &Arc<str>) -> bool {
        let others = self.others(chosen).any(|url| !url.missing.contains_key(model));
        let load = &mut self.urls[chosen.url];
        load.health.reached();
        if others && (chosen.probe || !load.missing.contains_key(model)) {
            load.missing.entry(Arc::clone(model)).or_default().leave_out(now, Duration::ZERO);
        }
        others
    }

    fn others(&self, chosen: Chosen) -> impl Iterator<Item = &UrlLoad> {
        self.urls.iter().enumerate().filter_map(move |(url, load)| (url != chosen.url).then_some(load))
    }

    /// Returns true if any URL gets rows of this model.
    pub(super) fn serves(&self, model: &str) -> bool {
        self.urls.iter().any(|url| url.serves(model))
    }

    /// The number of URLs that get rows.
    pub(super) fn well(&self) -> usize {
        self.urls.iter().filter(|url| url.health.is_well()).count()
    }

    /// Returns true if the URL gets rows.
    pub(super) fn is_well(&self, url: usize) -> bool {
        self.urls[url].health.is_well()
    }

    /// The models that the URL has refused.
    pub(super) fn missing(&self, url: usize) -> impl Iterator<Item = &Arc<str>> {
        self.urls[url].missing.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const URLS: [&str; 3] = ["http://node7:8000/v1", "http://node8:8000/v1", "http://node9:8000/v1"];

    fn balancer() -> Balancer {
        Balancer::new(URLS.into_iter())
    }

    fn any() -> UrlWish<'static> {
        UrlWish { model: "m", key: None, avoid: None }
    }

    /// Takes this URL, one of those with the fewest requests in flight, for a request.
    fn take_at(balancer: &mut Balancer, now: Instant, url: usize) -> Chosen {
        let mut taken: Vec<Chosen> = URLS.iter().map(|_| balancer.take(now, any())).collect();
        let chosen = taken.remove(taken.iter().position(|chosen| chosen.url == url).unwrap());
        for other in taken {
            balancer.leave(other, "m");
        }
        chosen
    }

    /// Takes a URL for a request and fails it.
    fn fail(balancer: &mut Balancer, now: Instant, url: usize) {
        let chosen = take_at(balancer, now, url);
        balancer.failed(now, chosen);
        balancer.leave(chosen, "m");
        assert_eq!(balancer.urls[url].in_flight, 0);
    }

    #[test]
    fn least_in_flight_comes_first() {
        let now = Instant::now();
        let mut balancer = balancer();
        let taken: Vec<_> = (0..7).map(|_| balancer.take(now, any())).collect();
        assert_eq!(taken.iter().map(|chosen| chosen.url).collect::<Vec<_>>(), [0, 1, 2, 0, 1, 2, 0]);
        balancer.leave(taken[2], "m");
        balancer.leave(taken[5], "m");
        assert_eq!([0, 0, 0].map(|_| balancer.take(now, any()).url), [2, 2, 1]);
        assert_eq!(balancer.take(now, UrlWish { avoid: Some(2), ..any() }).url, 0);
    }

    #[test]
    fn equally_busy_urls_take_turns() {
        let now = Instant::now();
        let mut balancer = balancer();
        let urls = [0; 7].map(|_| {
            let chosen = balancer.take(now, any());
            balancer.leave(chosen, "m");
            chosen.url
        });
        assert_eq!(urls, [0, 1, 2, 0, 1, 2, 0]);
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
        balancer.leave(probe, "m");
        assert_ne!(balancer.take(later + Duration::from_secs(1), any()).url, 1);
        let probe = balancer.take(later + Duration::from_secs(2), any());
        assert_eq!(probe.url, 1);
        balancer.reached(probe, "m");
        balancer.leave(probe, "m");
        assert_eq!((balancer.well(), balancer.take(later, any()).url), (3, 1));
    }

    #[test]
    fn probe_that_was_given_up_is_made_again() {
        let now = Instant::now();
        let mut balancer = balancer();
        (0..3).for_each(|_| fail(&mut balancer, now, 1));
        let later = now + Duration::from_secs(1);
        let probe = balancer.take(later, any());
        balancer.leave(probe, "m");
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
        assert!(
            balancer.is_full(now, at(0), "m", Duration::from_secs(9))
                && balancer.is_full(now, at(1), "m", Duration::ZERO)
        );
        assert!(!balancer.is_full(now, at(2), "m", Duration::ZERO), "the last one");
        assert_eq!((balancer.well(), balancer.is_well(2)), (1, true));
        assert!(balancer.is_full(now, at(0), "m", Duration::ZERO), "a request that left before");
        let probe = balancer.take(now + Duration::from_secs(1), any());
        assert_eq!(probe, Chosen { url: 1, probe: true });
    }

    #[test]
    fn equal_beginnings_stay_together_within_a_bound() {
        let now = Instant::now();
        let mut balancer = balancer();
        let wish = |key| UrlWish { key: Some(key), ..any() };
        // One after the other: always the same URL.
        let one: Vec<_> = (0..20)
            .map(|_| {
                let chosen = balancer.take(now, wish(7));
                balancer.leave(chosen, "m");
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

    #[test]
    fn model_that_one_url_lacks_goes_to_the_others_and_is_tried_again() {
        let now = Instant::now();
        let (mut balancer, model) = (balancer(), Arc::from("m"));
        let other = UrlWish { model: "other", ..any() };
        let refused = take_at(&mut balancer, now, 1);
        assert!(balancer.lacks(now, refused, &model));
        balancer.leave(refused, "m");
        assert!((0..20).all(|_| balancer.take(now, any()).url != 1));
        assert_eq!((balancer.take(now, other).url, balancer.well()), (1, 3), "other models have all URLs");
        let later = now + Duration::from_secs(1);
        assert!(!balancer.take(later, other).probe);
        let probe = balancer.take(later, any());
        assert_eq!(probe, Chosen { url: 1, probe: true });
        assert!(balancer.lacks(later, probe, &model));
        balancer.leave(probe, "m");
        assert_ne!(balancer.take(later + Duration::from_secs(1), any()).url, 1);
        let probe = balancer.take(later + Duration::from_secs(2), any());
        assert_eq!(probe, Chosen { url: 1, probe: true });
        balancer.reached(probe, "m");
        balancer.leave(probe, "m");
        assert_eq!(balancer.missing(1).count(), 0);
    }

    #[test]
    fn model_is_unknown_once_every_url_has_refused_it() {
        let now = Instant::now();
        let (mut balancer, model) = (balancer(), Arc::from("m"));
        let taken = [0; 3].map(|_| balancer.take(now, any()));
        assert_eq!(taken.map(|chosen| balancer.lacks(now, chosen, &model)), [true, true, false]);
        for chosen in taken {
            balancer.leave(chosen, "m");
        }
        assert_eq!([0; 3].map(|_| balancer.take(now, any()).url), [2; 3], "the last one still tells");
    }

    #[test]
    fn row_waits_for_a_dead_url_that_may_have_its_model() {
        let now = Instant::now();
        let (mut balancer, model) = (balancer(), Arc::from("m"));
        (0..3).for_each(|_| fail(&mut balancer, now + Duration::from_secs(9), 2));
        for url in [0, 1] {
            let chosen = Chosen { url, probe: false };
            assert!(balancer.lacks(now, chosen, &model), "URL 2 may have it");
        }
        assert!(!balancer.serves("m") && balancer.serves("other"));
        assert_eq!(balancer.take(now, any()), Chosen { url: 2, probe: true });
        assert!(!balancer.is_full(now, Chosen { url: 2, probe: false }, "m", Duration::ZERO), "no other has the model");
    }
}
