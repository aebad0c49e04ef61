//! Ports that nobody uses, below the range from which the kernel takes ports for outgoing connections: otherwise a
//! peer that redials a stopped server could take its port (and connect to itself).

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Mutex;

const FIRST: u16 = 12_000;
const LAST: u16 = 31_999;

static TAKEN: Mutex<Vec<u16>> = Mutex::new(Vec::new());

/// A port on which nothing listens at the moment; this process doesn't give it out again.
pub fn free_port() -> u16 {
    let mut taken = TAKEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    loop {
        // Every RandomState is seeded anew.
        let random = RandomState::new().build_hasher().finish();
        let port = FIRST + (random % u64::from(LAST - FIRST)) as u16;
        if !taken.contains(&port) && TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            taken.push(port);
            return port;
        }
    }
}

pub fn free_ports<const N: usize>() -> [u16; N] {
    std::array::from_fn(|_| free_port())
}
