//! A connection that comes back by itself.
//!
//! A [`Link`] is one connection's owner: it connects to one broker after the other with jittered pauses, declares what
//! belongs on the broker, tells everybody that it is up, and begins anew when the connection ends or somebody who uses
//! it gave up on it. What uses it waits for [`Link::up`], opens its channels, and starts over when they fail.
//!
//! The client library's own recovery is not used: it restores channels behind their users' backs, while here each user
//! has to know that a connection is another one (what was unconfirmed failed, what was unacknowledged comes again).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use lapin::{Connection, Event};
use rand::Rng;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::connect::Connector;
use crate::options::Broker;
use crate::topology::Topology;

/// Between attempts to connect, at first and at most; each is shortened by up to a half at random.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// A connection that lasted this long was a good one: the next attempt comes at once.
const LASTING: Duration = Duration::from_secs(2);
/// The library reports the end of a connection; this is for the case that it doesn't.
const LOOK: Duration = Duration::from_secs(1);
/// For saying good-bye.
const FAREWELL: Duration = Duration::from_secs(1);

/// What a connection is for; each has its own, so that a broker that blocks publishers doesn't stop consumers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Publish,
    Consume,
}

impl Purpose {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Consume => "consume",
        }
    }
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct Live {
    pub connection: Connection,
    /// Counts connections: what belongs to another one is dead.
    pub number: u64,
    gone: Arc<Notify>,
    redeclare: Arc<Notify>,
}

impl Live {
    /// The broker takes no messages for now (it is short of memory or disk).
    pub fn is_blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    /// Gives up on this connection: another one is made, at another broker if there are several.
    pub fn give_up(&self, reason: &str) {
        tracing::warn!(reason, "giving up on the message broker's connection");
        self.gone.notify_one();
    }

    /// Something is missing on the broker.
    pub fn redeclare(&self) {
        self.redeclare.notify_one();
    }
}

#[derive(Debug, Clone)]
pub(crate) enum State {
    Down(Arc<str>),
    Up(Arc<Live>),
    Closed,
}

/// The handle that users of a connection hold.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    state: watch::Receiver<State>,
}

impl Link {
    /// The connection, once there is one; `None` when the bus is closed.
    pub async fn up(&self) -> Option<Arc<Live>> {
        let mut state = self.state.clone();
        match state.wait_for(|state| !matches!(state, State::Down(_))).await.as_deref() {
            Ok(State::Up(live)) => Some(live.clone()),
            _ => None,
        }
    }

    /// The connection, or why there is none.
    pub fn now(&self) -> Result<Arc<Live>, Arc<str>> {
        match &*self.state.borrow() {
            State::Up(live) => Ok(live.clone()),
            State::Down(reason) => Err(reason.clone()),
            State::Closed => Err("closed".into()),
        }
    }

    /// Returns when `live` is no longer the connection.
    pub async fn lost(&self, live: &Live) {
        let mut state = self.state.clone();
        let other = |state: &State| !matches!(state, State::Up(current) if current.number == live.number);
        // An error means that the owner has ended: closed.
        let _ = state.wait_for(other).await;
    }
}

/// What an owner needs.
#[derive(Debug, Clone)]
pub(crate) struct Owner {
    pub purpose: Purpose,
    pub brokers: Vec<Broker>,
    pub connector: Connector,
    pub topology: Topology,
    pub node: String,
}

impl Owner {
    /// A link, and the future that keeps it up until `cancel`.
    pub fn link(self, cancel: CancellationToken) -> (Link, impl Future<Output = ()> + Send) {
        let (tell, state) = watch::channel(State::Down("not connected yet".into()));
        (Link { state }, self.run(tell, cancel))
    }

    async fn run(self, tell: watch::Sender<State>, cancel: CancellationToken) {
        let numbers = AtomicU64::new(0);
        // Nodes begin with different brokers.
        let mut turn = rand::rng().random_range(0..self.brokers.len());
        let mut pause = FIRST_PAUSE;
        loop {
            let broker = &self.brokers[turn % self.brokers.len()];
            turn = turn.wrapping_add(1);
            let opened = tokio::select! {
                () = cancel.cancelled() => break,
                opened = self.open(broker, &numbers) => opened,
            };
            let error = match opened {
                Ok(live) => {
                    let since = Instant::now();
                    let reason = self.hold(live, broker, &tell, &cancel).await;
                    if since.elapsed() >= LASTING {
                        pause = FIRST_PAUSE;
                    }
                    reason
                }
                Err(error) => error,
            };
            if cancel.is_cancelled() {
                break;
            }
            tracing::warn!(%broker, purpose = self.purpose.as_str(), error, "no message broker; trying again");
            tell.send_replace(State::Down(format!("{broker}: {error}").into()));
            metrics::counter!("squall_bus_reconnects_total", "purpose" => self.purpose.as_str()).increment(1);
            let jittered = pause.mul_f64(rand::rng().random_range(0.5..1.0));
            tokio::select! {
                () = cancel.cancelled() => break,
                () = sleep(jittered) => pause = (pause * 2).min(LONGEST_PAUSE),
            }
        }
        tell.send_replace(State::Closed);
    }

    async fn open(&self, broker: &Broker, numbers: &AtomicU64) -> Result<Live, String> {
        let name = format!("squall {} ({})", self.node, self.purpose.as_str());
        let connection = self.connector.connect(broker, &name).await?;
        match timeout(self.connector.timeout, self.topology.declare(&connection)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(format!("can't declare the queues: {error}")),
            Err(_) => return Err("can't declare the queues: no answer".to_owned()),
        }
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        Ok(Live { connection, number, gone: Arc::default(), redeclare: Arc::default() })
    }

    /// Returns why the connection is over.
    async fn hold(
        &self,
        live: Live,
        broker: &Broker,
        tell: &watch::Sender<State>,
        cancel: &CancellationToken,
    ) -> String {
        let live = Arc::new(live);
        let mut events = Box::pin(live.connection.events_listener());
        tracing::info!(%broker, purpose = self.purpose.as_str(), "connected to the message broker");
        tell.send_replace(State::Up(live.clone()));
        let reason = loop {
            tokio::select! {
                () = cancel.cancelled() => break String::new(),
                () = live.gone.notified() => break "given up on".to_owned(),
                () = live.redeclare.notified() => {
                    match timeout(self.connector.timeout, self.topology.declare(&live.connection)).await {
                        Ok(Ok(())) => tracing::info!("declared the queues anew"),
                        Ok(Err(error)) => break format!("can't declare the queues: {error}"),
                        Err(_) => break "can't declare the queues: no answer".to_owned(),
                    }
                }
                event = events.next() => match event {
                    Some(Event::Error(error)) => break error.to_string(),
                    Some(Event::ConnectionBlocked(reason)) => tracing::warn!(reason, "the broker takes no messages"),
                    Some(Event::ConnectionUnblocked) => tracing::info!("the broker takes messages again"),
                    Some(_) => {}
                    None => break "the connection ended".to_owned(),
                },
                () = sleep(LOOK) => if !live.connection.status().connected() {
                    break "the connection ended".to_owned();
                }
            }
        };
        tell.send_replace(State::Down(format!("{broker}: {reason}").into()));
        if live.connection.status().connected() {
            // Whatever comes of it, the connection is dropped.
            let _ = timeout(FAREWELL, live.connection.close(200, "good-bye".into())).await;
        }
        reason
    }
}
