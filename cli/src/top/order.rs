//! What the user may ask of the fleet: commands to workers, and cancellations. Each is the request of the command of the
//! same name. Never sends one that the user has not confirmed.

use crate::{client::Client, quantity, task, terminal, worker};
use muster_protocol::{TaskId, WorkerId, message::WorkerCommand};
use std::time::Duration;

/// A request that changes something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Empty a worker.
    Drain(WorkerId),
    /// Give a worker no new tasks.
    Cordon(WorkerId),
    /// Give a worker tasks again.
    Uncordon(WorkerId),
    /// Cancel a task.
    Cancel(TaskId),
}

impl Order {
    /// What the user is asked before it is sent.
    pub fn question(&self) -> String {
        match self {
            Order::Drain(worker) => format!(
                "drain {worker}? Tasks that still run after {} move elsewhere",
                worker::DRAIN_DEADLINE
            ),
            Order::Cordon(worker) => format!("cordon {worker}? It gets no new tasks"),
            Order::Uncordon(worker) => format!("uncordon {worker}? It gets tasks again"),
            Order::Cancel(task) => format!("cancel {task}? Its run is stopped"),
        }
    }

    /// What is being done.
    pub fn name(&self) -> String {
        match self {
            Order::Drain(worker) => format!("drain {worker}"),
            Order::Cordon(worker) => format!("cordon {worker}"),
            Order::Uncordon(worker) => format!("uncordon {worker}"),
            Order::Cancel(task) => format!("cancel {task}"),
        }
    }

    /// Sends it. Returns what came of it as a sentence without control characters.
    pub async fn send(&self, client: &Client) -> Result<String, String> {
        let refused = |error: anyhow::Error| {
            terminal::escaped(&format!("{} was refused: {error:#}", self.name()))
        };
        let command = |worker: &WorkerId, order: WorkerCommand| {
            let worker = worker.clone();
            async move { worker::send_command(client, &worker, order).await }
        };
        match self {
            Order::Drain(name) => {
                let deadline = quantity::duration(worker::DRAIN_DEADLINE).unwrap_or(Duration::ZERO);
                let deadline_ms = deadline.as_millis() as u64;
                command(name, WorkerCommand::Drain { deadline_ms }).await.map_err(refused)?;
            }
            Order::Cordon(name) => command(name, WorkerCommand::Cordon).await.map_err(refused)?,
            Order::Uncordon(name) => {
                command(name, WorkerCommand::Uncordon).await.map_err(refused)?
            }
            Order::Cancel(id) => {
                let found = task::cancel_all(client, &[*id]).await.map_err(refused)?;
                let view = found.tasks.first().ok_or_else(|| format!("there is no task {id}"))?;
                let said = format!("{id} {}: {}", view.record.state.word(), view.why);
                return Ok(terminal::escaped(&said));
            }
        }
        Ok(format!("{}: done", self.name()))
    }
}
