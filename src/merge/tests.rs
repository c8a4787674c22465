//! Parts put together are the whole, whatever the parts.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::input::Shard;
use crate::request::Params;

/// Results of the rows of an input, each a line.
struct Whole {
    inputs: Inputs,
    builder: Arc<RequestBuilder>,
    ending: &'static str,
    header: String,
    lines: Vec<String>,
}

/// Rows `1..=rows`, every fifth with the id of an earlier one; every seventh has failed.
fn whole(dir: &Path, rows: usize, ending: &'static str, own_ids: bool) -> Whole {
    let path = dir.join("in.jsonl");
    let mut input = String::new();
    let mut lines = Vec::new();
    for row in 1..=rows {
        let twice = row % 5 == 0;
        let own = format!("q\\\"{}", if twice { 1 } else { row });
        let id = match (own_ids, twice) {
            (false, _) => format!("row-{row}"),
            (true, false) => own.clone(),
            (true, true) => format!("{own}#{row}"),
        };
        let id_member = if own_ids { format!("\"id\":\"{own}\",") } else { String::new() };
        writeln!(input, "{{{id_member}\"prompt\":\"p{row}\"}}").unwrap();
        let failed = row % 7 == 0;
        lines.push(match (ending, failed) {
            ("jsonl", false) => format!(
                "{{\"custom_id\":\"{id}\",\"response\":{{\"status_code\":200,\"body\":{{\"model\":\"m\",\"choices\":[{{\"message\":{{\"content\":\"a{row}\"}}}}]}}}},\"error\":null}}\n"
            ),
            ("jsonl", true) => format!(
                "{{\"custom_id\":\"{id}\",\"response\":null,\"error\":{{\"code\":\"timeout\",\"message\":\"late\"}}}}\n"
            ),
            ("flat", _) => {
                let error = if failed { "\"timeout: late\"" } else { "null" };
                format!("{{\"custom_id\":\"{id}\",\"content\":\"a{row}\",\"attempts\":1,\"error\":{error}}}\n")
            }
            (_, _) => {
                let id = id.replace("\\\"", "\"");
                let id = if id.contains('"') { format!("\"{}\"", id.replace('"', "\"\"")) } else { id };
                let error = if failed { "\"timeout: late, and\nlong\"" } else { "" };
                format!("p{row},{id},\"a,{row}\",1,{error}\n")
            }
        });
    }
    fs::write(&path, input).unwrap();
    Whole {
        inputs: Inputs::resolve(&[path], None).unwrap(),
        builder: Arc::new(RequestBuilder::new(&Params::default()).unwrap()),
        ending,
        header: if ending == "csv" { "prompt,custom_id,content,attempts,error\n".to_owned() } else { String::new() },
        lines,
    }
}

impl Whole {
    /// Writes these rows, counted from 0, as a part.
    fn part(&self, dir: &Path, number: usize, rows: &[usize], packed: bool) -> PathBuf {
        let ending = if self.ending == "csv" { "csv" } else { "jsonl" };
        let text: String =
            std::iter::once(&self.header).chain(rows.iter().map(|row| &self.lines[*row])).map(String::as_str).collect();
        let path = dir.join(format!("part-{number}.{ending}{}", if packed { ".gz" } else { "" }));
        let file = fs::File::create(&path).unwrap();
        if packed {
            let mut packer = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
            packer.write_all(text.as_bytes()).unwrap();
            packer.finish().unwrap();
        } else {
            fs::write(&path, text).unwrap();
        }
        path
    }

    /// Merges these parts. Returns the lines, the missing rows, and whether the parts were in order.
    fn merge(&self, dir: &Path, parts: &[PathBuf]) -> Result<(String, Merged, bool)> {
        let input = MergeInput { inputs: &self.inputs, builder: &self.builder, scratch: dir };
        let parts = Parts::open(parts, "", b',')?;
        let mut lines = String::new();
        let in_order = parts.merge_in_order(input, &mut |row| {
            lines.extend(row.line.iter().map(|line| std::str::from_utf8(&line.bytes).unwrap()));
            Ok(())
        })?;
        if let Some(merged) = in_order {
            return Ok((lines, merged, true));
        }
        lines.clear();
        let merged = parts.merge_in_any_order(input, &mut |row| {
            lines.extend(row.line.iter().map(|line| std::str::from_utf8(&line.bytes).unwrap()));
            Ok(())
        })?;
        Ok((lines, merged, false))
    }
}

fn ending() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["jsonl", "flat", "csv"])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn merged_shards_are_the_whole_byte_for_byte(
        rows in 1_usize..60, count in 1_u64..7, ending in ending(), own_ids: bool, packed: bool,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let whole = whole(dir.path(), rows, ending, own_ids);
        let parts: Vec<PathBuf> = (1..=count)
            .map(|index| {
                let shard = Shard::new(index, count).unwrap();
                let own: Vec<usize> = (0..rows).filter(|row| shard.place(*row as u64 + 1).is_some()).collect();
                whole.part(dir.path(), index as usize, &own, packed)
            })
            .rev()
            .collect();
        let (lines, merged, in_order) = whole.merge(dir.path(), &parts).unwrap();
        prop_assert_eq!(lines, whole.lines.concat());
        let repeats = own_ids && rows >= 5;
        prop_assert_eq!((merged.rows, merged.missing.count(), in_order), (rows as u64, 0, !repeats));
        prop_assert!(merged.warnings().is_empty());
    }

    #[test]
    fn parts_in_any_order_are_the_whole_without_the_rows_they_lack(
        owners in prop::collection::vec(prop::option::of(0_usize..4), 1..60),
        shuffled in prop::collection::vec(any::<prop::sample::Index>(), 60),
        ending in ending(),
        own_ids: bool,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let whole = whole(dir.path(), owners.len(), ending, own_ids);
        let mut order: Vec<usize> = (0..owners.len()).collect();
        for (at, other) in shuffled.iter().take(owners.len()).enumerate() {
            order.swap(at, other.index(owners.len()));
        }
        let parts: Vec<PathBuf> = (0..4)
            .map(|part| {
                let own: Vec<usize> = order.iter().copied().filter(|row| owners[*row] == Some(part)).collect();
                whole.part(dir.path(), part, &own, false)
            })
            .collect();
        let (lines, merged, _) = whole.merge(dir.path(), &parts).unwrap();
        let expected: String =
            whole.lines.iter().zip(&owners).filter(|(_, owner)| owner.is_some()).map(|(line, _)| line.as_str()).collect();
        prop_assert_eq!(lines, expected);
        let missing: Vec<u64> = (1..).zip(&owners).filter(|(_, owner)| owner.is_none()).map(|(row, _)| row).collect();
        prop_assert_eq!(merged.missing.iter().collect::<Vec<_>>(), missing);
    }
}

#[test]
fn what_a_part_lacks_is_said_with_its_shard() {
    let dir = tempfile::tempdir().unwrap();
    let whole = whole(dir.path(), 40, "jsonl", false);
    let own = |first: usize, but: &[usize]| -> Vec<usize> {
        (first..40).step_by(4).filter(|row| !but.contains(row)).collect()
    };
    let parts = [
        whole.part(dir.path(), 1, &own(0, &[]), false),
        whole.part(dir.path(), 2, &own(1, &[5, 9, 13, 17]), false),
        whole.part(dir.path(), 3, &own(2, &[38]), false),
    ];
    let (_, merged, in_order) = whole.merge(dir.path(), &parts).unwrap();
    assert!(in_order);
    let said: Vec<String> =
        merged.warnings().iter().map(|text| text.replace(&format!("{}/", dir.path().display()), "")).collect();
    assert_eq!(
        said,
        [
            "part-2.jsonl, shard 2/4, lacks 4 rows (row 6, 10, 14 …)",
            "part-3.jsonl, shard 3/4, lacks 1 row (row 39)",
            "no part has rows of shard 4/4: 10 rows (row 4, 8, 12 …)",
        ]
    );
}

#[test]
fn torn_end_is_said_and_its_row_is_missing() {
    for (ending, packed) in [("jsonl", false), ("flat", false), ("csv", false), ("jsonl", true), ("csv", true)] {
        let dir = tempfile::tempdir().unwrap();
        let whole = whole(dir.path(), 400, ending, false);
        let all: Vec<usize> = (0..400).collect();
        let path = whole.part(dir.path(), 1, &all, packed);
        let bytes = fs::read(&path).unwrap();
        let cut = bytes.len() - if packed { bytes.len() / 3 } else { 4 };
        fs::write(&path, &bytes[..cut]).unwrap();
        let (lines, merged, _) = whole.merge(dir.path(), &[path]).unwrap();
        let missing = usize::try_from(merged.missing.count()).unwrap();
        assert!(missing >= 1 && (packed || missing == 1), "{ending}: {missing}");
        assert_eq!(lines, whole.lines[..400 - missing].concat(), "{ending}");
        let line = 400 - missing + 1 + usize::from(ending == "csv");
        let said = &merged.warnings()[0];
        let found = said.contains(&format!(":{line}: the file ends within this line"));
        assert!(found || ending == "csv" && said.contains("the file ends within this line"), "{said} {line}");
    }
    // A whole last line without its line end is a row.
    let dir = tempfile::tempdir().unwrap();
    let whole = whole(dir.path(), 3, "jsonl", false);
    let path = whole.part(dir.path(), 1, &[0, 1, 2], false);
    fs::write(&path, whole.lines.concat().trim_end()).unwrap();
    let (lines, merged, _) = whole.merge(dir.path(), &[path]).unwrap();
    assert_eq!((lines, merged.missing.count()), (whole.lines.concat(), 0));
}

#[test]
fn answer_counts_above_a_failure_and_two_answers_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut whole = whole(dir.path(), 3, "jsonl", false);
    let answer = |id: u32, text: &str| {
        format!(
            "{{\"custom_id\":\"row-{id}\",\"response\":{{\"status_code\":200,\"body\":{{\"id\":\"{}\",\"choices\":[{{\"message\":{{\"content\":\"{text}\"}}}}]}}}},\"error\":null}}\n",
            fastrand::u64(..)
        )
    };
    let failed = |id: u32| {
        format!(
            "{{\"custom_id\":\"row-{id}\",\"response\":null,\"error\":{{\"code\":\"timeout\",\"message\":\"x\"}}}}\n"
        )
    };
    whole.lines =
        vec![failed(1), answer(1, "a"), failed(2), answer(3, "c"), answer(3, "c"), answer(3, "d"), answer(9, "z")];
    let merge = |parts: &[&[usize]]| {
        let paths: Vec<PathBuf> =
            parts.iter().enumerate().map(|(number, rows)| whole.part(dir.path(), number, rows, false)).collect();
        whole.merge(dir.path(), &paths)
    };
    let line = |at: usize| whole.lines[at].as_str();
    let (lines, ..) = merge(&[&[0, 2], &[1, 3]]).unwrap();
    assert_eq!(lines, [line(1), line(2), line(3)].concat());
    let (lines, merged, _) = merge(&[&[1, 2, 3], &[0, 4]]).unwrap();
    assert_eq!((lines, merged.missing.count()), ([line(1), line(2), line(3)].concat(), 0));
    for parts in [[vec![1, 2, 3], vec![5]], [vec![3, 1], vec![5]]] {
        let error = merge(&[&parts[0], &parts[1]]).unwrap_err();
        assert_eq!(error.exit, Exit::Protocol);
        assert!(error.message.contains("two different answers for \"row-3\""), "{error}");
    }
    let error = merge(&[&[1, 2, 3], &[6]]).unwrap_err();
    assert!(error.exit == Exit::Protocol && error.message.contains("\"row-9\" that the input lacks"), "{error}");
}
