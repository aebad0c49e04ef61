//! The contract suite against a real broker: local first, and every job through the broker.

mod common;

mod local_first {
    bus::bus_contract!(optional async { crate::common::TestBus::shared(true).await });
}

mod through_the_broker {
    bus::bus_contract!(optional async { crate::common::TestBus::shared(false).await });
}
