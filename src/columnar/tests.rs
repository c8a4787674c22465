//! Files of many kinds, made by the library itself, and files that are damaged.

use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, FloatType, Int32Type, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use proptest::prelude::*;

use super::{ColumnType, ParquetRows, ParquetWriter, RangedRead, TableSchema, WriteFault};
use crate::error::{Error, Exit, Result};

/// A file in memory.
struct InMemory(Bytes);

impl RangedRead for InMemory {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, length: usize) -> Result<Bytes> {
        let offset = usize::try_from(offset).unwrap();
        Ok(self.0.slice(offset..offset + length))
    }

    fn step(&self) -> usize {
        64
    }
}

type Columns<'a> = &'a dyn Fn(&mut SerializedRowGroupWriter<'_, Vec<u8>>, usize);

/// A file with row groups whose columns `write` makes.
fn file(schema: &str, groups: usize, codec: Compression, write: Columns<'_>) -> Bytes {
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = WriterProperties::builder().set_compression(codec).build();
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties)).unwrap();
    for group in 0..groups {
        let mut columns = writer.next_row_group().unwrap();
        write(&mut columns, group);
        columns.close().unwrap();
    }
    writer.into_inner().unwrap().into()
}

fn column<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, Vec<u8>>,
    values: &[T::T],
    def: Option<&[i16]>,
    rep: Option<&[i16]>,
) {
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<T>().write_batch(values, def, rep).unwrap();
    column.close().unwrap();
}

fn open(bytes: &Bytes) -> Result<ParquetRows> {
    ParquetRows::open(Arc::new(InMemory(bytes.clone())), "a.parquet")
}

fn rows(bytes: &Bytes) -> Result<Vec<String>> {
    let (mut rows, mut all) = (open(bytes)?, Vec::new());
    let mut line = Vec::new();
    while rows.next(&mut line)? {
        all.push(String::from_utf8(std::mem::take(&mut line)).unwrap().trim_end().to_owned());
    }
    Ok(all)
}

fn texts(texts: &[&str]) -> Vec<ByteArray> {
    texts.iter().map(|text| ByteArray::from(*text)).collect()
}

/// Two groups of three rows with everything that nests.
fn nested() -> Bytes {
    let schema = "message m {
        required int64 id;
        optional binary text (UTF8);
        optional group tags (LIST) { repeated group list { optional binary element (UTF8); } }
        optional group who { required int32 age; optional binary name (UTF8); }
        optional group scores (MAP) { repeated group key_value { required binary key (UTF8); optional float value; } }
        repeated int32 bare;
        required group old (LIST) { repeated group array { optional int32 n; } }
    }";
    file(schema, 2, Compression::SNAPPY, &|group, number| {
        let first = i64::try_from(number).unwrap() * 3;
        column::<Int64Type>(group, &[first, first + 1, first + 2], None, None);
        column::<ByteArrayType>(group, &texts(&["a \"b\"\n", "é"]), Some(&[1, 0, 1]), None);
        column::<ByteArrayType>(group, &texts(&["x", "y"]), Some(&[3, 2, 3, 1, 0]), Some(&[0, 1, 1, 0, 0]));
        column::<Int32Type>(group, &[7, 8], Some(&[1, 0, 1]), None);
        column::<ByteArrayType>(group, &texts(&["n"]), Some(&[2, 0, 1]), None);
        column::<ByteArrayType>(group, &texts(&["k", "l"]), Some(&[2, 2, 1, 0]), Some(&[0, 1, 0, 0]));
        column::<FloatType>(group, &[0.5], Some(&[3, 2, 1, 0]), Some(&[0, 1, 0, 0]));
        column::<Int32Type>(group, &[1, 2, 3], Some(&[1, 1, 0, 1]), Some(&[0, 1, 0, 0]));
        column::<Int32Type>(group, &[9], Some(&[2, 1, 0, 0]), Some(&[0, 1, 0, 0]));
    })
}

#[test]
fn nested_values_become_json_over_all_row_groups() {
    let found = rows(&nested()).unwrap();
    let expected = [
        r#""text":"a \"b\"\n","tags":["x",null,"y"],"who":{"age":7,"name":"n"},"scores":{"k":0.5,"l":null},"bare":[1,2],"old":[{"n":9},{"n":null}]}"#,
        r#""text":null,"tags":[],"who":null,"scores":{},"bare":[],"old":[]}"#,
        r#""text":"é","tags":null,"who":{"age":8,"name":null},"scores":null,"bare":[3],"old":[]}"#,
    ];
    let expected = (0..6).map(|id| format!("{{\"id\":{id},{}", expected[id % 3]));
    assert_eq!(found, expected.collect::<Vec<_>>());
    for line in found {
        assert!(crate::json::members(&line).is_ok(), "{line}");
    }
}

#[test]
fn many_pages_are_read_a_few_rows_at_a_time() {
    const ROWS: usize = 20_000;
    let schema = "message m { required binary text (UTF8); optional int32 n; }";
    let bytes = file(schema, 1, Compression::ZSTD(parquet::basic::ZstdLevel::default()), &|group, _| {
        let all: Vec<String> = (0..ROWS).map(|n| format!("text of row {n}")).collect();
        column::<ByteArrayType>(
            group,
            &all.iter().map(|text| ByteArray::from(&**text)).collect::<Vec<_>>(),
            None,
            None,
        );
        let numbers: Vec<i32> = (0..ROWS).filter(|n| n % 2 == 0).map(|n| i32::try_from(n).unwrap()).collect();
        let def: Vec<i16> = (0..ROWS).map(|n| i16::from(n % 2 == 0)).collect();
        column::<Int32Type>(group, &numbers, Some(&def), None);
    });
    for (n, row) in rows(&bytes).unwrap().into_iter().enumerate() {
        let number = if n % 2 == 0 { n.to_string() } else { "null".to_owned() };
        assert_eq!(row, format!("{{\"text\":\"text of row {n}\",\"n\":{number}}}"));
    }
}

#[test]
fn other_files_are_refused_with_the_reason() {
    let whole = nested();
    let cut = whole.slice(..whole.len() / 2);
    let with_end = |end: &[u8]| Bytes::from([&whole[..whole.len() - end.len()], end].concat());
    let binary = file("message m { required binary image; }", 1, Compression::UNCOMPRESSED, &|group, _| {
        column::<ByteArrayType>(group, &[ByteArray::from("text"), ByteArray::from(vec![0xff, 0xd8])], None, None);
    });
    for (bytes, says) in [
        (Bytes::new(), "the file is empty"),
        (Bytes::from_static(b"id,text\n1,a\n"), "this is not a Parquet file"),
        (Bytes::from_static(b"PAR1PAR1"), "is cut off"),
        (cut, "is cut off"),
        (with_end(b"PARE"), "is encrypted"),
        (Bytes::from([b"PARE", &whole[4..]].concat()), "is encrypted"),
        (with_end(b"\xff\xff\xff\x7fPAR1"), "its footer is longer than the file"),
        (with_end(b"\x10\x00\x00\x00PAR1"), "the Parquet data is damaged: its footer cannot be read"),
        (binary, "a.parquet: row 2: the column `image` holds binary data, not UTF-8 text"),
    ] {
        let error = rows(&bytes).unwrap_err();
        assert!(error.exit == Exit::Data && error.message.contains(says) && error.hint.is_some(), "{says}: {error:?}");
    }
    let empty = file("message m { required int32 n; }", 0, Compression::UNCOMPRESSED, &|_, _| ());
    assert_eq!(rows(&empty).unwrap(), Vec::<String>::new(), "a file without rows is a file");
}

#[test]
fn an_error_of_the_source_comes_as_it_is() {
    struct Failing(InMemory);
    impl RangedRead for Failing {
        fn size(&self) -> u64 {
            self.0.size()
        }

        fn read_at(&self, offset: u64, length: usize) -> Result<Bytes> {
            if (4..500).contains(&offset) {
                return Err(Error::new(Exit::Failure, "the object has changed"));
            }
            self.0.read_at(offset, length)
        }
    }
    let mut rows = ParquetRows::open(Arc::new(Failing(InMemory(nested()))), "a.parquet").unwrap();
    let error = rows.next(&mut Vec::new()).unwrap_err();
    assert_eq!((error.exit, &*error.message), (Exit::Failure, "the object has changed"));
}

/// The file that a writer makes of flat JSON lines.
fn written(columns: &[(&str, ColumnType)], lines: &[&str]) -> Result<Bytes, WriteFault> {
    let columns: Vec<_> = columns.iter().map(|(name, ty)| ((*name).to_owned(), ty.clone())).collect();
    let mut writer = ParquetWriter::new(Vec::new(), &TableSchema::new(&columns).unwrap())?;
    for line in lines {
        writer.push(line)?;
    }
    Ok(writer.finish()?.into())
}

#[test]
fn rows_of_a_file_come_back_with_the_types_that_they_had() {
    let types = open(&nested()).unwrap().types();
    let columns: Vec<(&str, ColumnType)> =
        types.iter().map(|(name, ty)| (&**name, ColumnType::Same(ty.clone()))).collect();
    let lines = rows(&nested()).unwrap();
    let again = written(&columns, &lines.iter().map(|line| &**line).collect::<Vec<_>>()).unwrap();
    assert_eq!(rows(&again).unwrap(), lines);
    let found = open(&again).unwrap().types();
    assert_eq!(found[1], types[1]);
    assert!(found[0] != types[0], "a column that was required may be null in results");
}

#[test]
fn results_have_their_fixed_types() {
    let columns = [
        ("text", ColumnType::Text),
        ("content", ColumnType::Vector),
        ("cost_usd", ColumnType::Usd),
        ("attempts", ColumnType::Int32),
        ("latency_ms", ColumnType::Int64),
        ("tokens_per_s", ColumnType::Double),
        ("reused", ColumnType::Bool),
    ];
    let lines = [
        r#"{"text":"a\"b","content":[0.5,-1],"cost_usd":0.00000048,"attempts":1,"latency_ms":7,"tokens_per_s":1.5,"reused":true}"#,
        r#"{"reused":false,"text":[1],"other":1,"content":"AAAAPwAAgL8=","text":{"b":"c"}}"#,
        "{}",
    ];
    let expected = [
        r#"{"text":"a\"b","content":[0.5,-1.0],"cost_usd":"0.000000480","attempts":1,"latency_ms":7,"tokens_per_s":1.5,"reused":true}"#,
        r#"{"text":"{\"b\":\"c\"}","content":[0.5,-1.0],"cost_usd":null,"attempts":null,"latency_ms":null,"tokens_per_s":null,"reused":false}"#,
        r#"{"text":null,"content":null,"cost_usd":null,"attempts":null,"latency_ms":null,"tokens_per_s":null,"reused":null}"#,
    ];
    assert_eq!(rows(&written(&columns, &lines).unwrap()).unwrap(), expected);
    for (value, fits) in [("[0.5]", true), ("[[0.5],[1]]", false), (r#""text""#, false), ("[]", true), ("null", true)] {
        let row = format!("{{\"content\":{value}}}");
        assert_eq!(written(&columns, &[&row]).is_ok(), fits, "{value}");
    }
    let none = written(&columns, &[]).unwrap();
    assert_eq!(rows(&none).unwrap(), Vec::<String>::new(), "a file without rows has its columns");
    assert_eq!(open(&none).unwrap().types().len(), columns.len());
}

#[test]
fn row_groups_are_bounded_by_their_bytes() {
    let line = format!("{{\"text\":\"{}\"}}", "x".repeat(1 << 20));
    let many: Vec<&str> = std::iter::repeat_n(&*line, 40).collect();
    let found = written(&[("text", ColumnType::Text)], &many).unwrap();
    assert_eq!(rows(&found).unwrap().len(), 40);
    assert!(open(&found).unwrap().groups() > 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn damage_is_an_error_or_other_rows_and_never_a_panic(
        at in any::<prop::sample::Index>(),
        bits in 1_u8..,
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let whole = nested();
        let mut bytes = whole.to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= bits;
        if let Some(cut) = cut {
            // A part is missing, and the end is there.
            let from = cut.index(bytes.len() - 8);
            bytes.drain(from..(from + 40).min(whole.len() - 8));
        }
        if let Err(error) = rows(&bytes.into()) {
            prop_assert!(error.exit == Exit::Data && error.hint.is_some(), "{error:?}");
        }
    }
}

/// A list of structs of two numbers, whose columns have these levels of definition and repetition.
fn pairs(first: [&[i16]; 2], second: [&[i16]; 2]) -> Result<Vec<String>> {
    let schema = "message m { optional group l (LIST) { repeated group list { optional group element {
        optional int32 a; optional int32 b; } } } }";
    let bytes = file(schema, 1, Compression::UNCOMPRESSED, &|group, _| {
        for [def, rep] in [first, second] {
            let count = i32::try_from(def.iter().filter(|def| **def == 4).count()).unwrap();
            column::<Int32Type>(group, &(1..=count).collect::<Vec<_>>(), Some(def), Some(rep));
        }
    });
    rows(&bytes)
}

#[test]
fn columns_that_disagree_on_the_rows_are_damage() {
    let good: [&[i16]; 2] = [&[4, 4, 4], &[0, 1, 0]];
    let expected = [r#"{"l":[{"a":1,"b":1},{"a":2,"b":2}]}"#, r#"{"l":[{"a":3,"b":3}]}"#];
    assert_eq!(pairs(good, good).unwrap(), expected);
    let others: [[&[i16]; 2]; 6] = [
        // As many values, in other rows.
        [&[4, 4, 4], &[0, 0, 1]],
        // An element less, or more.
        [&[4, 4], &[0, 0]],
        [&[4, 4, 4, 4], &[0, 1, 1, 0]],
        // No list, no element, no struct.
        [&[0, 4], &[0, 0]],
        [&[1, 4], &[0, 0]],
        [&[4, 2, 4], &[0, 1, 0]],
    ];
    for other in others {
        for error in [pairs(good, other), pairs(other, good)] {
            let error = error.unwrap_err();
            assert!(error.exit == Exit::Data && error.message.contains("damaged near row"), "{other:?}: {error}");
        }
    }
}

#[test]
fn decimal_of_endless_digits_is_refused() {
    let decimal = |digits: u32| {
        let schema = format!("message m {{ required binary d (DECIMAL({digits},{digits})); }}");
        file(&schema, 1, Compression::ZSTD(parquet::basic::ZstdLevel::default()), &|group, _| {
            column::<ByteArrayType>(group, &[ByteArray::from(vec![1; 1 << 20])], None, None);
        })
    };
    let error = rows(&decimal(100_000)).unwrap_err();
    assert!(
        error.message.contains("the column `d` cannot be read: it holds decimals of more than 1,000 digits"),
        "{error}"
    );
    let error = rows(&decimal(1_000)).unwrap_err();
    assert!(error.exit == Exit::Data && error.message.contains("damaged near row 1"), "{error}");
}
