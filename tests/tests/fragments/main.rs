//! Fragmented datagrams pass whole or not at all. A queue holds fragments that arrive before their
//! first.

mod delivery;
mod queue;
