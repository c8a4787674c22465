//! Counts of one request, divided among the rows that share it.

/// Divides `total` in proportion to `weights`. The parts add up to `total` exactly, and each is off by less than one. If all
/// weights are 0, the last one gets everything.
///
/// A part of a count that is itself a part of another count never exceeds that: divide the larger count first, and the
/// smaller one by its parts.
pub fn shares(total: u64, weights: &[u64]) -> Vec<u64> {
    let sum: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
    let (mut passed, mut given) = (0_u128, 0_u64);
    let share = |(place, weight): (usize, &u64)| {
        passed += u128::from(*weight);
        // The quotient is at most `total`, as no part of the weights is more than their sum.
        let upto = u128::from(total).checked_mul(passed).and_then(|product| product.checked_div(sum));
        let upto = upto.and_then(|upto| u64::try_from(upto).ok()).unwrap_or(given);
        let upto = if place + 1 == weights.len() { total } else { upto };
        let own = upto - given;
        given = upto;
        own
    };
    weights.iter().enumerate().map(share).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn counts_are_divided_in_proportion() {
        assert_eq!(shares(10, &[1, 1, 2]), [2, 3, 5]);
        assert_eq!(shares(2, &[1, 1, 1]), [0, 1, 1]);
        assert_eq!(shares(7, &[0, 0]), [0, 7]);
        assert_eq!(shares(7, &[]), [0_u64; 0]);
        assert_eq!(
            shares(u64::MAX, &[u64::MAX, u64::MAX]).iter().map(|part| u128::from(*part)).sum::<u128>(),
            u64::MAX.into()
        );
    }

    proptest! {
        #[test]
        fn parts_add_up_and_stay_within_the_whole(
            weights in proptest::collection::vec(0_u64..5000, 1..40),
            total in 0_u64..1_000_000,
            part in any::<proptest::sample::Index>(),
        ) {
            let part = part.index(usize::try_from(total).unwrap() + 1) as u64;
            let whole = shares(total, &weights);
            let within = shares(part, &whole);
            prop_assert_eq!(whole.iter().sum::<u64>(), total);
            prop_assert_eq!(within.iter().sum::<u64>(), part);
            prop_assert!(whole.iter().zip(&within).all(|(whole, part)| part <= whole));
        }
    }
}
