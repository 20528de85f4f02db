//! The ports on which daemons listen. Never one of those that the kernel gives to sockets that ask for any
//! port: while a daemon is down between two starts, such a socket of any process could get its port.

use std::{
    net::{Ipv4Addr, TcpListener, UdpSocket},
    process,
    sync::atomic::{AtomicU16, Ordering},
};

/// The lowest of these ports. By default Linux gives ports from 32,768 on to sockets that ask for any port.
const FIRST: u16 = 10_000;

/// How many ports each process has. Test processes that run at the same time have different ones.
const PER_PROCESS: u16 = 32;

/// How many processes have ports of their own.
const PROCESSES: u16 = 700;

/// The next free port of this process.
///
/// # Panics
///
/// When others listen on all of them.
pub fn own_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = FIRST + (process::id() % u32::from(PROCESSES)) as u16 * PER_PROCESS;
    let is_free = |port: &u16| {
        let here = (Ipv4Addr::LOCALHOST, *port);
        TcpListener::bind(here).is_ok() && UdpSocket::bind(here).is_ok()
    };
    let ports =
        (0..PER_PROCESS).map(|_| first + NEXT.fetch_add(1, Ordering::Relaxed) % PER_PROCESS);
    ports.into_iter().find(is_free).expect("a port of this process is free")
}
