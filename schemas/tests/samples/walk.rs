//! A deserializer without input: it makes up what it is asked for, and notes where it had a choice.

use super::{Choice, Plan};
use serde::de::value::{Error, StrDeserializer};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};

/// Deeper than any stored type that does not hold itself.
const MAX_DEPTH: usize = 60;
/// Bytes of a made-up blob; lineages and hashes take as many as they need.
const BLOB: usize = 32;

pub(super) fn value<T: DeserializeOwned>(plan: &Plan, opaque: &[&str], choices: &mut Vec<Choice>) -> Result<T, Error> {
    let mut walk = Walk { plan, opaque, choices, path: Vec::new(), owner: String::new(), hidden: 0, count: 0 };
    T::deserialize(&mut walk)
}

struct Walk<'a> {
    plan: &'a Plan,
    opaque: &'a [&'a str],
    choices: &'a mut Vec<Choice>,
    path: Vec<String>,
    /// The struct or variant whose fields are made, with its field.
    owner: String,
    /// How many opaque enums are open.
    hidden: usize,
    /// Values made so far.
    count: u64,
}

impl Walk<'_> {
    fn next(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    fn choose(&mut self, what: String, variants: Vec<String>) -> usize {
        let path = self.path.join(".");
        let chosen = self.plan.get(&path).copied().unwrap_or(0);
        if self.hidden == 0 {
            self.choices.push(Choice { path, what, variants });
        }
        chosen
    }

    /// Makes something inside the part of this name.
    fn inside<R>(&mut self, part: &str, make: impl FnOnce(&mut Self) -> Result<R, Error>) -> Result<R, Error> {
        if self.path.len() > MAX_DEPTH {
            return Err(Error::custom("the type holds itself in its first variant"));
        }
        self.path.push(part.to_owned());
        let made = make(self);
        self.path.pop();
        made
    }
}

macro_rules! numbers {
    ($($method:ident, $visit:ident, $type:ty, $base:literal;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            let number = <$type>::try_from(self.next()).map_err(Error::custom)?;
            visitor.$visit($base + number)
        }
    )*};
}

impl<'de> Deserializer<'de> for &mut Walk<'_> {
    type Error = Error;

    fn is_human_readable(&self) -> bool {
        false
    }

    // Every width that MessagePack has is written by some field.
    numbers! {
        deserialize_u8, visit_u8, u8, 0;
        deserialize_u16, visit_u16, u16, 300;
        deserialize_u32, visit_u32, u32, 70_000;
        deserialize_u64, visit_u64, u64, 5_000_000_000;
        deserialize_i8, visit_i8, i8, 0;
        deserialize_i16, visit_i16, i16, -400;
        deserialize_i32, visit_i32, i32, -80_000;
        deserialize_i64, visit_i64, i64, 6_000_000_000;
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_bool(true)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let text = format!("t{}", self.next());
        visitor.visit_str(&text)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(Items { walk: self, left: BLOB, bytes: true })
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let what = format!("{}?", self.owner);
        match self.choose(what, vec!["some".to_owned(), "none".to_owned()]) {
            0 => visitor.visit_some(self),
            _ => visitor.visit_none(),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(Items { walk: self, left: 1, bytes: false })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(Items { walk: self, left: len, bytes: false })
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(Entry { walk: self, left: 1 })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_map(Fields { walk: self, owner: name.to_owned(), fields: fields.iter(), field: "" })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let known = format!("{name}:{}", variants.join("|"));
        let hides = usize::from(self.opaque.contains(&name));
        self.hidden += hides;
        let chosen = self.choose(known, variants.iter().map(|&variant| variant.to_owned()).collect());
        let variant = variants.get(chosen).ok_or_else(|| Error::custom("an enum without variants"))?;
        let owner = format!("{name}::{variant}");
        let made = self.inside(variant, |walk| visitor.visit_enum(Variant { walk, variant, owner }));
        self.hidden -= hides;
        made
    }

    serde::forward_to_deserialize_any! { i128 u128 f32 f64 char identifier ignored_any }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("no stored type holds floats, characters or values of an open shape"))
    }
}

/// The items of a list, a tuple or a blob.
struct Items<'w, 'a> {
    walk: &'w mut Walk<'a>,
    left: usize,
    bytes: bool,
}

impl<'de> SeqAccess<'de> for Items<'_, '_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        if self.bytes {
            let first = if left + 1 == BLOB { self.walk.next() } else { self.walk.count };
            let byte = u8::try_from(first % 200).map_err(Error::custom)?;
            return seed.deserialize(byte.into_deserializer()).map(Some);
        }
        let part = left.to_string();
        self.walk.inside(&part, |walk| seed.deserialize(walk)).map(Some)
    }
}

/// The one entry of a map.
struct Entry<'w, 'a> {
    walk: &'w mut Walk<'a>,
    left: usize,
}

impl<'de> MapAccess<'de> for Entry<'_, '_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        self.walk.inside("key", |walk| seed.deserialize(walk)).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        self.walk.inside("value", |walk| seed.deserialize(walk))
    }
}

/// The fields of a struct or of a variant with named fields.
struct Fields<'w, 'a> {
    walk: &'w mut Walk<'a>,
    owner: String,
    fields: std::slice::Iter<'static, &'static str>,
    field: &'static str,
}

impl<'de> MapAccess<'de> for Fields<'_, '_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some(field) = self.fields.next() else { return Ok(None) };
        self.field = field;
        let name: StrDeserializer<'_, Error> = field.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        self.walk.owner = format!("{}.{}", self.owner, self.field);
        self.walk.inside(self.field, |walk| seed.deserialize(walk))
    }
}

/// One variant of an enum.
struct Variant<'w, 'a> {
    walk: &'w mut Walk<'a>,
    variant: &'static str,
    owner: String,
}

impl<'de> EnumAccess<'de> for Variant<'_, '_> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self), Error> {
        let name: StrDeserializer<'_, Error> = self.variant.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, '_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        self.walk.owner = self.owner;
        seed.deserialize(self.walk)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        self.walk.owner = self.owner;
        self.walk.deserialize_tuple(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(Fields { walk: self.walk, owner: self.owner, fields: fields.iter(), field: "" })
    }
}
