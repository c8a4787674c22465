use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::{self, Write};
use std::rc::Rc;

use proptest::prelude::*;
use serde_json::Value;

use super::stage::BatchFileSink;
use super::*;
use crate::check::Pass;
use crate::outcome::Usage;
use crate::price::PriceTable;
use crate::request::{Endpoint, Params};
use crate::tokens::Estimator;

/// The files of a split, by path.
type Files = Rc<RefCell<BTreeMap<PathBuf, Vec<u8>>>>;

struct Memory {
    path: PathBuf,
    bytes: Vec<u8>,
    files: Files,
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl BatchFileSink for Memory {
    fn finish(self: Box<Self>) -> Result<()> {
        assert!(self.files.borrow_mut().insert(self.path, self.bytes).is_none(), "finished twice");
        Ok(())
    }
}

/// A row that was placed, owned.
#[derive(Debug, Clone, PartialEq)]
enum Seen {
    Row { row: u64, shard: u32, id: String, wire: Option<String>, model: String, reserve: Usage, zero: bool },
    Bad { row: u64, id: String, model: String, message: String },
}

impl Seen {
    fn row(&self) -> u64 {
        match self {
            Self::Row { row, .. } | Self::Bad { row, .. } => *row,
        }
    }
}

struct Case {
    params: Params,
    limits: BatchFileForm,
    threads: usize,
    first_number: u32,
    only: Option<fn(u64) -> bool>,
    digests: bool,
}

impl Default for Case {
    fn default() -> Self {
        let params = Params { model: Some("m".into()), ..Params::default() };
        Self { params, limits: BatchFileForm::default(), threads: 1, first_number: 1, only: None, digests: true }
    }
}

struct Done {
    split: Split,
    seen: Vec<Seen>,
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Done {
    /// The lines of a shard.
    fn lines(&self, number: u32) -> Vec<Value> {
        let shard = self.split.files.iter().find(|shard| shard.number == number).unwrap();
        let text = std::str::from_utf8(&self.files[&shard.path]).unwrap();
        assert!(text.ends_with('\n'));
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Case {
    fn run(&self, text: &str) -> Result<Done> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("in.jsonl");
        fs::write(&path, text).unwrap();
        let inputs = Inputs::resolve(&[path], None).unwrap();
        let builder = RequestBuilder::new(&self.params).unwrap();
        let checked = Pass { threads: 1, ..Pass::new(&inputs, &builder) }.run().unwrap();
        self.split(&inputs, &builder, &checked)
    }

    fn split(&self, inputs: &Inputs, builder: &RequestBuilder, checked: &Checked) -> Result<Done> {
        let files = Files::default();
        let open = |number: u32, model: &str| {
            let path = PathBuf::from(format!("{model}-{number}"));
            let file = Box::new(Memory { path: path.clone(), bytes: Vec::new(), files: Rc::clone(&files) });
            Ok(NewBatchFile { path, sink: file })
        };
        let table = PriceTable::default();
        let options = SplitOptions {
            open: &open,
            limits: self.limits,
            threads: self.threads,
            first_number: self.first_number,
            only: self.only.as_ref().map(|only| only as &(dyn Fn(u64) -> bool + Sync)),
            digests: self.digests,
            table: None,
            inspector: Some(&RowInspector::new(0, Estimator::shared(), &table)),
            max_problems: 2,
        };
        let mut seen = Vec::new();
        let split = split(inputs, builder, checked, &options, &mut |placed| {
            seen.push(match placed {
                SplitRow::Line { row, file: shard, id, wire_id: wire, fingerprint, model, stats } => Seen::Row {
                    row,
                    shard,
                    id: id.to_owned(),
                    wire: wire.map(str::to_owned),
                    model: model.to_string(),
                    reserve: stats.map(RowStats::reserve).unwrap_or_default(),
                    zero: fingerprint == Fingerprint::default(),
                },
                SplitRow::Invalid(InvalidRow { row, id, model, message, .. }) => {
                    Seen::Bad { row: *row, id: id.to_string(), model: model.to_string(), message: message.clone() }
                }
            });
            Ok(())
        })?;
        Ok(Done { split, seen, files: files.take() })
    }
}

#[test]
fn a_line_is_the_id_and_the_body_as_realtime_posts_it() {
    let text = concat!(
        r#"{"custom_id":"a \"b\" é","method":"POST","body":{"messages": [{"role":"user","content":"1"}],"x":1E400}}"#,
        "\n\n",
        r#"{"prompt":"p","max_tokens":7,"model":"n"}"#,
        "\n",
    );
    let done = Case::default().run(text).unwrap();
    let body = r#"{"messages": [{"role":"user","content":"1"}],"x":1E400,"model":"m"}"#;
    let first = format!("{{\"custom_id\":\"a \\\"b\\\" é\",\"body\":{body}}}\n");
    let second = r#"{"messages":[{"role":"user","content":"p"}],"max_tokens":7,"model":"n"}"#;
    assert_eq!(String::from_utf8_lossy(&done.files[&PathBuf::from("m-1")]), first);
    assert_eq!(
        String::from_utf8_lossy(&done.files[&PathBuf::from("n-2")]),
        format!("{{\"custom_id\":\"row-2\",\"body\":{second}}}\n")
    );
    let shards: Vec<_> = done.split.files.iter().map(|s| (s.number, &*s.model, s.rows, s.bytes)).collect();
    assert_eq!(shards[0], (1, "m", 1, first.len() as u64));
    assert_eq!((shards[1].0, shards[1].1), (2, "n"));
    let Seen::Row { reserve, zero, .. } = &done.seen[1] else { panic!("{:?}", done.seen) };
    assert_eq!(*reserve, Usage::new(tokens_of(second), 7));
    assert!(!zero);
}

fn tokens_of(body: &str) -> u64 {
    crate::tokens::bound(body, &crate::tokens::Media::of(body), None)
}

#[test]
fn sha_256_is_sha_256() {
    let done = Case { params: Params { model: Some("m".into()), ..Params::default() }, ..Case::default() }
        .run("{\"custom_id\":\"a\",\"body\":{\"messages\":[{\"role\":\"user\",\"content\":\"1\"}],\"model\":\"m\"}}\n")
        .unwrap();
    // Computed by coreutils' sha256sum.
    assert_eq!(done.split.files[0].sha256, "06e9e2bd28141e2c055572988d358bca3da9aefcd0e1d7ec188e2fc7d3bd4099");
    let cheap = Case { digests: false, ..Case::default() }.run("{\"prompt\":\"p\"}\n").unwrap();
    assert_eq!(cheap.split.files[0].sha256, "");
    assert!(matches!(&cheap.seen[0], Seen::Row { zero: true, .. }));
}

#[test]
fn audio_lines_carry_their_method() {
    let params = Params { endpoint: Endpoint::Transcriptions, ..Params::default() };
    let case = Case { params, ..Case::default() };
    let body = r#"{"file":"https://x/a.wav","model":"w","language":"en"}"#;
    let line = format!("{{\"custom_id\":\"a\",\"method\":\"FILE\",\"body\":{body}}}\n");
    let plain = format!("{{\"custom_id\":\"a\",\"body\":{body}}}\n");
    let bare = body.replacen('{', "{\"id\":\"a\",", 1) + "\n";
    for text in [&line, &plain, &bare] {
        let done = case.run(text).unwrap();
        assert_eq!(String::from_utf8_lossy(&done.files[&PathBuf::from("w-1")]), line, "{text}");
    }
}

#[test]
fn a_shard_ends_where_a_line_would_pass_a_limit() {
    let line = |n: u32| format!("{{\"id\":\"{n}\",\"prompt\":\"p\"}}\n");
    let text: String = (1..=7).map(line).collect();
    let one = Case::default().run(&line(1)).unwrap().split.files[0].bytes;
    let sizes = |limits: BatchFileForm| {
        let done = Case { limits, first_number: 5, ..Case::default() }.run(&text).unwrap();
        assert!(done.split.files.iter().zip(5..).all(|(shard, number)| shard.number == number));
        done.split.files.iter().map(|shard| shard.rows).collect::<Vec<_>>()
    };
    assert_eq!(sizes(BatchFileForm { rows: 3, bytes: 1_000_000, addressed: false }), [3, 3, 1]);
    assert_eq!(sizes(BatchFileForm { rows: 7, bytes: 1_000_000, addressed: false }), [7]);
    assert_eq!(
        sizes(BatchFileForm { rows: 100, bytes: 2 * one, addressed: false }),
        [2, 2, 2, 1],
        "exactly the limit still fits"
    );
    assert_eq!(sizes(BatchFileForm { rows: 100, bytes: 2 * one - 1, addressed: false }), [1; 7]);
}

#[test]
fn what_cannot_be_sent_is_told_in_its_place() {
    let long = "x".repeat(300);
    let text = format!(
        "{{\"id\":\"a\",\"prompt\":\"1\"}}\nnonsense\n{{\"id\":\"a\",\"prompt\":\"2\",\"model\":\"n\"}}\n\
         {{\"id\":\"b\",\"prompt\":\"{long}\"}}\n{{\"id\":\"c\",\"prompt\":\"\"}}\n{{\"prompt\":\"6\"}}\n"
    );
    for threads in [1, 2] {
        let limits = BatchFileForm { rows: 10, bytes: 200, addressed: false };
        let done = Case { limits, threads, ..Case::default() }.run(&text).unwrap();
        let bad: Vec<_> = done
            .seen
            .iter()
            .filter_map(|seen| match seen {
                Seen::Bad { row, id, model, message } => Some((*row, id.as_str(), model.as_str(), message.as_str())),
                Seen::Row { .. } => None,
            })
            .collect();
        assert_eq!(
            bad.iter().map(|b| (b.0, b.1, b.2)).collect::<Vec<_>>(),
            [(2, "row-2", ""), (3, "a#3", "n"), (4, "b", "m"), (5, "c", "")]
        );
        assert!(bad[0].3.contains("in.jsonl:2"), "{}", bad[0].3);
        assert!(bad[2].3.contains("in.jsonl:4: ") && bad[2].3.contains(" bytes"), "{}", bad[2].3);
        assert_eq!(done.split.oversize_count, 1);
        let problem = &done.split.oversize[0];
        assert_eq!(
            (problem.row, problem.line, problem.code, problem.id.as_deref()),
            (Some(4), 4.into(), "too_large", Some("b"))
        );
        assert_eq!(done.lines(1).iter().map(|line| line["custom_id"].clone()).collect::<Vec<_>>(), ["a", "row-6"]);
        assert_eq!(done.split.files.len(), 1, "no file for a model whose rows are all bad");
    }
}

#[test]
fn rows_that_are_not_asked_for_are_passed_over() {
    let line = |n: u32| format!("{{\"id\":\"{}{n}\",\"prompt\":\"p\"}}\n", "x".repeat(70));
    let text: String = (1..=9).map(line).collect();
    let all = Case::default().run(&text).unwrap();
    let odd = Case { only: Some(|row| row % 2 == 1), ..Case::default() }.run(&text).unwrap();
    assert_eq!(odd.seen.iter().map(Seen::row).collect::<Vec<_>>(), [1, 3, 5, 7, 9]);
    let same: Vec<_> = all.seen.iter().filter(|seen| seen.row() % 2 == 1).cloned().collect();
    assert_eq!(odd.seen, same, "ids on the wire too");
    let none = Case { only: Some(|_| false), ..Case::default() }.run(&text).unwrap();
    assert!(none.split.files.is_empty() && none.seen.is_empty());
}

#[test]
fn an_input_of_a_thousand_models_is_a_mistake() {
    let line = |n: usize| format!("{{\"prompt\":\"p\",\"model\":\"m{n}\"}}\n");
    let text = |models: usize| -> String { (0..models).map(line).collect() };
    assert_eq!(Case::default().run(&text(MOST_MODELS)).unwrap().split.files.len(), MOST_MODELS);
    let error = Case::default().run(&text(MOST_MODELS + 1)).err().unwrap();
    assert_eq!((error.exit, error.hint.is_some()), (Exit::Data, true));
    assert!(error.message.contains("1001 models"), "{}", error.message);
}

#[test]
fn an_input_that_changed_since_its_check_is_not_split() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.jsonl");
    fs::write(&path, "{\"prompt\":\"1\"}\n{\"prompt\":\"2\"}\n").unwrap();
    let inputs = Inputs::resolve(std::slice::from_ref(&path), None).unwrap();
    let builder = RequestBuilder::new(&Case::default().params).unwrap();
    let checked = Checked { rows: 3, ..Checked::default() };
    let error = Case::default().split(&inputs, &builder, &checked).err().unwrap();
    assert!(error.message.contains("3 rows when checked, 2 now"), "{}", error.message);
}

#[test]
fn a_full_disk_stops_the_reading() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    impl BatchFileSink for Full {
        fn finish(self: Box<Self>) -> Result<()> {
            Ok(())
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.jsonl");
    // Several blocks, so that threads are at work when it happens.
    let line = |n: u32| format!("{{\"prompt\":\"{n}{}\"}}\n", "x".repeat(80));
    let text: String = (0..20_000).map(line).collect();
    fs::write(&path, text).unwrap();
    let inputs = Inputs::resolve(&[path], None).unwrap();
    let builder = RequestBuilder::new(&Case::default().params).unwrap();
    let options = SplitOptions {
        open: &|_, _| Ok(NewBatchFile { path: "shard".into(), sink: Box::new(Full) }),
        limits: BatchFileForm::default(),
        threads: 2,
        first_number: 1,
        only: None,
        digests: false,
        table: None,
        inspector: None,
        max_problems: 1,
    };
    let error = split(&inputs, &builder, &Checked::default(), &options, &mut |_| Ok(())).unwrap_err();
    assert_eq!(error.exit, Exit::Io);
    assert!(error.message.starts_with("shard: "), "{}", error.message);
}

/// An id: none, a plain one, a long one, or one that looks like a stand-in.
fn an_id() -> impl Strategy<Value = Option<String>> {
    prop_oneof![
        2 => Just(None),
        3 => (0..40_u32).prop_map(|n| Some(format!("k{n}"))),
        4 => (0..40_u32).prop_map(|n| Some(format!("é{n}-{}", "ü".repeat(64)))),
        1 => (0..40_u32, 62..66_usize).prop_map(|(n, len)| Some(format!("{n:-<len$}"))),
        3 => (0..12_u32).prop_map(|n| Some(format!("row-{n}"))),
        3 => (0..12_u32, 0..4_u32).prop_map(|(n, k)| Some(format!("row-{n}-{k}"))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn shards_partition_the_good_rows(
        rows in prop::collection::vec((an_id(), 0..3_u32, 0..60_usize, prop::bool::weighted(0.1)), 0..40),
        most in 1..8_u64,
        bytes in 120..600_u64,
        threads in 1..3_usize,
    ) {
        let line = |(id, model, size, broken): &(Option<String>, u32, usize, bool)| {
            let id = id.as_ref().map(|id| format!("\"id\":\"{id}\",")).unwrap_or_default();
            let prompt = if *broken { String::new() } else { "p".repeat(size + 1) };
            format!("{{{id}\"model\":\"m{model}\",\"prompt\":\"{prompt}\"}}\n")
        };
        let text: String = rows.iter().map(line).collect();
        let limits = BatchFileForm { rows: most, bytes, addressed: false };
        let done = Case { limits, threads, ..Case::default() }.run(&text).unwrap();

        // Every row once, in input order; good are those that are whole, first with their id, and small enough.
        prop_assert_eq!(done.seen.iter().map(Seen::row).collect::<Vec<_>>(), (1..=rows.len() as u64).collect::<Vec<_>>());
        // What each shard must hold, derived from the rows alone.
        let mut expected: BTreeMap<u32, Vec<(String, String)>> = BTreeMap::new();
        let mut wires = HashSet::new();
        for (seen, (given, model, size, broken)) in done.seen.iter().zip(&rows) {
            let own = given.clone().unwrap_or_else(|| format!("row-{}", seen.row()));
            match seen {
                Seen::Row { shard, id, wire, model: asked, .. } => {
                    prop_assert!(!broken);
                    prop_assert_eq!((id, asked), (&own, &format!("m{model}")));
                    prop_assert_eq!(wire.is_some(), own.chars().count() > 64);
                    let wire = wire.clone().unwrap_or(own);
                    prop_assert!(wire.chars().count() <= 64);
                    prop_assert!(wires.insert(wire.clone()), "{} twice", wire);
                    expected.entry(*shard).or_default().push((wire, "p".repeat(size + 1)));
                }
                Seen::Bad { .. } => {
                    let earlier = rows[..usize::try_from(seen.row()).unwrap() - 1].iter().zip(1_u64..);
                    let twice = earlier.into_iter().any(|((id, ..), n)| id.clone().unwrap_or_else(|| format!("row-{n}")) == own);
                    // A stand-in may be longer than `row-N` by as much as `-9`.
                    let name = if own.chars().count() > 64 { format!("row-{}-9", seen.row()) } else { own };
                    let content = "p".repeat(size + 1);
                    let body = format!(
                        "{{\"messages\":[{{\"role\":\"user\",\"content\":\"{content}\"}}],\"model\":\"m{model}\"}}"
                    );
                    let line = format!("{{\"custom_id\":\"{name}\",\"body\":{body}}}\n");
                    let large = line.len() as u64 > bytes;
                    prop_assert!(*broken || twice || large, "{:?}", seen);
                }
            }
        }
        prop_assert_eq!(done.split.files.len(), expected.len());
        prop_assert_eq!(done.files.len(), expected.len());
        let mut rest: BTreeMap<&str, u64> = BTreeMap::new();
        for (shard, number) in done.split.files.iter().zip(1..) {
            prop_assert_eq!(shard.number, number);
            let file = &done.files[&shard.path];
            prop_assert_eq!(shard.bytes, file.len() as u64);
            prop_assert!(shard.bytes <= bytes && shard.rows <= most && shard.rows > 0);
            // None was closed while the next row of its model still had room.
            if let Some(room) = rest.get(&*shard.model) {
                let first = file.iter().position(|byte| *byte == b'\n').unwrap() as u64 + 1;
                prop_assert!(first > *room, "{} would have fitted into {}", first, room);
            }
            rest.insert(&shard.model, if shard.rows == most { 0 } else { bytes - shard.bytes });
            let lines = done.lines(number);
            prop_assert_eq!(lines.len() as u64, shard.rows);
            let found: Vec<_> = lines.iter().map(|line| {
                assert_eq!(line["body"]["model"], *shard.model);
                let text = |value: &Value| value.as_str().unwrap().to_owned();
                (text(&line["custom_id"]), text(&line["body"]["messages"][0]["content"]))
            }).collect();
            prop_assert_eq!(&found, &expected[&number]);
        }
    }
}
