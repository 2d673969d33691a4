//! Isolation: what must not pass, and host traffic that must not be touched.

mod host_traffic;
mod hostile;
mod policy;
