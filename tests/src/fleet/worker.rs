//! Launches the workers of a fleet. Never knows what they do.

use super::{Fleet, text};
use crate::{net::Carrier, place};
use std::{net::SocketAddr, process::Command};

impl Fleet {
    /// Starts a worker that may reach NATS, and waits until it is ready.
    pub fn start_worker(&mut self, name: &str, options: &[&str]) {
        self.launch_worker(name, options);
        self.until_ready(name);
    }

    /// Launches a worker that knows only its master, in an environment that names the NATS server
    /// `nats`.
    pub fn launch_worker_in_shell(&mut self, name: &str, nats: &str) {
        let mut command = self.daemon("worker", name);
        command.env("MUSTER_NATS", nats);
        self.launch_as_worker(command, name, &[]);
    }

    /// Launches a worker that may reach NATS, without waiting until it holds a lease.
    pub fn launch_worker(&mut self, name: &str, options: &[&str]) {
        let nats = self.nats_from(name);
        let nats = nats.iter().map(String::as_str);
        let options: Vec<&str> = options.iter().copied().chain(nats).collect();
        self.launch_worker_without_nats(name, &options);
    }

    /// Starts a worker that knows only its master, and waits until it is ready.
    pub fn start_worker_without_nats(&mut self, name: &str, options: &[&str]) {
        self.launch_worker_without_nats(name, options);
        self.until_ready(name);
    }

    fn launch_worker_without_nats(&mut self, name: &str, options: &[&str]) {
        let command = self.daemon("worker", name);
        self.launch_as_worker(command, name, options);
    }

    /// Launches a worker on a new host: it has a state directory, these options and nothing else.
    pub fn launch_new_worker(&mut self, alias: &str, options: &[&str]) {
        let mut command = self.net.command(alias, &place::program("muster"));
        let ready = self.path(&format!("{alias}.ready"));
        let _ = std::fs::remove_file(&ready);
        command.env_remove("MUSTER_NATS").args(["worker", "--until-stdin-closes", "--allow-root"]);
        command.args(["--ready-file", text(&ready)]);
        command.args(["--state-dir", text(&self.path(&format!("{alias}.state")))]).args(options);
        self.spawn(alias, command);
    }

    /// Launches a worker whose only master, no process of this fleet, is at an address.
    pub fn launch_worker_of(&mut self, name: &str, master: SocketAddr) {
        let command = self.daemon("worker", name);
        self.launch_as_worker(command, name, &["--master", &master.to_string()]);
    }

    /// Launches a worker with the program `muster-worker`.
    pub fn launch_lone_worker(&mut self, name: &str, options: &[&str]) {
        let nats = self.nats_from(name);
        let command = self.net.command(name, &place::program("muster-worker"));
        let command = self.introduced(command, "worker", name);
        let nats = nats.iter().map(String::as_str);
        let options: Vec<&str> = options.iter().copied().chain(nats).collect();
        self.launch_as_worker(command, name, &options);
    }

    /// Launches a second process under the worker name `name`, called `alias` in this fleet, with the
    /// state directory that `options` name.
    pub fn launch_twin(&mut self, alias: &str, name: &str, options: &[&str]) {
        let nats = self.nats_from(name);
        let mut command = self.net.command(name, &place::program("muster"));
        command.arg("worker");
        let mut command = self.introduced_as(command, name, alias);
        self.masters_of(&mut command, name);
        command.args(options).args(nats);
        self.spawn(alias, command);
    }

    fn masters_of(&mut self, command: &mut Command, name: &str) {
        for (master, quic) in &self.quic {
            let quic = self.net.way(name, master, *quic, Carrier::Udp);
            command.args(["--master", &quic.to_string()]);
        }
        // Whoever runs tests may be root. The program of an earlier version does not know this option.
        if !self.programs.contains_key(name) {
            command.arg("--allow-root");
        }
    }

    pub(super) fn launch_as_worker(&mut self, mut command: Command, name: &str, options: &[&str]) {
        self.masters_of(&mut command, name);
        command.args(["--state-dir", text(&self.path(&format!("{name}.state")))]).args(options);
        self.spawn(name, command);
    }
}
