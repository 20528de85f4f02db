//! A web server that reads slowly. It notes which attempt sent which request, and until when that
//! attempt must still have been sending. Never judges.
//!
//! The time at which a request is read says little about the time at which it was sent: the kernels on
//! both sides buffer unread bytes. So the bodies are much larger than the buffer of this side's kernel
//! ([`HELD_MAX`]). If the server reads more than that after a given time, the attempt must have sent
//! some of it after that time.

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

/// The size of the receive buffer that is requested from the kernel.
const RECEIVE_BUFFER: u32 = 16 * 1024;

/// The most received bytes that the kernel holds: it doubles the requested size, and accepts one segment
/// more, which may be as large as 64 KiB on a link between two namespaces.
const HELD_MAX: u64 = 2 * RECEIVE_BUFFER as u64 + 64 * 1024;

/// The size of a body in bytes: a few times `HELD_MAX`.
pub const BODY: u64 = 512 * 1024;

/// The most bytes of one read.
const CHUNK: usize = 8 * 1024;

/// The largest head of a request, in bytes.
const HEAD_MAX: usize = 16 * 1024;

/// The probability, in percent, of a pause before a chunk: about two pauses for the chunks of a
/// [`BODY`].
const PAUSE_PERCENT: u64 = 3;

/// The most pauses in one request: a worker waits no longer than 30 s for each step of a request.
const PAUSES_MAX: usize = 2;

/// The end of a body of unknown length. The bodies consist of one letter, so these bytes occur once.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// An observation of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The task that sent it, from its header.
    pub task: String,
    /// The attempt that sent it, from its header.
    pub attempt: String,
    /// A time at which some of its bytes were still to be sent, because more was read later than the
    /// kernel holds. 0 if no such time is known.
    pub sending_ns: u64,
    /// When its last byte was read.
    pub read_ns: u64,
    /// Whether the last byte of its body was read.
    pub is_whole: bool,
}

/// The observations of requests that are over.
#[derive(Clone, Debug, Default)]
pub struct Sink(Arc<Mutex<Vec<Request>>>);

impl Sink {
    /// Starts to listen on this machine's address `ip`, and returns the address with the port. `longest`
    /// is the longest pause.
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

    /// Reads one request, notes it, and answers if the request was complete.
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
        // Before each read: the time, and the number of bytes read so far.
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
                // The sender has closed the connection, as it must when its lease ends.
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

/// The lines before the body, and the bytes of the body that were read with them.
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

/// The value of a header.
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
