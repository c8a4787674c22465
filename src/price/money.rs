//! Amounts of money, their decimal spelling, and the price of a token.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Sub};
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

use crate::outcome::Usage;
use crate::pack::packed;

/// An amount in nano-USD (1e-9 USD). At $0.06 per million tokens, a token costs exactly 60 of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Nanos(pub i128);
packed!(Nanos(amount));

impl Nanos {
    /// Zero.
    pub const ZERO: Self = Self(0);

    /// `count` times this amount.
    pub fn times(self, count: u32) -> Self {
        Self(self.0 * i128::from(count))
    }

    /// One of `count` equal parts, rounded down, so that all parts together are no more than the whole.
    pub fn part(self, count: u64) -> Self {
        Self(self.0 / i128::from(count.max(1)))
    }

    /// The amount for people: cents from a dollar on (`$1,012.40`), below that two significant digits down to a millionth
    /// (`$0.0031`). An amount that is not zero never reads as zero: `<$0.000001`.
    pub fn human(self) -> String {
        const MICRO: u128 = 1_000;
        let sign = if self.0 < 0 { "-" } else { "" };
        let amount = self.0.unsigned_abs();
        if amount == 0 {
            return "$0.00".to_owned();
        }
        if amount < MICRO {
            return format!("{sign}<$0.000001");
        }
        let unit = if amount >= PER_USD { CENT } else { 10_u128.pow(amount.ilog10() - 1).max(MICRO) };
        let rounded = (amount + unit / 2) / unit * unit;
        let digits = format!("{:09}", rounded % PER_USD);
        let (cents, rest) = digits.split_at(2);
        format!("{sign}${}.{cents}{}", crate::text::grouped(rounded / PER_USD), rest.trim_end_matches('0'))
    }
}

impl Nanos {
    /// The amount rounded up to the cent, below a cent to two significant digits, as it is typed: `0.21`, `0.0000092`.
    pub fn typed(self) -> String {
        let amount = self.0.max(0);
        let unit = match amount {
            0..10 => 1,
            _ if amount < CENT.cast_signed() => 10_i128.pow(amount.ilog10() - 1),
            _ => CENT.cast_signed(),
        };
        Self((amount + unit - 1) / unit * unit).to_string()
    }
}

/// Nano-USD in one cent.
const CENT: u128 = 10_000_000;

/// Nano-USD in one USD.
const PER_USD: u128 = 1_000_000_000;

/// The error for a text that is not a valid amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// The text is not made of digits with at most one point.
    #[error("`{0}` is not a decimal amount such as 0.06")]
    Malformed(String),
    /// The amount is finer than a nano-USD, and cannot be kept exactly.
    #[error("`{0}` has more than nine decimals")]
    TooFine(String),
    /// The amount is too large.
    #[error("`{0}` is too large")]
    TooLarge(String),
}

/// Parses an amount exactly, without floats. An amount that cannot be kept to its last digit is an error.
impl FromStr for Nanos {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        let malformed = || AmountError::Malformed(text.to_owned());
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !all_digits(whole) || !all_digits(fraction) {
            return Err(malformed());
        }
        let fraction = fraction.trim_end_matches('0');
        if fraction.len() > 9 {
            return Err(AmountError::TooFine(text.to_owned()));
        }
        let too_large = || AmountError::TooLarge(text.to_owned());
        let mut nanos =
            whole.parse::<i128>().ok().and_then(|usd| usd.checked_mul(1_000_000_000)).ok_or_else(too_large)?;
        if !fraction.is_empty() {
            let part: i128 = format!("{fraction:0<9}").parse().map_err(|_| malformed())?;
            nanos = nanos.checked_add(part).ok_or_else(too_large)?;
        }
        Ok(Self(if negative { -nanos } else { nanos }))
    }
}

impl Nanos {
    /// Subtracts `taken`, down to 0.
    pub fn saturating_sub(self, taken: Self) -> Self {
        Self((self.0 - taken.0).max(0))
    }
}

impl Add for Nanos {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl Sub for Nanos {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

impl AddAssign for Nanos {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

impl Sum for Nanos {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::ZERO, Add::add)
    }
}

/// Exact decimal digits in USD, without trailing zeros: `0.00006`.
impl fmt::Display for Nanos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let (whole, mut fraction) = (self.0.unsigned_abs() / 1_000_000_000, self.0.unsigned_abs() % 1_000_000_000);
        if fraction == 0 {
            return write!(f, "{sign}{whole}");
        }
        let mut width = 9;
        while fraction.is_multiple_of(10) {
            (fraction, width) = (fraction / 10, width - 1);
        }
        write!(f, "{sign}{whole}.{fraction:0width$}")
    }
}

/// A JSON number with the exact digits.
impl<'de> Deserialize<'de> for Nanos {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&serde_json::value::RawValue>::deserialize(deserializer)?;
        raw.get().parse().map_err(de::Error::custom)
    }
}

impl Serialize for Nanos {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw = serde_json::value::RawValue::from_string(self.to_string()).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

/// The price of tokens, in nano-USD per **million** tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Price {
    /// Price of tokens of the prompt.
    pub input: u64,
    /// Price of tokens of the answer.
    pub output: u64,
    /// Price of tokens of the prompt that the service has in its cache; at most `input`. `None`: unknown, and counted at
    /// the full price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached: Option<u64>,
}

impl Price {
    /// Prices of the prompt and of the answer. The price of cached tokens is unknown.
    pub const fn new(input: u64, output: u64) -> Self {
        Self { input, output, cached: None }
    }

    /// The amount by which cached tokens make `usage` cheaper.
    pub fn cache_saving(self, usage: Usage) -> Nanos {
        self.cost(Usage { cached: 0, ..usage }) - self.cost(usage)
    }

    /// The cost of `usage`; half a nano-USD rounds up. Each row is rounded on its own, so the order of rows does not change
    /// their sum.
    pub fn cost(self, usage: Usage) -> Nanos {
        const TOKENS: u128 = 1_000_000;
        let cached = usage.cached.min(usage.prompt);
        let input = u128::from(usage.prompt - cached) * u128::from(self.input)
            + u128::from(cached) * u128::from(self.cached.unwrap_or(self.input));
        let output = u128::from(usage.completion) * u128::from(self.output);
        let nanos = input.saturating_add(output).saturating_add(TOKENS / 2) / TOKENS;
        // This cannot fail: the quotient is below 2^128 / 10^6.
        Nanos(i128::try_from(nanos).unwrap_or(i128::MAX))
    }
}

/// An exact decimal in the config file: `"0.06"` or the number `0.06`.
///
/// TOML reads numbers as binary floats. The user typed the shortest text that reads back as the same float, so the value is
/// parsed from that text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decimal(pub Nanos);

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Decimal;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a decimal number such as 0.06")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Decimal, E> {
                text.parse().map(Decimal).map_err(E::custom)
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Decimal, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Decimal, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Decimal, E> {
                self.visit_str(&number.to_string())
            }
        }
        deserializer.deserialize_any(Text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_decimal_is_read_exactly_or_refused() {
        let cases = [
            ("0.06", Some(60_000_000)),
            ("1.04", Some(1_040_000_000)),
            ("3", Some(3_000_000_000)),
            ("-0.5", Some(-500_000_000)),
            ("0.000000001", Some(1)),
            ("0.0000000010", Some(1)),
            ("0.0000000001", None),
            ("1.0399999999999998", None),
            ("", None),
            (".5", None),
            ("5.", None),
            ("1e3", None),
            ("1,5", None),
            ("--1", None),
            ("NaN", None),
            ("99999999999999999999999999999999999999999", None),
        ];
        for (text, nanos) in cases {
            assert_eq!(text.parse::<Nanos>().ok().map(|n| n.0), nanos, "{text}");
        }
    }

    #[test]
    fn people_read_two_digits_and_never_a_false_zero() {
        let cases = [
            ("0", "$0.00"),
            ("0.000000999", "<$0.000001"),
            ("0.000001", "$0.000001"),
            ("0.0000094", "$0.000009"),
            ("0.00312", "$0.0031"),
            ("0.00996", "$0.01"),
            ("0.0996", "$0.10"),
            ("0.5", "$0.50"),
            ("0.996", "$1.00"),
            ("12.4", "$12.40"),
            ("12.405", "$12.41"),
            ("1234567.891", "$1,234,567.89"),
            ("-0.0031", "-$0.0031"),
        ];
        for (usd, human) in cases {
            assert_eq!(usd.parse::<Nanos>().unwrap().human(), human, "{usd}");
        }
    }

    #[test]
    fn limit_that_would_do_is_rounded_up() {
        for (usd, typed) in [
            ("0", "0"),
            ("0.000000001", "0.000000001"),
            ("0.00000918", "0.0000092"),
            ("0.0001", "0.0001"),
            ("0.00999", "0.01"),
            ("0.2071", "0.21"),
            ("0.21", "0.21"),
            ("12.300000001", "12.31"),
        ] {
            assert_eq!(usd.parse::<Nanos>().unwrap().typed(), typed, "{usd}");
        }
    }

    #[test]
    fn a_cost_rounds_half_up_once() {
        let price = Price::new(60_000_000, 45_500_000);
        let cost = |prompt, completion| price.cost(Usage::new(prompt, completion)).0;
        assert_eq!(cost(0, 0), 0);
        assert_eq!(cost(1, 0), 60);
        assert_eq!(cost(0, 1), 46, "45.5 goes up");
        assert_eq!(cost(1, 2), 151, "added before rounding");
        assert_eq!(cost(1_000_000, 0), 60_000_000);
        assert!(Price::new(u64::MAX, u64::MAX).cost(Usage::new(u64::MAX, u64::MAX)).0 > 0);
    }

    #[test]
    fn cached_tokens_cost_their_own_price_where_it_is_known() {
        let usage = Usage { cached: 900, ..Usage::new(1000, 10) };
        let full = Price::new(60_000_000, 100_000_000);
        assert_eq!((full.cost(usage).0, full.cache_saving(usage).0), (61_000, 0));
        let known = Price { cached: Some(6_000_000), ..full };
        assert_eq!((known.cost(usage).0, known.cache_saving(usage).0), (12_400, 48_600));
        // Prices that an earlier llbatch kept have no cached price.
        assert_eq!(serde_json::to_string(&full).unwrap(), r#"{"input":60000000,"output":100000000}"#);
        assert_eq!(serde_json::from_str::<Price>(r#"{"input":60000000,"output":100000000}"#).unwrap(), full);
    }

    #[test]
    fn json_carries_the_exact_digits() {
        let nanos: Nanos = "0.00006".parse().unwrap();
        assert_eq!(serde_json::to_string(&nanos).unwrap(), "0.00006");
    }

    #[test]
    fn a_config_number_is_what_was_typed() {
        #[derive(serde::Deserialize)]
        struct Doc {
            n: Decimal,
        }
        let cases = [
            ("n = 0.06", 60_000_000),
            ("n = 0.1", 100_000_000),
            ("n = 1.04", 1_040_000_000),
            ("n = 3", 3_000_000_000),
            ("n = \"0.06\"", 60_000_000),
        ];
        for (text, nanos) in cases {
            assert_eq!(toml::from_str::<Doc>(text).unwrap().n.0, Nanos(nanos), "{text}");
        }
        for text in ["n = true", "n = nan", "n = \"cheap\""] {
            assert!(toml::from_str::<Doc>(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(nanos in -10_i128.pow(30)..10_i128.pow(30)) {
            prop_assert_eq!(Nanos(nanos).to_string().parse::<Nanos>(), Ok(Nanos(nanos)));
        }

        #[test]
        fn costs_sum_the_same_in_any_order(
            rows in proptest::collection::vec((0_u64..200_000, 0_u64..20_000), 0..60),
            input in 0_u64..20_000_000_000,
            turn in any::<proptest::sample::Index>(),
        ) {
            let price = Price::new(input, input / 3);
            let cost = |&(prompt, completion): &(u64, u64)| price.cost(Usage::new(prompt, completion));
            let mut costs: Vec<Nanos> = rows.iter().map(cost).collect();
            let total: Nanos = costs.iter().copied().sum();
            let exact: u64 = rows.iter().map(|&(p, c)| p * price.input + c * price.output).sum();
            if !costs.is_empty() {
                let middle = turn.index(costs.len());
                costs.rotate_left(middle);
                costs[middle..].reverse();
            }
            prop_assert_eq!(costs.iter().copied().sum::<Nanos>(), total);
            // Each row is off by at most half a nano-USD.
            let drift = (total.0 * 1_000_000 - i128::from(exact)).abs();
            prop_assert!(drift <= 500_000 * costs.len() as i128);
        }
    }
}
