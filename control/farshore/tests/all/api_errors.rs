//! Whatever the API refuses, it says so in the one form: `{code, message, advice}`.

use crate::site::Site;
use reqwest::Method;
use reqwest::blocking::RequestBuilder;
use serde_json::Value;

/// Status and code of an answer that is an error in the API's form.
#[track_caller]
fn no(request: RequestBuilder) -> (u16, String) {
    let answer = request.send().unwrap();
    let status = answer.status().as_u16();
    let text = answer.text().unwrap();
    let error: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("not JSON, {status}: {text}"));
    for part in ["message", "advice"] {
        assert!(error[part].as_str().is_some_and(|said| !said.is_empty()), "{error}");
    }
    (status, error["code"].as_str().unwrap_or_else(|| panic!("no code: {error}")).to_owned())
}

#[test]
fn every_no_of_the_api_is_json_with_a_code() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::up(&folder.path().join("data"), &[]);
    let ask = |method: Method, path: &str| site.request(method, &format!("/api/v1{path}"));
    let large = "x".repeat((1 << 20) + 2048);
    let quoted = format!("\"{large}\"");
    let json = |path: &str, body: &str| {
        ask(Method::POST, path).header("content-type", "application/json").body(body.to_owned())
    };
    let size = (413, "FS-API-BODY-SIZE".to_owned());
    assert_eq!(no(ask(Method::POST, "/resources").body(large.clone())), size);
    assert_eq!(no(json("/commands/host/local", &quoted)), size);
    let body = (400, "FS-API-BODY".to_owned());
    for wrong in ["", "{", "{\"Host\": \"Explode\"}", "[]", "\u{0}"] {
        assert_eq!(no(json("/commands/host/local", wrong)), body, "{wrong:?}");
    }
    assert_eq!(no(ask(Method::POST, "/commands/host/local").body("{}")), body, "no content type");
    assert_eq!(no(ask(Method::POST, "/resources").body(vec![0xff])), (400, "FS-YAML-SYNTAX".to_owned()));
    assert_eq!(no(ask(Method::GET, "/nothing")), (404, "FS-API-NO-REQUEST".to_owned()));
    let (status, code) = no(ask(Method::PUT, "/status"));
    assert!(matches!(status, 404 | 405), "{status}");
    assert_eq!(code, "FS-API-NO-REQUEST");
    assert_eq!(no(ask(Method::GET, "/resources/nonsense")).1, "FS-API-KIND");
    assert_eq!(no(ask(Method::GET, "/resources/host/no!name")).1, "FS-API-NAME");
    assert_eq!(no(ask(Method::GET, "/resources/host/missing")), (404, "FS-API-NOT-FOUND".to_owned()));
    assert_eq!(no(site.bare(Method::GET, "/api/v1/status")), (401, "FS-API-TOKEN".to_owned()));
    site.farshore(&["status"]).good();
    site.stop();
}
