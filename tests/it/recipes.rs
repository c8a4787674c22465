//! The recipes of `samples/` for engines that start many tasks, with the engine played by this test.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::Command;

use crate::support::{Home, Server, answered, prompts};

/// Plays Slurm: `sbatch` runs the tasks of an array at once, sends TERM to the second, and starts again what `scontrol
/// requeue` names. A job that depends on the array comes after it.
const SBATCH: &str = r#"#!/bin/sh
tasks=
while case $1 in --*) true ;; *) false ;; esac; do
    case $1 in --array=1-*) tasks=${1#--array=1-} ;; esac
    shift
done
export SLURM_JOB_ID=100
[ -n "$tasks" ] || exec "$@"
echo 100
export SLURM_ARRAY_TASK_MIN=1 SLURM_ARRAY_TASK_MAX=$tasks SLURM_ARRAY_TASK_COUNT=$tasks SLURM_ARRAY_TASK_STEP=1
task=0
while [ $task -lt "$tasks" ]; do
    task=$((task + 1))
    SLURM_JOB_ID=$((100 + task)) SLURM_ARRAY_TASK_ID=$task "$@" >"log-$task" 2>&1 &
    [ $task != 2 ] || second=$!
done
while [ ! -e "$STATE/2/ledger.db" ]; do sleep 0.01; done
kill -TERM $second
wait
SLURM_RESTART_COUNT=1 SLURM_JOB_ID=$(cat requeued) SLURM_ARRAY_TASK_ID=2 "$@" >log-again 2>&1
"#;

const SCONTROL: &str = "#!/bin/sh\n[ \"$1\" = requeue ] && echo \"$2\" >>requeued\n";

fn sample(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("samples").join(name)
}

/// A command with the settings of a test, that finds `llbatch`, `sbatch` and `scontrol`.
fn command(home: &Home, server: &Server, words: &[&str]) -> Command {
    let llbatch = home.command(&[]);
    let bin = home.path("bin");
    if !bin.exists() {
        std::fs::create_dir(&bin).unwrap();
        symlink(llbatch.get_program(), bin.join("llbatch")).unwrap();
        for (name, text) in [("sbatch", SBATCH), ("scontrol", SCONTROL)] {
            std::fs::write(bin.join(name), text).unwrap();
            std::fs::set_permissions(bin.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
    let path = std::env::var("PATH").unwrap();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).current_dir(home.path("")).env_clear();
    for (name, value) in llbatch.get_envs() {
        command.env(name, value.unwrap());
    }
    command.env("PATH", format!("{}:{path}", bin.display())).env("TOGETHER_BASE_URL", &server.url);
    command
}

#[test]
fn slurm_array_survives_the_loss_of_a_task_and_is_merged() {
    let (home, server) = (Home::new(), Server::start(&["--latency", "50ms"]));
    home.write("in.jsonl", prompts(1..=24));
    let script = sample("slurm.sh");
    let mut submission = command(&home, &server, &[script.to_str().unwrap(), "in.jsonl", "out"]);
    submission.env("STATE", home.path("node"));
    let out = home.finish(submission).code(0);
    out.says(&["24 of 24 answered", "out/results.jsonl"]);
    answered(&home.read("out/results.jsonl"), 1..=24);
    assert_eq!(home.read("requeued"), "102\n", "{}", home.read("log-2"));
    assert_eq!(home.json("out/summary.json")["parts"].as_array().unwrap().len(), 8);
    assert!(server.paid_again() <= 3, "at most what the second task had in flight");
}

#[test]
fn kubernetes_pods_answer_their_parts() {
    let (home, server) = (Home::new(), Server::start(&[]));
    std::fs::create_dir(home.path("data")).unwrap();
    home.write("data/prompts.jsonl", prompts(1..=20));
    let manifest = std::fs::read_to_string(sample("kubernetes.yaml")).unwrap();
    let list = manifest.split_once("command: [").unwrap().1.split_once(']').unwrap().0;
    let data = home.path("data");
    for index in 0..8 {
        let word = |word: &str| {
            let word = word.trim().replace("$(JOB_COMPLETION_INDEX)", &index.to_string());
            word.replace("/data/", &format!("{}/", data.display()))
        };
        let words: Vec<String> = list.split(',').map(word).collect();
        let mut pod = command(&home, &server, &words.iter().map(String::as_str).collect::<Vec<_>>());
        pod.env("JOB_COMPLETION_INDEX", index.to_string());
        home.finish(pod).code(0);
    }
    let parts: Vec<String> = (0..8).map(|index| format!("data/part-{index}.jsonl")).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    home.llbatch(&[&["merge", "data/prompts.jsonl"], &parts[..], &["-o", "out.jsonl"]].concat()).code(0);
    answered(&home.read("out.jsonl"), 1..=20);
}
