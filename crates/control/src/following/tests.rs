//! A server that says what a test has written down, in pieces of any length.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::reading::Services;

/// What was asked for.
type Asked = Arc<Mutex<Vec<String>>>;

/// Gives these answers, one to a request, and then keeps whoever asks waiting.
async fn server(answers: &[(u16, &str)], piece: usize) -> (Client, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let uri = format!("http://{}", listener.local_addr().expect("bound")).parse().expect("a URL");
    let mut answers: VecDeque<(u16, String)> =
        answers.iter().map(|(code, text)| (*code, (*text).to_owned())).collect();
    let asked = Asked::default();
    let note = asked.clone();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let line = request(&mut stream).await;
            note.lock().expect("no panic").push(line);
            let Some((code, text)) = answers.pop_front() else {
                kept.push(stream);
                continue;
            };
            let head =
                format!("HTTP/1.1 {code} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", text.len());
            stream.write_all(head.as_bytes()).await.expect("heard");
            for piece in text.as_bytes().chunks(piece) {
                stream.write_all(piece).await.expect("heard");
                stream.flush().await.expect("heard");
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
    String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned()
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
