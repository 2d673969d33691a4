//! The program `causeway`.

fn main() {}
