//! Random work, compared with [`Reference`]. Each test prints its seed; `CONTRACT_SEED` repeats one.

use super::*;
use crate::query::{Cond, Order};
use futures::future::join_all;

/// A small random generator (xorshift*), so that a seed means the same everywhere.
struct Random(u64);

impl Random {
    fn seeded(name: &str) -> Self {
        let given = std::env::var("CONTRACT_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed: u64 = given.unwrap_or_else(|| {
            let id = fresh();
            u64::from_le_bytes(id.as_bytes()[4..].try_into().unwrap())
        });
        println!("{name}: CONTRACT_SEED={seed}");
        Self(seed | 1)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn keys(&mut self) -> Keys {
        let mut keys = Keys::new();
        if self.chance(30) {
            keys.push(("name", text(["a", "b", "c", "d"][self.below(4) as usize])));
        }
        if self.chance(40) {
            keys.push(("group", text(["g", "h"][self.below(2) as usize])));
        }
        if self.chance(40) {
            keys.push(("slot", Key::Int(self.below(4) as i64)));
        }
        if self.chance(70) {
            keys.push(("rank", Key::Int(self.below(5) as i64 - 2)));
        }
        if self.chance(50) {
            keys.push(("tag", text(["x", "xy", "%", "\u{e4}"][self.below(4) as usize])));
        }
        keys
    }

    fn write(&mut self) -> Write {
        let place = id(self.below(8));
        let body = format!("{}", self.below(1_000));
        match self.below(10) {
            0..3 => insert(place, &body, self.keys()),
            3..5 => insert_or_ignore(place, &body, self.keys()),
            5..8 => update(place, 1 + self.below(4), &body, self.keys()),
            8 => delete(place, Some(1 + self.below(3))),
            _ => delete(place, None),
        }
    }

    fn batch(&mut self) -> Batch {
        let length = [1, 1, 1, 2, 2, 3, 12][self.below(7) as usize];
        let mut batch = batch((0..length).map(|_| self.write()));
        if self.chance(15) {
            batch.fence = Some(Fence { name: "f".into(), epoch: self.below(4) });
        }
        batch
    }

    fn query(&mut self) -> Query {
        let mut query = Query::all();
        for _ in 0..self.below(3) {
            let number = Key::Int(self.below(5) as i64 - 2);
            let word = text(["x", "xy", "%", "\u{e4}"][self.below(4) as usize]);
            query.conds.push(match self.below(9) {
                0 => Cond::Eq("rank", number),
                1 => Cond::Ne("tag", word),
                2 => Cond::Lt("rank", number),
                3 => Cond::Ge("rank", number),
                4 => Cond::In("tag", vec![word, text("x")]),
                5 => Cond::Prefix("tag", "x".into()),
                6 => Cond::Absent("rank"),
                7 => Cond::Present("tag"),
                _ => Cond::IdAfter(id(self.below(8))),
            });
        }
        for _ in 0..self.below(3) {
            let field = ["rank", "tag", "name", "slot"][self.below(4) as usize];
            query.order.push(if self.chance(50) { Order::Asc(field) } else { Order::Desc(field) });
        }
        query.limit = self.chance(50).then(|| self.below(6));
        query.offset = self.below(3);
        query
    }
}

pub async fn one_by_one_as_the_reference(factory: &impl Factory) {
    let store = factory.open("random").await;
    let mut random = Random::seeded("one_by_one");
    let mut reference = Reference::default();
    for step in 0..600 {
        let batch = random.batch();
        let expected = reference.commit(&batch);
        let outcome = store.commit(batch.clone()).await;
        assert_eq!(outcome.as_ref().ok(), expected.as_ref().ok(), "step {step}: {batch:?}\n{outcome:?} {expected:?}");
        if step % 10 == 0 || outcome.is_err() {
            assert_eq!(all(&*store).await, reference.find(DOCS, &Query::all()), "step {step}: {batch:?}");
        }
    }
}

/// A few batches at a time: their outcomes and what is there afterwards agree with the reference in some order.
pub async fn at_once_as_in_some_order(factory: &impl Factory) {
    let store = factory.open("random-at-once").await;
    let mut random = Random::seeded("at_once");
    let mut reference = Reference::default();
    for step in 0..150 {
        let batches: Vec<Batch> = (0..2 + random.below(4)).map(|_| random.batch()).collect();
        let outcomes: Vec<_> = join_all(batches.iter().map(|batch| store.commit(batch.clone())))
            .await
            .into_iter()
            .map(Result::ok)
            .collect();
        let there = all(&*store).await;
        let explained = orders_of(batches.len()).into_iter().find_map(|order| {
            let mut state = reference.clone();
            let agrees = order.iter().all(|place| state.commit(&batches[*place]).ok() == outcomes[*place]);
            (agrees && state.find(DOCS, &Query::all()) == there).then_some(state)
        });
        reference = explained.unwrap_or_else(|| panic!("step {step}: no order explains {batches:#?}\n{outcomes:#?}"));
    }
}

fn orders_of(count: usize) -> Vec<Vec<usize>> {
    let mut orders = vec![Vec::new()];
    for next in 0..count {
        orders = orders
            .into_iter()
            .flat_map(|order| {
                (0..=order.len()).map(move |place| {
                    let mut longer: Vec<usize> = order.clone();
                    longer.insert(place, next);
                    longer
                })
            })
            .collect();
    }
    orders
}

pub async fn random_queries(factory: &impl Factory) {
    let store = factory.open("random-queries").await;
    let mut random = Random::seeded("queries");
    let mut reference = Reference::default();
    for _ in 0..40 {
        let keys = random.keys();
        let write = batch([insert(id(random.below(64)), "x", keys)]);
        assert_eq!(store.commit(write.clone()).await.is_ok(), reference.commit(&write).is_ok());
    }
    for _ in 0..300 {
        let query = random.query();
        assert_eq!(store.find(DOCS, &query).await.unwrap(), reference.find(DOCS, &query), "{query:?}");
        assert_eq!(store.count(DOCS, &query).await.unwrap(), reference.count(DOCS, &query), "{query:?}");
        let values = store.distinct(DOCS, "tag", &query, 2).await.unwrap();
        assert_eq!(values, reference.distinct(DOCS, "tag", &query, 2), "{query:?}");
    }
}
