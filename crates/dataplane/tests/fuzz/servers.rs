//! Every backend of the universe at once: sockets that answer with the address that they were reached at.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use daymark_model::AddressFamily;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::common::net::Space;
use crate::universe::Universe;

/// Ends with its owner.
pub struct Servers {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Servers {
    /// Makes backends local addresses of the namespace, and everything else unreachable.
    pub fn start(space: &Space, universe: &Universe) -> Self {
        let v4 = universe.family == AddressFamily::Ipv4;
        let (pods, lan, services, outside) = if v4 {
            ("10.244.0.0/16", "192.0.2.0/24", "10.96.0.0/16", "203.0.113.0/24")
        } else {
            ("fd00:10:244::/48", "2001:db8::/64", "fd00:10:96::/48", "2001:db8:113::/48")
        };
        let ip = if v4 { "ip -4" } else { "ip -6" };
        // For addresses that only a route makes local.
        space.sysctl("net/ipv6/ip_nonlocal_bind", "1");
        for network in [lan, services, outside] {
            space.command(&format!("{ip} route add unreachable {network}"));
        }
        space.command(&format!("{ip} route add local {pods} dev lo"));
        space.command(&format!("{ip} route add local {} dev lo", universe.database()));
        let backends = universe.backends();
        let (tcp, udp) = space.run(|| {
            let tcp = backends.iter().map(|at| TcpListener::bind(at).expect("a local address"));
            let udp = backends.iter().map(|at| UdpSocket::bind(at).expect("a local address"));
            (tcp.collect::<Vec<_>>(), udp.collect::<Vec<_>>())
        });
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                serve_ready(&backends, &tcp, &udp);
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

fn serve_ready(backends: &[SocketAddr], tcp: &[TcpListener], udp: &[UdpSocket]) {
    let descriptors = tcp.iter().map(AsFd::as_fd).chain(udp.iter().map(AsFd::as_fd));
    let mut polled: Vec<PollFd> = descriptors.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    if poll(&mut polled, PollTimeout::from(100u8)).unwrap_or(0) == 0 {
        return;
    }
    let ready = |index: usize| polled[index].any() == Some(true);
    for (index, at) in backends.iter().enumerate() {
        if ready(index)
            && let Ok((mut stream, _)) = tcp[index].accept()
        {
            let _ = writeln!(stream, "{at}");
        }
        if ready(tcp.len() + index) {
            let socket = &udp[index];
            if let Ok((_, from)) = socket.recv_from(&mut [0; 100]) {
                let _ = socket.send_to(at.to_string().as_bytes(), from);
            }
        }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
