//! A server that says what a test has written down, in pieces of any length.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use daymark_apiserver::protobuf::{encode, frame};
use serde_json::{Value, json};

use super::*;
use crate::reading::Services;

/// What was asked for.
type Asked = Arc<Mutex<Vec<String>>>;

const JSON: &str = "application/json";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const FRAMES: &str = "application/vnd.kubernetes.protobuf;stream=watch";

/// Gives these answers in JSON, one to a request, and then keeps whoever asks waiting.
async fn server(answers: &[(u16, &str)], piece: usize) -> (Client, Asked) {
    let answers: Vec<_> = answers.iter().map(|(code, text)| (*code, JSON, text.as_bytes())).collect();
    server_of(&answers, piece).await
}

/// Gives these answers of any type.
async fn server_of(answers: &[(u16, &'static str, &[u8])], piece: usize) -> (Client, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let uri = format!("http://{}", listener.local_addr().expect("bound")).parse().expect("a URL");
    let mut answers: VecDeque<_> =
        answers.iter().map(|(code, of, body)| (*code, *of, (*body).to_owned())).collect();
    let asked = Asked::default();
    let note = asked.clone();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let line = request(&mut stream).await;
            note.lock().expect("no panic").push(line);
            let Some((code, of, body)) = answers.pop_front() else {
                kept.push(stream);
                continue;
            };
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {code} X\r\ncontent-type: {of}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
            );
            // Who has heard enough hangs up.
            let _ = stream.write_all(head.as_bytes()).await;
            for piece in body.chunks(piece) {
                let _ = stream.write_all(piece).await;
                tokio::task::yield_now().await;
            }
        }
    });
    (Client::try_from(kube::Config::new(uri)).expect("a client"), asked)
}

async fn request(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        text.push(stream.read_u8().await.expect("a request"));
    }
    let text = String::from_utf8_lossy(&text);
    let accept = text.lines().filter(|line| line.starts_with("accept:")).collect::<Vec<_>>().join(" ");
    format!("{} {accept}", text.lines().next().unwrap_or_default())
}

fn added(name: &str, version: u32) -> String {
    format!(
        "{{\"type\":\"ADDED\",\"object\":{{\"metadata\":{{\"name\":\"{name}\",\"namespace\":\"n\",\"resourceVersion\":\"{version}\"}},\"spec\":{{}}}}}}\n"
    )
}

fn end(version: u32) -> String {
    format!(
        "{{\"type\":\"BOOKMARK\",\"object\":{{\"metadata\":{{\"resourceVersion\":\"{version}\",\"annotations\":{{\"k8s.io/initial-events-end\":\"true\"}}}},\"spec\":{{\"ports\":null}},\"status\":{{\"loadBalancer\":{{}}}}}}}}\n"
    )
}

const EXPIRED: &str = "{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"status\":\"Failure\",\"message\":\"too old\",\"code\":410}}\n";

/// The next steps in words, until there are so many.
async fn words(watch: &mut Watch<Services>, count: usize) -> Vec<String> {
    let mut words = Vec::new();
    while words.len() < count {
        let steps = tokio::time::timeout(Duration::from_secs(20), watch.next()).await;
        words.extend(steps.unwrap_or_else(|_| panic!("only {words:?}")).into_iter().map(|step| match step {
            Ok(Step::List) => "list".to_owned(),
            Ok(Step::Listed) => "listed".to_owned(),
            Ok(Step::Said(Said::Object(read))) => read.name.name.to_string(),
            Ok(Step::Said(said)) => format!("{said:?}"),
            Err(error) => format!("error: {error}"),
        }));
    }
    words
}

async fn until_asked(asked: &Asked, watch: &mut Watch<Services>, count: usize) -> Vec<String> {
    let _ = tokio::time::timeout(Duration::from_secs(20), async {
        while asked.lock().expect("no panic").len() < count {
            let _ = tokio::time::timeout(Duration::from_millis(20), watch.next()).await;
        }
    })
    .await;
    asked.lock().expect("no panic").clone()
}

#[tokio::test]
async fn lines_are_read_wherever_pieces_end() {
    let all = added("a", 1) + &added("b", 2) + &end(5) + &added("c", 6);
    for piece in [1, 7, 50, 10_000] {
        let (client, asked) = server(&[(200, &all)], piece).await;
        let mut watch = Watch::<Services>::new(client, None);
        assert_eq!(words(&mut watch, 5).await, ["list", "a", "b", "listed", "c"]);
        let asked = until_asked(&asked, &mut watch, 2).await;
        assert!(
            asked[0].contains("sendInitialEvents=true") && asked[0].contains("resourceVersion=0"),
            "{asked:?}"
        );
        assert!(
            asked[1].contains("resourceVersion=6") && !asked[1].contains("sendInitialEvents"),
            "{asked:?}"
        );
    }
}

#[tokio::test]
async fn a_list_that_breaks_off_begins_anew() {
    let (half, whole) = (added("a", 9), added("b", 3) + &end(5));
    let (client, _) = server(&[(200, &half), (200, &whole)], 64).await;
    let mut watch = Watch::<Services>::new(client, None);
    assert_eq!(words(&mut watch, 5).await, ["list", "a", "list", "b", "listed"]);
}

#[tokio::test]
async fn what_is_too_old_is_listed_anew() {
    let (first, then, last) = (end(5), EXPIRED, added("a", 8) + &end(8));
    let gone = r#"{"kind":"Status","status":"Failure","message":"too old","code":410}"#;
    let (client, asked) =
        server(&[(200, &first), (200, then), (200, &last), (410, gone), (200, &last)], 64).await;
    let mut watch = Watch::<Services>::new(client, None);
    let words = words(&mut watch, 10).await;
    let errors: Vec<usize> = (0..10).filter(|at| words[*at].starts_with("error")).collect();
    assert_eq!(errors, [2, 6], "{words:?}");
    assert_eq!(words[3..6], ["list", "a", "listed"]);
    assert_eq!(words[7..], ["list", "a", "listed"]);
    assert!(asked.lock().expect("no panic")[4].contains("sendInitialEvents=true"));
}

#[tokio::test]
async fn a_server_without_streaming_lists_is_asked_for_pages() {
    let refusal =
        r#"{"kind":"Status","status":"Failure","message":"sendInitialEvents is forbidden","code":422}"#;
    let page = |name: &str, more: &str| {
        format!(
            r#"{{"kind":"ServiceList","metadata":{{"resourceVersion":"7"{more}}},"items":[{{"metadata":{{"name":"{name}","namespace":"n"}}}}]}}"#
        )
    };
    let (first, second) = (page("a", r#","continue":"more/""#), page("b", ""));
    let (client, asked) =
        server(&[(422, refusal), (200, &first), (200, &second), (200, &added("c", 8))], 64).await;
    let mut watch = Watch::<Services>::new(client, Some("spec.nodeName=n1".into()));
    assert_eq!(words(&mut watch, 5).await, ["list", "a", "b", "listed", "c"]);
    let asked = until_asked(&asked, &mut watch, 5).await;
    assert!(
        asked[1].contains("limit=500") && asked[1].contains("fieldSelector=spec.nodeName%3Dn1"),
        "{asked:?}"
    );
    assert!(asked[2].contains("continue=more%2F"), "{asked:?}");
    assert!(asked[3].contains("resourceVersion=7") && asked[4].contains("resourceVersion=8"), "{asked:?}");
}

#[tokio::test]
async fn what_cannot_be_read_is_told_and_passed_over() {
    let odd = "{\"type\":\"ADDED\",\"object\":{\"spec\":7}}\n".to_owned();
    let proxy = (502, "<html>Bad gateway</html>");
    let (client, _) = server(&[proxy, (200, &(odd + &added("a", 1)))], 64).await;
    let mut watch = Watch::<Services>::new(client, None);
    let words = words(&mut watch, 4).await;
    assert!(words[0].contains("Bad gateway"), "{words:?}");
    assert_eq!(words[1], "list");
    assert!(words[2].contains("/api/v1/services: unreadable"), "{words:?}");
    assert_eq!(words[3], "a");
}

fn service(name: &str, version: u32) -> Value {
    let metadata = json!({"name": name, "namespace": "n", "resourceVersion": version.to_string()});
    json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 80}]}})
}

fn told(what: &str, object: &Value) -> Vec<u8> {
    frame(what, object).expect("of its types")
}

fn end_frame(version: u32) -> Vec<u8> {
    let mut mark = service("", version);
    mark["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
    told("BOOKMARK", &mark)
}

fn expired() -> Value {
    json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "message": "too old", "code": 410})
}

#[tokio::test]
async fn frames_are_read_wherever_pieces_end() {
    let (a, b, c) = (service("a", 1), service("b", 2), service("c", 6));
    let all = [told("ADDED", &a), told("ADDED", &b), end_frame(5), told("MODIFIED", &c), told("DELETED", &b)]
        .concat();
    for piece in [1, 7, 50, 10_000] {
        let (client, asked) = server_of(&[(200, FRAMES, &all)], piece).await;
        let mut watch = Watch::<Services>::new(client, None);
        let words = words(&mut watch, 6).await;
        assert_eq!(words[..5], ["list", "a", "b", "listed", "c"]);
        assert!(words[5].starts_with("Gone") && words[5].contains("\"b\""), "{words:?}");
        let asked = until_asked(&asked, &mut watch, 2).await;
        let wanted = "accept: application/vnd.kubernetes.protobuf, application/json";
        assert!(asked[0].ends_with(wanted) && asked[1].ends_with(wanted), "{asked:?}");
        assert!(
            asked[1].contains("resourceVersion=2&") || asked[1].contains("resourceVersion=2 "),
            "{asked:?}"
        );
    }
}

#[tokio::test]
async fn failures_are_read_in_either_encoding() {
    let list = [told("ADDED", &service("a", 8)), end_frame(8)].concat();
    let (error, refusal) = (told("ERROR", &expired()), encode(&expired()).expect("of its types"));
    let json = expired().to_string();
    let answers: [(u16, &str, &[u8]); 6] = [
        (200, FRAMES, &end_frame(5)),
        (200, FRAMES, &error),
        (200, FRAMES, &list),
        (410, PROTOBUF, &refusal),
        (200, FRAMES, &list),
        (410, JSON, json.as_bytes()),
    ];
    let (client, _) = server_of(&answers, 64).await;
    let mut watch = Watch::<Services>::new(client, None);
    let words = words(&mut watch, 10).await;
    for (at, word) in words.iter().enumerate() {
        assert_eq!(word.contains("too old"), [2, 6].contains(&at), "{words:?}");
    }
    assert_eq!(words[7..], ["list", "a", "listed"]);
    let next = self::words(&mut watch, 1).await;
    assert!(next[0].contains("too old"), "{next:?}");
}

#[tokio::test]
async fn a_refusal_of_streaming_lists_in_protobuf_leads_to_pages_in_json() {
    let mut refusal = expired();
    refusal["code"] = json!(422);
    let page =
        json!({"kind": "ServiceList", "metadata": {"resourceVersion": "7"}, "items": [service("a", 1)]});
    let (refusal, page) = (encode(&refusal).expect("of its types"), page.to_string());
    let then = told("ADDED", &service("c", 8));
    let answers: [(u16, &str, &[u8]); 3] =
        [(422, PROTOBUF, &refusal), (200, JSON, page.as_bytes()), (200, FRAMES, &then)];
    let (client, asked) = server_of(&answers, 64).await;
    let mut watch = Watch::<Services>::new(client, None);
    assert_eq!(words(&mut watch, 4).await, ["list", "a", "listed", "c"]);
    let asked = asked.lock().expect("no panic").clone();
    assert!(asked[0].contains("protobuf") && !asked[1].contains("protobuf"), "{asked:?}");
}

#[tokio::test]
async fn a_frame_that_cannot_be_read_is_passed_over_and_a_length_that_cannot_be_is_not_waited_for() {
    let mut wrong = told("ADDED", &service("x", 1));
    let last = wrong.len() - 1;
    wrong.truncate(last);
    wrong.push(0x0f);
    let garbage = [wrong, told("ADDED", &service("a", 1)), b"<html>Bad gateway</html>".to_vec()].concat();
    let whole = [told("ADDED", &service("b", 3)), end_frame(5)].concat();
    let (client, _) = server_of(&[(200, FRAMES, &garbage), (200, FRAMES, &whole)], 64).await;
    let mut watch = Watch::<Services>::new(client, None);
    let words = words(&mut watch, 7).await;
    assert_eq!(words[0], "list");
    assert!(words[1].contains("/api/v1/services: unreadable"), "{words:?}");
    assert_eq!(words[2], "a");
    assert!(words[3].contains("/api/v1/services: unreadable"), "{words:?}");
    assert_eq!(words[4..], ["list", "b", "listed"]);
}
