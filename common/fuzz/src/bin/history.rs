//! libFuzzer's way into [`causeway_fuzz::history`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| causeway_fuzz::history::run(data));
