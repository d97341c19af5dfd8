//! A packet socket for ARP on one interface.

use std::io::{self, Read, Write};
use std::mem::MaybeUninit;

use socket2::{Domain, SockAddr, SockAddrStorage, Socket, Type};
use tokio::io::unix::AsyncFd;

const ETHERTYPE_ARP: u16 = libc::ETH_P_ARP as u16;

/// Receives the ARP frames of one interface, and sends frames there.
pub struct ArpSocket {
    socket: AsyncFd<Socket>,
}

impl ArpSocket {
    /// Opens a socket in the network namespace of the calling thread, within a tokio runtime. Needs
    /// CAP_NET_RAW.
    pub fn open(ifindex: u32) -> io::Result<Self> {
        // Protocol 0 receives nothing until bind names interface and protocol at once.
        let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&link_address(ifindex)?)?;
        // SAFETY: the descriptor belongs to the socket, which lives in the AsyncFd and is never replaced.
        let socket = unsafe { AsyncFd::register(socket) }?;
        Ok(Self { socket })
    }

    /// Waits for a frame; its length in `buffer`.
    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.socket.readable().await?;
            if let Ok(result) = ready.try_io(|socket| { socket.get_ref() }.read(buffer)) {
                return result;
            }
        }
    }

    /// Sends a frame, or loses it if the interface's queue is full, as any link may.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        match { self.socket.get_ref() }.write(frame) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }
}

fn link_address(ifindex: u32) -> io::Result<SockAddr> {
    let link = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: ETHERTYPE_ARP.to_be(),
        sll_ifindex: i32::try_from(ifindex).map_err(io::Error::other)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let mut storage = MaybeUninit::<SockAddrStorage>::zeroed();
    // SAFETY: a sockaddr_ll is smaller than the storage that every socket address fits, and zeroes are
    // valid there; the length given is that of what was written.
    unsafe {
        storage.as_mut_ptr().cast::<libc::sockaddr_ll>().write(link);
        Ok(SockAddr::new(storage.assume_init(), size_of::<libc::sockaddr_ll>() as libc::socklen_t))
    }
}
