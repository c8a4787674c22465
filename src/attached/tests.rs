use super::*;

const PNG: &[u8] = b"\x89PNG\r\n\x1a\nrest";

fn file(finder: &FileFinder, dir: &Path, name: &str) -> AttachedFile {
    match &finder.images(name, Some(dir)).unwrap()[..] {
        [FoundImage::File(file)] => file.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn files_take_the_places_of_their_stand_ins() {
    let dir = tempfile::tempdir().unwrap();
    for (name, more) in [("a.png", "a"), ("b.png", "bb"), ("same.png", "a")] {
        std::fs::write(dir.path().join(name), [PNG, more.as_bytes()].concat()).unwrap();
    }
    let finder = FileFinder::new(1_000);
    let [a, b, same] = ["a.png", "b.png", "same.png"].map(|name| file(&finder, dir.path(), name));
    assert_eq!(a.stand_in(), same.stand_in());
    assert_ne!(a.stand_in(), b.stand_in());
    let quoted = |file: &AttachedFile| format!("\"{}\"", file.stand_in());
    let text = format!(
        r#"{{"text":"\"{}\"","urls":[{},{},{}],"more":"x"}}"#,
        a.stand_in(),
        quoted(&a),
        quoted(&b),
        quoted(&same)
    );
    let uri = |more: &str| format!("\"data:image/png;base64,{}\"", STANDARD.encode([PNG, more.as_bytes()].concat()));
    let expected =
        format!(r#"{{"text":"\"{}\"","urls":[{},{},{}],"more":"x"}}"#, a.stand_in(), uri("a"), uri("bb"), uri("a"));
    let files = Attachments::from(vec![a, b, same]);
    let mut out = Vec::new();
    files.write(text.as_bytes(), &mut out).unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), expected);
    assert_eq!(files.sent_bytes(text.len() as u64), expected.len() as u64);
}

#[test]
fn changed_file_is_neither_sent_nor_taken_for_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.png");
    std::fs::write(&path, PNG).unwrap();
    let finder = FileFinder::new(1_000);
    let attached = file(&finder, dir.path(), "a.png");
    let write = |attached: &AttachedFile| {
        Attachments::from(vec![attached.clone()]).write(attached_text(attached).as_bytes(), &mut Vec::new())
    };
    // The same bytes, written again.
    std::fs::write(&path, PNG).unwrap();
    assert_eq!(file(&finder, dir.path(), "a.png").facts, attached.facts);
    assert_eq!(write(&attached), Ok(()));
    for content in [&b"\x89PNG\r\n\x1a\nREST"[..], b"\x89PNG\r\n\x1a\nrest and more", b"gone"] {
        std::fs::write(&path, content).unwrap();
        assert!(finder.images("a.png", Some(dir.path())).is_err(), "{content:?}");
        assert!(write(&attached).is_err(), "{content:?}");
    }
    std::fs::remove_file(&path).unwrap();
    assert!(write(&attached).unwrap_err().message.ends_with("does not exist"));
}

fn attached_text(file: &AttachedFile) -> String {
    format!("[\"{}\"]", file.stand_in())
}

#[test]
fn patterns_name_files_in_the_order_of_names() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["x/2.png", "x/10.png", "y/1.png", "x/[1].png", "x/.h.png"] {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, PNG).unwrap();
    }
    std::fs::create_dir(dir.path().join("x/dir.png")).unwrap();
    let finder = FileFinder::new(1_000);
    let found = |pattern: &str| -> Vec<String> {
        let images = finder.images(pattern, Some(dir.path())).unwrap_or_default();
        let path = |image: FoundImage| match image {
            FoundImage::File(file) => file.path.strip_prefix(dir.path()).unwrap().display().to_string(),
            FoundImage::Address(address) => address,
        };
        images.into_iter().map(path).collect()
    };
    assert_eq!(found("x/*.png"), ["x/10.png", "x/2.png", "x/[1].png"]);
    assert_eq!(found("*/[12].png"), ["x/2.png", "y/1.png"]);
    assert_eq!(found("x/[1].png"), ["x/[1].png"], "a file of that very name");
    assert_eq!(found("x/.?.png"), ["x/.h.png"]);
    assert_eq!(found("z/*.png"), [""; 0]);
    assert_eq!(found("HTTPS://a/*.png"), ["HTTPS://a/*.png"]);
}

#[test]
fn directories_of_inputs_are_found() {
    let here = Path::new("/work");
    let dir = |input| directory_of(input, here).map(|dir| dir.display().to_string());
    assert_eq!(dir("a.csv").as_deref(), Some("/work"));
    assert_eq!(dir("x/a.csv").as_deref(), Some("/work/x"));
    assert_eq!(dir("/y/a.csv").as_deref(), Some("/y"));
    assert_eq!(dir("-").as_deref(), Some("/work"));
    assert_eq!(dir("s3://bucket/a.csv"), None);
    assert!(FileFinder::new(1).images("a.png", None).unwrap_err().message.contains("is a relative path"));
}

#[test]
fn data_uris_are_looked_into() {
    let finder = FileFinder::new(1_000);
    let uri = |data: &[u8]| format!("data:image/png;base64,{}", STANDARD.encode(data));
    for (named, is_good) in [
        (uri(PNG), true),
        (uri(&[PNG, &[0; 900]].concat()), true),
        (uri(&[PNG, &[0; 1_000]].concat()), false),
        (uri(b"text"), false),
        (uri(PNG).replace(";base64", ""), false),
        (uri(PNG) + "*===", false),
        (uri(PNG).trim_end_matches('=').to_owned() + "A", false),
    ] {
        assert_eq!(finder.images(&named, None).is_ok(), is_good, "{named}");
    }
}

#[test]
fn recording_is_read_in_pieces_and_only_as_it_was_checked() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.wav");
    let bytes: Vec<u8> = [&b"ID3"[..], &vec![7; 300_000]].concat();
    std::fs::write(&path, &bytes).unwrap();
    let finder = FileFinder::of_recordings(1_000_000);
    let attached = finder.recording("a.wav", Some(dir.path())).unwrap().unwrap();
    let read = |attached: &AttachedFile| {
        let mut pieces = attached.open()?;
        let mut all = Vec::new();
        while let Some(piece) = pieces.piece()? {
            all.extend_from_slice(&piece);
        }
        Ok::<_, FileFault>(all)
    };
    assert_eq!(read(&attached).unwrap(), bytes);
    // The same bytes, written again.
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(read(&attached).unwrap(), bytes);
    // Written to while it is sent: the last piece does not come.
    let mut pieces = attached.open().unwrap();
    let first = pieces.piece().unwrap().unwrap().len();
    std::fs::write(&path, [&bytes[..], b"more"].concat()).unwrap();
    let mut sent = first;
    let fault = loop {
        match pieces.piece() {
            Ok(piece) => sent += piece.expect("a fault comes before the end").len(),
            Err(fault) => break fault,
        }
    };
    assert!(sent < bytes.len() && fault.message.ends_with("was changed since llbatch checked it"), "{fault:?}");
    for content in [&bytes[..bytes.len() - 1], &[&bytes[..], b"x"].concat(), &vec![9; 300_003]] {
        std::fs::write(&path, content).unwrap();
        assert!(attached.open().is_err());
    }
    assert_eq!(finder.recording("HTTPS://x/a.wav", None), Ok(None));
    assert!(finder.recording("data:audio/wav;base64,AAAA", None).is_err());
}
