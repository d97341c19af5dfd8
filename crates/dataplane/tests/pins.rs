//! What survives the process: tables, links, and nothing after removal.

mod common;

use common::{Pins, entry, ip, key, put_frontend, service};
use daymark_dataplane::DataPlane;
use daymark_model::Protocol::{Tcp, Udp};
use daymark_plan::tables::FrontendKind::{ClusterIp, LoadBalancerIp, NodePort};
use daymark_plan::tables::{Op, Tables};

#[test]
fn loading_is_fast() {
    let pins = Pins::new();
    let start = std::time::Instant::now();
    let plane = pins.open();
    eprintln!("first open {:?}", start.elapsed());
    drop(plane);
    let start = std::time::Instant::now();
    pins.open();
    eprintln!("second open {:?}", start.elapsed());
    assert!(start.elapsed().as_millis() < 500);
}
