//! Random workflows with random ends of their actions: they never get stuck (W1), and a conductor that is stored and
//! loaded goes on as if it had not been.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::json;

use super::super::plain::Plain;
use super::super::spec::Document;
use super::*;

const WHEN: [&str; 4] = ["", "<% succeeded() %>", "<% failed() %>", "<% completed() %>"];

fn env() -> Env<'static> {
    Env { expressions: &Plain, now: Timestamp::from_micros(0) }
}

fn conductor(text: &str, inputs: Object) -> Conductor {
    let definition = Definition::read(&Document::load(text).unwrap());
    let mut conductor = Conductor::create(Arc::new(Program::new(definition)), Object::new(), inputs, env()).unwrap();
    if !conductor.status().is_completed() {
        conductor.request_status(Status::Running).unwrap();
    }
    conductor
}

#[derive(Debug, Clone)]
struct RandomTask {
    transitions: Vec<(usize, Vec<usize>, bool)>,
    join: u8,
    retry: u8,
    items: Option<u8>,
}

fn random_task(count: usize) -> impl Strategy<Value = RandomTask> {
    let transition = (0..WHEN.len(), prop::collection::vec(0..count + 4, 0..3), any::<bool>());
    (prop::collection::vec(transition, 0..3), 0..6_u8, 0..6_u8, prop::option::weighted(0.2, 0..3_u8))
        .prop_map(|(transitions, join, retry, items)| RandomTask { transitions, join, retry, items })
}

/// Names of tasks, then engine commands.
fn name(at: usize, count: usize) -> String {
    if at < count { format!("t{at}") } else { super::super::spec::COMMANDS[at - count].to_owned() }
}

fn definition(tasks: &[RandomTask]) -> String {
    let count = tasks.len();
    // An entry, so that cycles have one.
    let mut text = "tasks:\n  start:\n    action: x.y\n    next: [{do: t0}]\n".to_owned();
    for (at, task) in tasks.iter().enumerate() {
        write!(text, "  t{at}:\n    action: x.y\n").unwrap();
        match task.join {
            4 => text.push_str("    join: all\n"),
            5 => text.push_str("    join: 2\n"),
            _ => {}
        }
        if task.retry == 5 {
            text.push_str("    retry: {count: 2}\n");
        }
        if let Some(items) = task.items {
            let concurrency = if items == 0 { "null".to_owned() } else { items.to_string() };
            writeln!(text, "    with: {{items: \"<% ctx(list) %>\", concurrency: {concurrency}}}").unwrap();
        }
        if task.transitions.is_empty() {
            continue;
        }
        text.push_str("    next:\n");
        for (when, targets, publish) in &task.transitions {
            let mut targets: Vec<String> = targets.iter().map(|target| name(*target, count)).collect();
            targets.dedup();
            let targets = if targets.is_empty() { "continue".to_owned() } else { targets.join(", ") };
            writeln!(text, "      - do: {targets}").unwrap();
            if !WHEN[*when].is_empty() {
                writeln!(text, "        when: {}", WHEN[*when]).unwrap();
            }
            if *publish {
                writeln!(text, "        publish: [{{p: {at}}}]").unwrap();
            }
        }
    }
    text.push_str("input: [list]\n");
    text
}

type Execution = (Arc<str>, u32, Option<u32>);

/// Starts whatever can run.
fn schedule(conductor: &mut Conductor, running: &mut Vec<Execution>) {
    loop {
        let requests = conductor.next_tasks(env()).unwrap();
        if requests.is_empty() {
            return;
        }
        for request in requests {
            let (id, route) = (request.id.clone(), request.route);
            let plain = |status| TaskEvent::Action { status, result: None };
            if request.items_count.is_none() || request.actions.is_empty() {
                conductor.task_event(&id, route, plain(Status::Running), env()).unwrap();
            }
            if request.actions.is_empty() {
                conductor.task_event(&id, route, plain(Status::Succeeded), env()).unwrap();
            }
            for action in request.actions {
                if let Some(item) = action.item {
                    let event = TaskEvent::Item { item, status: Status::Running, result: None, accumulated: None };
                    conductor.task_event(&id, route, event, env()).unwrap();
                }
                running.push((id.clone(), route, action.item));
            }
        }
    }
}

fn complete(conductor: &mut Conductor, (id, route, item): &Execution, status: Status) {
    let result = Some(Arc::new(json!(status)));
    let event = match item {
        Some(item) => TaskEvent::Item { item: *item, status, result, accumulated: None },
        None => TaskEvent::Action { status, result },
    };
    conductor.task_event(id, *route, event, env()).unwrap();
}

fn reloaded(conductor: &Conductor) -> Conductor {
    let text = serde_json::to_string(conductor.state()).unwrap();
    Conductor::load(conductor.program().clone(), serde_json::from_str(&text).unwrap()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn workflows_never_get_stuck(
        tasks in (2..7_usize).prop_flat_map(|count| prop::collection::vec(random_task(count), count)),
        choices in prop::collection::vec((any::<u16>(), 0..12_u8, 0..24_u8), 60),
    ) {
        let text = definition(&tasks);
        let mut conductor = conductor(&text, Object::from_iter([("list".to_owned(), json!(["a", "b", "c"]))]));
        let mut running = Vec::new();
        schedule(&mut conductor, &mut running);
        for (which, end, wish) in choices {
            let other = reloaded(&conductor);
            // Every second step is taken by the conductor that was stored.
            let mut twin = std::mem::replace(&mut conductor, other);
            match wish {
                0 => { let _ = conductor.request_status(Status::Paused); let _ = twin.request_status(Status::Paused); }
                1 => { let _ = conductor.request_status(Status::Canceled); let _ = twin.request_status(Status::Canceled); }
                2 | 3 => { let _ = conductor.request_status(Status::Resuming); let _ = twin.request_status(Status::Resuming); }
                _ => {}
            }
            if running.is_empty() && conductor.status() == Status::Paused {
                conductor.request_status(Status::Resuming).unwrap();
                twin.request_status(Status::Resuming).unwrap();
            }
            if !running.is_empty() {
                let execution = running.swap_remove(usize::from(which) % running.len());
                let status = match end { 0..=2 => Status::Failed, 3 => Status::Timeout, _ => Status::Succeeded };
                complete(&mut conductor, &execution, status);
                complete(&mut twin, &execution, status);
            }
            let mut started = Vec::new();
            schedule(&mut conductor, &mut started);
            let mut started_by_twin = Vec::new();
            schedule(&mut twin, &mut started_by_twin);
            prop_assert_eq!(&started, &started_by_twin);
            prop_assert_eq!(json!(conductor.state()), json!(twin.state()));
            running.extend(started);
            let status = conductor.status();
            prop_assert!(
                status.is_completed() || status == Status::Paused || !running.is_empty(),
                "stuck in {} of:\n{}", status, text
            );
        }
    }
}

#[test]
fn a_chain_of_five_thousand_tasks_that_publish() {
    const COUNT: usize = 5_000;
    let mut text = "tasks:\n".to_owned();
    for at in 0..COUNT {
        let target = if at + 1 < COUNT { format!("t{}", at + 1) } else { "noop".to_owned() };
        writeln!(text, "  t{at}: {{action: x.y, next: [{{publish: [{{p: {at}}}], do: {target}}}]}}").unwrap();
    }
    let begin = Instant::now();
    let mut conductor = conductor(&text, Object::new());
    let mut running = Vec::new();
    let mut done = 0;
    loop {
        schedule(&mut conductor, &mut running);
        let Some(execution) = running.pop() else { break };
        complete(&mut conductor, &execution, Status::Succeeded);
        done += 1;
        if done % 1_000 == 0 {
            conductor = reloaded(&conductor);
        }
    }
    assert_eq!(conductor.status(), Status::Succeeded);
    assert_eq!(done, COUNT);
    assert_eq!(conductor.terminal_context().unwrap()["p"], json!(COUNT - 1));
    let size = serde_json::to_string(conductor.state()).unwrap().len();
    assert!(size < 400 * COUNT, "the state takes {size} bytes");
    assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", begin.elapsed());
}

#[test]
fn a_fan_of_five_thousand_tasks_and_its_join() {
    const COUNT: usize = 5_000;
    let mut text = "tasks:\n  j: {join: all, action: x.y}\n".to_owned();
    for at in 0..COUNT {
        writeln!(text, "  t{at}: {{action: x.y, next: [{{publish: [{{p{}: {at}}}], do: j}}]}}", at % 10).unwrap();
    }
    let begin = Instant::now();
    let mut conductor = conductor(&text, Object::new());
    let mut running = Vec::new();
    schedule(&mut conductor, &mut running);
    assert_eq!(running.len(), COUNT);
    let mut joins = 0;
    while let Some(execution) = running.pop() {
        complete(&mut conductor, &execution, Status::Succeeded);
        schedule(&mut conductor, &mut running);
        joins += usize::from(&*execution.0 == "j");
    }
    assert_eq!((conductor.status(), joins), (Status::Succeeded, 1));
    assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", begin.elapsed());
}

#[test]
fn ten_thousand_items_take_ten_times_as_long_as_one_thousand() {
    let time = |count: u32| {
        let text = "input: [list]\ntasks:\n  w:\n    with: {items: <% ctx(list) %>, concurrency: 10}\n    action: x.y\n    input: {i: <% item() %>}\n";
        let list = (0..count).collect::<Vec<_>>();
        let mut conductor = conductor(text, Object::from_iter([("list".to_owned(), json!(list))]));
        let mut running = Vec::new();
        let begin = Instant::now();
        schedule(&mut conductor, &mut running);
        let mut done = 0;
        while !running.is_empty() {
            let execution = running.remove(0);
            complete(&mut conductor, &execution, Status::Succeeded);
            schedule(&mut conductor, &mut running);
            assert!(running.len() <= 10);
            done += 1;
        }
        assert_eq!((conductor.status(), done), (Status::Succeeded, count));
        begin.elapsed()
    };
    let one = time(1_000);
    let ten = time(10_000);
    // Ten times as much, and room for a busy machine; the square of it would be a hundred times.
    assert!(ten < one * 40 + Duration::from_secs(1), "{one:?} {ten:?}");
}
