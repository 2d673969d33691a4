//! libFuzzer's way into [`causeway_fuzz::parse`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| causeway_fuzz::parse::run(data));
