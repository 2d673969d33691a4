//! `docs/json.md` names every field and every request, and nothing else.

use std::{collections::BTreeSet, fs};

use causeway_api::{
    Change, Container, ContainerSpec, Direction, Draining, Endpoint, ErrorCode, Failure, Flow,
    Flushed, Network, NetworkSpec, PublishAdd, PublishMove, Removed, Request, Stats, Uplink,
    types::{flow_filter::FlowFilter, flow_options::FlowOptions, publish::PublishOptions},
};
use serde::{
    Deserializer,
    de::{DeserializeOwned, Error as _, Visitor, value::Error},
    forward_to_deserialize_any,
};

#[test]
fn json_names_every_field() {
    let document = document();
    let check = |heading: &str, fields: &[&str]| {
        let documented = rows(section(&document, heading));
        let fields: BTreeSet<String> = fields.iter().map(|field| (*field).to_owned()).collect();
        assert_eq!(documented, fields, "docs/json.md, section '{heading}'");
    };
    check("Network", fields::<Network>());
    check("Container", fields::<Container>());
    check("Endpoint", fields::<Endpoint>());
    let ports = ["container", "protocol", "host_address", "host_port", "container_port"];
    check("Publish", &[&ports, fields::<PublishOptions>(), &["draining"]].concat());
    check("Draining", fields::<Draining>());
    check("Flow", fields::<Flow>());
    check("Direction", fields::<Direction>());
    check("Stats", fields::<Stats>());
    check("Uplink", fields::<Uplink>());
    check("Flushed", fields::<Flushed>());
    check("Removed", fields::<Removed>());
    check("Change", fields::<Change>());
    check("Change", fields::<Change>());
    check("Failure", fields::<Failure>());
    check("NetworkSpec", fields::<NetworkSpec>());
    check("FlowOptions", fields::<FlowOptions>());
    check("ContainerSpec", fields::<ContainerSpec>());
    check("PublishAdd", fields::<PublishAdd>());
    let publish = [&["ports"], fields::<PublishOptions>()].concat();
    check("PublishSpec", &publish);
    check("PublishMove", fields::<PublishMove>());
    check("FlowFilter", fields::<FlowFilter>());
}

#[test]
fn json_names_every_request() {
    let error = serde_json::from_str::<Request>(r#"{"verb": "?"}"#).unwrap_err().to_string();
    let (_, expected) = error.split_once("expected one of ").expect("serde lists the variants");
    let requests: BTreeSet<String> =
        expected.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    assert!(requests.contains("stats"), "{error}");
    assert_eq!(rows(section(&document(), "Requests")), requests);
}

#[test]
fn json_names_every_code() {
    let codes: BTreeSet<String> = ErrorCode::ALL.iter().map(ToString::to_string).collect();
    assert_eq!(rows(section(&document(), "Codes")), codes);
}

fn document() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/json.md");
    fs::read_to_string(path).expect("the document is there")
}

/// The text below a heading of the third level, up to the next heading.
fn section<'a>(document: &'a str, heading: &str) -> &'a str {
    let begin = format!("\n### {heading}\n");
    let (_, text) = document
        .split_once(&begin)
        .unwrap_or_else(|| panic!("docs/json.md has no section '{heading}'"));
    text.split_once("\n#").map_or(text, |(section, _)| section)
}

/// What stands in code font in the first column of a section's table.
fn rows(section: &str) -> BTreeSet<String> {
    let name = |line: &str| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned());
    section.lines().filter_map(name).collect()
}

/// The names of a struct's fields, as serde's derived code hands them to a deserializer.
fn fields<T: DeserializeOwned>() -> &'static [&'static str] {
    let mut fields: &[&str] = &[];
    let _ = T::deserialize(Capture(&mut fields));
    assert!(!fields.is_empty(), "the type is no struct with named fields");
    fields
}

struct Capture<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Capture<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("it is no struct"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        *self.0 = fields;
        Err(Error::custom("the names are all that is wanted"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}
