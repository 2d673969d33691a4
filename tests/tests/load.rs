//! Every program loads and is attached on the running kernel. Reports the verifier's instruction
//! counts.

use std::process::Command;

use causeway_common::abi::programs as names;
use causeway_tests::{
    bench::{Bench, Place, with_bench},
    programs::{self, Tcx},
    report,
};

const CONTAINER: Place = Place {
    address: [172, 18, 0, 2],
    host_side: "h1",
    bridge: "cwa",
    closed: false,
    masquerade: true,
};

/// Interface, hook and program.
const HOOKS: [(&str, Tcx, &str); 4] = [
    ("h1", Tcx::Ingress, names::FROM_CONTAINER),
    ("up0", Tcx::Ingress, names::FROM_UPLINK),
    ("up0", Tcx::Egress, names::TO_UPLINK),
    ("cwa", Tcx::Egress, names::TO_BRIDGE),
];

#[test]
fn every_program_loads() {
    with_bench(|bench| {
        // XDP is loaded on demand.
        bench.put_xdp(&[]);
        let verified = programs::verified();
        for program in names::ALL.iter().map(|program| program.name) {
            let count = verified
                .get(program)
                .unwrap_or_else(|| panic!("{program} is not loaded: {verified:?}"));
            assert!(*count > 0, "{program} was verified with no instructions");
        }
        for (program, count) in &verified {
            report::instructions(program, *count);
        }
    });
}

#[test]
fn each_interface_gets_one_program() {
    with_bench(|bench| {
        put(bench);
        for (interface, hook, program) in HOOKS {
            // Linux before 6.6 cannot be asked.
            let links = programs::at(bench.index(interface), hook).unwrap_or_default();
            let filters = filters(interface, hook);
            let of_it = filters.lines().filter(|line| line.split(' ').any(|word| word == program));
            let times = links.iter().filter(|name| *name == program).count() + of_it.count();
            assert_eq!(
                times, 1,
                "{program} at {interface}: by tcx {links:?}, by filters '{filters}'"
            );
        }
    });
}

#[test]
fn tcx_links_are_used() {
    if report::lacks("tcx_links_are_used", "tcx", (6, 6)) {
        return;
    }
    with_bench(|bench| {
        put(bench);
        for (interface, hook, program) in HOOKS {
            assert_eq!(
                programs::at(bench.index(interface), hook).unwrap(),
                [program],
                "{interface}"
            );
        }
    });
}

#[test]
fn program_can_be_attached_again_at_once() {
    with_bench(|bench| {
        put(bench);
        for _ in 0..20 {
            bench.datapath.remove_uplink(bench.index("up0")).expect("it is an uplink no longer");
            bench.put_host();
        }
    });
}

fn put(bench: &mut Bench) {
    bench.put_host();
    bench.put_container(CONTAINER);
}

/// The filters that `tc` shows, with the names of their programs.
fn filters(interface: &str, hook: Tcx) -> String {
    let direction = match hook {
        Tcx::Ingress => "ingress",
        Tcx::Egress => "egress",
    };
    let output = Command::new("tc").args(["filter", "show", "dev", interface, direction]).output();
    let output = output.expect("tc, of package iproute2");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
