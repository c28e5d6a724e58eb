//! Decides which job does what next. No I/O, no clock, no expressions.
//!
//! ```text
//! job:       Waiting --needs ended--> Expanding --Expanded--> Open --all instances ended--> Over
//!                                        `------- Skipped / Invalid ------------------------^
//! instance:  Queued --max-parallel--> Running --Ended--> Over        Queued --fail-fast, cancel--> Over
//! ```
//!
//! An *instance* is a job, or one job of a matrix. A job leaves `Waiting` as soon as its own needs ended, whatever
//! else runs.

use super::event::Conclusion;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The run begins.
    Begin,
    /// The condition of a job was true; this is what it became. With no instance it counts as skipped.
    Expanded(usize, Expansion),
    /// The condition of a job was false.
    Skipped(usize),
    /// A job could not be made out of its expressions.
    Invalid(usize),
    /// An instance ended.
    Ended(Instance, End),
    /// The run is cancelled.
    Cancel,
    /// A job was cancelled: the answer to [`Action::Reconsider`] when its condition does not hold any more.
    CancelJob(usize),
}

/// How a job is to be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expansion {
    /// The number of instances.
    pub(super) instances: usize,
    /// One that fails cancels the others.
    pub(super) fail_fast: bool,
    /// How many may run at a time.
    pub(super) max_parallel: Option<usize>,
}

/// One instance: the job's index and its index in the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Instance {
    pub(super) job: usize,
    pub(super) index: usize,
}

/// How an instance ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// The raw result.
    pub(super) outcome: Conclusion,
    /// The same after `continue-on-error`.
    pub(super) conclusion: Conclusion,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Evaluate the condition and the matrix of a job; answer with `Expanded`, `Skipped` or `Invalid`.
    Expand(usize),
    /// Start an instance; answer with `Ended` some time.
    Start(Instance),
    /// Cancel an instance that runs.
    Stop(Instance),
    /// An instance that never started is over as cancelled.
    Drop(Instance),
    /// The run was cancelled: does the condition of this job, which is open, still hold? If not, `CancelJob`.
    Reconsider(usize),
    /// Everything is over.
    Finish,
}

#[derive(Clone, Debug)]
enum State {
    Waiting,
    Expanding,
    Open { instances: Vec<Progress>, expansion: Expansion },
    Over(Conclusion),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Queued,
    Running,
    Over(End),
}

#[derive(Clone, Debug)]
struct Node {
    needs: Vec<usize>,
    state: State,
}

/// The jobs of a run.
#[derive(Clone, Debug)]
pub(super) struct Graph {
    nodes: Vec<Node>,
    finished: bool,
}

impl Graph {
    /// Jobs by the indices of their needs, which must make no cycle.
    pub(super) fn new(needs: Vec<Vec<usize>>) -> Graph {
        let nodes = needs.into_iter().map(|needs| Node { needs, state: State::Waiting }).collect();
        Graph { nodes, finished: false }
    }

    /// Takes an event and says what is to be done, in this order.
    pub(super) fn next(&mut self, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Begin => {}
            Event::Expanded(job, expansion) => {
                let instances = vec![Progress::Queued; expansion.instances];
                self.nodes[job].state = State::Open { instances, expansion };
                self.close_if_over(job);
            }
            Event::Skipped(job) => self.nodes[job].state = State::Over(Conclusion::Skipped),
            Event::Invalid(job) => self.nodes[job].state = State::Over(Conclusion::Failure),
            Event::Ended(instance, end) => self.ended(instance, end, &mut actions),
            Event::Cancel => {
                let open = |node: &Node| matches!(node.state, State::Open { .. });
                let jobs = (0..self.nodes.len()).filter(|job| open(&self.nodes[*job]));
                actions.extend(jobs.map(Action::Reconsider));
            }
            Event::CancelJob(job) => self.cancel(job, &mut actions),
        }
        // What a cancelled run still wants to run is known only when the open jobs were reconsidered.
        if event != Event::Cancel {
            self.go_on(&mut actions);
        }
        actions
    }

    /// How a job ended, if it did.
    pub(super) fn result(&self, job: usize) -> Option<Conclusion> {
        match self.nodes[job].state {
            State::Over(conclusion) => Some(conclusion),
            _ => None,
        }
    }

    /// All jobs that a job needs, directly or not.
    pub(super) fn ancestors(&self, job: usize) -> Vec<usize> {
        let mut seen = vec![false; self.nodes.len()];
        let mut open = self.nodes[job].needs.clone();
        while let Some(next) = open.pop() {
            if !std::mem::replace(&mut seen[next], true) {
                open.extend(&self.nodes[next].needs);
            }
        }
        (0..seen.len()).filter(|job| seen[*job]).collect()
    }

    fn ended(&mut self, instance: Instance, end: End, actions: &mut Vec<Action>) {
        let State::Open { instances, expansion } = &mut self.nodes[instance.job].state else { return };
        instances[instance.index] = Progress::Over(end);
        if expansion.fail_fast && end.conclusion == Conclusion::Failure {
            self.cancel(instance.job, actions);
        }
        self.close_if_over(instance.job);
    }

    /// Cancels what runs of a job and drops what waits. What runs ends by an event of its own.
    fn cancel(&mut self, job: usize, actions: &mut Vec<Action>) {
        let State::Open { instances, .. } = &mut self.nodes[job].state else { return };
        for (index, progress) in instances.iter_mut().enumerate() {
            match progress {
                Progress::Queued => {
                    let cancelled = Conclusion::Cancelled;
                    *progress = Progress::Over(End { outcome: cancelled, conclusion: cancelled });
                    actions.push(Action::Drop(Instance { job, index }));
                }
                Progress::Running => actions.push(Action::Stop(Instance { job, index })),
                Progress::Over(_) => {}
            }
        }
        self.close_if_over(job);
    }

    fn close_if_over(&mut self, job: usize) {
        let State::Open { instances, .. } = &self.nodes[job].state else { return };
        let ends: Option<Vec<Conclusion>> = instances
            .iter()
            .map(|progress| match progress {
                Progress::Over(end) => Some(end.conclusion),
                _ => None,
            })
            .collect();
        if let Some(ends) = ends {
            self.nodes[job].state = State::Over(combine(&ends));
        }
    }

    /// Expands the jobs whose needs ended, starts what there is room for, and says when all is over.
    fn go_on(&mut self, actions: &mut Vec<Action>) {
        for job in 0..self.nodes.len() {
            let ready = self.nodes[job].needs.iter().all(|need| self.result(*need).is_some());
            if ready && matches!(self.nodes[job].state, State::Waiting) {
                self.nodes[job].state = State::Expanding;
                actions.push(Action::Expand(job));
            }
        }
        for (job, node) in self.nodes.iter_mut().enumerate() {
            node.start(job, actions);
        }
        let over = self.nodes.iter().all(|node| matches!(node.state, State::Over(_)));
        if over && !std::mem::replace(&mut self.finished, true) {
            actions.push(Action::Finish);
        }
    }
}

impl Node {
    fn running(&self) -> usize {
        match &self.state {
            State::Open { instances, .. } => instances.iter().filter(|p| **p == Progress::Running).count(),
            _ => 0,
        }
    }

    fn start(&mut self, job: usize, actions: &mut Vec<Action>) {
        let running = self.running();
        let State::Open { instances, expansion } = &mut self.state else { return };
        let mut room = expansion.max_parallel.unwrap_or(usize::MAX).saturating_sub(running);
        for (index, progress) in instances.iter_mut().enumerate() {
            if room == 0 {
                return;
            }
            if *progress == Progress::Queued {
                *progress = Progress::Running;
                room -= 1;
                actions.push(Action::Start(Instance { job, index }));
            }
        }
    }
}

/// The result of a job out of those of its instances.
pub(super) fn combine(ends: &[Conclusion]) -> Conclusion {
    [Conclusion::Failure, Conclusion::Cancelled, Conclusion::Success]
        .into_iter()
        .find(|conclusion| ends.contains(conclusion))
        .unwrap_or(Conclusion::Skipped)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(job: usize, index: usize) -> Instance {
        Instance { job, index }
    }

    fn end(conclusion: Conclusion) -> End {
        End { outcome: conclusion, conclusion }
    }

    fn many(instances: usize) -> Expansion {
        Expansion { instances, fail_fast: true, max_parallel: None }
    }

    #[test]
    fn a_job_starts_when_its_own_needs_ended_and_not_later() {
        // 1 needs 0; 2 runs on; 3 needs 1 and 2.
        let mut graph = Graph::new(vec![vec![], vec![0], vec![], vec![1, 2]]);
        assert_eq!(graph.next(Event::Begin), [Action::Expand(0), Action::Expand(2)]);
        assert_eq!(graph.next(Event::Expanded(0, many(1))), [Action::Start(at(0, 0))]);
        assert_eq!(graph.next(Event::Expanded(2, many(1))), [Action::Start(at(2, 0))]);
        assert_eq!(graph.next(Event::Ended(at(0, 0), end(Conclusion::Success))), [Action::Expand(1)]);
        assert_eq!(graph.next(Event::Expanded(1, many(1))), [Action::Start(at(1, 0))]);
        assert_eq!(graph.next(Event::Ended(at(1, 0), end(Conclusion::Failure))), []);
        assert_eq!(graph.next(Event::Ended(at(2, 0), end(Conclusion::Success))), [Action::Expand(3)]);
        assert_eq!(graph.next(Event::Skipped(3)), [Action::Finish]);
        assert_eq!(graph.result(1), Some(Conclusion::Failure));
        assert_eq!(graph.ancestors(3), [0, 1, 2]);
    }

    #[test]
    fn max_parallel_holds_for_its_own_job() {
        let mut graph = Graph::new(vec![vec![], vec![]]);
        graph.next(Event::Begin);
        let slow = Expansion { max_parallel: Some(1), ..many(2) };
        assert_eq!(graph.next(Event::Expanded(0, slow)), [Action::Start(at(0, 0))]);
        assert_eq!(graph.next(Event::Expanded(1, many(1))), [Action::Start(at(1, 0))]);
        let won = end(Conclusion::Success);
        assert_eq!(graph.next(Event::Ended(at(0, 0), won)), [Action::Start(at(0, 1))]);
    }

    #[test]
    fn fail_fast_stops_running_siblings_and_drops_queued_ones() {
        let mut graph = Graph::new(vec![vec![]]);
        graph.next(Event::Begin);
        graph.next(Event::Expanded(0, Expansion { max_parallel: Some(2), ..many(3) }));
        assert_eq!(
            graph.next(Event::Ended(at(0, 0), end(Conclusion::Failure))),
            [Action::Stop(at(0, 1)), Action::Drop(at(0, 2))]
        );
        assert_eq!(graph.next(Event::Ended(at(0, 1), end(Conclusion::Cancelled))), [Action::Finish]);
        assert_eq!(graph.result(0), Some(Conclusion::Failure));
    }

    #[test]
    fn a_tolerated_failure_stops_nothing() {
        let mut graph = Graph::new(vec![vec![]]);
        graph.next(Event::Begin);
        graph.next(Event::Expanded(0, many(2)));
        let tolerated = End { outcome: Conclusion::Failure, conclusion: Conclusion::Success };
        assert_eq!(graph.next(Event::Ended(at(0, 0), tolerated)), []);
        assert_eq!(graph.next(Event::Ended(at(0, 1), end(Conclusion::Success))), [Action::Finish]);
        assert_eq!(graph.result(0), Some(Conclusion::Success));
    }

    #[test]
    fn without_fail_fast_siblings_go_on() {
        let mut graph = Graph::new(vec![vec![]]);
        graph.next(Event::Begin);
        graph.next(Event::Expanded(0, Expansion { fail_fast: false, max_parallel: Some(1), ..many(2) }));
        assert_eq!(graph.next(Event::Ended(at(0, 0), end(Conclusion::Failure))), [Action::Start(at(0, 1))]);
    }

    #[test]
    fn cancelling_asks_open_jobs_and_lets_waiting_ones_decide_later() {
        let mut graph = Graph::new(vec![vec![], vec![], vec![0]]);
        graph.next(Event::Begin);
        graph.next(Event::Expanded(0, many(1)));
        graph.next(Event::Expanded(1, Expansion { max_parallel: Some(1), ..many(2) }));
        assert_eq!(graph.next(Event::Cancel), [Action::Reconsider(0), Action::Reconsider(1)]);
        assert_eq!(graph.next(Event::CancelJob(0)), [Action::Stop(at(0, 0))]);
        assert_eq!(graph.next(Event::CancelJob(1)), [Action::Stop(at(1, 0)), Action::Drop(at(1, 1))]);
        assert_eq!(graph.next(Event::Ended(at(0, 0), end(Conclusion::Cancelled))), [Action::Expand(2)]);
        assert_eq!(graph.next(Event::Ended(at(1, 0), end(Conclusion::Cancelled))), []);
        // `if: always()`: it runs although the run is cancelled.
        assert_eq!(graph.next(Event::Expanded(2, many(1))), [Action::Start(at(2, 0))]);
        assert_eq!(graph.next(Event::Ended(at(2, 0), end(Conclusion::Success))), [Action::Finish]);
    }

    #[test]
    fn no_jobs_is_the_end() {
        assert_eq!(Graph::new(vec![]).next(Event::Begin), [Action::Finish]);
        let mut graph = Graph::new(vec![vec![]]);
        graph.next(Event::Begin);
        assert_eq!(graph.next(Event::Expanded(0, many(0))), [Action::Finish]);
        assert_eq!(graph.result(0), Some(Conclusion::Skipped));
    }
}
