//! A web server that reads late: it notes which attempt sent what, and until when that attempt must
//! still have been sending. It never judges.
//!
//! When a request is read says little about when it was sent: the kernels on both sides hold what nobody
//! reads. So the bodies are much larger than what this side's kernel holds ([`HELD_MAX`]): if more than
//! that was read after a moment, the sender must have sent some of it after that moment.

use super::{Rng, now_ns};
use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

/// What is asked of the kernel as a receive buffer.
const RECEIVE_BUFFER: u32 = 16 * 1024;

/// What the kernel holds at most of what was received: it doubles what is asked for, and takes one
/// segment more, which may be as large as 64 KiB on a link between two namespaces.
const HELD_MAX: u64 = 2 * RECEIVE_BUFFER as u64 + 64 * 1024;

/// A body that is some times as large.
pub const BODY: u64 = 512 * 1024;

/// What is read at once.
const CHUNK: usize = 8 * 1024;

/// The most of a request's head.
const HEAD_MAX: usize = 16 * 1024;

/// How often in a hundred a pause comes before a chunk. Of the [`BODY`]'s chunks about two.
const PAUSE_PERCENT: u64 = 3;

/// Pauses in one request: a worker waits 30 s for each step of one, and no longer.
const PAUSES_MAX: usize = 2;

/// The end of a body whose length was not said. The bodies are of one letter, so it comes once.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// What was read of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Whose, by its header.
    pub task: String,
    /// Whose, by its header.
    pub attempt: String,
    /// Bytes of it were still to be sent at this moment: more was read later than the kernel holds.
    /// 0 where that is not known of any moment.
    pub sending_ns: u64,
    /// When its last byte was read.
    pub read_ns: u64,
    /// Whether that was the last byte of its body.
    pub is_whole: bool,
}

/// What was read so far, of requests that are over.
#[derive(Clone, Debug, Default)]
pub struct Sink(Arc<Mutex<Vec<Request>>>);

impl Sink {
    /// Begins to listen on this machine's address `ip`; where. `longest` is the longest pause.
    ///
    /// # Errors
    ///
    /// When there is no free port.
    pub async fn listen(
        ip: IpAddr,
        longest: Duration,
        mut rng: Rng,
    ) -> anyhow::Result<(Self, SocketAddr)> {
        let socket = if ip.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        socket.bind(SocketAddr::new(ip, 0))?;
        let listener = socket.listen(64)?;
        let address = listener.local_addr()?;
        let sink = Sink::default();
        let requests = sink.clone();
        tokio::spawn(async move {
            loop {
                let Ok((connection, _)) = listener.accept().await else { continue };
                let rng = Rng::new(rng.within(0, u64::MAX));
                tokio::spawn(requests.clone().serve(connection, rng, longest));
            }
        });
        Ok((sink, address))
    }

    /// The requests that are over.
    pub fn requests(&self) -> Vec<Request> {
        self.0.lock().expect("no holder of this lock panics").clone()
    }

    /// Reads one request, notes it, and answers if it was whole.
    async fn serve(self, mut connection: TcpStream, mut rng: Rng, longest: Duration) {
        let Some((head, mut body)) = head(&mut connection).await else { return };
        let (Some(task), Some(attempt)) =
            (field(&head, "muster-task"), field(&head, "muster-attempt"))
        else {
            return;
        };
        let length = field(&head, "content-length").and_then(|length| length.parse::<usize>().ok());
        let is_whole = |body: &[u8]| match length {
            Some(length) => body.len() >= length,
            None => body.ends_with(LAST_CHUNK),
        };
        // How much had been read when, each time before it is waited for more.
        let mut looks = Vec::new();
        let (mut read_ns, mut chunk, mut pauses) = (now_ns(), [0; CHUNK], 0);
        while !is_whole(&body) {
            if pauses < PAUSES_MAX && rng.percent(PAUSE_PERCENT) {
                pauses += 1;
                tokio::time::sleep(rng.time(Duration::ZERO, longest)).await;
            }
            looks.push((now_ns(), body.len()));
            match connection.read(&mut chunk).await {
                Ok(size) if size > 0 => {
                    body.extend_from_slice(&chunk[..size]);
                    read_ns = now_ns();
                }
                // Its sender has ended it, as it must when its lease ends.
                _ => break,
            }
        }
        let after = |&&(_, read): &&(u64, usize)| (body.len() - read) as u64 > HELD_MAX;
        let sending_ns = looks.iter().rfind(after).map_or(0, |(at_ns, _)| *at_ns);
        let is_whole = is_whole(&body);
        let request = Request { task, attempt, sending_ns, read_ns, is_whole };
        self.0.lock().expect("no holder of this lock panics").push(request);
        if is_whole {
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
            let _ = connection.write_all(answer).await;
        }
    }
}

/// The lines before the body, and what was read of the body with them.
async fn head(connection: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    const END: &[u8] = b"\r\n\r\n";
    let mut read = Vec::new();
    loop {
        if let Some(at) = read.windows(END.len()).position(|window| window == END) {
            let body = read.split_off(at + END.len());
            return Some((String::from_utf8_lossy(&read).into_owned(), body));
        }
        if read.len() > HEAD_MAX || connection.read_buf(&mut read).await.ok()? == 0 {
            return None;
        }
    }
}

/// A header's value.
fn field(head: &str, name: &str) -> Option<String> {
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    let found = fields.find(|(field, _)| field.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.trim().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn it_notes_who_sent_what_and_until_when() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a thread").block_on(async {
            let ip = Ipv4Addr::LOCALHOST.into();
            let (sink, address) =
                Sink::listen(ip, Duration::ZERO, Rng::new(1)).await.expect("a port");
            let mut connection = TcpStream::connect(address).await.expect("it listens");
            let head = "POST / HTTP/1.1\r\nMuster-Task: t\r\nmuster-attempt: a\r\n\r\n";
            let before = now_ns();
            connection.write_all(head.as_bytes()).await.expect("written");
            let chunk = format!("80000\r\n{}\r\n0\r\n\r\n", "x".repeat(0x80000));
            connection.write_all(chunk.as_bytes()).await.expect("written");
            let mut answer = String::new();
            connection.read_to_string(&mut answer).await.expect("an answer");
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            let [request] = &sink.requests()[..] else { panic!("{sink:?}") };
            assert_eq!((&*request.task, &*request.attempt, request.is_whole), ("t", "a", true));
            assert!(request.sending_ns >= before && request.read_ns >= request.sending_ns);
        });
    }
}
