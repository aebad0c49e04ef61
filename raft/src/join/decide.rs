//! What a node without a group does next, from what it heard. Pure.

use std::collections::BTreeMap;

use crate::network::wire::{Contact, Hello, Introduction};

#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Not enough nodes are there, or another one acts.
    Wait,
    /// A group exists: ask these, the likeliest leader first.
    Join(Vec<Contact>),
    /// Found a group of exactly these, this node among them.
    Found(Vec<Introduction>),
}

pub fn decide(me: &Introduction, heard: &[Hello]) -> Step {
    let mut leaders = Vec::new();
    let mut members = Vec::new();
    let mut founders = BTreeMap::from([(me.id, me.clone())]);
    for hello in heard {
        if hello.me.initialized {
            leaders.extend(hello.leader.clone());
            let Introduction { id, name, address, .. } = hello.me.clone();
            members.push(Contact { id, name, address });
        } else if hello.me.voter && hello.me.cluster == me.cluster {
            founders.insert(hello.me.id, hello.me.clone());
        }
    }
    if !members.is_empty() {
        leaders.extend(members);
        return Step::Join(leaders);
    }
    // Two data directories with one name would be two voters of one node.
    let mut names: Vec<&str> = founders.values().map(|founder| founder.name.as_str()).collect();
    names.sort_unstable();
    let distinct = names.windows(2).all(|pair| pair[0] != pair[1]);
    let enough = founders.len() >= usize::try_from(me.expect).unwrap_or(usize::MAX);
    let equal = founders.values().all(|founder| founder.expect == me.expect);
    let first = founders.keys().next() == Some(&me.id);
    if me.voter && !me.initialized && enough && distinct && equal && first {
        return Step::Found(founders.into_values().collect());
    }
    Step::Wait
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Reads;

    fn node(id: u64) -> Introduction {
        Introduction {
            id,
            name: format!("n{id}"),
            address: format!("h{id}:1"),
            cluster: "c".into(),
            voter: true,
            expect: 3,
            initialized: false,
            reads: Reads::ours(),
        }
    }

    fn says(me: Introduction) -> Hello {
        Hello { me, leader: None, members: Vec::new() }
    }

    fn founders(step: &Step) -> Option<Vec<u64>> {
        match step {
            Step::Found(founders) => Some(founders.iter().map(|founder| founder.id).collect()),
            _ => None,
        }
    }

    #[test]
    fn the_lowest_of_enough_founders_founds() {
        let heard = [says(node(2)), says(node(3))];
        assert_eq!(founders(&decide(&node(1), &heard)), Some(vec![1, 2, 3]));
        assert_eq!(decide(&node(4), &heard), Step::Wait, "not the lowest");
        assert_eq!(decide(&node(1), &heard[..1]), Step::Wait, "too few");
        let single = Introduction { expect: 1, ..node(1) };
        assert_eq!(founders(&decide(&single, &[])), Some(vec![1]));
    }

    #[test]
    fn who_does_not_fit_is_no_founder() {
        let learner = Introduction { voter: false, ..node(3) };
        let stranger = Introduction { cluster: "other".into(), ..node(3) };
        let twin = Introduction { name: "n2".into(), ..node(3) };
        let unequal = Introduction { expect: 2, ..node(3) };
        for odd in [learner, stranger, twin, unequal] {
            assert_eq!(decide(&node(1), &[says(node(2)), says(odd)]), Step::Wait);
        }
        let me = Introduction { voter: false, ..node(1) };
        assert_eq!(decide(&me, &[says(node(2)), says(node(3)), says(node(4))]), Step::Wait);
    }

    #[test]
    fn a_group_that_exists_is_joined_never_doubled() {
        let member = Introduction { initialized: true, ..node(3) };
        let leader = Contact { id: 9, name: "n9".into(), address: "h9:1".into() };
        let hello = Hello { leader: Some(leader.clone()), ..says(member) };
        let Step::Join(contacts) = decide(&node(1), &[says(node(2)), says(node(4)), hello]) else {
            panic!("must join")
        };
        assert_eq!((contacts.len(), contacts[0].clone()), (2, leader));
    }
}
