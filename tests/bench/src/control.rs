//! Latency of control operations (attach a container, publish ports), compared with CNI plugins.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use causeway_netlink::{Netns, netns};
use causeway_tests::{place, undo, verb};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::rig::Rig;

/// The folder of Debian's package containernetworking-plugins.
const PLUGINS: &str = "/usr/lib/cni";

/// One operation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Timing {
    /// The operation, in words.
    pub what: String,
    /// The tool.
    pub by: String,
    /// Milliseconds per run, from the start to the end of the command.
    pub rounds: Vec<f64>,
    /// Why it was not measured.
    pub failed: Option<String>,
}

/// Number of ports in the range that causeway publishes.
const MANY: u16 = 10_000;

/// Time limit for plugins: portmap slows down with each port, and 10,000 would take hours.
const PATIENCE: Duration = Duration::from_mins(1);

/// Measures each `rounds` times: `causeway` on its host, the plugins on a host without anything
/// else, with a range of `ports` ports.
pub fn compare(
    causeway: &Rig,
    plain: &Rig,
    rounds: u32,
    plugins: u16,
) -> anyhow::Result<Vec<Timing>> {
    let mut timings: Vec<Timing> = Vec::new();
    let mut add = |what: &str, by: &str, took: anyhow::Result<Duration>| {
        let place = timings.iter().position(|timing| timing.what == what && timing.by == by);
        let place = place.unwrap_or_else(|| {
            timings.push(Timing {
                what: what.to_owned(),
                by: by.to_owned(),
                rounds: Vec::new(),
                failed: None,
            });
            timings.len() - 1
        });
        match took {
            Ok(took) => timings[place].rounds.push(took.as_secs_f64() * 1e3),
            Err(error) => timings[place].failed = Some(format!("{error:#}")),
        }
    };
    let attach = "attach a container";
    let publish_one = "attach a container with a published port";
    let range = |ports: u16| format!("publish a range of {ports} ports");
    for round in 0..rounds {
        let name = causeway.lab.name_of(&format!("attach{round}"));
        let netns = made(causeway, &name)?;
        let path = netns.path().display().to_string();
        add(attach, "causeway", ask(causeway, &["container", "attach", &name, "--netns", &path]));
        let ports = format!("40000-{last}:40000-{last}/tcp", last = 40_000 + MANY - 1);
        add(&range(MANY), "causeway", ask(causeway, &["publish", "add", &name, &ports]));
        ask(causeway, &["container", "rm", &name])?;
        let with_port = ["container", "attach", &name, "--netns", &path, "-p", "39999:80"];
        add(publish_one, "causeway", ask(causeway, &with_port));
        ask(causeway, &["container", "rm", &name])?;

        let name = plain.lab.name_of(&format!("attach{round}"));
        let netns = made(plain, &name)?;
        let folder = undo::folder(&plain.lab.instance);
        let cni = Cni { rig: plain, container: netns.path(), name: &name, folder: &folder };
        let started = Instant::now();
        let result = cni.bridge("ADD")?;
        add(attach, "CNI bridge", Ok(started.elapsed()));
        let bridged = started.elapsed();
        let started = Instant::now();
        let one = cni.portmap("ADD", &[(39_999, 80)], &result).map(|_| bridged + started.elapsed());
        add(publish_one, "CNI bridge and portmap", one);
        cni.portmap("DEL", &[(39_999, 80)], &result)?;
        if round == 0 {
            let ports: Vec<(u16, u16)> =
                (40_000..40_000 + plugins).map(|port| (port, port)).collect();
            let started = Instant::now();
            add(
                &range(plugins),
                "CNI portmap",
                cni.portmap("ADD", &ports, &result).map(|_| started.elapsed()),
            );
            // Removal may fail if the addition failed; the namespace is removed in any case.
            let _ = cni.portmap("DEL", &ports, &result);
        }
        cni.bridge("DEL")?;
    }
    Ok(timings)
}

fn made(rig: &Rig, name: &str) -> anyhow::Result<Netns> {
    let netns = Netns::create(name)?;
    rig.lab.undo().namespaces.push(name.to_owned());
    ensure!(netns.path() == netns::named(name), "a named namespace is where names lead");
    Ok(netns)
}

fn ask(rig: &Rig, arguments: &[&str]) -> anyhow::Result<Duration> {
    let mut command = verb::command(&verb::binary(), &rig.lab.instance, arguments);
    let started = Instant::now();
    let output = command.stdin(Stdio::null()).output().context("cannot run causeway")?;
    let took = started.elapsed();
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim_end());
    Ok(took)
}

struct Cni<'a> {
    rig: &'a Rig,
    container: &'a Path,
    name: &'a str,
    folder: &'a Path,
}

impl Cni<'_> {
    fn bridge(&self, command: &str) -> anyhow::Result<Value> {
        let folder = self.folder.join("cni");
        self.run(
            "bridge",
            command,
            &json!({
                "cniVersion": "0.4.0",
                "name": "bench",
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": true,
                "ipMasq": true,
                "ipam": {
                    "type": "host-local",
                    "subnet": "10.99.0.0/16",
                    "dataDir": folder,
                    "routes": [{ "dst": "0.0.0.0/0" }],
                },
            }),
        )
    }

    fn portmap(
        &self,
        command: &str,
        ports: &[(u16, u16)],
        previous: &Value,
    ) -> anyhow::Result<Value> {
        let mappings: Vec<Value> = ports
            .iter()
            .map(|(host, container)| json!({ "hostPort": host, "containerPort": container, "protocol": "tcp" }))
            .collect();
        self.run(
            "portmap",
            command,
            &json!({
                "cniVersion": "0.4.0", "name": "bench", "type": "portmap", "capabilities": { "portMappings": true },
                "runtimeConfig": { "portMappings": mappings }, "prevResult": previous
            }),
        )
    }

    fn run(&self, plugin: &str, command: &str, config: &Value) -> anyhow::Result<Value> {
        let mut process = Command::new(Path::new(PLUGINS).join(plugin));
        process
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", self.name)
            .env("CNI_NETNS", self.container);
        process.env("CNI_IFNAME", "eth0").env("CNI_PATH", PLUGINS);
        process.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = place::run(&self.rig.lab.host, || process.spawn());
        let mut child = child.with_context(|| {
            format!("cannot run {PLUGINS}/{plugin}: is containernetworking-plugins installed?")
        })?;
        // A plugin that stopped reading prints the reason.
        let _ = child
            .stdin
            .take()
            .context("its stdin is a pipe")?
            .write_all(config.to_string().as_bytes());
        // Interrupting the benchmark ends the plugin too.
        self.rig.lab.undo().children.push(child);
        let started = Instant::now();
        let is_over = loop {
            let is_over = self
                .rig
                .lab
                .undo()
                .children
                .last_mut()
                .context("it is there")?
                .try_wait()?
                .is_some();
            if is_over || started.elapsed() > PATIENCE {
                break is_over;
            }
            thread::sleep(Duration::from_micros(200));
        };
        let mut child = self.rig.lab.undo().children.pop().context("it is there still")?;
        if !is_over {
            child.kill()?;
        }
        // It is short enough for a pipe.
        let output = child.wait_with_output()?;
        ensure!(is_over, "the plugin {plugin} was at it still after {} s", PATIENCE.as_secs());
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(
            output.status.success(),
            "the plugin {plugin} failed: {}",
            said.split_whitespace().collect::<Vec<_>>().join(" ")
        );
        Ok(serde_json::from_str(&said).unwrap_or(Value::Null))
    }
}
