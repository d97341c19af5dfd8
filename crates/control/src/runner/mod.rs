//! The thin shell around the deciders: watches feed the state, the state touches tasks, tasks decide,
//! decisions are written, and the answers feed the state again, ahead of the watches.

mod queue;
pub(crate) mod watches;
pub(crate) mod write;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use daymark_model::ObjectName;
use jiff::Timestamp;
use kube::Client;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::account_secrets;
use crate::action::{Action, Decision};
use crate::aggregation;
use crate::config::ControllersConfig;
use crate::events::EventRecorder;
use crate::gc;
use crate::object::{Kind, Object};
use crate::state::State;
use crate::task::{Controller, Task};
use crate::view::{self, View};
use queue::Queue;
use write::{Failure, Writer};

/// What reaches the hub.
pub enum Message {
    /// A watch saw an object.
    Seen(Object),
    /// A watch saw an object go.
    Deleted(Object),
    /// A list of a kind begins.
    ListBegins(Kind),
    /// A list of a kind is complete.
    ListEnds(Kind),
    /// A watch is interrupted.
    Interrupted(Kind),
    /// The answer to a write.
    Answer(Object),
    /// The answer to a deletion: gone.
    Gone { kind: Kind, key: ObjectName, uid: String },
    /// A pod was not bound after all.
    BindFailed { uid: String },
    /// A task has ended.
    Ended { task: Task, outcome: Result<(), Failure> },
}

/// Runs all controllers until `stop` is cancelled.
///
/// # Errors
/// Only if the controllers cannot run at all; an API server that is away is waited for.
pub async fn run_controllers(
    client: Client,
    config: ControllersConfig,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let (seen, mut watched) = mpsc::channel(1024);
    let (answers, mut answered) = mpsc::unbounded_channel();
    let mut background = JoinSet::new();
    if config.load_balancers_only {
        watches::spawn_services(&mut background, &client, &seen);
    } else {
        spawn_all(&mut background, &client, &seen, &config);
    }
    let recorder = EventRecorder::new(client.clone(), "");
    let writer = Writer { client, recorder, answers };
    let mut hub = Hub::new(config, writer);
    let (mut batch, mut late) = (Vec::new(), Vec::new());
    loop {
        hub.work();
        let wake = hub.next_wake();
        tokio::select! {
            () = stop.cancelled() => break,
            n = answered.recv_many(&mut batch, 256) => debug_assert!(n > 0),
            n = watched.recv_many(&mut late, 256) => debug_assert!(n > 0),
            () = tokio::time::sleep(wake) => {}
        }
        // What is already there comes along: decisions are better informed and fewer.
        while batch.len() < 1024
            && let Ok(message) = answered.try_recv()
        {
            batch.push(message);
        }
        hub.check_gap();
        for message in batch.drain(..).chain(late.drain(..)) {
            hub.take(message);
        }
    }
    background.shutdown().await;
    info!("controllers stopped");
    Ok(())
}

fn spawn_all(
    background: &mut JoinSet<()>,
    client: &Client,
    seen: &mpsc::Sender<Message>,
    config: &ControllersConfig,
) {
    let (graph, graph_input) = gc::channel();
    watches::spawn(background, client, seen, &graph);
    background.spawn(gc::run(client.clone(), graph, graph_input));
    background.spawn(aggregation::run(client.clone()));
    if let Some(signer) = &config.signer {
        background.spawn(account_secrets::run(client.clone(), signer.clone(), config.root_ca.clone()));
    }
}

struct Hub {
    state: State,
    queue: Queue,
    config: ControllersConfig,
    writer: Writer,
    started: Instant,
    last_turn: Duration,
    unsynced: BTreeSet<Kind>,
}

/// The hub turns at least this often, so that a longer pause means that it was kept from running.
const TURN: Duration = Duration::from_secs(1);

impl Hub {
    fn new(config: ControllersConfig, writer: Writer) -> Self {
        let unsynced = match config.load_balancers_only {
            true => watches::SERVICES.into(),
            false => watches::kinds().collect(),
        };
        Self {
            state: State::default(),
            queue: Queue::default(),
            config,
            writer,
            started: Instant::now(),
            last_turn: Duration::ZERO,
            unsynced,
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn next_wake(&self) -> Duration {
        self.queue.next_due().map_or(TURN, |due| due.saturating_sub(self.now())).min(TURN)
    }

    /// If we were stopped for a while, nodes were alive without our seeing it.
    fn check_gap(&mut self) {
        let now = self.now();
        let gap = now.saturating_sub(self.last_turn);
        if gap > 2 * TURN {
            info!(?gap, "was kept from running; node leases are given that time");
            self.state.forgive_leases(gap);
        }
        self.last_turn = now;
    }

    fn take(&mut self, message: Message) {
        let at = self.now();
        let tasks = match message {
            Message::Seen(object) | Message::Answer(object) => self.state.upsert(object, at),
            Message::Deleted(object) => self.state.deleted(object, at),
            Message::Gone { kind, key, uid } => self.state.deleted_by_us(kind, &key, &uid, at),
            Message::ListBegins(kind) => self.state.list(kind, false, at),
            Message::ListEnds(kind) => {
                if self.unsynced.remove(&kind) && self.unsynced.is_empty() {
                    info!(after = ?at, "controllers are in sync");
                }
                self.state.list(kind, true, at)
            }
            Message::Interrupted(kind) => {
                if kind == Kind::Lease {
                    for seen in self.state.lease_seen.values_mut() {
                        *seen = at;
                    }
                }
                Vec::new()
            }
            Message::BindFailed { uid } => {
                self.state.assumed.remove(&uid);
                Vec::new()
            }
            Message::Ended { task, outcome } => {
                self.ended(task, outcome, at);
                Vec::new()
            }
        };
        let all = !self.config.load_balancers_only;
        for task in tasks.into_iter().filter(|task| all || task.controller == Controller::LoadBalancer) {
            self.queue.touch(task);
        }
    }

    fn ended(&mut self, task: Task, outcome: Result<(), Failure>, at: Duration) {
        match outcome {
            Ok(()) => {
                self.state.failures.remove(&task);
                self.queue.succeeded(&task);
            }
            Err(failure) => {
                match &failure {
                    Failure::Refused(why) => {
                        warn!(controller = ?task.controller, key = %task.key, %why, "will try again");
                        self.state.failures.insert(task.clone(), why.clone());
                    }
                    other => {
                        debug!(controller = ?task.controller, key = %task.key, %other, "will look again")
                    }
                }
                self.queue.failed(&task, at, failure.patience());
            }
        }
    }

    fn work(&mut self) {
        if !self.unsynced.is_empty() {
            return;
        }
        self.queue.release(self.now());
        while let Some(task) = self.queue.pop(self.config.concurrency) {
            let at = self.now();
            let view = View { state: &self.state, config: &self.config, now: Timestamp::now(), at };
            let Decision { actions, again } = view::decide(&view, &task);
            if let Some(delay) = again {
                self.queue.touch_at(task.clone(), at + delay);
            }
            if actions.is_empty() {
                self.state.failures.remove(&task);
                self.queue.succeeded(&task);
                continue;
            }
            debug!(controller = ?task.controller, key = %task.key, actions = actions.len(), "acts");
            self.assume(&task, &actions);
            let writer = self.writer.clone();
            tokio::spawn(async move {
                let outcome = writer.perform(actions).await;
                let _ = writer.answers.send(Message::Ended { task, outcome });
            });
        }
    }

    /// A pod counts on its node from the moment of the decision.
    fn assume(&mut self, task: &Task, actions: &[Action]) {
        if task.controller != Controller::Scheduler {
            return;
        }
        for action in actions {
            if let Action::Bind { pod, uid, node } = action {
                self.state.assumed.insert(uid.clone(), (pod.clone(), node.clone()));
            }
        }
    }
}
