//! How many bytes of a connection the kernel still holds. Makes one system call, and never has an
//! effect on the connection.
//!
//! Neither the standard library nor rustix nor nix has a safe function for this.
#![allow(unsafe_code)]

use rustix::ioctl::{Getter, Opcode, ioctl};
use std::{ffi::c_int, io, os::fd::AsFd};

/// The request, under its name for terminals. For a TCP socket it is called `SIOCOUTQ`.
const OUTPUT_QUEUE: Opcode = nix::libc::TIOCOUTQ as Opcode;

/// Bytes that were written to a TCP socket and not yet acknowledged by the kernel of the other side.
pub(super) fn unsent(socket: impl AsFd) -> io::Result<u64> {
    // SAFETY: the request reads nothing and writes one `int` to the given address (`tcp_ioctl` in
    // Linux, with `put_user`), and `Getter` provides space for one. Other kinds of descriptors write
    // one `int` or fail.
    let bytes = unsafe { ioctl(socket, Getter::<OUTPUT_QUEUE, c_int>::new()) }?;
    Ok(u64::try_from(bytes).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{Read as _, Write as _},
        net::{TcpListener, TcpStream},
    };

    #[test]
    fn the_kernel_says_what_it_holds() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut near = TcpStream::connect(listener.local_addr().expect("it is bound")).expect("up");
        let (mut far, _) = listener.accept().expect("it is connected");
        assert_eq!(unsent(&near).expect("an answer"), 0, "nothing was written");
        near.set_nonblocking(true).expect("a flag");
        let mut written = 0;
        while let Ok(bytes) = near.write(&[0; 1 << 16]) {
            written += bytes as u64;
        }
        let held = unsent(&near).expect("an answer");
        assert!(0 < held && held <= written, "{held} of {written}: the other side does not read");
        let mut left = vec![0; 1 << 16];
        while unsent(&near).expect("an answer") > 0 {
            assert!(far.read(&mut left).expect("bytes") > 0);
        }
    }
}
