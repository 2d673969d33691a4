//! What must not pass, and what must not be touched.

mod host_traffic;
mod hostile;
mod policy;
