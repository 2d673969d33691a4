//! libFuzzer's way into [`causeway_fuzz::errors`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| causeway_fuzz::errors::run(data));
