//! The work queue: each task runs once at a time, waits when told to, and backs off when it fails.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::task::Task;

const FIRST_DELAY: Duration = Duration::from_millis(5);

/// Times are monotonic, from the start of the controllers.
#[derive(Default)]
pub struct Queue {
    ready: VecDeque<Task>,
    queued: BTreeSet<Task>,
    running: BTreeSet<Task>,
    /// Touched while running: run again.
    dirty: BTreeSet<Task>,
    by_time: BTreeSet<(Duration, Task)>,
    times: BTreeMap<Task, Duration>,
    attempts: BTreeMap<Task, u32>,
}

impl Queue {
    /// Makes a task run as soon as possible.
    pub fn touch(&mut self, task: Task) {
        if self.running.contains(&task) {
            self.dirty.insert(task);
        } else if self.queued.insert(task.clone()) {
            self.ready.push_back(task);
        }
    }

    /// Makes a task run at `when`, or earlier if that was already asked for.
    pub fn touch_at(&mut self, task: Task, when: Duration) {
        if let Some(&known) = self.times.get(&task) {
            if known <= when {
                return;
            }
            self.by_time.remove(&(known, task.clone()));
        }
        self.times.insert(task.clone(), when);
        self.by_time.insert((when, task));
    }

    /// Makes the tasks run whose time has come.
    pub fn release(&mut self, now: Duration) {
        while let Some((when, _)) = self.by_time.first() {
            if *when > now {
                break;
            }
            if let Some((_, task)) = self.by_time.pop_first() {
                self.times.remove(&task);
                self.touch(task);
            }
        }
    }

    /// When the next waiting task is due.
    pub fn next_due(&self) -> Option<Duration> {
        self.by_time.first().map(|(when, _)| *when)
    }

    /// The next task to run, unless `limit` are running.
    pub fn pop(&mut self, limit: usize) -> Option<Task> {
        if self.running.len() >= limit {
            return None;
        }
        let task = self.ready.pop_front()?;
        self.queued.remove(&task);
        self.running.insert(task.clone());
        Some(task)
    }

    /// A task has ended well.
    pub fn succeeded(&mut self, task: &Task) {
        self.attempts.remove(task);
        self.ended(task);
    }

    /// A task has failed: it runs again after a delay that doubles with each failure up to `longest`.
    pub fn failed(&mut self, task: &Task, now: Duration, longest: Duration) {
        let attempts = self.attempts.entry(task.clone()).or_default();
        let delay = FIRST_DELAY.saturating_mul(1 << (*attempts).min(20)).min(longest);
        *attempts += 1;
        self.running.remove(task);
        self.dirty.remove(task);
        self.touch_at(task.clone(), now + delay);
    }

    fn ended(&mut self, task: &Task) {
        self.running.remove(task);
        if self.dirty.remove(task) {
            self.touch(task.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Controller;
    use daymark_model::ObjectName;

    fn task(name: &str) -> Task {
        Task::new(Controller::Deployment, ObjectName::new("n", name))
    }

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_task_runs_once_at_a_time_and_again_if_touched_meanwhile() {
        let mut queue = Queue::default();
        queue.touch(task("a"));
        queue.touch(task("a"));
        assert_eq!(queue.pop(9), Some(task("a")));
        assert_eq!(queue.pop(9), None);
        queue.touch(task("a"));
        assert_eq!(queue.pop(9), None, "it is running");
        queue.succeeded(&task("a"));
        assert_eq!(queue.pop(9), Some(task("a")));
        queue.succeeded(&task("a"));
        assert_eq!(queue.pop(9), None);
    }

    #[test]
    fn failures_back_off_exponentially_and_success_forgets_them() {
        let mut queue = Queue::default();
        let mut delays = Vec::new();
        for _ in 0..3 {
            queue.touch(task("a"));
            queue.pop(9);
            queue.failed(&task("a"), ms(0), ms(15));
            delays.push(queue.next_due().unwrap());
            queue.release(ms(1000));
            queue.pop(9);
            queue.ended(&task("a"));
        }
        assert_eq!(delays, [ms(5), ms(10), ms(15)]);
        queue.touch(task("a"));
        queue.pop(9);
        queue.succeeded(&task("a"));
        queue.touch(task("a"));
        queue.pop(9);
        queue.failed(&task("a"), ms(0), ms(15));
        assert_eq!(queue.next_due(), Some(ms(5)));
    }

    #[test]
    fn the_earlier_of_two_times_counts_and_the_limit_holds() {
        let mut queue = Queue::default();
        queue.touch_at(task("a"), ms(50));
        queue.touch_at(task("a"), ms(20));
        queue.touch_at(task("a"), ms(70));
        queue.touch(task("b"));
        queue.release(ms(19));
        assert_eq!(queue.pop(1), Some(task("b")));
        queue.release(ms(20));
        assert_eq!(queue.pop(1), None, "one is running");
        queue.succeeded(&task("b"));
        assert_eq!(queue.pop(1), Some(task("a")));
        assert_eq!(queue.next_due(), None);
    }
}
