use super::*;

fn resolve(flags: &Flags, vars: &[(&str, &str)]) -> Result<Settings> {
    let vars: Vec<(String, String)> = vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Settings::resolve(flags, &|name| vars.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone()))
}

#[test]
fn nearer_source_wins_and_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    std::fs::write(
        &path,
        "base_url = \"https://config/v1\"\n[run]\nrpm = 60\nconcurrency = \
                           \"auto\"\n[models.\"x/y\"]\ninput = 0.06\noutput = \"0.12\"\n",
    )
    .unwrap();
    let mut flags = Flags { config: Some(path), ..Flags::default() };
    let settings = resolve(&flags, &[]).unwrap();
    assert_eq!((settings.base_url.value.as_str(), &settings.base_url.origin), ("https://config/v1", &Origin::Config));
    assert_eq!(settings.run.rpm, Some(AutoOr::Fixed(60)));
    assert_eq!(settings.run.concurrency, Some(AutoOr::Auto));
    assert_eq!(
        settings.prices.get("x/y").and_then(|e| e.price).map(|p| (p.input, p.output)),
        Some((60_000_000, 120_000_000))
    );
    let settings = resolve(&flags, &[("TOGETHER_BASE_URL", "https://env")]).unwrap();
    assert_eq!(settings.base_url.origin, Origin::Env("TOGETHER_BASE_URL"));
    flags.base_url = Some("https://flag".to_owned());
    let settings = resolve(&flags, &[("TOGETHER_BASE_URL", "https://env")]).unwrap();
    assert_eq!(settings.base_url.value, "https://flag");
    assert_eq!(resolve(&Flags::default(), &[("TOGETHER_BASE_URL", "")]).unwrap().base_url.origin, Origin::Default);
}

#[test]
fn invalid_config_file_is_a_usage_error_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    for text in
        ["base_ulr = \"x\"", "[run]\nrpm = \"many\"", "[run]\nrpm = 0", "[models.\"x\"]\ninput = -1", "not toml"]
    {
        std::fs::write(&path, text).unwrap();
        let error = resolve(&Flags { config: Some(path.clone()), ..Flags::default() }, &[]).expect_err(text);
        assert_eq!(error.exit, Exit::Usage, "{text}");
    }
    std::fs::write(&path, b"[run]\nmodel = \"\xff\"").unwrap();
    let error = resolve(&Flags { config: Some(path.clone()), ..Flags::default() }, &[]).unwrap_err();
    assert!(error.exit == Exit::Usage && error.message.contains("line 2"), "{error}");
    let missing = Flags { config: Some(dir.path().join("none.toml")), ..Flags::default() };
    assert_eq!(resolve(&missing, &[]).unwrap_err().exit, Exit::Usage);
}

#[test]
fn durations_are_parsed_as_people_write_them() {
    for (text, seconds) in [("90", 90), ("90s", 90), ("10m", 600), ("1h30m", 5400), ("1h 30m", 5400), ("2h", 7200)] {
        assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
    }
    assert_eq!(duration("0.5"), Ok(Duration::from_millis(500)));
    for text in ["", "soon", "-5m", "-1", "NaN"] {
        assert!(duration(text).is_err(), "{text}");
    }
}

const SERVICES: &str = "service = \"b\"\n[services.a]\nbase_url = \"http://127.0.0.1:1/v1\"\n[services.b]\nbase_url =                             \"https://b.example/v1\"\napi_key_env = \"B_KEY\"\n[services.t]\nbase_url =                             \"https://api.together.ai/v1\"\n";

fn with_services(dir: &tempfile::TempDir, flags: Flags, vars: &[(&str, &str)]) -> Settings {
    let path = dir.path().join("config.toml");
    std::fs::write(&path, SERVICES).unwrap();
    resolve(&Flags { config: Some(path), ..flags }, vars).unwrap()
}

#[test]
fn service_is_chosen_by_flags_then_jobs_then_environment_then_config() {
    let dir = tempfile::tempdir().unwrap();
    let both = [("LLBATCH_SERVICE", "a"), ("TOGETHER_BASE_URL", "https://env/v1")];
    let url = || [("TOGETHER_BASE_URL", "https://env/v1")];
    let flag = |service: &str| Flags { service: Some(service.to_owned()), ..Flags::default() };
    let base = Flags { base_url: Some("https://flag/v1".to_owned()), ..Flags::default() };
    let of_job = |jobs_service| Flags { jobs_service, ..Flags::default() };
    let named = of_job(JobsService::Named("b".to_owned()));
    let cases = [
        (flag("b"), &both[..], Some("b"), "https://b.example/v1"),
        (flag("together"), &both, None, DEFAULT_BASE_URL),
        (base, &both, None, "https://flag/v1"),
        (named, &both, Some("b"), "https://b.example/v1"),
        (of_job(JobsService::Unnamed), &both, None, "https://env/v1"),
        (Flags::default(), &both, Some("a"), "http://127.0.0.1:1/v1"),
        (Flags::default(), &url(), None, "https://env/v1"),
        (Flags::default(), &[], Some("b"), "https://b.example/v1"),
    ];
    for (flags, vars, service, base) in cases {
        let shown = format!("{flags:?} {vars:?}");
        let settings = with_services(&dir, flags, vars);
        assert_eq!((settings.service_name(), settings.base_url.value.as_str()), (service, base), "{shown}");
    }
}

#[test]
fn service_gets_its_own_key_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let vars = [("TOGETHER_API_KEY", "together-key"), ("B_KEY", "b-key")];
    let key = |service: Option<&str>, base: Option<&str>, vars: &[(&str, &str)]| {
        let (service, base_url) = (service.map(str::to_owned), base.map(str::to_owned));
        let key = with_services(&dir, Flags { base_url, service, ..Flags::default() }, vars).key();
        key.map(|key| key.map(|key| key.expose_secret().to_owned())).map_err(|error| error.exit)
    };
    assert_eq!(key(Some("a"), None, &vars), Ok(None));
    assert_eq!(key(Some("b"), None, &vars), Ok(Some("b-key".to_owned())));
    assert_eq!(key(Some("b"), None, &vars[..1]), Err(Exit::Auth), "its own is missing");
    assert_eq!(key(Some("t"), None, &vars), Err(Exit::Auth), "Together is never asked without one");
    assert_eq!(key(Some("together"), None, &vars), Ok(Some("together-key".to_owned())));
    assert_eq!(key(None, Some("https://gateway.example"), &vars), Ok(Some("together-key".to_owned())));
    assert_eq!(key(None, Some("https://gateway.example"), &[]), Ok(None));
    assert_eq!(key(None, Some("https://api.together.ai"), &[]), Err(Exit::Auth));
    assert_eq!(key(None, Some("http://api.together.xyz:80/v1"), &[]), Err(Exit::Auth));
}

#[test]
fn prices_of_together_are_those_of_no_other_service() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    let model = "meta-llama/Llama-3.2-3B-Instruct-Turbo";
    let own = "[services.a.models.\"x\"]\ninput = 1\noutput = 2\n[models.\"y\"]\ninput = 3\noutput = 4\n";
    std::fs::write(&path, format!("{SERVICES}{own}")).unwrap();
    let input = |service: Option<&str>, model: &str| {
        let flags = Flags { config: Some(path.clone()), service: service.map(str::to_owned), ..Flags::default() };
        resolve(&flags, &[]).unwrap().prices.get(model).and_then(|entry| entry.price).map(|price| price.input)
    };
    assert_eq!(
        (input(Some("a"), model), input(Some("a"), "x"), input(Some("a"), "y")),
        (None, Some(1_000_000_000), None)
    );
    assert_eq!((input(Some("t"), model).is_some(), input(Some("t"), "y")), (true, Some(3_000_000_000)));
    assert_eq!((input(Some("together"), model).is_some(), input(Some("together"), "x")), (true, None));
}
