//! A small HTTP server: GET, a path, an answer.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;

use super::answer::Answer;

/// Who connects and does not ask within this time is hung up on: descriptors are the whole agent's.
pub const ASKS_WITHIN: Duration = Duration::from_secs(10);
/// How long to leave the queue alone when nothing can be accepted, e.g. for want of descriptors.
const REST: Duration = Duration::from_millis(100);

/// Binds; a wildcard of IPv6 also takes IPv4, and is taken for IPv4 alone where there is no IPv6.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let bound = bind_exactly(address);
    match bound {
        Err(error) if address.is_ipv6() && address.ip().is_unspecified() && has_no_ipv6(&error) => {
            bind_exactly(SocketAddr::from(([0, 0, 0, 0], address.port())))
        }
        other => other,
    }
}

fn has_no_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(nix::libc::EAFNOSUPPORT | nix::libc::EADDRNOTAVAIL))
}

fn bind_exactly(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(128)
}

/// Answers on an address as soon as nobody else has it. That somebody has it is told once.
pub async fn serve_when_free<F, A>(
    address: SocketAddr,
    retry: Duration,
    stop: CancellationToken,
    taken: impl FnOnce(io::Error),
    answer: F,
) where
    F: Fn(String) -> A + Clone + Send + 'static,
    A: Future<Output = Answer> + Send + 'static,
{
    let mut taken = Some(taken);
    let listener = loop {
        match bind(address) {
            Ok(listener) => break listener,
            Err(why) => {
                if let Some(taken) = taken.take() {
                    taken(why);
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(retry) => {}
        }
    };
    if taken.is_none() {
        tracing::info!(%address, "answers now");
    }
    serve(listener, ASKS_WITHIN, stop, answer).await;
}

/// Answers until told to stop.
pub async fn serve<F, A>(listener: TcpListener, asks_within: Duration, stop: CancellationToken, answer: F)
where
    F: Fn(String) -> A + Clone + Send + 'static,
    A: Future<Output = Answer> + Send + 'static,
{
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(why) => {
                    tracing::debug!(%why, "cannot accept a probe");
                    tokio::time::sleep(REST).await;
                    continue;
                }
            },
        };
        let (answer, stop) = (answer.clone(), stop.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request: hyper::Request<Incoming>| {
                let answered = answer(request.uri().path().to_owned());
                async move { Ok::<_, Infallible>(answered.await.map(|body| Full::new(Bytes::from(body)))) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(asks_within)
                .serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                () = stop.cancelled() => {}
                done = connection => if let Err(why) = done {
                    tracing::debug!(%why, "a probe broke off");
                },
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpStream;

    use super::*;
    use crate::agent::health::answer;

    #[tokio::test]
    async fn an_address_that_somebody_has_is_told_of_once_and_taken_when_it_is_free() {
        let other = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = other.local_addr().expect("its address");
        let (told, complaint) = tokio::sync::oneshot::channel();
        let stop = CancellationToken::new();
        let _stops = stop.clone().drop_guard();
        let soon = Duration::from_millis(5);
        let taken = |why: io::Error| told.send(why.kind()).expect("somebody listens");
        let answer = |_| std::future::ready(answer::not_found());
        tokio::spawn(serve_when_free(address, soon, stop, taken, answer));
        assert_eq!(complaint.await.expect("a complaint"), io::ErrorKind::AddrInUse);
        drop(other);
        while TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(soon).await;
        }
    }

    #[tokio::test]
    async fn who_does_not_ask_is_hung_up_on() {
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let address = listener.local_addr().expect("its address");
        let stop = CancellationToken::new();
        let _stops = stop.clone().drop_guard();
        let soon = Duration::from_millis(20);
        tokio::spawn(serve(listener, soon, stop, |_| std::future::ready(answer::not_found())));
        let mut silent = TcpStream::connect(address).await.expect("connects");
        let mut said = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(30), silent.read_to_end(&mut said)).await;
        ended.expect("the server waits for ever").expect("an orderly end");
    }
}
