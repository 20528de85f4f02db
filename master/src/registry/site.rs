//! The sites that a master watches, as its options name them. Never connects to one.

use muster_protocol::{GroupName, limit::SITES_MAX, subject::Names};
use muster_wire::nats::{Domain, DomainError};
use std::str::FromStr;

/// A site: its fleet, and the JetStream domain of its server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The fleet at the site.
    pub fleet: GroupName,
    /// The domain of its registry.
    pub domain: Domain,
}

/// Why sites cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// The name of the fleet.
    #[error("the fleet of a site cannot have this name: {0}")]
    Fleet(String),
    /// The name of the domain.
    #[error(transparent)]
    Domain(#[from] DomainError),
    /// The site's fleet is this master's own.
    #[error(
        "--site {0} is the fleet of this master; the fleet at a site needs a name of its own, because \
         subjects pass the leaf node"
    )]
    Own(GroupName),
    /// A site is named twice.
    #[error("--site {0} is given twice")]
    Twice(GroupName),
    /// There are too many.
    #[error(
        "a master watches at most {SITES_MAX} sites; give the others to a master of another fleet"
    )]
    TooMany,
}

impl FromStr for Site {
    type Err = SiteError;

    fn from_str(text: &str) -> Result<Self, SiteError> {
        let (fleet, domain) = text.split_once('=').unwrap_or((text, text));
        let fleet = fleet.parse().map_err(|error| SiteError::Fleet(format!("{error}")))?;
        Ok(Site { fleet, domain: domain.parse()? })
    }
}

impl Site {
    /// Checks the sites of a master of the fleet `own`.
    pub fn check(sites: &[Site], own: &GroupName) -> Result<(), SiteError> {
        if sites.len() > SITES_MAX {
            return Err(SiteError::TooMany);
        }
        for (at, site) in sites.iter().enumerate() {
            if site.fleet == *own {
                return Err(SiteError::Own(own.clone()));
            }
            if sites[..at].iter().any(|other| other.fleet == site.fleet) {
                return Err(SiteError::Twice(site.fleet.clone()));
            }
        }
        Ok(())
    }

    /// The stream of its events, at the site and at the hub.
    pub(super) fn stream(&self) -> String {
        Names::new(self.fleet.clone()).event_stream()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_is_a_fleet_and_a_domain() {
        let site = |text: &str| text.parse::<Site>().ok();
        let of = |fleet: &str, domain: &str| {
            let fleet = fleet.parse().expect("a name");
            Some(Site { fleet, domain: domain.parse().expect("a name") })
        };
        assert_eq!(site("shop7"), of("shop7", "shop7"));
        assert_eq!(site("shop7=edge"), of("shop7", "edge"));
        for text in ["", "=", "shop7=", "a.b", "shop7=a.b"] {
            assert_eq!(site(text), None, "{text}");
        }
    }

    #[test]
    fn sites_differ_from_each_other_and_from_the_fleet_of_the_hub() {
        let sites = |names: &[String]| {
            let sites: Vec<Site> = names.iter().map(|name| name.parse().expect("a site")).collect();
            Site::check(&sites, &"hq".parse().expect("a name"))
        };
        let named = |count: usize| (0..count).map(|at| format!("s{at}")).collect::<Vec<_>>();
        assert!(sites(&named(SITES_MAX)).is_ok());
        assert!(matches!(sites(&named(SITES_MAX + 1)), Err(SiteError::TooMany)));
        assert!(matches!(sites(&["a".into(), "a=b".into()]), Err(SiteError::Twice(_))));
        assert!(matches!(sites(&["hq=b".into()]), Err(SiteError::Own(_))));
    }
}
