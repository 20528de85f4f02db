//! QUIC for both ends of a link: its limits.

use super::{IDLE_MAX, KEEP_ALIVE, LINK_WINDOW, LOG_STREAMS_MAX, STREAM_WINDOW, STREAMS_MAX};
use quinn::{
    AckFrequencyConfig, ClientConfig, IdleTimeout, ServerConfig, TransportConfig, VarInt,
    crypto::rustls::{NoInitialCipherSuite, QuicClientConfig, QuicServerConfig},
};
use std::sync::Arc;

/// Handshakes under way at once, and the bytes buffered for each, before the peer has proven its
/// identity.
const INCOMING_MAX: usize = 256;
const INCOMING_BYTES: u64 = 16 * 1024;

/// Packets that may arrive before an acknowledgement is due at once; QUIC's default is one. Frames are
/// answered by frames, which carry the acknowledgement. Ten packets are the initial window of slow
/// start. Losses are noticed as before: by packets out of order, and by time.
const PACKETS_PER_ACK: u32 = 9;

fn transport(accepts: u32, accepts_logs: u32) -> TransportConfig {
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(PACKETS_PER_ACK));
    let mut transport = TransportConfig::default();
    transport
        .ack_frequency_config(Some(acks))
        .max_concurrent_bidi_streams(VarInt::from_u32(accepts))
        .max_concurrent_uni_streams(VarInt::from_u32(accepts_logs))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(LINK_WINDOW))
        .send_window(u64::from(LINK_WINDOW))
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(IdleTimeout::try_from(IDLE_MAX).ok());
    transport
}

/// QUIC for a master: it accepts streams, and workers may change their address.
pub fn server(tls: rustls::ServerConfig) -> Result<ServerConfig, NoInitialCipherSuite> {
    let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    config
        .transport_config(Arc::new(transport(STREAMS_MAX, LOG_STREAMS_MAX)))
        .migration(true)
        .max_incoming(INCOMING_MAX)
        .incoming_buffer_size(INCOMING_BYTES)
        .incoming_buffer_size_total(INCOMING_BYTES * INCOMING_MAX as u64);
    Ok(config)
}

/// QUIC for a worker: it opens every stream, and sends the keep-alives. One side is enough, because the
/// other acknowledges them.
pub fn client(tls: rustls::ClientConfig) -> Result<ClientConfig, NoInitialCipherSuite> {
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    let mut transport = transport(0, 0);
    transport.keep_alive_interval(Some(KEEP_ALIVE));
    config.transport_config(Arc::new(transport));
    Ok(config)
}
