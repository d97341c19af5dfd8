//! Messages as protobuf allows them and Kubernetes does not write them; what is none.

use super::*;
use crate::wire::{Address, EndpointSlice, Service};

/// A field of bytes.
fn bytes(number: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).expect("short");
    assert!(length < 0x80 && number < 16);
    [&[number << 3 | 2, length], content].concat()
}

fn varint(number: u8, value: u8) -> Vec<u8> {
    vec![number << 3, value]
}

fn envelope(kind: &str, raw: &[u8]) -> Vec<u8> {
    let meta = [bytes(1, b"v1"), bytes(2, kind.as_bytes())].concat();
    [MAGIC, &bytes(1, &meta), &bytes(2, raw), &bytes(3, b""), &bytes(4, b"")].concat()
}

fn slice(raw: &[u8]) -> Result<EndpointSlice<'_>, Malformed> {
    read(raw)
}

#[test]
fn fields_that_nobody_asks_for_are_skipped_whatever_their_form() {
    let group = [&[15 << 3 | 3][..], &varint(1, 1), &bytes(2, b"x"), &[15 << 3 | 4]].concat();
    let fixed = [&[15 << 3 | 1][..], &[0; 8], &[15 << 3 | 5], &[0; 4]].concat();
    let far = [&[0xfa, 0xff, 0xff, 0xff, 0x0f, 1][..], b"x"].concat();
    let all = [group, fixed, far, varint(14, 1), bytes(4, b"IPv6"), bytes(13, b"x")].concat();
    assert_eq!(&*slice(&all).expect("readable").address_type, "IPv6");
}

#[test]
fn of_what_comes_twice_the_last_counts_and_messages_add_up() {
    let ready = bytes(2, &varint(1, 1));
    let serving = bytes(2, &[varint(2, 0), varint(1, 0)].concat());
    let addresses = [bytes(1, b"10.0.0.1"), bytes(1, b"10.0.0.2")].concat();
    let endpoint = bytes(2, &[ready, addresses, serving].concat());
    let all = [bytes(4, b"IPv4"), endpoint, bytes(4, b"IPv6")].concat();
    let read = slice(&all).expect("readable");
    assert_eq!(&*read.address_type, "IPv6");
    let endpoint = &read.endpoints.as_ref().expect("one")[0];
    let conditions = endpoint.conditions.expect("set");
    assert_eq!(
        (conditions.ready, conditions.serving, conditions.terminating),
        (Some(false), Some(false), None)
    );
    assert_eq!(endpoint.address, Some(Address::Ip([10, 0, 0, 1].into())), "the first counts");
}

#[test]
fn numbers_below_zero_take_ten_bytes() {
    let minus_one = [&[3 << 3][..], &[0xff; 9], &[1]].concat();
    let service = bytes(2, &bytes(1, &minus_one));
    let read: Service<'_> = read(&service).expect("readable");
    assert_eq!(read.spec.expect("set").ports.expect("one")[0].port, -1);
}

#[test]
fn what_is_no_object_is_told() {
    let why =
        |bytes: &[u8]| object::<EndpointSlice<'_>>(bytes, "EndpointSlice").expect_err("no slice").to_string();
    let of = |raw: &[u8]| why(&envelope("EndpointSlice", raw));
    assert!(why(b"{}").contains("does not begin with"));
    assert!(why(&envelope("Service", b"")).contains("\"Service\" in protobuf where a EndpointSlice"));
    assert!(of(&varint(4, 1)).contains("field 4"));
    assert!(of(&bytes(4, b"\xff")).contains("utf-8"));
    assert!(of(&[4 << 3 | 2, 9, b'I']).contains("before its length"));
    assert!(of(&[[0xff; 10], [0xff; 10]].concat()).contains("no protobuf"));
    // A length of nearly 2^64.
    assert!(of(&[&[4 << 3 | 2][..], &[0xff; 9], &[1]].concat()).contains("before its length"));
    let deep = [15 << 3 | 3].repeat(100_000);
    assert!(of(&deep[..100]).contains("no protobuf"));
    assert!(slice(&deep).is_err());
}

#[test]
fn what_is_cut_off_is_told_or_ends_between_fields() {
    let endpoint = bytes(2, &[bytes(1, b"10.0.0.1"), bytes(6, b"n1"), bytes(2, &varint(1, 1))].concat());
    let whole = [bytes(1, &bytes(1, b"w")), endpoint, bytes(4, b"IPv4")].concat();
    let whole_fields = (0..=whole.len()).filter(|end| slice(&whole[..*end]).is_ok()).count();
    assert_eq!(whole_fields, 4);
}
