//! The answers to probes, in the words of kube-proxy. Pure.

use std::time::{Instant, SystemTime};

use daymark_plan::HealthCheck;
use http::{Response, StatusCode};
use jiff::Timestamp;
use serde_json::json;

use super::Vitals;

/// An answer that fits into memory.
pub type Answer = Response<String>;

pub fn response(status: StatusCode, content_type: &str, body: String) -> Answer {
    let built = Response::builder()
        .status(status)
        .header(http::header::CONTENT_TYPE, content_type)
        .header("X-Content-Type-Options", "nosniff")
        .body(body);
    built.unwrap_or_default()
}

pub fn not_found() -> Answer {
    response(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "404 page not found\n".into())
}

fn code(good: bool) -> StatusCode {
    if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

fn time(at: SystemTime) -> String {
    Timestamp::try_from(at).map(|at| at.to_string()).unwrap_or_default()
}

/// `/healthz`: whether load balancers should send to this node; `/livez`: whether this process works.
pub fn probe(path: &str, vitals: &Vitals, now: Instant, clock: SystemTime) -> Answer {
    let good = match path {
        "/healthz" => vitals.is_healthy(now) && vitals.eligible,
        "/livez" => vitals.is_healthy(now),
        _ => return not_found(),
    };
    let body = json!({
        "lastUpdated": vitals.updated.map(time),
        "currentTime": time(clock),
        "nodeEligible": vitals.eligible,
    });
    response(code(good), "application/json", body.to_string())
}

/// A health check node port: whether this node has endpoints of the Service. A node that is about to go still
/// serves them, so that is no reason to say otherwise: `/healthz` alone tells it.
pub fn check(check: &HealthCheck, vitals: &Vitals, now: Instant) -> Answer {
    let healthy = vitals.is_healthy(now);
    let body = json!({
        "service": { "namespace": &*check.service.namespace, "name": &*check.service.name },
        "localEndpoints": check.local_endpoints,
        "serviceProxyHealthy": healthy,
    });
    let good = check.local_endpoints > 0 && healthy;
    let mut answer = response(code(good), "application/json", body.to_string());
    answer.headers_mut().insert("X-Load-Balancing-Endpoint-Weight", check.local_endpoints.into());
    answer
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use daymark_model::ObjectName;

    use super::*;

    fn vitals() -> Vitals {
        Vitals { checks: Default::default(), eligible: true, synced: true, owed_since: None, updated: None }
    }

    fn status(path: &str, vitals: &Vitals, now: Instant) -> u16 {
        probe(path, vitals, now, SystemTime::UNIX_EPOCH).status().as_u16()
    }

    #[test]
    fn a_node_that_goes_is_alive_but_not_healthy() {
        let going = Vitals { eligible: false, ..vitals() };
        let now = Instant::now();
        assert_eq!((status("/healthz", &going, now), status("/livez", &going, now)), (503, 200));
        assert_eq!((status("/healthz", &vitals(), now), status("/readyz", &vitals(), now)), (200, 404));
    }

    #[test]
    fn operations_that_are_owed_for_long_make_it_unhealthy() {
        let began = Instant::now();
        let owing = Vitals { owed_since: Some(began), ..vitals() };
        assert_eq!(status("/healthz", &owing, began + Duration::from_secs(5)), 200);
        assert_eq!(status("/healthz", &owing, began + Duration::from_secs(60)), 503);
        assert_eq!(status("/livez", &Vitals { synced: false, ..vitals() }, began), 503);
    }

    #[test]
    fn a_check_tells_its_endpoints() {
        let web = HealthCheck { service: ObjectName::new("shop", "web"), local_endpoints: 2 };
        let answer = check(&web, &vitals(), Instant::now());
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["X-Load-Balancing-Endpoint-Weight"], "2");
        assert_eq!(
            answer.body(),
            r#"{"service":{"namespace":"shop","name":"web"},"localEndpoints":2,"serviceProxyHealthy":true}"#
        );
        let going = Vitals { eligible: false, ..vitals() };
        assert_eq!(check(&web, &going, Instant::now()).status(), 200, "it serves until it is gone");
        let none = HealthCheck { local_endpoints: 0, ..web };
        assert_eq!(check(&none, &vitals(), Instant::now()).status(), 503);
    }
}
