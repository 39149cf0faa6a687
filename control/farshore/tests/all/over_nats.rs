//! `farshore demo --nats`: control and agents apart, over a real nats-server. The server and the demo get a network of
//! their own, so that every byte on it can be counted.

use crate::support::{STEPS, command, farshore, nothing_panicked, processes, run, steps, text, tool, tool_runs, until};
use farshore_bus::testing::NatsServer;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

/// A nats-server in a network namespace of its own.
fn server_apart(folder: &Path) -> NatsServer {
    let real = farshore_bus::testing::program().unwrap_or_else(|error| panic!("{error}"));
    let unshare = tool("unshare", "util-linux");
    let wrapper = folder.join("nats-server");
    let ip = tool("ip", "iproute2");
    let inside = format!("{} link set lo up && exec {} \"$@\"", text(Path::new(ip.get_program())), text(&real));
    let unshare = text(Path::new(unshare.get_program()));
    fs::write(&wrapper, format!("#!/bin/sh\nexec {unshare} --net --map-root-user sh -c '{inside}' sh \"$@\"\n"))
        .unwrap();
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    NatsServer::start_by(&wrapper, &["-m", "-1"]).unwrap_or_else(|error| panic!("{error}"))
}

/// A command inside the server's network.
fn beside(server: &NatsServer, then: &Command) -> Command {
    let mut inside = tool("nsenter", "util-linux");
    inside.args(["--target", &server.pid().to_string(), "--user", "--net", "--preserve-credentials"]);
    inside.arg(then.get_program()).args(then.get_args());
    inside
}

/// What the server counted.
fn varz(server: &NatsServer) -> Value {
    let ports = fs::read(server.folder().join(format!("nats-server_{}.ports", server.pid()))).unwrap();
    let ports: Value = serde_json::from_slice(&ports).unwrap();
    let url = format!("{}/varz", ports["monitoring"][0].as_str().expect("the server has a monitoring port"));
    let mut python = tool("python3", "python3");
    python.args([
        "-c",
        "import sys, urllib.request; sys.stdout.write(urllib.request.urlopen(sys.argv[1]).read().decode())",
        &url,
    ]);
    serde_json::from_str(&tool_runs(&mut beside(server, &python))).unwrap()
}

/// Bytes that were sent on the loopback of the server's network, by whomever.
fn on_the_wire(server: &NatsServer) -> u64 {
    let counted = fs::read_to_string(format!("/proc/{}/net/dev", server.pid())).unwrap();
    let line = counted.lines().find_map(|line| line.trim().strip_prefix("lo:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Looks at the agents while they run: each sees its own site's folder and nothing of the other's. Returns whom it saw.
fn watch_agents(kept: &Path, done: &AtomicBool) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut verbs, mut looked) = (BTreeSet::new(), BTreeSet::new());
    until("the demo's end", || {
        for process in processes(kept) {
            let [_, verb, ..] = process.args.as_slice() else { continue };
            let Some((site, other)) = [("hq", "dr"), ("dr", "hq")]
                .into_iter()
                .find(|(site, _)| process.args.iter().any(|arg| arg == text(&kept.join(site))))
            else {
                continue;
            };
            verbs.insert(format!("{verb} {site}"));
            if verb != "agent" {
                continue;
            }
            let root = format!("/proc/{}/root", process.pid);
            let list = |site: &str| {
                let names = fs::read_dir(format!("{root}{}", text(&kept.join(site)))).ok()?;
                Some(names.flatten().map(|name| name.file_name()).collect::<Vec<_>>())
            };
            let (Some(own), Some(others)) = (list(site), list(other)) else { continue };
            if own.is_empty() {
                continue;
            }
            assert!(others.is_empty(), "the agent of {site} sees {others:?} of {other}");
            looked.insert(site.to_owned());
        }
        done.load(Ordering::Relaxed).then_some(())
    });
    (verbs, looked)
}

#[test]
fn the_demo_over_nats_moves_bulk_between_agents_only() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("kept");
    let server = server_apart(folder.path());
    let demo = command(&["-o", "json", "demo", "--keep", text(&kept), "--nats", &server.url()]);
    let demo = beside(&server, &demo);
    let done = AtomicBool::new(false);
    let (said, (verbs, looked)) = std::thread::scope(|scope| {
        let watching = scope.spawn(|| watch_agents(&kept, &done));
        let said = run(demo);
        done.store(true, Ordering::Relaxed);
        (said, watching.join().unwrap())
    });
    let said = said.good();
    assert_eq!(steps(&said), STEPS, "the same steps as without NATS");
    for part in ["agent hq", "agent dr", "control hq", "control dr"] {
        assert!(verbs.contains(part), "{part} is a process of its own: {verbs:?}");
    }
    assert_eq!(looked, BTreeSet::from(["dr".to_owned(), "hq".to_owned()]), "both agents were looked at");
    for site in ["hq", "dr"] {
        nothing_panicked(&kept.join(site));
        assert!(kept.join(site).join("run/agent.log").exists() && kept.join(site).join("run/control.log").exists());
    }
    // The log went from hq's control to hq's agent beside NATS, and is the log.
    let (vault, recovered) = (kept.join("hq/repository"), folder.path().join("recovered"));
    let from = ["-o", "json", "site", "recover", "--from-repository", text(&vault), "--data", text(&recovered)];
    let made = farshore(&from).good().json();
    let (hq, frame) = (kept.join("hq"), made["frame"].to_string());
    let replay = farshore(&["-o", "json", "log", "replay", "--until", &frame, "--data", text(&hq)]).good().json();
    assert_eq!((&made["site"], &made["state"]), (&"hq".into(), &replay["state"]));
    let sum =
        |what: &str| said.json().as_array().unwrap().iter().filter_map(|row| row["moved"][what].as_u64()).sum::<u64>();
    let (sent, changed, counted) = (sum("sent"), sum("changed"), varz(&server));
    let (messages, bytes) =
        ["in_msgs", "out_msgs"].iter().zip(["in_bytes", "out_bytes"]).fold((0, 0), |(messages, bytes), (m, b)| {
            (messages + counted[*m].as_u64().unwrap(), bytes + counted[b].as_u64().unwrap())
        });
    let wire = on_the_wire(&server);
    println!(
        "{changed} bytes changed, {sent} sent by agents, {wire} on the network, {bytes} of them in {messages} messages over NATS"
    );
    assert!(messages > 100, "decisions go over NATS: {messages}");
    assert!(bytes / messages < 4096, "messages are small: {bytes} bytes in {messages}");
    assert!(bytes * 10 < sent, "no bulk on NATS: {bytes} bytes there, {sent} between agents");
    assert!(wire - bytes >= sent, "what agents say they sent was on the network beside NATS");
}
