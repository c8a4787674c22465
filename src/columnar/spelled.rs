//! Values of leaves from JSON text: the way back from [`Scalar::write`].

use std::borrow::Cow;

use jiff::civil::{Date, DateTime, Time};
use parquet::basic::Type as PhysicalType;
use parquet::data_type::Int96;

use super::scalar::{Scalar, nanoseconds_of};
use crate::json;

/// A value on its way to a leaf.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum NewValue {
    Bool(bool),
    I32(i32),
    I64(i64),
    I96(Int96),
    F32(f32),
    F64(f64),
    Bytes(Vec<u8>),
}

/// The physical form of a leaf.
#[derive(Debug, Clone, Copy)]
pub(super) struct LeafForm {
    pub scalar: Scalar,
    pub physical: PhysicalType,
    /// Bytes of a value of fixed length.
    pub length: usize,
}

impl LeafForm {
    /// The value that `value` spells as JSON; `None` if this leaf cannot hold it.
    pub fn value(self, value: &str) -> Option<NewValue> {
        let text = text(value);
        match self.physical {
            PhysicalType::BOOLEAN => text.parse().ok().map(NewValue::Bool),
            PhysicalType::FLOAT => text.parse().ok().map(NewValue::F32),
            PhysicalType::DOUBLE => text.parse().ok().map(NewValue::F64),
            PhysicalType::INT96 => julian(value, &text).map(NewValue::I96),
            PhysicalType::INT32 if self.scalar == Scalar::Unsigned => {
                text.parse().ok().map(|value: u32| NewValue::I32(value.cast_signed()))
            }
            PhysicalType::INT64 if self.scalar == Scalar::Unsigned => {
                text.parse().ok().map(|value: u64| NewValue::I64(value.cast_signed()))
            }
            PhysicalType::INT32 => self.whole(value, &text)?.try_into().ok().map(NewValue::I32),
            PhysicalType::INT64 => self.whole(value, &text)?.try_into().ok().map(NewValue::I64),
            PhysicalType::BYTE_ARRAY => self.bytes(&text).map(NewValue::Bytes),
            PhysicalType::FIXED_LEN_BYTE_ARRAY => {
                self.bytes(&text).filter(|bytes| bytes.len() == self.length).map(NewValue::Bytes)
            }
        }
    }

    /// The whole number that is stored for a value. A time that no calendar reaches is spelled as that number.
    fn whole(self, value: &str, text: &str) -> Option<i128> {
        let is_time = matches!(self.scalar, Scalar::Date | Scalar::Time(_) | Scalar::Timestamp(..));
        if is_time && !value.starts_with('"') { text.parse().ok() } else { self.scalar.number(text) }
    }

    fn bytes(self, text: &str) -> Option<Vec<u8>> {
        match self.scalar {
            Scalar::Decimal(scale) => {
                let bytes = unscaled(text, scale)?.to_be_bytes();
                let fixed = self.physical == PhysicalType::FIXED_LEN_BYTE_ARRAY;
                let length = if fixed { self.length } else { bytes.len() };
                resized(&bytes, length)
            }
            Scalar::Uuid => {
                let digits: String = text.chars().filter(|c| *c != '-').collect();
                (0..digits.len() / 2).map(|at| u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok()).collect()
            }
            _ => Some(text.as_bytes().to_vec()),
        }
    }
}

impl Scalar {
    /// The whole number that is stored for a text.
    fn number(self, text: &str) -> Option<i128> {
        let spelled = || text.parse().ok();
        match self {
            Self::Decimal(scale) => unscaled(text, scale),
            Self::Date => match text.parse::<Date>() {
                Ok(date) => Some(nanoseconds_of(date.to_datetime(Time::midnight()))? / NANOS_PER_DAY),
                Err(_) => spelled(),
            },
            Self::Time(unit) => match text.parse::<Time>() {
                Ok(time) => {
                    let date = Date::constant(1970, 1, 1);
                    Some(nanoseconds_of(date.to_datetime(time))? / i128::from(unit))
                }
                Err(_) => spelled(),
            },
            Self::Timestamp(unit, utc) => {
                let clock = if utc { text.strip_suffix('Z') } else { Some(text) };
                match clock.and_then(|clock| clock.parse::<DateTime>().ok()) {
                    Some(time) => Some(nanoseconds_of(time)?.div_euclid(i128::from(unit))),
                    None => spelled(),
                }
            }
            _ => spelled(),
        }
    }
}

const NANOS_PER_DAY: i128 = 86_400_000_000_000;
/// The Julian day of 1970-01-01.
const EPOCH: i128 = 2_440_588;

fn julian(value: &str, text: &str) -> Option<Int96> {
    let is_text = value.starts_with('"');
    let time = if is_text { nanoseconds_of(text.parse().ok()?)? } else { text.parse().ok()? };
    let (day, rest) = (time.div_euclid(NANOS_PER_DAY) + EPOCH, time.rem_euclid(NANOS_PER_DAY));
    let mut value = Int96::new();
    value.set_data(rest as u32, (rest >> 32) as u32, i32::try_from(day).ok()?.cast_unsigned());
    Some(value)
}

/// The digits of a decimal without its point; `None` if it has more digits behind the point than `scale`.
fn unscaled(text: &str, scale: usize) -> Option<i128> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let missing = scale.checked_sub(fraction.len())?;
    let all = format!("{whole}{fraction}{}", "0".repeat(missing));
    let plain = !all.is_empty() && all.bytes().all(|byte| byte.is_ascii_digit());
    let value: i128 = all.parse().ok().filter(|_| plain)?;
    Some(sign * value)
}

/// The lowest `length` bytes of a number, if the others only repeat its sign.
fn resized(bytes: &[u8; 16], length: usize) -> Option<Vec<u8>> {
    let sign = if bytes[0] & 0x80 == 0 { 0 } else { 0xff };
    let Some(cut) = bytes.len().checked_sub(length) else {
        let mut long = vec![sign; length - bytes.len()];
        long.extend_from_slice(bytes);
        return Some(long);
    };
    let kept = bytes.get(cut..)?;
    let fits = bytes[..cut].iter().all(|byte| *byte == sign) && kept.first().is_some_and(|b| (b ^ sign) & 0x80 == 0);
    fits.then(|| kept.to_vec())
}

/// The text of a JSON string, or any other value as it is spelled. A half surrogate, which no text can hold, becomes U+FFFD.
pub(super) fn text(value: &str) -> Cow<'_, str> {
    if value.starts_with('"') { json::unquoted(value) } else { Cow::Borrowed(value) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::scalar::LeafValue;
    use super::*;

    fn form(scalar: Scalar, physical: PhysicalType, length: usize) -> LeafForm {
        LeafForm { scalar, physical, length }
    }

    fn spelled(scalar: Scalar, stored: LeafValue<'_>) -> String {
        let mut out = Vec::new();
        scalar.write(stored, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    proptest! {
        #[test]
        fn every_value_comes_back(number in any::<i64>(), small in any::<i32>(), bits in any::<u64>(), scale in 0_usize..18) {
            for scalar in [
                Scalar::Int, Scalar::Unsigned, Scalar::Decimal(scale), Scalar::Timestamp(1_000, true),
                Scalar::Timestamp(1_000_000, false), Scalar::Timestamp(1, true),
            ] {
                let back = form(scalar, PhysicalType::INT64, 0).value(&spelled(scalar, LeafValue::I64(number)));
                prop_assert_eq!(back, Some(NewValue::I64(number)), "{:?}", scalar);
            }
            for scalar in [Scalar::Int, Scalar::Unsigned, Scalar::Decimal(scale % 9), Scalar::Date] {
                let back = form(scalar, PhysicalType::INT32, 0).value(&spelled(scalar, LeafValue::I32(small)));
                prop_assert_eq!(back, Some(NewValue::I32(small)), "{:?}", scalar);
            }
            let time = i64::from(small.unsigned_abs()) * 1_000 % 86_400_000_000;
            let back = form(Scalar::Time(1_000), PhysicalType::INT64, 0);
            prop_assert_eq!(back.value(&spelled(Scalar::Time(1_000), LeafValue::I64(time))), Some(NewValue::I64(time)));
            let mut day = Int96::new();
            day.set_data(small.unsigned_abs(), 3, small.cast_unsigned());
            let back = form(Scalar::Julian, PhysicalType::INT96, 0).value(&spelled(Scalar::Julian, LeafValue::I96(&day)));
            prop_assert_eq!(back, Some(NewValue::I96(day)));
            let double = f64::from_bits(bits);
            let back = form(Scalar::Float, PhysicalType::DOUBLE, 0).value(&spelled(Scalar::Float, LeafValue::F64(double)));
            let Some(NewValue::F64(back)) = back else { panic!("a number") };
            prop_assert!(back.to_bits() == double.to_bits() || (back.is_nan() && double.is_nan()));
            let bytes = &i128::from(number).to_be_bytes()[4..];
            let back = form(Scalar::Decimal(scale), PhysicalType::FIXED_LEN_BYTE_ARRAY, 12);
            prop_assert_eq!(
                back.value(&spelled(Scalar::Decimal(scale), LeafValue::Bytes(bytes))),
                Some(NewValue::Bytes(bytes.to_vec()))
            );
        }
    }

    #[test]
    fn a_value_of_another_kind_is_refused() {
        for (scalar, physical, value) in [
            (Scalar::Int, PhysicalType::INT64, "\"many\""),
            (Scalar::Int, PhysicalType::INT32, "3000000000"),
            (Scalar::Bool, PhysicalType::BOOLEAN, "1"),
            (Scalar::Decimal(2), PhysicalType::INT64, "0.123"),
            (Scalar::Float, PhysicalType::DOUBLE, "[1]"),
        ] {
            assert_eq!(form(scalar, physical, 0).value(value), None, "{value}");
        }
        assert_eq!(
            form(Scalar::Decimal(9), PhysicalType::FIXED_LEN_BYTE_ARRAY, 9).value("0.00000048"),
            Some(NewValue::Bytes(vec![0, 0, 0, 0, 0, 0, 0, 1, 0xe0]))
        );
        assert_eq!(
            form(Scalar::Text, PhysicalType::BYTE_ARRAY, 0).value("[1, \"a\"]"),
            Some(NewValue::Bytes(b"[1, \"a\"]".to_vec()))
        );
    }
}
