//! `muster top`: shows a fleet on the whole terminal, and lets its user act on workers and tasks. Only this file waits:
//! for keys, answers and events. Never decides what they mean (`keys`, `model`), and never slows tasks: it asks little.

mod draw;
mod event_log;
mod facts;
mod history;
mod keys;
mod model;
mod now;
mod order;
mod poll;
mod rows;
#[cfg(test)]
mod sample;
mod timeline;

use crate::{
    client::{Client, ConnectArgs},
    exit::Failure,
    output::{self, Format},
    quantity,
    stream_reader::{History, StreamReader},
    task::Progress,
    terminal::Screen,
};
use anyhow::Context as _;
use async_nats::Subscriber;
use clap::Args;
use crossterm::event::Event;
use draw::Theme;
use futures::{FutureExt as _, StreamExt as _};
use history::Past;
use keys::Step;
use model::Model;
use muster_protocol::{
    GroupName, TaskId,
    api::{PageMessage, PageStart},
    time::WallMillis,
};
use now::Now;
use poll::{Poll, Round};
use std::{io::IsTerminal as _, time::Duration};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    task::AbortHandle,
    time::{Instant, MissedTickBehavior},
};

/// The least time between two rounds of questions.
const EVERY_MIN: Duration = Duration::from_secs(1);

/// How often ages on the screen are brought up to date.
const DRAW_EVERY: Duration = Duration::from_millis(500);

/// Events that are taken in before keys are looked at again.
const EVENTS_AT_ONCE: usize = 256;

/// Pieces of a log that wait to be shown. Then no more of it is read.
const LOG_PIECES_MAX: usize = 64;

/// What to show.
#[derive(Args)]
#[command(after_help = "Examples:
  muster top
  muster top --group shops      the workers and tasks of one group
  muster top --every 5s         asks the masters less often

Needs a terminal of 60 columns and 12 rows at least. `?` shows the keys. It asks before it changes anything, and shows
the refusal of the masters if you lack the role. It shows the newest 200 tasks of each state, and the events of the last
hour, at most 800. NO_COLOR=1 switches the colours off.

Programs read: muster worker ls -o json, muster task ls -o json, muster events --follow --json")]
pub struct Top {
    /// Only workers and tasks of this group: for a user who may not see the others
    #[arg(long, value_name = "NAME")]
    group: Option<GroupName>,
    /// How often to ask the masters, at most
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = every)]
    every: Duration,
}

fn every(text: &str) -> Result<Duration, String> {
    let every = quantity::duration(text)?;
    match every < EVERY_MIN {
        true => Err(format!("at least {} s", EVERY_MIN.as_secs())),
        false => Ok(every),
    }
}

impl Top {
    /// Shows the fleet until the user leaves.
    pub async fn run(self, connect: &ConnectArgs, format: Format) -> anyhow::Result<()> {
        if format == Format::Json || !std::io::stdout().is_terminal() {
            let failure = Failure::user(
                "`muster top` is for people: it needs a terminal as its standard output",
            );
            return Err(failure.hint("for programs: muster worker ls -o json").into());
        }
        let client = Client::connect(connect).await?;
        let shell = Shell::start(client, self, connect.fleet.as_str()).await?;
        let screen = Screen::open().context("cannot use the terminal")?;
        shell.run(screen).await
    }
}

/// A piece of a log, or a warning about it.
enum LogPiece {
    Text(TaskId, String),
    Warning(String),
}

/// Both ends of a channel.
type Channel<T> = (mpsc::Sender<T>, mpsc::Receiver<T>);

/// Everything that is waited for.
struct Shell {
    client: Client,
    model: Model,
    theme: Theme,
    begin: Instant,
    rounds: mpsc::Receiver<Round>,
    past: mpsc::Receiver<Past>,
    events: Subscriber,
    opened: watch::Sender<Option<TaskId>>,
    /// What the run of the open task reports.
    progress: Option<(TaskId, Subscriber)>,
    /// The task whose log is read, and what ends that.
    reads_log: Option<(TaskId, AbortHandle)>,
    log: Channel<LogPiece>,
    /// What came of orders.
    answers: Channel<Result<String, String>>,
}

impl Shell {
    async fn start(client: Client, top: Top, fleet: &str) -> anyhow::Result<Self> {
        let events = client.nats.subscribe(client.names.events()).await?;
        client.nats.flush().await.context("cannot listen for events")?;
        let (opened, is_opened) = watch::channel(None);
        let (to_rounds, rounds) = mpsc::channel(1);
        let poll =
            Poll { client: client.clone(), group: top.group, every: top.every, opened: is_opened };
        tokio::spawn(poll.run(to_rounds));
        let (to_past, past) = mpsc::channel(1);
        tokio::spawn(history::read(client.clone(), to_past));
        let theme = Theme { is_coloured: output::is_coloured(), local: output::local };
        Ok(Shell {
            client,
            model: Model::new(fleet),
            theme,
            begin: Instant::now(),
            rounds,
            past,
            events,
            opened,
            progress: None,
            reads_log: None,
            log: mpsc::channel(LOG_PIECES_MAX),
            answers: mpsc::channel(1),
        })
    }

    fn now(&self) -> Now {
        Now { wall: output::now(), uptime: self.begin.elapsed() }
    }

    async fn run(mut self, mut screen: Screen) -> anyhow::Result<()> {
        let mut keys = screen.input();
        let mut ended = signal(SignalKind::terminate())?;
        let mut hung_up = signal(SignalKind::hangup())?;
        let mut interrupted = signal(SignalKind::interrupt())?;
        let mut draw = tokio::time::interval(DRAW_EVERY);
        draw.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let mut is_changed = true;
            tokio::select! {
                key = keys.next() => match key {
                    Some(Ok(event)) => if let Some(Step::Leave) = self.key(event) { return Ok(()) },
                    Some(Err(error)) => return Err(error).context("cannot read keys"),
                    None => return Ok(()),
                },
                _ = ended.recv() => return Ok(()),
                _ = hung_up.recv() => return Ok(()),
                _ = interrupted.recv() => return Ok(()),
                round = self.rounds.recv() => self.take_round(round.context("nobody asks the masters")?),
                Some(past) = self.past.recv() => self.take_past(past),
                message = self.events.next() => {
                    let message = message.context("the connection to NATS is closed")?;
                    self.take_events(message);
                    // Ages and rates are brought up to date by the tick, however many events there are.
                    is_changed = false;
                }
                message = next(&mut self.progress) => self.take_progress(&message),
                Some(piece) = self.log.1.recv() => self.take_log(piece),
                Some(answer) = self.answers.1.recv() => {
                    let now = self.now();
                    let is_failure = answer.is_err();
                    self.model.tell(answer.unwrap_or_else(|refusal| refusal), is_failure, now);
                }
                _ = draw.tick() => {}
            }
            self.follow_model().await?;
            if is_changed {
                let (now, theme) = (self.now(), self.theme);
                screen.draw(|frame| draw::draw(frame, &mut self.model, theme, now))?;
            }
        }
    }

    /// Takes a key or a change of the size.
    fn key(&mut self, event: Event) -> Option<Step> {
        let Event::Key(key) = event else { return None };
        let now = self.now();
        match keys::press(&mut self.model, key, now)? {
            Step::Leave => Some(Step::Leave),
            Step::Send(order) => {
                let (client, answers) = (self.client.clone(), self.answers.0.clone());
                tokio::spawn(async move {
                    let answer = order.send(&client).await;
                    let _ = answers.send(answer).await;
                });
                None
            }
        }
    }

    fn take_round(&mut self, round: Round) {
        let now = self.now();
        match round {
            Round::Read(reading) => {
                self.model.facts.read(*reading, now);
                self.model.refresh();
            }
            Round::Silent(why) => self.model.facts.silent(why),
        }
    }

    fn take_past(&mut self, Past { messages, is_cut, is_all }: Past) {
        let now = self.now();
        let log = &mut self.model.facts.log;
        if is_cut || log.since.is_none() {
            let hour = now.wall.0.saturating_sub(history::SINCE.as_millis() as u64);
            let oldest = messages.first().filter(|_| is_cut).and_then(event_log::stamp_of);
            log.since = Some(oldest.unwrap_or(WallMillis(hour)));
        }
        for PageMessage { subject, body, .. } in &messages {
            match is_all {
                true => log.heard(subject, body, now),
                false => log.read(subject, body),
            }
        }
    }

    fn take_events(&mut self, first: async_nats::Message) {
        let now = self.now();
        let mut next = Some(first);
        for _ in 0..EVENTS_AT_ONCE {
            let Some(message) = next else { return };
            self.model.facts.log.heard(&message.subject, &message.payload, now);
            next = self.events.next().now_or_never().flatten();
        }
        if let Some(message) = next {
            self.model.facts.log.heard(&message.subject, &message.payload, now);
        }
    }

    fn take_progress(&mut self, message: &async_nats::Message) {
        let progress: Option<Progress> = serde_json::from_slice(&message.payload).ok();
        if let (Some(progress), Some((task, _))) = (progress, &self.progress) {
            self.model.progress(*task, progress);
        }
    }

    fn take_log(&mut self, piece: LogPiece) {
        let now = self.now();
        match piece {
            LogPiece::Text(task, text) => self.model.log(task, &text),
            LogPiece::Warning(text) => self.model.tell(text, true, now),
        }
    }

    /// Listens to the task that is open now, and to no other.
    async fn follow_model(&mut self) -> anyhow::Result<()> {
        let (opened, followed) = (self.model.opened(), self.model.followed());
        if *self.opened.borrow() != opened {
            self.opened.send_replace(opened);
            self.progress = match opened {
                Some(task) => {
                    let subject = self.client.names.progress(task);
                    Some((task, self.client.nats.subscribe(subject).await?))
                }
                None => None,
            };
        }
        if self.reads_log.as_ref().map(|(task, _)| *task) != followed {
            if let Some((_, reads)) = self.reads_log.take() {
                reads.abort();
            }
            self.reads_log = followed.map(|task| {
                let (client, to) = (self.client.clone(), self.log.0.clone());
                let reads = tokio::spawn(async move {
                    if let Err(error) = read_log(client, task, to.clone()).await {
                        let _ = to.send(LogPiece::Warning(format!("{error:#}"))).await;
                    }
                });
                (task, reads.abort_handle())
            });
        }
        Ok(())
    }
}

/// The next progress report, or for ever nothing if no task is open.
async fn next(progress: &mut Option<(TaskId, Subscriber)>) -> async_nats::Message {
    if let Some((_, reports)) = progress
        && let Some(message) = reports.next().await
    {
        return message;
    }
    std::future::pending().await
}

/// Reads the log of a task, as it grows, until nobody takes it.
async fn read_log(client: Client, task: TaskId, to: mpsc::Sender<LogPiece>) -> anyhow::Result<()> {
    let warnings = to.clone();
    let warn = move |text: &str| _ = warnings.try_send(LogPiece::Warning(text.into()));
    let opened = StreamReader::open_with(&client, History::Logs(task), PageStart::First, warn);
    let mut reader = opened.await?;
    loop {
        let message = reader.follow().await?;
        let text = String::from_utf8_lossy(&message.body).into_owned();
        to.send(LogPiece::Text(task, text)).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_names_the_limits() {
        let help =
            Top::augment_args(clap::Command::new("top")).get_after_help().map(ToString::to_string);
        let help = help.expect("there is one").replace('\n', " ");
        for limit in [
            format!("{} columns and {} rows", draw::WIDTH_MIN, draw::HEIGHT_MIN),
            format!("newest {} tasks", poll::TASKS_MAX),
            format!("at most {}", history::EVENTS_MAX),
        ] {
            assert!(help.contains(&limit), "{limit}");
        }
    }

    #[test]
    fn masters_are_asked_once_a_second_at_most() {
        assert_eq!(every("1s"), Ok(Duration::from_secs(1)));
        assert!(every("999ms").is_err() && every("often").is_err());
    }
}
