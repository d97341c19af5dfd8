//! The agent beside an API server that forgets, or that tells of more than anybody can use.

mod support;

use std::sync::atomic::{AtomicBool, Ordering};

use support::alone::{Alone, become_node, serve};
use support::feed::{Feed, service, slice};
use support::{Laptop, check, eventually};

#[test]
fn after_a_watch_expired_the_agent_lists_again_and_serves_on() {
    let laptop = Laptop::new();
    become_node(&laptop);
    serve(&laptop);
    let feed = Feed::start(&laptop);
    let first = [service("kept", "10.0.0.50", 0), service("gone", "10.0.0.51", 0)];
    feed.become_this(first.to_vec(), vec![slice("kept"), slice("gone")]);
    let agent = Alone::start(&laptop);
    for ip in ["10.0.0.50", "10.0.0.51"] {
        assert_eq!(eventually("a Service answers", || agent.ask(ip)), "served");
    }
    let before = feed.lists();

    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| {
            let mut answers = 0;
            while !over.load(Ordering::Relaxed) {
                assert_eq!(agent.ask("10.0.0.50").as_deref(), Ok("served"), "after {answers} answers");
                answers += 1;
            }
            answers
        });
        for round in 0..3 {
            let name = format!("new{round}");
            let ip = format!("10.0.0.{}", 60 + round);
            let now = vec![service("kept", "10.0.0.50", 0), service(&name, &ip, 0)];
            feed.become_this(now, vec![slice("kept"), slice(&name)]);
            assert_eq!(eventually("what came meanwhile answers", || agent.ask(&ip)), "served");
        }
        eventually("what went meanwhile is refused", || match agent.ask("10.0.0.51") {
            Err(why) => check(why.contains("onnect"), why),
            Ok(answer) => Err(answer),
        });
        over.store(true, Ordering::Relaxed);
        assert!(asked.join().expect("kept answers all the time") > 0);
    });
    assert!(feed.lists() >= before + 3 * 2, "{} lists, then {}", before, feed.lists());
    eventually("the kernel holds what the API says", || {
        let (code, text) = agent.verify(&["--service-cidr", "10.0.0.0/24"]);
        check(code == 0, text)
    });
    let (code, text) = agent.verify(&["--service-cidr", "10.0.1.0/24"]);
    assert!(code == 1 && text.contains("10.0.0.0/24") && text.contains("10.0.1.0/24"), "{text}");
}

/// 150,000 ports, of which 131,072 are the most that the maps ever hold.
#[test]
fn a_feed_of_more_than_fits_takes_nothing_from_those_that_are_served() {
    let laptop = Laptop::new();
    become_node(&laptop);
    serve(&laptop);
    let feed = Feed::start(&laptop);
    feed.become_this(vec![service("live", "10.0.0.50", 0)], vec![slice("live")]);
    let agent = Alone::start(&laptop);
    assert_eq!(eventually("the Service answers", || agent.ask("10.0.0.50")), "served");

    let many = (0..1500).map(|n| service(&format!("many{n}"), &format!("10.1.{}.{}", n / 250, n % 250), 99));
    let live = service("live", "10.0.0.50", 0);
    feed.become_this(std::iter::once(live).chain(many).collect(), vec![slice("live")]);
    let told = || {
        let events = feed.posted();
        let about = |kind: &str| {
            let regards = |event: &&serde_json::Value| {
                event["reason"] == "ProgrammingFailed" && event["involvedObject"]["kind"] == kind
            };
            events.iter().filter(regards).cloned().collect::<Vec<_>>()
        };
        (about("Service"), about("Node"))
    };
    let (of_services, of_node) = eventually("Events tell of it", || {
        let (of_services, of_node) = told();
        check(!of_node.is_empty() && !of_services.is_empty(), format!("{} Events", of_services.len()))
            .map(|()| (of_services, of_node))
    });
    let text = of_services[0]["message"].as_str().unwrap_or_default();
    assert!(text.contains("full") && text.contains("stays"), "{text}");
    assert!(of_services.len() <= 100, "{} Events", of_services.len());
    assert!(of_node[0]["message"].as_str().unwrap_or_default().contains("more"), "{}", of_node[0]);
    assert_eq!(agent.ask("10.0.0.50").as_deref(), Ok("served"));
    assert!(agent.resident_mib() < 1024, "{} MiB", agent.resident_mib());

    feed.become_this(
        vec![service("live", "10.0.0.50", 0), service("later", "10.0.0.51", 0)],
        vec![slice("live"), slice("later")],
    );
    assert_eq!(eventually("once the flood is over there is room", || agent.ask("10.0.0.51")), "served");
    assert_eq!(agent.ask("10.0.0.50").as_deref(), Ok("served"));
}
