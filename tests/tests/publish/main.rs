//! Published ports: who reaches them, binds of the host, moves and drains.

mod bind;
mod drain;
mod host_sockets;
mod reach;
mod server;
