//! Follows one kind for agents: streaming lists where the server has them, plain lists where not, then changes.
//! Tens of thousands of objects may come at once, so they are read in the pieces that arrive, without a copy.

mod framing;

use std::marker::PhantomData;
use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE};
use http_body_util::BodyExt;
use kube::client::Body;
use kube::core::params::{ListParams, WatchParams};
use kube::core::{Request, Status};
use kube::{Client, Error, Resource};
use tracing::debug;

use crate::reading::{self, Encoding, Kind, Said};
use crate::watching::{FIRST_DELAY, LAST_DELAY};
use framing::Framing;

/// A server ends a watch after this many seconds; whoever is silent for longer is gone.
const WATCH_SECONDS: u32 = 290;
const SILENCE: Duration = Duration::from_secs(295);
/// Objects in one page of a plain list.
const PAGE: u32 = 500;

/// What happened to one kind.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are objects")]
pub enum Step {
    /// A list begins: what does not come before its end is gone.
    List,
    /// The list is complete.
    Listed,
    Said(Said),
}

/// One kind's watch, whatever becomes of connections.
pub struct Watch<K> {
    client: Client,
    url: String,
    fields: Option<String>,
    streaming: bool,
    /// What came last; to go on from once there was a whole list.
    version: String,
    listed: bool,
    /// How to ask for the next page of a plain list.
    more: Option<String>,
    answer: Option<Answer>,
    delay: Option<Duration>,
    kind: PhantomData<fn() -> K>,
}

/// An answer that goes on.
struct Answer {
    body: Body,
    framing: Framing,
    said_something: bool,
}

type Steps = Vec<Result<Step, anyhow::Error>>;

impl<K: Kind> Watch<K> {
    pub fn new(client: Client, fields: Option<String>) -> Self {
        Self {
            client,
            url: K::Whole::url_path(&(), None),
            fields,
            streaming: true,
            version: String::new(),
            listed: false,
            more: None,
            answer: None,
            delay: None,
            kind: PhantomData,
        }
    }

    /// What comes next. After an error it waits (50 ms, doubling to 5 s while errors last) and goes on.
    pub async fn next(&mut self) -> Steps {
        loop {
            if self.answer.is_none()
                && let Some(delay) = self.delay
            {
                tokio::time::sleep(delay).await;
            }
            match self.step().await {
                Ok(steps) if steps.is_empty() => {}
                Ok(steps) => return steps,
                Err(error) => {
                    self.answer = None;
                    self.slow_down();
                    return vec![Err(error)];
                }
            }
        }
    }

    fn slow_down(&mut self) {
        self.delay = Some(self.delay.map_or(FIRST_DELAY, |delay| (delay * 2).min(LAST_DELAY)));
    }

    async fn step(&mut self) -> Result<Steps, anyhow::Error> {
        if self.answer.is_some() {
            return self.read().await;
        }
        if !self.listed && !self.streaming {
            return self.page().await;
        }
        match self.open().await {
            Ok(answer) => self.answer = Some(answer),
            Err(Error::Api(status)) => self.refused(status)?,
            Err(error) => return Err(error.into()),
        }
        Ok(if self.listed || self.answer.is_none() { Vec::new() } else { vec![Ok(Step::List)] })
    }

    /// Starts a list anew, or goes on from the last version.
    async fn open(&mut self) -> Result<Answer, Error> {
        let params = WatchParams {
            field_selector: self.fields.clone(),
            timeout: Some(WATCH_SECONDS),
            bookmarks: true,
            send_initial_events: !self.listed,
            ..WatchParams::default()
        };
        let from = if self.listed { &*self.version } else { "0" };
        let mut request = Request::new(&*self.url).watch(&params, from).map_err(Error::BuildRequest)?;
        request.headers_mut().insert(ACCEPT, Encoding::ACCEPT);
        let response = self.client.send(request.map(Body::from)).await?;
        let status = response.status();
        let encoding = Encoding::of(response.headers().get(CONTENT_TYPE));
        if status.is_success() {
            debug!(url = self.url, ?encoding, "watching");
            let framing = Framing::new(encoding);
            return Ok(Answer { body: response.into_body(), framing, said_something: false });
        }
        let text = response.into_body().collect_bytes().await?;
        let told = reading::refusal(encoding, &text);
        // Whoever stands between us and the API server need not answer in its words.
        let told = told.unwrap_or_else(|_| {
            Status::failure(String::from_utf8_lossy(&text).trim(), "Unknown").with_code(status.as_u16())
        });
        Err(Error::Api(told.boxed()))
    }

    /// What a server refuses in a way that something else may be tried.
    fn refused(&mut self, status: Box<Status>) -> Result<(), Error> {
        match status.code {
            // An API server without streaming lists.
            400 | 422 if self.streaming && !self.listed => {
                debug!(url = self.url, "no streaming lists");
                self.streaming = false;
                Ok(())
            }
            // What happened since is not known any more.
            410 => {
                self.listed = false;
                Err(Error::Api(status))
            }
            _ => Err(Error::Api(status)),
        }
    }

    /// The first page of a plain list, or the next one.
    async fn page(&mut self) -> Result<Steps, anyhow::Error> {
        let mut steps = Vec::new();
        if self.more.is_none() {
            steps.push(Ok(Step::List));
        }
        let params = ListParams {
            field_selector: self.fields.clone(),
            limit: Some(PAGE),
            continue_token: self.more.take(),
            ..ListParams::default()
        };
        let request = Request::new(&*self.url).list(&params).map_err(Error::BuildRequest)?;
        let text = self.client.request_text(request).await?;
        let (objects, more) = reading::page::<K>(text.as_bytes(), &mut self.version)?;
        steps.extend(objects.into_iter().map(|object| Ok(Step::Said(Said::Object(object)))));
        (self.more, self.delay) = (more, None);
        if self.more.is_none() {
            anyhow::ensure!(!self.version.is_empty(), "{}: a list without a resourceVersion", self.url);
            self.listed = true;
            steps.push(Ok(Step::Listed));
        }
        Ok(steps)
    }

    /// Waits for the next piece of the answer, and reads the events that it completes.
    async fn read(&mut self) -> Result<Steps, anyhow::Error> {
        let Some(mut answer) = self.answer.take() else { return Ok(Vec::new()) };
        let piece = match tokio::time::timeout(SILENCE, answer.body.frame()).await {
            Ok(Some(piece)) => piece?.into_data().unwrap_or_default(),
            // It ended as it should, or nobody is there any more.
            Ok(None) | Err(_) => {
                if !answer.said_something {
                    self.slow_down();
                }
                return Ok(Vec::new());
            }
        };
        let (mut steps, mut go_on) = (Vec::new(), true);
        let encoding = answer.framing.encoding;
        let fed = answer.framing.feed(&piece, |event| {
            answer.said_something = true;
            go_on = self.take(encoding, event, &mut steps);
            go_on
        });
        if let Err(why) = fed {
            self.slow_down();
            steps.push(Err(anyhow::Error::new(why).context(format!("{}: unreadable", self.url))));
        } else if go_on {
            self.answer = Some(answer);
        }
        Ok(steps)
    }

    /// Takes an event; false if the answer is of no use any more.
    fn take(&mut self, encoding: Encoding, event: &[u8], steps: &mut Steps) -> bool {
        let said = match reading::event::<K>(encoding, event, &mut self.version) {
            Ok(said) => said,
            Err(why) => {
                steps.push(Err(anyhow::Error::new(why).context(format!("{}: unreadable", self.url))));
                return true;
            }
        };
        if !matches!(said, Said::Failure(_)) {
            self.delay = None;
        }
        match said {
            Said::Bookmark { ends_list } => {
                if ends_list && !self.listed {
                    self.listed = true;
                    steps.push(Ok(Step::Listed));
                }
                true
            }
            Said::Failure(status) => {
                self.slow_down();
                if let Err(error) = self.refused(status) {
                    steps.push(Err(error.into()));
                }
                false
            }
            said => {
                steps.push(Ok(Step::Said(said)));
                true
            }
        }
    }
}

#[cfg(test)]
mod tests;
