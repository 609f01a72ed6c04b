//! Reserves ports that no other process gets while a server is stopped.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    sync::atomic::{AtomicU32, Ordering},
};

/// Below the ephemeral ports of the operating systems: a database of another case on the port of a stopped
/// one would answer in its place.
const FIRST_PORT: u32 = 10_000;
const PORT_COUNT: u32 = 20_000;

static NEXT_OFFSET: AtomicU32 = AtomicU32::new(0);

/// Returns a free address on 127.0.0.1 that is not used again.
///
/// # Errors
/// Fails if there is none.
pub fn reserve_address() -> io::Result<SocketAddr> {
    reserve_port(&[Ipv4Addr::LOCALHOST.into()]).map(|port| (Ipv4Addr::LOCALHOST, port).into())
}

/// Returns a port that is free on all of these addresses and is not used again.
///
/// # Errors
/// Fails if there is none.
pub fn reserve_port(addresses: &[IpAddr]) -> io::Result<u16> {
    for _ in 0..PORT_COUNT {
        let next = NEXT_OFFSET.fetch_add(1, Ordering::Relaxed);
        // Two concurrent runs start at different ports, further apart than a run ever gets, even if the
        // processes have consecutive ids.
        let port = FIRST_PORT + std::process::id().wrapping_mul(7_919).wrapping_add(next) % PORT_COUNT;
        let Ok(port) = u16::try_from(port) else { continue };
        if addresses.iter().all(|address| TcpListener::bind((*address, port)).is_ok()) {
            return Ok(port);
        }
    }
    Err(io::Error::other("there is no free port"))
}
