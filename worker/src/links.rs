//! The links to masters that are up. The loop, the lease and the runs send over them; only `link` opens them.

pub(crate) use muster_protocol::attempts::LinkId;

use muster_protocol::message::{LogChunk, ToMaster};
use muster_wire::link::Connection;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};
use tokio::sync::mpsc;

/// The links that are up, by their numbers; a reconnect has another.
pub(crate) type Links = Arc<Mutex<BTreeMap<LinkId, LinkHandle>>>;

/// The sending side of a link: the queue of frames, the queue of logs, and the connection for objects.
#[derive(Clone, Debug)]
pub(crate) struct LinkHandle {
    pub frames: mpsc::Sender<ToMaster>,
    pub logs: mpsc::Sender<LogChunk>,
    pub connection: Connection,
    /// The newest version of frames that this worker and the master speak.
    pub version: u16,
}
