//! The in-process coordinator: the contract suite, and what is its own.

use std::sync::Arc;

use coordinator::contract::Setup;
use coordinator::{Answer, Ask, Coordinator, CoordinatorError, Heard, LocalCoordinator};

mod contract {
    use super::*;

    coordinator::coordinator_contract!(async {
        let shared = LocalCoordinator::new();
        Setup::new(vec![Arc::new(shared.clone()), Arc::new(shared.clone()), Arc::new(shared)], ())
    });
}

fn ask(request: &str) -> Ask {
    Ask { key: "k".to_owned(), limit: 1, request: request.to_owned(), wait: true }
}

#[tokio::test]
async fn lost_memory_shows() {
    let coordinator = LocalCoordinator::new();
    let mut grants = coordinator.grants();
    let generation = coordinator.generation().await.unwrap();
    coordinator.acquire(ask("a")).await.unwrap();
    coordinator.forget();
    assert_eq!(grants.next().await, Some(Heard::Lost));
    assert_ne!(coordinator.generation().await.unwrap(), generation);
    assert!(matches!(coordinator.acquire(ask("b")).await, Ok(Answer::Granted(_))));
}

#[tokio::test]
async fn unavailable_is_an_error_and_passes() {
    let coordinator = LocalCoordinator::new();
    let mut grants = coordinator.grants();
    coordinator.set_available(false);
    let error = coordinator.acquire(ask("a")).await.unwrap_err();
    assert!(matches!(error, CoordinatorError::Unavailable(_)) && error.is_retryable());
    assert!(coordinator.check().await.is_err());
    coordinator.set_available(true);
    assert_eq!(grants.next().await, Some(Heard::Lost));
    assert!(matches!(coordinator.acquire(ask("a")).await, Ok(Answer::Granted(_))));
}
