use super::super::status::Status;
use super::task::{self, Command, Others, Rest};
use super::workflow::{self, Standing};

#[test]
fn completed_tasks_only_leave_by_a_retry() {
    for from in Status::ALL.into_iter().filter(|status| status.is_completed()) {
        for to in Status::ALL {
            for others in [None, Some(Others::Active), Some(Others::Dormant(Rest::Completed))] {
                assert_eq!(task::next(from, task::Event::Action(to, others)), None);
                assert_eq!(task::next(from, task::Event::Workflow(to, others)), None);
            }
        }
        let again = task::next(from, task::Event::Command(Command::Retry));
        assert_eq!(again.is_some(), matches!(from, Status::Succeeded | Status::Failed));
    }
}

#[test]
fn a_running_task_ends_with_any_end_of_its_action() {
    for status in Status::ALL.into_iter().filter(|status| status.is_completed()) {
        for from in [Status::Running, Status::Pausing, Status::Canceling] {
            let to = task::next(from, task::Event::Action(status, None));
            assert!(to.is_some_and(Status::is_completed), "{from} {status}: {to:?}");
        }
    }
}

#[test]
fn the_last_item_decides() {
    let end = |status, rest| task::next(Status::Running, task::Event::Action(status, Some(Others::Dormant(rest))));
    assert_eq!(end(Status::Succeeded, Rest::Failed), Some(Status::Failed));
    assert_eq!(end(Status::Succeeded, Rest::Canceled), Some(Status::Canceled));
    assert_eq!(end(Status::Succeeded, Rest::Incomplete), Some(Status::Running));
    assert_eq!(end(Status::Failed, Rest::Incomplete), Some(Status::Failed));
    assert_eq!(task::next(Status::Running, task::Event::Action(Status::Failed, Some(Others::Active))), None);
}

#[test]
fn terminal_workflows_stay() {
    for from in [Status::Failed, Status::Canceled] {
        for status in Status::ALL {
            for active in [false, true] {
                assert_eq!(workflow::next(from, workflow::Event::Request { status, active, over: false }), None);
                for standing in [Standing::Canceled, Standing::Paused, Standing::Incomplete, Standing::Completed] {
                    let event = workflow::Event::Task { status, remediated: false, active, standing };
                    assert_eq!(workflow::next(from, event), None);
                }
            }
        }
    }
}

#[test]
fn dormant_workflows_do_not_wait() {
    // With nothing active, pausing and canceling are over at once.
    for from in [Status::Running, Status::Pausing, Status::Resuming] {
        let event = workflow::Event::Request { status: Status::Canceled, active: false, over: false };
        assert_eq!(workflow::next(from, event), Some(Status::Canceled));
        let event = workflow::Event::Request { status: Status::Paused, active: false, over: false };
        assert_eq!(workflow::next(from, event), Some(Status::Paused));
    }
}
