//! TCP and UDP echo.

use tokio::io::AsyncWriteExt;

use super::listen;

/// Sends back what TCP clients send.
pub async fn tcp(port: u16) -> Result<(), String> {
    let listener =
        listen::tcp(port).await.map_err(|error| format!("cannot listen on TCP port {port}: {error}"))?;
    tokio::spawn(async move {
        loop {
            let Ok((mut stream, _)) = listener.accept().await else {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            };
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
                let _ = write.shutdown().await;
            });
        }
    });
    Ok(())
}

/// Sends back what UDP clients send; to `hostname` and `clientip` it answers with those.
pub async fn udp(port: u16, pod: String) -> Result<(), String> {
    let socket =
        listen::udp(port).await.map_err(|error| format!("cannot listen on UDP port {port}: {error}"))?;
    tokio::spawn(async move {
        let mut buffer = vec![0; 65_536];
        loop {
            // An error here is an earlier answer that bounced.
            let Ok((count, client)) = socket.recv_from(&mut buffer).await else { continue };
            let answer = match buffer[..count].trim_ascii() {
                b"hostname" => format!("{pod}\n").into_bytes(),
                b"clientip" => format!("{}\n", listen::client(client).ip()).into_bytes(),
                _ => buffer[..count].to_vec(),
            };
            let _ = socket.send_to(&answer, client).await;
        }
    });
    Ok(())
}
