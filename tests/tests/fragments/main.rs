//! Fragments pass whole or not at all, and a queue holds those that arrive before their first.

mod delivery;
mod queue;
