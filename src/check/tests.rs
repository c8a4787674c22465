use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use proptest::prelude::*;

use super::pass::Inspected;
use super::*;
use crate::input::Inputs;
use crate::price::PriceTable;
use crate::request::{Draft, Params, Request, RequestBuilder};

fn builder() -> RequestBuilder {
    RequestBuilder::new(&Params { model: Some("m".into()), ..Params::default() }).unwrap()
}

fn inputs(dir: &tempfile::TempDir, files: &[(&str, String)]) -> Inputs {
    let paths: Vec<PathBuf> = files.iter().map(|(name, _)| dir.path().join(name)).collect();
    for (path, (_, text)) in paths.iter().zip(files) {
        fs::write(path, text).unwrap();
    }
    Inputs::resolve(&paths, None).unwrap()
}

fn run(inputs: &Inputs, max_problems: usize, threads: usize) -> (Checked, Vec<(u64, Option<Request>)>) {
    let mut rows = Vec::new();
    let builder = builder();
    let pass = Pass { max_problems, threads, ..Pass::new(inputs, &builder) };
    let checked = pass.inspect(&|draft| builder.own(draft, draft.fingerprint()), &mut |row, found| {
        rows.push((row, found.map(|found| found.value)));
    });
    (checked.unwrap(), rows)
}

#[test]
fn a_bound_beyond_all_numbers_is_too_long_and_overflows_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let known = "meta-llama/Llama-3.2-3B-Instruct-Turbo";
    let row = |model: &str, most: &str| format!("{{\"prompt\":\"x\",\"model\":\"{model}\",\"max_tokens\":{most}}}\n");
    let text = ["18446744073709551615", "123456789012345678901234567890", "5"].map(|most| row(known, most)).concat();
    let inputs = inputs(&dir, &[("a.jsonl", text + &row("m/unknown", "18446744073709551615"))]);
    let table = PriceTable::builtin();
    let builder = builder();
    let pass = Pass { table: Some(&table), ..Pass::new(&inputs, &builder) };
    let mut bounds = Vec::new();
    let mut each = |_, found: Option<Inspected<'_, _>>| bounds.push(found.map(|found| found.value));
    let checked = pass.inspect(&|draft| draft.answer_bound(), &mut each).unwrap();
    let codes: Vec<_> = checked.problems.iter().map(|p| (p.row, p.code)).collect();
    assert_eq!(codes, [(Some(1), "context_length"), (Some(2), "context_length")]);
    assert_eq!(bounds, [None, None, Some(Some(5)), Some(Some(crate::request::MOST_TOKENS))]);
    let too_long = checked.too_long.unwrap();
    assert_eq!(too_long.iter().collect::<Vec<_>>(), [1, 2]);
    assert!(Pass::new(&inputs, &builder).run().unwrap().too_long.is_none(), "nothing was compared");
}

#[test]
fn fields_are_gathered_in_the_order_of_the_rows_whichever_thread_saw_them() {
    let dir = tempfile::tempdir().unwrap();
    let line = |n: u32| {
        let new = if n.is_multiple_of(1500) { format!(",\"new {n}\":1") } else { String::new() };
        let text = format!("\"text\":\"{}\"", "x".repeat(80));
        match n {
            // Rows with a problem have fields too, as far as they are JSON.
            700 => format!("{{\"id\":\"b\",\"only here\":1,{text}}}\n"),
            800 => format!("{{\"nowhere\":1,{text}\n"),
            _ if n.is_multiple_of(9) => format!("{{{text},\"prompt\":\"{n}\"{new}}}\n"),
            _ => format!("{{\"prompt\":\"{n}\",{text}{new}}}\n"),
        }
    };
    let jsonl = (1..=9000).map(line).collect();
    let csv = "prompt,,model,prompt\na,b,m,c\n".to_owned();
    let inputs = inputs(&dir, &[("a.jsonl", jsonl), ("b.csv", format!("\u{feff}{csv}")), ("c.txt", "x\n".to_owned())]);
    let builder = builder();
    let mut names: Vec<String> = ["prompt", "text", "id", "only here"].map(str::to_owned).into();
    names.extend((1..=6).map(|n| format!("new {}", n * 1500)));
    names.extend(["column_2", "model", "prompt_4", "line"].map(str::to_owned));
    for threads in [1, 3] {
        let pass = Pass { threads, fields: true, ..Pass::new(&inputs, &builder) };
        let mut fields = pass.run().unwrap().fields.unwrap();
        assert_eq!(fields.names(), names);
        assert!(fields.is_marked() && fields.model_is_own() && !fields.are_too_many());
        let given = fields.take_given();
        assert_eq!((given["column_2"].as_str(), given["prompt_4"].as_str(), given.len()), ("", "prompt", 2));
    }
    assert!(Pass::new(&inputs, &builder).run().unwrap().fields.is_none());
}

#[test]
fn ids_far_apart_are_found_to_be_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let row = |n: u32| format!("{{\"id\":\"{}\",\"prompt\":\"{}\"}}\n", n % 20_000, "x".repeat(60));
    let inputs = inputs(&dir, &[("a.jsonl", (0..20_001).map(row).collect())]);
    let (checked, _) = run(&inputs, 20, 3);
    assert_eq!((checked.rows, checked.duplicates), (20_001, vec![20_001]));
    let message = &checked.problems[0].message;
    assert!(message.contains("a.jsonl:1, again at") && message.contains("a.jsonl:20001"), "{message}");
}

#[test]
fn models_are_counted_however_many_there_are() {
    let dir = tempfile::tempdir().unwrap();
    let row = |n: u32| format!("{{\"prompt\":\"x\",\"model\":\"m/{}\"}}\n", n % 3000);
    let inputs = inputs(&dir, &[("a.jsonl", (0..9000).map(row).collect())]);
    for threads in [1, 3] {
        let (checked, _) = run(&inputs, 20, threads);
        assert_eq!(checked.models.len(), 3000);
        assert!(checked.models.iter().all(|(_, rows)| *rows == 3));
    }
}

#[test]
fn no_row_has_the_id_under_which_a_duplicate_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let row = |id: &str| format!("{{\"id\":\"{id}\",\"prompt\":\"?\"}}\n");
    let all = |ids: &[&str]| ids.iter().map(|id| row(id)).collect::<String>();
    for (ids, marks) in [
        (&["a", "a#3", "a", "b"][..], "##"),
        (&["a", "b##9c", "a", "a#3"], "###"),
        (&["a#", "a##3", "a#"], "###"),
        (&["a", "b", "a"], "#"),
    ] {
        let inputs = inputs(&dir, &[("a.jsonl", all(ids))]);
        let (checked, _) = run(&inputs, 20, 2);
        assert_eq!(checked.stand_in(3, ids[2]).as_deref(), Some(&*format!("{}{marks}3", ids[2])), "{ids:?}");
        assert!(!ids.contains(&&*checked.stand_in(3, ids[2]).unwrap()), "{ids:?}");
    }
}

#[test]
fn both_lines_of_a_duplicate_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let a = "\n{\"id\":\"x\",\"prompt\":\"1\"}\n{\"id\":2,\"prompt\":\"\"}\n".to_owned();
    let b = "{\"prompt\":\"3\"}\n{\"id\":\"x\",\"prompt\":\"4\"}\nnonsense\n{\"id\":\"2\"}\n".to_owned();
    let inputs = inputs(&dir, &[("a.jsonl", a), ("b.jsonl", b)]);
    for threads in [1, 2, 3] {
        let (checked, rows) = run(&inputs, 20, threads);
        assert_eq!((checked.rows, checked.bad_rows, checked.problem_count), (6, 4, 5));
        assert_eq!(checked.duplicates, [4, 6]);
        assert_eq!((checked.stand_in(1, "x"), checked.stand_in(4, "x").as_deref()), (None, Some("x#4")));
        let codes: Vec<_> = checked.problems.iter().map(|p| (p.row, p.line.to_string(), p.code)).collect();
        assert_eq!(
            codes,
            [
                (Some(2), "3".to_owned(), "empty_prompt"),
                (Some(4), "2".to_owned(), "duplicate_id"),
                (Some(5), "3".to_owned(), "json"),
                (Some(6), "4".to_owned(), "no_prompt"),
                (Some(6), "4".to_owned(), "duplicate_id")
            ]
        );
        let message = &checked.problems[1].message;
        assert!(message.contains("a.jsonl:2, again at") && message.contains("b.jsonl:2"), "{message}");
        assert_eq!(
            rows.iter().map(|(row, r)| (*row, r.is_some())).collect::<Vec<_>>(),
            [(1, true), (2, false), (3, true), (4, true), (5, false), (6, false)]
        );
        assert_eq!(checked.models, [(Arc::from("m"), 3)]);
    }
    let (checked, _) = run(&inputs, 2, 1);
    assert_eq!(checked.problems.iter().map(|p| p.row).collect::<Vec<_>>(), [Some(2), Some(4)]);
    assert_eq!(checked.problem_count, 5);
}

#[test]
fn an_empty_input_has_no_rows() {
    let dir = tempfile::tempdir().unwrap();
    let (checked, rows) = run(&inputs(&dir, &[("a.jsonl", String::new()), ("b.csv", String::new())]), 20, 2);
    assert_eq!((checked.rows, checked.problem_count, rows.len()), (0, 0, 0));
}

#[test]
fn long_ids_are_counted_in_characters() {
    let dir = tempfile::tempdir().unwrap();
    let lines = [64, 65].map(|n| format!("{{\"id\":\"{}\",\"prompt\":\"p\"}}\n", "é".repeat(n))).concat();
    assert_eq!(run(&inputs(&dir, &[("a.jsonl", lines)]), 20, 1).0.long_ids, 1);
}

#[test]
fn an_inspection_sees_every_good_row_in_order_over_many_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let lines: Vec<String> = (1..=20_000).map(|n| format!("{{\"prompt\":\"{n}{}\"}}\n", "x".repeat(80))).collect();
    let lines = lines.concat();
    let inputs = inputs(&dir, &[("a.jsonl", lines)]);
    let mut next = 1;
    let builder = builder();
    let pass = Pass { max_problems: 1, threads: 3, ..Pass::new(&inputs, &builder) };
    let inspect = |draft: &Draft<'_>| (draft.row, draft.body.contains(&format!("\"{}x", draft.row)));
    let mut each = |row, found: Option<Inspected<'_, _>>| {
        assert_eq!((row, found.map(|found| found.value)), (next, Some((next, true))));
        next += 1;
    };
    let checked = pass.inspect(&inspect, &mut each).unwrap();
    assert_eq!((checked.rows, checked.problem_count), (20_000, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// `None` is a row without an id; ids of our own form meet generated ones.
    #[test]
    fn duplicates_are_those_a_map_finds(ids in prop::collection::vec(
        prop_oneof![2 => Just(None), 3 => (0..12_u32).prop_map(|n| Some(format!("row-{n}"))), 2 => (0..30_u32).prop_map(|n| Some(format!("k{n}")))],
        0..40,
    ), threads in 1..3_usize) {
        let dir = tempfile::tempdir().unwrap();
        let line = |id: &Option<String>| match id {
            Some(id) => format!("{{\"prompt\":\"p\",\"id\":\"{id}\"}}\n"),
            None => "{\"prompt\":\"p\"}\n".to_owned(),
        };
        let inputs = inputs(&dir, &[("a.jsonl", ids.iter().map(line).collect())]);
        let mut seen = HashMap::new();
        let mut expected = Vec::new();
        for (row, id) in (1_u64..).zip(&ids) {
            let id = id.clone().unwrap_or_else(|| format!("row-{row}"));
            if seen.insert(id, row).is_some() {
                expected.push(row);
            }
        }
        let (checked, _) = run(&inputs, 20, threads);
        prop_assert_eq!(checked.duplicates, expected);
    }
}

#[test]
fn a_collision_of_hashes_is_no_duplicate() {
    let dir = tempfile::tempdir().unwrap();
    let lines = ["a", "b"].map(|id| format!("{{\"id\":\"{id}\",\"prompt\":\"p\"}}\n")).concat();
    let inputs = inputs(&dir, &[("a.jsonl", lines)]);
    let mut ids = duplicates::Ids::default();
    // As if `b` had the hash of `a`.
    ids.add(1, duplicates::SeenId::given("a", 1));
    ids.add(2, duplicates::SeenId::given("a", 2));
    let found = duplicates::find(&Pass::new(&inputs, &builder()), ids).unwrap();
    assert!(found.rows.is_empty() && found.problems.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn the_first_good_row_of_each_request_leads(
        rows in proptest::collection::vec((0_u8..9, 0_u8..40, any::<bool>()), 0..60),
        spelled_alike in any::<bool>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let line = |(prompt, id, escaped): &(u8, u8, bool)| match prompt {
            0 => "{\"no\":\"prompt\"}\n".to_owned(),
            _ if *escaped && !spelled_alike => format!("{{\"prompt\":\"\\u0070{prompt}\",\"id\":\"{id}\"}}\n"),
            _ => format!("{{\"prompt\":\"p{prompt}\",\"id\":\"{id}\"}}\n"),
        };
        let inputs = inputs(&dir, &[("a.jsonl", rows.iter().map(line).collect())]);
        let (builder, table, keys) = (builder(), PriceTable::builtin(), crate::request::KeyMaker::new("s"));
        let pass = Pass { keys: Some(&keys), ..Pass::new(&inputs, &builder) };
        let mut checked = pass.run().unwrap();
        // As if other requests had the hash of these.
        checked.alike.insert(3);
        checked.alike.insert(70);
        let inspector = estimate::RowInspector::new(0, crate::tokens::Estimator::shared(), &table);
        let dir = Some(dir.path());
        let search = repeats::RepeatSearch { pass: &pass, checked: &checked, keys: &keys, inspector: &inspector, dir };
        let mut told = Vec::new();
        let found = search.run(&mut |follower| {
            told.push((follower.row, follower.leader));
            Ok(())
        }).unwrap();
        let mut first = HashMap::new();
        let mut reader = found.reader().unwrap();
        let mut followers = 0;
        for (row, (prompt, ..)) in (1_u64..).zip(&rows) {
            let good = *prompt > 0 && checked.duplicates.binary_search(&row).is_err();
            let leader = if good { first.get(prompt).copied() } else { None };
            prop_assert_eq!(reader.next(row).unwrap(), leader, "row {}", row);
            prop_assert_eq!(found.is_follower(row), leader.is_some());
            prop_assert!(leader.is_none_or(|leader| !found.is_follower(leader)));
            followers += u64::from(leader.is_some());
            prop_assert!(leader.is_none_or(|leader| told.contains(&(row, leader))));
            if good {
                first.entry(*prompt).or_insert(row);
            }
        }
        prop_assert_eq!((found.count(), told.len() as u64), (followers, followers));
    }
}
