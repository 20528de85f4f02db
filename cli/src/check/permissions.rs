//! Checks which subjects NATS lets the user of this command use, by using each of them. Never sends what a master
//! or a server would act on: the messages are empty, and nobody waits for the answers.

use super::{Finding, few};
use crate::{
    accounts,
    client::{Client, ConnectArgs, watched},
};
use muster_wire::nats::NatsRefusal;
use std::{collections::BTreeSet, time::Duration};

/// The client library tells of a refusal a moment after the server has sent it.
const TOLD_WITHIN: Duration = Duration::from_millis(100);

/// The page that lists what each kind of user needs.
const PAGE: &str = "docs/PERMISSIONS.md lists what each kind of user needs";

/// What a server has refused.
#[derive(Debug, Default, PartialEq, Eq)]
struct Refused {
    publish: BTreeSet<String>,
    subscribe: BTreeSet<String>,
}

/// Checks what a client needs, or what an observer needs, who logs in to the registry's account.
pub(super) async fn look(
    client: &Client,
    connect: &ConnectArgs,
    is_client: bool,
    findings: &mut Vec<Finding>,
) {
    let publish = match is_client {
        true => accounts::asked_by_clients(&client.names),
        false => accounts::asked_by_observers(&client.names, &client.jetstream.api()),
    };
    let subscribe = accounts::heard(&client.names);
    findings.push(match try_all(connect, &publish, &subscribe).await {
        Ok(refused) => found(&refused, publish.len(), subscribe.len(), is_client),
        Err(error) => Finding::warn("permissions", format!("not tried: {error:#}")),
    });
}

async fn try_all(
    connect: &ConnectArgs,
    publish: &[String],
    subscribe: &[String],
) -> anyhow::Result<Refused> {
    let (nats, mut told) = watched(connect, publish.len() + subscribe.len()).await?;
    for subject in publish {
        // Masters log requests that have no inbox.
        nats.publish_with_reply(subject.clone(), nats.new_inbox(), Default::default()).await?;
    }
    let mut subscriptions = Vec::new();
    for subject in subscribe {
        subscriptions.push(nats.subscribe(subject.clone()).await?);
    }
    nats.flush().await?;
    let mut refused = Refused::default();
    while let Ok(Some(refusal)) = tokio::time::timeout(TOLD_WITHIN, told.recv()).await {
        match refusal {
            NatsRefusal::Publish(subject) => refused.publish.insert(subject),
            NatsRefusal::Subscribe(subject) => refused.subscribe.insert(subject),
            NatsRefusal::Payload | NatsRefusal::Other(_) => false,
        };
    }
    Ok(refused)
}

fn found(refused: &Refused, published: usize, subscribed: usize, is_client: bool) -> Finding {
    let Refused { publish, subscribe } = refused;
    // Such a client is made on purpose: what is published is about all groups.
    let is_restricted = is_client && subscribe.len() == subscribed;
    if publish.is_empty() && (subscribe.is_empty() || is_restricted) {
        let hears = match is_restricted {
            true => "you hear nothing that masters publish, and commands ask them instead",
            false => "you hear what masters publish",
        };
        let detail = format!("NATS lets you use all {published} subjects of requests; {hears}");
        return Finding::ok("permissions", detail);
    }
    let part = |verb: &str, subjects: &BTreeSet<String>| {
        let subjects: Vec<String> = subjects.iter().cloned().collect();
        (!subjects.is_empty()).then(|| format!("{verb} {}", few(&subjects)))
    };
    let parts = [part("publish to", publish), part("subscribe to", subscribe)];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    let detail = format!("NATS does not let you {}", parts.join("; "));
    let names = publish.iter().chain(subscribe).cloned().collect();
    Finding::warn("permissions", detail).hint(PAGE).names(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Health;

    #[test]
    fn a_client_that_hears_nothing_is_well_and_one_that_lacks_something_is_told_what() {
        let set = |subjects: &[&str]| subjects.iter().map(ToString::to_string).collect();
        let found = |publish: &[&str], subscribe: &[&str], is_client| {
            let refused = Refused { publish: set(publish), subscribe: set(subscribe) };
            let found = super::found(&refused, 3, 2, is_client);
            (found.health, found.detail, found.names)
        };
        assert_eq!(found(&[], &[], true).0, Health::Ok);
        assert_eq!(found(&[], &["d.>", "l.>"], true).0, Health::Ok);
        assert_eq!(found(&[], &["d.>", "l.>"], false).0, Health::Warn);
        let (health, detail, names) = found(&["a.b"], &["d.>"], true);
        assert_eq!(health, Health::Warn);
        assert_eq!(detail, "NATS does not let you publish to a.b; subscribe to d.>");
        assert_eq!(names, ["a.b", "d.>"]);
    }
}
