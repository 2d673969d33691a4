//! Bulk transfers over TCP, compared by hash.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    thread,
};

use causeway_netlink::Netns;

use crate::{tcp, wait::DEADLINE};

/// One direction of a transfer.
pub const SIZE: u64 = 200_000_000;

const BLOCK: usize = 1 << 18;

/// Sends `size` bytes from the client to the server and as many back. Fails the test if any byte
/// differs.
#[track_caller]
pub fn both_ways(
    server: &Netns,
    listen: impl Into<SocketAddr>,
    client: &Netns,
    to: impl Into<SocketAddr>,
    size: u64,
) {
    let listener = tcp::listen(server, listen);
    let mut near = tcp::connect(client, to);
    let (mut far, _) = listener.accept().expect("the client is connected");
    far.set_read_timeout(Some(DEADLINE)).expect("a timeout can be set");
    far.set_write_timeout(Some(DEADLINE)).expect("a timeout can be set");
    one_way("to the server", &mut near, &mut far, size);
    one_way("to the client", &mut far, &mut near, size);
}

#[track_caller]
fn one_way(what: &str, from: &mut TcpStream, to: &mut TcpStream, size: u64) {
    let (sent, received) = thread::scope(|scope| {
        let sent = scope.spawn(|| send(from, size));
        let received = receive(to, size);
        (sent.join().expect("it answers its errors"), received)
    });
    let sent = sent.unwrap_or_else(|error| panic!("{what}: {error}"));
    let received = received.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(sent, received, "{what}: the bytes that arrived are not those that were sent");
}

fn send(stream: &mut TcpStream, size: u64) -> Result<Hash, String> {
    let (mut hash, mut random) = (Hash::default(), 0x9e37_79b9_7f4a_7c15_u64);
    let mut block = vec![0; BLOCK];
    let mut sent = 0;
    while sent < size {
        for word in block.chunks_exact_mut(8) {
            // xorshift64
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            word.copy_from_slice(&random.to_ne_bytes());
        }
        let part = &block[..usize::try_from(size - sent).unwrap_or(BLOCK).min(BLOCK)];
        stream
            .write_all(part)
            .map_err(|error| format!("after {sent} bytes: cannot send: {error}"))?;
        hash.add(part);
        sent += part.len() as u64;
    }
    Ok(hash)
}

fn receive(stream: &mut TcpStream, size: u64) -> Result<Hash, String> {
    let mut hash = Hash::default();
    let mut block = vec![0; BLOCK];
    let mut received = 0;
    while received < size {
        let part = &mut block[..usize::try_from(size - received).unwrap_or(BLOCK).min(BLOCK)];
        stream
            .read_exact(part)
            .map_err(|error| format!("after {received} bytes: cannot receive: {error}"))?;
        hash.add(part);
        received += part.len() as u64;
    }
    Ok(hash)
}

/// A hash that depends on every bit and its position. It need not be secure, only fast without
/// optimisation.
#[derive(Debug, Default, PartialEq, Eq)]
struct Hash(u64);

impl Hash {
    /// Both sides must use the same block boundaries.
    fn add(&mut self, block: &[u8]) {
        let words = block.chunks_exact(8);
        for byte in words.remainder() {
            self.mix(u64::from(*byte));
        }
        for word in words {
            self.mix(u64::from_ne_bytes(word.try_into().expect("a chunk of eight")));
        }
    }

    fn mix(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x2545_f491_4f6c_dd1d).rotate_left(29);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(bytes: &[u8]) -> Hash {
        let mut hash = Hash::default();
        hash.add(bytes);
        hash
    }

    #[test]
    fn changed_or_moved_byte_changes_the_hash() {
        let bytes: Vec<u8> = (0..100).collect();
        for place in 0..bytes.len() - 1 {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            assert_ne!(hash(&bytes), hash(&changed));
            let mut moved = bytes.clone();
            moved.swap(place, place + 1);
            assert_ne!(hash(&bytes), hash(&moved));
        }
    }
}
