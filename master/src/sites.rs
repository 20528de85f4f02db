//! Watches the copies of the sites' events: publishes when one lags, and sets a source up anew that stands
//! still. Never decides: [`SiteWatch`] does.

use crate::registry::{Registry, Site};
use muster_protocol::{
    MasterId,
    advisory::{Advisory, SiteEvent},
    limit::SITE_LOOK_EVERY,
    site::{SiteChange, SiteWatch},
};
use muster_wire::clock;

/// Watches one site while the session lasts.
pub(crate) async fn watch(registry: Registry, site: Site, master: MasterId) {
    let mut watch = SiteWatch::new(clock::boottime());
    loop {
        tokio::time::sleep(SITE_LOOK_EVERY).await;
        let look = match registry.look_at(&site).await {
            Ok(look) => look,
            Err(error) => {
                tracing::debug!(%error, site = %site.fleet, "the copy of its events is unknown");
                continue;
            }
        };
        let step = watch.observe(clock::boottime(), look);
        if step.renew {
            match registry.renew_copy(&site).await {
                Ok(()) => tracing::info!(
                    site = %site.fleet, behind = look.behind,
                    "it answers, but its events do not arrive; their source was set up anew"
                ),
                Err(error) => tracing::warn!(
                    %error, site = %site.fleet, "the source of its events cannot be set up anew"
                ),
            }
        }
        let Some(change) = step.change else { continue };
        let SiteChange { what, seconds, behind, reason } = change;
        match what {
            SiteEvent::Lagging => tracing::warn!(site = %site.fleet, behind, reason, "it lags"),
            SiteEvent::CaughtUp => tracing::info!(site = %site.fleet, seconds, "{reason}"),
        }
        let (site, master) = (site.fleet.clone(), master.clone());
        let advisory = Advisory::Site { site, master, what, seconds, behind, reason };
        registry.publish(&advisory).await;
    }
}
