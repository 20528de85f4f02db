//! Records in frames with named fields: the bytes of the JSON. So a master that renews a lease for a
//! worker writes exactly what the worker sent, with fields that only the worker knows.

use crate::{
    lease::{CasAnswer, Lease},
    record::{Record, read, write},
};
use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

/// A record as a byte string.
struct InFrame<T>(T);

impl<T: Record> Serialize for InFrame<&T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&write(self.0).map_err(ser::Error::custom)?)
    }
}

impl<'de, T: Record> Deserialize<'de> for InFrame<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes<T>(core::marker::PhantomData<T>);

        impl<T: Record> de::Visitor<'_> for Bytes<T> {
            type Value = InFrame<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the bytes of a record")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<InFrame<T>, E> {
                read(bytes).map(InFrame).map_err(E::custom)
            }

            fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<InFrame<T>, E> {
                self.visit_bytes(&bytes)
            }
        }

        deserializer.deserialize_bytes(Bytes(core::marker::PhantomData))
    }
}

pub(crate) fn serialize<T: Record, S: Serializer>(
    record: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    InFrame(record).serialize(serializer)
}

pub(crate) fn deserialize<'de, T: Record, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    InFrame::deserialize(deserializer).map(|InFrame(record)| record)
}

/// The same for the record in the answer to a compare-and-set.
pub(crate) mod answer {
    use super::{CasAnswer, Deserialize, Deserializer, InFrame, Lease, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        answer: &CasAnswer<Lease>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        answer.as_ref().map(InFrame).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<CasAnswer<Lease>, D::Error> {
        CasAnswer::deserialize(deserializer).map(|answer| answer.map(|InFrame(lease)| lease))
    }
}
