//! Ports that nobody else gets while a server is away.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    sync::atomic::{AtomicU32, Ordering},
};

/// Below the ports that systems give to those who ask for any: a database of another case, at the port of one that is
/// stopped, would answer in its place.
const FIRST_PORT: u32 = 10_000;
const PORT_COUNT: u32 = 20_000;

static NEXT_OFFSET: AtomicU32 = AtomicU32::new(0);

/// A free address of 127.0.0.1 that is given out once.
///
/// # Errors
/// When there is none.
pub fn reserve_address() -> io::Result<SocketAddr> {
    reserve_port(&[Ipv4Addr::LOCALHOST.into()]).map(|port| (Ipv4Addr::LOCALHOST, port).into())
}

/// A port that is free at all of these addresses and given out once.
///
/// # Errors
/// When there is none.
pub fn reserve_port(addresses: &[IpAddr]) -> io::Result<u16> {
    for _ in 0..PORT_COUNT {
        let next = NEXT_OFFSET.fetch_add(1, Ordering::Relaxed);
        // Two runs at once begin at different ones, further apart than either gets, even if one process came right after the other.
        let port = FIRST_PORT + std::process::id().wrapping_mul(7_919).wrapping_add(next) % PORT_COUNT;
        let Ok(port) = u16::try_from(port) else { continue };
        if addresses.iter().all(|address| TcpListener::bind((*address, port)).is_ok()) {
            return Ok(port);
        }
    }
    Err(io::Error::other("there is no free port"))
}
