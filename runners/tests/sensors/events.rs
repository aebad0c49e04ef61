//! Events, triggers, configuration: what a sensor sees of the node.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bus::Change;
use model::{Collection, Id, Key, SensorType, Trigger, TriggerInstance};
use runners::sensors::SensorState;
use serde_json::json;
use store::{Applied, Batch, Document, Query, Store, StoreError, StoreExt};

use crate::bed::{Bed, LONG, object};

const POLLING: &str = "
class Polling(Rest, PollingSensor):
    def setup(self):
        self.count = 0
        self.log = self.sensor_service.get_logger(name='x')
    def poll(self):
        self.count += 1
        self.log.info('poll %d', self.count)
        print('printed')
        self.send(count=self.count, config=self.config, interval=self.get_poll_interval())
        self.set_poll_interval(0.05)
";

#[tokio::test(flavor = "multi_thread")]
async fn a_polling_sensor_polls_and_ends_with_cleanup() {
    let Some(mut bed) = Bed::new().await else { return };
    bed.set_config("p", json!({"key": "value"})).await;
    let marker = bed.directory.path().join("cleaned");
    let text = format!("{POLLING}    def cleanup(self):\n        open({marker:?}, 'w').write('yes')\n");
    bed.add_sensor("Polling", &text, json!({"poll_interval": 7})).await;
    bed.own("p.Polling", 1, LONG);
    let events = bed.events(3).await;
    assert_eq!(events[0], json!({"count": 1, "config": {"key": "value"}, "interval": 7}));
    assert_eq!(events[2]["count"], 3);
    let status = bed.running("p.Polling").await;
    assert!((status.restarts, status.epoch, status.last_error) == (0, 1, None) && status.dispatched >= 2);
    bed.stop().await;
    assert_eq!(bed.text(&marker), "yes");
    assert_eq!(*bed.released.lock(), [("p.Polling".to_owned(), 1)]);
    assert!(bed.states.all().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passive_sensor_dispatches_in_every_way_and_bad_events_are_left_out() {
    let Some(bed) = Bed::new().await else { return };
    bed.add_type("p.typed", json!({"type": "object", "properties": {"n": {"type": "integer"}}})).await;
    bed.add_trigger("p.with", "p.typed", json!({"n": 5})).await;
    let text = "
import datetime
from st2common.models.api.trace import TraceContext
class Passive(Rest, Sensor):
    def run(self):
        service = self.sensor_service
        assert service.dispatch('p.nowhere', {'a': 1}) is None
        service.dispatch({'type': 'p.typed', 'parameters': {'n': 5}}, {'way': 'type'})
        service.dispatch({'ref': 'p.with'}, {'way': 'ref'})
        service.dispatch_with_context('p.event', {'way': 'context'}, TraceContext(trace_tag='t'))
        service.dispatch(trigger='p.event', payload={'when': datetime.datetime(2020, 1, 2), 'bytes': b'x'})
        service.dispatch('p.event')
        threads = [threading.Thread(target=self.send, kwargs={'thread': n}) for n in range(20)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        time.sleep(3600)
";
    bed.add_sensor("Passive", text, json!({})).await;
    bed.own("p.Passive", 1, LONG);
    let events = bed.events(23).await;
    assert_eq!(events[0], json!({"way": "context"}));
    assert_eq!(events[1], json!({"when": "2020-01-02T00:00:00", "bytes": "b'x'"}));
    assert_eq!(events[2], json!({}));
    assert_eq!(bed.payloads("p.with").await, [json!({"way": "type"}), json!({"way": "ref"})]);
    let query = Query::eq("trigger", "p.event");
    let instances = bed.services.store.search::<TriggerInstance>(&query).await.unwrap();
    assert!(instances.iter().any(|found| found.trace_context == Some(object(json!({"trace_tag": "t"})))));
}

#[tokio::test(flavor = "multi_thread")]
async fn triggers_are_added_once_then_updated_then_removed() {
    let Some(bed) = Bed::new().await else { return };
    bed.add_type("p.typed", json!({"type": "object", "properties": {"n": {"type": "integer"}}})).await;
    bed.add_trigger("p.first", "p.typed", json!({"n": 1})).await;
    let text = "
class Hearing(Rest, Sensor):
    def setup(self):
        time.sleep(0.2)
        self.is_set_up = True
    def hear(self, what, trigger):
        assert self.is_set_up and 'ref_count' not in trigger
        if trigger['ref'] == 'p.bad': raise ValueError('bad')
        self.send(what=what, ref=trigger['ref'], parameters=trigger['parameters'])
    def add_trigger(self, trigger): self.hear('add', trigger)
    def update_trigger(self, trigger): self.hear('update', trigger)
    def remove_trigger(self, trigger): self.hear('remove', trigger)
    def run(self): threading.Event().wait()
";
    bed.add_sensor("Hearing", text, json!({"trigger_types": ["p.typed"]})).await;
    bed.own("p.Hearing", 1, LONG);
    bed.events(1).await;
    bed.add_trigger("p.bad", "p.typed", json!({"n": 0})).await;
    let second = bed.add_trigger("p.second", "p.typed", json!({"n": 2})).await;
    bed.add_trigger("p.other", "p.event", json!({"n": 3})).await;
    bed.events(2).await;
    let mut trigger = bed.services.store.read::<Trigger>(second).await.unwrap().unwrap();
    trigger.doc.description = Some("changed".to_owned());
    bed.services.store.update(trigger).await.unwrap();
    bed.announce::<Trigger>(Change::Update, second, "p.second");
    bed.events(3).await;
    // Nobody tells of this one: the next look finds it.
    bed.services.store.remove::<Trigger>(second).await.unwrap();
    let heard: Vec<_> = bed
        .events(4)
        .await
        .iter()
        .map(|event| format!("{} {} {}", event["what"], event["ref"], event["parameters"]["n"]).replace('"', ""))
        .collect();
    assert_eq!(heard, ["add p.first 1", "add p.second 2", "update p.second 2", "remove p.second 2"]);
}

/// A store that can be taken away.
#[derive(Debug)]
struct Flaky {
    inner: Arc<dyn Store>,
    away: Arc<AtomicBool>,
}

impl Flaky {
    fn check_away(&self) -> Result<(), StoreError> {
        if self.away.load(Ordering::SeqCst) { Err(StoreError::Unavailable("away".to_owned())) } else { Ok(()) }
    }
}

#[async_trait]
impl Store for Flaky {
    async fn commit(&self, batch: Batch) -> Result<Vec<Applied>, StoreError> {
        self.check_away()?;
        self.inner.commit(batch).await
    }
    async fn get(&self, collection: &'static Collection, id: Id) -> Result<Option<Document>, StoreError> {
        self.check_away()?;
        self.inner.get(collection, id).await
    }
    async fn find(&self, collection: &'static Collection, query: &Query) -> Result<Vec<Document>, StoreError> {
        self.check_away()?;
        self.inner.find(collection, query).await
    }
    async fn count(&self, collection: &'static Collection, query: &Query) -> Result<u64, StoreError> {
        self.inner.count(collection, query).await
    }
    async fn distinct(
        &self,
        collection: &'static Collection,
        field: &'static str,
        query: &Query,
        limit: u64,
    ) -> Result<Vec<Key>, StoreError> {
        self.inner.distinct(collection, field, query, limit).await
    }
    async fn put_blob(&self, id: Id, bytes: Vec<u8>) -> Result<(), StoreError> {
        self.inner.put_blob(id, bytes).await
    }
    async fn get_blob(&self, id: Id) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.get_blob(id).await
    }
    async fn delete_blob(&self, id: Id) -> Result<(), StoreError> {
        self.inner.delete_blob(id).await
    }
    async fn check(&self) -> Result<(), StoreError> {
        self.check_away()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_store_is_away_dispatch_waits_and_nothing_is_lost_or_doubled() {
    let away = Arc::new(AtomicBool::new(false));
    let handle = away.clone();
    let Some(bed) = Bed::with(|inner| Arc::new(Flaky { inner, away: handle }), |_| {}).await else { return };
    let returned = bed.directory.path().join("returned");
    let text = format!(
        "
class Steady(Rest, Sensor):
    def run(self):
        n = 0
        while True:
            n += 1
            self.send(n=n)
            open({returned:?}, 'w').write(str(n))
            time.sleep(0.01)
"
    );
    bed.add_sensor("Steady", &text, json!({})).await;
    bed.own("p.Steady", 1, LONG);
    bed.events(3).await;
    away.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(700)).await;
    let before: u64 = bed.text(&returned).parse().unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(bed.text(&returned).parse::<u64>().unwrap(), before, "dispatch returns only when it is durable");
    assert_eq!(bed.running("p.Steady").await.restarts, 0);
    away.store(false, Ordering::SeqCst);
    let events = bed.events(usize::try_from(before).unwrap() + 10).await;
    let numbers: Vec<u64> = events.iter().map(|event| event["n"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sensor_in_any_language_speaks_the_protocol() {
    let Some(bed) = Bed::new().await else { return };
    let path = bed.pack("p").join("sensors/plain.sh");
    let script = r#"#!/bin/bash
read -r start <&$SQUALL_SENSOR_FD
[[ $start == '{"type":"start"'* ]] || exit 3
echo '{"type":"ready"}' >&$SQUALL_SENSOR_FD
echo '{"type":"dispatch","id":1,"trigger":"p.event","payload":{"from":"bash"}}' >&$SQUALL_SENSOR_FD
while read -r line <&$SQUALL_SENSOR_FD; do
  case $line in *'"type":"ack","id":1'*) echo '{"type":"log","level":"info","message":"stored"}' >&$SQUALL_SENSOR_FD
    echo '{"type":"dispatch","id":2,"trigger":"p.event","payload":{"from":"after"}}' >&$SQUALL_SENSOR_FD; exit 0;; esac
done
"#;
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    bed.add_row("p", "Plain", "plain.sh", json!({})).await;
    bed.own("p.Plain", 1, LONG);
    assert_eq!(bed.events(2).await, [json!({"from": "bash"}), json!({"from": "after"})]);
    bed.status("p.Plain", "it rests", |status| status.state == SensorState::Exited).await;
    assert_eq!(bed.services.store.total::<SensorType>(&Query::all()).await.unwrap(), 1);
}
