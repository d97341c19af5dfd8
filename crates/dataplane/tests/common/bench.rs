//! Packets through the programs, without sending any.
//!
//! Frames run with BPF_PROG_TEST_RUN in an empty network namespace, where no route leads anywhere: a
//! translated packet goes to the stack, and nothing is ever sent.

use daymark_dataplane::{DataPlane, PacketProgram};
use daymark_model::Protocol::{Tcp, Udp};
use daymark_plan::tables::FrontendKind::{ClusterIp, NodePort};
use daymark_plan::tables::Op;

use super::frames::describe;
use super::{Pins, ip, put_frontend, service};

pub const TO_STACK: i32 = -1;
pub const DROPPED: i32 = 2;
pub const SENT: i32 = 7;

/// A data plane in an empty namespace. The thread keeps it, and ends with the test.
pub struct Bench {
    pub plane: DataPlane,
    pub pins: Pins,
}

impl Bench {
    pub fn new(ops: &[Op]) -> Self {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("tests run as root");
        let pins = Pins::new();
        let mut plane = pins.open();
        plane.apply(ops).expect("operations apply");
        Self { plane, pins }
    }

    pub fn run(&self, program: PacketProgram, frame: &[u8]) -> (i32, Vec<u8>) {
        let verdict = self.plane.run(program, frame, 0).expect("the program runs");
        (verdict.action, verdict.frame)
    }

    /// What the packet became, if it may go on.
    pub fn translated(&self, program: PacketProgram, frame: &[u8]) -> String {
        let (action, frame) = self.run(program, frame);
        assert_eq!(action, TO_STACK);
        describe(&frame)
    }

    pub fn is_dropped(&self, program: PacketProgram, frame: &[u8]) -> bool {
        self.run(program, frame).0 == DROPPED
    }

    pub fn is_untouched(&self, program: PacketProgram, frame: &[u8]) -> bool {
        self.run(program, frame) == (TO_STACK, frame.to_vec())
    }
}

pub fn node_port(backends: &[&str]) -> Vec<Op> {
    let mut ops =
        service(1, &[(NodePort, Tcp, "192.0.2.11:30008"), (ClusterIp, Tcp, "10.96.0.7:80")], backends);
    ops.push(put_frontend(1, NodePort, Udp, "192.0.2.11:30008"));
    ops.push(Op::PutClusterIp { ip: ip("10.96.0.7") });
    ops
}

/// The port in `… > 192.0.2.11:PORT …`, or the source port in `… 192.0.2.11:PORT > …`.
pub fn node_port_in(text: &str) -> u16 {
    let rest = text.split("192.0.2.11:").nth(1).expect("the node's address");
    rest.split(' ').next().expect("a port").parse().expect("a number")
}
