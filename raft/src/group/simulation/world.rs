//! The world: nodes, the network, and what happens next.

use std::rc::Rc;
use std::time::Instant;

use super::consensus::{Answer, Consensus, ELECTION_MAX, Entry, HEARTBEAT, Message, Out, Role, quorum};
use super::net::{Chance, MS, Net, Queue, Time};
use super::node::Node;
use super::oracle::Oracle;
use crate::group::deadlines::Renewal;
use crate::group::reaper;
use crate::state::{Command, NodeId, Response};

pub enum Event {
    Arrives {
        from: usize,
        to: usize,
        life: u32,
        message: Message,
    },
    Tick {
        node: usize,
        life: u32,
    },
    /// The sensor's process has been stopped.
    Stopped {
        node: usize,
        life: u32,
        sensor: String,
        epoch: u64,
    },
}

pub struct World {
    pub now: Time,
    pub chance: Chance,
    pub net: Net,
    pub nodes: Vec<Node>,
    pub oracle: Oracle,
    pub queue: Queue<Event>,
    pub calls: u64,
    /// Whether new leaders take credit for their predecessors' silence.
    pub credit: bool,
    /// Print what happens.
    pub trace: bool,
}

pub fn id(node: usize) -> NodeId {
    node as NodeId + 1
}

impl World {
    pub fn new(seed: u64, voters: usize, learners: usize) -> Self {
        let mut chance = Chance::new(seed);
        let base = Instant::now();
        let nodes = (0..voters + learners).map(|node| Node::new(base, node < voters, &mut chance)).collect::<Vec<_>>();
        let net = Net::new(nodes.len());
        let (oracle, queue) = (Oracle::default(), Queue::new());
        Self { now: 0, chance, net, nodes, oracle, queue, calls: 0, credit: true, trace: false }
    }

    pub fn voters(&self) -> usize {
        self.nodes.iter().filter(|node| node.voter).count()
    }

    pub fn local(&self, node: usize) -> Instant {
        self.nodes[node].clock.now(self.now)
    }

    pub fn note(&self, what: impl FnOnce() -> String) {
        if self.trace {
            println!("{:>9} {}", self.now, what());
        }
    }

    pub fn start(&mut self, node: usize) {
        self.note(|| format!("node {node} starts"));
        self.nodes[node].start(self.now, &mut self.chance);
        self.tick_later(node);
    }

    pub fn kill(&mut self, node: usize) {
        self.note(|| format!("node {node} is killed"));
        self.nodes[node].up = false;
        self.oracle.dies(node);
    }

    pub fn is_running(&self, node: usize) -> bool {
        self.nodes[node].up && self.nodes[node].paused <= self.now
    }

    /// Lets the world go on until then.
    pub fn run(&mut self, until: Time) {
        while let Some((at, event)) = self.queue.pop() {
            if at > until {
                self.queue.push(at, event);
                break;
            }
            self.now = at;
            self.happens(event);
        }
        self.now = until;
    }

    fn tick_later(&mut self, node: usize) {
        let at = self.now + self.chance.between(30, 50) * MS;
        self.queue.push(at, Event::Tick { node, life: self.nodes[node].life });
    }

    fn happens(&mut self, event: Event) {
        let (node, life) = match &event {
            Event::Arrives { to, life, .. } => (*to, *life),
            Event::Tick { node, life } | Event::Stopped { node, life, .. } => (*node, *life),
        };
        if !self.nodes[node].up || self.nodes[node].life != life {
            return;
        }
        if self.nodes[node].paused > self.now {
            let at = self.nodes[node].paused;
            self.queue.push(at, event);
            return;
        }
        match event {
            Event::Arrives { from, to, message, .. } => self.receive(from, to, message),
            Event::Tick { node, .. } => {
                self.tick(node);
                self.tick_later(node);
            }
            Event::Stopped { node, sensor, epoch, .. } => self.stopped(node, sensor, epoch),
        }
    }

    pub fn send(&mut self, from: usize, to: usize, message: Message) {
        if from == to {
            // A node's calls to itself take a moment, too.
            let life = self.nodes[to].life;
            self.queue.push(self.now + 50, Event::Arrives { from, to, life, message });
            return;
        }
        if !self.nodes[to].up {
            return;
        }
        let life = self.nodes[to].life;
        let [first, second] = self.net.arrivals(from, to, self.now, &mut self.chance);
        if let Some(at) = second {
            self.queue.push(at, Event::Arrives { from, to, life, message: message.clone() });
        }
        if let Some(at) = first {
            self.queue.push(at, Event::Arrives { from, to, life, message });
        }
    }

    fn send_all(&mut self, from: usize, out: Out) {
        for (to, message) in out {
            self.send(from, to, message);
        }
    }

    fn receive(&mut self, from: usize, me: usize, message: Message) {
        match message {
            Message::Vote { pre, term, last, transfer } => self.vote(me, from, pre, term, last, transfer),
            Message::Voted { pre, term, granted } => self.voted(me, from, pre, term, granted),
            Message::Append { term, prev, prev_term, entries, commit, round } => {
                self.append(me, from, term, (prev, prev_term), entries, commit, round);
            }
            Message::Appended { term, ok, matched, round } => self.appended(me, from, term, ok, matched, round),
            Message::Transfer { term } => {
                let node = &mut self.nodes[me];
                if node.voter && node.disk.term == term && node.memory.consensus.role != Role::Leader {
                    node.memory.witness.heard_transfer(node.disk.term);
                    self.elect(me, true);
                }
            }
            Message::Propose { call, command } => {
                if !self.propose(me, from, call, command) {
                    self.send(me, from, Message::Proposed { call, answer: None });
                }
            }
            Message::Renew { call, epoch } => self.asked_to_renew(me, from, call, epoch),
            Message::Proposed { call, answer } => self.proposed(me, call, answer),
            Message::Renewed { call, answer } => self.renewed(me, call, answer),
        }
    }

    fn tick(&mut self, me: usize) {
        let now = self.local(me);
        let node = &self.nodes[me];
        let consensus = &node.memory.consensus;
        if consensus.role == Role::Leader {
            if consensus.beat.is_none_or(|beat| now >= beat + HEARTBEAT) {
                self.broadcast(me);
            }
            self.look(me);
        } else if node.voter && now >= consensus.election {
            self.probe(me);
        }
        self.keep(me);
        self.show(me);
    }

    /// The leader's look at its book, as in `reaper`.
    fn look(&mut self, me: usize) {
        let now = self.local(me);
        let readable = self.nodes.iter().map(|node| node.version).min().unwrap_or(1);
        let voters = self.voters();
        let node = &mut self.nodes[me];
        let lead = node.leadership(now, voters, self.credit);
        let (mut due, _) = node.memory.book.look(lead, &node.memory.state, now);
        let (trace, micros) = (self.trace, self.now);
        if trace && !due.is_empty() {
            println!("{micros:>9} node {me} finds due as {lead:?}: {due:?}");
        }
        if lead.is_some() {
            due.extend(reaper::announcements(&node.memory.state, id(me), readable));
        }
        for command in due {
            // Sometimes it is proposed again before it is applied.
            let waiting = &self.nodes[me].disk.log[self.nodes[me].memory.applied..];
            let again = waiting.iter().any(|entry| entry.command.as_deref() == Some(&command));
            if self.chance.one_in(20) {
                // On a way that takes long, to whoever leads then: that must do no harm.
                let other = self.chance.below(self.nodes.len() as u64) as usize;
                let life = self.nodes[other].life;
                let message = Message::Propose { call: 0, command: Rc::new(command.clone()) };
                let at = self.now + self.chance.between(0, 2_000 * MS);
                self.queue.push(at, Event::Arrives { from: me, to: other, life, message });
            }
            if !again || self.chance.one_in(8) {
                self.propose(me, me, 0, Rc::new(command));
            }
        }
    }

    // Elections.

    fn probe(&mut self, me: usize) {
        let now = self.local(me);
        let voters = self.voters();
        let node = &mut self.nodes[me];
        let clock = node.clock;
        node.memory.consensus.wait(now, &mut self.chance);
        if node.memory.consensus.refuses(now, voters, |round| clock.at(round)) {
            return;
        }
        node.memory.consensus.promised = [me].into();
        let vote = Message::Vote { pre: true, term: node.disk.term + 1, last: node.disk.last(), transfer: false };
        self.tell_voters(me, &vote);
        if quorum(1, voters) {
            self.elect(me, false);
        }
    }

    fn elect(&mut self, me: usize, transfer: bool) {
        let voters = self.voters();
        let node = &mut self.nodes[me];
        node.disk.term += 1;
        if self.trace {
            println!("{:>9} node {me} stands for term {}, transfer {transfer}", self.now, node.disk.term);
        }
        node.disk.voted = Some(me);
        node.memory.consensus.follow(None);
        node.memory.leading = None;
        node.memory.consensus.heard = None;
        node.memory.consensus.role = Role::Candidate;
        node.memory.consensus.granted = [me].into();
        let now = node.clock.now(self.now);
        node.memory.consensus.wait(now, &mut self.chance);
        let vote = Message::Vote { pre: false, term: node.disk.term, last: node.disk.last(), transfer };
        self.tell_voters(me, &vote);
        if quorum(1, voters) {
            self.win(me);
        }
    }

    fn tell_voters(&mut self, me: usize, message: &Message) {
        for to in 0..self.nodes.len() {
            if to != me && self.nodes[to].voter {
                self.send(me, to, message.clone());
            }
        }
    }

    fn vote(&mut self, me: usize, from: usize, pre: bool, term: u64, last: (u64, usize), transfer: bool) {
        let now = self.local(me);
        let voters = self.voters();
        let node = &mut self.nodes[me];
        let clock = node.clock;
        let refused = !transfer && node.memory.consensus.refuses(now, voters, |round| clock.at(round));
        let may = node.memory.witness.may_vote(now, transfer);
        let mut granted = may && !refused && last >= node.disk.last();
        if pre {
            granted &= term > node.disk.term;
        } else if granted {
            granted = term > node.disk.term || (term == node.disk.term && node.disk.voted.is_none_or(|to| to == from));
            if granted {
                if term > node.disk.term {
                    node.memory.consensus.follow(None);
                    node.memory.leading = None;
                    node.memory.consensus.heard = None;
                }
                (node.disk.term, node.disk.voted) = (term, Some(from));
                node.memory.consensus.wait(now, &mut self.chance);
            }
        }
        self.note(|| format!("node {me} votes for node {from} in {term}: pre {pre}, transfer {transfer}, {granted}"));
        self.send(me, from, Message::Voted { pre, term, granted });
    }

    fn voted(&mut self, me: usize, from: usize, pre: bool, term: u64, granted: bool) {
        let voters = self.voters();
        let node = &mut self.nodes[me];
        if !granted || node.memory.consensus.role == Role::Leader {
            return;
        }
        if pre && term == node.disk.term + 1 && !node.memory.consensus.promised.is_empty() {
            node.memory.consensus.promised.insert(from);
            if quorum(node.memory.consensus.promised.len(), voters) {
                self.elect(me, false);
            }
        } else if !pre && term == node.disk.term && node.memory.consensus.role == Role::Candidate {
            node.memory.consensus.granted.insert(from);
            if quorum(node.memory.consensus.granted.len(), voters) {
                self.win(me);
            }
        }
    }

    fn win(&mut self, me: usize) {
        self.note(|| format!("node {me} leads"));
        let others: Vec<usize> = (0..self.nodes.len()).filter(|&to| to != me).collect();
        let node = &mut self.nodes[me];
        let term = node.disk.term;
        node.memory.consensus.follow(Some(me));
        node.memory.consensus.role = Role::Leader;
        let lead = &mut node.memory.consensus.lead;
        for to in others {
            lead.next.insert(to, node.disk.log.len());
            lead.matched.insert(to, 0);
        }
        node.disk.log.push(Entry { term, command: None });
        self.broadcast(me);
        self.commit(me);
    }

    // The log.

    /// Appends a command, if this node leads and all members can read it. `call` 0: nobody waits.
    fn propose(&mut self, me: usize, from: usize, call: u64, command: Rc<Command>) -> bool {
        let node = &mut self.nodes[me];
        let memory = &mut node.memory;
        if memory.consensus.role != Role::Leader || command.needs() > memory.state.agreed_version() {
            return false;
        }
        if call > 0 {
            memory.consensus.lead.calls.insert(node.disk.log.len(), (from, call));
        }
        node.disk.log.push(Entry { term: node.disk.term, command: Some(command) });
        self.broadcast(me);
        self.commit(me);
        true
    }

    fn broadcast(&mut self, me: usize) {
        let micros = self.nodes[me].clock.micros(self.now);
        let node = &mut self.nodes[me];
        let term = node.disk.term;
        let consensus = &mut node.memory.consensus;
        consensus.lead.round = micros.max(consensus.lead.round + 1);
        consensus.beat = Some(node.clock.at(micros));
        let (round, commit) = (consensus.lead.round, consensus.commit);
        let mut out = Out::new();
        for (&to, next) in &mut consensus.lead.next {
            let prev = (*next).min(node.disk.log.len());
            let prev_term = prev.checked_sub(1).map_or(0, |at| node.disk.log[at].term);
            let entries = node.disk.log[prev..].to_vec();
            if !consensus.lead.probing.contains(&to) {
                *next = node.disk.log.len();
            }
            out.push((to, Message::Append { term, prev, prev_term, entries, commit, round }));
        }
        self.send_all(me, out);
    }

    #[allow(clippy::too_many_arguments)] // the message's fields
    fn append(
        &mut self,
        me: usize,
        from: usize,
        term: u64,
        (prev, prev_term): (usize, u64),
        entries: Vec<Entry>,
        commit: usize,
        round: u64,
    ) {
        let now = self.local(me);
        let node = &mut self.nodes[me];
        if term < node.disk.term {
            return;
        }
        node.memory.witness.heard_append(now);
        let consensus = &mut node.memory.consensus;
        if term > node.disk.term || consensus.leader != Some(from) {
            consensus.follow(Some(from));
            node.memory.leading = None;
            (node.disk.term, node.disk.voted) = (term, Some(from));
        }
        consensus.heard = Some(now);
        consensus.promised.clear();
        consensus.wait(now, &mut self.chance);
        let log = &mut node.disk.log;
        let fits = prev <= log.len() && prev.checked_sub(1).is_none_or(|at| log[at].term == prev_term);
        if !fits {
            // What is committed is the same everywhere.
            let matched = consensus.commit;
            self.send(me, from, Message::Appended { term, ok: false, matched, round });
            return;
        }
        let matched = prev + entries.len();
        for (at, entry) in (prev..).zip(entries) {
            if log.get(at).is_some_and(|known| known.term != entry.term) {
                assert!(at >= consensus.commit, "a committed entry is overwritten");
                log.truncate(at);
            }
            if at == log.len() {
                log.push(entry);
            }
        }
        consensus.commit = consensus.commit.max(commit.min(matched));
        self.send(me, from, Message::Appended { term, ok: true, matched, round });
        self.apply(me);
    }

    fn appended(&mut self, me: usize, from: usize, term: u64, ok: bool, matched: usize, round: u64) {
        let node = &mut self.nodes[me];
        let consensus = &mut node.memory.consensus;
        if consensus.role != Role::Leader || node.disk.term != term {
            return;
        }
        let voter = self.nodes[from].voter;
        let lead = &mut self.nodes[me].memory.consensus.lead;
        if voter {
            let answered = lead.rounds.entry(from).or_default();
            *answered = round.max(*answered);
        }
        if ok {
            let known = lead.matched.entry(from).or_default();
            *known = matched.max(*known);
            if lead.probing.remove(&from) {
                lead.next.insert(from, *known);
            }
        } else {
            lead.probing.insert(from);
            lead.next.insert(from, matched);
        }
        self.commit(me);
        self.confirm(me);
    }

    fn commit(&mut self, me: usize) {
        let voters = self.voters();
        let node = &self.nodes[me];
        let mut matched: Vec<usize> = node
            .memory
            .consensus
            .lead
            .matched
            .iter()
            .filter(|(to, _)| self.nodes[**to].voter)
            .map(|(_, at)| *at)
            .collect();
        matched.push(node.disk.log.len());
        matched.sort_unstable_by(|one, two| two.cmp(one));
        let upto = matched[voters / 2];
        let own = upto.checked_sub(1).is_some_and(|at| node.disk.log[at].term == node.disk.term);
        if upto > node.memory.consensus.commit && own {
            self.nodes[me].memory.consensus.commit = upto;
            self.apply(me);
            self.broadcast(me);
        }
    }

    fn apply(&mut self, me: usize) {
        let mut answers = Vec::new();
        let node = &mut self.nodes[me];
        let memory = &mut node.memory;
        if memory.applied >= memory.consensus.commit {
            return;
        }
        while memory.applied < memory.consensus.commit {
            let index = memory.applied;
            let entry = &node.disk.log[index];
            // Only the first to apply an entry is compared with what was before.
            let before = self.oracle.is_new(index).then(|| memory.state.clone());
            if memory.term.0 < entry.term {
                memory.term = (entry.term, memory.state.last_session_epoch);
            }
            let mut response = Response::Done;
            if let Some(command) = &entry.command {
                assert!(command.version() <= node.version, "an old release is to read {command}");
                response = memory.state.apply_in(entry.term, command).0;
            }
            if self.trace {
                let what = entry.command.as_ref().map_or_else(|| "-".to_owned(), |command| command.to_string());
                println!("{:>9} node {me} applies {index} of term {}: {what}", self.now, entry.term);
            }
            self.oracle.applied(index, entry, before.as_ref(), &memory.state);
            memory.applied += 1;
            let leads = memory.consensus.role == Role::Leader;
            if leads && entry.term == node.disk.term {
                memory.leading = Some(node.disk.term);
            }
            if let Some((from, call)) = memory.consensus.lead.calls.remove(&index) {
                answers.push((from, Message::Proposed { call, answer: Some(response) }));
            }
        }
        if self.chance.one_in(60) {
            node.snapshot = Some((memory.applied, memory.state.to_snapshot().unwrap()));
        }
        self.send_all(me, answers);
        self.keep(me);
        self.show(me);
    }

    // Renewals at the leader.

    fn asked_to_renew(&mut self, me: usize, from: usize, call: u64, epoch: u64) {
        if self.nodes[me].memory.leading.is_none() {
            self.send(me, from, Message::Renewed { call, answer: Answer::NotLeader });
            return;
        }
        self.broadcast(me);
        let lead = &mut self.nodes[me].memory.consensus.lead;
        lead.reads.push((lead.round, from, call, epoch));
        self.confirm(me);
    }

    fn confirm(&mut self, me: usize) {
        let voters = self.voters();
        let now = self.local(me);
        let node = &mut self.nodes[me];
        let consensus: &mut Consensus = &mut node.memory.consensus;
        let reads = std::mem::take(&mut consensus.lead.reads);
        let (done, waiting): (Vec<_>, Vec<_>) =
            reads.into_iter().partition(|(round, ..)| consensus.confirmed(*round, voters));
        // Who has waited for long has given up.
        let recent = |(round, ..): &(u64, usize, u64, u64)| node.clock.at(*round) + ELECTION_MAX * 4 > now;
        consensus.lead.reads = waiting.into_iter().filter(recent).collect();
        if !done.is_empty() {
            node.memory.witness.confirmed(node.disk.term, now);
        }
        for (_, from, call, epoch) in done {
            let answer = self.enter(me, from, epoch);
            self.note(|| format!("node {me} answers node {from} epoch {epoch} {answer:?}"));
            self.send(me, from, Message::Renewed { call, answer });
        }
    }

    fn enter(&mut self, me: usize, from: usize, epoch: u64) -> Answer {
        let now = self.local(me);
        let Some(lead) = self.nodes[me].leadership(now, self.voters(), self.credit) else { return Answer::NotLeader };
        let memory = &mut self.nodes[me].memory;
        let Some(session) = memory.state.sessions.get(&id(from)).filter(|session| session.epoch == epoch) else {
            // A leader has applied everything that was committed before it.
            return Answer::Over;
        };
        match memory.book.renew(lead, id(from), session, now) {
            Renewal::Both { era } => Answer::Accepted(Some(era)),
            Renewal::Session => Answer::Accepted(None),
            Renewal::Suspended { era } => {
                let command = Command::ResumeSession { node: id(from), epoch, era };
                self.propose(me, me, 0, Rc::new(command));
                Answer::Accepted(None)
            }
            Renewal::Over => Answer::Over,
        }
    }
}
