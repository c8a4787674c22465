use super::*;
use crate::api::ClientOptions;
use crate::api::error::Fault;

fn upstreams() -> Upstreams {
    let upstream = |number: u32| {
        let base_url = format!("http://127.0.0.1:{number}/v1");
        let options = ClientOptions { base_url, key: None, headers: Vec::new(), user_agent: "test".to_owned() };
        Upstream { client: Client::new(&options).unwrap(), number }
    };
    Upstreams::new(vec![upstream(1), upstream(2)], "chat/completions", false)
}

/// A row that has failed at this URL.
fn failed_at(url: usize) -> FailedUrls {
    FailedUrls { last: Some(url), refused_by: Vec::new() }
}

/// Sends a row that has failed at the second URL, and fails it at the first.
fn fails(upstreams: &Upstreams, now: Instant, failure: &Failure) -> FailureExtent {
    let mut row = failed_at(1);
    let visit = upstreams.visit(now, &Arc::from("m"), None, &row);
    assert_eq!(visit.chosen.url, 0);
    visit.failed(now, failure, None, &mut row)
}

fn failure(fault: Fault, status: Option<u16>) -> Failure {
    let model_unknown = fault == Fault::NotFound;
    Failure { status, model_unknown, ..Failure::new(fault, format!("{fault:?}")) }
}

#[test]
fn failures_of_a_server_leave_its_url_out_and_its_probes_do_not_bring_it_back() {
    use FailureExtent::{OneUrl, Service};
    for (fault, status) in [
        (Fault::Server, Some(502)),
        (Fault::Server, Some(500)),
        (Fault::BadResponse, Some(200)),
        (Fault::Broken, Some(200)),
        (Fault::Timeout, Some(408)),
    ] {
        let (upstreams, model, failure) = (upstreams(), Arc::from("m"), failure(fault, status));
        let now = Instant::now();
        assert_eq!([0; 3].map(|_| fails(&upstreams, now, &failure)), [Service, Service, OneUrl], "{fault:?}");
        assert_eq!(upstreams.well(), 1);
        let later = now + Duration::from_secs(1);
        let mut row = FailedUrls::default();
        let probe = upstreams.visit(later, &model, None, &row);
        assert_eq!((probe.chosen.url, probe.failed(later, &failure, None, &mut row)), (0, OneUrl), "{fault:?}");
        drop(probe);
        assert_eq!(upstreams.visit(later, &model, None, &row).chosen.url, 1, "{fault:?}: left out still");
        let out = upstreams.left_out(|_| true);
        assert_eq!((out.len(), out[0].model.clone(), &*out[0].failure), (1, None, &*failure.message));
    }
}

#[test]
fn refused_row_is_no_failure_of_its_url() {
    let (upstreams, now) = (upstreams(), Instant::now());
    let refusal = failure(Fault::InvalidRequest, Some(400));
    assert!((0..9).all(|_| fails(&upstreams, now, &refusal) == FailureExtent::Service));
    assert_eq!((upstreams.well(), upstreams.left_out(|_| true)), (2, Vec::new()));
}

#[test]
fn url_that_lacks_a_model_is_named_if_another_one_has_it() {
    let (upstreams, model, now) = (upstreams(), Arc::from("m"), Instant::now());
    let unknown = failure(Fault::NotFound, Some(404));
    assert_eq!(fails(&upstreams, now, &unknown), FailureExtent::OneUrl);
    let mut row = FailedUrls::default();
    assert_eq!(upstreams.visit(now, &model, None, &row).chosen.url, 1);
    assert_eq!(upstreams.left_out(|_| false), [], "a name that no URL knows");
    let named = upstreams.left_out(|answered| *answered == model);
    let url = Arc::from("http://127.0.0.1:1/v1");
    assert_eq!(named, [LeftOutUrl { url, model: Some(Arc::clone(&model)), failure: "NotFound".into() }]);
    let visit = upstreams.visit(now, &model, None, &row);
    assert_eq!(visit.failed(now, &unknown, None, &mut row), FailureExtent::Service);
}

#[test]
fn refusal_of_the_key_or_for_money_sends_the_row_to_the_other_url() {
    for (fault, status) in [(Fault::Auth, 401), (Fault::Auth, 403), (Fault::Payment, 402), (Fault::Payment, 429)] {
        let (upstreams, now) = (upstreams(), Instant::now());
        let refused = failure(fault, Some(status));
        assert_eq!([0; 3].map(|_| fails(&upstreams, now, &refused)), [FailureExtent::OneUrl; 3], "{fault:?} {status}");
        let mut row = FailedUrls::default();
        let visit = upstreams.visit(now, &Arc::from("m"), None, &row);
        assert_eq!((visit.chosen.url, visit.others_serve()), (1, false), "{fault:?} {status}");
        assert_eq!(visit.failed(now, &refused, None, &mut row), FailureExtent::Service, "{fault:?} {status}");
        assert_eq!(upstreams.left_out(|_| true).len(), 1);
    }
}
