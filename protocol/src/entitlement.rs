//! What the certificate of a worker permits it to offer to tasks. A worker that is stolen with its key can
//! offer nothing else. Never says what a worker offers, which its lease says.
//!
//! The certificate has it as a URI among its alternative names (RFC 5280, section 4.2.1.6), so that every
//! tool that shows certificates shows it:
//!
//! ```text
//! muster:entitlement?group=shops&label=region%3Deu&secret=API%5FKEY&slots=8&issued=…&ends=…
//! ```

use crate::{GroupName, lease::Lease};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::{fmt, str::FromStr};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};

/// The longest URI, in bytes. It is part of every handshake.
pub const URI_SIZE_MAX: usize = 4 * 1024;

/// The name that permits every name.
pub const ANY: &str = "*";

const SCHEME: &str = "muster:entitlement?";

/// See the [module](self). The default permits no group, and so nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Entitlement {
    /// The groups that it may belong to.
    pub groups: Allowed,
    /// The labels that it may have, as `KEY=VALUE`; `KEY=*` permits every value.
    pub labels: Allowed,
    /// The secrets that it may offer.
    pub secrets: Allowed,
    /// The most slots; any number if absent.
    pub slots: Option<u32>,
    /// The most memory of one run, in bytes; any size if absent.
    pub memory: Option<u64>,
    /// How long masters may have to wait at most before they declare it lost, in milliseconds; any time if
    /// absent.
    pub wait_ms: Option<u64>,
    /// When the certificate was issued, in seconds since 1970; absent in certificates of version 0.1. A
    /// revocation refuses what was issued before it.
    pub issued: Option<u64>,
    /// When it ends, in seconds since 1970; absent in certificates of version 0.1.
    pub ends: Option<u64>,
}

/// Names that are permitted; none by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Allowed(pub BTreeSet<String>);

impl Allowed {
    /// Every name.
    pub fn any() -> Self {
        Allowed([ANY.to_string()].into())
    }

    /// Whether it permits every name.
    pub fn is_any(&self) -> bool {
        self.0.contains(ANY)
    }

    /// Whether it permits this name.
    pub fn has(&self, name: &str) -> bool {
        self.is_any() || self.0.contains(name)
    }

    fn has_label(&self, key: &str, value: &str) -> bool {
        self.is_any()
            || self.0.contains(&format!("{key}={value}"))
            || self.0.contains(&format!("{key}={ANY}"))
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_any() {
            return f.write_str("any");
        }
        if self.0.is_empty() {
            return f.write_str("none");
        }
        f.write_str(&self.0.iter().map(String::as_str).collect::<Vec<_>>().join(", "))
    }
}

/// Why a URI is no entitlement. The certificate that has it permits nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntitlementError {
    /// It is not an entitlement's URI at all.
    #[error("it does not begin with {SCHEME}")]
    Scheme,
    /// It is longer than [`URI_SIZE_MAX`].
    #[error("it has {0} bytes, the limit is {URI_SIZE_MAX}")]
    Size(usize),
    /// A part of it is not understood: it may restrict what this version does not know.
    #[error("{0:?} is not understood; upgrade this program if a later version has issued it")]
    Part(String),
    /// A certificate has more than one.
    #[error("there are several")]
    Several,
}

impl Entitlement {
    /// Everything: what a certificate of version 0.1 permits.
    pub fn any() -> Self {
        Entitlement {
            groups: Allowed::any(),
            labels: Allowed::any(),
            secrets: Allowed::any(),
            ..Entitlement::default()
        }
    }

    /// The group that a worker belongs to that does not choose one: the only one that is permitted.
    pub fn only_group(&self) -> Option<GroupName> {
        let mut groups = self.groups.0.iter();
        let group = groups.next().filter(|_| groups.next().is_none())?;
        group.parse().ok()
    }

    /// The labels of a worker that does not choose others: those with a single permitted value.
    pub fn only_labels(&self) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::new();
        for (key, value) in self.labels.0.iter().filter_map(|label| label.split_once('=')) {
            labels.entry(key).or_insert_with(Vec::new).push(value);
        }
        let only = labels.into_iter().filter(|(_, values)| values.len() == 1 && values[0] != ANY);
        only.map(|(key, values)| (key.into(), values[0].into())).collect()
    }

    /// The entitlement among the URIs of a certificate: [`Entitlement::any`] if there is none.
    pub fn among<'a>(uris: impl Iterator<Item = &'a str>) -> Result<Self, EntitlementError> {
        let mut permits = uris.filter(|uri| uri.starts_with(SCHEME));
        match (permits.next(), permits.next()) {
            (None, _) => Ok(Entitlement::any()),
            (Some(uri), None) => uri.parse(),
            (Some(_), Some(_)) => Err(EntitlementError::Several),
        }
    }

    /// What the lease offers or asks for and the certificate does not permit, as a text that continues a
    /// sentence after "the certificate"; `None` if it permits all of it.
    pub fn denies(&self, lease: &Lease) -> Option<String> {
        let offer = &lease.offer;
        if !self.groups.has(offer.group.as_str()) {
            let permitted = &self.groups;
            return Some(format!(
                "does not permit the group {} (permitted: {permitted})",
                offer.group
            ));
        }
        if let Some((key, value)) =
            offer.labels.iter().find(|(key, value)| !self.labels.has_label(key, value))
        {
            let permitted = &self.labels;
            return Some(format!(
                "does not permit the label {key}={value} (permitted: {permitted})"
            ));
        }
        if let Some(secret) = offer.policy.secrets.iter().find(|secret| !self.secrets.has(secret)) {
            let permitted = &self.secrets;
            return Some(format!("does not permit the secret {secret} (permitted: {permitted})"));
        }
        if let Some(most) = self.slots.filter(|&most| offer.slots > most) {
            return Some(format!("permits {most} slots, not {}", offer.slots));
        }
        if let Some(most) = self.memory.filter(|&most| offer.memory_bytes > most) {
            return Some(format!("permits {most} bytes of memory, not {}", offer.memory_bytes));
        }
        if let Some(most) = self.wait_ms.filter(|&most| lease.master_wait_ms > most) {
            let asked = lease.master_wait_ms;
            return Some(format!("permits masters to wait {most} ms, not {asked} ms"));
        }
        None
    }

    /// The URI that a certificate has. It is at most [`URI_SIZE_MAX`] bytes long.
    pub fn uri(&self) -> Result<String, EntitlementError> {
        let mut parts = Vec::new();
        let mut part = |name: &str, value: &str| {
            parts.push(format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)));
        };
        for (name, Allowed(values)) in
            [("group", &self.groups), ("label", &self.labels), ("secret", &self.secrets)]
        {
            values.iter().for_each(|value| part(name, value));
        }
        let numbers = [
            ("slots", self.slots.map(u64::from)),
            ("memory", self.memory),
            ("wait_ms", self.wait_ms),
            ("issued", self.issued),
            ("ends", self.ends),
        ];
        for (name, value) in numbers {
            if let Some(value) = value {
                part(name, &value.to_string());
            }
        }
        let uri = format!("{SCHEME}{}", parts.join("&"));
        if uri.len() > URI_SIZE_MAX { Err(EntitlementError::Size(uri.len())) } else { Ok(uri) }
    }
}

impl FromStr for Entitlement {
    type Err = EntitlementError;

    fn from_str(uri: &str) -> Result<Self, EntitlementError> {
        if uri.len() > URI_SIZE_MAX {
            return Err(EntitlementError::Size(uri.len()));
        }
        let parts = uri.strip_prefix(SCHEME).ok_or(EntitlementError::Scheme)?;
        let mut entitlement = Entitlement::default();
        for part in parts.split('&').filter(|part| !part.is_empty()) {
            entitlement.take(part).ok_or_else(|| EntitlementError::Part(part.to_string()))?;
        }
        Ok(entitlement)
    }
}

impl Entitlement {
    /// Takes in one part of the URI; `None` if it is not understood, or is there twice.
    fn take(&mut self, part: &str) -> Option<()> {
        let (name, value) = part.split_once('=')?;
        let value = percent_decode_str(value).decode_utf8().ok()?.into_owned();
        let is_new = match name {
            "group" => self.groups.0.insert(value),
            "label" => self.labels.0.insert(value),
            "secret" => self.secrets.0.insert(value),
            "slots" => self.slots.replace(value.parse().ok()?).is_none(),
            "memory" => self.memory.replace(value.parse().ok()?).is_none(),
            "wait_ms" => self.wait_ms.replace(value.parse().ok()?).is_none(),
            "issued" => self.issued.replace(value.parse().ok()?).is_none(),
            "ends" => self.ends.replace(value.parse().ok()?).is_none(),
            _ => false,
        };
        is_new.then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SessionId, grant::Policy};
    use alloc::sync::Arc;

    fn names(names: &[&str]) -> Allowed {
        Allowed(names.iter().map(ToString::to_string).collect())
    }

    fn shop() -> Entitlement {
        Entitlement {
            groups: names(&["shops"]),
            labels: names(&["region=eu", "rack=*"]),
            secrets: names(&["API_KEY"]),
            slots: Some(8),
            memory: Some(1 << 30),
            wait_ms: Some(4_500),
            issued: Some(5),
            ends: Some(9),
        }
    }

    fn lease(change: impl FnOnce(&mut Lease)) -> Lease {
        let mut lease = Lease::new("w1".parse().expect("a name"), SessionId(1));
        lease.offer.group = "shops".parse().expect("a name");
        change(&mut lease);
        lease
    }

    #[test]
    fn a_worker_offers_what_its_certificate_permits_and_nothing_else() {
        let with_label = |key: &str, value: &str| {
            let label = (key.to_string(), value.to_string());
            lease(|lease| lease.offer.labels = [label].into())
        };
        let with_secret = |name: &str| {
            let policy = Policy { secrets: [name.to_string()].into(), ..Policy::default() };
            lease(|lease| lease.offer.policy = Arc::new(policy))
        };
        let permitted = [
            lease(|_| ()),
            with_label("region", "eu"),
            with_label("rack", "7"),
            with_secret("API_KEY"),
            lease(|lease| lease.offer.slots = 8),
            lease(|lease| lease.offer.memory_bytes = 1 << 30),
            lease(|lease| lease.master_wait_ms = 4_500),
        ];
        for lease in permitted {
            assert_eq!(shop().denies(&lease), None, "{lease:?}");
            assert_eq!(Entitlement::any().denies(&lease), None, "{lease:?}");
        }
        let denied = [
            (lease(|lease| lease.offer.group = "vault".parse().expect("a name")), "group vault"),
            (with_label("region", "us"), "label region=us"),
            (with_label("zone", "vault"), "label zone=vault"),
            (with_label("region", "eu2"), "label region=eu2"),
            (with_secret("OTHER"), "secret OTHER"),
            (lease(|lease| lease.offer.slots = 9), "8 slots, not 9"),
            (lease(|lease| lease.offer.memory_bytes = 1 << 31), "of memory"),
            (lease(|lease| lease.master_wait_ms = u64::MAX), "wait 4500 ms"),
        ];
        for (lease, why) in denied {
            let text = shop().denies(&lease).unwrap_or_default();
            assert!(text.contains(why), "{text} / {why}");
            assert!(Entitlement::default().denies(&lease).is_some());
            assert_eq!(Entitlement::any().denies(&lease), None);
        }
    }

    #[test]
    fn a_worker_that_chooses_nothing_gets_what_is_certain() {
        assert_eq!(shop().only_group(), "shops".parse().ok());
        assert_eq!(shop().only_labels(), [("region".to_string(), "eu".to_string())].into());
        let many = Entitlement {
            groups: names(&["a", "b"]),
            labels: names(&["region=eu", "region=us", "zone=1"]),
            ..shop()
        };
        assert_eq!(many.only_group(), None);
        assert_eq!(many.only_labels(), [("zone".to_string(), "1".to_string())].into());
        assert_eq!(Entitlement::any().only_group(), None);
        assert!(Entitlement::any().only_labels().is_empty());
    }

    #[test]
    fn a_certificate_has_its_permit_as_a_uri() {
        let odd =
            Entitlement {
                labels: names(&["a&b=c d", "größe=*", "x=%41"]), slots: None, ..shop()
            };
        for entitlement in [shop(), odd, Entitlement::default(), Entitlement::any()] {
            let uri = entitlement.uri().expect("short");
            assert!(uri.is_ascii(), "{uri}");
            assert_eq!(uri.parse(), Ok(entitlement), "{uri}");
        }
        assert_eq!(
            shop().uri().expect("short"),
            "muster:entitlement?group=shops&label=rack%3D%2A&label=region%3Deu&secret=API%5FKEY\
             &slots=8&memory=1073741824&wait_ms=4500&issued=5&ends=9"
        );
    }

    #[test]
    fn what_is_not_understood_permits_nothing() {
        let entitlement = |text: &str| text.parse::<Entitlement>();
        assert_eq!(entitlement("https://example.com"), Err(EntitlementError::Scheme));
        for part in ["", "group", "site=1", "slots=x", "slots=1&slots=2", "group=%ff", "wait_ms=-1"]
        {
            let uri = format!("{SCHEME}group=a&{part}");
            assert_eq!(entitlement(&uri).is_ok(), part.is_empty(), "{uri}");
        }
        let long = format!("{SCHEME}group={}", "a".repeat(URI_SIZE_MAX));
        assert_eq!(entitlement(&long), Err(EntitlementError::Size(long.len())));
        let many = Entitlement {
            labels: Allowed((0..2_000).map(|n| format!("k={n}")).collect()),
            ..shop()
        };
        assert!(matches!(many.uri(), Err(EntitlementError::Size(_))));

        let uri = shop().uri().expect("short");
        let among = |uris: &[&str]| Entitlement::among(uris.iter().copied());
        assert_eq!(among(&["https://example.com"]), Ok(Entitlement::any()));
        assert_eq!(among(&["https://example.com", &uri]), Ok(shop()));
        assert_eq!(among(&[&uri, &uri]), Err(EntitlementError::Several));
    }
}
