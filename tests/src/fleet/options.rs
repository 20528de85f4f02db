//! Options of the masters of a fleet that tests choose. Never changes a master that runs.

use super::Fleet;

impl Fleet {
    /// Masters that are started from now on ask for so many replicas.
    pub fn keep_replicas(&mut self, replicas: usize) {
        self.replicas = Some(replicas);
    }

    /// Masters that are started from now on tolerate an outage of the registry for so many seconds.
    pub fn tolerate_outages_of(&mut self, seconds: u64) {
        self.tolerance_s = Some(seconds);
    }

    pub(super) fn master_options(&self) -> Vec<String> {
        let replicas = self.replicas.unwrap_or(self.nats_nodes().len());
        let tolerance = self.tolerance_s.map(|seconds| ("--outage-tolerance-s", seconds));
        let options = [("--replicas", replicas as u64)].into_iter().chain(tolerance);
        options.flat_map(|(option, value)| [option.into(), value.to_string()]).collect()
    }
}
