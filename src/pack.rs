//! Values as bytes, to keep them in the store, and back. The bytes begin with a digest of the layout, so that another
//! version of llbatch does not misread them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

/// A value with a layout.
pub trait Pack: Sized {
    /// Appends a description of the layout.
    fn layout(text: &mut String);

    /// Appends the value.
    fn pack(&self, bytes: &mut Vec<u8>);

    /// Takes a value from the front of `bytes`. `None`: there is none.
    fn unpack(bytes: &mut &[u8]) -> Option<Self>;
}

/// Packs a value, with the layout and a checksum. `key` belongs to the layout.
pub fn to_bytes<T: Pack>(value: &T, key: &str) -> Vec<u8> {
    let mut bytes = digest::<T>(key).to_vec();
    value.pack(&mut bytes);
    let sum = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes
}

/// Unpacks a value. `None`: it is damaged, or has another layout or another key.
pub fn from_bytes<T: Pack>(bytes: &[u8], key: &str) -> Option<T> {
    let (packed, sum) = bytes.split_last_chunk()?;
    if crc32fast::hash(packed).to_le_bytes() != *sum {
        return None;
    }
    let mut rest = packed.strip_prefix(&digest::<T>(key))?;
    T::unpack(&mut rest).filter(|_| rest.is_empty())
}

fn digest<T: Pack>(key: &str) -> [u8; 16] {
    let mut text = format!("{}\n{key}\n", env!("CARGO_PKG_VERSION"));
    T::layout(&mut text);
    let mut digest = [0; 16];
    digest.copy_from_slice(&blake3::hash(text.as_bytes()).as_bytes()[..16]);
    digest
}

/// Appends the layout of the field that `field` names.
pub fn field_layout<S, T: Pack>(_: fn(&S) -> &T, text: &mut String) {
    T::layout(text);
}

/// Implements [`Pack`] for a struct: `packed!(Point { x, y });`, or `packed!(Length(meters));` for one with a nameless field.
macro_rules! packed {
    ($type:ident { $($field:ident),* $(,)? }) => {
        impl $crate::pack::Pack for $type {
            fn layout(text: &mut String) {
                text.push_str(concat!(stringify!($type), "{"));
                $(
                    text.push_str(concat!(stringify!($field), ":"));
                    $crate::pack::field_layout(|value: &Self| &value.$field, text);
                )*
                text.push('}');
            }

            fn pack(&self, bytes: &mut Vec<u8>) {
                let Self { $($field),* } = self;
                $($crate::pack::Pack::pack($field, bytes);)*
            }

            fn unpack(bytes: &mut &[u8]) -> Option<Self> {
                Some(Self { $($field: $crate::pack::Pack::unpack(bytes)?),* })
            }
        }
    };
    ($type:ident ($field:ident)) => {
        impl $crate::pack::Pack for $type {
            fn layout(text: &mut String) {
                text.push_str(concat!(stringify!($type), ":"));
                $crate::pack::field_layout(|value: &Self| &value.0, text);
            }

            fn pack(&self, bytes: &mut Vec<u8>) {
                let Self($field) = self;
                $crate::pack::Pack::pack($field, bytes);
            }

            fn unpack(bytes: &mut &[u8]) -> Option<Self> {
                $crate::pack::Pack::unpack(bytes).map(Self)
            }
        }
    };
}
pub(crate) use packed;

macro_rules! packed_numbers {
    ($($type:ident)*) => {$(
        impl Pack for $type {
            fn layout(text: &mut String) {
                text.push_str(concat!(stringify!($type), ";"));
            }

            fn pack(&self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_le_bytes());
            }

            fn unpack(bytes: &mut &[u8]) -> Option<Self> {
                let (first, rest) = bytes.split_first_chunk()?;
                *bytes = rest;
                Some(Self::from_le_bytes(*first))
            }
        }
    )*};
}
packed_numbers!(u8 u16 u32 u64 i64 i128);

impl Pack for bool {
    fn layout(text: &mut String) {
        text.push_str("bool;");
    }

    fn pack(&self, bytes: &mut Vec<u8>) {
        u8::from(*self).pack(bytes);
    }

    fn unpack(bytes: &mut &[u8]) -> Option<Self> {
        u8::unpack(bytes).map(|byte| byte != 0)
    }
}

impl<const N: usize> Pack for [u8; N] {
    fn layout(text: &mut String) {
        let _ = write!(text, "bytes{N};");
    }

    fn pack(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(self);
    }

    fn unpack(bytes: &mut &[u8]) -> Option<Self> {
        let (first, rest) = bytes.split_first_chunk()?;
        *bytes = rest;
        Some(*first)
    }
}

fn pack_text(text: &str, bytes: &mut Vec<u8>) {
    (text.len() as u64).pack(bytes);
    bytes.extend_from_slice(text.as_bytes());
}

fn unpack_text<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    let length = usize::try_from(u64::unpack(bytes)?).ok()?;
    let (text, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    std::str::from_utf8(text).ok()
}

impl Pack for String {
    fn layout(text: &mut String) {
        text.push_str("text;");
    }

    fn pack(&self, bytes: &mut Vec<u8>) {
        pack_text(self, bytes);
    }

    fn unpack(bytes: &mut &[u8]) -> Option<Self> {
        unpack_text(bytes).map(str::to_owned)
    }
}

impl Pack for Arc<str> {
    fn layout(text: &mut String) {
        String::layout(text);
    }

    fn pack(&self, bytes: &mut Vec<u8>) {
        pack_text(self, bytes);
    }

    fn unpack(bytes: &mut &[u8]) -> Option<Self> {
        unpack_text(bytes).map(Self::from)
    }
}

impl<T: Pack> Pack for Option<T> {
    fn layout(text: &mut String) {
        text.push('?');
        T::layout(text);
    }

    fn pack(&self, bytes: &mut Vec<u8>) {
        self.is_some().pack(bytes);
        if let Some(value) = self {
            value.pack(bytes);
        }
    }

    fn unpack(bytes: &mut &[u8]) -> Option<Self> {
        if bool::unpack(bytes)? { T::unpack(bytes).map(Some) } else { Some(None) }
    }
}

impl<T: Pack> Pack for Vec<T> {
    fn layout(text: &mut String) {
        text.push('*');
        T::layout(text);
    }

    fn pack(&self, bytes: &mut Vec<u8>) {
        (self.len() as u64).pack(bytes);
        for value in self {
            value.pack(bytes);
        }
    }

    fn unpack(bytes: &mut &[u8]) -> Option<Self> {
        (0..u64::unpack(bytes)?).map(|_| T::unpack(bytes)).collect()
    }
}

impl<K: Pack + Ord, V: Pack> Pack for BTreeMap<K, V> {
    fn layout(text: &mut String) {
        text.push('%');
        K::layout(text);
        V::layout(text);
    }

    fn pack(&self, bytes: &mut Vec<u8>) {
        (self.len() as u64).pack(bytes);
        for (key, value) in self {
            key.pack(bytes);
            value.pack(bytes);
        }
    }

    fn unpack(bytes: &mut &[u8]) -> Option<Self> {
        (0..u64::unpack(bytes)?).map(|_| Some((K::unpack(bytes)?, V::unpack(bytes)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, PartialEq)]
    struct Name(String);
    packed!(Name(text));

    #[derive(Debug, Clone, PartialEq)]
    struct Sample {
        count: u64,
        names: BTreeMap<u32, Vec<Name>>,
        note: Option<String>,
        exact: i128,
    }
    packed!(Sample { count, names, note, exact });

    #[derive(Debug, PartialEq)]
    struct Other {
        number: u64,
    }
    packed!(Other { number });

    fn sample() -> Sample {
        let names = BTreeMap::from([(7, vec![Name("é".to_owned()), Name(String::new())]), (9, Vec::new())]);
        Sample { count: u64::MAX, names, note: Some("n".to_owned()), exact: -5 }
    }

    #[test]
    fn value_comes_back_as_it_was() {
        let bytes = to_bytes(&sample(), "key");
        assert_eq!(from_bytes(&bytes, "key"), Some(sample()));
    }

    #[test]
    fn another_key_another_layout_or_a_damaged_byte_is_no_value() {
        let bytes = to_bytes(&sample(), "key");
        assert_eq!(from_bytes::<Sample>(&bytes, "lock"), None);
        assert_eq!(from_bytes::<Other>(&bytes, "key"), None);
        assert_ne!(digest::<[u8; 4]>("key"), digest::<[u8; 8]>("key"));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(from_bytes::<Sample>(&damaged, "key"), None, "byte {at}");
            assert_eq!(from_bytes::<Sample>(&bytes[..at], "key"), None, "cut at {at}");
        }
    }
}
