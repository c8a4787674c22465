//! The place of a task among the tasks of its job, as schedulers name it in variables of the environment.

use crate::error::{Error, Result};

/// A task among others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskPlace {
    /// 1-based.
    pub index: u64,
    /// The number of all tasks.
    pub count: u64,
    /// The variables that say so, with their values.
    pub source: String,
}

/// Variables of a scheduler that counts its tasks from 0: the index, and the number of tasks.
const FROM_ZERO: [(&str, &str); 3] = [
    ("AWS_BATCH_JOB_ARRAY_INDEX", "AWS_BATCH_JOB_ARRAY_SIZE"),
    ("CLOUD_RUN_TASK_INDEX", "CLOUD_RUN_TASK_COUNT"),
    ("BATCH_TASK_INDEX", "BATCH_TASK_COUNT"),
];
/// The index of a task of a Kubernetes Indexed Job, from 0. No variable holds the number of tasks.
const KUBERNETES: &str = "JOB_COMPLETION_INDEX";
const SLURM: &str = "SLURM_ARRAY_TASK_ID";

/// A place that one scheduler names.
struct NamedTask {
    index: u64,
    /// `None`: the scheduler does not say.
    count: Option<u64>,
    source: String,
}

/// The variables of the environment that are set, and `--shard auto/N`.
struct Variables<'a> {
    env: &'a dyn Fn(&str) -> Option<String>,
}

impl TaskPlace {
    /// Reads the place from the variables of Slurm, AWS Batch, Cloud Run, Google Batch and Kubernetes. `count`: the
    /// number of tasks that the user gives.
    ///
    /// # Errors
    /// 2 if no variable is set, if they disagree with each other or with `count`, or if the number of tasks is unknown.
    pub fn find(count: Option<u64>, env: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let variables = Variables { env };
        let mut found = Vec::new();
        found.extend(variables.slurm(count)?);
        for (index, size) in FROM_ZERO {
            found.extend(variables.counted_from_zero(index, Some(size))?);
        }
        found.extend(variables.counted_from_zero(KUBERNETES, None)?);
        let given = count.map(|count| (count, format!("--shard auto/{count}")));
        let counts = found.iter().filter_map(|named| Some((named.count?, named.source.clone())));
        let mut counts = given.into_iter().chain(counts);
        let Some(first) = found.first() else {
            return Err(Error::usage(format!(
                "--shard auto: none of {SLURM}, {}, {KUBERNETES} is set",
                FROM_ZERO.map(|(index, _)| index).join(", ")
            ))
            .hint("run it as a task of an array, or pass --shard I/N with the task's own number I"));
        };
        let Some((count, counted_by)) = counts.next() else {
            return Err(Error::usage(format!("--shard auto: {} does not say how many tasks there are", first.source))
                .hint("name their number: --shard auto/8"));
        };
        let disagree = |a: &str, b: &str| {
            Error::usage(format!("--shard auto: {a} and {b} disagree"))
                .hint("pass --shard I/N with the task's own number I")
        };
        if let Some((_, other)) = counts.find(|(other, _)| *other != count) {
            return Err(disagree(&counted_by, &other));
        }
        if let Some(other) = found.iter().find(|named| named.index != first.index) {
            return Err(disagree(&first.source, &other.source));
        }
        if first.index > count {
            return Err(disagree(&first.source, &counted_by));
        }
        let source = found.iter().map(|named| named.source.as_str()).collect::<Vec<_>>().join(" and ");
        Ok(Self { index: first.index, count, source })
    }
}

impl Variables<'_> {
    /// Reads a number; `None` if the variable is not set, or empty.
    fn number(&self, name: &str) -> Result<Option<u64>> {
        let Some(text) = (self.env)(name).filter(|text| !text.is_empty()) else { return Ok(None) };
        let number = text.parse().map_err(|_| Error::usage(format!("--shard auto: {name}={text} is not a number")))?;
        Ok(Some(number))
    }

    fn counted_from_zero(&self, index: &str, size: Option<&str>) -> Result<Option<NamedTask>> {
        let Some(at) = self.number(index)? else { return Ok(None) };
        let count = size.map_or(Ok(None), |size| self.number(size))?;
        let of = size.zip(count).map_or_else(String::new, |(size, count)| format!(" {size}={count}"));
        Ok(Some(NamedTask { index: at.saturating_add(1), count, source: format!("{index}={at}{of}") }))
    }

    /// Reads the place in an array of Slurm, such as `--array=0-14:2`.
    fn slurm(&self, count: Option<u64>) -> Result<Option<NamedTask>> {
        let Some(id) = self.number(SLURM)? else { return Ok(None) };
        let [min, max, tasks, step] =
            ["MIN", "MAX", "COUNT", "STEP"].map(|part| self.number(&format!("SLURM_ARRAY_TASK_{part}")));
        let (min, max, tasks, step) = (min?, max?, tasks?, step?);
        let shown: String = [("MIN", min), ("COUNT", tasks), ("STEP", step)]
            .into_iter()
            .filter_map(|(part, value)| Some(format!(" SLURM_ARRAY_TASK_{part}={}", value?)))
            .collect();
        let source = format!("{SLURM}={id}{shown}");
        let refuse = |why: &str| {
            let count = count.or(tasks).unwrap_or(8);
            let hint = format!(
                "number the tasks from 1 (--array=1-{count}), or pass --shard I/N with the task's own number I"
            );
            Error::usage(format!("--shard auto: {source}: {why}")).hint(hint)
        };
        let Some(min) = min else { return Err(refuse("SLURM_ARRAY_TASK_MIN is not set")) };
        let step = step.unwrap_or(1);
        let place = id.checked_sub(min).filter(|_| step > 0).filter(|behind| behind % step == 0);
        let Some(index) = place.map(|behind| behind / step + 1) else {
            return Err(refuse("the tasks are not numbered in equal steps"));
        };
        let last = |tasks: u64| (tasks - 1).checked_mul(step).and_then(|behind| behind.checked_add(min));
        let even =
            tasks.is_none_or(|tasks| tasks > 0 && index <= tasks && max.is_none_or(|max| last(tasks) == Some(max)));
        if !even {
            return Err(refuse("the tasks are not numbered in equal steps"));
        }
        // A task of a larger array that is started again on its own would answer, and pay for, all rows.
        if tasks == Some(1) && id > 1 {
            return Err(refuse("the array has this one task, which may be one of a larger array"));
        }
        Ok(Some(NamedTask { index, count: tasks, source }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(given: Option<u64>, variables: &str) -> std::result::Result<(u64, u64), String> {
        let pairs: Vec<(&str, &str)> = variables.split_whitespace().filter_map(|pair| pair.split_once('=')).collect();
        let env = |name: &str| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        let found = TaskPlace::find(given, &env);
        found.map(|place| (place.index, place.count)).map_err(|error| {
            assert_eq!(error.exit, crate::error::Exit::Usage);
            error.message
        })
    }

    fn slurm(id: u64, min: u64, count: u64, step: u64) -> String {
        format!(
            "SLURM_ARRAY_TASK_ID={id} SLURM_ARRAY_TASK_MIN={min} SLURM_ARRAY_TASK_MAX={} SLURM_ARRAY_TASK_COUNT={count} \
             SLURM_ARRAY_TASK_STEP={step}",
            min + (count - 1) * step
        )
    }

    #[test]
    fn schedulers_number_their_tasks_in_several_ways() {
        for (given, variables, found) in [
            (None, slurm(1, 1, 8, 1), (1, 8)),
            (None, slurm(8, 1, 8, 1), (8, 8)),
            (None, slurm(0, 0, 8, 1), (1, 8)),
            (None, slurm(7, 0, 8, 1), (8, 8)),
            (None, slurm(14, 0, 8, 2), (8, 8)),
            (None, slurm(13, 10, 4, 3), (2, 4)),
            (Some(8), slurm(3, 1, 8, 1), (3, 8)),
            (None, slurm(1, 1, 1, 1), (1, 1)),
            (None, "SLURM_ARRAY_TASK_ID=5 SLURM_ARRAY_TASK_MIN=5 SLURM_ARRAY_TASK_COUNT=3".into(), (1, 3)),
            (Some(4), "SLURM_ARRAY_TASK_ID=2 SLURM_ARRAY_TASK_MIN=0".into(), (3, 4)),
            (None, "AWS_BATCH_JOB_ARRAY_INDEX=0 AWS_BATCH_JOB_ARRAY_SIZE=3".into(), (1, 3)),
            (None, "CLOUD_RUN_TASK_INDEX=2 CLOUD_RUN_TASK_COUNT=3".into(), (3, 3)),
            (None, "BATCH_TASK_INDEX=1 BATCH_TASK_COUNT=3".into(), (2, 3)),
            (Some(5), "JOB_COMPLETION_INDEX=4".into(), (5, 5)),
            (Some(5), "AWS_BATCH_JOB_ARRAY_INDEX=4".into(), (5, 5)),
            (None, "BATCH_TASK_INDEX=1 BATCH_TASK_COUNT=3 JOB_COMPLETION_INDEX=1".into(), (2, 3)),
            (None, "CLOUD_RUN_TASK_INDEX= BATCH_TASK_INDEX=0 BATCH_TASK_COUNT=1".into(), (1, 1)),
        ] {
            assert_eq!(place(given, &variables), Ok(found), "{given:?} {variables}");
        }
    }

    #[test]
    fn variables_that_name_no_single_part_are_refused() {
        for (given, variables, words) in [
            (None, String::new(), "is set"),
            (Some(8), String::new(), "is set"),
            (None, "JOB_COMPLETION_INDEX=4".into(), "how many tasks"),
            (None, "AWS_BATCH_JOB_ARRAY_INDEX=4".into(), "how many tasks"),
            (Some(4), "JOB_COMPLETION_INDEX=4".into(), "disagree"),
            (Some(4), slurm(1, 1, 8, 1), "disagree"),
            (None, slurm(1, 1, 8, 1) + " AWS_BATCH_JOB_ARRAY_INDEX=1 AWS_BATCH_JOB_ARRAY_SIZE=8", "disagree"),
            (None, slurm(1, 1, 8, 1) + " AWS_BATCH_JOB_ARRAY_INDEX=0 AWS_BATCH_JOB_ARRAY_SIZE=9", "disagree"),
            (None, slurm(1, 1, 8, 1) + " JOB_COMPLETION_INDEX=1", "disagree"),
            (None, slurm(3, 3, 1, 1), "one task"),
            (None, slurm(2, 0, 8, 4), "disagree"),
            (None, "SLURM_ARRAY_TASK_ID=2".into(), "MIN is not set"),
            (None, "SLURM_ARRAY_TASK_ID=1 SLURM_ARRAY_TASK_MIN=2 SLURM_ARRAY_TASK_COUNT=3".into(), "equal steps"),
            // --array=1,2,7
            (
                None,
                "SLURM_ARRAY_TASK_ID=1 SLURM_ARRAY_TASK_MIN=1 SLURM_ARRAY_TASK_MAX=7 SLURM_ARRAY_TASK_COUNT=3".into(),
                "equal steps",
            ),
            (None, "BATCH_TASK_INDEX=x BATCH_TASK_COUNT=3".into(), "not a number"),
            (None, "BATCH_TASK_INDEX=3 BATCH_TASK_COUNT=3".into(), "disagree"),
        ] {
            let refused = place(given, &variables).unwrap_err();
            assert!(refused.contains(words) || words == "disagree" && refused.contains("equal steps"), "{refused}");
        }
    }
}
