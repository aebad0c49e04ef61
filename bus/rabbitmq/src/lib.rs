//! The bus of a cluster: [`bus::Bus`] over RabbitMQ.
//!
//! ```text
//! announce ─▶ subscribers of this process          (bus::Fanout, at once)
//!         └─▶ outbox ─▶ exchange events ─▶ every other process' inbox ─▶ its subscribers
//! enqueue ─▶ a consumer of this process that has room
//!        └─▶ exchange jobs ─▶ quorum queue ─▶ a consumer of any process   (confirmed, acknowledged)
//!        └─▶ this process' backlog, while the broker is away
//! ```
//!
//! [`RabbitBus::open`] needs no broker: the node works with what it has, [`Bus::check`] says what is missing, and
//! connections come back by themselves ([`link`]). The store is the truth: whatever is lost here, or comes twice, costs
//! time and nothing else.
//!
//! | module | holds |
//! |---|---|
//! | `options`, `connect`, `link` | where brokers are; one connection; one that comes back |
//! | `topology`, `wire` | what lies on the broker; what travels |
//! | `publish`, `events` | messages with confirms; events to and from other processes |
//! | `jobs`, `spill` | jobs of this process; their way to the broker when nobody here takes them |
//! | `consume`, `desk`, `slots`, `settle` | consumers, and how many jobs they may have in hand |
//! | `dead`, `counts` | what the broker gave up on; how much waits there |

mod connect;
mod consume;
mod counts;
mod dead;
mod desk;
mod events;
mod jobs;
mod link;
mod options;
mod peers;
mod publish;
mod settle;
mod slots;
mod spill;
mod topology;
mod wire;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bus::{Bus, BusError, Consumer, DeadLetters, Event, Fanout, Job, Queue, Subscription, Topic};
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use connect::Connector;
use consume::RabbitConsumer;
use counts::Count;
use desk::Desk;
use events::{Inbox, Outbox};
use jobs::JobQueue;
use link::{Link, Owner, Purpose};
pub use options::{Credentials, OptionsError, RabbitOptions, TlsOptions};
use publish::{Destination, JobSender, PublishError, Publisher};
use settle::Settler;
use topology::Topology;

/// For an answer to [`Bus::check`], and how long a good one holds.
const CHECK: Duration = Duration::from_secs(1);
const CHECKED: Duration = Duration::from_millis(500);
/// For what still waits when the bus is closed.
const FLUSH: Duration = Duration::from_secs(1);
const TASKS: Duration = Duration::from_secs(4);
const REMOVE: Duration = Duration::from_secs(10);

/// The bus of one node of a cluster. Clones share it; the last one that is dropped ends it, less orderly than
/// [`RabbitBus::close`].
#[derive(Clone)]
pub struct RabbitBus(Arc<Inner>);

struct Inner {
    process: Arc<str>,
    local_first: bool,
    owed: Duration,
    fanout: Arc<Fanout>,
    outbox: Arc<Outbox>,
    lanes: [Lane; Queue::ALL.len()],
    probe: Publisher,
    topology: Topology,
    publishing: Link,
    consuming: Link,
    attached: watch::Receiver<bool>,
    settler: Settler,
    checked: Mutex<Option<Instant>>,
    tasks: TaskTracker,
    /// Ends consumers and what moves jobs; then the connections.
    users: CancellationToken,
    links: CancellationToken,
}

/// One queue's parts.
struct Lane {
    /// Jobs that may wait in the broker's queue.
    limit: usize,
    jobs: Arc<JobQueue>,
    sender: JobSender,
    count: Arc<Count>,
}

impl Lane {
    /// Whether the broker refuses because the queue is full, and not because its leader is being elected.
    async fn is_full(&self) -> bool {
        // Counts lag behind a little.
        self.count.get().await.is_ok_and(|waiting| waiting + waiting / 10 >= self.limit)
    }
}

impl RabbitBus {
    /// Begins to connect and returns at once. Must be called within a Tokio runtime.
    pub fn open(options: RabbitOptions) -> Result<Self, OptionsError> {
        let brokers = options.brokers()?;
        let topology = Topology::new(&options.cluster, options.max_queue_length, options.delivery_limit);
        // Two processes never share it, nor does one after a restart.
        let process: Arc<str> = format!("{}:{:016x}", options.node, rand::random::<u64>()).into();
        let tasks = TaskTracker::new();
        let (users, links) = (CancellationToken::new(), CancellationToken::new());
        let connector = Connector { tls: options.tls.clone(), timeout: options.connect_timeout };
        let link = |purpose| {
            let (brokers, connector) = (brokers.clone(), connector.clone());
            let owner = Owner { purpose, brokers, connector, topology: topology.clone(), node: options.node.clone() };
            let (link, running) = owner.link(links.clone());
            tasks.spawn(running);
            link
        };
        let (publishing, consuming) = (link(Purpose::Publish), link(Purpose::Consume));
        let publisher = |exchange, key: &str, label| {
            let to = Destination { exchange, key: key.to_owned(), label };
            let (publisher, running) = Publisher::new(publishing.clone(), to, options.deadline);
            tasks.spawn(running);
            publisher
        };
        let lanes = Queue::ALL.map(|queue| {
            let publisher = publisher(topology.jobs_exchange(), queue.as_str(), queue.as_str());
            let sender = JobSender { publisher, process: process.clone(), hint_limit: options.hint_limit };
            let jobs = Arc::new(JobQueue::new(queue, options.backlog));
            tasks.spawn(spill::run(jobs.clone(), sender.clone(), users.clone()));
            let count = Arc::new(Count::new(topology.jobs_queue(queue), consuming.clone()));
            Lane { limit: options.max_queue_length as usize, jobs, sender, count }
        });
        let probe = publisher(String::new(), &topology.probe(), "probe");
        let (settler, settling) = Settler::new();
        tasks.spawn(settling);

        let fanout = Arc::new(Fanout::new(options.event_buffer.max(1)));
        let outbox = Arc::new(Outbox::new(options.event_buffer));
        let (tell, attached) = watch::channel(false);
        tasks.spawn(events::send(outbox.clone(), publishing.clone(), topology.events_exchange(), process.clone()));
        let inbox = Inbox {
            fanout: fanout.clone(),
            outbox: outbox.clone(),
            exchange: topology.events_exchange(),
            process: process.clone(),
            attached: tell,
        };
        tasks.spawn(inbox.run(consuming.clone()));
        Ok(Self(Arc::new(Inner {
            process,
            local_first: options.local_first,
            owed: options.owed,
            fanout,
            outbox,
            lanes,
            probe,
            topology,
            publishing,
            consuming,
            attached,
            settler,
            checked: Mutex::new(None),
            tasks,
            users,
            links,
        })))
    }

    /// Waits until everything is connected; after `patience` it says what is missing.
    pub async fn ready(&self, patience: Duration) -> Result<(), BusError> {
        let deadline = Instant::now() + patience;
        loop {
            match self.check().await {
                Err(error) if Instant::now() < deadline && error != BusError::Closed => {
                    tracing::debug!(%error, "waiting for the message broker");
                }
                result => return result,
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends every subscription and consumer, gives the broker what still waits here, and disconnects.
    pub async fn close(&self) {
        let inner = &*self.0;
        inner.fanout.close();
        let flushing = async {
            for lane in &inner.lanes {
                let left = lane.jobs.close();
                if lane.sender.publisher.obstacle().is_none() {
                    spill::send(&lane.sender, left).await;
                }
            }
            while !inner.outbox.is_empty() && inner.publishing.now().is_ok() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        // The store has whatever is not through by then.
        let _ = timeout(FLUSH, flushing).await;
        inner.users.cancel();
        let _ = timeout(FLUSH, inner.settler.flush()).await;
        inner.links.cancel();
        inner.tasks.close();
        // The settler ends with its last handle, which this is.
        let all_others = async {
            while inner.tasks.len() > 1 {
                sleep(Duration::from_millis(5)).await;
            }
        };
        if timeout(TASKS, all_others).await.is_err() {
            tracing::warn!(left = inner.tasks.len(), "parts of the bus did not end in time");
        }
    }

    /// Removes everything of this cluster from the broker, with all that waits there: for a cluster that is taken away.
    /// A bus that is still open declares it anew when it next misses something.
    pub async fn remove(&self) -> Result<(), BusError> {
        let inner = &*self.0;
        let live = inner.publishing.now().map_err(|reason| BusError::Unavailable(reason.to_string()))?;
        match timeout(REMOVE, inner.topology.remove(&live.connection)).await {
            Ok(removed) => removed.map_err(|error| BusError::Unavailable(error.to_string())),
            Err(_) => Err(BusError::Unavailable("no answer".to_owned())),
        }
    }

    fn lane(&self, queue: Queue) -> &Lane {
        &self.0.lanes[queue as usize]
    }

    fn is_closed(&self) -> bool {
        self.0.fanout.is_closed()
    }

    async fn probe(&self) -> Result<(), BusError> {
        let inner = &*self.0;
        let unavailable = |reason: &str| BusError::Unavailable(reason.to_owned());
        inner.publishing.now().map_err(|reason| unavailable(&reason))?;
        inner.consuming.now().map_err(|reason| unavailable(&reason))?;
        if !*inner.attached.borrow() {
            return Err(unavailable("the other nodes' events are not heard yet"));
        }
        let mut checked = inner.checked.lock().await;
        if checked.is_some_and(|at| at.elapsed() < CHECKED) {
            return Ok(());
        }
        let properties = publish::properties(&inner.process, "probe", String::new());
        match inner.probe.publish(b"{}".to_vec(), properties).await {
            Ok(()) => {
                *checked = Some(Instant::now());
                Ok(())
            }
            Err(error) => Err(unavailable(&error.to_string())),
        }
    }
}

#[async_trait]
impl Bus for RabbitBus {
    fn announce(&self, event: Arc<Event>) {
        self.0.fanout.announce(&event);
        if !self.is_closed() {
            self.0.outbox.push(event);
        }
    }

    fn subscribe(&self, topics: &[Topic]) -> Box<dyn Subscription> {
        Box::new(self.0.fanout.subscribe(topics))
    }

    async fn enqueue(&self, queue: Queue, job: Job) -> Result<(), BusError> {
        if self.is_closed() {
            return Err(BusError::Closed);
        }
        let lane = self.lane(queue);
        let job = match self.0.local_first {
            true => match lane.jobs.offer(job) {
                Ok(()) => return Ok(()),
                Err(job) => job,
            },
            false => job,
        };
        match lane.sender.send(&job).await {
            Ok(()) => Ok(()),
            Err(PublishError::Refused) if lane.is_full().await => Err(BusError::Full(queue.as_str())),
            Err(error) => lane.jobs.keep(job, &error.to_string()),
        }
    }

    async fn consume(&self, queue: Queue, prefetch: usize) -> Result<Box<dyn Consumer>, BusError> {
        let inner = &*self.0;
        let (jobs, count) = (self.lane(queue).jobs.clone(), self.lane(queue).count.clone());
        // What a consumer before this one gave back comes first, if it doesn't take long.
        let before = async {
            jobs.settled().await;
            inner.settler.flush().await;
        };
        let _ = timeout(CHECK, before).await;
        let desk = Arc::new(Desk::new(jobs.clone(), inner.settler.clone(), prefetch, inner.owed));
        jobs.join(&desk)?;
        let feeding = inner.users.child_token();
        inner.tasks.spawn(consume::feed(desk.clone(), count, inner.consuming.clone(), feeding.clone()));
        Ok(Box::new(RabbitConsumer::new(desk, feeding)))
    }

    /// While the broker is away, what waits here is all that is known.
    async fn waiting(&self, queue: Queue) -> Result<usize, BusError> {
        if self.is_closed() {
            return Err(BusError::Closed);
        }
        let lane = self.lane(queue);
        let remote = lane.count.get().await.unwrap_or_else(|error| {
            tracing::debug!(queue = queue.as_str(), %error, "the broker can't say how much waits");
            0
        });
        Ok(remote + lane.jobs.waiting())
    }

    async fn check(&self) -> Result<(), BusError> {
        if self.is_closed() {
            return Err(BusError::Closed);
        }
        let late = || BusError::Unavailable("the message broker gives no confirms".to_owned());
        timeout(CHECK, self.probe()).await.unwrap_or_else(|_| Err(late()))
    }

    fn dead_letters(&self) -> Option<Box<dyn DeadLetters>> {
        let inner = &*self.0;
        let office = dead::Office {
            topology: inner.topology.clone(),
            link: inner.consuming.clone(),
            settler: inner.settler.clone(),
        };
        let (letters, feeding) = office.open(inner.users.child_token());
        inner.tasks.spawn(feeding);
        Some(Box::new(letters))
    }
}

impl fmt::Debug for RabbitBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitBus").field("process", &self.0.process).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.fanout.close();
        for lane in &self.lanes {
            lane.jobs.close();
        }
        self.users.cancel();
        self.links.cancel();
    }
}
