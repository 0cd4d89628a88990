//! Every interleaving of two or three threads, and no ordering stronger than it must be: `cargo xtask sanitize --loom`.
#![cfg(loom)]

use corelm_sync::model::{self, Model};
use corelm_sync::{Pool, Rounds};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use std::num::NonZeroUsize;

/// One value a member, each of which that member alone writes within a job, and the caller reads between jobs.
struct Results([UnsafeCell<u32>; 3]);

// SAFETY: loom says when two threads reach one of them without an order.
unsafe impl Sync for Results {}

impl Results {
    fn new() -> Self {
        Self([UnsafeCell::new(0), UnsafeCell::new(0), UnsafeCell::new(0)])
    }

    fn add(&self, member: usize, what: u32) {
        // SAFETY: as above.
        self.0[member].with_mut(|value| unsafe { *value += what });
    }

    fn get(&self) -> [u32; 3] {
        // SAFETY: as above.
        [0, 1, 2].map(|member| self.0[member].with(|value| unsafe { *value }))
    }
}

/// A team of `n` that is open, and its members.
fn team_of(n: usize) -> (Arc<Rounds>, Vec<thread::JoinHandle<()>>) {
    let rounds = Arc::new(Rounds::new());
    rounds.open(n);
    let members = (1..n).map(|member| {
        let rounds = Arc::clone(&rounds);
        thread::spawn(move || rounds.serve(member, model::wait))
    });
    let members = members.collect();
    (rounds, members)
}

fn leave(rounds: &Rounds, members: Vec<thread::JoinHandle<()>>) {
    rounds.close();
    members.into_iter().for_each(|member| member.join().unwrap());
}

/// What a member did is seen by the caller behind the round, and what the caller did before it by the member.
fn two_rounds_of_two() {
    let (rounds, members) = team_of(2);
    let results = Results::new();
    for round in [1, 2] {
        results.add(1, 10);
        rounds.run(&|member| results.add(member, round), || {}, model::wait);
        assert_eq!(results.get()[..2], [[1, 11], [3, 23]][round as usize - 1], "model: a part was lost");
    }
    leave(&rounds, members);
}

fn a_round_of_three() {
    let (rounds, members) = team_of(3);
    let results = Results::new();
    rounds.run(&|member| results.add(member, 1), || {}, model::wait);
    assert_eq!(results.get(), [1; 3], "model: a part was lost");
    leave(&rounds, members);
}

/// Two callers at the same time: one of them does all by itself, or they come one after the other.
fn two_callers() {
    let (rounds, members) = team_of(2);
    let other = {
        let rounds = Arc::clone(&rounds);
        thread::spawn(move || {
            let results = Results::new();
            rounds.run(&|member| results.add(member, 1), || {}, model::wait);
            assert_eq!(results.get()[..2], [1; 2], "model: a part was lost");
        })
    };
    let results = Results::new();
    rounds.run(&|member| results.add(member, 1), || {}, model::wait);
    assert_eq!(results.get()[..2], [1; 2], "model: a part was lost");
    other.join().unwrap();
    leave(&rounds, members);
}

/// Members that come at the same time are all counted.
fn two_arrive() {
    let rounds = Arc::new(Rounds::new());
    let members = [1, 2].map(|_| {
        let rounds = Arc::clone(&rounds);
        thread::spawn(move || rounds.arrive())
    });
    members.into_iter().for_each(|member| member.join().unwrap());
    assert_eq!(rounds.n_arrived(), 2, "model: one was not counted");
}

/// Members count themselves in; one that comes when the team is complete has no part.
fn one_comes_late() {
    let rounds = Arc::new(Rounds::new());
    let serve = |member| {
        let rounds = Arc::clone(&rounds);
        thread::spawn(move || {
            rounds.arrive();
            rounds.serve(member, model::wait);
        })
    };
    let members = vec![serve(1), serve(2)];
    let mut turn = 0;
    while rounds.n_arrived() < 1 {
        model::wait(turn);
        turn += 1;
    }
    rounds.open(2);
    let results = Results::new();
    rounds.run(&|member| results.add(member, 1), || {}, model::wait);
    assert_eq!(results.get()[..2], [1, 1], "model: a part was lost");
    leave(&rounds, members);
}

/// Threads that sleep are woken for each round and for the end.
fn pool_of(n: usize, n_rounds: u32) {
    let pool = Pool::new(NonZeroUsize::new(n).unwrap());
    let results = Results::new();
    for round in 1..=n_rounds {
        pool.run(&|member| results.add(member, 1));
        assert_eq!(results.get()[..n], [round; 3][..n], "model: a part was lost");
    }
}

const fn all(name: &'static str, body: fn()) -> Model {
    Model { name, most_preemptions: None, body }
}

const fn some(name: &'static str, most_preemptions: usize, body: fn()) -> Model {
    Model { name, most_preemptions: Some(most_preemptions), body }
}

#[test]
fn team() {
    model::explore(
        "team",
        &[
            all("two rounds of a team of two", two_rounds_of_two),
            all("a pool of two", || pool_of(2, 1)),
            all("two rounds of a pool of two", || pool_of(2, 2)),
            all("two arrive at once", two_arrive),
            all("two callers of a team of two", two_callers),
            some("a round of a team of three", 3, a_round_of_three),
            some("one comes late", 3, one_comes_late),
        ],
    );
}
