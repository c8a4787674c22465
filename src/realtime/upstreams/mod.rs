//! The base URLs of a service: each request goes to one of them.
//!
//! ```text
//! balancer    the choice of a URL that has the model: least in flight first, or by affinity
//! health      URLs that are left out, for all rows or for those of one model, and when they are tried again
//! affinity    equal beginnings of prompts on one server
//! ```
//!
//! A row that failed goes to another URL as any other row does: what it may have cost counts as at risk, and the bounds of
//! [`decision`](super::decision) on its tries hold over all URLs. With one URL, all of this does nothing.

mod affinity;
mod balancer;
mod health;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use balancer::{Balancer, Chosen, RefusalCause, UrlWish};

use crate::api::error::{Class, Failure, Fault};
use crate::api::{Client, RowAddress};

/// A base URL of the service.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// Its client.
    pub client: Client,
    /// Its number in the job's database. 0: the service has no other.
    pub number: u32,
}

/// A base URL that is left out at the moment, for the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOutUrl {
    /// The URL.
    pub url: Arc<str>,
    /// The model that it lacks, if it gets rows of other models.
    pub model: Option<Arc<str>>,
    /// Its last failure.
    pub failure: Arc<str>,
}

/// The part of a service that a failure concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FailureExtent {
    /// All of it, as far as one request can tell.
    Service,
    /// One base URL. Others take its rows.
    OneUrl,
}

/// The base URLs of one run.
#[derive(Debug)]
pub(super) struct Upstreams {
    sites: Vec<Site>,
    balancer: RefCell<Balancer>,
    /// Equal beginnings of prompts stay together.
    affinity: bool,
}

/// The address of rows at one base URL.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) client: Client,
    pub(super) address: RowAddress,
    pub(super) number: u32,
    base: Arc<str>,
    last_failure: RefCell<Arc<str>>,
}

/// The base URLs where tries of one row have failed.
#[derive(Debug, Default)]
pub(super) struct FailedUrls {
    /// The URL of the last try.
    last: Option<usize>,
    /// The URLs that have refused the row for the key or for money.
    refused_by: Vec<usize>,
}

impl FailedUrls {
    /// Records that the last try was answered.
    pub(super) const fn answered(&mut self) {
        self.last = None;
    }
}

/// A request at one base URL, until this is dropped.
#[derive(Debug)]
pub(super) struct Visit<'a> {
    upstreams: &'a Upstreams,
    chosen: Chosen,
    model: Arc<str>,
}

impl Upstreams {
    pub(super) fn new(urls: Vec<Upstream>, path: &str, affinity: bool) -> Self {
        let site = |Upstream { client, number }: Upstream| Site {
            address: client.row_address(path),
            base: client.base().into(),
            client,
            number,
            last_failure: RefCell::new(Arc::from("")),
        };
        let sites: Vec<Site> = urls.into_iter().map(site).collect();
        let balancer = RefCell::new(Balancer::new(sites.iter().map(|site| &*site.base)));
        Self { affinity: affinity && sites.len() > 1, sites, balancer }
    }

    /// Returns true if there is more than one URL.
    pub(super) const fn are_several(&self) -> bool {
        self.sites.len() > 1
    }

    /// The key of a request's beginning, if equal beginnings are to stay together.
    pub(super) fn key_of(&self, body: &str) -> Option<u64> {
        if self.affinity { affinity::key_of(body) } else { None }
    }

    /// Sends a request for this model to one of the URLs, if possible to none of those where it has failed.
    pub(super) fn visit(&self, now: Instant, model: &Arc<str>, key: Option<u64>, failed: &FailedUrls) -> Visit<'_> {
        let chosen = if self.are_several() {
            let wish = UrlWish { model, key, avoid: failed.last, refused_by: &failed.refused_by };
            self.balancer.borrow_mut().take(now, wish)
        } else {
            Chosen { url: 0, probe: false }
        };
        Visit { upstreams: self, chosen, model: Arc::clone(model) }
    }

    /// The wait of rows of this model until a URL is to be tried again, while only rows of other models are served.
    pub(super) fn wait(&self, now: Instant, model: &str) -> Option<Duration> {
        if self.are_several() { self.balancer.borrow().wait(now, model) } else { None }
    }

    /// The number of URLs that get rows. While none does, it is 1: the breaker of the run lets single requests through.
    pub(super) fn well(&self) -> usize {
        if self.are_several() { self.balancer.borrow().well().max(1) } else { 1 }
    }

    /// The URLs that are left out, for all rows or for those of a model that another URL has answered.
    pub(super) fn left_out(&self, is_answered: impl Fn(&Arc<str>) -> bool) -> Vec<LeftOutUrl> {
        let balancer = self.balancer.borrow();
        let out = |(url, site): (usize, &Site)| {
            let model = balancer.missing(url).filter(|_| balancer.is_well(url)).find(|model| is_answered(model));
            (model.is_some() || !balancer.is_well(url)).then(|| LeftOutUrl {
                url: Arc::clone(&site.base),
                model: model.cloned(),
                failure: Arc::clone(&site.last_failure.borrow()),
            })
        };
        self.sites.iter().enumerate().filter_map(out).collect()
    }
}

impl Visit<'_> {
    /// The URL.
    pub(super) fn site(&self) -> &Site {
        &self.upstreams.sites[self.chosen.url]
    }

    /// Learns that the URL has answered.
    pub(super) fn reached(&self) {
        if self.upstreams.are_several() {
            self.upstreams.balancer.borrow_mut().reached(self.chosen, &self.model);
        }
    }

    /// Returns true if another URL gets rows of this model.
    pub(super) fn others_serve(&self) -> bool {
        self.upstreams.are_several() && self.upstreams.balancer.borrow().others_serve(self.chosen, &self.model)
    }

    /// Learns of a failure of a row, given the URLs where earlier tries have failed. `wait` is what the server asks for.
    pub(super) fn failed(
        &self,
        now: Instant,
        failure: &Failure,
        wait: Option<Duration>,
        earlier: &mut FailedUrls,
    ) -> FailureExtent {
        if !self.upstreams.are_several() {
            return FailureExtent::Service;
        }
        let is_own = self.is_own(now, failure, wait.unwrap_or_default(), &earlier.refused_by);
        earlier.last = Some(self.chosen.url);
        if is_refusal(failure) && !earlier.refused_by.contains(&self.chosen.url) {
            earlier.refused_by.push(self.chosen.url);
        }
        if is_own { FailureExtent::OneUrl } else { FailureExtent::Service }
    }

    /// Records a failure of one URL of several. Returns true if it is its own, and others take its rows.
    fn is_own(&self, now: Instant, failure: &Failure, wait: Duration, refused_by: &[usize]) -> bool {
        let class = failure.class();
        // A server that fails at once has the fewest requests in flight, and would get nearly every row.
        let faulty = matches!(class, Class::NotSent | Class::Ambiguous) || failure.setup().is_some();
        let full = class == Class::NoCapacity;
        let refusal = match failure.fault {
            _ if failure.model_unknown => Some(RefusalCause::Model),
            Fault::Auth if failure.meant_status() == Some(401) => Some(RefusalCause::Key),
            _ if is_refusal(failure) => Some(RefusalCause::Row(refused_by)),
            _ => None,
        };
        if faulty || full || refusal.is_some() {
            *self.site().last_failure.borrow_mut() = failure.message.as_str().into();
        }
        let mut balancer = self.upstreams.balancer.borrow_mut();
        if full {
            return balancer.is_full(now, self.chosen, &self.model, wait);
        }
        if let Some(refusal) = refusal {
            return balancer.refused(now, self.chosen, &self.model, refusal);
        }
        if faulty {
            balancer.failed(now, self.chosen, &self.model);
            // Requests that may have been billed count against the run's own allowance until the URL is left out.
            let alone = class != Class::Ambiguous || !balancer.is_well(self.chosen.url);
            return alone && balancer.well() > 0;
        }
        balancer.reached(self.chosen, &self.model);
        false
    }
}

/// Returns true for a refusal of the key or of payment.
const fn is_refusal(failure: &Failure) -> bool {
    matches!(failure.fault, Fault::Auth | Fault::Payment)
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        if self.upstreams.are_several() {
            self.upstreams.balancer.borrow_mut().leave(self.chosen, &self.model);
        }
    }
}
