//! Frames in, frames out.

use super::*;

const US: Mac = [2, 0, 0, 0, 0, 1];
const THEM: Mac = [2, 0, 0, 0, 0, 9];
const VIP: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 200);
const CLIENT: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 1);

fn owned() -> BTreeSet<Ipv4Addr> {
    BTreeSet::from([VIP])
}

fn request(sender: Ipv4Addr, target: Ipv4Addr, destination: Mac) -> Vec<u8> {
    build(
        destination,
        ArpEthIpv4Packet {
            operation: ArpOperation::REQUEST,
            sender_mac: THEM,
            sender_ipv4: sender.octets(),
            target_mac: UNKNOWN,
            target_ipv4: target.octets(),
        },
    )
}

#[test]
fn a_request_for_an_owned_address_is_answered_to_the_asker() {
    let answer = answer_arp(&request(CLIENT, VIP, BROADCAST), &owned(), US).expect("an answer");
    assert_eq!(answer[..6], THEM);
    assert_eq!(answer[6..12], US);
    assert_eq!(answer[12..22], [0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 2], "an ARP reply for IPv4 on Ethernet");
    assert_eq!(answer[22..28], US);
    assert_eq!(answer[28..32], VIP.octets());
    assert_eq!(answer[32..38], THEM);
    assert_eq!(answer[38..42], CLIENT.octets());
}

#[test]
fn a_unicast_request_and_a_probe_are_answered() {
    assert!(answer_arp(&request(CLIENT, VIP, US), &owned(), US).is_some());
    assert!(answer_arp(&request(Ipv4Addr::UNSPECIFIED, VIP, BROADCAST), &owned(), US).is_some());
}

#[test]
fn nothing_else_is_answered() {
    let others = request(CLIENT, Ipv4Addr::new(172, 30, 0, 201), BROADCAST);
    assert_eq!(answer_arp(&others, &owned(), US), None);
    assert_eq!(answer_arp(&request(CLIENT, VIP, THEM), &owned(), US), None, "sent to somebody else");
    let [announcement, reply] = announcements(VIP, THEM);
    assert_eq!(answer_arp(&announcement, &owned(), US), None);
    assert_eq!(answer_arp(&reply, &owned(), US), None);
    assert_eq!(answer_arp(&probe(VIP, US), &owned(), US), None, "our own");
}

#[test]
fn cut_and_padded_frames() {
    let whole = request(CLIENT, VIP, BROADCAST);
    for length in 0..whole.len() {
        assert_eq!(answer_arp(&whole[..length], &owned(), US), None, "{length} bytes");
    }
    let padded = [&whole[..], &[0; 18]].concat();
    assert_eq!(answer_arp(&padded, &owned(), US).map(|answer| answer.len()), Some(42));
}

#[test]
fn another_hosts_claim_is_a_conflict() {
    let found = Some(Conflict { ip: VIP, mac: THEM });
    for frame in announcements(VIP, THEM) {
        assert_eq!(conflict(&frame, &owned(), US), found);
        assert_eq!(conflict(&frame, &BTreeSet::new(), US), None);
    }
    assert_eq!(conflict(&request(VIP, CLIENT, BROADCAST), &owned(), US), found, "it uses our address to ask");
    for frame in announcements(VIP, US) {
        assert_eq!(conflict(&frame, &owned(), US), None, "our own announcement");
    }
    assert_eq!(conflict(&probe(VIP, THEM), &owned(), US), None, "a probe claims nothing");
    let answer = answer_arp(&probe(VIP, THEM), &owned(), US).expect("an answer");
    assert_eq!(conflict(&answer, &owned(), THEM), Some(Conflict { ip: VIP, mac: US }));
}
