//! Starting and stopping VMs by the command line: a VM that a replica protects waits for it, and that is said.

use crate::bad_input::make_vm;
use crate::replication::{pair, replica_of};
use crate::support::until;
use serde_json::{Value, json};

#[test]
fn a_protected_vm_is_started_once_its_replica_has_said_so_and_what_is_waited_for_is_told() {
    let folder = tempfile::tempdir().unwrap();
    make_vm(&folder.path().join("hq"), "guest", 3);
    let both = pair(folder.path());
    both.dr.farshore(&["job", "run", "offsite"]).good(); // Both movers are there by then.
    let protected = || both.hq.state("host", "hq-host")["Defined"]["protected"]["guest"].is_array().then_some(());
    until("the protection", protected);
    let on = both.hq.farshore(&["vm", "power-on", "guest", "-o", "json"]).good().json();
    assert_eq!((&on["host"], &on["power"], &on["note"]), (&json!("hq-host"), &json!("on"), &Value::Null), "{on}");
    both.hq.farshore(&["vm", "power-on", "guest"]).refused(22, &["FS-HOST-ALREADY-ON"]);
    both.hq.farshore(&["vm", "power-off", "guest"]).good();
    both.hq.farshore(&["vm", "power-off", "guest"]).refused(22, &["FS-HOST-ALREADY-OFF"]);
    both.hq.farshore(&["vm", "power-on", "nobody"]).refused(10, &["FS-CLI-NO-VM", "nobody"]);
    both.dr.stop();
    let replica = format!("dr:replica/{}", replica_of("guest"));
    let waits = both.hq.farshore(&["vm", "power-on", "guest", "--no-wait", "-o", "json"]).good().json();
    assert_eq!(waits["power"], "ordered", "{waits}");
    assert!(waits["note"].as_str().is_some_and(|note| note.contains(&replica)), "{waits}");
    let status = both.hq.farshore(&["status"]).good().out;
    assert!(status.contains("asks   the VM guest is started once") && status.contains(&replica), "{status}");
    let again = json!({"Host": {"PowerOn": {"vm": "guest", "forced": null}}});
    let sent = both.hq.request(reqwest::Method::POST, "/api/v1/commands/host/hq-host").json(&again).send().unwrap();
    let refused: Value = sent.json().unwrap();
    assert_eq!(refused["refused"]["code"], "FS-HOST-ASKING", "{refused}");
    both.hq.farshore(&["vm", "power-on", "guest", "--override"]).refused(2, &["--reason"]);
    both.hq.farshore(&["vm", "power-on", "guest", "--override", "--reason", "dr is lost"]).good();
    assert_eq!(both.hq.state("host", "hq-host")["Defined"]["inventory"]["guest"]["running"], true);
    both.hq.farshore(&["vm", "power-off", "guest"]).good();
    both.hq.stop();
}
