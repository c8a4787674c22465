//! The context of a command: settings and user interface, built once and passed down.

use crate::error::Exit;
use crate::settings::{Origin, Settings};
use crate::telling::{Telling, shown_receiver};
use crate::ui::Ui;

/// The context of a command.
#[derive(Debug)]
pub struct Ctx {
    /// Settings resolved from flags, environment and config file.
    pub settings: Settings,
    /// The user interface.
    pub ui: Ui,
    /// `--json`: print one document on stdout instead of text.
    pub json: bool,
    /// The way to tell others how the command goes and ends.
    pub telling: Telling,
    /// Ends the process at once, after a second signal.
    pub leave: fn(Exit) -> !,
    /// The command line as the user typed it, to repeat in hints.
    pub argv: Vec<String>,
}

impl Ctx {
    /// Learns that the command works on a job.
    pub fn concern(&self, job: &str) {
        self.telling.concern(job);
        self.ui.concern(job);
    }

    /// The command line in shell syntax, without the flags in `without` and with `more` at its end.
    pub fn again(&self, without: &[&str], more: &[String]) -> String {
        command_line(&self.argv, without, more)
    }

    /// The same, with `USD` as the value of the flag `limit`, because the user decides how much more it may be.
    pub fn again_with_limit(&self, limit: &str, without: &[&str], more: &[String]) -> String {
        let mut is_value = false;
        let other = |word: &&String| {
            let dropped = std::mem::replace(&mut is_value, *word == limit);
            !dropped && *word != limit && !word.starts_with(&format!("{limit}="))
        };
        let words: Vec<String> = self.argv.iter().filter(other).cloned().collect();
        format!("{} {limit} USD", command_line(&words, without, more))
    }

    /// The flags that the user must type again in another command so that it finds a job of `service`, which has the name
    /// `named` in the config file.
    pub fn flags(&self, service: &str, named: Option<&str>) -> String {
        let settings = &self.settings;
        let bare = |url: &str| url.trim_end_matches('/').trim_end_matches("/v1").to_owned();
        let typed = |origin: &Origin| matches!(origin, Origin::Flag(_));
        let mut flags = String::new();
        // Commands on a job of the sandbox, or of a service in the config file, use it by themselves.
        let by_itself = service == "sandbox" || named.is_some();
        if !by_itself && (typed(&settings.base_url.origin) || bare(&settings.base_url.value) != bare(service)) {
            flags.extend([" --base-url ", &quote(service)]);
        }
        let paths = [(" --state-dir ", settings.state.as_ref()), (" --config ", Some(&settings.config_path))];
        for (name, path) in paths.into_iter().filter_map(|(name, path)| Some((name, path?))) {
            if typed(&path.origin) {
                flags.extend([name, &quote(&path.value.to_string_lossy())]);
            }
        }
        flags
    }
}

/// A command line in shell syntax, without the flags in `without` and with `more` at its end.
fn command_line(argv: &[String], without: &[&str], more: &[String]) -> String {
    let kept = argv.iter().filter(|a| !without.iter().any(|w| *a == w || a.starts_with(&format!("{w}="))));
    let mut receiver = false;
    let shown = kept.map(|word| match word.strip_prefix("--notify=") {
        Some(url) => format!("--notify={}", shown_receiver(url)),
        None if std::mem::replace(&mut receiver, word == "--notify") => shown_receiver(word),
        None => word.clone(),
    });
    let words: Vec<String> = shown.chain(more.iter().cloned()).map(|word| quote(&word)).collect();
    format!("llbatch {}", words.join(" "))
}

/// Quotes a word for a shell where that is needed.
pub fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./=:@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn quoted_words_survive_a_shell() {
        for (word, quoted) in
            [("a.jsonl", "a.jsonl"), ("", "''"), ("it's", r"'it'\''s'"), ("{{ text }}", "'{{ text }}'"), ("$x", "'$x'")]
        {
            assert_eq!(super::quote(word), quoted);
        }
    }
}
