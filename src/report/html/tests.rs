use super::*;

#[test]
fn hashes_are_spelled_as_browsers_spell_them() {
    // The figures of FIPS 180, in base64.
    assert_eq!(sha256("abc"), "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=");
    assert_eq!(sha256(""), "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
}
