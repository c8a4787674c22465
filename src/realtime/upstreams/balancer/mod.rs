//! The choice of a base URL for a request: pure, it is given the time.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::affinity::{number_of, score};
use super::health::UrlHealth;

/// Most requests in flight of one URL with affinity, as a multiple of its fair share.
const IMBALANCE: f64 = 1.25;
/// While a row tries a URL, others that may go nowhere else look again after this time.
const PROBE_CHECK: Duration = Duration::from_millis(100);

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
    /// Refusals of the key (401).
    key: UrlHealth,
    /// The models that the URL has refused: it does not know them, or forbids them, or wants payment. Rows of each try it
    /// again as if the URL were left out.
    models: HashMap<Arc<str>, UrlHealth>,
    /// Since its last refusal, the URL has answered a row, or found fault with its content.
    is_accepting: bool,
}

/// The needs of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct UrlWish<'a> {
    pub(super) model: &'a str,
    /// The key of its beginning, if equal beginnings are to stay together.
    pub(super) key: Option<u64>,
    /// The URL where it has just failed.
    pub(super) avoid: Option<usize>,
    /// The URLs that have refused it for the key or for money.
    pub(super) refused_by: &'a [usize],
}

/// The cause of a refusal that may be one of the URL alone.
#[derive(Debug, Clone, Copy)]
pub(super) enum RefusalCause<'a> {
    /// The server does not know the model.
    Model,
    /// The server does not accept the key.
    Key,
    /// The server forbids the request or wants payment. These URLs have refused the same row so.
    Row(&'a [usize]),
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
        Self {
            number: number_of(url),
            in_flight: 0,
            health: UrlHealth::default(),
            key: UrlHealth::default(),
            models: HashMap::new(),
            is_accepting: false,
        }
    }

    /// The health of the URL, that of the key there, and that of the model if the URL has refused it.
    fn parts(&self, model: &str) -> impl Iterator<Item = &UrlHealth> {
        [&self.health, &self.key].into_iter().chain(self.models.get(model))
    }

    fn parts_mut(&mut self, model: &str) -> impl Iterator<Item = &mut UrlHealth> {
        [&mut self.health, &mut self.key].into_iter().chain(self.models.get_mut(model))
    }

    /// Returns true if the URL gets rows of some models.
    const fn is_well(&self) -> bool {
        self.health.is_well() && self.key.is_well()
    }

    /// Returns true if the URL is left out because it has refused the key or this model.
    fn refuses(&self, model: &str) -> bool {
        !self.key.is_well() || self.models.get(model).is_some_and(|part| !part.is_well())
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

    /// The health of this model at the URL.
    fn model(&mut self, model: &Arc<str>) -> &mut UrlHealth {
        self.models.entry(Arc::clone(model)).or_default()
    }

    /// A row has tried the URL again in vain: what it had refused before waits for its next pause as well.
    fn extend_refusals(&mut self, now: Instant, model: &str) {
        let refusals = std::iter::once(&mut self.key).chain(self.models.get_mut(model));
        refusals.filter(|part| !part.is_well()).for_each(|part| part.leave_out(now, Duration::ZERO));
    }
}

impl Balancer {
    pub(super) fn new<'a>(urls: impl Iterator<Item = &'a str>) -> Self {
        Self { urls: urls.map(UrlLoad::new).collect(), turn: 0 }
    }

    /// Chooses the URL of a request, and counts it as in flight there.
    ///
    /// A URL that is due is tried first. Otherwise the request goes to a URL that is well and has its model. If there is none,
    /// it goes to the one that is due first.
    pub(super) fn take(&mut self, now: Instant, wish: UrlWish<'_>) -> Chosen {
        let due = self.urls.iter().position(|url| url.is_due(now, wish.model));
        // A row that has failed already need not be the one that tries.
        let first = due.filter(|_| wish.avoid.is_none() && wish.refused_by.is_empty());
        let url = first.or_else(|| self.best(wish)).or(due).unwrap_or_else(|| self.first_due(wish.model));
        self.turn = (url + 1) % self.urls.len().max(1);
        let load = &mut self.urls[url];
        load.in_flight += 1;
        let probe = load.parts_mut(wish.model).fold(false, |any, part| part.begin_probe() | any);
        Chosen { url, probe }
    }

    /// The best URL among those that are well, if possible none that has refused the row, or where it has just failed.
    fn best(&self, wish: UrlWish<'_>) -> Option<usize> {
        let turns = (self.turn..self.urls.len()).chain(0..self.turn);
        let all = || turns.clone().filter(|url| self.urls[*url].serves(wish.model));
        let trouble = |url: &usize| (wish.refused_by.contains(url), wish.avoid == Some(*url));
        let least_trouble = all().map(|url| trouble(&url)).min()?;
        let well = || all().filter(|url| trouble(url) == least_trouble);
        let least = well().min_by_key(|url| self.urls[*url].in_flight)?;
        let Some(key) = wish.key else { return Some(least) };
        let in_flight: usize = all().map(|url| self.urls[url].in_flight).sum();
        let most = (IMBALANCE * (in_flight + 1) as f64 / all().count() as f64).ceil() as usize;
        let room = well().filter(|url| self.urls[*url].in_flight < most);
        Some(room.max_by_key(|url| score(self.urls[*url].number, key)).unwrap_or(least))
    }

    /// The URL that is due first, if possible one that has not refused the model.
    fn first_due(&self, model: &str) -> usize {
        let order = |url: &usize| (self.urls[*url].refuses(model), self.urls[*url].due(model));
        (0..self.urls.len()).min_by_key(order).unwrap_or_default()
    }

    /// The wait of rows of this model until a URL is to be tried again, if none serves it while rows of other models are
    /// served. If no URL is well, the breaker of the run decides when to send.
    pub(super) fn wait(&self, now: Instant, model: &str) -> Option<Duration> {
        if self.serves(model) || self.well() == 0 {
            return None;
        }
        let due = self.urls.iter().filter_map(|url| url.due(model)).min()?;
        let is_due = self.urls.iter().any(|url| url.is_due(now, model));
        (!is_due).then(|| due.saturating_duration_since(now).max(PROBE_CHECK))
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
        load.key.reached();
        load.models.remove(model);
        load.is_accepting = true;
    }

    /// The URL has not answered, or with an error of its own.
    pub(super) fn failed(&mut self, now: Instant, chosen: Chosen, model: &str) {
        let load = &mut self.urls[chosen.url];
        load.health.failed(now, chosen.probe);
        if chosen.probe {
            load.extend_refusals(now, model);
        }
    }

    /// The server has no capacity, such as while it loads a model: it is left out for `wait`, or for its next pause if that is
    /// longer. Returns false if no other URL gets rows.
    pub(super) fn is_full(&mut self, now: Instant, chosen: Chosen, model: &str, wait: Duration) -> bool {
        // Rows that only this URL serves wait for it, and hold up no others.
        let others = self.others(chosen).any(UrlLoad::is_well);
        let load = &mut self.urls[chosen.url];
        if others && (load.health.is_well() || chosen.probe) {
            load.health.leave_out(now, wait);
        }
        if others && chosen.probe {
            load.extend_refusals(now, model);
        }
        others
    }

    /// The server refuses a row for a reason that other URLs may not have. Its rows go elsewhere: at once if it does not know
    /// the model, else after a few such refusals. Returns false if no other URL is left to try.
    pub(super) fn refused(&mut self, now: Instant, chosen: Chosen, model: &Arc<str>, cause: RefusalCause<'_>) -> bool {
        let others = self.may_be_taken_elsewhere(chosen, model, cause);
        let load = &mut self.urls[chosen.url];
        load.health.reached();
        load.is_accepting = false;
        if chosen.probe {
            load.extend_refusals(now, model);
        }
        if others {
            match cause {
                RefusalCause::Key => load.key.failed(now, false),
                RefusalCause::Model => load.model(model).leave_out_if_well(now),
                RefusalCause::Row(_) => load.model(model).failed(now, false),
            }
        }
        others
    }

    /// Returns true if another URL may answer a row that this one refuses.
    fn may_be_taken_elsewhere(&self, chosen: Chosen, model: &str, cause: RefusalCause<'_>) -> bool {
        let refused_by = if let RefusalCause::Row(urls) = cause { urls } else { &[] };
        let is_left =
            |(url, load): &(usize, &UrlLoad)| *url != chosen.url && !refused_by.contains(url) && !load.refuses(model);
        let mut left = self.urls.iter().enumerate().filter(is_left).peekable();
        // A URL that answers others refuses the row for its content, so that the row need not wait for one that is away.
        let is_rows_own = matches!(cause, RefusalCause::Row(_)) && self.urls[chosen.url].is_accepting;
        left.peek().is_some() && (!is_rows_own || left.any(|(_, load)| load.serves(model)))
    }

    fn others(&self, chosen: Chosen) -> impl Iterator<Item = &UrlLoad> {
        self.urls.iter().enumerate().filter_map(move |(url, load)| (url != chosen.url).then_some(load))
    }

    /// Returns true if any URL gets rows of this model.
    pub(super) fn serves(&self, model: &str) -> bool {
        self.urls.iter().any(|url| url.serves(model))
    }

    /// Returns true if another URL gets rows of this model.
    pub(super) fn others_serve(&self, chosen: Chosen, model: &str) -> bool {
        self.others(chosen).any(|url| url.serves(model))
    }

    /// The number of URLs that get rows.
    pub(super) fn well(&self) -> usize {
        self.urls.iter().filter(|url| url.is_well()).count()
    }

    /// Returns true if the URL gets rows.
    pub(super) fn is_well(&self, url: usize) -> bool {
        self.urls[url].is_well()
    }

    /// The models whose rows the URL does not get because it has refused them.
    pub(super) fn missing(&self, url: usize) -> impl Iterator<Item = &Arc<str>> {
        self.urls[url].models.iter().filter_map(|(model, health)| (!health.is_well()).then_some(model))
    }
}
