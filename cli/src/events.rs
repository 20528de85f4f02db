//! `muster events`: prints events of the fleet, one per line. Never makes a decision from them.

use crate::{
    client::{Client, ConnectArgs},
    output::{self, Format},
    quantity,
    stream_reader::{History, StreamReader},
    terminal::plain,
};
use anyhow::Context as _;
use clap::Args;
use muster_protocol::{
    AttemptId,
    api::{PageMessage, PageStart},
    time::WallMillis,
};
use serde::Deserialize;
use std::time::Duration;

/// How far back, unless told otherwise.
const SINCE_DEFAULT: Duration = Duration::from_secs(3600);

/// Which events.
#[derive(Args)]
pub struct Events {
    /// Continue with events that happen from now on
    #[arg(long, short)]
    follow: bool,
    /// Begin this long ago [default: 1h, or now with --follow]
    #[arg(long, value_name = "TIME", value_parser = quantity::duration)]
    since: Option<Duration>,
    /// Print each event's body as a line of JSON; the same as -o json
    #[arg(long)]
    json: bool,
}

/// What is read of an event's body.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Body {
    /// The session of the master that has published it, a hyphen, and a number.
    pub id: String,
    /// When, by that master's wall clock.
    pub timestamp: String,
    /// The master that it is about, or that has published it.
    pub master: Option<String>,
    /// What it is about, unless that is several tasks.
    #[serde(flatten)]
    pub about: Concerned,
    /// The tasks that it is about.
    pub tasks: Vec<Concerned>,
}

/// A task or a worker that an event is about.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Concerned {
    /// The id of the task; empty if it is about none.
    pub task: String,
    /// The attempt.
    pub attempt: Option<AttemptId>,
    /// The name of the worker; empty if it is about none.
    pub worker: String,
    /// Why, as a sentence; often empty.
    pub reason: String,
}

impl Events {
    /// Prints them.
    pub async fn run(self, connect: &ConnectArgs, format: Format) -> anyhow::Result<()> {
        let client = Client::connect(connect).await?;
        let start = match (self.since, self.follow) {
            (Some(ago), _) => since(ago),
            (None, true) => PageStart::New,
            (None, false) => since(SINCE_DEFAULT),
        };
        let mut replay = StreamReader::open(&client, History::Events, start).await?;
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

fn since(ago: Duration) -> PageStart {
    PageStart::SinceMs(ago.as_millis().try_into().unwrap_or(u64::MAX))
}

fn show(message: &PageMessage, is_json: bool) -> anyhow::Result<()> {
    if is_json {
        output::raw(&message.body)?;
        return output::raw(b"\n");
    }
    let sentences = sentences(&message.subject, &message.body);
    sentences.iter().try_for_each(|Sentence { style, when, what, more }| {
        output::pieces(&[plain(when), (*style, what), plain(more)])
    })
}

/// What the subject of an event says.
pub struct Tokens<'a> {
    /// The group, or `all`.
    pub group: &'a str,
    /// To what kind of thing it happened: `task`, `worker`, …
    pub about: &'a str,
    /// What happened.
    pub what: &'a str,
    /// The batch of tasks, or the name of another thing.
    pub id: &'a str,
}

impl<'a> Tokens<'a> {
    /// Reads `muster.FLEET.event.GROUP.ABOUT.WHAT.ID`.
    pub fn of(subject: &'a str) -> Option<Self> {
        let mut tokens = subject.splitn(7, '.').skip(3);
        let mut token = || tokens.next();
        Some(Tokens { group: token()?, about: token()?, what: token()?, id: token()? })
    }
}

/// A line about something that happened.
pub struct Sentence {
    /// The local time and the group, with a space after each.
    pub when: String,
    /// The style of what happened.
    pub style: anstyle::Style,
    /// What happened, such as `worker.lost`.
    pub what: String,
    /// A space, and then to what, where and why.
    pub more: String,
}

/// `17:02:11 edge task.lost 01j… on w1: reason`, for each task where it is about tasks.
pub fn sentences(subject: &str, payload: &[u8]) -> Vec<Sentence> {
    let body: Body = serde_json::from_slice(payload).unwrap_or_default();
    let Some(Tokens { group, about, what, id }) = Tokens::of(subject) else {
        let style = anstyle::Style::new();
        let what = subject.to_owned();
        return vec![Sentence { when: String::new(), style, what, more: String::new() }];
    };
    let (time, style) = (time_of(&body.timestamp), output::event_style(what));
    let line = |id: &str, concerned: &Concerned| {
        let worker = match concerned.worker.as_str() {
            "" => String::new(),
            worker if worker == id => String::new(),
            worker => format!(" on {worker}"),
        };
        let reason = match concerned.reason.as_str() {
            "" => String::new(),
            reason => format!(": {reason}"),
        };
        Sentence {
            when: format!("{time} {group} "),
            style,
            what: format!("{about}.{what}"),
            more: format!(" {id}{worker}{reason}"),
        }
    };
    match body.tasks.as_slice() {
        [] => vec![line(id, &body.about)],
        tasks => tasks.iter().map(|task| line(&task.task, task)).collect(),
    }
}

/// An RFC 3339 stamp in milliseconds since 1970, if it is one.
pub fn wall_of(timestamp: &str) -> Option<WallMillis> {
    let stamp = timestamp.parse::<jiff::Timestamp>().ok()?;
    u64::try_from(stamp.as_millisecond()).ok().map(WallMillis)
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
        let shown = |subject: &str, body: &[u8]| {
            let text = |line: &Sentence| format!("{}{}{}", line.when, line.what, line.more);
            sentences(subject, body).iter().map(text).collect::<Vec<_>>()
        };
        let body = br#"{"timestamp":"?","worker":"w1","reason":"its lease lapsed"}"#;
        assert_eq!(
            shown("muster.f.event.edge.worker.lost.w1", body),
            ["? edge worker.lost w1: its lease lapsed"]
        );
        let body = br#"{"timestamp":"?","tasks":[{"task":"t1","worker":"w1","reason":"why"},{"task":"t2"}]}"#;
        assert_eq!(
            shown("muster.f.event.edge.task.redispatched.b", body),
            ["? edge task.redispatched t1 on w1: why", "? edge task.redispatched t2"]
        );
        assert_eq!(shown("odd", b"not json"), ["odd"]);
    }
}
