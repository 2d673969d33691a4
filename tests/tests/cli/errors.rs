//! Errors as JSON: on stderr with `--json`, and on the socket.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    os::unix::net::{UnixListener, UnixStream},
    thread,
};

use causeway_api::{Container, Error, ErrorCode, Request, client};
use causeway_tests::{family::V4, lab::Lab, tcp, verb::Output};
use serde_json::{Value, json};

/// The error that a verb printed with `--json`: one object on stderr, nothing on stdout.
#[track_caller]
fn error_of(output: &Output) -> Value {
    assert!(output.stdout.is_empty(), "{output}");
    assert_eq!(output.stderr.lines().count(), 1, "{output}");
    let printed: Value = serde_json::from_str(&output.stderr).unwrap();
    let error = printed["error"].clone();
    assert!(error["message"].is_string() && printed.as_object().unwrap().len() == 1, "{output}");
    error
}

/// Sends a line to the agent and returns its reply.
fn exchange(lab: &Lab, line: &str) -> Value {
    let mut stream = UnixStream::connect(client::socket(&lab.instance)).unwrap();
    stream.write_all(format!("{line}\n").as_bytes()).unwrap();
    let mut reply = String::new();
    BufReader::new(stream).read_line(&mut reply).unwrap();
    serde_json::from_str(&reply).unwrap()
}

#[test]
fn verbs_print_codes() {
    let lab = Lab::new();
    let c1 = lab.container("c1", &["-p", "8080:80"]);
    let (name, new) = (c1.name.as_str(), lab.name_of("new"));
    let mut wrong = Vec::new();
    for (arguments, status, code) in [
        (&["network", "inspect", "nowhere"][..], 1, ErrorCode::NotFound),
        (&["container", "rm", "nowhere"], 1, ErrorCode::NotFound),
        (&["container", "exec", "nowhere", "--", "true"], 1, ErrorCode::NotFound),
        (&["container", "exec", name, "--", "/nowhere"], 127, ErrorCode::NotFound),
        (&["container", "exec", name, "--", "/etc"], 126, ErrorCode::Permission),
        (&["container", "attach", &new, "--netns", "/nowhere"], 1, ErrorCode::NotFound),
        (&["container", "attach", &new, "--netns", "/dev/null"], 1, ErrorCode::Invalid),
        (&["container", "attach", &new, "--netns", name], 1, ErrorCode::AlreadyExists),
        (&["publish", "rm", name, "8081:80"], 1, ErrorCode::NotFound),
        (&["publish", "move", "8081", name], 1, ErrorCode::NotFound),
        (&["container", "create", name], 1, ErrorCode::AlreadyExists),
        (&["network", "create", "default", "--subnet", "10.9.0.0/24"], 1, ErrorCode::AlreadyExists),
        (&["publish", "add", name, "8080:81"], 1, ErrorCode::InUse),
        (&["network", "rm", "default"], 1, ErrorCode::InUse),
        (&["network", "create", "n", "--subnet", "172.18.9.0/24"], 1, ErrorCode::InUse),
        (&["network", "create", "n", "--subnet", "10.0.2.0/24"], 1, ErrorCode::InUse),
        (&["container", "create", &new, "--ip", "172.18.0.1"], 1, ErrorCode::InUse),
        (&["container", "create", &new, "--ip", &c1.address.to_string()], 1, ErrorCode::InUse),
        (&["container", "create", &new, "--ip", "10.9.0.5"], 1, ErrorCode::Invalid),
        (&["network", "create", "n", "--subnet", "127.0.0.0/8"], 1, ErrorCode::Invalid),
        (&["publish", "add", name, "10.9.9.9:81:81"], 1, ErrorCode::NotFound),
        (&["publish", "add", name, "80"], 2, ErrorCode::Invalid),
        (&["network", "inspect"], 2, ErrorCode::Invalid),
        (&["up", "--netns", &lab.host_name()], 1, ErrorCode::AlreadyExists),
    ] {
        let output = lab.causeway(&[&["--json"], arguments].concat());
        let error = error_of(&output);
        if (output.status, &error["code"]) != (Some(status), &json!(code.name())) {
            wrong.push(format!("{code} and status {status} expected: {output}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn remedy_is_apart_from_message() {
    let lab = Lab::new();
    let c1 = lab.container("c1", &[]);
    let arguments = ["container", "create", c1.name.as_str()];
    let error = error_of(&lab.causeway(&[&arguments[..], &["--json"]].concat()));
    let message = error["message"].as_str().unwrap();
    let remedy = error["remedy"].as_str().unwrap();
    assert!(!message.contains("causeway container rm"), "{error}");
    let command = format!("'causeway container rm {} --instance {}'", c1.name, lab.instance);
    assert!(remedy.contains(&command), "{error}");
    let plain = lab.causeway(&arguments);
    assert_eq!(plain.stderr, format!("causeway: {message}; {remedy}\n"));
}

#[test]
fn missing_agent_is_not_found() {
    let lab = Lab::without_agent();
    let error = error_of(&lab.causeway(&["network", "ls", "--json"]));
    assert_eq!(error["code"], "not-found");
    assert!(error["remedy"].as_str().unwrap().contains("causeway up"), "{error}");
    let error = error_of(&lab.causeway(&["down", "--json"]));
    assert_eq!((&error["code"], &error["remedy"]), (&json!("not-found"), &Value::Null));
}

#[test]
fn agent_refuses_other_versions() {
    let lab = Lab::new();
    for (request, code, named) in [
        (r#"{"version":2,"verb":"network-list"}"#, "version-mismatch", "version 2"),
        (r#"{"verb":"network-list"}"#, "version-mismatch", "no protocol version"),
        (r#"{"version":1,"verb":"network-destroy"}"#, "unsupported", "network-destroy"),
        (r#"{"version":1,"verb":"network-inspect"}"#, "invalid", "name"),
        ("nonsense", "invalid", "JSON"),
    ] {
        let reply = exchange(&lab, request);
        assert_eq!((&reply["version"], &reply["failed"]["code"]), (&json!(1), &json!(code)));
        let message = reply["failed"]["message"].as_str().unwrap();
        assert!(message.contains(named), "{request}: {reply}");
    }
    let reply = exchange(&lab, r#"{"version":1,"verb":"network-list","later":true}"#);
    assert_eq!(reply["done"][0]["name"], "default", "{reply}");
}

#[test]
fn client_refuses_other_versions() {
    let lab = Lab::without_agent();
    let path = client::socket(&lab.instance);
    std::fs::create_dir_all(client::FOLDER).unwrap();
    let listener = UnixListener::bind(&path).unwrap();
    let newer = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = String::new();
        BufReader::new(&stream).read_line(&mut request).unwrap();
        stream.write_all(b"{\"version\":2,\"done\":[]}\n").unwrap();
        request
    });
    let output = lab.causeway(&["network", "ls", "--json"]);
    std::fs::remove_file(path).unwrap();
    let error = error_of(&output);
    assert_eq!((output.status, &error["code"]), (Some(1), &json!("version-mismatch")));
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("version 2, and this side speaks 1"), "{message}");
    assert_eq!(newer.join().unwrap(), "{\"version\":1,\"verb\":\"network-list\"}\n");
}

#[test]
fn library_client_has_codes() {
    let lab = Lab::new();
    let c1 = lab.container("c1", &[]);
    let ask = |name: &str| -> Result<Container, Error> {
        client::ask(&lab.instance, &Request::ContainerInspect { name: name.to_owned() })
    };
    assert_eq!(ask(&c1.name).unwrap().endpoints[0].addresses[0].addr(), c1.address);
    let error = ask("nowhere").unwrap_err();
    assert_eq!(error.code(), ErrorCode::NotFound, "{error}");
    assert!(error.message().starts_with("container inspect nowhere: "), "{error}");
}

#[test]
fn names_of_128_characters_have_traffic() {
    let lab = Lab::new();
    let padded = |name: String| format!("{name}{}", "x".repeat(128 - name.len()));
    let network = "n".repeat(128);
    lab.json(&["network", "create", &network, "--subnet", "172.28.0.0/16"]);
    let short = padded(lab.name_of("")).split_off(lab.name_of("").len());
    let c1 = lab.container(&short, &["--network", &network, "-p", "8080:80"]);
    assert_eq!((c1.name.len(), network.len()), (128, 128));

    let far = SocketAddr::new(V4.far(), 7);
    let _echoes = [tcp::Echo::start(&lab.world, far), tcp::Echo::start(&c1.netns, c1.at(80))];
    let _outgoing = tcp::exchange(&c1.netns, far);
    let _incoming = tcp::exchange(&lab.world, (V4.host(), 8080));
    let flows = lab.json(&["flows", "ls", "--container", &c1.name, "--network", &network]);
    assert_eq!(flows.as_array().unwrap().len(), 2, "{flows:#}");
    assert!(lab.causeway(&["container", "ls"]).ok().stdout.contains(&c1.name));
    let _done = lab.causeway(&["container", "exec", &c1.name, "--", "true"]).ok();

    // The next agent takes over what it reads under these names.
    lab.end_agent();
    lab.start_agent(&[]);
    let _incoming = tcp::exchange(&lab.world, (V4.host(), 8080));
    lab.json(&["container", "rm", &c1.name]);
    lab.json(&["network", "rm", &network]);

    let long = "x".repeat(129);
    for verb in [&["container", "create", &long][..], &["network", "inspect", &long]] {
        let output = lab.causeway(&[verb, &["--json"]].concat());
        assert_eq!((output.status, &error_of(&output)["code"]), (Some(2), &json!("invalid")));
    }
}
