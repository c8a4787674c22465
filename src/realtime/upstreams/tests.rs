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

fn failure(fault: Fault, status: Option<u16>) -> Failure {
    let model_unknown = fault == Fault::NotFound;
    Failure { fault, status, message: format!("{fault:?}"), model_unknown, wait: None }
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
        let fails = |now| upstreams.visit(now, &model, None, Some(1)).failed(now, &failure, None);
        assert_eq!([0; 3].map(|_| fails(now)), [Service, Service, OneUrl], "{fault:?}");
        assert_eq!(upstreams.well(), 1);
        let later = now + Duration::from_secs(1);
        let probe = upstreams.visit(later, &model, None, None);
        assert_eq!((probe.url(), probe.failed(later, &failure, None)), (0, OneUrl), "{fault:?}");
        drop(probe);
        assert_eq!(upstreams.visit(later, &model, None, None).url(), 1, "{fault:?}: left out still");
        let out = upstreams.left_out(|_| true);
        assert_eq!((out.len(), out[0].model.clone(), &*out[0].failure), (1, None, &*failure.message));
    }
}

#[test]
fn refused_row_is_no_failure_of_its_url() {
    let (upstreams, model, now) = (upstreams(), Arc::from("m"), Instant::now());
    let refusal = failure(Fault::InvalidRequest, Some(400));
    for _ in 0..9 {
        let visit = upstreams.visit(now, &model, None, Some(1));
        assert_eq!((visit.url(), visit.failed(now, &refusal, None)), (0, FailureExtent::Service));
    }
    assert_eq!((upstreams.well(), upstreams.left_out(|_| true)), (2, Vec::new()));
}

#[test]
fn url_that_lacks_a_model_is_named_if_another_one_has_it() {
    let (upstreams, model, now) = (upstreams(), Arc::from("m"), Instant::now());
    let unknown = failure(Fault::NotFound, Some(404));
    assert_eq!(upstreams.visit(now, &model, None, Some(1)).failed(now, &unknown, None), FailureExtent::OneUrl);
    assert_eq!(upstreams.visit(now, &model, None, None).url(), 1);
    assert_eq!(upstreams.left_out(|_| false), [], "a name that no URL knows");
    let named = upstreams.left_out(|answered| *answered == model);
    let url = Arc::from("http://127.0.0.1:1/v1");
    assert_eq!(named, [LeftOutUrl { url, model: Some(Arc::clone(&model)), failure: "NotFound".into() }]);
    assert_eq!(upstreams.visit(now, &model, None, None).failed(now, &unknown, None), FailureExtent::Service);
}
