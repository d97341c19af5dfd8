//! Streams between a client and a pod: exec, attach and port-forward, over WebSocket or SPDY.

pub mod channels;
pub mod exec;
pub mod port_forward;
mod session;
mod spdy_exec;
mod tunnel;
mod upgrade;
mod websocket;
