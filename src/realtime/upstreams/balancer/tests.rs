use super::*;

const URLS: [&str; 3] = ["http://node7:8000/v1", "http://node8:8000/v1", "http://node9:8000/v1"];

fn balancer() -> Balancer {
    Balancer::new(URLS.into_iter())
}

fn lacks(balancer: &mut Balancer, now: Instant, chosen: Chosen) -> bool {
    balancer.refused(now, chosen, &Arc::from("m"), RefusalCause::Model)
}

fn any() -> UrlWish<'static> {
    UrlWish { model: "m", key: None, avoid: None, refused_by: &[] }
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
    balancer.failed(now, chosen, "m");
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
    balancer.failed(later, probe, "m");
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
        balancer.is_full(now, at(0), "m", Duration::from_secs(9)) && balancer.is_full(now, at(1), "m", Duration::ZERO)
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
    let mut balancer = balancer();
    let other = UrlWish { model: "other", ..any() };
    let refused = take_at(&mut balancer, now, 1);
    assert!(lacks(&mut balancer, now, refused));
    balancer.leave(refused, "m");
    assert!((0..20).all(|_| balancer.take(now, any()).url != 1));
    assert_eq!((balancer.take(now, other).url, balancer.well()), (1, 3), "other models have all URLs");
    let later = now + Duration::from_secs(1);
    assert!(!balancer.take(later, other).probe);
    let probe = balancer.take(later, any());
    assert_eq!(probe, Chosen { url: 1, probe: true });
    assert!(lacks(&mut balancer, later, probe));
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
    let mut balancer = balancer();
    let taken = [0; 3].map(|_| balancer.take(now, any()));
    assert_eq!(taken.map(|chosen| lacks(&mut balancer, now, chosen)), [true, true, false]);
    for chosen in taken {
        balancer.leave(chosen, "m");
    }
    assert_eq!([0; 3].map(|_| balancer.take(now, any()).url), [2; 3], "the last one still tells");
}

#[test]
fn row_waits_for_a_dead_url_that_may_have_its_model() {
    let now = Instant::now();
    let mut balancer = balancer();
    (0..3).for_each(|_| fail(&mut balancer, now + Duration::from_secs(9), 2));
    for url in [0, 1] {
        let chosen = Chosen { url, probe: false };
        assert!(lacks(&mut balancer, now, chosen), "URL 2 may have it");
    }
    assert!(!balancer.serves("m") && balancer.serves("other"));
    assert_eq!(balancer.take(now, any()), Chosen { url: 2, probe: true });
}

#[test]
fn only_url_with_a_model_holds_up_no_other_model_while_it_is_full() {
    let now = Instant::now();
    let mut balancer = balancer();
    for url in [0, 1] {
        assert!(lacks(&mut balancer, now, Chosen { url, probe: false }));
    }
    assert!(balancer.is_full(now, Chosen { url: 2, probe: false }, "m", Duration::from_secs(9)));
    assert_eq!((balancer.wait(now, "m"), balancer.wait(now, "other")), (Some(Duration::from_secs(1)), None));
}

/// Refuses a request at this URL for the key.
fn refuse_key(balancer: &mut Balancer, now: Instant, url: usize) -> bool {
    balancer.refused(now, Chosen { url, probe: false }, &Arc::from("m"), RefusalCause::Key)
}

/// Refuses a row at this URL that those have refused.
fn refuse_row(balancer: &mut Balancer, now: Instant, url: usize, refused_by: &[usize]) -> bool {
    balancer.refused(now, Chosen { url, probe: false }, &Arc::from("m"), RefusalCause::Row(refused_by))
}

/// Answers a row of the model at this URL.
fn answer(balancer: &mut Balancer, url: usize) {
    balancer.reached(Chosen { url, probe: false }, "m");
}

#[test]
fn url_that_refuses_the_key_is_left_out_for_all_models_until_a_row_is_answered() {
    let now = Instant::now();
    let mut balancer = balancer();
    assert!((0..2).all(|_| refuse_key(&mut balancer, now, 1)) && balancer.is_well(1));
    assert!(refuse_key(&mut balancer, now, 1) && !balancer.is_well(1));
    let other = UrlWish { model: "other", ..any() };
    assert!((0..20).all(|_| balancer.take(now, other).url != 1));
    let later = now + Duration::from_secs(1);
    let probe = balancer.take(later, other);
    assert_eq!(probe, Chosen { url: 1, probe: true });
    balancer.reached(probe, "other");
    balancer.leave(probe, "other");
    assert!(balancer.is_well(1));
}

#[test]
fn key_is_refused_once_every_url_refuses_it() {
    let now = Instant::now();
    let mut balancer = balancer();
    for url in [0, 1] {
        assert!((0..3).all(|_| refuse_key(&mut balancer, now, url)));
    }
    assert!(!refuse_key(&mut balancer, now, 2), "the others are left out");
    assert_eq!((balancer.well(), balancer.take(now, any()).url), (1, 2), "the last one still tells");
}

#[test]
fn row_that_every_url_refuses_is_the_reason_itself() {
    let now = Instant::now();
    let mut balancer = balancer();
    (0..3).for_each(|url| answer(&mut balancer, url));
    assert!(refuse_row(&mut balancer, now, 0, &[]));
    assert_ne!(balancer.take(now, UrlWish { avoid: Some(0), refused_by: &[0], ..any() }).url, 0);
    assert!(refuse_row(&mut balancer, now, 1, &[0]));
    assert_eq!(balancer.take(now, UrlWish { avoid: Some(1), refused_by: &[0, 1], ..any() }).url, 2);
    assert!(!refuse_row(&mut balancer, now, 2, &[0, 1]));
    assert_eq!(balancer.well(), 3);
    assert!((0..3).all(|url| balancer.missing(url).count() == 0), "one refusal leaves no URL out");
}

#[test]
fn url_that_refuses_row_after_row_gets_no_rows_of_their_model() {
    let now = Instant::now();
    let mut balancer = balancer();
    assert!((0..3).all(|_| refuse_row(&mut balancer, now, 0, &[])));
    assert_eq!((balancer.missing(0).count(), balancer.well()), (1, 3));
    assert!((0..20).all(|_| balancer.take(now, any()).url != 0));
    assert_eq!(balancer.take(now, UrlWish { model: "other", ..any() }).url, 0);
    // The others refuse only this row.
    assert!(refuse_row(&mut balancer, now, 1, &[]) && !refuse_row(&mut balancer, now, 2, &[1]));
}

#[test]
fn row_that_one_url_refuses_waits_for_another_only_while_the_first_answers_none() {
    let now = Instant::now();
    let mut balancer = balancer();
    for url in [1, 2] {
        (0..3).for_each(|_| balancer.failed(now, Chosen { url, probe: false }, "m"));
    }
    assert!(refuse_row(&mut balancer, now, 0, &[]), "the others have refused nothing");
    answer(&mut balancer, 0);
    assert!(!refuse_row(&mut balancer, now, 0, &[]), "it answers others");
    assert!(refuse_row(&mut balancer, now, 0, &[]), "it refuses row after row");
}

#[test]
fn rows_wait_for_a_dead_url_with_their_model_while_other_models_are_served() {
    let now = Instant::now();
    let mut balancer = balancer();
    for url in [0, 1] {
        assert!(lacks(&mut balancer, now, Chosen { url, probe: false }));
    }
    assert_eq!(balancer.wait(now, "m"), None, "URL 2 serves it");
    (0..3).for_each(|_| balancer.failed(now, Chosen { url: 2, probe: false }, "m"));
    assert_eq!((balancer.wait(now, "m"), balancer.wait(now, "other")), (Some(Duration::from_secs(1)), None));
    let later = now + Duration::from_secs(1);
    assert_eq!(balancer.wait(later, "m"), None);
    let failed_before = UrlWish { avoid: Some(2), ..any() };
    let probes = [0; 3].map(|_| balancer.take(later, failed_before));
    assert!(probes.iter().all(|probe| probe.probe), "{probes:?}");
    assert_eq!(balancer.wait(later, "m"), Some(PROBE_CHECK), "each URL is being tried");
    for url in [0, 1, 2] {
        (0..3).for_each(|_| balancer.failed(later, Chosen { url, probe: true }, "m"));
    }
    assert_eq!(balancer.wait(later, "m"), None, "no URL is well: the breaker decides");
}

#[test]
fn retry_of_a_model_that_fails_in_any_way_waits_longer_each_time() {
    let start = Instant::now();
    let ways: [fn(&mut Balancer, Instant, Chosen); 4] = [
        |balancer, now, probe| balancer.failed(now, probe, "m"),
        |balancer, now, probe| assert!(balancer.is_full(now, probe, "m", Duration::ZERO)),
        |balancer, now, probe| assert!(balancer.refused(now, probe, &Arc::from("m"), RefusalCause::Key)),
        |balancer, now, probe| assert!(balancer.refused(now, probe, &Arc::from("m"), RefusalCause::Row(&[]))),
    ];
    for (way, fails) in ways.into_iter().enumerate() {
        let mut balancer = balancer();
        assert!(lacks(&mut balancer, start, Chosen { url: 1, probe: false }));
        let mut now = start;
        for pause in [1, 2, 4] {
            let early = balancer.take(now + Duration::from_millis(999), any());
            now += Duration::from_secs(pause);
            assert!(!early.probe, "way {way}, pause {pause}");
            balancer.leave(early, "m");
            let probe = balancer.take(now, any());
            assert_eq!(probe, Chosen { url: 1, probe: true }, "way {way}, pause {pause}");
            fails(&mut balancer, now, probe);
            balancer.leave(probe, "m");
        }
    }
}
