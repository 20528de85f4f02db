//! `muster events`: what happened in the fleet, a line each. Never decides anything by them.

use crate::{
    client::{Client, Reach},
    output::{self, Format},
    quantity,
    replay::{Replay, Start},
};
use anyhow::Context as _;
use clap::Args;
use serde::Deserialize;
use std::time::Duration;

/// How far back, unless told otherwise.
const SINCE_DEFAULT: Duration = Duration::from_secs(3600);

/// Which events.
#[derive(Args)]
pub struct Events {
    /// Go on with what happens from now on
    #[arg(long, short)]
    follow: bool,
    /// Begin so long ago [default: 1h, or now with --follow]
    #[arg(long, value_name = "TIME", value_parser = quantity::duration)]
    since: Option<Duration>,
    /// Print each event's body as a line of JSON; the same as -o json
    #[arg(long)]
    json: bool,
}

/// What a line shows of an event's body.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Body {
    timestamp: String,
    worker: String,
    reason: String,
}

impl Events {
    /// Prints them.
    pub async fn run(self, reach: &Reach, format: Format) -> anyhow::Result<()> {
        let client = Client::connect(reach).await?;
        let start = match (self.since, self.follow) {
            (Some(ago), _) => Start::Since(ago),
            (None, true) => Start::New,
            (None, false) => Start::Since(SINCE_DEFAULT),
        };
        let names = &client.names;
        let mut replay =
            Replay::open(&client, &names.event_stream(), names.events(), start).await?;
        let is_json = self.json || format == Format::Json;
        while let Some(message) = replay.next().await? {
            show(&message, is_json)?;
        }
        if !self.follow {
            return Ok(());
        }
        loop {
            tokio::select! {
                message = replay.follow() => show(&message?, is_json)?,
                interrupt = tokio::signal::ctrl_c() => {
                    return interrupt.context("cannot wait for Ctrl-C");
                }
            }
        }
    }
}

fn show(message: &async_nats::Message, is_json: bool) -> anyhow::Result<()> {
    if is_json {
        output::raw(&message.payload)?;
        return output::raw(b"\n");
    }
    output::line(&sentence(&message.subject, &message.payload))
}

/// `17:02:11 edge task.lost 01j… on w1: reason`.
fn sentence(subject: &str, payload: &[u8]) -> String {
    let body: Body = serde_json::from_slice(payload).unwrap_or_default();
    // muster.FLEET.event.GROUP.ABOUT.WHAT.ID
    let tokens: Vec<&str> = subject.splitn(7, '.').collect();
    let &[_, _, _, group, about, what, id] = tokens.as_slice() else {
        return subject.to_owned();
    };
    let style = output::state_style(what);
    let worker = match body.worker.as_str() {
        "" => String::new(),
        worker if worker == id => String::new(),
        worker => format!(" on {worker}"),
    };
    let reason = if body.reason.is_empty() { body.reason } else { format!(": {}", body.reason) };
    format!(
        "{} {group} {style}{about}.{what}{style:#} {id}{worker}{reason}",
        time_of(&body.timestamp)
    )
}

/// The local time of an RFC 3339 stamp, as far as it is one.
fn time_of(timestamp: &str) -> String {
    match timestamp.parse::<jiff::Timestamp>() {
        Ok(stamp) => stamp.to_zoned(jiff::tz::TimeZone::system()).strftime("%F %T%.3f").to_string(),
        Err(_) => timestamp.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_sentence() {
        let body = br#"{"timestamp":"?","task":"t","worker":"w1","reason":"its lease lapsed"}"#;
        let text = sentence("muster.f.event.edge.task.redispatched.01j", body);
        let text = anstream::adapter::strip_str(&text).to_string();
        assert_eq!(text, "? edge task.redispatched 01j on w1: its lease lapsed");
        assert_eq!(sentence("odd", b"not json"), "odd");
    }
}
