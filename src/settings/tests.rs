use super::*;

fn resolve(flags: &Flags, vars: &[(&str, &str)]) -> Result<Settings> {
    let vars: Vec<(String, String)> = vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Settings::resolve(flags, &|name| vars.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone()))
}

#[test]
fn nearer_source_wins_and_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    std::fs::write(&path, "base_url = \"https://config/v1\"\n[run]\nrpm = 60\nconcurrency = \"auto\"\n[models.\"x/y\"]\ninput = 0.06\noutput = \"0.12\"\n").unwrap();
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
