//! Jobs that the message broker gives up on end their executions.

#![allow(clippy::unwrap_used)] // a failed step fails the test

mod common;

use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, Consumer, Job, Queue};
use bus_rabbitmq::{RabbitBus, RabbitOptions};
use common::{Bench, Role, eventually, holder};
use domain::executions::claim;
use model::{Id, InstanceStatus, ResultValue, Status, TriggerInstance};
use scheduler::DeadLetterOffice;
use serde_json::json;
use store::StoreExt;

const LIMIT: u32 = 3;

/// Takes a job as often as it comes, and never does it. One consumer for all jobs of a queue: what a consumer gives
/// back when it ends counts as a delivery too.
async fn poisoned(bus: &RabbitBus, consumer: &mut Box<dyn Consumer>, queue: Queue, job: Job) {
    bus.enqueue(queue, job).await.unwrap();
    for _ in 0..=LIMIT {
        drop(tokio::time::timeout(Duration::from_secs(20), consumer.next()).await.unwrap().unwrap());
    }
}

fn execution(id: Id) -> Job {
    Job::Execution { id, hint: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_that_nobody_can_do_fail_what_they_are_about() {
    let Some(url) = servers::shared::address(servers::shared::RABBITMQ) else { return };
    let cluster = format!("test-{}", Id::fresh(model::Timestamp::default()));
    let mut options = RabbitOptions::new(vec![url], cluster, "n1");
    options.delivery_limit = LIMIT;
    options.local_first = false;
    let bus = RabbitBus::open(options).unwrap();
    bus.ready(Duration::from_secs(20)).await.unwrap();
    let bench = Bench::new().await;
    let office = DeadLetterOffice::new(bench.on(Arc::new(bus.clone())).services);
    let role = Role::start(|cancel| office.run(cancel));

    let waiting = bench.request("p.noop", json!({})).await;
    let claimed = bench.request("p.noop", json!({})).await;
    let (holder, info) = holder(1);
    claim(&bench.services, &claimed, holder, info).await.unwrap();
    let mut consumer = bus.consume(Queue::Run, 1).await.unwrap();
    poisoned(&bus, &mut consumer, Queue::Run, execution(claimed.id)).await;
    poisoned(&bus, &mut consumer, Queue::Run, execution(waiting.id)).await;
    let failed = bench.becomes(waiting.id, Status::Failed).await;
    let Some(ResultValue::Inline(result)) = &failed.result else { panic!("{:?}", failed.result) };
    let text =
        "The execution could not be taken from the queue \"run\": it was delivered too often without being done.";
    assert_eq!(result["error"], text);
    assert!(failed.end_timestamp.is_some());

    let instance = bench.event(json!({})).await;
    let mut consumer = bus.consume(Queue::Rules, 1).await.unwrap();
    poisoned(&bus, &mut consumer, Queue::Rules, Job::TriggerInstance { id: instance.id, hint: None }).await;
    eventually("the trigger instance failed", || async {
        let found = bench.store.read::<TriggerInstance>(instance.id).await.unwrap().unwrap();
        (found.status == InstanceStatus::ProcessingFailed).then_some(())
    })
    .await;
    // Its letter came first: a claim is for recovery to judge.
    assert_eq!(bench.read(claimed.id).await.status, Status::Running);
    role.stop().await;
    bus.remove().await.unwrap();
    bus.close().await;
}
