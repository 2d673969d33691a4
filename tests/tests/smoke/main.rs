//! Smoke tests: one case per path, short enough for QEMU without KVM.

mod lab_checks;
mod paths;
