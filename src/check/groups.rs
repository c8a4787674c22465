//! Problems that several rows share, reported once.

use std::collections::HashMap;

use crate::request::Problem;
use crate::text;

/// Places that are named beside the first one.
const PLACES: usize = 3;

/// Problems by what they say.
#[derive(Debug, Default)]
pub struct ProblemGroups {
    groups: Vec<ProblemGroup>,
    /// The place of each message in `groups`.
    known: HashMap<Box<str>, usize>,
    /// Groups that are kept.
    max_groups: usize,
    /// Problems of the groups that are not.
    pub others: u64,
}

/// A problem, and the rows that share it.
#[derive(Debug)]
struct ProblemGroup {
    /// The first of them.
    pub first: Problem,
    /// All of them.
    pub count: u64,
    /// Places of the next ones.
    places: Vec<String>,
}

impl ProblemGroups {
    /// Keeps up to `max_groups` different problems, and counts the others.
    pub fn new(max_groups: usize) -> Self {
        Self { max_groups, ..Self::default() }
    }

    /// Groups problems in input order, the first ones of `count`.
    pub fn of(problems: &[Problem], count: u64) -> Self {
        let mut groups = Self::new(problems.len());
        for problem in problems {
            groups.add(problem);
        }
        groups.others += count.saturating_sub(problems.len() as u64);
        groups
    }

    /// Adds the next problem.
    pub fn add(&mut self, problem: &Problem) {
        if let Some(group) = self.known.get(problem.message.as_str()).map(|at| &mut self.groups[*at]) {
            group.count += 1;
            if group.places.len() < PLACES {
                group.places.push(problem.place());
            }
        } else {
            self.start(ProblemGroup { first: problem.clone(), count: 1, places: Vec::new() });
        }
    }

    /// Adds the groups of the rows that follow.
    pub fn append(&mut self, others: Self) {
        self.others += others.others;
        for other in others.groups {
            let Some(group) = self.known.get(other.first.message.as_str()).map(|at| &mut self.groups[*at]) else {
                self.start(other);
                continue;
            };
            group.count += other.count;
            let places = std::iter::once(other.first.place()).chain(other.places);
            group.places.extend(places.take(PLACES.saturating_sub(group.places.len())));
        }
    }

    fn start(&mut self, group: ProblemGroup) {
        if self.groups.len() < self.max_groups {
            self.known.insert(group.first.message.as_str().into(), self.groups.len());
            self.groups.push(group);
        } else {
            self.others += group.count;
        }
    }

    /// The groups, by their first rows, each as a line with the remedy; a remedy that several share comes once.
    pub fn lines(&self) -> impl Iterator<Item = (String, Option<&str>)> {
        let mut groups: Vec<&ProblemGroup> = self.groups.iter().collect();
        groups.sort_by_key(|group| group.first.number);
        let mut given = std::collections::HashSet::new();
        groups.into_iter().map(move |group| {
            let hint = group.first.hint.as_deref().filter(|hint| given.insert(*hint));
            (group.line(), hint)
        })
    }

    /// Says how many problems the lines leave out.
    pub fn rest(&self) -> Option<String> {
        (self.others > 0).then(|| format!("and {}", text::plural(self.others, "more problem")))
    }
}

impl ProblemGroup {
    fn line(&self) -> String {
        let more = self.count - 1;
        if more == 0 {
            return self.first.to_string();
        }
        let cut = if more > self.places.len() as u64 { " …" } else { "" };
        let rows = text::plural(more, "more row");
        format!("{} (and {rows}: {}{cut})", self.first, self.places.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(line: u64, message: &str) -> Problem {
        Problem::at(Some(line), "a.csv", line, "code", message).hint("mend it")
    }

    #[test]
    fn equal_problems_are_one_line_with_a_count_and_the_first_places() {
        let mut all = ProblemGroups::new(2);
        for lines in [1..=3, 4..=7] {
            let mut block = ProblemGroups::new(2);
            for line in lines {
                block.add(&problem(line, if line == 2 { "odd" } else { "same" }));
                block.add(&problem(line, &format!("number {line}")));
            }
            all.append(block);
        }
        let lines: Vec<_> = all.lines().collect();
        assert_eq!(
            lines,
            [
                ("a.csv:1: same (and 5 more rows: a.csv:3, a.csv:4, a.csv:5 …)".to_owned(), Some("mend it")),
                ("a.csv:1: number 1".to_owned(), None),
            ]
        );
        assert_eq!(all.rest().unwrap(), "and 7 more problems", "six numbers and the odd one");
    }
}
