//! The spelling of amounts that stand together: with the same number of digits, and so that their sum agrees.

use super::Nanos;

/// The number of digits of amounts that are shown together. [`Nanos::human`] spells an amount that stands alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spelling {
    /// The value of the last digit in nano-USD, a power of ten.
    unit: i128,
}

/// An amount with its rounded value, in which amounts that stand together add up.
#[derive(Debug, Clone, Copy)]
pub struct ShownAmount {
    /// The amount.
    pub exact: Nanos,
    /// The amount as it is shown.
    pub rounded: Nanos,
}

const MICRO: i128 = 1_000;
const CENT: i128 = 10_000_000;

impl Spelling {
    /// The spelling of these amounts: cents, or more digits if the smallest amount needs them to show two. The last digit is
    /// at least a millionth, and the largest amount gets at most nine digits.
    pub fn of(amounts: impl IntoIterator<Item = Nanos>) -> Self {
        let amounts: Vec<i128> = amounts.into_iter().map(|Nanos(amount)| amount.abs()).filter(|n| *n > 0).collect();
        let (Some(least), Some(most)) = (amounts.iter().min(), amounts.iter().max()) else {
            return Self { unit: CENT };
        };
        let below = |amount: i128, digits: u32| 10_i128.pow((amount.ilog10() + 1).saturating_sub(digits));
        let mut unit = below(*least, 2).max(below(*most, 9)).clamp(MICRO, CENT);
        // A digit that is zero in every amount is dropped.
        while unit < CENT && amounts.iter().all(|amount| amount % (10 * unit) == 0) {
            unit *= 10;
        }
        Self { unit }
    }

    /// Rounds an amount to its shown digits; a half goes up.
    pub fn round(self, amount: Nanos) -> Nanos {
        Nanos((amount.0 + self.unit / 2).div_euclid(self.unit) * self.unit)
    }

    /// Rounds amounts so that they add up to their rounded sum. The amounts that lost most by the cut get the rest.
    pub fn parts(self, amounts: &[Nanos]) -> Vec<Nanos> {
        let floor = |amount: &Nanos| Nanos(amount.0.div_euclid(self.unit) * self.unit);
        let mut shown: Vec<Nanos> = amounts.iter().map(floor).collect();
        let whole = self.round(amounts.iter().copied().sum());
        let units = (whole.0 - shown.iter().copied().sum::<Nanos>().0) / self.unit;
        let mut order: Vec<usize> = (0..amounts.len()).collect();
        order.sort_by_key(|&i| std::cmp::Reverse(amounts[i].0.rem_euclid(self.unit)));
        for i in order.into_iter().take(usize::try_from(units).unwrap_or(0)) {
            shown[i] += Nanos(self.unit);
        }
        shown
    }

    /// Shows an amount.
    pub fn show(self, amount: Nanos) -> String {
        self.show_as(amount, self.round(amount))
    }

    /// Shows an amount as [`Self::parts`] rounded it. An amount that is not zero never reads as zero.
    pub fn show_as(self, amount: Nanos, rounded: Nanos) -> String {
        let decimals = 9 - self.unit.ilog10() as usize;
        if rounded.0 == 0 && amount.0 != 0 {
            let sign = if amount.0 < 0 { "-" } else { "" };
            return format!("{sign}<${}", digits(Nanos(self.unit), decimals));
        }
        let sign = if rounded.0 < 0 { "-" } else { "" };
        format!("{sign}${}", digits(rounded, decimals))
    }

    /// Shows the difference of two amounts.
    pub fn less(self, list: ShownAmount, paid: ShownAmount) -> String {
        self.show_as(list.exact - paid.exact, list.rounded - paid.rounded)
    }

    /// Returns an amount with its rounded value.
    pub fn shown(self, exact: Nanos) -> ShownAmount {
        ShownAmount { exact, rounded: self.round(exact) }
    }
}

fn digits(amount: Nanos, decimals: usize) -> String {
    let n = amount.0.unsigned_abs();
    let fraction = format!("{:09}", n % 1_000_000_000);
    format!("{}.{}", crate::text::grouped(n / 1_000_000_000), &fraction[..decimals])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn usd(text: &str) -> Nanos {
        text.parse().unwrap()
    }

    #[test]
    fn amounts_that_stand_together_have_the_same_digits() {
        let cases: [(&[&str], &[&str]); 7] = [
            (&[], &[]),
            (&["0", "12.4"], &["$0.00", "$12.40"]),
            (&["24.8", "0.31"], &["$24.80", "$0.31"]),
            (&["0.0038", "0.00006"], &["$0.00380", "$0.00006"]),
            (&["0.0038", "0.0025"], &["$0.0038", "$0.0025"]),
            // The largest amount has its nine digits, so the small one only shows that it is there.
            (&["1234567.891", "0.0003"], &["$1,234,567.89", "<$0.01"]),
            (&["0.000000004", "-0.01"], &["<$0.000001", "-$0.010000"]),
        ];
        for (amounts, shown) in cases {
            let amounts: Vec<Nanos> = amounts.iter().map(|text| usd(text)).collect();
            let spelling = Spelling::of(amounts.iter().copied());
            let seen: Vec<String> = amounts.iter().map(|amount| spelling.show(*amount)).collect();
            assert_eq!(seen, shown);
        }
    }

    #[test]
    fn thirds_add_up_to_their_sum() {
        let third = usd("0.333333333");
        let spelling = Spelling::of([third]);
        assert_eq!(spelling.show(third + third + third), "$1.00");
        let parts = spelling.parts(&[third, third, third]);
        let seen: Vec<String> = parts.into_iter().map(|part| spelling.show_as(third, part)).collect();
        assert_eq!(seen, ["$0.34", "$0.33", "$0.33"]);
    }

    proptest! {
        #[test]
        fn shown_amounts_add_up(amounts in proptest::collection::vec(0_i128..5_000_000_000, 0..12)) {
            let amounts: Vec<Nanos> = amounts.into_iter().map(Nanos).collect();
            let whole: Nanos = amounts.iter().copied().sum();
            let spelling = Spelling::of(amounts.iter().copied().chain([whole]));
            let parts = spelling.parts(&amounts);
            prop_assert_eq!(parts.iter().copied().sum::<Nanos>(), spelling.round(whole));
            for (amount, part) in amounts.iter().zip(parts) {
                prop_assert!((amount.0 - part.0).abs() < spelling.unit, "{amount} as {part}");
            }
        }
    }
}
