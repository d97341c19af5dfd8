//! Finding and ending sockets: `sock_diag(7)`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;

/// `struct inet_diag_sockid`: ports and addresses in network order.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct SocketId {
    source_port: u16,
    target_port: u16,
    source: [u8; 16],
    target: [u8; 16],
    interface: u32,
    cookie: [u32; 2],
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Request {
    length: u32,
    kind: u16,
    flags: u16,
    sequence: u32,
    port: u32,
    family: u8,
    protocol: u8,
    extensions: u8,
    pad: u8,
    states: u32,
    id: SocketId,
}

/// The head of `struct inet_diag_msg`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Found {
    family: u8,
    state: u8,
    timer: u8,
    retransmits: u8,
    id: SocketId,
}

/// A UDP socket that is connected to somebody.
#[derive(Clone, Copy, Debug)]
pub struct ConnectedUdp {
    pub cookie: u64,
    pub peer: SocketAddr,
    family: u8,
    id: SocketId,
}

/// A netlink socket for the calling thread's network namespace.
pub struct Diag {
    fd: OwnedFd,
}

const HEADER: usize = 16;

impl Diag {
    pub fn open() -> io::Result<Self> {
        // SAFETY: no pointers.
        let fd = unsafe {
            libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_SOCK_DIAG)
        };
        // SAFETY: the kernel has just given us this descriptor.
        if fd < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
        }
    }

    fn send(&self, request: &Request) -> io::Result<()> {
        let pointer = std::ptr::from_ref(request).cast();
        // SAFETY: the pointer leads to a plain structure of that size.
        let sent = unsafe { libc::send(self.fd.as_raw_fd(), pointer, size_of::<Request>(), 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
        // SAFETY: the buffer is of the length given.
        let got = unsafe { libc::recv(self.fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        if got < 0 { Err(io::Error::last_os_error()) } else { Ok(&buffer[..got as usize]) }
    }

    /// Every connected UDP socket of the namespace, of both families.
    pub fn connected_udp(&self) -> io::Result<Vec<ConnectedUdp>> {
        let mut found = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            self.send(&request(SOCK_DIAG_BY_FAMILY, libc::NLM_F_DUMP, family as u8, SocketId::default()))?;
            let mut buffer = vec![0; 32_768];
            while read_dump(self.receive(&mut buffer)?, &mut found)? {}
        }
        Ok(found)
    }

    /// Ends a socket: its owner sees ECONNABORTED.
    pub fn destroy(&self, socket: &ConnectedUdp) -> io::Result<()> {
        self.send(&request(SOCK_DESTROY, libc::NLM_F_ACK, socket.family, socket.id))?;
        let mut buffer = vec![0; 4096];
        let answer = self.receive(&mut buffer)?;
        match error_in(answer) {
            Some(0) | None => Ok(()),
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

fn request(kind: u16, flags: i32, family: u8, id: SocketId) -> Request {
    Request {
        length: size_of::<Request>() as u32,
        kind,
        flags: (flags | libc::NLM_F_REQUEST) as u16,
        sequence: 1,
        family,
        protocol: libc::IPPROTO_UDP as u8,
        states: u32::MAX,
        id,
        ..Request::default()
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn kind_of(message: &[u8]) -> Option<i32> {
    Some(i32::from(u16::from_ne_bytes(message.get(4..6)?.try_into().ok()?)))
}

/// The error number in an error message; 0 is an acknowledgement.
fn error_in(message: &[u8]) -> Option<i32> {
    let is_error = kind_of(message) == Some(libc::NLMSG_ERROR);
    word(message, HEADER).filter(|_| is_error).map(|code| -(code as i32))
}

/// Adds the sockets of one datagram of a dump; false at its end.
fn read_dump(mut rest: &[u8], found: &mut Vec<ConnectedUdp>) -> io::Result<bool> {
    while rest.len() >= HEADER {
        let length = word(rest, 0).map_or(0, |length| length as usize);
        if length < HEADER || length > rest.len() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let message = &rest[..length];
        match kind_of(message) {
            Some(libc::NLMSG_DONE) => return Ok(false),
            Some(libc::NLMSG_ERROR) => {
                return Err(io::Error::from_raw_os_error(error_in(message).unwrap_or(libc::EINVAL)));
            }
            _ => found.extend(read_socket(&message[HEADER..])),
        }
        rest = &rest[length.next_multiple_of(4).min(rest.len())..];
    }
    Ok(true)
}

fn read_socket(bytes: &[u8]) -> Option<ConnectedUdp> {
    if bytes.len() < size_of::<Found>() {
        return None;
    }
    // SAFETY: there are enough bytes, and every pattern of them is a valid value.
    let socket = unsafe { bytes.as_ptr().cast::<Found>().read_unaligned() };
    let id = socket.id;
    let ip = match i32::from(socket.family) {
        libc::AF_INET => IpAddr::from(Ipv4Addr::new(id.target[0], id.target[1], id.target[2], id.target[3])),
        _ => Ipv6Addr::from(id.target).to_canonical(),
    };
    let cookie = u64::from(id.cookie[0]) | u64::from(id.cookie[1]) << 32;
    let peer = SocketAddr::new(ip, u16::from_be(id.target_port));
    (id.target_port != 0).then_some(ConnectedUdp { cookie, peer, family: socket.family, id })
}
