//! Job ids and names in shell completions: each script asks a hidden flag of `completions`.

use clap_complete::Shell;

use crate::context::Ctx;
use crate::error::{Exit, Result};
use crate::store::Store;

/// Jobs that a completion offers.
const RECENT: u32 = 50;

/// Commands whose arguments are jobs.
const COMMANDS: [&str; 7] = ["status", "wait", "fetch", "retry", "cancel", "report", "clean"];

/// Adds the completion of jobs to a script of clap. Other shells than bash, zsh and fish keep clap's own.
pub(super) fn with_jobs(script: &str, shell: Shell) -> String {
    match shell {
        Shell::Bash => {
            let script = script.replace("complete -F _llbatch ", "complete -F _llbatch_with_jobs ");
            bash() + &script
        }
        Shell::Zsh => zsh(script),
        Shell::Fish => COMMANDS.iter().fold(script.to_owned(), |script, command| {
            let jobs = "(llbatch completions --jobs 2>/dev/null)";
            format!("{script}complete -c llbatch -n \"__fish_llbatch_using_subcommand {command}\" -a \"{jobs}\"\n")
        }),
        _ => script.to_owned(),
    }
}

fn bash() -> String {
    format!(
        r#"_llbatch_with_jobs() {{
    _llbatch "$@"
    local cur="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}"
    case " {} " in
        *" ${{COMP_WORDS[1]}} "*)
            if [[ "${{cur}}" != -* && "${{before}}" != -* ]]; then
                COMPREPLY+=( $(compgen -W "$("${{COMP_WORDS[0]}}" completions --jobs 2>/dev/null)" -- "${{cur}}") )
            fi
            ;;
    esac
}}

"#,
        COMMANDS.join(" ")
    )
}

/// Replaces the files that clap's script offers for a job.
fn zsh(script: &str) -> String {
    let mut out = String::with_capacity(script.len() + 512);
    for line in script.lines() {
        if line.starts_with("if [ \"$funcstack[1]\"") {
            out.push_str(
                "_llbatch_jobs() {\n    local -a jobs\n    jobs=(${(f)\"$(_call_program jobs llbatch completions \
                 --jobs 2>/dev/null)\"})\n    compadd -a jobs\n    _default\n}\n\n",
            );
        }
        if line.contains("batch id of the service") {
            out.push_str(&line.replace(":_default'", ":_llbatch_jobs'"));
        } else {
            out.push_str(line);
        }
        out.push('\n');
    }
    out
}

/// Prints the ids and names of recent jobs, a line each. A completion that fails says nothing.
pub fn jobs(ctx: &Ctx) -> Result<Exit> {
    let Some(place) = ctx.settings.state_place().ok().filter(|place| place.dir.join("ledger.db").exists()) else {
        return Ok(Exit::Ok);
    };
    let recent = Store::open(place).and_then(|store| store.ledger()?.recent(RECENT)).unwrap_or_default();
    let names = recent.iter().filter_map(|job| job.name.as_deref()).filter(|name| !name.contains(char::is_whitespace));
    let ids = recent.iter().map(|job| job.id.as_str());
    let last = (!recent.is_empty()).then_some("last");
    let words: Vec<&str> = last.into_iter().chain(ids).chain(names).collect();
    if !words.is_empty() {
        super::print_text(&(words.join("\n") + "\n"), ctx)?;
    }
    Ok(Exit::Ok)
}
