//! Starts the masters of a fleet. Never knows what they do.

use super::{Fleet, text, wait_for};
use crate::net::own_port;
use serde_json::Value;
use std::net::SocketAddr;

impl Fleet {
    /// Starts a master and waits until it serves. A restarted master has the same port as before.
    pub fn start_master(&mut self, name: &str) {
        self.start_master_with(name, &[]);
    }

    /// Like [`Fleet::start_master`], with further options.
    pub fn start_master_with(&mut self, name: &str, options: &[&str]) {
        self.launch_master_with(name, options);
        let ready = self.path(&format!("{name}.ready"));
        let quic = wait_for("the master to serve", || {
            let ready: Value = serde_json::from_slice(&std::fs::read(&ready).ok()?).ok()?;
            ready["quic"].as_str()?.parse().ok()
        });
        self.quic.insert(name.into(), quic);
    }

    /// Starts a master, without waiting until it serves.
    pub fn launch_master(&mut self, name: &str) {
        self.launch_master_with(name, &[]);
    }

    /// Like [`Fleet::launch_master`], with further options.
    pub fn launch_master_with(&mut self, name: &str, options: &[&str]) {
        let known = self.quic.get(name).copied();
        let listen = known
            .unwrap_or_else(|| SocketAddr::new(self.net.address(name), own_port()))
            .to_string();
        let nats = self.nats_from(name);
        let mut command = self.daemon("master", name);
        command.args(["--listen", &listen]).args(nats).args(options);
        command.args(self.master_options());
        command.args(["--state-dir", text(&self.path(&format!("{name}.state")))]);
        self.spawn(name, command);
    }
}
