//! Names of files that are made of the ids of rows. No two ids have the same name, and no id leaves the directory.

use std::fmt::Write as _;

/// The longest stem. File systems allow 255 bytes, of which the number, the ending and a temporary name need some.
const LONGEST: usize = 200;
/// The part of a longer one that stays readable.
const KEPT: usize = 160;

/// The stem of the files of a row. Bytes of the id outside `[A-Za-z0-9._-]`, and a dot at its beginning, are percent-encoded.
/// Of a long one, the first 160 bytes stay, and `~` and a part of the id's hash follow: `~` occurs in no other stem.
pub fn stem(id: &str) -> String {
    let mut stem = String::with_capacity(id.len());
    for (at, byte) in id.bytes().enumerate() {
        let plain = byte.is_ascii_alphanumeric() || b"_-".contains(&byte) || (byte == b'.' && at > 0);
        if plain {
            stem.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(stem, "%{byte:02X}");
        }
    }
    if stem.len() <= LONGEST {
        return stem;
    }
    let mut kept = KEPT;
    // An encoded byte is not cut.
    while stem[..kept].rfind('%').is_some_and(|at| kept - at < 3) {
        kept -= 1;
    }
    format!("{}~{}", &stem[..kept], &blake3::hash(id.as_bytes()).to_hex()[..16])
}

/// The name of the file of this place (from 1) among those of a row. `taken`: names before it that other files have.
pub fn name(stem: &str, place: usize, ending: &str, taken: u32) -> String {
    let place = if place > 1 { format!("-{place}") } else { String::new() };
    let other = if taken > 0 { format!("~{}", taken + 1) } else { String::new() };
    format!("{stem}{place}{other}.{ending}")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_become_names_that_stay_in_the_directory() {
        for (id, expected) in [
            ("cat-1_b.2", "cat-1_b.2"),
            (".hidden", "%2Ehidden"),
            ("..", "%2E."),
            ("a/../b", "a%2F..%2Fb"),
            ("a b~%", "a%20b%7E%25"),
            ("é\n", "%C3%A9%0A"),
            ("CON:", "CON%3A"),
        ] {
            assert_eq!(stem(id), expected, "{id}");
        }
        assert_eq!(name("a", 1, "png", 0), "a.png");
        assert_eq!(name("a", 3, "png", 0), "a-3.png");
        assert_eq!(name("a", 2, "wav", 1), "a-2~2.wav");
    }

    #[test]
    fn long_ids_are_cut_and_stay_apart() {
        let (one, other) = ("x".repeat(300), format!("{}y", "x".repeat(299)));
        assert_eq!(stem(&"x".repeat(200)).len(), 200);
        assert_eq!(stem(&one).len(), 177);
        assert_ne!(stem(&one), stem(&other));
        for shift in 0..3 {
            let id = format!("{}{}", "x".repeat(shift), "é".repeat(100));
            let cut = stem(&id);
            let kept = cut.split('~').next().unwrap();
            assert!(kept.len() % 3 == shift % 3 && kept.len() > 156, "{cut}");
        }
    }

    proptest! {
        #[test]
        fn every_stem_is_a_plain_name_and_its_ids_alone(ids in proptest::collection::hash_set(".{1,90}", 1..20)) {
            let stems: HashSet<String> = ids.iter().map(|id| stem(id)).collect();
            prop_assert_eq!(stems.len(), ids.len());
            for stem in stems {
                prop_assert!(stem.len() <= LONGEST && !stem.starts_with('.'));
                prop_assert!(stem.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-%~".contains(&byte)));
            }
        }
    }
}
