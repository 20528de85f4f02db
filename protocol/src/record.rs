//! Records: values that are stored as JSON, in the registry and in state directories, and are read by
//! other versions. A reader ignores the fields that a later version added, and a writer keeps them.
//! Never loses such a field silently, and never ignores an unknown name in a client's request.

use alloc::{boxed::Box, format, string::String, vec, vec::Vec};
use core::fmt;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, DeserializeOwned},
    ser::SerializeMap,
};
use serde_ignored::Path;
use serde_json::Value;

/// The most bytes of unknown fields that a record may have: names and values, as JSON. As much as an
/// inline input, since a later version adds only some numbers and names.
///
/// A record with more is refused as a whole, not cut: a process that refuses a record does not write
/// it, so nothing is lost, and the error says which process to upgrade.
pub const UNKNOWN_SIZE_MAX: usize = crate::limit::INLINE_SIZE_MAX;

/// The fields of a record that this version does not know. Almost always none, which allocates nothing.
///
/// It is a field of the record's type, so that copies of the record have it as well. Elements of lists,
/// and values that move within their record, have one of their own, flattened, which moves with them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unknown(Box<[Field]>);

/// An unknown field: its path from the record's root, and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Field {
    path: Vec<String>,
    value: Value,
}

/// Implements [`Record`] for a type whose field `unknown` keeps the fields that this version does not know, with other
/// constants than the default where they are given.
macro_rules! record {
    ($name:ident $({ $($constants:tt)* })?) => {
        impl $crate::record::Record for $name {
            $($($constants)*)?

            fn unknown(&self) -> &$crate::record::Unknown {
                &self.unknown
            }

            fn unknown_mut(&mut self) -> &mut $crate::record::Unknown {
                &mut self.unknown
            }
        }
    };
}

pub(crate) use record;

/// A value that is stored as a whole.
pub trait Record: Serialize + DeserializeOwned {
    /// The most bytes of a value. A larger one is refused as unreadable.
    const SIZE_MAX: usize = crate::limit::API_SIZE_MAX;

    /// Whether a value that cannot be read counts as deleted, so that it can be replaced. It does for
    /// leases: whoever holds one ends its session, and masters wait as after a deletion. Otherwise one
    /// such value would stop a worker and its tasks for ever.
    const UNREADABLE_IS_GONE: bool = false;

    /// The fields that this version does not know. They are not part of the type's own JSON.
    fn unknown(&self) -> &Unknown;
    /// The same, mutable.
    fn unknown_mut(&mut self) -> &mut Unknown;
}

impl<T: Record> Record for Box<T> {
    const SIZE_MAX: usize = T::SIZE_MAX;
    const UNREADABLE_IS_GONE: bool = T::UNREADABLE_IS_GONE;

    fn unknown(&self) -> &Unknown {
        (**self).unknown()
    }

    fn unknown_mut(&mut self) -> &mut Unknown {
        (**self).unknown_mut()
    }
}

/// Reads a record, with its unknown fields.
pub fn read<T: Record>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    if bytes.len() > T::SIZE_MAX {
        return Err(de::Error::custom(format!(
            "it has {} bytes, the limit is {}",
            bytes.len(),
            T::SIZE_MAX
        )));
    }
    let mut ignored = Ignored::default();
    let mut record: T = parse(bytes, |path| ignored.note(&path))?;
    if !ignored.paths.is_empty() {
        *record.unknown_mut() = ignored.taken_from(&serde_json::from_slice(bytes)?)?;
    }
    Ok(record)
}

/// Writes a record, with the unknown fields that it was read with.
pub fn write<T: Record>(record: &T) -> Result<Vec<u8>, serde_json::Error> {
    let bytes = serde_json::to_vec(record)?;
    if record.unknown().is_empty() {
        return Ok(bytes);
    }
    let mut root: Value = serde_json::from_slice(&bytes)?;
    for field in &record.unknown().0 {
        field.put_into(&mut root);
    }
    serde_json::to_vec(&root)
}

/// Reads a client's request. An unknown name is misspelt or of a later version; what it asks for would
/// not be done, so the request is refused.
pub fn read_request<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    let mut ignored = Ignored::default();
    let request = parse(bytes, |path| ignored.note(&path))?;
    match ignored.paths.first() {
        None => Ok(request),
        Some(path) => Err(de::Error::custom(format!(
            "unknown field `{}`; correct the name, or upgrade the masters if it is of a later version \
             than {}",
            path.join("."),
            env!("CARGO_PKG_VERSION")
        ))),
    }
}

fn parse<T: DeserializeOwned>(
    bytes: &[u8],
    ignored: impl FnMut(Path<'_>),
) -> Result<T, serde_json::Error> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_ignored::deserialize(&mut json, ignored)?;
    json.end()?;
    Ok(value)
}

/// The paths of ignored fields, without the names of enum variants, which serde does not report.
#[derive(Default)]
struct Ignored {
    paths: Vec<Vec<String>>,
    size: usize,
}

impl Ignored {
    fn note(&mut self, path: &Path<'_>) {
        let mut steps = Vec::new();
        walk(path, &mut steps);
        self.size += steps.iter().map(String::len).sum::<usize>();
        // This is enough for the record to be refused; further paths are not kept.
        if self.size <= UNKNOWN_SIZE_MAX || self.paths.is_empty() {
            self.paths.push(steps);
        }
    }

    /// The fields at these paths of a record.
    fn taken_from(self, root: &Value) -> Result<Unknown, serde_json::Error> {
        let mut finds = Finds::default();
        for path in &self.paths {
            if let Some(field) = Field::of(path, root) {
                finds.add(field)?;
            }
        }
        if self.size > UNKNOWN_SIZE_MAX {
            return Err(too_much());
        }
        Ok(finds.into_unknown())
    }
}

fn walk(path: &Path<'_>, steps: &mut Vec<String>) {
    match path {
        Path::Root => {}
        Path::Seq { parent, index } => {
            walk(parent, steps);
            steps.push(format!("{index}"));
        }
        Path::Map { parent, key } => {
            walk(parent, steps);
            steps.push(key.clone());
        }
        Path::Some { parent }
        | Path::NewtypeStruct { parent }
        | Path::NewtypeVariant { parent } => {
            walk(parent, steps);
        }
    }
}

fn too_much<E: de::Error>() -> E {
    E::custom(format_args!(
        "it has over {UNKNOWN_SIZE_MAX} bytes of fields that version {} does not know; upgrade this process",
        env!("CARGO_PKG_VERSION")
    ))
}

/// Unknown fields as they are found, up to the limit.
#[derive(Default)]
struct Finds {
    size: usize,
    fields: Vec<Field>,
}

impl Finds {
    fn add<E: de::Error>(&mut self, field: Field) -> Result<(), E> {
        self.size += field.path.iter().map(String::len).sum::<usize>() + text_size(&field.value);
        if self.size > UNKNOWN_SIZE_MAX {
            return Err(too_much());
        }
        self.fields.push(field);
        Ok(())
    }

    /// Sorted by path, so that records compare equal whatever the order in the text; a duplicate is
    /// dropped.
    fn into_unknown(mut self) -> Unknown {
        self.fields.sort_by(|a, b| a.path.cmp(&b.path));
        self.fields.dedup_by(|a, b| a.path == b.path);
        Unknown(self.fields.into())
    }
}

/// The length of a value as JSON.
fn text_size(value: &Value) -> usize {
    struct Count(usize);

    impl fmt::Write for Count {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0 += text.len();
            Ok(())
        }
    }

    let mut count = Count(0);
    let _ = fmt::write(&mut count, format_args!("{value}"));
    count.0
}

impl Field {
    /// The field at a path. A variant with fields is an object with one entry around them; the path
    /// does not contain that entry.
    fn of(path: &[String], root: &Value) -> Option<Self> {
        let mut at = root;
        let mut whole = Vec::new();
        for step in path {
            while let Value::Object(entries) = at
                && !entries.contains_key(step)
                && entries.len() == 1
                && let Some((variant, inner)) = entries.iter().next()
            {
                whole.push(variant.clone());
                at = inner;
            }
            at = child(at, step)?;
            whole.push(step.clone());
        }
        Some(Field { path: whole, value: at.clone() })
    }

    /// Puts the field back, if its parent still exists and does not have it.
    fn put_into(&self, root: &mut Value) {
        let Some((name, parents)) = self.path.split_last() else { return };
        let mut at = root;
        for step in parents {
            let next = match at {
                Value::Object(entries) => entries.get_mut(step),
                Value::Array(elements) => {
                    step.parse().ok().and_then(|index: usize| elements.get_mut(index))
                }
                _ => None,
            };
            let Some(next) = next else { return };
            at = next;
        }
        if let Value::Object(entries) = at {
            entries.entry(name.as_str()).or_insert_with(|| self.value.clone());
        }
    }
}

fn child<'a>(value: &'a Value, step: &str) -> Option<&'a Value> {
    match value {
        Value::Object(entries) => entries.get(step),
        Value::Array(elements) => elements.get(step.parse::<usize>().ok()?),
        _ => None,
    }
}

impl Unknown {
    /// Whether every field is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The unknown fields outside of this field of the record, whose value is being replaced.
    pub(crate) fn outside(&self, field: &str) -> Self {
        let is_outside = |found: &&Field| found.path.first().is_none_or(|first| first != field);
        Unknown(self.0.iter().filter(is_outside).cloned().collect())
    }
}

/// Flattened into an element: only the element's own fields.
impl Serialize for Unknown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for field in &self.0 {
            if let [name] = &field.path[..] {
                map.serialize_entry(name, &field.value)?;
            }
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Unknown {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Rest;

        impl<'de> de::Visitor<'de> for Rest {
            type Value = Unknown;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("fields")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Unknown, A::Error> {
                let mut finds = Finds::default();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    finds.add(Field { path: vec![name], value })?;
                }
                Ok(finds.into_unknown())
            }
        }

        deserializer.deserialize_map(Rest)
    }
}

#[cfg(test)]
mod tests;
