//! Serves the API on loopback, for experiments: `cargo run -p daymark-apiserver --example serve DIR [PORT]`.
//!
//! Writes DIR/kubeconfig with an administrator's certificate, keeps the store in DIR, and runs until
//! Ctrl-C. Without PORT the system chooses one.

#[path = "../tests/support/pki.rs"]
mod pki;

use std::net::SocketAddr;
use std::path::PathBuf;

use daymark_apiserver::Server;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let Some(dir) = arguments.next().map(PathBuf::from) else {
        anyhow::bail!("usage: serve DIR [PORT]");
    };
    let port: u16 = arguments.next().map_or(Ok(0), |port| port.parse())?;
    let port = if port == 0 { free_port()? } else { port };
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    std::fs::create_dir_all(&dir)?;
    let pki = pki::Pki::new();
    let started = std::time::Instant::now();
    let server = Server::start(pki.config(&dir, address)).await?;
    let kubeconfig = dir.join("kubeconfig");
    std::fs::write(&kubeconfig, pki.kubeconfig(address, "kubernetes-admin", "system:masters"))?;
    println!("ready after {:?}; export KUBECONFIG={}", started.elapsed(), kubeconfig.display());
    tokio::signal::ctrl_c().await?;
    server.shutdown().await;
    Ok(())
}

fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
