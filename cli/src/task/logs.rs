//! `muster task logs`: prints what a task's runs wrote to their logs, from the log stream. Never changes
//! the bytes.

use crate::{
    client::Client,
    completions::WaitReasons,
    exit::Failure,
    ids::Token,
    output::{self, Format},
    stream_reader::{History, StreamReader},
    terminal,
};
use muster_protocol::api::{PageMessage, PageStart};
use serde_json::json;
use std::time::Duration;

/// How often to check whether a followed task has ended.
const ASK_EVERY: Duration = Duration::from_secs(2);

/// How long messages may still be on their way to the stream after a task has ended.
const LINGER: Duration = Duration::from_millis(300);

/// Prints the log so far, and with `follow` the rest until the task has ended.
pub async fn run(
    client: &Client,
    token: &Token,
    follow: bool,
    format: Format,
) -> anyhow::Result<()> {
    let record = client.task(token).await?.record;
    let (id, mut ended) = (record.id, record.is_done());
    let mut replay = StreamReader::open(client, History::Logs(id), PageStart::First).await?;
    let mut shown = Shown { attempt: String::new(), format };
    while let Some(message) = replay.next().await? {
        shown.show(&message)?;
    }
    if !follow {
        return Ok(());
    }
    let mut ask = tokio::time::interval(ASK_EVERY);
    // Give a task that was submitted just now a moment to begin.
    ask.reset();
    let mut waits = WaitReasons::default();
    while !ended {
        tokio::select! {
            message = replay.follow() => shown.show(&message?)?,
            _ = ask.tick() => {
                let views = client.tasks(&[id]).await?;
                waits.tell(&views);
                let gone = || Failure::user(format!("task {id} is gone"));
                ended = views.first().ok_or_else(gone)?.record.is_done();
            }
        }
    }
    while let Ok(message) = tokio::time::timeout(LINGER, replay.follow()).await {
        shown.show(&message?)?;
    }
    Ok(())
}

/// The attempt that was shown last, so that the next one can be announced.
struct Shown {
    attempt: String,
    format: Format,
}

impl Shown {
    fn show(&mut self, message: &PageMessage) -> anyhow::Result<()> {
        // muster.FLEET.log.TASK.ATTEMPT.SOURCE
        let mut tail = message.subject.rsplit('.');
        let (source, attempt) = (tail.next().unwrap_or(""), tail.next().unwrap_or(""));
        if self.format == Format::Json {
            let text = String::from_utf8_lossy(&message.body);
            return output::json_line(&json!({
                "attempt": attempt, "source": source, "text": text
            }));
        }
        if self.attempt != attempt {
            attempt.clone_into(&mut self.attempt);
            let dim = anstyle::Style::new().dimmed();
            terminal::note(&[(dim, &format!("attempt {attempt}:"))]);
        }
        output::raw(&message.body)
    }
}
