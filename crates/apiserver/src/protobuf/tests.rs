//! Bodies that Kubernetes' own serializer made decode to the JSON that it makes; garbage never panics.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::Value;

use super::{decode, encode};

fn vectors() -> Vec<Value> {
    include_str!("../../tests/golden/protobuf.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).expect("the file holds JSON lines"))
        .collect()
}

fn body(vector: &Value) -> Vec<u8> {
    STANDARD.decode(vector["protobuf"].as_str().expect("it has a body")).expect("in base64")
}

/// Kubernetes encodes empty lists and times as null in places where we leave them out.
fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(without_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

#[test]
fn golden_bodies_decode_to_golden_json() {
    let vectors = vectors();
    assert!(vectors.len() > 25, "{}", vectors.len());
    for mut vector in vectors {
        let got = decode(&body(&vector)).unwrap_or_else(|e| panic!("{}: {e}", vector["name"]));
        let mut want = vector["json"].take();
        without_nulls(&mut want);
        assert_eq!(got.to_string(), want.to_string(), "{}", vector["name"]);
    }
}

/// With `KUBERNETES_API_TESTDATA` naming `testdata/HEAD` of the k8s.io/api module, all of its vectors too.
#[test]
fn upstream_vectors_decode_if_they_are_here() {
    let Ok(dir) = std::env::var("KUBERNETES_API_TESTDATA") else { return };
    let mut count = 0;
    for entry in std::fs::read_dir(dir).expect("the directory exists") {
        let path = entry.expect("it is readable").path();
        if path.extension().is_none_or(|e| e != "pb") {
            continue;
        }
        let body = std::fs::read(&path).expect("it is readable");
        let mut got = match decode(&body) {
            Err(e) if e.message.contains("no kind") => continue,
            got => got.unwrap_or_else(|e| panic!("{path:?}: {e}")),
        };
        let json = std::fs::read(path.with_extension("json")).expect("each has its JSON");
        let mut want: Value = serde_json::from_slice(&json).expect("it is JSON");
        without_nulls(&mut want);
        without_nulls(&mut got);
        assert_eq!(got, want, "{path:?}");
        count += 1;
    }
    assert!(count > 60, "{count}");
}

/// Kinds with schemas of custom resources are not encoded.
#[test]
fn golden_json_encodes_to_golden_bodies() {
    let vectors = vectors();
    let all = vectors.iter().filter(|vector| vector["json"]["kind"] != "CustomResourceDefinition");
    let mut count = 0;
    for vector in all {
        let got = encode(&vector["json"]).unwrap_or_else(|e| panic!("{}: {e}", vector["name"]));
        let want = body(vector);
        let read = |body: &[u8]| decode(body).map_err(|e| e.message);
        assert!(got == want, "{}: {:#?} instead of {:#?}", vector["name"], read(&got), read(&want));
        count += 1;
    }
    assert!(count > 25, "{count}");
}

#[test]
fn malformed_bodies_are_bad_requests() {
    let pod = body(&vectors()[0]);
    for body in [
        &b""[..],
        b"k8s",
        b"k8s\0",
        b"{}",
        b"k8s\0\xff",
        b"k8s\0\x0a\xff\xff\xff\xff\x0f",
        &pod[..pod.len() - 1],
    ] {
        assert_eq!(decode(body).expect_err("it is malformed").code, 400);
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(tail in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&tail);
        let _ = decode(&[b"k8s\0", &tail[..]].concat());
        let pod = [b"k8s\0\x0a\x09\x0a\x02v1\x12\x03Pod\x12", &[tail.len() as u8][..], &tail].concat();
        let _ = decode(&pod);
    }

    #[test]
    fn flipped_bytes_never_panic(at in any::<prop::sample::Index>(), which in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let vectors = vectors();
        let mut body = body(which.get(&vectors));
        let at = at.index(body.len());
        body[at] = byte;
        let _ = decode(&body);
    }
}
