//! Events to every subscriber of their topic.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Poll, Waker};

use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};

use crate::message::{Event, Topic};
use crate::port::{Received, Subscription};

/// Subscribers of one process by topic. The heart of the in-process bus; adapters with a broker use it for what is
/// heard in the same process.
#[derive(Debug)]
pub struct Fanout {
    buffer: usize,
    closed: AtomicBool,
    topics: [Subscribers; Topic::ALL.len()],
}

#[derive(Debug, Default)]
struct Subscribers {
    /// How many are in `list`: an announcement that nobody hears costs one load.
    count: AtomicUsize,
    list: RwLock<Vec<Arc<Inbox>>>,
}

/// What waits for one subscriber.
#[derive(Debug, Default)]
struct Inbox(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Arc<Event>>,
    lost: u64,
    closed: bool,
    waker: Option<Waker>,
}

impl Fanout {
    /// `buffer`: events that one subscriber may be behind before it loses the oldest.
    pub fn new(buffer: usize) -> Self {
        Self { buffer, closed: AtomicBool::new(false), topics: Default::default() }
    }

    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// To every current subscriber, at once.
    pub fn announce(&self, event: &Arc<Event>) {
        let subscribers = &self.topics[event.topic() as usize];
        if subscribers.count.load(Ordering::Acquire) == 0 {
            return;
        }
        for inbox in subscribers.list.read().iter() {
            inbox.put(Arc::clone(event), self.buffer);
        }
    }

    pub fn subscribe(self: &Arc<Self>, topics: &[Topic]) -> impl Subscription + use<> {
        let inbox = Arc::new(Inbox::default());
        let mut wanted = topics.to_vec();
        wanted.sort_unstable();
        wanted.dedup();
        for topic in &wanted {
            let subscribers = &self.topics[*topic as usize];
            let mut list = subscribers.list.write();
            list.push(Arc::clone(&inbox));
            subscribers.count.store(list.len(), Ordering::Release);
        }
        // Checked after joining the lists: `close` either finds this inbox there, or is seen here.
        if self.is_closed() {
            inbox.close();
        }
        LocalSubscription { fanout: Arc::clone(self), topics: wanted, inbox }
    }

    /// Whether anybody listens to the topic.
    pub fn is_heard(&self, topic: Topic) -> bool {
        self.topics[topic as usize].count.load(Ordering::Acquire) > 0
    }

    /// Tells every subscriber of the topic that it lost this many events.
    pub fn lose(&self, topic: Topic, lost: u64) {
        for inbox in self.topics[topic as usize].list.read().iter() {
            inbox.lose(lost);
        }
    }

    /// Ends every subscription, after what it still has to yield.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        for subscribers in &self.topics {
            let mut list = subscribers.list.write();
            for inbox in list.drain(..) {
                inbox.close();
            }
            subscribers.count.store(0, Ordering::Release);
        }
    }

    fn leave(&self, topics: &[Topic], inbox: &Arc<Inbox>) {
        for topic in topics {
            let subscribers = &self.topics[*topic as usize];
            let mut list = subscribers.list.write();
            list.retain(|other| !Arc::ptr_eq(other, inbox));
            subscribers.count.store(list.len(), Ordering::Release);
        }
    }
}

impl Inbox {
    fn put(&self, event: Arc<Event>, bound: usize) {
        let mut waiting = self.0.lock();
        if waiting.events.len() >= bound {
            // What is oldest is worth least: the subscriber has to read the store anew anyway.
            waiting.events.pop_front();
            waiting.lost += 1;
        }
        waiting.events.push_back(event);
        let waker = waiting.waker.take();
        drop(waiting);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn lose(&self, lost: u64) {
        let mut waiting = self.0.lock();
        waiting.lost += lost;
        let waker = waiting.waker.take();
        drop(waiting);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn close(&self) {
        let mut waiting = self.0.lock();
        waiting.closed = true;
        let waker = waiting.waker.take();
        drop(waiting);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// One subscriber's end.
#[derive(Debug)]
struct LocalSubscription {
    fanout: Arc<Fanout>,
    topics: Vec<Topic>,
    inbox: Arc<Inbox>,
}

#[async_trait]
impl Subscription for LocalSubscription {
    async fn next(&mut self) -> Option<Received> {
        poll_fn(|context| {
            let mut waiting = self.inbox.0.lock();
            if waiting.lost > 0 {
                return Poll::Ready(Some(Received::Lost(std::mem::take(&mut waiting.lost))));
            }
            if let Some(event) = waiting.events.pop_front() {
                return Poll::Ready(Some(Received::Event(event)));
            }
            if waiting.closed {
                return Poll::Ready(None);
            }
            if !waiting.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                waiting.waker = Some(context.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}

impl Drop for LocalSubscription {
    fn drop(&mut self) {
        self.fanout.leave(&self.topics, &self.inbox);
    }
}
