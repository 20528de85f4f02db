//! The accounts of a fleet in the configuration of nats-server. The registry's account is for masters alone;
//! what clients and workers may use is imported into accounts of their own. Never writes a file.
//!
//! Permissions inside one account do not protect a registry: whoever may read a message by a request to
//! JetStream chooses where the answer goes, and it may be the key of a record. Between accounts the server
//! replaces that subject by one of its own.

use muster_protocol::{
    WorkerId,
    subject::{Bucket, Endpoint, Names, SERVICE},
};
use std::fmt::Write as _;

/// Who logs in: for each, the fields of a user as nats-server has them, such as `nkey: U…`.
pub struct Logins {
    /// Masters: everything in the registry's account.
    pub master: String,
    /// People who run the fleet: the registry's account, to look at.
    pub observer: String,
    /// Clients that share a login.
    pub client: String,
    /// Clients with a login of their own.
    pub clients: Vec<NamedClient>,
    /// Workers that renew their leases straight in NATS.
    pub workers: Vec<(WorkerId, String)>,
}

/// A client with a login of its own.
pub struct NamedClient {
    /// Its name: masters answer it at subjects that begin with `_INBOX_NAME`, which no other client hears.
    pub name: WorkerId,
    /// See [`Logins`].
    pub login: String,
    /// Whether it hears what is published about the tasks of all groups.
    pub hears: bool,
}

/// The subjects that clients subscribe to, as [`Names`] has them.
const STREAMS: [&str; 4] = ["done", "event", "log", "progress"];

/// The block `accounts` for a fleet. A server with several fleets has the accounts of all of them in one
/// block.
pub fn accounts(names: &Names, logins: &Logins) -> String {
    let fleet = names.fleet();
    let account = |what: &str| format!("{what}_{fleet}");
    let (masters, clients, workers) = (account("masters"), account("clients"), account("workers"));
    let api = format!("muster.{fleet}.api.>");
    let (ping, streams) = (ping(), heard(names));
    let leases = names.key(Bucket::Workers, "*");
    let read_lease = format!("$JS.API.STREAM.MSG.GET.{}", names.stream(Bucket::Workers));
    let mut text = String::from("accounts {\n");
    let mut line = |depth: usize, line: &str| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{:1$}{line}", "", depth * 2);
    };
    line(1, &format!("{masters} {{"));
    line(2, "jetstream: enabled");
    line(2, "users: [");
    line(3, &format!("{{ {} }}", logins.master));
    line(3, "# Sees everything, and could forge records: give it to people who run the fleet.");
    line(3, &format!("{{ {}, permissions: {{", logins.observer));
    line(4, "publish: [");
    for subject in OBSERVED {
        line(5, &format!("\"{subject}\""));
    }
    line(5, &format!("\"{api}\""));
    // By which `muster check` tries whether writes are stored.
    line(5, &format!("\"$O.{}.C.check\"", names.data_store()));
    line(4, "]");
    line(4, "subscribe: \">\"");
    line(3, "} }");
    line(2, "]");
    line(2, "exports: [");
    line(3, &format!("{{ service: \"{api}\", accounts: [{clients}] }}"));
    line(3, &format!("{{ service: \"{ping}\", response: stream, accounts: [{clients}] }}"));
    for subject in &streams {
        line(3, &format!("{{ stream: \"{subject}\", accounts: [{clients}] }}"));
    }
    if !logins.workers.is_empty() {
        line(3, &format!("{{ service: \"{leases}\", accounts: [{workers}] }}"));
        line(3, &format!("{{ service: \"{read_lease}\", accounts: [{workers}] }}"));
    }
    line(2, "]");
    line(1, "}");
    line(1, &format!("{clients} {{"));
    line(2, "users: [");
    let shared = [("_INBOX.>".to_string(), &logins.client, true)].into_iter();
    let named = logins
        .clients
        .iter()
        .map(|client| (format!("_INBOX_{}.>", client.name), &client.login, client.hears));
    for (inbox, login, hears) in shared.chain(named) {
        line(3, &format!("{{ {login}, permissions: {{"));
        line(4, &format!("publish: [\"{api}\", \"{ping}\"]"));
        let heard = streams.iter().filter(|_| hears).map(|subject| format!(", \"{subject}\""));
        line(4, &format!("subscribe: [\"{inbox}\"{}]", heard.collect::<String>()));
        line(3, "} }");
    }
    line(2, "]");
    line(2, "imports: [");
    for subject in [&api, &ping] {
        // By `share` the server tells masters which user asks.
        line(
            3,
            &format!(
                "{{ service: {{ account: {masters}, subject: \"{subject}\" }}, share: true }}"
            ),
        );
    }
    for subject in &streams {
        line(3, &format!("{{ stream: {{ account: {masters}, subject: \"{subject}\" }} }}"));
    }
    line(2, "]");
    line(1, "}");
    if !logins.workers.is_empty() {
        line(1, &format!("{workers} {{"));
        line(2, "users: [");
        for (worker, login) in &logins.workers {
            let lease = names.key(Bucket::Workers, worker);
            line(3, &format!("{{ {login}, permissions: {{"));
            line(4, &format!("publish: [\"{lease}\", \"{read_lease}\"]"));
            line(4, "subscribe: \"_INBOX.>\"");
            line(3, "} }");
        }
        line(2, "]");
        line(2, "imports: [");
        for subject in [&leases, &read_lease] {
            line(3, &format!("{{ service: {{ account: {masters}, subject: \"{subject}\" }} }}"));
        }
        line(2, "]");
        line(1, "}");
    }
    text.push_str("}\n");
    text
}

/// The subjects that clients subscribe to.
pub fn heard(names: &Names) -> [String; 4] {
    STREAMS.map(|what| format!("muster.{}.{what}.>", names.fleet()))
}

/// Each subject to which clients publish.
pub fn asked_by_clients(names: &Names) -> Vec<String> {
    let requests = Endpoint::ALL.iter().map(|endpoint| names.api(*endpoint));
    requests.chain([ping()]).collect()
}

/// A subject of each kind to which observers publish, except the one that is stored. The subjects of JetStream
/// begin with `api`.
pub fn asked_by_observers(names: &Names, api: &str) -> Vec<String> {
    let stream = names.stream(Bucket::Tasks);
    let observed = OBSERVED.map(|subject| {
        let subject = subject.replace("$JS.API", api);
        match subject.strip_suffix(".>") {
            Some(start) => format!("{start}.{stream}.check"),
            None => subject.replace('*', &stream),
        }
    });
    asked_by_clients(names).into_iter().chain(observed).collect()
}

/// The subject at which masters say that they are there.
fn ping() -> String {
    format!("$SRV.PING.{SERVICE}")
}

/// What an observer may ask: about streams and their messages, and who is there.
const OBSERVED: [&str; 12] = [
    "$JS.API.INFO",
    "$JS.API.STREAM.NAMES",
    "$JS.API.STREAM.LIST",
    "$JS.API.STREAM.INFO.*",
    "$JS.API.STREAM.MSG.GET.*",
    "$JS.API.DIRECT.GET.>",
    "$JS.API.CONSUMER.CREATE.>",
    "$JS.API.CONSUMER.INFO.>",
    "$JS.API.CONSUMER.DELETE.>",
    "$JS.API.CONSUMER.MSG.NEXT.>",
    "$JS.FC.>",
    "$SRV.>",
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, path::Path};

    #[test]
    fn the_docs_show_the_accounts_of_a_fleet() {
        let user =
            |name: &str, number: u32| format!("user: {name}, password: change-this-{number}");
        let logins = Logins {
            master: user("master", 1),
            observer: user("observer", 2),
            client: user("client", 3),
            clients: [("alice", 5, true), ("bob", 6, false)]
                .map(|(name, number, hears)| NamedClient {
                    name: name.parse().expect("a name"),
                    login: user(name, number),
                    hears,
                })
                .into(),
            workers: vec![("w1".parse().expect("a name"), user("w1", 4))],
        };
        let text = accounts(&Names::new(Default::default()), &logins);
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/PERMISSIONS.md");
        let page = fs::read_to_string(page).expect("the page");
        assert!(
            page.contains(&format!("```\n{text}```\n")),
            "docs/PERMISSIONS.md should have:\n{text}"
        );
    }
}
