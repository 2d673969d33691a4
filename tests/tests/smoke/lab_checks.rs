//! The checks that `cargo xtask lab` prints.

use causeway_tests::{
    articles::{self, PAGE, PORT},
    http::Page,
    lab::Lab,
};

#[test]
fn pass_in_a_new_lab() {
    let lab = Lab::new();
    let c1 = lab.container("c1", &["-p", "5000:5000"]);
    let c2 = lab.container("c2", &[]);
    let _page = Page::serve(&c1.netns, c1.at(PORT), PAGE);
    let rows = articles::check(&lab, &c1, &c2);
    let failed: Vec<_> = rows.iter().filter(|row| !row.ok()).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}
