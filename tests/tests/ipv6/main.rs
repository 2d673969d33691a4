//! IPv6 only: networks, neighbour discovery, SLAAC, extension headers, NAT64.

mod extension_headers;
mod nat64;
mod neighbour_discovery;
mod networks;
mod slaac;
