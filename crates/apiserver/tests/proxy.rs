//! Logs, exec and the like reach the node that runs the pod; a small kubelet stands in for it.
#![allow(clippy::unwrap_used, reason = "in a test a failed unwrap is a failed test")]

mod support;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::header::{CONNECTION, UPGRADE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use serde_json::json;
use support::pki::Pki;
use support::{Client, Cluster};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

type Body = UnsyncBoxBody<Bytes, Infallible>;

fn text(code: u16, text: String) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(text)).boxed_unsync());
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
}

/// A backend that says what it was asked, sends pages and redirects, and refuses port 9.
async fn backend(mut request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    if request.headers().contains_key(UPGRADE) {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let (mut read, mut write) = tokio::io::split(TokioIo::new(upgrade.await.unwrap()));
            let _ = tokio::io::copy(&mut read, &mut write).await;
        });
        let mut response = text(101, String::new());
        response.headers_mut().insert(CONNECTION, "Upgrade".parse().unwrap());
        response.headers_mut().insert(UPGRADE, "echo".parse().unwrap());
        return Ok(response);
    }
    let mut response = match request.uri().path() {
        "/page" => text(200, "<a href=\"/next\">next</a>".into()),
        "/away" => text(302, String::new()),
        path => {
            let header = |name: &str| request.headers().get(name).map_or("-", |v| v.to_str().unwrap());
            let said = format!(
                "{} {path} {} {}",
                request.method(),
                request.uri().query().unwrap_or("-"),
                header("x-forwarded-uri")
            );
            let secret = format!("{said} {} {}", header("authorization"), header("x-forwarded-for"));
            text(200, secret)
        }
    };
    response.headers_mut().insert("content-type", "text/html; charset=utf-8".parse().unwrap());
    response.headers_mut().insert("location", "/there".parse().unwrap());
    if response.status() != 302 {
        response.headers_mut().remove("location");
    }
    Ok(response)
}

/// Streams logs in two parts, echoes upgraded connections, refuses in plain text.
async fn kubelet(mut request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    if request.method() == Method::CONNECT {
        if request.uri().port_u16() == Some(9) {
            return Ok(text(502, format!("dial tcp {}: connect: connection refused", request.uri())));
        }
        tokio::spawn(async move {
            let pod = hyper::upgrade::on(request).await.unwrap();
            let server = hyper::server::conn::http1::Builder::new();
            let _ = server.serve_connection(pod, hyper::service::service_fn(backend)).with_upgrades().await;
        });
        return Ok(text(200, String::new()));
    }
    let path = request.uri().path_and_query().unwrap().to_string();
    if path.starts_with("/containerLogs/default/p/gone") {
        return Ok(text(400, "container \"gone\" in pod \"p\" is not running".into()));
    }
    if path.starts_with("/containerLogs") {
        let parts = futures::stream::iter([format!("{path}\n"), "second\n".to_owned()]);
        let parts = parts.enumerate().then(|(at, part)| async move {
            tokio::time::sleep(Duration::from_millis(300 * at as u64)).await;
            Ok(Frame::data(Bytes::from(part)))
        });
        return Ok(Response::new(StreamBody::new(parts).boxed_unsync()));
    }
    if request.headers().contains_key(UPGRADE) {
        let protocol = request.headers()["sec-websocket-protocol"].clone();
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut stream = TokioIo::new(upgrade.await.unwrap());
            stream.write_all(format!("{path}\n").as_bytes()).await.unwrap();
            let (mut read, mut write) = tokio::io::split(stream);
            let _ = tokio::io::copy(&mut read, &mut write).await;
        });
        let mut response = text(101, String::new());
        response.headers_mut().insert(CONNECTION, "Upgrade".parse().unwrap());
        response.headers_mut().insert(UPGRADE, "websocket".parse().unwrap());
        response.headers_mut().insert("sec-websocket-protocol", protocol);
        return Ok(response);
    }
    Ok(text(404, format!("no {path} here")))
}

async fn start_kubelet(pki: &Pki) -> SocketAddr {
    let (certificate, key) = pki.server();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pki.ca_pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
        .unwrap();
    let tls = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let tls = tls.clone();
            tokio::spawn(async move {
                let stream = TokioIo::new(tls.accept(socket).await.unwrap());
                let service = hyper::service::service_fn(kubelet);
                let server = hyper::server::conn::http1::Builder::new();
                server.serve_connection(stream, service).with_upgrades().await
            });
        }
    });
    address
}

/// A node with that kubelet and a pod on it.
async fn place_pod(api: &Client, kubelet: SocketAddr) {
    api.post("/api/v1/nodes", &json!({"metadata": {"name": "n1"}})).await.ok();
    let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": kubelet.ip().to_string()}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet.port()}}}});
    api.patch("/api/v1/nodes/n1/status", "merge", &status).await.ok();
    let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n1", "containers": [
        {"name": "a", "image": "a"}, {"name": "gone", "image": "a"}]}});
    api.post("/api/v1/namespaces/default/pods", &pod).await.ok();
}

const POD: &str = "/api/v1/namespaces/default/pods/p";

#[tokio::test]
async fn logs_stream_as_they_are_written() {
    let cluster = Cluster::start().await;
    let api = &cluster.admin;
    place_pod(api, start_kubelet(&cluster.pki).await).await;
    let request = Request::get(format!("{POD}/log?container=a&follow=true&tailLines=3")).header("host", "x");
    let mut response = api.send(request.body(Full::default()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    let first = response.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(
        first, "/containerLogs/default/p/a?follow=true&tailLines=3\n",
        "before the second part exists"
    );
    let rest = response.collect().await.unwrap().to_bytes();
    assert_eq!(rest, "second\n");
    let choose = api.get(&format!("{POD}/log")).await;
    assert!(choose.message().contains("choose one of: [a gone]"), "{}", choose.message());
    let refused = api.get(&format!("{POD}/log?container=gone")).await;
    assert_eq!(refused.failure(), (400, "BadRequest"));
    assert_eq!(refused.message(), "container \"gone\" in pod \"p\" is not running");
    assert_eq!(api.get("/api/v1/namespaces/default/pods/q/log").await.code, 404);
    assert_eq!(api.get("/api/v1/nodes/n1/proxy/some/path?x=y").await.body, "no /some/path?x=y here");
}

#[tokio::test]
async fn exec_joins_both_ends() {
    let cluster = Cluster::start().await;
    let api = &cluster.admin;
    place_pod(api, start_kubelet(&cluster.pki).await).await;
    let uri = format!("{POD}/exec?container=a&command=sh&command=-c&stdin=true&stdout=true");
    let plain = api.get(&uri).await;
    assert_eq!(plain.message(), "Upgrade request required");
    let request = Request::get(uri)
        .header("host", "x")
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header("sec-websocket-protocol", "v5.channel.k8s.io");
    let mut response = api.send(request.body(Full::default()).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()["sec-websocket-protocol"], "v5.channel.k8s.io");
    let mut stream = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    let greeting = b"/exec/default/p/a?input=1&output=1&command=sh&command=-c\n";
    let mut heard = vec![0; greeting.len()];
    stream.read_exact(&mut heard).await.unwrap();
    assert_eq!(heard, greeting);
    stream.write_all(b"hello").await.unwrap();
    let mut echo = [0; 5];
    stream.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"hello");
}

/// The pod gets an address, and a Service with its Endpoints.
async fn serve_pod(api: &Client) {
    let status = json!({"status": {"podIP": "10.0.0.5", "podIPs": [{"ip": "10.0.0.5"}]}});
    api.patch(&format!("{POD}/status"), "merge", &status).await.ok();
    let service = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"name": "http", "port": 80}]}});
    api.post("/api/v1/namespaces/default/services", &service).await.ok();
    let endpoints = json!({"metadata": {"name": "s"}, "subsets": [{"ports": [{"name": "http", "port": 8080}],
        "addresses": [{"ip": "10.0.0.5", "targetRef": {"kind": "Pod", "namespace": "default", "name": "p"}}]}]});
    api.post("/api/v1/namespaces/default/endpoints", &endpoints).await.ok();
}

#[tokio::test]
async fn pods_and_services_answer_through_their_proxies() {
    let cluster = Cluster::start().await;
    let api = &cluster.admin;
    place_pod(api, start_kubelet(&cluster.pki).await).await;
    let early = api.get(&format!("{POD}/proxy/x")).await;
    assert_eq!((early.failure(), early.message()), ((400, "BadRequest"), "address not allowed"));
    serve_pod(api).await;
    let service = "/api/v1/namespaces/default/services/s";
    for base in [format!("{POD}:80/proxy"), format!("{service}:http/proxy"), format!("{service}:80/proxy")] {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
            let path = format!("{base}/a//b/?q=1");
            let said = api.call(method.parse().unwrap(), &path, &[], Bytes::new()).await.ok();
            let want = format!("{method} /a//b/ q=1 {base}/a//b/ - 127.0.0.1");
            assert_eq!(said, want, "{base}");
        }
        let page = api.get(&format!("{base}/page")).await.ok();
        assert_eq!(page, format!("<a href=\"{base}/next\">next</a>"));
        let away = api.get(&format!("{base}/away")).await;
        assert_eq!((away.code, away.headers["location"].to_str().unwrap()), (302, &*format!("{base}/there")));
        let bare = api.get(&format!("{base}?q=1")).await;
        assert_eq!((bare.code, bare.headers["location"].to_str().unwrap()), (301, &*format!("{base}/?q=1")));
    }
    for (path, code, message) in [
        (
            format!("{POD}:9/proxy/"),
            503,
            "error trying to reach service: dial tcp 10.0.0.5:9: connect: connection refused",
        ),
        (format!("{service}:81/proxy/"), 503, "no service port 81 found for service \"s\""),
        (format!("{service}:x/proxy/"), 503, "no endpoints available for service \"s:x\""),
        ("/api/v1/namespaces/default/services/none/proxy/".into(), 404, "endpoints \"none\" not found"),
        (format!("{POD}:1:2:3/proxy/"), 400, "invalid pod request \"p:1:2:3\""),
    ] {
        let refused = api.get(&path).await;
        assert_eq!((refused.code, refused.message()), (code, message), "{path}");
    }
}

#[tokio::test]
async fn a_proxied_upgrade_joins_both_ends() {
    let cluster = Cluster::start().await;
    let api = &cluster.admin;
    place_pod(api, start_kubelet(&cluster.pki).await).await;
    serve_pod(api).await;
    let request = Request::get(format!("{POD}:80/proxy/ws")).header("host", "x");
    let request = request.header(CONNECTION, "Upgrade").header(UPGRADE, "echo");
    let mut response = api.send(request.body(Full::default()).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let mut stream = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    stream.write_all(b"hello").await.unwrap();
    let mut echo = [0; 5];
    stream.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"hello");
}

#[tokio::test]
async fn an_unreachable_node_is_named() {
    let cluster = Cluster::start().await;
    let api = &cluster.admin;
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    place_pod(api, nobody).await;
    let refused = api.get(&format!("{POD}/log?container=a")).await;
    assert_eq!(refused.failure(), (500, "InternalError"));
    for part in ["error dialing backend: node \"n1\"", &nobody.to_string(), "pod default/p", "refused"] {
        assert!(refused.message().contains(part), "{part} in {}", refused.message());
    }
    api.delete("/api/v1/nodes/n1", &json!(null)).await.ok();
    let refused = api.get(&format!("{POD}/log?container=a")).await;
    assert!(refused.message().contains("node \"n1\", which does not exist any more"));
    let stranger = Pki::new();
    api.delete(POD, &json!({"gracePeriodSeconds": 0})).await.ok();
    place_pod(api, start_kubelet(&stranger).await).await;
    let refused = api.call(Method::GET, &format!("{POD}/log?container=a"), &[], Bytes::new()).await;
    assert!(refused.message().contains("certificate"), "{}", refused.message());
}
