use std::fs;
use std::io::Write;

use proptest::prelude::*;

use super::*;
use crate::error::Exit;

/// The rows as text: place, and record or problem.
fn rows_of(bytes: &[u8], format: Format, block: usize) -> Result<Vec<String>> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    let inputs = Inputs::spooled(file.path().to_owned(), "x", format);
    rows(&mut Blocks::with_sizes(&inputs, block, 1 << 20)?)
}

fn rows(blocks: &mut Blocks) -> Result<Vec<String>> {
    let (mut all, mut next) = (Vec::new(), 1);
    while let Some(block) = blocks.next()? {
        assert_eq!(block.first_row(), next);
        let before = all.len() as u64;
        block.for_each(|record| {
            all.push(match record {
                Ok(Record { row, file, line, data, .. }) => {
                    assert_eq!(row, all.len() as u64 + 1);
                    let text = match data {
                        Data::Json(text) | Data::Row(text) | Data::Line(text) => text.to_owned(),
                        Data::Columns { values, .. } => values.iter().collect::<Vec<_>>().join("|"),
                    };
                    format!("{file}:{line} {text}")
                }
                Err(problem) => {
                    assert_eq!(problem.row, Some(all.len() as u64 + 1));
                    format!("{}:{}:{} {}", problem.file, problem.line, problem.column.unwrap_or(0), problem.code)
                }
            });
        });
        assert_eq!(all.len() as u64 - before, block.rows(), "rows are counted as they are walked");
        next += block.rows();
    }
    Ok(all)
}

#[test]
fn what_cannot_be_read_is_said_before_anything_is() {
    let dir = tempfile::tempdir().unwrap();
    let good = dir.path().join("a.jsonl");
    fs::write(&good, "{}\n").unwrap();
    let odd = dir.path().join("b.dat");
    fs::write(&odd, "{}\n").unwrap();
    for (path, format, exit, word) in [
        (dir.path().join("none.jsonl"), None, Exit::NoInput, "none.jsonl"),
        (dir.path().to_owned(), None, Exit::NoInput, "directory"),
        ("/dev/null".into(), None, Exit::NoInput, "pipe"),
        (odd.clone(), None, Exit::Usage, "ending"),
    ] {
        let error = Inputs::resolve(&[good.clone(), path], format).unwrap_err();
        assert_eq!(error.exit, exit);
        assert!(error.message.contains(word) && error.hint.is_some(), "{error:?}");
    }
    let inputs = Inputs::resolve(&[good, odd], Some(Format::Jsonl)).unwrap();
    assert_eq!(inputs.total_bytes(), Some(6));
}

#[test]
fn lines_end_in_every_way() {
    for (bytes, expected) in [
        (&b""[..], &[][..]),
        (b"\n \r\n\t\n", &[]),
        (b"a", &["x:1 a"]),
        (b"\xef\xbb\xbfa\r\nb\n\n c \n", &["x:1 a", "x:2 b", "x:4  c "]),
        (b"\xef\xbb\xbf", &[]),
        (b"ok\nb\xc3\xa9\xff!\nok\n", &["x:1 ok", "x:2:4 utf8", "x:3 ok"]),
        (b"\xc3", &["x:1:1 utf8"]),
    ] {
        for block in [1, 2, 3, 1000] {
            assert_eq!(rows_of(bytes, Format::Lines, block).unwrap(), expected, "{bytes:?} by {block}");
        }
    }
}

#[test]
fn csv_records_span_lines_and_name_their_problems() {
    for (text, expected) in [
        ("", &[][..]),
        ("a,b\n", &[]),
        ("a,b\r\n1,2\r\n\r\n\"x\ny\",\"say \"\"hi\"\"\"\r\n3,4", &["x:2 1|2", "x:4 x\ny|say \"hi\"", "x:6 3|4"]),
        ("a,b\n1\n1,2,3\n,\n", &["x:2:0 csv_fields", "x:3:0 csv_fields", "x:4 |"]),
        ("a,b\n1,2\n3,\"open\n4,5\n", &["x:2 1|2", "x:3:3 csv_quote"]),
        ("a,b\n\"1\n2\",\"open\n4,5\n", &["x:3:4 csv_quote"]),
        ("a,b\n1,x\"y\"\n", &["x:2 1|x\"y\""]),
        ("\n\na,b\n\n1,2\n", &["x:5 1|2"]),
        ("\u{feff}\"a\",b\n1,2\n", &["x:2 1|2"]),
    ] {
        for block in [1, 2, 7, 1000] {
            assert_eq!(rows_of(text.as_bytes(), Format::Csv, block).unwrap(), expected, "{text:?} by {block}");
        }
    }
    assert_eq!(rows_of(b"a\tb\n1,5\t2\n", Format::Tsv, 9).unwrap(), ["x:2 1,5|2"]);
    assert_eq!(rows_of(b"a,b\n1,\"x\n\xff\"\n2,3\n", Format::Csv, 100).unwrap(), ["x:3:1 utf8", "x:4 2|3"]);
}

#[test]
fn impossible_files_are_errors_with_a_remedy() {
    for (bytes, format, words, hint) in [
        (&b"i\0d\0,\0"[..], Format::Csv, "UTF-16 without a mark", "--encoding utf-16le"),
        (b"\0i\0d\0,", Format::Csv, "UTF-16 without a mark", "--encoding utf-16be"),
        (b"PK\x03\x04\x14", Format::Csv, "Excel workbook", "save it as CSV"),
        (b"PAR1\x15\0", Format::Jsonl, "a Parquet file, not text", "--input-format parquet"),
        (b"BZh91AY", Format::Csv, "bzip2", "bunzip2"),
        (b"a,\"b\n1,2\n", Format::Csv, "x:1:3:", "quote"),
        (b"a,\xff\n1,2\n", Format::Csv, "x:1:3:", "--encoding windows-1252"),
        (b"sep=,\n\na,\"b\n1,2\n", Format::Csv, "x:3:3:", "quote"),
        (b"a,\x93\n1,2\n", Format::Csv, "byte 0x93", "from Windows"),
        (b" \n[{\"a\":1}]", Format::Jsonl, "x:2: the file is a JSON array", "jq -c '.[]'"),
        (b"\n\n       \n [{\"a\":1}]", Format::Jsonl, "x:4: the file is a JSON array", "jq -c '.[]'"),
        (b"\xff\xfe\0\0{\0\0\0", Format::Jsonl, "UTF-32", "iconv -f UTF-32"),
        (b"\n\nid,text\n1,a\n", Format::Jsonl, "x:3: this is a table", "--input-format csv"),
    ] {
        for block in [30, 1000] {
            let error = rows_of(bytes, format, block).unwrap_err();
            assert_eq!(error.exit, Exit::Data);
            assert!(error.message.contains(words), "{}", error.message);
            assert!(error.hint.as_deref().is_some_and(|said| said.contains(hint)), "{error:?}");
        }
    }
}

#[test]
fn mark_of_utf16_has_the_file_decoded() {
    let text = "\u{feff}id,text\r\n1,größe 🦀\n2,b\n";
    for encode in [u16::to_le_bytes as fn(u16) -> [u8; 2], u16::to_be_bytes] {
        let bytes: Vec<u8> = text.encode_utf16().flat_map(encode).collect();
        for block in [1, 7, 1000] {
            assert_eq!(rows_of(&bytes, Format::Csv, block).unwrap(), ["x:2 1|größe 🦀", "x:3 2|b"], "by {block}");
        }
        assert_eq!(rows_of(&bytes[..bytes.len() - 1], Format::Csv, 9).unwrap()[1], "x:3:4 utf8", "cut off");
    }
}

#[test]
fn tables_are_read_with_the_delimiter_that_they_have() {
    for (text, format, expected, delimiter) in [
        ("id;text\n1;a, b\n", Format::Csv, "x:2 1|a, b", Some(';')),
        ("id\ttext\n1\ta\n", Format::Csv, "x:2 1|a", Some('\t')),
        ("id|text\n1|a\n", Format::Csv, "x:2 1|a", Some('|')),
        ("id,text\n1,a\n", Format::Tsv, "x:2 1|a", Some(',')),
        ("sep=;\r\nid;text\r\n1;a\r\n", Format::Csv, "x:3 1|a", Some(';')),
        ("sep=,\r\nid,text\r\n1,a\r\n", Format::Csv, "x:3 1|a", None),
        ("id,text;more\n1,a;b\n", Format::Csv, "x:2 1|a;b", None),
        ("\"id;text\"\n1;a\n", Format::Csv, "x:2 1;a", None),
        ("id;text, long;label\n1;a, b;c\n", Format::Csv, "x:2 1|a, b|c", Some(';')),
        ("id\tsize, weight\tn\n1\ta, b\tc\n", Format::Csv, "x:2 1|a, b|c", Some('\t')),
        ("id,notes; long; text\n1,a; b\n", Format::Csv, "x:2 1|a; b", None),
        ("id,\"a;b;c\"\n1,\"x;y;z\"\n", Format::Csv, "x:2 1|x;y;z", None),
    ] {
        for block in [1, 2, 7, 1000] {
            assert_eq!(rows_of(text.as_bytes(), format, block).unwrap(), [expected], "{text:?} by {block}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        let block = Inputs::spooled(file.path().to_owned(), "x", format).blocks().unwrap().next().unwrap().unwrap();
        assert_eq!(block.odd_delimiter(), delimiter, "{text:?}");
    }
}

#[test]
fn columns_without_a_name_or_with_a_taken_one_get_one() {
    for (text, format, expected) in [
        (",text,label\n0,a,b\n", Format::Csv, &["column_1", "text", "label"][..]),
        ("\"\",\"text\"\n\"1\",\"a\"\n", Format::Csv, &["column_1", "text"]),
        ("id,text,,\n1,a,,\n", Format::Csv, &["id", "text", "column_3", "column_4"]),
        ("\ttext\n0\ta\n", Format::Tsv, &["column_1", "text"]),
        (",column_1\n0,a\n", Format::Csv, &["column_1_", "column_1"]),
        ("a,b,a,a_3\n1,2,3,4\n", Format::Csv, &["a", "b", "a_3_", "a_3"]),
    ] {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        let block = Inputs::spooled(file.path().to_owned(), "x", format).blocks().unwrap().next().unwrap().unwrap();
        block.for_each(|record| {
            let names: Vec<_> = record.unwrap().fields().into_iter().map(|(name, _)| name.into_owned()).collect();
            assert_eq!(names, expected);
        });
    }
}

#[test]
fn addresses_and_foreign_endings_are_named_for_what_they_are() {
    for (path, exit, words, hint) in [
        ("ftp://host/p.jsonl", Exit::NoInput, "an address", "s3://"),
        ("file:///tmp/p.jsonl", Exit::NoInput, "an address", "name its path: /tmp/p.jsonl"),
        ("hf://models/a/b/c.jsonl", Exit::Usage, "no file of a dataset", "hf://datasets/OWNER"),
        ("http://files.example.org/x.jsonl", Exit::Usage, "not encrypted", "https://"),
    ] {
        let error = Inputs::resolve(&[path.into()], None).unwrap_err();
        assert!(error.exit == exit && error.message.contains(words), "{error:?}");
        assert!(error.hint.as_deref().is_some_and(|said| said.contains(hint)), "{error:?}");
    }
    let dir = tempfile::tempdir().unwrap();
    for (name, words, hint) in [("b.xlsx", "workbook", "CSV"), ("l.jsonl.bz2", "archive", "unpack")] {
        fs::write(dir.path().join(name), "x").unwrap();
        let error = Inputs::resolve(&[dir.path().join(name)], None).unwrap_err();
        assert!(error.exit == Exit::Usage && error.message.contains(words), "{error:?}");
        assert!(error.hint.as_deref().is_some_and(|said| said.contains(hint)), "{error:?}");
    }
}

#[test]
fn a_record_beyond_measure_is_one_problem() {
    let long = "y".repeat(3 << 20);
    let text = format!("a\n{long}\nb\n{long}");
    assert_eq!(
        rows_of(text.as_bytes(), Format::Lines, 1000).unwrap(),
        ["x:1 a", "x:2:0 too_long", "x:3 b", "x:4:0 too_long"]
    );
    let text = format!("h\n1\n\"{}\n", "z\n".repeat(2 << 20));
    assert_eq!(rows_of(text.as_bytes(), Format::Csv, 1000).unwrap(), ["x:2 1", "x:3:1 csv_quote"]);
}

#[test]
fn rows_are_numbered_over_files_packed_or_not() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b, c) = (dir.path().join("a.txt"), dir.path().join("b.csv.gz"), dir.path().join("c.jsonl.zst"));
    fs::write(&a, "one\n\ntwo").unwrap();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(b"h\n3\n").unwrap();
    fs::write(&b, packed.finish().unwrap()).unwrap();
    fs::write(&c, zstd::encode_all(&b"{}\n"[..], 1).unwrap()).unwrap();
    let inputs = Inputs::resolve(&[a, b, c], None).unwrap();
    for _ in 0..2 {
        let rows = rows(&mut inputs.blocks().unwrap()).unwrap();
        let tails: Vec<_> = rows.iter().map(|row| row.rsplit('/').next().unwrap_or_default()).collect();
        assert_eq!(tails, ["a.txt:1 one", "a.txt:3 two", "b.csv.gz:2 3", "c.jsonl.zst:1 {}"]);
    }
}

#[test]
fn encoded_and_delimited_input_is_read_by_its_flags() {
    let dir = tempfile::tempdir().unwrap();
    let read = |name: &str, bytes: &[u8], encoding: Option<&str>, delimiter: Option<u8>, block: usize| {
        fs::write(dir.path().join(name), bytes).unwrap();
        let encoding = encoding.map(|name| name.parse().unwrap());
        let options = ReadOptions { delimiter, encoding, ..ReadOptions::default() };
        let inputs = Inputs::resolve(&[dir.path().join(name)], None)?.read_as(&options)?;
        let rows = rows(&mut inputs.blocks_sized(block, 1 << 20)?)?;
        Ok::<_, Error>(rows.iter().map(|row| row.rsplit('/').next().unwrap().to_owned()).collect::<Vec<_>>())
    };
    let text = "\u{feff}id;name\r\n1;\"Caf\u{e9}\n\u{20ac}\"\r\n\r\n2;b\r\n";
    let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&utf16).unwrap();
    let packed = packed.finish().unwrap();
    let windows = b"id;name\r\n1;\"Caf\xe9\n\x80\"\r\n\r\n2;b\r\n";
    for block in [9, 10, 1000] {
        let expected = ["x.csv:2 1|Caf\u{e9}\n\u{20ac}", "x.csv:5 2|b"];
        assert_eq!(read("x.csv", &utf16, Some("utf-16"), None, block).unwrap(), expected);
        assert_eq!(read("x.csv", &utf16, Some("utf-16be"), Some(b';'), block).unwrap(), expected);
        assert_eq!(read("x.csv", windows, Some("cp1252"), None, block).unwrap(), expected);
        let rows = read("x.csv.gz", &packed, Some("utf-16be"), None, block).unwrap();
        assert_eq!(rows, expected.map(|row| row.replace("x.csv", "x.csv.gz")));
    }
    // The user's delimiter is not guessed over, but a `sep=` line is still no header.
    assert_eq!(read("x.csv", b"sep=;\na;b,c:d\n1;2,3:4\n", None, Some(b':'), 99).unwrap(), ["x.csv:3 1;2,3|4"]);
    assert_eq!(
        read("l.txt", b"\x93hi\x94\nb", Some("windows-1252"), None, 9).unwrap(),
        ["l.txt:1 \u{201c}hi\u{201d}", "l.txt:2 b"]
    );
    // Bytes that the encoding does not have are a problem of their row.
    assert_eq!(
        read("j.txt", b"a\nb\xff\nc\n", Some("shift_jis"), None, 9).unwrap(),
        ["j.txt:1 a", "j.txt:2:2 utf8", "j.txt:3 c"]
    );
    let error = read("l.txt", b"a", None, Some(b';'), 9).unwrap_err();
    assert!(error.exit == Exit::Usage && error.message.contains("is read as lines"), "{error:?}");
}

#[test]
fn chosen_rows_are_the_same_whatever_the_block() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a.txt"), dir.path().join("b.csv"));
    let numbers = |range: std::ops::RangeInclusive<u32>| range.map(|n| n.to_string()).collect::<Vec<_>>();
    fs::write(&a, numbers(1..=40).join("\n\n")).unwrap();
    fs::write(&b, format!("n\n{}", numbers(41..=100).join("\n"))).unwrap();
    let shard = |text: &str| Some(text.parse().unwrap());
    for (limit, sample, shard, expected) in [
        (Some(45), None, None, 45),
        (None, Some(10), None, 10),
        (Some(60), Some(30), None, 30),
        (None, None, shard("3/7"), 14),
        (Some(44), None, shard("3/7"), 6),
        (Some(60), Some(30), shard("29/29"), 1),
        (Some(60), Some(30), shard("31/31"), 0),
    ] {
        let pick = Pick { limit, sample, seed: 1, shard };
        let inputs = Inputs::resolve(&[a.clone(), b.clone()], None).unwrap();
        let inputs = inputs.read_as(&ReadOptions { pick, ..ReadOptions::default() }).unwrap();
        let whole = rows(&mut inputs.blocks().unwrap()).unwrap();
        assert_eq!(whole.len(), expected);
        for block in [1, 7, 30] {
            assert_eq!(rows(&mut inputs.blocks_sized(block, 1 << 20).unwrap()).unwrap(), whole);
        }
        let mut blocks = inputs.blocks().unwrap();
        let mut row = 0;
        while let Some(block) = blocks.next().unwrap() {
            assert_eq!(block.first_row(), row + 1);
            block.for_each(|record| {
                row += 1;
                let record = record.unwrap();
                assert_eq!(record.row, row);
                let text = match record.data {
                    Data::Line(text) => text,
                    Data::Columns { values, .. } => &values[0],
                    Data::Json(_) | Data::Row(_) => "",
                };
                assert_eq!(text, record.number.to_string(), "a row keeps its number");
            });
        }
    }
}

proptest! {
    #[test]
    fn blocks_give_what_a_plain_reader_of_lines_gives(
        lines in prop::collection::vec(("[ \t]{0,2}|[aé🦀\" ]{0,12}", any::<bool>()), 0..20),
        last in "[aé]{0,3}",
        block in 1..40_usize,
    ) {
        let mut text = String::new();
        for (line, dos) in &lines {
            text.extend([line.as_str(), if *dos { "\r\n" } else { "\n" }]);
        }
        text.push_str(&last);
        let expected: Vec<String> = (1..)
            .zip(text.split('\n'))
            .filter(|(_, line)| !line.trim().is_empty())
            .map(|(n, line)| format!("x:{n} {}", line.strip_suffix('\r').unwrap_or(line)))
            .collect();
        prop_assert_eq!(rows_of(text.as_bytes(), Format::Lines, block).unwrap(), expected);
    }

    /// Of texts without blank lines in front, for which the crate counts lines differently, and without lone carriage returns.
    #[test]
    fn csv_reads_as_the_csv_crate_does(body in "([ab,\"é]|\n|\r\n){0,40}", block in 1..30_usize) {
        // The crate is silent about an open quote: such texts are in another test.
        let text = format!("h1,h2\n{body}");
        let mut reader = ::csv::ReaderBuilder::new().flexible(true).from_reader(text.as_bytes());
        let expected: Vec<String> = reader
            .records()
            .map(|record| {
                let record = record.unwrap();
                if record.len() == 2 { record.iter().collect::<Vec<_>>().join("|") } else { "csv_fields".to_owned() }
            })
            .collect();
        let rows = rows_of(text.as_bytes(), Format::Csv, block).unwrap();
        let open = rows.last().is_some_and(|row| row.ends_with("csv_quote"));
        let got: Vec<String> = rows.iter().map(|row| row.split_once(' ').unwrap().1.to_owned()).collect();
        prop_assert_eq!(got.len(), expected.len());
        let compared = got.len() - usize::from(open);
        prop_assert_eq!(&got[..compared], &expected[..compared]);
    }

    /// Bytes of any kind, those that mean something more often: blocks are cut, never rows.
    #[test]
    fn any_bytes_are_the_same_rows_whatever_the_block(
        bytes in prop::collection::vec(soup(), 0..80),
        format in prop::sample::select(vec![Format::Jsonl, Format::Csv, Format::Tsv, Format::Lines]),
        block in 1..40_usize,
    ) {
        let text = bytes.concat();
        // Errors about a whole file come from its first block.
        let text = if format == Format::Jsonl { [b"{", &text[..]].concat() } else { text };
        let shown = |rows: Result<Vec<String>>| rows.map_err(|error| error.to_string());
        let whole = shown(rows_of(&text, format, 1 << 20));
        prop_assert_eq!(shown(rows_of(&text, format, block)), whole.clone());
        if let (Ok(rows), Format::Jsonl | Format::Lines) = (&whole, format) {
            let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
            let blank = |line: &&[u8]| line.iter().all(|byte| b" \t\r".contains(byte));
            prop_assert_eq!(rows.len(), text.split(|byte| *byte == b'\n').filter(|line| !blank(line)).count());
        }
    }
}

/// A byte or a few: line ends, delimiters, quotes, marks, halves of characters, and what else there is.
fn soup() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => prop::sample::select(vec![
            &b"\n"[..], b"\r\n", b"\r", b",", b"\t", b"\"", b"\"\"", b" ", b"\0", b"\xef\xbb\xbf", b"\xc3", b"\xff", b"{}", b";",
        ]).prop_map(<[u8]>::to_vec),
        2 => "[ab\u{e9}\u{1f980}]{1,3}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 1..3),
    ]
}
