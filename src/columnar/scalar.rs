//! Values of leaves as JSON text.

use std::fmt::{self, Write as _};

use jiff::Span;
use jiff::civil::{Date, DateTime, Time};
use parquet::basic::{ConvertedType, LogicalType, TimeUnit, Type as PhysicalType};
use parquet::data_type::Int96;
use parquet::schema::types::Type;

use crate::json;

/// The meaning of a leaf's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scalar {
    Bool,
    Int,
    Unsigned,
    Float,
    /// A number of 16 bits.
    Half,
    /// Digits behind the point.
    Decimal(usize),
    Date,
    /// Nanoseconds of its unit.
    Time(i64),
    /// Nanoseconds of its unit; `utc`: it is a point in time, else a time by an unnamed clock.
    Timestamp(i64, bool),
    /// A time by an unnamed clock: nanoseconds of a Julian day.
    Julian,
    Text,
    /// Bytes without a meaning, which may be a text.
    Binary,
    Uuid,
    /// Months, days and milliseconds.
    Interval,
}

/// A value as it is stored.
#[derive(Debug, Clone, Copy)]
pub(super) enum LeafValue<'a> {
    Bool(bool),
    I32(i32),
    I64(i64),
    I96(&'a Int96),
    F32(f32),
    F64(f64),
    Bytes(&'a [u8]),
}

/// Digits of a decimal, and digits behind its point, at most.
pub(super) const MOST_DIGITS: i32 = 1_000;
/// Bytes of a decimal with so many digits, and some to spare.
const LONGEST_DECIMAL: usize = 512;

/// The reason why a value has no JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoJson {
    /// Bytes that are not UTF-8.
    NotText,
    /// A decimal with more digits than any may have.
    TooLong,
}

impl Scalar {
    /// The meaning of a primitive type.
    pub fn of(ty: &Type) -> Self {
        let info = ty.get_basic_info();
        let physical = ty.get_physical_type();
        if let Some(scalar) = info.logical_type_ref().and_then(|logical| Self::of_logical(logical, ty)) {
            return scalar;
        }
        match (info.converted_type(), physical) {
            (ConvertedType::UTF8 | ConvertedType::ENUM | ConvertedType::JSON, _) => Self::Text,
            (ConvertedType::DECIMAL, _) => Self::decimal(ty),
            (ConvertedType::DATE, _) => Self::Date,
            (ConvertedType::TIME_MILLIS, _) => Self::Time(MILLI),
            (ConvertedType::TIME_MICROS, _) => Self::Time(MICRO),
            (ConvertedType::TIMESTAMP_MILLIS, _) => Self::Timestamp(MILLI, true),
            (ConvertedType::TIMESTAMP_MICROS, _) => Self::Timestamp(MICRO, true),
            (ConvertedType::UINT_8 | ConvertedType::UINT_16 | ConvertedType::UINT_32 | ConvertedType::UINT_64, _) => {
                Self::Unsigned
            }
            (ConvertedType::INTERVAL, _) => Self::Interval,
            (_, PhysicalType::BOOLEAN) => Self::Bool,
            (_, PhysicalType::INT32 | PhysicalType::INT64) => Self::Int,
            (_, PhysicalType::INT96) => Self::Julian,
            (_, PhysicalType::FLOAT | PhysicalType::DOUBLE) => Self::Float,
            (_, PhysicalType::BYTE_ARRAY | PhysicalType::FIXED_LEN_BYTE_ARRAY) => Self::Binary,
        }
    }

    fn of_logical(logical: &LogicalType, ty: &Type) -> Option<Self> {
        Some(match logical {
            LogicalType::String | LogicalType::Enum | LogicalType::Json => Self::Text,
            LogicalType::Decimal(_) => Self::decimal(ty),
            LogicalType::Date => Self::Date,
            LogicalType::Time(time) => Self::Time(nanoseconds(time.unit)),
            LogicalType::Timestamp(time) => Self::Timestamp(nanoseconds(time.unit), time.is_adjusted_to_u_t_c),
            LogicalType::Integer(integer) => {
                if integer.is_signed {
                    Self::Int
                } else {
                    Self::Unsigned
                }
            }
            LogicalType::Uuid => Self::Uuid,
            LogicalType::Float16 => Self::Half,
            _ => return None,
        })
    }

    fn decimal(ty: &Type) -> Self {
        Self::Decimal(usize::try_from(ty.get_scale()).unwrap_or(0))
    }

    /// Appends a value as JSON.
    ///
    /// # Errors
    /// Bytes that are no text, or too many of them for a decimal.
    pub fn write(self, value: LeafValue<'_>, out: &mut Vec<u8>) -> Result<(), NoJson> {
        match (self, value) {
            (_, LeafValue::Bool(value)) => json::write(&value, out),
            (Self::Decimal(scale), LeafValue::I32(value)) => point(&value.to_string(), scale, out),
            (Self::Decimal(scale), LeafValue::I64(value)) => point(&value.to_string(), scale, out),
            (Self::Decimal(_), LeafValue::Bytes(value)) if value.len() > LONGEST_DECIMAL => {
                return Err(NoJson::TooLong);
            }
            (Self::Decimal(scale), LeafValue::Bytes(value)) => point(&digits(value), scale, out),
            (Self::Unsigned, LeafValue::I32(value)) => json::write(&value.cast_unsigned(), out),
            (Self::Unsigned, LeafValue::I64(value)) => json::write(&value.cast_unsigned(), out),
            (Self::Date, LeafValue::I32(days)) => {
                let time = calendar(i128::from(days) * NANOS_PER_DAY);
                quoted(time.map(DateTime::date), i128::from(days), out);
            }
            (Self::Time(unit), LeafValue::I32(time)) => time_of_day(unit, i64::from(time), out),
            (Self::Time(unit), LeafValue::I64(time)) => time_of_day(unit, time, out),
            (Self::Timestamp(unit, utc), LeafValue::I64(value)) => {
                let time = calendar(i128::from(value) * i128::from(unit));
                let zone = if utc { "Z" } else { "" };
                quoted(time.map(|time| format!("{time}{zone}")), i128::from(value), out);
            }
            (_, LeafValue::I32(value)) => json::write(&value, out),
            (_, LeafValue::I64(value)) => json::write(&value, out),
            (_, LeafValue::I96(value)) => {
                let time = julian(value);
                quoted(calendar(time), time, out);
            }
            (_, LeafValue::F32(value)) => float(value.is_finite(), f64::from(value), &value, out),
            (_, LeafValue::F64(value)) => float(value.is_finite(), value, &value, out),
            (Self::Half, LeafValue::Bytes(&[low, high])) => {
                let value = half(u16::from_le_bytes([low, high]));
                float(value.is_finite(), f64::from(value), &value, out);
            }
            (Self::Uuid, LeafValue::Bytes(bytes)) => json::write(&uuid(bytes), out),
            (Self::Interval, LeafValue::Bytes(bytes)) => json::write(&interval(bytes), out),
            (_, LeafValue::Bytes(bytes)) => json::write(std::str::from_utf8(bytes).map_err(|_| NoJson::NotText)?, out),
        }
        Ok(())
    }
}

const MICRO: i64 = 1_000;
const MILLI: i64 = 1_000_000;
const SECOND: i128 = 1_000_000_000;
const NANOS_PER_DAY: i128 = 86_400 * SECOND;
const EPOCH_DAY: Date = Date::constant(1970, 1, 1);
/// The Julian day of 1970-01-01.
const EPOCH: i128 = 2_440_588;

const fn nanoseconds(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::MILLIS => MILLI,
        TimeUnit::MICROS => MICRO,
        TimeUnit::NANOS => 1,
    }
}

/// A point in time by the calendar; `None` behind the year 9999, where it has no name for it.
fn calendar(nanoseconds: i128) -> Option<DateTime> {
    let (days, of_day) = (nanoseconds.div_euclid(NANOS_PER_DAY), nanoseconds.rem_euclid(NANOS_PER_DAY));
    let days = Span::new().try_days(i64::try_from(days).ok()?).ok()?;
    let (seconds, nanos) = (of_day / SECOND, of_day % SECOND);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let time = Time::new(hour as i8, minute as i8, second as i8, nanos as i32).ok()?;
    Some(EPOCH_DAY.checked_add(days).ok()?.to_datetime(time))
}

/// The inverse of [`calendar`].
pub(super) fn nanoseconds_of(time: DateTime) -> Option<i128> {
    let days = i128::from(time.date().since(EPOCH_DAY).ok()?.get_days());
    let seconds = i128::from(time.hour()) * 3600 + i128::from(time.minute()) * 60 + i128::from(time.second());
    Some(days * NANOS_PER_DAY + seconds * SECOND + i128::from(time.subsec_nanosecond()))
}

fn julian(value: &Int96) -> i128 {
    let [low, high, day] = [0, 1, 2].map(|at| value.data().get(at).copied().unwrap_or(0));
    let of_day = i64::from(high).wrapping_shl(32) | i64::from(low);
    (i128::from(day.cast_signed()) - EPOCH) * 86_400 * SECOND + i128::from(of_day)
}

fn time_of_day(unit: i64, value: i64, out: &mut Vec<u8>) {
    quoted(calendar(i128::from(value) * i128::from(unit)).map(DateTime::time), i128::from(value), out);
}

/// Appends a time as a text, or the stored number where no calendar reaches. Of a Julian day, that is nanoseconds since 1970.
fn quoted(time: Option<impl fmt::Display>, stored: i128, out: &mut Vec<u8>) {
    match time {
        Some(time) => json::write(&time.to_string(), out),
        None => json::write(&stored, out),
    }
}

/// Appends a number, or a text where JSON has no number for it.
fn float(finite: bool, value: f64, spelled: &impl serde::Serialize, out: &mut Vec<u8>) {
    match (finite, value.is_nan(), value > 0.0) {
        (true, ..) => json::write(spelled, out),
        (_, true, _) => out.extend_from_slice(b"\"NaN\""),
        (_, _, true) => out.extend_from_slice(b"\"Infinity\""),
        _ => out.extend_from_slice(b"\"-Infinity\""),
    }
}

/// Appends the digits of a whole number as a text, with a point before the last `scale` of them.
fn point(digits: &str, scale: usize, out: &mut Vec<u8>) {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |rest| ("-", rest));
    let text = match digits.len().checked_sub(scale) {
        _ if scale == 0 => format!("{sign}{digits}"),
        Some(whole) if whole > 0 => format!("{sign}{}.{}", &digits[..whole], &digits[whole..]),
        _ => format!("{sign}0.{digits:0>scale$}"),
    };
    json::write(&text, out);
}

/// The decimal digits of a whole number that is stored as bytes: two's complement, the highest first.
fn digits(bytes: &[u8]) -> String {
    let negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
    let mut left: Vec<u8> = bytes.to_vec();
    if negative {
        let mut carry = true;
        for byte in left.iter_mut().rev() {
            (*byte, carry) = (!*byte).overflowing_add(u8::from(carry));
        }
    }
    let mut found = Vec::new();
    while left.iter().any(|byte| *byte != 0) {
        let mut rest = 0_u32;
        for byte in &mut left {
            let value = rest << 8 | u32::from(*byte);
            (*byte, rest) = ((value / 10) as u8, value % 10);
        }
        found.push(char::from(b'0' + rest as u8));
    }
    if found.is_empty() {
        found.push('0');
    }
    if negative {
        found.push('-');
    }
    found.iter().rev().collect()
}

/// A number of 16 bits: one of sign, five of exponent, ten of fraction.
fn half(bits: u16) -> f32 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f32::from(bits & 0x3ff));
    sign * match exponent {
        0 => fraction * 2_f32.powi(-24),
        0x1f if fraction > 0.0 => f32::NAN,
        0x1f => f32::INFINITY,
        _ => (1.0 + fraction / 1024.0) * 2_f32.powi(exponent - 15),
    }
}

fn uuid(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        // Writing into a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// A span of time as ISO 8601 has it.
fn interval(bytes: &[u8]) -> String {
    let part = |at: usize| {
        let bytes = bytes.get(at..at + 4).and_then(|part| part.try_into().ok());
        u32::from_le_bytes(bytes.unwrap_or_default())
    };
    let (months, days, millis) = (part(0), part(4), part(8));
    format!("P{months}M{days}DT{}.{:03}S", millis / 1000, millis % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(scalar: Scalar, value: LeafValue<'_>) -> String {
        let mut out = Vec::new();
        scalar.write(value, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn decimals_keep_every_digit() {
        for (value, scale, text) in
            [(0, 0, "0"), (0, 2, "0.00"), (5, 2, "0.05"), (-5, 2, "-0.05"), (1234, 2, "12.34"), (-1234, 4, "-0.1234")]
        {
            assert_eq!(shown(Scalar::Decimal(scale), LeafValue::I64(value)), format!("\"{text}\""));
            let bytes = &value.to_be_bytes()[..];
            assert_eq!(shown(Scalar::Decimal(scale), LeafValue::Bytes(bytes)), format!("\"{text}\""));
        }
        let big = [0x80_u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let long = vec![1; 1 << 20];
        assert_eq!(Scalar::Decimal(3).write(LeafValue::Bytes(&long), &mut Vec::new()), Err(NoJson::TooLong));
        assert_eq!(shown(Scalar::Decimal(1000), LeafValue::Bytes(&[1; 416])).len(), 1004);
        let text = "\"-170141183460469231731687303715884105.728\"";
        assert_eq!(shown(Scalar::Decimal(3), LeafValue::Bytes(&big)), text);
    }

    #[test]
    fn times_are_texts_and_keep_their_precision() {
        assert_eq!(shown(Scalar::Date, LeafValue::I32(-1)), "\"1969-12-31\"");
        assert_eq!(shown(Scalar::Date, LeafValue::I32(2_932_896)), "\"9999-12-31\"");
        let last = LeafValue::I64(253_402_300_799_999_999);
        assert_eq!(shown(Scalar::Timestamp(MICRO, true), last), "\"9999-12-31T23:59:59.999999Z\"");
        assert_eq!(shown(Scalar::Timestamp(MICRO, true), LeafValue::I64(1)), "\"1970-01-01T00:00:00.000001Z\"");
        assert_eq!(shown(Scalar::Timestamp(MILLI, false), LeafValue::I64(0)), "\"1970-01-01T00:00:00\"");
        assert_eq!(shown(Scalar::Timestamp(1, true), LeafValue::I64(i64::MAX)), "\"2262-04-11T23:47:16.854775807Z\"");
        assert_eq!(shown(Scalar::Timestamp(MICRO, true), LeafValue::I64(i64::MAX)), i64::MAX.to_string());
        assert_eq!(shown(Scalar::Time(MILLI), LeafValue::I32(45_296_789)), "\"12:34:56.789\"");
        let mut midnight = Int96::new();
        midnight.set_data(1, 0, 2_440_589);
        assert_eq!(shown(Scalar::Julian, LeafValue::I96(&midnight)), "\"1970-01-02T00:00:00.000000001\"");
        let mut late = Int96::new();
        late.set_data(7, 0, u32::MAX >> 1);
        assert_eq!(shown(Scalar::Julian, LeafValue::I96(&late)), "185331720297600000000007".to_owned());
    }

    #[test]
    fn numbers_that_json_lacks_are_texts() {
        assert_eq!(shown(Scalar::Float, LeafValue::F64(f64::NAN)), "\"NaN\"");
        assert_eq!(shown(Scalar::Float, LeafValue::F32(f32::NEG_INFINITY)), "\"-Infinity\"");
        assert_eq!(shown(Scalar::Float, LeafValue::F32(0.1)), "0.1");
        assert_eq!(shown(Scalar::Unsigned, LeafValue::I64(-1)), u64::MAX.to_string());
        for (bits, text) in [(0x3c00_u16, "1.0"), (0xc000, "-2.0"), (0x0001, "5.9604645e-8"), (0x7c00, "\"Infinity\"")]
        {
            assert_eq!(shown(Scalar::Half, LeafValue::Bytes(&bits.to_le_bytes())), text);
        }
        assert_eq!(Scalar::Binary.write(LeafValue::Bytes(b"\xff"), &mut Vec::new()), Err(NoJson::NotText));
        assert_eq!(
            shown(Scalar::Interval, LeafValue::Bytes(&[1, 0, 0, 0, 2, 0, 0, 0, 220, 5, 0, 0])),
            "\"P1M2DT1.500S\""
        );
        let id: Vec<u8> = (0..16).collect();
        assert_eq!(shown(Scalar::Uuid, LeafValue::Bytes(&id)), "\"00010203-0405-0607-0809-0a0b0c0d0e0f\"");
    }
}
