//! Checks whether the events of sites arrive at this hub, by the latest event about each site. Never asks a
//! site.

use super::{Ages, Finding, answer, few, registry};
use crate::client::Client;
use muster_protocol::{advisory::SiteEvent, subject::Bucket};

pub(super) async fn look(client: &Client, findings: &mut Vec<Finding>) {
    // What hides the events hides more, and is reported elsewhere.
    let Ok(now) = registry::clock(client, Bucket::Tasks).await else { return };
    let (stream, events) =
        (client.names.event_stream(), client.names.event("all", "site", "*", "*"));
    let Ok(ages) = answer(registry::read(client, &stream, &events, now)).await else { return };
    let lagging = lagging(&ages);
    if !lagging.is_empty() {
        let detail = format!("the events of {} do not arrive", few(&lagging));
        let hint = "see its line and its nats-server; `muster events` says since when";
        findings.push(Finding::warn("sites", detail).hint(hint).names(lagging));
    }
}

/// The sites whose latest event says that they lag.
fn lagging(ages: &Ages) -> Vec<String> {
    let subject = |what: SiteEvent, site: &str| format!("event.all.site.{}.{site}", what.word());
    let lagging = subject(SiteEvent::Lagging, "");
    let sites = ages.iter().filter_map(|(key, age)| Some((key.strip_prefix(&lagging)?, age)));
    let still = sites.filter(|(site, age)| {
        ages.get(&subject(SiteEvent::CaughtUp, site)).is_none_or(|caught_up| *age < caught_up)
    });
    still.map(|(site, _)| site.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_site_lags_by_its_latest_event() {
        let ages = [("lagging.a", 9), ("caught_up.a", 5), ("lagging.b", 5), ("caught_up.b", 9)];
        let ages = ages.into_iter().chain([("lagging.c", 1), ("caught_up.d", 1)]);
        let age = |(site, age)| (format!("event.all.site.{site}"), Duration::from_secs(age));
        assert_eq!(lagging(&ages.map(age).collect()), ["b", "c"]);
    }
}
