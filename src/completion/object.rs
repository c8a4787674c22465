//! Parts of a body that are objects, read member by member.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, IgnoredAny, MapAccess, Visitor};

/// A member that may be absent. If it stands twice, the last one counts, as for most readers.
#[derive(Debug, Default)]
pub(super) enum Once<T> {
    #[default]
    Absent,
    /// The value. It is `None` for `null`, which counts as a member all the same.
    Read(Option<T>),
}

impl<T> Once<T> {
    pub(super) const fn get(&self) -> Option<&T> {
        match self {
            Self::Read(Some(value)) => Some(value),
            _ => None,
        }
    }

    pub(super) fn read<'de, A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<(), A::Error>
    where
        T: Deserialize<'de>,
    {
        *self = Self::Read(map.next_value()?);
        Ok(())
    }
}

/// A part of a body that is an object. Serde's derived code would take an array for it too, value by value.
pub(super) trait ObjectPart<'de>: Default {
    /// The names of the members that are looked at.
    type Name: Deserialize<'de>;

    /// Reads the value of a member.
    fn member<A: MapAccess<'de>>(&mut self, name: Self::Name, map: &mut A) -> Result<(), A::Error>;
}

pub(super) struct ObjectVisitor<T>(pub(super) PhantomData<T>);

impl<'de, T: ObjectPart<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        let mut part = T::default();
        while let Some(name) = map.next_key()? {
            part.member(name, &mut map)?;
        }
        Ok(part)
    }
}

/// Passes over a value that is not looked at.
pub(super) fn ignore<'de, A: MapAccess<'de>>(map: &mut A) -> Result<(), A::Error> {
    map.next_value::<IgnoredAny>().map(drop)
}
