//! Garbage, oversized and deeply nested messages on the bus, the agent's data port and the API: refused and counted, and
//! the site goes on working.

use crate::bad_input::{BACKUP, make_vm, wait_for_vm};
use crate::site::Site;
use crate::support::{text, until};
use farshore_bus::{Bus, LocalBus, SocketBus, SocketHub};
use reqwest::Method;
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// MessagePack that opens arrays and never ends.
fn deep(levels: usize) -> Vec<u8> {
    vec![0x91; levels]
}

/// Messages that nobody should ever send.
fn hostile() -> Vec<Vec<u8>> {
    let name = |text: &str| [&[0xa0 | u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let inside = |text: &str, then: Vec<u8>| [vec![0x81], name(text), then].concat();
    vec![
        vec![],
        vec![0xc1; 64],
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        deep(150_000),
        inside("Deliver", deep(150_000)),
        // An array, a string and a map that claim to have four thousand million entries.
        vec![0xdd, 0xff, 0xff, 0xff, 0xff],
        inside("Deliver", vec![0xdb, 0xff, 0xff, 0xff, 0xff]),
        inside("Ack", vec![0xdf, 0xff, 0xff, 0xff, 0xff]),
        (0..180_000u32).map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect(),
    ]
}

/// The site still takes commands and moves data.
#[track_caller]
fn still_works(site: &Site) {
    site.farshore(&["job", "run", "nightly"]).good();
    let status: Value = site.request(Method::GET, "/api/v1/status").send().unwrap().json().unwrap();
    assert_eq!(status["halted"], Value::Null, "{status}");
    assert_eq!(status["counters"]["panics"], 0, "{status}");
    assert!(!site.said().contains("panicked"), "{}", site.said());
}

fn with_backup(site: &Site) {
    wait_for_vm(site, "web");
    site.apply(BACKUP);
    still_works(site);
}

#[test]
fn garbage_on_the_bus_is_counted_and_thrown_away() {
    let folder = tempfile::tempdir().unwrap();
    let (data, path) = (folder.path().join("data"), folder.path().join("bus"));
    make_vm(&data, "web", 1);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let inside = runtime.enter();
    let hub = SocketHub::serve(LocalBus::new(), &path).unwrap();
    let site = Site::up(&data, &["--join", text(&path)]);
    with_backup(&site);
    let bus = runtime.block_on(SocketBus::connect(&path, Duration::from_secs(30))).unwrap();
    let refused = |site: &Site| {
        let status: Value = site.request(Method::GET, "/api/v1/status").send().unwrap().json().unwrap();
        status["counters"]["refused"].as_u64().unwrap()
    };
    let before = refused(&site);
    let parties =
        ["job.nightly", "host.local", "site.site", "repository.local", "session.none", "agent.local", "control.ack"];
    let mut to_control = 0;
    for bytes in hostile() {
        for party in parties {
            bus.publish(&format!("fs1.main.{party}"), bytes.clone().into()).unwrap();
            to_control += u64::from(!party.starts_with("agent"));
        }
    }
    assert!(bus.publish("fs1.main.job.nightly", vec![0; 1 << 20].into()).is_err(), "the bus carries no bulk");
    runtime.block_on(bus.flush()).unwrap();
    until("every message to be refused", || (refused(&site) >= before + to_control).then_some(()));
    // Past the bus' own door: bytes that are no frame of the socket, a frame that is too long, one that is too deep.
    let framed = |bytes: Vec<u8>| [&u32::try_from(bytes.len()).unwrap().to_le_bytes()[..], &bytes].concat();
    for bytes in [vec![0xff; 4096], framed(deep(100_000)), framed(vec![0xc1; 10]), u32::MAX.to_le_bytes().to_vec()] {
        let mut socket = UnixStream::connect(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        // The other end may hang up before it has read all of it.
        let _cut = socket.write_all(&bytes);
        let _cut = socket.shutdown(Shutdown::Write);
        let mut rest = Vec::new();
        let _reset = socket.read_to_end(&mut rest);
        assert!(rest.is_empty(), "garbage is not answered: {rest:?}");
    }
    still_works(&site);
    site.stop();
    drop(hub);
    drop(inside);
}

#[test]
fn garbage_on_the_data_port_costs_its_connection_only() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    make_vm(&data, "web", 1);
    let site = Site::up(&data, &[]);
    with_backup(&site);
    let mover = site.state("mover", "local");
    let address =
        mover["Defined"]["agent"]["endpoint"]["address"].as_str().unwrap_or_else(|| panic!("{mover}")).to_owned();
    let tls_record = [vec![0x16, 3, 1, 0xff, 0xff], vec![0; 70_000]].concat();
    for bytes in hostile().into_iter().chain([tls_record, vec![0; 4 << 20]]) {
        let mut socket = TcpStream::connect(&address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        // The other end may hang up before it has read all of it.
        let _cut = socket.write_all(&bytes);
        let _cut = socket.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        let ended = (&mut socket).take(1 << 20).read_to_end(&mut answer);
        let reset = ended.as_ref().is_err_and(|error| error.kind() != std::io::ErrorKind::WouldBlock);
        assert!(ended.is_ok() || reset, "a connection with garbage is closed: {ended:?}");
        assert!(answer.len() < 4096, "garbage gets no data: {} bytes", answer.len());
    }
    // Many that say nothing: others still get in.
    let silent: Vec<_> = (0..40).map(|_| TcpStream::connect(&address).unwrap()).collect();
    still_works(&site);
    drop(silent);
    still_works(&site);
    site.stop();
}

#[test]
fn the_api_lets_in_only_who_may_and_takes_only_what_it_knows() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    make_vm(&data, "web", 1);
    let site = Site::up(&data, &[]);
    with_backup(&site);
    doors_are_guarded(&site);
    bodies_are_checked(&site);
    raw_bytes_are_survived(&site);
    still_works(&site);
    let token = data.join("secrets/api-token");
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&token).unwrap().permissions()) & 0o777;
    assert_eq!(mode, 0o600, "only its owner reads the token");
    fs::write(&token, "0".repeat(64)).unwrap();
    site.farshore(&["status"]).refused(12, &["FS-API-TOKEN", "secrets/api-token"]);
    fs::write(&token, &site.token).unwrap();
    site.farshore(&["status"]).good();
    site.stop();
}

#[track_caller]
fn answers(request: reqwest::blocking::RequestBuilder, status: u16, code: &str) {
    let answer = request.send().unwrap();
    let (found, text) = (answer.status().as_u16(), answer.text().unwrap());
    assert!(found == status && text.contains(code), "{status} {code} expected: {found} {text}");
}

fn doors_are_guarded(site: &Site) {
    let (status, get) = ("/api/v1/status", Method::GET);
    answers(site.bare(get.clone(), status), 401, "FS-API-TOKEN");
    answers(site.bare(get.clone(), status).bearer_auth("0".repeat(64)), 401, "FS-API-TOKEN");
    answers(site.bare(get.clone(), status).bearer_auth(&site.token[1..]), 401, "FS-API-TOKEN");
    answers(site.request(get.clone(), status).header("host", "evil.example:80"), 403, "FS-API-HOST");
    answers(site.request(get.clone(), status).header("origin", "https://evil.example"), 403, "FS-API-HOST");
    answers(site.request(get, status).header("origin", format!("http://{}", site.address)), 200, "main");
    answers(site.bare(Method::POST, "/api/v1/commands/job/nightly").json(&json!({"Job": "Run"})), 401, "FS-API-TOKEN");
    answers(site.bare(Method::DELETE, "/api/v1/resources/job/nightly"), 401, "FS-API-TOKEN");
}

fn bodies_are_checked(site: &Site) {
    let post = |path: &str| site.request(Method::POST, path);
    let command = "/api/v1/commands/job/nightly";
    let json_of = |body: String| post(command).header("content-type", "application/json").body(body);
    answers(json_of("[".repeat(500_000)), 400, "FS-API-BODY");
    answers(json_of(format!("{{\"Job\":{}", "{\"a\":".repeat(100_000))), 400, "FS-API-BODY");
    answers(json_of("{\"Job\": \"Explode\"}".to_owned()), 400, "FS-API-BODY");
    answers(json_of("not json".to_owned()), 400, "FS-API-BODY");
    answers(post("/api/v1/resources").body("a: ".repeat(200_000)), 400, "FS-YAML-");
    answers(post("/api/v1/resources").body("[".repeat(500_000)), 400, "FS-YAML-");
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
        d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n";
    answers(post("/api/v1/resources").body(bomb), 400, "FS-YAML-");
    answers(post("/api/v1/resources").body(vec![0xff, 0xfe, 0x00]), 400, "FS-YAML-SYNTAX");
    // An answer of a session's, and a command for another kind: nobody may forge what actors say to each other.
    let forged = json!({"Session": "Stop"});
    answers(post("/api/v1/commands/session/nightly-1").json(&forged), 400, "FS-API-");
    answers(post("/api/v1/commands/host/local").json(&json!({"Job": "Run"})), 400, "FS-API-COMMAND");
    let granted = json!({"Job": {"SessionEnded": {"session": "nightly-1", "result": "Success", "vms": []}}});
    let answer = post(command).json(&granted).send().unwrap();
    assert_eq!(answer.status(), 400, "{}", answer.text().unwrap());
    answers(post("/api/v1/commands/nothing/local").json(&json!({"Job": "Run"})), 400, "FS-API-NAME");
    answers(post("/api/v1/commands/job/..%2f..%2fetc").json(&json!({"Job": "Run"})), 400, "FS-API-NAME");
    answers(site.request(Method::GET, "/api/v1/resources/job/none"), 404, "FS-API-NOT-FOUND");
    answers(site.request(Method::DELETE, "/api/v1/resources/session/nightly-1"), 400, "FS-API-DELETE");
}

fn raw_bytes_are_survived(site: &Site) {
    let huge = format!(
        "POST /api/v1/resources HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\ncontent-length: 67108864\r\n\r\n",
        site.address, site.token
    );
    let bodies = [huge.into_bytes(), vec![0xff; 100_000], [b"GET /".to_vec(), vec![b'a'; 1 << 20]].concat()];
    for head in bodies {
        let mut socket = TcpStream::connect(&site.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        // The server may answer and hang up before it has read all of it.
        let _cut = socket.write_all(&head).and_then(|()| socket.write_all(&vec![b'x'; 4 << 20]));
        let _cut = socket.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        let _reset = socket.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
}
