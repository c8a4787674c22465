//! The kinds of values that a field has in all records, from which the type of its column follows.

use crate::columnar::ColumnType;
use crate::json;

/// Kinds of values that were seen, one bit each.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct ValueKinds(u8);

impl ValueKinds {
    const BOOL: u8 = 1;
    const INTEGER: u8 = 2;
    /// A whole number that a number with a fraction does not hold.
    const LONG: u8 = 4;
    const FRACTION: u8 = 8;
    const OTHER: u8 = 16;

    /// A field that holds texts.
    pub const TEXT: Self = Self(Self::OTHER);

    /// Adds the kind of a JSON value. Null has none.
    pub fn add(&mut self, value: &str) {
        self.0 |= match value.as_bytes().first() {
            Some(b'n') => 0,
            Some(b't' | b'f') => Self::BOOL,
            Some(b'-' | b'0'..=b'9') => Self::of_number(value),
            _ => Self::OTHER,
        };
    }

    /// Adds the kinds of other records.
    pub fn merge(&mut self, other: Self) {
        self.0 |= other.0;
    }

    fn of_number(value: &str) -> u8 {
        /// Most digits of a decimal that a number of 64 bits gives back.
        const EXACT: usize = 17;
        /// Whole numbers up to this one have a number of 64 bits of their own.
        const WHOLE: u64 = 1 << f64::MANTISSA_DIGITS;
        if let Ok(number) = value.parse::<i64>() {
            return if number.unsigned_abs() > WHOLE { Self::INTEGER | Self::LONG } else { Self::INTEGER };
        }
        let digits = value.bytes().filter(u8::is_ascii_digit).count();
        let is_exact = digits <= EXACT && value.parse().is_ok_and(f64::is_finite);
        if is_exact && json::is_number(value) { Self::FRACTION } else { Self::OTHER }
    }

    /// The type of a column that holds all of them as they are.
    pub fn column_type(self) -> ColumnType {
        match self.0 {
            Self::BOOL => ColumnType::Bool,
            kinds if kinds & !(Self::INTEGER | Self::LONG) == 0 && kinds != 0 => ColumnType::Int64,
            kinds if kinds & !(Self::INTEGER | Self::FRACTION) == 0 && kinds != 0 => ColumnType::Double,
            _ => ColumnType::Text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_holds_every_value() {
        for (values, expected) in [
            (&["true", "null", "false"][..], ColumnType::Bool),
            (&["1", "-2"], ColumnType::Int64),
            (&["9223372036854775807"], ColumnType::Int64),
            (&["1", "0.5", "1e3"], ColumnType::Double),
            (&["9223372036854775807", "0.5"], ColumnType::Text),
            (&["9223372036854775808"], ColumnType::Text),
            (&["0.12345678901234567890"], ColumnType::Text),
            (&["1E400"], ColumnType::Text),
            (&["1", "\"a\""], ColumnType::Text),
            (&["true", "1"], ColumnType::Text),
            (&["null"], ColumnType::Text),
            (&["[1]"], ColumnType::Text),
            (&[], ColumnType::Text),
        ] {
            let mut kinds = ValueKinds::default();
            for value in values {
                kinds.add(value);
            }
            assert_eq!(kinds.column_type(), expected, "{values:?}");
        }
    }
}
